//! NodeReport: what a node tells the API server about its networks; one per node, with the node's name.
//!
//! The node role writes it by server-side apply, only when something but the time has changed. Maps and lists
//! are atomic: one writer owns the whole, and the API server keeps no bookkeeping for each entry. The content is
//! no `status` subresource, so that one write makes the object and fills it.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The group of Braid's own resources.
pub const GROUP: &str = "braid.dev";

/// What a NodeReport has beside its metadata.
#[derive(Debug, Clone, Default, PartialEq, CustomResource, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "braid.dev",
    version = "v1alpha1",
    kind = "NodeReport",
    plural = "nodereports",
    singular = "nodereport",
    no_spec,
    derive = "Default",
    derive = "PartialEq",
    printcolumn = r#"{"name": "Ready", "type": "string", "jsonPath": ".report.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name": "Primary", "type": "string", "jsonPath": ".report.primary.name"}"#,
    printcolumn = r#"{"name": "Pods", "type": "integer", "jsonPath": ".report.attachments.pods"}"#,
    printcolumn = r#"{"name": "Unfinished", "type": "integer", "jsonPath": ".report.attachments.unfinished"}"#,
    printcolumn = r#"{"name": "Version", "type": "string", "jsonPath": ".report.version"}"#,
    printcolumn = r#"{"name": "Reason", "type": "string", "priority": 1, "jsonPath": ".report.conditions[?(@.type==\"Ready\")].message"}"#,
    doc = "What a node tells about its additional networks. Written by Braid; changes by others are overwritten."
)]
pub struct NodeReportBody {
    /// What the node tells.
    #[serde(default)]
    pub report: ReportContent,
}

/// The condition of a node on which pods can be attached.
pub const READY: &str = "Ready";

/// What a node tells.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReportContent {
    /// The version of Braid on the node.
    // API servers take a default of "" for null; what is not written when empty has no default.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// The boot of the node's kernel that this is about, as in the Node's `status.nodeInfo.bootID`.
    #[serde(default, rename = "bootID", skip_serializing_if = "String::is_empty")]
    pub boot_id: String,
    /// When the node's networks were last compared in full with the API server's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Time")]
    pub last_complete_sync: Option<Time>,
    /// `Ready`: pods can be attached on the node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// The network behind `eth0`; absent while the node has none.
    // Atomic, so that a server-side apply without it takes it away: API servers of 1.20 at least leave `null` where
    // they take an object's fields away one by one, and then refuse that `null`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "PrimaryReport", extend("x-kubernetes-map-type" = "atomic"))]
    pub primary: Option<PrimaryReport>,
    /// The networks that pods can use: `namespace/name`, and the generation that the node has.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("x-kubernetes-map-type" = "atomic"))]
    pub networks: BTreeMap<String, i64>,
    /// The networks that the node cannot use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub refused: Vec<RefusedNetwork>,
    /// What runs on the node.
    #[serde(default)]
    pub attachments: AttachmentCounts,
    /// Containers of which something could not be undone yet, those first that have failed for the longest time; at
    /// most ten.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub detach_failures: Vec<DetachFailure>,
}

impl ReportContent {
    /// Whether it says that pods can be attached on the node.
    pub fn is_ready(&self) -> bool {
        self.conditions.iter().any(|condition| condition.type_ == READY && condition.status == "True")
    }
}

/// The network behind `eth0`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PrimaryReport {
    /// Its name.
    pub name: String,
    /// The file of its configuration on the node.
    pub file: String,
    /// Its plugins, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plugins: Vec<String>,
}

/// A network that a node cannot use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RefusedNetwork {
    /// `namespace/name`.
    pub network: String,
    /// The generation that was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "i64")]
    pub generation: Option<i64>,
    /// One word: `Invalid`, `Undecodable`.
    pub reason: String,
    /// What is wrong, for people.
    pub message: String,
}

/// A container of which something could not be undone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DetachFailure {
    /// The file of its record, below `attachments` of the node's state directory.
    pub record: String,
    /// `namespace/name` of its pod, where the runtime named one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub pod: Option<String>,
    /// When it failed first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Time")]
    pub since: Option<Time>,
    /// How often it has failed.
    pub attempts: u32,
    /// What the plugins said, and what to do, for people.
    pub message: String,
}

/// What runs on a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AttachmentCounts {
    /// Pods that Braid has attached.
    #[serde(default)]
    pub pods: i64,
    /// For each network `namespace/name`: how many pods are attached to it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("x-kubernetes-map-type" = "atomic"))]
    pub networks: BTreeMap<String, i64>,
    /// Containers of which something could not be undone yet.
    #[serde(default)]
    pub unfinished: i64,
    /// Containers whose pod is gone for good; the next run of the plugin undoes them.
    #[serde(default)]
    pub abandoned: i64,
}
