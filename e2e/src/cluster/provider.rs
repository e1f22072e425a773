//! Where a cluster comes from, and what can be done with it beside talking to its API server.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::parts::Part;

/// Something that not every cluster lets a scenario do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feature {
    /// Run programs on the nodes, as root.
    Nodes,
    /// Restart the kubelet and the container runtime, reboot nodes.
    Power,
    /// Stop and start the API server.
    ControlPlane,
    /// The link `data0` that joins the nodes, for what pods attach to.
    DataLink,
    /// Servers of Kubernetes 1.x or later; x.
    Since(u32),
    /// Pods with a user namespace of their own.
    UserNamespaces,
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nodes => "running programs on its nodes",
            Self::Power => "restarting its nodes",
            Self::ControlPlane => "stopping its API server",
            Self::DataLink => "a second link between its nodes",
            Self::Since(minor) => return write!(f, "Kubernetes 1.{minor} or later"),
            Self::UserNamespaces => "pods with a user namespace",
        })
    }
}

/// A service of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// The kubelet.
    Kubelet,
    /// containerd.
    Runtime,
}

/// A running cluster.
pub(crate) trait Provider: fmt::Debug + Send + Sync {
    /// What it is called on the command line.
    fn name(&self) -> &'static str;

    /// The names of the nodes on which pods may run.
    fn nodes(&self) -> Vec<String>;

    /// Whether it lets scenarios do something.
    fn has(&self, feature: Feature) -> bool;

    /// A program that talks to the API server, such as kubectl, with `KUBECONFIG` set.
    fn command(&self, program: &str) -> Result<Command>;

    /// A program that runs on a node.
    fn on_node(&self, node: &str, program: &str) -> Result<Command>;

    /// Brings the images of an archive to every node.
    fn load(&self, archive: &Path) -> Result<()>;

    /// Restarts a service of a node.
    fn restart(&self, node: &str, service: Service) -> Result<()>;

    /// Kills everything on a node and starts it again, as after a power cut.
    fn reboot(&self, node: &str) -> Result<()>;

    /// Stops the API server.
    fn stop_api_server(&self) -> Result<()> {
        bail!("the API server of a cluster of {} cannot be stopped", self.name())
    }

    /// Starts the API server again and waits until it answers.
    fn start_api_server(&self) -> Result<()> {
        bail!("the API server of a cluster of {} cannot be started", self.name())
    }

    /// The logs of the cluster's own programs.
    fn logs(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    /// The parts that only the one who started them knows; those that a node tells of itself apart.
    fn parts(&self) -> Vec<Part> {
        Vec::new()
    }

    /// Where the suite may put files.
    fn directory(&self) -> &Path;
}
