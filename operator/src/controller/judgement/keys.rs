//! Keys of a plugin's configuration: those that the plugin does not have, values of a kind that it cannot decode, and
//! names of interfaces that are too long. By the table of the reference plugins ([`cni::reference`]).

use cni::keys::get;
use cni::reference::shape::{Problem, slips};
use cni::reference::{self, Kind};
use cni::{IfName, PluginConfig};
use serde_json::Value;

use super::Scribe;
use super::host_local::HOST_LOCAL;

/// Writes down what is wrong with the keys of a plugin. The return value says whether all of its `ipam` can be decoded:
/// only then is it of use to look at what the values are.
pub(super) fn examine(plugin: &PluginConfig, to: &mut Scribe<'_>) -> bool {
    let mut ipam_decodes = true;
    for slip in slips(plugin) {
        match slip.problem {
            // It has a message of its own, since whereabouts knows it.
            Problem::Unknown { .. } if slip.plugin == HOST_LOCAL && slip.key == "exclude" => {}
            // Some version, or a pod whose arguments replace it, may do without.
            Problem::Unknown { .. } | Problem::WrongKind { always: false, .. } => to.warning(&slip),
            Problem::WrongKind { .. } => to.error(&slip),
        }
        ipam_decodes &=
            !(matches!(slip.problem, Problem::WrongKind { .. }) && slip.place.starts_with("ipam"));
    }
    ipam_decodes
}

/// Writes down the names of interfaces that the kernel does not take.
pub(super) fn names(plugin: &PluginConfig, to: &mut Scribe<'_>) {
    let Some(known) = reference::called(plugin) else { return };
    for key in known.keys {
        let Some(name) = get(plugin.object(), key.name).and_then(Value::as_str) else { continue };
        if name.is_empty() {
            continue;
        }
        match key.kind {
            Kind::NewInterface | Kind::PodInterface => {
                if let Err(error) = IfName::parse(name) {
                    to.error(format_args!("{:?}: {error}; choose another name", key.name));
                }
            }
            kind => {
                if let Some(longest) = kind.longest().filter(|longest| name.len() > *longest) {
                    to.error(format_args!(
                        "{:?} is {} bytes long, and no interface has a name of more than {longest}; correct it",
                        key.name,
                        name.len()
                    ));
                }
            }
        }
    }
    if known.name == "bridge" {
        gateway_of_vlan(plugin, to);
    }
}

/// A bridge that is the gateway of a VLAN gets an interface `<bridge>.<vlan>`.
fn gateway_of_vlan(plugin: &PluginConfig, to: &mut Scribe<'_>) {
    let config = plugin.object();
    let is_set = |key| get(config, key).and_then(Value::as_bool).unwrap_or_default();
    let vlan = get(config, "vlan").and_then(Value::as_u64).unwrap_or_default();
    let is_gateway = is_set("isGateway") || is_set("isDefaultGateway");
    if vlan == 0 || !is_gateway || plugin.ipam_type().is_none() {
        return;
    }
    let bridge = get(config, "bridge").and_then(Value::as_str).unwrap_or(reference::DEFAULT_BRIDGE);
    let name = format!("{bridge}.{vlan}");
    if bridge.len() <= reference::LONGEST_NAME && name.len() > reference::LONGEST_NAME {
        to.error(format_args!(
            "the gateway of \"vlan\" {vlan} is an interface {name:?}, and no interface has a name of more than {} \
             bytes; choose a shorter \"bridge\"",
            reference::LONGEST_NAME
        ));
    }
}
