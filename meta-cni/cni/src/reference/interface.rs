//! Which configurations make no interface for a pod, so that none of them is a primary network.
//!
//! Known of the reference plugins; others are trusted. Where no agent of a network has written its
//! file yet, one of these may be all that a node has: distributions ship one for `lo`.

use std::fmt;

use super::{Role, ipam_plugin, plugin};
use crate::config::{NetworkList, PluginConfig};
use crate::ids::PluginType;

/// The plugin that sets up `lo`, whatever CNI_IFNAME says.
const LOOPBACK: &str = "loopback";

/// Why a list makes no interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoInterface {
    plugin: PluginType,
    why: &'static str,
}

impl fmt::Display for NoInterface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "plugin {:?} {}", self.plugin.as_str(), self.why)
    }
}

/// Why running the list makes no interface named CNI_IFNAME; `None` if it makes one, as far as is known.
pub fn makes_no_interface(list: &NetworkList) -> Option<NoInterface> {
    let first = list.plugins.first()?.plugin();
    let why = match role(first) {
        Some(Role::Chained) => "needs the interface of a plugin before it, and is the first",
        Some(Role::Ipam) => "gives addresses and makes no interface",
        // After the loopback plugin another one may still make the interface.
        Some(Role::Interface) if first.as_str() == LOOPBACK && !list.plugins.iter().any(makes_interface) => {
            "sets up \"lo\" and makes no eth0"
        }
        _ => return None,
    };
    Some(NoInterface { plugin: first.clone(), why })
}

fn role(kind: &PluginType) -> Option<Role> {
    plugin(kind.as_str()).or_else(|| ipam_plugin(kind.as_str())).map(|known| known.role)
}

fn makes_interface(plugin: &PluginConfig) -> bool {
    let kind = plugin.plugin();
    kind.as_str() != LOOPBACK && role(kind).is_none_or(|role| role == Role::Interface)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_a_list_that_makes_an_interface_can_be_a_primary() {
        for (plugins, expected) in [
            (&["bridge"][..], None),
            (&["bridge", "portmap"], None),
            (&["cilium-cni"], None),
            (&["loopback", "bridge"], None),
            (&["loopback"], Some("plugin \"loopback\" sets up \"lo\" and makes no eth0")),
            (&["loopback", "tuning"], Some("plugin \"loopback\" sets up \"lo\" and makes no eth0")),
            (
                &["portmap", "bridge"],
                Some("plugin \"portmap\" needs the interface of a plugin before it, and is the first"),
            ),
            (
                &["tuning"],
                Some("plugin \"tuning\" needs the interface of a plugin before it, and is the first"),
            ),
            (&["host-local"], Some("plugin \"host-local\" gives addresses and makes no interface")),
        ] {
            let plugins: Vec<_> = plugins.iter().map(|kind| json!({"type": kind})).collect();
            let list = NetworkList::from_json(json!({"name": "n", "plugins": plugins}), None).unwrap();
            let found = makes_no_interface(&list).map(|why| why.to_string());
            assert_eq!(found.as_deref(), expected, "{plugins:?}");
        }
    }
}
