//! Braid's custom resources as Rust types; the YAML files beside this package are made from them.
//!
//! | resource | see |
//! |---|---|
//! | NetworkAttachmentDefinition, of the multi-network standard | [`nad`] |
//! | NodeReport, what a node tells the API server | [`node_report`] |
//!
//! The types are the source: a test compares the YAML with them, and writes it anew when it is run with
//! `BRAID_WRITE_YAML=1`.

pub mod nad;
pub mod node_report;

pub use nad::{
    NetworkAttachmentDefinition, NetworkAttachmentDefinitionSpec, NetworkAttachmentDefinitionStatus,
};
pub use node_report::{NodeReport, ReportContent};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

/// Every definition that Braid installs.
pub fn definitions() -> Vec<CustomResourceDefinition> {
    vec![NetworkAttachmentDefinition::crd(), NodeReport::crd()]
}

/// The YAML file of a definition, beside Cargo.toml: `kubectl apply -f crds/` installs all of them.
pub fn file_name(definition: &CustomResourceDefinition) -> String {
    format!("{}_{}.yaml", definition.spec.group, definition.spec.names.plural)
}
