//! Rendering: what becomes of a NetworkAttachmentDefinition on a node. Pure; files and the API server both
//! lead here.
//!
//! **Names.** Plugins keep their data under the `name` of a configuration: host-local has a directory of
//! addresses for each. Two networks of one name would hand out each other's addresses, and the names of two
//! namespaces are chosen by people who do not know of each other. So a configuration without a name gets
//! `<namespace>__<name>`: neither part can hold a `_`, so no two networks share it. A name that the author
//! wrote is kept: whoever names two networks alike means it. But no author can take another network's
//! generated name, and with it that network's addresses: a written name of this form is refused, unless it is
//! the network's own. There are two `_` because names with one (`my_net`) are common, and are nobody's.
//!
//! **On the node.** Where `spec.config` is empty, the configuration is a file of the node whose `name` is
//! the network's own, without the namespace, as the standard says.
//!
//! **Refused.** A configuration that no pod could be attached with is refused here, with a reason for
//! people, and not when the first pod starts. What a plugin alone can judge is left to the plugin. So is one that
//! the administrator does not permit ([`Permissions`]).

use cni::config::{ConfigError, kind_of};
use cni::error::chain_text;
use cni::ids::{IdError, PluginType};
use cni::npwg::{NameError, NetworkRef, RESOURCE_NAME};
use cni::{NetworkList, NetworkName, PluginConfig, reference};
use crds::NetworkAttachmentDefinition;
use serde_json::{Map, Value};
use store::network::{Outcome, RenderedNetwork};

use crate::excerpt::cut_to_characters;
use crate::permissions::{NotPermitted, Permissions};

/// The plugin that must not be a network's: ourselves.
pub const OURSELVES: &str = "meta-cni";

/// The longest configuration that is read, in bytes. As values in memory one may take a hundred times its length, on
/// every node at once; common ones have some hundred bytes.
pub const LONGEST_CONFIG: usize = 128 << 10;

/// In characters. A reason goes into events and terminals; what a person wrote into a name may be long.
const LONGEST_REASON: usize = 1000;

/// In characters; Kubernetes has no longer names of resources.
const LONGEST_RESOURCE: usize = 317;

