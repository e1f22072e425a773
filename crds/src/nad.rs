//! NetworkAttachmentDefinition (NAD): a CNI configuration as an object of the API server.
//!
//! The type belongs to the Network Plumbing Working Group, not to Braid: every object that the published
//! definition accepts is accepted here, and the other way round. So `spec` and `spec.config` may be missing,
//! neither is nullable, and nothing is said about what the text holds.
//!
//! Braid adds `status`, a subresource that only its controller writes. Where somebody else has installed the
//! definition without it, everything works but the status.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};

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
    status = "NetworkAttachmentDefinitionStatus",
    printcolumn = r#"{"name": "Accepted", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Accepted\")].status", "description": "Whether Braid can use the network"}"#,
    printcolumn = r#"{"name": "Nodes", "type": "integer", "jsonPath": ".status.nodes.ready", "description": "Nodes that have the network in its present form"}"#,
    printcolumn = r#"{"name": "Pods", "type": "integer", "jsonPath": ".status.pods", "description": "Pods that are attached to the network"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#,
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

/// The condition of a network that Braid can use, or not, with the reason.
pub const ACCEPTED: &str = "Accepted";
/// The condition of a network that every node has in its present form.
pub const RENDERED: &str = "Rendered";

/// What Braid's controller says of a network. A field that somebody else has filled in his own way reads as
/// absent: a network is not lost for its status.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NetworkAttachmentDefinitionStatus {
    /// The generation that all of this is about.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64")]
    pub observed_generation: Option<i64>,
    /// `Accepted`: Braid can use the network. `Rendered`: every node that reports has it in its present form.
    #[serde(default, deserialize_with = "lenient", skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// How many nodes have the network.
    #[serde(default, deserialize_with = "lenient")]
    pub nodes: NodeCounts,
    /// How many pods are attached to the network.
    #[serde(default, deserialize_with = "lenient")]
    pub pods: i64,
}

/// On how many nodes a network is, and how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NodeCounts {
    /// Nodes that have it in its present form.
    #[serde(default)]
    pub ready: i64,
    /// Nodes that refuse it in its present form.
    #[serde(default)]
    pub refused: i64,
    /// Nodes that report to Braid.
    #[serde(default)]
    pub total: i64,
}

fn lenient<'de, D: Deserializer<'de>, T: Default + DeserializeOwned>(from: D) -> Result<T, D::Error> {
    let value = serde_json::Value::deserialize(from)?;
    Ok(serde_json::from_value(value).unwrap_or_default())
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
        object["status"] = json!({"conditions": [{"kind": "theirs"}], "pods": "many", "nodes": [], "x": 1});
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
