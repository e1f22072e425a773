//! One plugin of a configuration: what the plugins of the reference set refuse before they touch anything. A value of the
//! wrong kind has been told of by `keys`, and is passed over here.

use cni::keys::get;
use cni::reference::{self, Ipam, Master, Role};
use cni::{NetworkList, PluginConfig};
use serde_json::{Map, Value};

use super::reading::{flag, number, text};
use super::{Judgement, Scribe, fixed, host_local, keys, mac};
use crate::node::render;

/// The highest VLAN.
const LAST_VLAN: i64 = 4094;
/// The largest MTU of ordinary interfaces.
const LARGEST_MTU: i64 = 65535;

/// Looks at the plugin at `index`.
pub(super) fn examine(list: &NetworkList, index: usize, judgement: &mut Judgement) {
    let Some(plugin) = list.plugins.get(index) else { return };
    let mut to = Scribe { judgement, place: render::place(list, index), sure: true };
    if index == 0 {
        is_first(plugin, &mut to);
    }
    let ipam_decodes = keys::examine(plugin, &mut to);
    keys::names(plugin, &mut to);
    needs(plugin, index, &mut to);
    match plugin.plugin().as_str() {
        "bridge" => bridge(plugin, &mut to),
        "macvlan" => {
            mode(plugin, &["bridge", "private", "vepa", "passthru"], &mut to);
            mtu(plugin, true, &mut to);
        }
        "ipvlan" => {
            mode(plugin, &["l2", "l3", "l3s"], &mut to);
            mtu(plugin, false, &mut to);
        }
        "vlan" => {
            vlan_number(plugin, "vlanId", &mut to);
            mtu(plugin, true, &mut to);
        }
        "ptp" => mtu(plugin, false, &mut to),
        _ => {}
    }
    mac::examine(plugin, &mut to);
    if ipam_decodes {
        ipam(list, plugin, &mut to);
    }
}

/// A plugin that only changes what others made has nothing to change where it is the first.
fn is_first(plugin: &PluginConfig, to: &mut Scribe<'_>) {
    let is_chained = reference::called(plugin).is_some_and(|known| known.role == Role::Chained);
    if is_chained && get(plugin.object(), "prevResult").is_none() {
        to.error(format_args!(
            "{} changes what a plugin before it made, and it is the first; put a plugin that makes an interface before \
             it in \"plugins\"",
            plugin.plugin().as_str()
        ));
    }
}

fn bridge(plugin: &PluginConfig, to: &mut Scribe<'_>) {
    mtu(plugin, false, to);
    vlan_number(plugin, "vlan", to);
    if ["hairpinMode", "promiscMode"].iter().all(|key| flag(plugin.object(), key) == Ok(true)) {
        to.error("\"hairpinMode\" and \"promiscMode\" exclude each other; leave one of them out");
    }
}

fn vlan_number(plugin: &PluginConfig, key: &str, to: &mut Scribe<'_>) {
    if let Ok(Some(number)) = number(plugin.object(), key)
        && !(0..=LAST_VLAN).contains(&number)
    {
        to.error(format_args!("{key:?} is {number}, not between 0 and {LAST_VLAN}"));
    }
}

fn mode(plugin: &PluginConfig, modes: &[&str], to: &mut Scribe<'_>) {
    let Ok(mode) = text(plugin.object(), "mode") else { return };
    if !mode.is_empty() && !modes.contains(&mode) {
        to.error(format_args!("\"mode\" is {mode:?}, not one of {}", modes.join(", ")));
    }
}

/// `checked`: the plugin itself refuses a negative MTU; others take it for none.
fn mtu(plugin: &PluginConfig, checked: bool, to: &mut Scribe<'_>) {
    let Ok(Some(mtu)) = number(plugin.object(), "mtu") else { return };
    if mtu < 0 && checked {
        to.error(format_args!("\"mtu\" is {mtu}; leave it out for that of the host's interface"));
    } else if mtu < 0 {
        to.warning(format_args!("\"mtu\" is {mtu} and has no effect; leave it out"));
    } else if mtu > LARGEST_MTU {
        to.warning(format_args!("\"mtu\" is {mtu}, and hardly any interface takes more than {LARGEST_MTU}"));
    }
}

/// What a plugin does nothing without.
fn needs(plugin: &PluginConfig, index: usize, to: &mut Scribe<'_>) {
    let Some(known) = reference::called(plugin) else { return };
    if known.master == Master::Needed && text(plugin.object(), "master") == Ok("") {
        to.error("\"master\" is missing; name the host's interface that the network is built on");
    }
    let needs_ipam = known.ipam == Ipam::Needed || (known.ipam == Ipam::NeededIfFirst && index == 0);
    if needs_ipam && ipam_of(plugin).is_none() {
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
    to.sure = reference::runs_ipam(plugin.plugin().as_str());
    match kind {
        host_local::HOST_LOCAL => host_local::examine(ipam, plugin, list.version, to),
        "static" => fixed::examine(ipam, plugin, list.version, to),
        "whereabouts" => fixed::whereabouts(ipam, to),
        _ => {}
    }
}
