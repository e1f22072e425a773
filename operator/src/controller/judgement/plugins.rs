//! One plugin of a configuration: what the plugins of the reference set refuse before they touch anything.

use cni::config::WITH_IPAM;
use cni::{NetworkList, PluginConfig};
use serde_json::{Map, Value};

use super::reading::{flag, get, number, text};
use super::{Judgement, Scribe, fixed, host_local, mac};
use crate::node::render;

/// The highest VLAN.
const LAST_VLAN: i64 = 4094;
/// The largest MTU of ordinary interfaces.
const LARGEST_MTU: i64 = 65535;

/// Looks at the plugin at `index`.
pub(super) fn examine(list: &NetworkList, index: usize, judgement: &mut Judgement) {
    let Some(plugin) = list.plugins.get(index) else { return };
    let mut to = Scribe { judgement, place: render::place(list, index), sure: true };
    match plugin.plugin().as_str() {
        "bridge" => bridge(plugin, &mut to),
        "macvlan" => {
            mode(plugin, &["bridge", "private", "vepa", "passthru"], &mut to);
            mtu(plugin, true, &mut to);
        }
        "ipvlan" => {
            mode(plugin, &["l2", "l3", "l3s"], &mut to);
            mtu(plugin, false, &mut to);
            if index == 0 {
                needs_ipam(plugin, &mut to);
            }
        }
        "vlan" => vlan(plugin, &mut to),
        "ptp" => {
            mtu(plugin, false, &mut to);
            needs_ipam(plugin, &mut to);
        }
        _ => {}
    }
    mac::examine(plugin, &mut to);
    ipam(list, plugin, &mut to);
}

fn bridge(plugin: &PluginConfig, to: &mut Scribe<'_>) {
    mtu(plugin, false, to);
    to.take(text(plugin.object(), "bridge"));
    vlan_number(plugin, "vlan", to);
    let flags = ["hairpinMode", "promiscMode"].map(|key| to.take(flag(plugin.object(), key)));
    if flags == [Some(true), Some(true)] {
        to.error("\"hairpinMode\" and \"promiscMode\" exclude each other; leave one of them out");
    }
    for key in ["isGateway", "isDefaultGateway", "forceAddress", "ipMasq"] {
        to.take(flag(plugin.object(), key));
    }
}

fn vlan(plugin: &PluginConfig, to: &mut Scribe<'_>) {
    if to.take(text(plugin.object(), "master")) == Some("") {
        to.error("\"master\" is missing; name the host's interface that the VLAN is on");
    }
    vlan_number(plugin, "vlanId", to);
    mtu(plugin, true, to);
    needs_ipam(plugin, to);
}

fn vlan_number(plugin: &PluginConfig, key: &str, to: &mut Scribe<'_>) {
    if let Some(Some(number)) = to.take(number(plugin.object(), key))
        && !(0..=LAST_VLAN).contains(&number)
    {
        to.error(format_args!("{key:?} is {number}, not between 0 and {LAST_VLAN}"));
    }
}

fn mode(plugin: &PluginConfig, modes: &[&str], to: &mut Scribe<'_>) {
    to.take(text(plugin.object(), "master"));
    let Some(mode) = to.take(text(plugin.object(), "mode")) else { return };
    if !mode.is_empty() && !modes.contains(&mode) {
        to.error(format_args!("\"mode\" is {mode:?}, not one of {}", modes.join(", ")));
    }
}

/// `checked`: the plugin itself refuses a negative MTU; others take it for none.
fn mtu(plugin: &PluginConfig, checked: bool, to: &mut Scribe<'_>) {
    let Some(Some(mtu)) = to.take(number(plugin.object(), "mtu")) else { return };
    if mtu < 0 && checked {
        to.error(format_args!("\"mtu\" is {mtu}; leave it out for that of the host's interface"));
    } else if mtu < 0 {
        to.warning(format_args!("\"mtu\" is {mtu} and has no effect; leave it out"));
    } else if mtu > LARGEST_MTU {
        to.warning(format_args!("\"mtu\" is {mtu}, and hardly any interface takes more than {LARGEST_MTU}"));
    }
}

/// A plugin that does nothing without an IPAM plugin.
fn needs_ipam(plugin: &PluginConfig, to: &mut Scribe<'_>) {
    if ipam_of(plugin).is_none() {
        to.error(format_args!(
            "{} needs an IPAM plugin, and there is none; write for example \"ipam\": {{\"type\": \"host-local\", …}}",
            plugin.plugin().as_str()
        ));
    }
}

/// The `ipam` object of a plugin and its type; keys in any case, as the plugins read them.
pub(super) fn ipam_of(plugin: &PluginConfig) -> Option<(&Map<String, Value>, &str)> {
    let ipam = get(plugin.object(), "ipam")?.as_object()?;
    text(ipam, "type").ok().filter(|text| !text.is_empty()).map(|kind| (ipam, kind))
}

fn ipam(list: &NetworkList, plugin: &PluginConfig, to: &mut Scribe<'_>) {
    let Some((ipam, kind)) = ipam_of(plugin) else { return };
    to.sure = WITH_IPAM.contains(&plugin.plugin().as_str());
    match kind {
        host_local::HOST_LOCAL => host_local::examine(ipam, plugin, list.version, to),
        "static" => fixed::examine(ipam, plugin, list.version, to),
        "whereabouts" => fixed::whereabouts(ipam, to),
        _ => {}
    }
}
