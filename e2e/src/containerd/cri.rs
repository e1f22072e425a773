//! The messages of the Kubernetes container runtime interface (`runtime.v1`) that the tests use.
//!
//! Written by hand from the numbers in the published `api.proto`: fields that no test reads are left out, which
//! protobuf allows.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Result;
use prost::Message;

use super::grpc::Channel;

/// How long one call may take: several times what a sandbox needs on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// What identifies a pod.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Metadata {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) uid: String,
    #[prost(string, tag = "3")]
    pub(super) namespace: String,
}

/// A port of the node that leads to one of the pod. The protocol is TCP (0), UDP (1) or SCTP (2).
#[derive(Clone, PartialEq, Message)]
pub(super) struct PortMapping {
    #[prost(int32, tag = "1")]
    pub(super) protocol: i32,
    #[prost(int32, tag = "2")]
    pub(super) container_port: i32,
    #[prost(int32, tag = "3")]
    pub(super) host_port: i32,
}

/// What the kubelet asks of a sandbox.
#[derive(Clone, PartialEq, Message)]
pub(super) struct SandboxConfig {
    #[prost(message, optional, tag = "1")]
    pub(super) metadata: Option<Metadata>,
    #[prost(string, tag = "2")]
    pub(super) hostname: String,
    #[prost(message, repeated, tag = "5")]
    pub(super) port_mappings: Vec<PortMapping>,
    #[prost(map = "string, string", tag = "7")]
    pub(super) annotations: HashMap<String, String>,
    #[prost(message, optional, tag = "8")]
    pub(super) linux: Option<LinuxConfig>,
}

/// The part of a sandbox's configuration that only Linux has; empty here, but it has to be there.
#[derive(Clone, PartialEq, Message)]
pub(super) struct LinuxConfig {}

#[derive(Clone, PartialEq, Message)]
struct RunRequest {
    #[prost(message, optional, tag = "1")]
    config: Option<SandboxConfig>,
}

#[derive(Clone, PartialEq, Message)]
struct StatusRequest {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(bool, tag = "2")]
    verbose: bool,
}

/// The id of a sandbox: in a request, as the answer to `RunPodSandbox`, or before the rest of a listed sandbox.
#[derive(Clone, PartialEq, Message)]
struct SandboxId {
    #[prost(string, tag = "1")]
    id: String,
}

/// The answer to `PodSandboxStatus`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct SandboxStatusAnswer {
    #[prost(message, optional, tag = "1")]
    pub(super) status: Option<SandboxStatus>,
    /// The key `info` holds a JSON object of containerd's own making.
    #[prost(map = "string, string", tag = "2")]
    pub(super) info: HashMap<String, String>,
}

/// What the runtime says of a sandbox. The state is ready (0) or not ready (1).
#[derive(Clone, PartialEq, Message)]
pub(super) struct SandboxStatus {
    #[prost(int32, tag = "3")]
    pub(super) state: i32,
    #[prost(message, optional, tag = "5")]
    pub(super) network: Option<NetworkStatus>,
}

/// The addresses of a sandbox, the pod IP apart.
#[derive(Clone, PartialEq, Message)]
pub(super) struct NetworkStatus {
    #[prost(string, tag = "1")]
    pub(super) ip: String,
    #[prost(message, repeated, tag = "2")]
    pub(super) additional_ips: Vec<PodIp>,
}

/// One more address of a sandbox.
#[derive(Clone, PartialEq, Message)]
pub(super) struct PodIp {
    #[prost(string, tag = "1")]
    pub(super) ip: String,
}

/// The answer to `Status`.
#[derive(Clone, PartialEq, Message)]
struct StatusAnswer {
    #[prost(message, optional, tag = "1")]
    status: Option<Conditions>,
}

#[derive(Clone, PartialEq, Message)]
struct Conditions {
    #[prost(message, repeated, tag = "1")]
    conditions: Vec<Condition>,
}

/// Whether a part of the runtime is ready, and why not.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Condition {
    /// `RuntimeReady` or `NetworkReady`.
    #[prost(string, tag = "1")]
    pub(super) kind: String,
    #[prost(bool, tag = "2")]
    pub(super) holds: bool,
    #[prost(string, tag = "4")]
    pub(super) message: String,
}

/// The answer to `ListPodSandbox`.
#[derive(Clone, PartialEq, Message)]
struct SandboxList {
    #[prost(message, repeated, tag = "1")]
    items: Vec<SandboxId>,
}

#[derive(Clone, PartialEq, Message)]
struct ImageRequest {
    #[prost(message, optional, tag = "1")]
    image: Option<ImageName>,
}

#[derive(Clone, PartialEq, Message)]
struct ImageName {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct ImageAnswer {
    #[prost(message, optional, tag = "1")]
    image: Option<ImageName>,
}

/// The calls, on one runtime.
pub(super) struct Client(Channel);

impl Client {
    pub(super) fn new(channel: Channel) -> Self {
        Self(channel)
    }

    /// What the runtime says of itself.
    pub(super) fn conditions(&self) -> Result<Vec<Condition>> {
        let answer: StatusAnswer = self.runtime("Status", &())?;
        Ok(answer.status.unwrap_or_default().conditions)
    }

    /// Whether the CRI part of containerd knows an image, which is a moment after its import.
    pub(super) fn has_image(&self, name: &str) -> Result<bool> {
        let request = ImageRequest { image: Some(ImageName { name: name.to_owned() }) };
        let answer: ImageAnswer = self.0.call("/runtime.v1.ImageService/ImageStatus", &request, LIMIT)?;
        Ok(answer.image.is_some())
    }

    /// Starts a sandbox, its network included, and returns its id.
    pub(super) fn run(&self, config: SandboxConfig) -> Result<String> {
        let answer: SandboxId = self.runtime("RunPodSandbox", &RunRequest { config: Some(config) })?;
        Ok(answer.id)
    }

    pub(super) fn status(&self, id: &str) -> Result<SandboxStatusAnswer> {
        self.runtime("PodSandboxStatus", &StatusRequest { id: id.to_owned(), verbose: true })
    }

    /// Ends a sandbox and takes its network down.
    pub(super) fn stop(&self, id: &str) -> Result<()> {
        self.runtime("StopPodSandbox", &SandboxId { id: id.to_owned() })
    }

    pub(super) fn remove(&self, id: &str) -> Result<()> {
        self.runtime("RemovePodSandbox", &SandboxId { id: id.to_owned() })
    }

    /// The ids of all sandboxes, running or not.
    pub(super) fn list(&self) -> Result<Vec<String>> {
        let answer: SandboxList = self.runtime("ListPodSandbox", &())?;
        Ok(answer.items.into_iter().map(|item| item.id).collect())
    }

    fn runtime<Answer: Message + Default>(&self, method: &str, request: &impl Message) -> Result<Answer> {
        self.0.call(&format!("/runtime.v1.RuntimeService/{method}"), request, LIMIT)
    }
}
