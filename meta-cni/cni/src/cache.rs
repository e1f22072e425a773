//! What libcni wrote down of an attachment, as `<directory>/<network>-<container id>-<interface>` holds it. Pure.
//!
//! It is a help and nothing to rely on: whoever undoes an attachment does without what cannot be read.

use serde::Deserialize;
use serde_json::Value;

use crate::args::CniArgs;
use crate::config::CapabilityArgs;
use crate::ids::{ContainerId, IfName, NetworkName};
use crate::result::AddResult;
use crate::version::SpecVersion;

/// What is known of an attachment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cached {
    /// CNI_ARGS of its ADD.
    pub args: CniArgs,
    /// What was asked of plugins that declare it.
    pub capabilities: CapabilityArgs,
    /// What ADD returned.
    pub result: Option<AddResult>,
}

/// The file's name. None of its parts holds a separator of paths.
pub fn file_name(network: &NetworkName, container_id: &ContainerId, if_name: &IfName) -> String {
    format!("{network}-{container_id}-{if_name}")
}

/// Reads the file's text. Before libcni 0.8 it was the bare result. A result without a version has that of its list.
pub fn parse(text: &[u8], list_version: SpecVersion) -> Option<Cached> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct File {
        kind: String,
        #[serde(default)]
        cni_args: Value,
        #[serde(default)]
        capability_args: Value,
        #[serde(default)]
        result: Value,
    }
    let json: Value = serde_json::from_slice(text).ok()?;
    let result = |json: Value| {
        let given = Some(json).filter(|json| !json.is_null());
        given.and_then(|json| AddResult::parse(json, list_version).ok())
    };
    match File::deserialize(&json) {
        Ok(file) if file.kind == "cniCacheV1" => Some(Cached {
            args: args(&file.cni_args),
            capabilities: file.capability_args.as_object().cloned().unwrap_or_default(),
            result: result(file.result),
        }),
        _ => Some(Cached { result: Some(result(json)?), ..Cached::default() }),
    }
}

/// An array of pairs.
fn args(json: &Value) -> CniArgs {
    let mut args = CniArgs::default();
    let pairs = Vec::<(String, String)>::deserialize(json).unwrap_or_default();
    for (key, value) in pairs.iter().filter(|(key, _)| !key.is_empty()) {
        args.set(key, value.as_str());
    }
    args
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(json: Value) -> Option<Cached> {
        parse(json.to_string().as_bytes(), SpecVersion::V0_3_1)
    }

    #[test]
    fn a_file_of_today_holds_arguments_capabilities_and_result() {
        let cached = read(json!({
            "kind": "cniCacheV1", "containerId": "c1", "config": "e30=", "ifName": "net1", "networkName": "n",
            "cniArgs": [["K8S_POD_NAME", "web"], ["K8S_POD_NAMESPACE", "default"]],
            "capabilityArgs": {"mac": "02:00:00:00:00:01"},
            "result": {"cniVersion": "1.0.0", "ips": [{"address": "10.0.0.2/24"}]},
        }))
        .unwrap();
        assert_eq!(cached.args.to_string(), "K8S_POD_NAME=web;K8S_POD_NAMESPACE=default");
        assert_eq!(cached.capabilities["mac"], "02:00:00:00:00:01");
        assert_eq!(cached.result.unwrap().ips[0].address.to_string(), "10.0.0.2/24");
    }

    #[test]
    fn parts_that_cannot_be_read_are_done_without() {
        let odd = json!({"kind": "cniCacheV1", "cniArgs": [["a"]], "capabilityArgs": 1, "result": []});
        assert_eq!(read(odd), Some(Cached::default()));
        assert_eq!(read(json!({"kind": "cniCacheV1", "cniArgs": null})), Some(Cached::default()));
        assert_eq!(parse(b"{", SpecVersion::V1_0_0), None);
        assert_eq!(read(json!([])), None);
    }

    #[test]
    fn an_old_file_is_the_bare_result() {
        let cached = read(json!({"ips": [{"version": "4", "address": "10.0.0.2/24"}]})).unwrap();
        assert_eq!(cached.result.unwrap().ips.len(), 1);
    }
}
