//! What `/state` shows of the controller role. Keys are for people and `jq`, not a contract.

use serde_json::{Map, Value, json};

use super::known::{Content, Network, State};

/// The state.
pub fn shown(state: &State) -> Value {
    let all: Map<_, _> =
        state.networks.all.iter().map(|(name, seen)| (name.clone(), network(seen))).collect();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "stopping": state.stopping,
        "leading": state.leading,
        "leader": state.leader,
        "startupTaints": state.startup_taints,
        "statusSubresource": state.status_subresource,
        "problems": state.problems,
        "networks": {"complete": state.networks.complete, "count": all.len(), "all": all},
        "reports": {"complete": state.reports.complete, "nodes": state.reports.tallies.nodes()},
    })
}

fn network(network: &Network) -> Value {
    let problem = match &network.content {
        Content::Rendered(_) => None,
        Content::Unnamable(reason) | Content::Undecodable(reason) => Some(reason),
    };
    json!({"generation": network.generation, "problem": problem, "status": network.shown})
}
