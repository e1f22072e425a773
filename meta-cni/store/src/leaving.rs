//! Leaving a node: the runtime's configuration stays, *retired*, as long as records of attachments do.
//!
//! Runtimes call DEL with the configuration of today. Without ours they would undo the primary alone, and the addresses
//! of other networks would stay allocated for ever. So the node role, when Braid is taken away, only marks the
//! configuration as retired while there are records: `meta-cni` then hands new containers to the configuration that
//! comes next, undoes its own from their records, and removes the file after the last of them.

use std::path::Path;
use std::time::Duration;

use cni::config::kind_of;
use cni::json_slip::{self, JsonSlip};
use serde_json::{Map, Value};

use crate::lock::Lock;
use crate::record;
use crate::settings::{Settings, given, take_out};
use crate::{NodeDirectory, StoreError, atomic};

/// The name of our configuration's file. The runtime takes the first configuration by name; those of networks begin
/// with 10 or more.
pub const FILE: &str = "00-braid.conflist";

/// The type of our plugin in it.
const PLUGIN: &str = "meta-cni";

/// How long another process at the configuration is waited for; it writes or removes one small file.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// Why a configuration cannot be retired.
#[derive(Debug, thiserror::Error)]
pub enum RetireError {
    /// Not JSON.
    #[error("it is not JSON")]
    NotJson(#[source] JsonSlip),
    /// Not a configuration of ours.
    #[error("it has no plugin of type {PLUGIN:?}, but is {0}")]
    NotOurs(&'static str),
}

/// The configuration with our plugin marked as retired, for the directory that it is in.
pub fn retired(text: &[u8], conf_dir: &Path) -> Result<String, RetireError> {
    let mut json: Value = json_slip::from_slice(text).map_err(RetireError::NotJson)?;
    let found = kind_of(&json);
    let plugin = our_plugin(&mut json).ok_or(RetireError::NotOurs(found))?;
    // Two spellings of one setting would contradict each other.
    take_out(plugin, "retired");
    plugin.insert("retired".to_owned(), true.into());
    if conf_dir != Path::new(Settings::CNI_CONF_DIR) {
        take_out(plugin, "cniConfDir");
        plugin.insert("cniConfDir".to_owned(), conf_dir.to_string_lossy().into());
    }
    Ok(format!("{json:#}\n"))
}

/// Whether a configuration is ours and retired.
pub fn is_retired(text: &[u8]) -> bool {
    let json = serde_json::from_slice::<Value>(text);
    json.is_ok_and(|mut json| {
        our_plugin(&mut json).is_some_and(|plugin| given(plugin, "retired") == Ok(Some(&Value::Bool(true))))
    })
}

fn our_plugin(json: &mut Value) -> Option<&mut Map<String, Value>> {
    let plugins = json.get_mut("plugins")?.as_array_mut()?;
    let mut objects = plugins.iter_mut().filter_map(Value::as_object_mut);
    objects.find(|plugin| plugin.get("type").and_then(Value::as_str) == Some(PLUGIN))
}

/// Removes the retired configuration once no record has an attachment to undo; whether it did.
///
/// *Guarantees*: a configuration that is not retired, since the node role has come back, stays: whoever writes it holds
/// the same lock. Waits for nobody: while an ADD or DEL runs, or somebody is at the file, it is left to the next call.
pub fn remove_when_done(dir: &NodeDirectory, conf_dir: &Path) -> Result<bool, StoreError> {
    let path = conf_dir.join(FILE);
    let is_retired = || std::fs::read(&path).is_ok_and(|text| is_retired(&text));
    // Nearly always it is not: so that comes first.
    if !is_retired() || record::any_to_undo(dir)? {
        return Ok(false);
    }
    let Some(_alone) = Lock::against_attachments_if_free(dir)? else { return Ok(false) };
    let Some(_only) = Lock::of_configuration_if_free(dir)? else { return Ok(false) };
    // Looked at again: others wrote both until we had the locks.
    if !is_retired() || record::any_to_undo(dir)? {
        return Ok(false);
    }
    atomic::remove(&path)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ours() -> Value {
        json!({"cniVersion": "1.0.0", "name": "braid", "plugins": [{"type": "meta-cni", "logLevel": "info"}]})
    }

    #[test]
    fn a_retired_configuration_keeps_its_settings_and_says_where_it_is() {
        let text = retired(ours().to_string().as_bytes(), Path::new("/etc/cni/net.d")).unwrap();
        let mut expected = ours();
        expected["plugins"][0]["retired"] = true.into();
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), expected);
        assert!(is_retired(text.as_bytes()));
        let text = retired(text.as_bytes(), Path::new("/var/net.d")).unwrap();
        expected["plugins"][0]["cniConfDir"] = "/var/net.d".into();
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), expected);
    }

    #[test]
    fn only_what_is_ours_can_be_retired() {
        for text in ["", "{", "[]", "{}", r#"{"plugins":{}}"#, r#"{"plugins":[{"type":"bridge"}]}"#] {
            assert!(retired(text.as_bytes(), Path::new("/")).is_err(), "{text}");
            assert!(!is_retired(text.as_bytes()), "{text}");
        }
        assert!(!is_retired(ours().to_string().as_bytes()));
    }

    #[test]
    fn the_file_goes_only_if_it_is_retired_and_nobody_is_at_it_or_at_a_container() {
        let temp = tempfile::tempdir().unwrap();
        let dir = NodeDirectory::new(temp.path().join("run"), temp.path().join("state"));
        let file = temp.path().join(FILE);
        assert!(!remove_when_done(&dir, temp.path()).unwrap(), "there is none");
        std::fs::write(&file, ours().to_string()).unwrap();
        assert!(!remove_when_done(&dir, temp.path()).unwrap(), "it is in use");
        std::fs::write(&file, retired(ours().to_string().as_bytes(), temp.path()).unwrap()).unwrap();
        let held = Lock::of_configuration(&dir, Duration::ZERO).unwrap();
        assert!(!remove_when_done(&dir, temp.path()).unwrap(), "the node role is at it");
        drop(held);
        let held = Lock::shared_with_attachments(&dir, Duration::ZERO).unwrap();
        assert!(!remove_when_done(&dir, temp.path()).unwrap(), "an ADD runs");
        drop(held);
        let damaged = dir.records().join("c1");
        std::fs::create_dir_all(dir.records()).unwrap();
        std::fs::write(&damaged, "{").unwrap();
        assert!(
            !remove_when_done(&dir, temp.path()).unwrap(),
            "a record that cannot be read may hold something"
        );
        std::fs::remove_file(damaged).unwrap();
        assert!(remove_when_done(&dir, temp.path()).unwrap());
        assert!(!file.exists());
    }
}
