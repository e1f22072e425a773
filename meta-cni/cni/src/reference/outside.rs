//! What a known plugin leaves outside of the pod's network namespace, and what its DEL needs. Pure.
//!
//! Read in the sources of 1.1.1 to 1.9.1. DEL without CNI_NETNS:
//!
//! | plugin | does |
//! |---|---|
//! | bridge | frees addresses, and returns before it removes masquerading and spoof-check rules |
//! | ptp | frees addresses, and returns before it removes masquerading rules |
//! | dummy, ipvlan, macvlan, tap, vlan | free addresses, and return; with `linkInContainer`, vlan (from 1.3), macvlan (1.3) and ipvlan without `master` (from 1.3) fail before |
//! | host-device | returns at once: addresses stay reserved |
//! | loopback, vrf | return |
//! | tuning | returns; a file with earlier values stays in its `dataDir` |
//! | sbr | fails, since it locks the namespace's path |
//! | bandwidth, firewall, portmap | act as ever: they look for nothing in the namespace |
//! | dhcp | acts as ever: it asks its daemon, and fails if that is not there |
//! | host-local, static, whereabouts | act as ever |
//!
//! DEL with a path at which nothing is: as without one, but that host-device, vlan with `linkInContainer` and sbr fail,
//! and that sbr first makes a plain file at the path if its directory is there. At a plain file all of them fail but
//! tuning and those that do not look for the namespace; bridge does so before it frees addresses, the others behind it.

use super::{Ipam, Role, called, ipam_plugin, ipam_run_by, is_set};
use crate::config::PluginConfig;

/// Keys of CNI_ARGS that ask for addresses of an attachment. See [`needs_requests_at_del`].
pub const REQUESTS_IN_ARGS: [&str; 3] = ["GATEWAY", "IP", "MAC"];

/// Capabilities that ask for addresses of an attachment. See [`needs_requests_at_del`].
pub const REQUESTS_AS_CAPABILITIES: [&str; 2] = ["ips", "mac"];

/// What a plugin may leave outside of the pod's network namespace, besides addresses of its IPAM plugin. What is there
/// for all pods, such as a bridge, does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outside {
    /// Nothing that is of use to anybody: what it made is gone with the namespace, or went back to the node.
    Nothing,
    /// Rules of the packet filter, or an interface of the node that shapes traffic.
    Rules,
}

/// What a plugin may leave outside of the namespace; `None` for one that is not known. An IPAM plugin in the place of
/// another counts as not known: the addresses that it holds are its own.
pub fn leaves_outside(config: &PluginConfig) -> Option<Outside> {
    let plugin = called(config)?;
    let rules = match plugin.name {
        "bandwidth" | "firewall" | "portmap" => true,
        "bridge" => {
            is_set(config, "macspoofchk") || (is_set(config, "ipMasq") && config.ipam_type().is_some())
        }
        "ptp" => is_set(config, "ipMasq"),
        _ => false,
    };
    Some(if rules { Outside::Rules } else { Outside::Nothing })
}

/// Whether DEL without a namespace does not come to free the addresses of the IPAM plugin, in some version: it returns
/// success before, or fails before.
pub fn forgets_addresses_without_namespace(config: &PluginConfig) -> bool {
    ipam_run_by(config).is_some()
        && match config.plugin().as_str() {
            "host-device" => true,
            "ipvlan" | "macvlan" | "vlan" => is_set(config, "linkInContainer"),
            _ => false,
        }
}

/// Whether DEL without a namespace leaves packet filter rules where they are and succeeds.
pub fn forgets_rules_without_namespace(config: &PluginConfig) -> bool {
    let makes_interface = called(config).is_some_and(|plugin| plugin.role == Role::Interface);
    makes_interface && leaves_outside(config) == Some(Outside::Rules)
}

/// Whether DEL needs what a pod asked for ([`REQUESTS_IN_ARGS`], [`REQUESTS_AS_CAPABILITIES`]): true for what is not
/// known. Known plugins parse it at DEL too, and fail if they cannot read it, but find what they gave by container and
/// interface. Other capabilities are needed: portmap removes nothing without `portMappings`, host-device refuses DEL
/// without its `deviceID`, host-local without any range if all of them came as `ipRanges`.
pub fn needs_requests_at_del(config: &PluginConfig) -> bool {
    called(config).is_none_or(|plugin| {
        plugin.ipam != Ipam::Ignored && config.ipam_type().is_some_and(|name| ipam_plugin(name).is_none())
    })
}
