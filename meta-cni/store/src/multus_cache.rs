//! What Multus wrote down of a container: the delegates that it called, as `<cniDir>/<container id>` holds them. Pure.
//!
//! Nobody but Multus knows what it attached, and nobody but us is asked to undo it once Braid has taken its place. The
//! file is overwritten in place, so it may be empty or cut off; then it is an error, and never half a list.
//!
//! Compatibility, for each delegate:
//! - `Bytes` is the configuration that ran, in base64. For a primary that came from a file Multus up to 4.3.0 writes it
//!   without everything that it does not know itself (addresses, the bridge's name …). The whole of it then stands,
//!   plugin by plugin, in `CNINetworkConfigList`, which therefore comes first.
//! - A configuration without a version has the first one's, which is that of Multus's own configuration.
//! - What a pod asked of a network is kept, but for `portMappings` and `bandwidth`; the primary is asked for nothing.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use cni::config::{ConfigError, kind_of};
use cni::ids::IdError;
use cni::{CapabilityArgs, IfName, NetworkList, NetworkName};
use serde_json::{Map, Value, json};

/// One network that Multus attached a container to.
#[derive(Debug, Clone, PartialEq)]
pub struct Delegate {
    /// What people call it: `namespace/name` of its NetworkAttachmentDefinition, or its configuration's name.
    pub network: String,
    /// The configuration that ran.
    pub list: NetworkList,
    /// The interface, where the pod asked for one.
    pub if_name: Option<IfName>,
    /// What was asked of plugins that declare it.
    pub capabilities: CapabilityArgs,
}

/// Why the file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// Not JSON, or cut off.
    #[error("it is not JSON, or only a part of it")]
    NotJson(#[source] serde_json::Error),
    /// Not a list of delegates.
    #[error("it holds {0}, not an array of delegates")]
    NotAList(&'static str),
    /// A delegate is no object.
    #[error("its delegate {index} is {found}, not an object")]
    NotAnObject {
        /// Which, from 0.
        index: usize,
        /// What it is.
        found: &'static str,
    },
    /// A delegate has no configuration, or one that is not base64.
    #[error("its delegate {index} has no configuration in \"Bytes\" that could be read")]
    NoBytes {
        /// Which, from 0.
        index: usize,
    },
    /// A delegate's configuration is none.
    #[error("the configuration of its delegate {index}")]
    Config {
        /// Which, from 0.
        index: usize,
        /// Why.
        source: ConfigError,
    },
    /// A delegate's interface is no name of one.
    #[error("\"ifnameRequest\" of its delegate {index}")]
    Interface {
        /// Which, from 0.
        index: usize,
        /// Why.
        source: IdError,
    },
}

/// Reads the file's text: every delegate in the order of ADD, the primary first.
pub fn parse(text: &[u8]) -> Result<Vec<Delegate>, CacheError> {
    let delegates = match serde_json::from_slice(text).map_err(CacheError::NotJson)? {
        Value::Array(delegates) => delegates,
        Value::Null => Vec::new(),
        other => return Err(CacheError::NotAList(kind_of(&other))),
    };
    let mut all = Vec::new();
    let mut version = None;
    for (index, json) in delegates.into_iter().enumerate() {
        let Value::Object(object) = json else {
            return Err(CacheError::NotAnObject { index, found: kind_of(&json) });
        };
        let mut config = config(&object).ok_or(CacheError::NoBytes { index })?;
        if index == 0 {
            version = text_of(&config, "cniVersion").map(str::to_owned);
        } else if let (None, None, Some(version)) =
            (text_of(&config, "cniVersion"), config.get("cniVersions"), &version)
        {
            config.insert("cniVersion".to_owned(), version.as_str().into());
        }
        all.push(delegate(index, &object, config)?);
    }
    Ok(all)
}

fn delegate(
    index: usize,
    object: &Map<String, Value>,
    config: Map<String, Value>,
) -> Result<Delegate, CacheError> {
    let told = text_of(object, "Name");
    // Multus gives a configuration without a name that of its NetworkAttachmentDefinition.
    let fallback = told.and_then(|told| NetworkName::parse(told.rsplit('/').next().unwrap_or(told)).ok());
    let list = NetworkList::from_json(Value::Object(config), fallback.as_ref())
        .map_err(|source| CacheError::Config { index, source })?;
    let if_name = text_of(object, "ifnameRequest").map(IfName::parse).transpose();
    let if_name = if_name.map_err(|source| CacheError::Interface { index, source })?;
    let capabilities = if index == 0 { CapabilityArgs::new() } else { capabilities(object) };
    let network = told.map_or_else(|| list.name.to_string(), str::to_owned);
    Ok(Delegate { network, list, if_name, capabilities })
}

/// A text that is not empty.
fn text_of<'a>(object: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    object.get(key)?.as_str().filter(|text| !text.is_empty())
}

