//! The plugin's settings: those of the settings file, and those that follow from how this program was started.

use std::io;
use std::path::{Path, PathBuf};

use cni::config::kind_of;
use cni::json_slip::{self, JsonSlip};
use serde_json::{Map, Value};
use store::NodeDirectory;
use store::settings::{PrimarySource, Settings, SettingsError, given, is_absent, is_of_cni};

use super::Host;

/// What the plugin is told.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct PluginSettings {
    /// The keys of its configuration.
    pub(super) keys: Map<String, Value>,
    /// What they mean.
    pub(super) settings: Settings,
}

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub(super) enum PluginSettingsError {
    #[error("read the settings file {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error(
        "the settings file {path} is not JSON; write an object of settings, such as {{\"logLevel\": \"info\"}}"
    )]
    NotJson { path: PathBuf, source: JsonSlip },
    #[error(
        "the settings file {path} holds {found}; write an object of settings, such as {{\"logLevel\": \"info\"}}"
    )]
    NotAnObject { path: PathBuf, found: &'static str },
    #[error(
        "the settings file holds {key:?}, which is CNI's and no setting; remove it: Braid writes what is right"
    )]
    OfCni { key: String },
    #[error("setting {key:?} is Braid's own, for nodes that it leaves; remove it")]
    Leaving { key: &'static str },
    #[error(
        "setting {key:?} is {given}, but this program was started with {ours:?}; remove it, and use {flag}"
    )]
    Contradiction { key: &'static str, given: Value, ours: PathBuf, flag: &'static str },
    #[error("the settings cannot be used")]
    Setting(#[from] SettingsError),
}

/// Reads the settings file, if there is to be one.
pub(super) fn read(host: &Host, dir: &NodeDirectory) -> Result<PluginSettings, PluginSettingsError> {
    let given = host.settings.as_deref().map(read_file).transpose()?;
    complete(given.unwrap_or_default(), host, dir)
}

fn read_file(path: &Path) -> Result<Map<String, Value>, PluginSettingsError> {
    let text =
        std::fs::read(path).map_err(|source| PluginSettingsError::Read { path: path.to_owned(), source })?;
    match json_slip::from_slice(&text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(other) => Err(PluginSettingsError::NotAnObject { path: path.to_owned(), found: kind_of(&other) }),
        Err(source) => Err(PluginSettingsError::NotJson { path: path.to_owned(), source }),
    }
}

/// Adds to the given settings what the plugin would not find by itself: directories that are not the default
/// ones. Those that both must agree about may be given, but not otherwise than here.
fn complete(
    mut keys: Map<String, Value>,
    host: &Host,
    dir: &NodeDirectory,
) -> Result<PluginSettings, PluginSettingsError> {
    keys.retain(|_, value| !is_absent(value));
    if let Some(key) = keys.keys().find(|key| is_of_cni(key)) {
        return Err(PluginSettingsError::OfCni { key: key.clone() });
    }
    for key in ["retired", "cniConfDir"] {
        if given(&keys, key)?.is_some() {
            return Err(PluginSettingsError::Leaving { key });
        }
    }
    let unsaid = Settings::parse(&Map::new())?;
    for (key, ours, absent, flag) in [
        ("runDir", dir.run(), unsaid.directory.run(), "--run-dir"),
        ("stateDir", dir.state(), unsaid.directory.state(), "--state-dir"),
    ] {
        match given(&keys, key)? {
            Some(given) if given.as_str().map(Path::new) != Some(ours) => {
                let (given, ours) = (given.clone(), ours.to_owned());
                return Err(PluginSettingsError::Contradiction { key, given, ours, flag });
            }
            Some(_) => {}
            None => say(&mut keys, key, ours, absent)?,
        }
    }
    // Beside a primary that is named or given, the directory would be a contradiction.
    let searched =
        |given: &PrimarySource| matches!(given, PrimarySource::FirstIn(_) | PrimarySource::FileIn { .. });
    if let (PrimarySource::FirstIn(absent), true) =
        (&unsaid.primary, searched(&Settings::parse(&keys)?.primary))
    {
        say(&mut keys, "multusAutoconfigDir", &host.conf_dir, absent)?;
    }
    say(&mut keys, "binDir", &host.bin_dir, &unsaid.bin_dir)?;
    say(&mut keys, "cniConfDir", &host.conf_dir, &unsaid.cni_conf_dir)?;
    let settings = Settings::parse(&keys)?;
    Ok(PluginSettings { keys, settings })
}

