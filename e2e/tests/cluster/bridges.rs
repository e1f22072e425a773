//! Networks of a bridge on each node, as their authors write them: no name, addresses from host-local.

use e2e::suite::stage::Stage;
use serde_json::{Value, json};

/// A list of plugins.
pub(crate) fn list(plugins: &[Value]) -> Value {
    json!({ "cniVersion": "0.4.0", "plugins": plugins })
}

/// A bridge of the scenario's own on each node, of which the node is no part.
pub(crate) fn plain(stage: &Stage<'_>, prefix: &str, subnet: &str) -> Value {
    json!({
        "cniVersion": "0.4.0",
        "type": "bridge",
        "bridge": stage.interface(prefix),
        "ipam": { "type": "host-local", "subnet": subnet },
    })
}

/// A bridge of the scenario's own with a range of addresses for each subnet. The node has the first of each.
pub(crate) fn bridge(stage: &Stage<'_>, prefix: &str, subnets: &[&str]) -> Value {
    let ranges: Vec<Value> = subnets.iter().map(|subnet| json!([{ "subnet": subnet }])).collect();
    json!({
        "type": "bridge",
        "bridge": stage.interface(prefix),
        "isGateway": true,
        "ipam": { "type": "host-local", "ranges": ranges },
    })
}

/// The same where pods may ask for addresses.
pub(crate) fn asked(stage: &Stage<'_>, prefix: &str, subnets: &[&str]) -> Value {
    let mut bridge = bridge(stage, prefix, subnets);
    bridge["capabilities"] = json!({ "ips": true, "mac": true });
    bridge
}
