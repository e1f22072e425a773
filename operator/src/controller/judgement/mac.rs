//! The hardware address that a network's author wrote into a plugin's configuration.

use cni::PluginConfig;
use cni::keys;
use cni::npwg::selection::Mac;
use cni::reference;
use serde_json::Value;

use super::Scribe;

/// A plugin that is known to read `mac` fails at an address that no interface can have. A warning only: a pod may bring
/// another one.
pub(super) fn examine(plugin: &PluginConfig, to: &mut Scribe<'_>) {
    let known = reference::plugin(plugin.plugin().as_str());
    if !known.is_some_and(|known| known.keys.iter().any(|key| key.name == "mac")) {
        return;
    }
    let mac = keys::get(plugin.object(), "mac").and_then(Value::as_str).filter(|text| !text.is_empty());
    if let Some(Err(error)) = mac.map(Mac::parse) {
        to.warning(format_args!("\"mac\": {error}"));
    }
}
