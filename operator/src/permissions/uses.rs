//! What a configuration uses of a node. Pure.
//!
//! Plugins are many, and what each reads is its own. So this does not ask which plugin reads a key: every key of the
//! whole text counts by its name, however deep it is, which covers delegates of plugins, chains and keys that nobody
//! knows. What is found too much has to be permitted without need; what is not found cannot be refused, so a rule
//! that permits a plugin trusts it with keys that are not named here.
//!
//! Keys are compared as Go does: in any case, and with the two letters that Unicode folds to `s` and `k`. Where
//! several spellings of one key are given, each counts, since which of them the plugin takes is its own affair.

use std::net::IpAddr;

use cni::keys::folded;
use cni::npwg::NetworkRef;
use cni::reference::{self, Master};
use cni::{NetworkList, NetworkName};
use serde_json::{Map, Value};

use crate::node::render;

/// Keys by which plugins outside the reference set name interfaces of the host (`deviceID`: sriov, and devices that the
/// runtime gives). Those of the reference set are in its table ([`reference::names_interface`]).
pub(super) const INTERFACES: [&str; 8] =
    ["deviceid", "hostdevice", "hostinterface", "interface", "link", "links", "parent", "uplink"];
/// Keys by which plugins outside the reference set name files, whatever their values look like: plugins start in a
/// directory that nobody chose. Those of the reference set are in its table ([`reference::names_path`]).
pub(super) const PATHS: [&str; 2] = ["logfile", "socket"];
/// Keys that the runtime writes. A forged `prevResult` names interfaces that chained plugins work on, and a
/// `runtimeConfig` is what a pod, or its devices, would have asked for.
pub(super) const OF_RUNTIME: [&str; 2] = ["prevresult", "runtimeconfig"];
/// Plugins outside the reference set that take the interface of the default route where no `master` is named.
pub(super) const TAKE_DEFAULT_ROUTE: [&str; 1] = ["ipoib"];

/// Something that a network uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Use {
    /// What it is.
    pub(super) what: What,
    /// Which; empty for an interface that is not named.
    pub(super) value: String,
    /// Where it is said; empty where that is plain.
    pub(super) place: String,
}

/// What can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Plugin,
    Interface,
    Name,
    Path,
    OnNode,
    OfRuntime,
}

impl Use {
    /// A configuration of the node.
    pub(super) fn on_node(name: &NetworkName) -> Self {
        Self { what: What::OnNode, value: name.to_string(), place: String::new() }
    }
}

/// Everything that a network uses.
pub(super) fn uses(network: &NetworkRef, list: &NetworkList) -> Vec<Use> {
    let mut found = Vec::new();
    let name = list.name.as_str();
    if name != render::generated_name(network) {
        found.push(Use { what: What::Name, value: name.to_owned(), place: String::new() });
    }
    look(&list.extra, "", &mut found);
    for (index, plugin) in list.plugins.iter().enumerate() {
        look(plugin.object(), &format!("plugins[{index}]"), &mut found);
    }
    found
}

/// Whether the value of a key, as Go compares it, leads to an interface of the host.
fn names_interface(key: &str) -> bool {
    INTERFACES.contains(&key) || reference::names_interface(key)
}

/// Whether it leads to a file.
fn names_path(key: &str) -> bool {
    PATHS.contains(&key) || reference::names_path(key)
}

/// Whether a plugin takes the interface of the default route where no `master` is named.
fn takes_default_route(plugin: &str) -> bool {
    let known = reference::plugin(plugin).is_some_and(|plugin| plugin.master == Master::DefaultRoute);
    known || TAKE_DEFAULT_ROUTE.contains(&plugin)
}

/// An object that may be a plugin's configuration, and everything in it.
fn look(object: &Map<String, Value>, place: &str, found: &mut Vec<Use>) {
    for (key, value) in object {
        let name = folded(key);
        let place = if place.is_empty() { key.clone() } else { format!("{place}.{key}") };
        if OF_RUNTIME.contains(&name.as_str()) && !value.is_null() {
            found.push(Use { what: What::OfRuntime, value: key.clone(), place });
        } else if name == "type" && value.is_string() {
            text(What::Plugin, value, &place, found);
        } else if names_interface(&name) {
            within(Some(What::Interface), value, &place, found);
        } else if names_path(&name) {
            within(Some(What::Path), value, &place, found);
        } else {
            within(None, value, &place, found);
        }
    }
    unnamed(object, place, found);
}

/// Interfaces that plugins take where none is named.
fn unnamed(object: &Map<String, Value>, place: &str, found: &mut Vec<Use>) {
    let of = |name: &'static str| {
        let given = object.iter().filter(move |(key, value)| folded(key) == name && !value.is_null());
        given.map(|(_, value)| value)
    };
    let none = |key| of(key).next().is_none() || of(key).any(|value| value.as_str() == Some(""));
    for plugin in of("type").filter_map(Value::as_str) {
        let value = match plugin {
            "bridge" if none("bridge") => reference::DEFAULT_BRIDGE,
            _ if takes_default_route(plugin) && none("master") => "",
            _ => continue,
        };
        found.push(Use { what: What::Interface, value: value.to_owned(), place: place.to_owned() });
    }
}

/// A value under a key that says what its texts are, or under one that does not.
fn within(what: Option<What>, value: &Value, place: &str, found: &mut Vec<Use>) {
    match value {
        Value::String(value) if what.is_none() && !is_path(value) => {}
        Value::String(_) => text(what.unwrap_or(What::Path), value, place, found),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                within(what, item, &format!("{place}[{index}]"), found);
            }
        }
        Value::Object(object) => {
            look(object, place, found);
            for (key, value) in object.iter().filter(|_| what.is_some()) {
                within(what, value, &format!("{place}.{key}"), found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn text(what: What, value: &Value, place: &str, found: &mut Vec<Use>) {
    if let Some(value) = value.as_str().filter(|text| !text.is_empty()) {
        found.push(Use { what, value: value.to_owned(), place: place.to_owned() });
    }
}

/// Whether a text of a key that nobody knows may lead to a file or a server. Addresses with a prefix, ranges of them
/// and lists have a slash too.
fn is_path(text: &str) -> bool {
    text.starts_with(['/', '.']) || text.contains("..") || (text.contains('/') && !are_addresses(text))
}

fn are_addresses(text: &str) -> bool {
    let is_address = |text: &str| text.parse::<IpAddr>().is_ok();
    text.split([',', '-', ' ']).filter(|part| !part.is_empty()).all(|part| match part.split_once('/') {
        Some((address, prefix)) => {
            is_address(address) && (prefix.parse::<u8>().is_ok() || is_address(prefix))
        }
        None => is_address(part),
    })
}