/// Writes a directory down, unless it is the one that the plugin takes anyway, or another is given.
fn say(keys: &mut Map<String, Value>, key: &str, ours: &Path, absent: &Path) -> Result<(), SettingsError> {
    if ours != absent && given(keys, key)?.is_none() {
        keys.insert(key.to_owned(), ours.to_string_lossy().into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use cni::error::chain_text;
    use serde_json::json;

    use super::*;
    use crate::args::Install;

    fn host(conf_dir: &str, bin_dir: &str) -> Host {
        Host {
            conf_dir: conf_dir.into(),
            bin_dir: bin_dir.into(),
            plugin: "/meta-cni".into(),
            settings: None,
            what: Install::All,
        }
    }

    fn completed(given: Value, host: &Host, dir: &NodeDirectory) -> Result<Value, String> {
        let Value::Object(given) = given else { panic!("{given}") };
        complete(given, host, dir).map(|all| all.keys.into()).map_err(|error| chain_text(&error))
    }

    #[test]
    fn only_directories_that_are_not_the_default_ones_are_written_down() {
        let usual = host("/etc/cni/net.d", "/opt/cni/bin");
        let unusual = host("/var/lib/rancher/net.d", "/var/lib/rancher/bin");
        let elsewhere = NodeDirectory::new("/tmp/run", "/tmp/state");
        for (given, host, dir, expected) in [
            (json!({}), &usual, NodeDirectory::default(), json!({})),
            (json!({"logLevel": null}), &usual, NodeDirectory::default(), json!({})),
            (json!({"runDir": "", "binDir": " "}), &usual, NodeDirectory::default(), json!({})),
            (
                json!({"logLevel": "info", "vendor": 1}),
                &usual,
                NodeDirectory::default(),
                json!({"logLevel": "info", "vendor": 1}),
            ),
            (
                json!({"clusterNetwork": "a", "binDir": "/b"}),
                &unusual,
                NodeDirectory::default(),
                json!({"clusterNetwork": "a", "binDir": "/b", "cniConfDir": "/var/lib/rancher/net.d"}),
            ),
            (
                json!({"multusMasterCNI": "a.conf", "binDir": "/b"}),
                &unusual,
                NodeDirectory::default(),
                json!({
                    "multusMasterCNI": "a.conf", "multusAutoconfigDir": "/var/lib/rancher/net.d", "binDir": "/b",
                    "cniConfDir": "/var/lib/rancher/net.d",
                }),
            ),
            (
                json!({}),
                &unusual,
                elsewhere.clone(),
                json!({
                    "runDir": "/tmp/run", "stateDir": "/tmp/state",
                    "multusAutoconfigDir": "/var/lib/rancher/net.d", "binDir": "/var/lib/rancher/bin",
                    "cniConfDir": "/var/lib/rancher/net.d",
                }),
            ),
            (
                json!({"runDir": "/tmp/run", "binDir": "/b", "multusAutoconfigDir": "/c"}),
                &unusual,
                elsewhere,
                json!({
                    "runDir": "/tmp/run", "stateDir": "/tmp/state",
                    "multusAutoconfigDir": "/c", "binDir": "/b", "cniConfDir": "/var/lib/rancher/net.d",
                }),
            ),
        ] {
            assert_eq!(completed(given.clone(), host, &dir), Ok(expected), "{given}");
        }
    }

    #[test]
    fn keys_that_are_not_the_administrators_to_set_are_refused_with_a_reason() {
        let host = host("/etc/cni/net.d", "/opt/cni/bin");
        for (given, text) in [
            (json!({"type": "bridge"}), "\"type\", which is CNI's"),
            (json!({"capabilities": {}}), "\"capabilities\", which is CNI's"),
            (json!({"name": "x"}), "\"name\", which is CNI's"),
            (json!({"disableCheck": true}), "\"disableCheck\", which is CNI's"),
            (json!({"Retired": false}), "\"retired\" is Braid's own"),
            (json!({"Capabilities": {}}), "\"Capabilities\", which is CNI's"),
            (json!({"RunDir": "/elsewhere"}), "setting \"runDir\" is \"/elsewhere\", but this program"),
            (json!({"namespaceIsolaton": true}), "may be meant for \"namespaceIsolation\""),
            (json!({"retired": false}), "\"retired\" is Braid's own"),
            (json!({"cniConfDir": "/etc/cni/net.d"}), "\"cniConfDir\" is Braid's own"),
            (json!({"runDir": "/elsewhere"}), "setting \"runDir\" is \"/elsewhere\", but this program"),
            (json!({"stateDir": 1}), "setting \"stateDir\" is 1, but this program"),
            (json!({"logLevel": "loud"}), "setting \"logLevel\" is \"loud\", not one of"),
            (json!({"clusterNetwork": "a", "delegates": [{"name": "b", "type": "c"}]}), "contradicts"),
        ] {
            let error = completed(given.clone(), &host, &NodeDirectory::default()).unwrap_err();
            assert!(error.contains(text), "{given}: {error}");
        }
    }

    #[test]
    fn files_that_are_no_settings_say_what_they_are() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("settings.json");
        let host = Host { settings: Some(path.clone()), ..host("/etc/cni/net.d", "/opt/cni/bin") };
        let error = || chain_text(&read(&host, &NodeDirectory::default()).unwrap_err());
        assert!(error().starts_with("read the settings file"), "{}", error());
        for (text, expected) in [("{", "is not JSON"), ("[]", "holds an array")] {
            std::fs::write(&path, text).unwrap();
            assert!(error().contains(expected), "{}", error());
        }
        std::fs::write(&path, r#"{"logLevel": "info"}"#).unwrap();
        assert_eq!(read(&host, &NodeDirectory::default()).unwrap().keys["logLevel"], "info");
    }
}
