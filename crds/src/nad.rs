//! NetworkAttachmentDefinition (NAD): a CNI configuration as an object of the API server.
//!
//! The type belongs to the Network Plumbing Working Group, not to Braid: every object that the published
//! definition accepts is accepted here, and the other way round. So `spec` and `spec.config` may be missing,
//! neither is nullable, and nothing is said about what the text holds.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `apiVersion` of a NetworkAttachmentDefinition.
pub const API_VERSION: &str = "k8s.cni.cncf.io/v1";
/// `kind` of a NetworkAttachmentDefinition.
pub const KIND: &str = "NetworkAttachmentDefinition";

/// What a NetworkAttachmentDefinition has beside its metadata; flattened, because `spec` may be missing.
#[derive(Debug, Clone, Default, PartialEq, Eq, CustomResource, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "k8s.cni.cncf.io",
    version = "v1",
    kind = "NetworkAttachmentDefinition",
    plural = "network-attachment-definitions",
    singular = "network-attachment-definition",
    shortname = "net-attach-def",
    shortname = "nad",
    namespaced,
    no_spec,
    derive = "Default",
    derive = "PartialEq",
    doc = "A network that pods can ask for in addition to their primary one: a CNI configuration, or the name \
           of one on the node. Of the Kubernetes Network Plumbing Working Group's multi-network standard."
)]
pub struct NetworkAttachmentDefinitionBody {
    /// What the network is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "NetworkAttachmentDefinitionSpec")]
    pub spec: Option<NetworkAttachmentDefinitionSpec>,
}

/// What a network is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NetworkAttachmentDefinitionSpec {
    /// A CNI configuration (one plugin, or a list) as JSON text. Left out, the configuration is on the node,
    /// under the name of this object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub config: Option<String>,
}

impl NetworkAttachmentDefinition {
    /// The text of `spec.config`; empty where there is none.
    pub fn config(&self) -> &str {
        self.spec.spec.as_ref().and_then(|spec| spec.config.as_deref()).unwrap_or_default()
    }

    /// The value of an annotation.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.metadata.annotations.as_ref()?.get(key).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use kube::Resource;
    use serde_json::{Value, json};

    use super::*;

    fn nad(spec: Value) -> Value {
        let mut object = json!({"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": "a"}});
        if !spec.is_null() {
            object["spec"] = spec;
        }
        object
    }

    #[test]
    fn every_shape_that_the_published_definition_accepts_is_read_and_written_back() {
        for (spec, config) in [
            (Value::Null, ""),
            (json!({}), ""),
            (json!({"config": ""}), ""),
            (json!({"config": "{\"type\": \"bridge\"}"}), "{\"type\": \"bridge\"}"),
        ] {
            let object = nad(spec);
            let read: NetworkAttachmentDefinition = serde_json::from_value(object.clone()).unwrap();
            assert_eq!(read.config(), config, "{object}");
            assert_eq!(serde_json::to_value(&read).unwrap(), object);
        }
    }

    #[test]
    fn fields_of_others_do_not_hinder_reading() {
        let mut object = nad(json!({"config": "x", "vendor": [1]}));
        object["status"] = json!({"conditions": []});
        object["extra"] = json!(1);
        let read: NetworkAttachmentDefinition = serde_json::from_value(object).unwrap();
        assert_eq!(read.config(), "x");
    }

    #[test]
    fn a_null_reads_as_absent_and_another_kind_is_refused() {
        let read: NetworkAttachmentDefinition = serde_json::from_value(nad(json!({"config": null}))).unwrap();
        assert_eq!(read.config(), "");
        for spec in [json!("x"), json!(5), json!({"config": {}}), json!({"config": 5})] {
            assert!(
                serde_json::from_value::<NetworkAttachmentDefinition>(nad(spec.clone())).is_err(),
                "{spec}"
            );
        }
    }

    #[test]
    fn names_are_those_of_the_standard() {
        assert_eq!(NetworkAttachmentDefinition::api_version(&()), API_VERSION);
        assert_eq!(NetworkAttachmentDefinition::kind(&()), KIND);
        assert_eq!(NetworkAttachmentDefinition::plural(&()), "network-attachment-definitions");
    }
}
