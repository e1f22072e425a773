//! Judgement: what is wrong with networks that only a run, or another network, would show. Pure.
//!
//! [`render`](crate::node::render) refuses what no node could run; its verdicts are errors here too. Added are:
//!
//! - **what the plugins themselves would say** of addresses, routes, modes and VLANs. An error is only what
//!   every version of the plugin refuses for every pod, as its source says (containernetworking/plugins 1.1.1
//!   to 1.9.1); what is merely odd is a warning, and so is a key that no version has.
//! - **what networks do to each other**: data directories within one another, addresses that are given twice.
//!
//! Nothing here stops meta-cni: it runs what renders. The words go into conditions, admission responses and
//! the output of `braid check`.
//!
//! | to | see |
//! |---|---|
//! | read values as the plugins do | `reading` |
//! | judge one plugin | `plugins`, its keys `keys`, its `mac`, and its IPAM `host_local`, `fixed`, `routes` |
//! | find default routes beside the primary network's | `default_route` |
//! | judge a network among others | `neighbours` |
//! | judge the annotations of a pod | [`pods`], and their keys [`annotations`] |

pub mod annotations;
mod default_route;
mod fixed;
mod host_local;
mod keys;
mod mac;
mod neighbours;
mod plugins;
pub mod pods;
mod reading;
mod routes;

use std::collections::BTreeMap;

use cni::NetworkList;
use cni::npwg::{NetworkRef, RESOURCE_NAME};
use serde_json::Value;
use store::network::{Outcome, RenderedNetwork};

use crate::node::render::LONGEST_CONFIG;

pub use neighbours::Neighbours;

/// What is to be said of a network, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Judgement {
    /// What keeps it from working, or endangers another network. Each says what to do.
    pub errors: Vec<String>,
    /// What is allowed and seldom meant.
    pub warnings: Vec<String>,
}

/// Judges each of all networks.
pub fn judge(networks: &BTreeMap<NetworkRef, RenderedNetwork>) -> BTreeMap<NetworkRef, Judgement> {
    let mut all = Neighbours::default();
    for network in networks.values() {
        all.insert(network);
    }
    networks.iter().map(|(name, network)| (name.clone(), judge_one(network, &all))).collect()
}

/// Judges one network among others; an older form of itself among them does not count.
pub fn judge_one(network: &RenderedNetwork, others: &Neighbours) -> Judgement {
    let mut judgement = Judgement::default();
    match &network.outcome {
        Outcome::Refused { reason } => judgement.errors.push(reason.clone()),
        Outcome::OnNode { .. } => {}
        Outcome::Ready { list } => {
            examine(list, &mut judgement);
            judgement.warnings.extend(default_route::warning(list));
            others.compare(&network.network, list, &mut judgement);
        }
    }
    judgement.warnings.extend(device(network));
    judgement
}

/// A network with a device renders, and meta-cni refuses to attach it.
fn device(network: &RenderedNetwork) -> Option<String> {
    let resource = network.resource_name.as_ref()?;
    Some(format!(
        "annotation {RESOURCE_NAME} names {resource:?}: this version of Braid gives pods no devices, and refuses pods \
         that ask for the network; if it works without, take the annotation away"
    ))
}

/// What can be said of a configuration alone, of a network or of a file on the node.
pub fn examine(list: &NetworkList, judgement: &mut Judgement) {
    for index in 0..list.plugins.len() {
        plugins::examine(list, index, judgement);
    }
}

/// What is allowed in the text of a configuration, and seldom meant.
pub fn hints(config: &str) -> Vec<&'static str> {
    if config.len() > LONGEST_CONFIG {
        return Vec::new();
    }
    let Ok(Value::Object(object)) = serde_json::from_str(config) else { return Vec::new() };
    let has = |key: &str| object.get(key).is_some_and(|value| !value.is_null() && value.as_str() != Some(""));
    let hints = [
        (
            !has("cniVersion") && !has("cniVersions"),
            "no \"cniVersion\" means 0.1.0: one address for each family, no CHECK; \"1.0.0\" is usual",
        ),
        (
            has("type") && has("plugins"),
            "\"type\" beside \"plugins\" means a single plugin; \"plugins\" is not read",
        ),
    ];
    hints.into_iter().filter(|(holds, _)| *holds).map(|(_, hint)| hint).collect()
}

/// Writes findings about one place down.
struct Scribe<'a> {
    judgement: &'a mut Judgement,
    /// Which plugin, or which part of it.
    place: String,
    /// Whether what is read here is known to be read by the plugin in this way; else errors are warnings.
    sure: bool,
}

impl Scribe<'_> {
    fn error(&mut self, text: impl std::fmt::Display) {
        let line = format!("{}: {text}", self.place);
        if self.sure { &mut self.judgement.errors } else { &mut self.judgement.warnings }.push(line);
    }

    fn warning(&mut self, text: impl std::fmt::Display) {
        self.judgement.warnings.push(format!("{}: {text}", self.place));
    }

    /// The value, or `None` after its error has been written down.
    fn take<T>(&mut self, value: Result<T, String>) -> Option<T> {
        value.map_err(|problem| self.error(problem)).ok()
    }
}

#[cfg(test)]
mod tests;