/// The configuration that ran: the whole of it where that was kept.
fn config(object: &Map<String, Value>) -> Option<Map<String, Value>> {
    let told = decoded(object);
    match whole(object, told.as_ref()) {
        Some(whole) => Some(whole),
        None => told,
    }
}

/// The object that is in `Bytes`.
fn decoded(object: &Map<String, Value>) -> Option<Map<String, Value>> {
    serde_json::from_slice(&BASE64.decode(text_of(object, "Bytes")?).ok()?).ok()
}

/// The list of `CNINetworkConfigList`, put together of what each plugin got; `told` is that of `Bytes`.
fn whole(object: &Map<String, Value>, told: Option<&Map<String, Value>>) -> Option<Map<String, Value>> {
    let list = object.get("CNINetworkConfigList")?.as_object()?;
    let plugins = list.get("Plugins")?.as_array().filter(|plugins| !plugins.is_empty())?;
    let plugins = plugins.iter().map(|plugin| decoded(plugin.as_object()?));
    let mut plugins = plugins.collect::<Option<Vec<_>>>()?;
    let told_plugins = told.and_then(|told| told.get("plugins")?.as_array());
    for (plugin, told) in plugins.iter_mut().zip(told_plugins.into_iter().flatten()) {
        keep_device(plugin, told);
    }
    let known = |own: &str, theirs: &str| {
        text_of(list, own).or_else(|| text_of(told?, theirs)).map_or(Value::Null, Value::from)
    };
    let flag = |own: &str, theirs: &str| {
        let given = list.get(own).or_else(|| told?.get(theirs)).and_then(Value::as_bool);
        Value::Bool(given.unwrap_or_default())
    };
    let whole = json!({
        "name": known("Name", "name"),
        "cniVersion": known("CNIVersion", "cniVersion"),
        "disableCheck": flag("DisableCheck", "disableCheck"),
        "disableGC": flag("DisableGC", "disableGC"),
        "plugins": plugins,
    });
    whole.as_object().cloned()
}

/// Multus writes the device that a pod has into `Bytes` alone.
fn keep_device(plugin: &mut Map<String, Value>, told: &Value) {
    if told.get("type") != plugin.get("type") {
        return;
    }
    for key in ["deviceID", "pciBusID"] {
        if let (Some(device), false) = (told.get(key), plugin.contains_key(key)) {
            plugin.insert(key.to_owned(), device.clone());
        }
    }
}

/// What the pod asked of a network, by the name of the capability.
fn capabilities(object: &Map<String, Value>) -> CapabilityArgs {
    let requests = [
        ("macRequest", "mac"),
        ("ipRequest", "ips"),
        ("infinibandGUIDRequest", "infinibandGUID"),
        ("deviceID", "deviceID"),
    ];
    let asked = |value: &Value| match value {
        Value::String(text) => !text.is_empty(),
        Value::Array(all) => !all.is_empty(),
        _ => false,
    };
    let given = requests.into_iter().filter_map(|(key, name)| Some((name, object.get(key)?)));
    given.filter(|(_, value)| asked(value)).map(|(name, value)| (name.to_owned(), value.clone())).collect()
}

#[cfg(test)]
mod tests;
