//! What the reference plugins take, need and leave (containernetworking/plugins, and whereabouts).
//!
//! The one table about plugins that are known: rendering, permissions, `braid check`, the webhook, ADD and DEL ask it.
//! It is the union over the versions 1.1.1 to 1.9.1 and what is to follow, so that a configuration which is right for
//! one of them is never called wrong. What it does not name is not known, and nothing may be assumed of it.
//!
//! | to | see |
//! |---|---|
//! | look up a plugin | [`plugin`] |
//! | compare a configuration with the keys of its plugin | [`shape`] |
//! | know whether a network makes an interface | [`makes_no_interface`] |
//! | know what is left after ADD, and what DEL needs | [`outside`] |

mod interface;
pub mod outside;
pub mod shape;
mod tables;

use crate::config::PluginConfig;
use crate::ids::PluginType;
use crate::keys;

pub use interface::{NoInterface, makes_no_interface};
pub use outside::{
    Outside, forgets_addresses_without_namespace, forgets_rules_without_namespace, leaves_outside,
    needs_requests_at_del,
};

/// The bridge of the plugin `bridge` where the configuration names none.
pub const DEFAULT_BRIDGE: &str = "cni0";

/// The kernel's limit of an interface's name, in bytes.
pub const LONGEST_NAME: usize = 15;

/// The kernel's limit of an alternative name of an interface, in bytes.
pub const LONGEST_ALTERNATIVE_NAME: usize = 127;

/// Plugins outside of the table that are known to run the IPAM plugin which `ipam` names.
const OTHERS_WITH_IPAM: [&str; 1] = ["sriov"];

/// A plugin that is known.
#[derive(Debug)]
pub struct Plugin {
    /// Its type.
    pub name: &'static str,
    /// What it is for.
    pub role: Role,
    /// Its own keys: of the configuration, or of `ipam` for an IPAM plugin. Those of all plugins are not among them.
    pub keys: &'static [Key],
    /// What it does with `ipam`.
    pub ipam: Ipam,
    /// Whether it takes a hardware address from `MAC` in CNI_ARGS.
    pub reads_mac: bool,
    /// Whether it takes an address from `IP` in CNI_ARGS.
    pub reads_ip: bool,
    /// The capabilities that it understands.
    pub capabilities: &'static [&'static str],
    /// What it builds on: an interface of the node that `master` names.
    pub master: Master,
}

/// What a plugin is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It makes an interface.
    Interface,
    /// It changes what plugins before it made, and refuses ADD without their result.
    Chained,
    /// It gives addresses, called by a plugin that makes an interface.
    Ipam,
}

/// What a plugin does with `ipam`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ipam {
    /// It does not read it.
    Ignored,
    /// It runs the IPAM plugin if there is one.
    Optional,
    /// ADD and DEL fail without one.
    Needed,
    /// ADD fails without one, unless an earlier plugin gave addresses.
    NeededIfFirst,
}

/// Whether a plugin builds on the interface that `master` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Master {
    /// It does not read it.
    Ignored,
    /// ADD and DEL fail without it.
    Needed,
    /// It takes the interface of the node's default route where none is named.
    DefaultRoute,
}

/// A key that a plugin reads.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// As the documentation spells it.
    pub name: &'static str,
    /// What its value has to be.
    pub kind: Kind,
    /// Whether every version reads it; others ignore it, whatever its value is.
    pub always: bool,
}

