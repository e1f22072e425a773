//! The multi-network standard of the Kubernetes Network Plumbing Working Group: what a pod's annotations ask
//! for, which networks it may use, and what it got.
//!
//! | to | see |
//! |---|---|
//! | read what a pod asks for | [`selection`] |
//! | keep pods to the networks of their namespace | [`isolation`] |
//! | write what a pod got | [`network_status`] |
//! | name networks safely | [`names`] |
//!
//! Everything here is pure: texts and results in, values out.

pub mod isolation;
pub mod names;
pub mod network_status;
pub mod selection;

pub use isolation::{Isolation, IsolationError};
pub use names::{NameError, Namespace, NetworkRef, ObjectName};
pub use network_status::NetworkStatus;
pub use selection::{Selection, SelectionError, parse_default_network, parse_selections};

/// On a pod: the networks that it asks for beside its primary one.
pub const NETWORKS: &str = "k8s.v1.cni.cncf.io/networks";
/// On a pod: the network that takes the place of the cluster's primary one.
pub const DEFAULT_NETWORK: &str = "v1.multus-cni.io/default-network";
/// On a pod: what it got, written by us.
pub const NETWORK_STATUS: &str = "k8s.v1.cni.cncf.io/network-status";
/// On a pod: where the kubelet has it from. Any other value than `api` means a static pod.
pub const CONFIG_SOURCE: &str = "kubernetes.io/config.source";
/// On a NetworkAttachmentDefinition: the device plugin's resource that its attachments take a device of.
pub const RESOURCE_NAME: &str = "k8s.v1.cni.cncf.io/resourceName";