/// Why a NetworkAttachmentDefinition cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// Neither a configuration nor none.
    #[error("spec.config holds only blanks; leave it out if the configuration is on the node")]
    Blank,
    /// Read, it would take more memory than there may be.
    #[error(
        "spec.config is {length} bytes long, and none of more than {LONGEST_CONFIG} is read; put long data into a file \
         that the plugin reads"
    )]
    TooLong {
        /// In bytes.
        length: usize,
    },
    /// Not a configuration.
    #[error("spec.config")]
    Config(#[source] ConfigError),
    /// A generated name that plugins could not use as a file name.
    #[error(
        "the configuration has no \"name\", and the one that is made of namespace and name cannot be used; give \
         the configuration a shorter \"name\""
    )]
    GeneratedName(#[source] IdError),
    /// A name that another network would get.
    #[error(
        "\"name\" \"{name}\" is the one that network {network} has if its configuration gives none, so both would \
         hand out each other's addresses; choose a name without \"__\" (networks that are to share a pool on \
         purpose get the same one)"
    )]
    NameOfAnother {
        /// What the author wrote.
        name: NetworkName,
        /// Whose it is.
        network: NetworkRef,
    },
    /// A name that is none for a configuration on the node.
    #[error("no configuration on the node can have this network's name")]
    Name(#[source] IdError),
    /// A plugin that cannot work as it is configured.
    #[error("{place}: {problem}")]
    Plugin {
        /// Which plugin.
        place: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The administrator does not permit it.
    #[error(transparent)]
    NotPermitted(#[from] NotPermitted),
}

/// Which network a NetworkAttachmentDefinition is.
pub fn network_of(nad: &NetworkAttachmentDefinition) -> Result<NetworkRef, NameError> {
    let metadata = &nad.metadata;
    NetworkRef::parse(
        metadata.namespace.as_deref().unwrap_or_default(),
        metadata.name.as_deref().unwrap_or_default(),
    )
}

/// Renders a NetworkAttachmentDefinition; `origin` says where it was read, for people.
pub fn render(
    nad: &NetworkAttachmentDefinition,
    origin: &str,
    permissions: &Permissions,
) -> Result<RenderedNetwork, NameError> {
    let network = network_of(nad)?;
    let resource = nad.annotation(RESOURCE_NAME).map(str::trim).filter(|name| !name.is_empty());
    let outcome = outcome(&network, nad.config())
        .and_then(|outcome| Ok(permissions.permit(&network, &outcome).map(|()| outcome)?))
        .unwrap_or_else(|error| Outcome::Refused {
            reason: cut_to_characters(chain_text(&error), LONGEST_REASON),
        });
    Ok(RenderedNetwork {
        network,
        origin: origin.to_owned(),
        generation: nad.metadata.generation,
        resource_name: resource.map(|name| cut_to_characters(name.to_owned(), LONGEST_RESOURCE)),
        outcome,
    })
}

/// A network whose object could not even be read as a NetworkAttachmentDefinition.
pub fn refused(network: NetworkRef, origin: &str, reason: String) -> RenderedNetwork {
    RenderedNetwork {
        network,
        origin: origin.to_owned(),
        generation: None,
        resource_name: None,
        outcome: Outcome::Refused { reason: cut_to_characters(reason, LONGEST_REASON) },
    }
}

fn outcome(network: &NetworkRef, config: &str) -> Result<Outcome, RenderError> {
    if config.is_empty() {
        let name = NetworkName::parse(network.name.as_str()).map_err(RenderError::Name)?;
        return Ok(Outcome::OnNode { name });
    }
    if config.trim().is_empty() {
        return Err(RenderError::Blank);
    }
    if config.len() > LONGEST_CONFIG {
        return Err(RenderError::TooLong { length: config.len() });
    }
    let list = named(network, config)?;
    examine(&list)?;
    if let Some(plugin) = list.plugins.iter().position(|plugin| plugin.plugin().as_str() == OURSELVES) {
        return Err(RenderError::Plugin {
            place: place(&list, plugin),
            problem: "is Braid itself, which would call itself without end; name the plugin that makes the \
                      interface"
                .to_owned(),
        });
    }
    Ok(Outcome::Ready { list })
}

/// What stands between namespace and name in a generated name; names of Kubernetes hold no `_`.
const BETWEEN: &str = "__";

/// The name that a network's configuration gets if it gives none.
pub(crate) fn generated_name(network: &NetworkRef) -> String {
    format!("{}{BETWEEN}{}", network.namespace, network.name)
}

/// The configuration, under its own name or a generated one.
fn named(network: &NetworkRef, config: &str) -> Result<NetworkList, RenderError> {
    let generated = NetworkName::parse(generated_name(network));
    let list = match (NetworkList::parse(config.as_bytes(), generated.as_ref().ok()), generated) {
        (Err(ConfigError::NoName), Err(error)) => Err(RenderError::GeneratedName(error)),
        (list, _) => list.map_err(RenderError::Config),
    }?;
    match owner_of(&list.name).filter(|owner| owner != network) {
        Some(owner) => Err(RenderError::NameOfAnother { name: list.name, network: owner }),
        None => Ok(list),
    }
}

/// The network that would have this name if its configuration gave none, whether there is such a network or not.
fn owner_of(name: &NetworkName) -> Option<NetworkRef> {
    let (namespace, name) = name.as_str().split_once(BETWEEN)?;
    NetworkRef::parse(namespace, name).ok()
}

/// Refuses what reads as a configuration but cannot work, of a network or of a file on the node.
pub fn examine(list: &NetworkList) -> Result<(), RenderError> {
    for (index, plugin) in list.plugins.iter().enumerate() {
        let problem = |problem| RenderError::Plugin { place: place(list, index), problem };
        arguments(plugin.object()).map_err(problem)?;
        ipam(plugin).map_err(problem)?;
    }
    Ok(())
}

/// How people find the plugin at `index`.
pub(crate) fn place(list: &NetworkList, index: usize) -> String {
    let name = list.plugins.get(index).map_or("", |plugin| plugin.plugin().as_str());
    match list.plugins.len() {
        1 => format!("plugin {name:?}"),
        _ => format!("plugins[{index}] ({name:?})"),
    }
}

fn present<'a>(object: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    object.get(key).filter(|value| !value.is_null())
}

/// A pod's `cni-args` are merged into `args.cni`.
fn arguments(plugin: &Map<String, Value>) -> Result<(), String> {
    let Some(args) = present(plugin, "args") else { return Ok(()) };
    let object = args.as_object().ok_or_else(|| format!("\"args\" is {}, not an object", kind_of(args)))?;
    match present(object, "cni") {
        None | Some(Value::Object(_)) => Ok(()),
        Some(other) => Err(format!("\"args.cni\" is {}, not an object", kind_of(other))),
    }
}

fn ipam(plugin: &PluginConfig) -> Result<(), String> {
    let Some(ipam) = present(plugin.object(), "ipam") else { return Ok(()) };
    let object = ipam.as_object().ok_or_else(|| format!("\"ipam\" is {}, not an object", kind_of(ipam)))?;
    match present(object, "type") {
        Some(Value::String(text)) if !text.is_empty() => {
            PluginType::parse(text).map(drop).map_err(|error| format!("\"ipam.type\" is not valid: {error}"))
        }
        Some(Value::String(_)) | None => match object.keys().find(|key| *key != "type") {
            Some(key) if reference::runs_ipam(plugin.plugin().as_str()) => Err(format!(
                "\"ipam\" has {key:?} but no \"type\", so no address would be given; name the IPAM plugin, for \
                 example \"host-local\", or leave \"ipam\" out"
            )),
            _ => Ok(()),
        },
        Some(other) => Err(format!("\"ipam.type\" is {}, not a string", kind_of(other))),
    }
}

#[cfg(test)]
mod tests;