/// What a value has to be, and what it means. `null` is everywhere the same as no value.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// Anything; it is read elsewhere, or not at all.
    Any,
    /// A text.
    Text,
    /// The name of an interface of the node that is made if it is not there: 15 bytes at most.
    NewInterface,
    /// The same of an interface of the pod.
    PodInterface,
    /// The name of an interface of the node that is there, which may be an alternative one: 127 bytes at most.
    Interface,
    /// A text that leads to an interface of the node in another way than by its name.
    Device,
    /// A text that names a file, a directory or a socket of the node.
    Path,
    /// `true` or `false`.
    Flag,
    /// A whole number.
    Whole {
        /// The least that the plugin's type holds.
        least: i64,
        /// The most.
        most: u64,
    },
    /// An array of texts.
    Texts,
    /// An object with texts as values, under keys that the author chooses.
    TextMap,
    /// An object with these keys.
    Object(&'static [Key]),
    /// An object with these keys and others that are read elsewhere.
    Open(&'static [Key]),
    /// An array of objects with these keys.
    Objects(&'static [Key]),
    /// An array of arrays of objects with these keys.
    Sets(&'static [Key]),
}

/// The plugin of this type, if it is known.
pub fn plugin(name: &str) -> Option<&'static Plugin> {
    tables::PLUGINS.iter().copied().find(|plugin| plugin.name == name)
}

/// The IPAM plugin of this type, if it is known.
pub fn ipam_plugin(name: &str) -> Option<&'static Plugin> {
    plugin(name).filter(|plugin| plugin.role == Role::Ipam)
}

/// Whether a plugin is known to run the IPAM plugin that `ipam` names. Others may have something of their own there.
pub fn runs_ipam(name: &str) -> bool {
    plugin(name).map_or(OTHERS_WITH_IPAM.contains(&name), |plugin| plugin.ipam != Ipam::Ignored)
}

/// Every key of every plugin, those within the values of others included.
pub fn every_key() -> impl Iterator<Item = &'static Key> {
    tables::PLUGINS.iter().flat_map(|plugin| with_inner(plugin.keys))
}

fn with_inner(keys: &'static [Key]) -> Box<dyn Iterator<Item = &'static Key>> {
    Box::new(keys.iter().flat_map(|key| std::iter::once(key).chain(with_inner(key.kind.inner()))))
}

/// Whether some plugin takes an interface of the node from this key, in any case.
pub fn names_interface(key: &str) -> bool {
    every_key().any(|known| known.kind.is_interface_of_node() && keys::same(key, known.name))
}

/// Whether some plugin takes a path of the node from this key, in any case.
pub fn names_path(key: &str) -> bool {
    every_key().any(|known| matches!(known.kind, Kind::Path) && keys::same(key, known.name))
}

/// The IPAM plugin that the plugin of a configuration is known to run.
pub fn ipam_run_by(config: &PluginConfig) -> Option<PluginType> {
    let name = config.ipam_type().filter(|_| runs_ipam(config.plugin().as_str()))?;
    PluginType::parse(name).ok()
}

/// Whether a plugin takes a hardware address from CNI_ARGS; one that is not known is trusted to.
pub fn may_read_mac(config: &PluginConfig) -> bool {
    called(config).is_none_or(|plugin| plugin.reads_mac)
}

/// Whether a plugin, or its IPAM plugin, takes an address from CNI_ARGS; one that is not known is trusted to.
pub fn may_read_ip(config: &PluginConfig) -> bool {
    match config.ipam_type() {
        Some(ipam) => ipam_plugin(ipam).is_none_or(|plugin| plugin.reads_ip),
        // A known plugin without IPAM gives no address at all.
        None => called(config).is_none(),
    }
}

/// Whether a plugin is known to build on the interface that `master` names.
pub fn builds_on_master(name: &str) -> bool {
    plugin(name).is_some_and(|plugin| plugin.master != Master::Ignored)
}

/// The plugin of a configuration, if it is known. An IPAM plugin in the place of another is not: nothing is known of
/// what it does there.
pub fn called(config: &PluginConfig) -> Option<&'static Plugin> {
    plugin(config.plugin().as_str()).filter(|plugin| plugin.role != Role::Ipam)
}

impl Kind {
    /// Whether it leads to an interface of the node.
    pub fn is_interface_of_node(self) -> bool {
        matches!(self, Self::Interface | Self::NewInterface | Self::Device)
    }

    /// The bytes that a name of an interface may have, if it is one.
    pub fn longest(self) -> Option<usize> {
        match self {
            Self::NewInterface | Self::PodInterface => Some(LONGEST_NAME),
            Self::Interface => Some(LONGEST_ALTERNATIVE_NAME),
            _ => None,
        }
    }

    /// The keys of objects within.
    fn inner(self) -> &'static [Key] {
        match self {
            Self::Object(keys) | Self::Open(keys) | Self::Objects(keys) | Self::Sets(keys) => keys,
            _ => &[],
        }
    }
}

/// Whether a flag of a configuration is set.
fn is_set(config: &PluginConfig, key: &str) -> bool {
    keys::get(config.object(), key).and_then(serde_json::Value::as_bool) == Some(true)
}

#[cfg(test)]
mod tests;
