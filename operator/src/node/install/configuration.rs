//! What the container runtime reads: `00-braid.conflist`, made of the primary's configuration and the settings.
//! Pure.

use std::collections::BTreeSet;

use cni::{NetworkList, PluginConfig, SpecVersion};
use serde_json::{Map, Value, json};

/// The file's name, which `meta-cni` knows too.
pub const FILE: &str = store::leaving::FILE;

/// The network's name for the runtime. It is part of the key under which libcni keeps results, so it never
/// changes, whatever the primary is called.
const NAME: &str = "braid";

/// The type of our plugin, which is the name of its executable.
pub const PLUGIN: &str = "meta-cni";

/// The least version that runtimes are spoken to in. Every runtime of Kubernetes 1.20 speaks it, and it is the
/// first whose results hold several addresses and interfaces, whose DEL gets the result, and that has CHECK.
const LEAST: SpecVersion = SpecVersion::V0_4_0;

/// By this the runtime hands over a pod's annotations (containerd 1.5, CRI-O 1.29), and by this the ports that
/// a pod wants on the host.
const ALWAYS: [&str; 2] = ["io.kubernetes.cri.pod-annotations", "portMappings"];

/// The configuration for the runtime, with `keys` for our plugin.
///
/// - `cniVersion`: that of the primary, which the runtime is known to speak, but at least `LEAST`. A runtime
///   that knows `cniVersions` (1.1.0) picks the newest that it speaks and so gets GC and STATUS, also where the
///   primary is older: `meta-cni` speaks to each network in that network's version.
/// - `capabilities`: the primary's, since `runtimeConfig` is for the primary; and `ALWAYS`.
/// - `loadOnlyInlinedPlugins`: plugin files are for the primary's chain, which `meta-cni` reads; not for ours.
/// - no `disableCheck`, no `disableGC`: `meta-cni` passes over those networks that say so themselves.
pub fn configuration(primary: &NetworkList, keys: &Map<String, Value>) -> Value {
    let version = primary.version.max(LEAST);
    let mut capabilities = BTreeSet::from(ALWAYS);
    capabilities.extend(primary.plugins.iter().flat_map(PluginConfig::declared_capabilities));
    let capabilities: Map<String, Value> =
        capabilities.into_iter().map(|name| (name.to_owned(), true.into())).collect();
    let mut plugin = keys.clone();
    plugin.insert("type".to_owned(), PLUGIN.into());
    plugin.insert("capabilities".to_owned(), capabilities.into());
    let versions: Vec<_> =
        SpecVersion::ALL.into_iter().filter(|known| *known >= version).map(SpecVersion::as_str).collect();
    json!({
        "cniVersion": version.as_str(),
        "cniVersions": versions,
        "name": NAME,
        "loadOnlyInlinedPlugins": true,
        "plugins": [plugin],
    })
}

/// The configuration as the text of its file; the same configuration has the same text.
pub fn text(configuration: &Value) -> String {
    format!("{configuration:#}\n")
}

#[cfg(test)]
mod tests {
    use store::settings::Settings;

    use super::*;

    fn made(primary: Value, keys: Value) -> Value {
        let Value::Object(keys) = keys else { panic!("{keys}") };
        configuration(&NetworkList::from_json(primary, None).unwrap(), &keys)
    }

    #[test]
    fn a_chain_is_offered_with_the_capabilities_of_all_its_plugins() {
        let primary = json!({
            "name": "cbr0", "cniVersion": "0.3.1",
            "plugins": [
                {"type": "flannel", "capabilities": {"off": false}},
                {"type": "portmap", "capabilities": {"portMappings": true}},
                {"type": "bandwidth", "capabilities": {"bandwidth": true}},
            ],
        });
        assert_eq!(
            made(primary, json!({"logLevel": "info"})),
            json!({
                "cniVersion": "0.4.0", "cniVersions": ["0.4.0", "1.0.0", "1.1.0"], "name": "braid",
                "loadOnlyInlinedPlugins": true,
                "plugins": [{
                    "type": "meta-cni", "logLevel": "info",
                    "capabilities": {
                        "bandwidth": true, "portMappings": true, "io.kubernetes.cri.pod-annotations": true,
                    },
                }],
            })
        );
    }

    #[test]
    fn the_version_is_the_primarys_but_never_one_that_loses_parts_of_results() {
        for (primary, single, offered) in [
            (json!({}), "0.4.0", &["0.4.0", "1.0.0", "1.1.0"][..]),
            (json!({"cniVersion": "0.2.0"}), "0.4.0", &["0.4.0", "1.0.0", "1.1.0"]),
            (json!({"cniVersion": "1.0.0"}), "1.0.0", &["1.0.0", "1.1.0"]),
            (json!({"cniVersion": "1.1.0"}), "1.1.0", &["1.1.0"]),
        ] {
            let mut primary = primary;
            primary["name"] = "n".into();
            primary["type"] = "bridge".into();
            let made = made(primary.clone(), json!({}));
            assert_eq!(made["cniVersion"], single, "{primary}");
            assert_eq!(made["cniVersions"], json!(offered), "{primary}");
        }
    }

    #[test]
    fn what_is_made_is_a_configuration_whose_settings_can_be_read() {
        let primary = json!({"name": "n", "type": "bridge", "cniVersion": "1.0.0"});
        let text = text(&made(primary, json!({"clusterNetwork": "n"})));
        let list = NetworkList::parse(text.as_bytes(), None).unwrap();
        assert_eq!(list.version, SpecVersion::V1_1_0, "the newest that is offered");
        let settings = Settings::parse(list.plugins[0].object()).unwrap();
        assert!(settings.passed_over.is_empty(), "{:?}", settings.passed_over);
    }
}
