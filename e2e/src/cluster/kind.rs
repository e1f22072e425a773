//! A cluster that kind runs, for machines with Docker: a control plane and two workers, as `e2e/kind.yaml` says.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::provider::{Feature, Provider, Service};
use crate::home::Home;
use crate::program::{on_path, output, report};
use crate::{artefacts, image, source, wait};

/// How the directory of a cluster begins; the owner's process id follows.
const DIRECTORY: &str = "braid-kind.";

/// The link that joins the workers' second interfaces.
const LINK: &str = "data0";

/// What kind needs and this machine lacks.
pub(super) fn missing() -> Option<String> {
    let lacking = ["docker", "kind", "kubectl"].into_iter().find(|program| !on_path(program));
    if let Some(program) = lacking {
        return Some(format!("{program} is not installed"));
    }
    output(Command::new("docker").args(["info", "--format", "{{.ServerVersion}}"]))
        .err()
        .map(|_| "no Docker engine answers".to_owned())
}

/// A cluster that runs. Dropping it deletes it.
#[derive(Debug)]
pub(super) struct Kind {
    cluster: String,
    kubeconfig: PathBuf,
    nodes: Vec<String>,
    home: Home,
}

impl Kind {
    /// Creates it and brings what tests need to its nodes.
    pub(super) fn start() -> Result<Self> {
        clear_orphans();
        let home = Home::new(DIRECTORY)?;
        let cluster = format!("braid-e2e-{}", std::process::id());
        let kubeconfig = home.path().join("kubeconfig");
        let config = source("e2e/kind.yaml");
        let mut create = Command::new("kind");
        create.args(["create", "cluster", "--name", &cluster, "--wait", "180s", "--config"]).arg(&config);
        output(create.arg("--kubeconfig").arg(&kubeconfig)).context("creating a cluster with kind")?;
        let mut this = Self { cluster, kubeconfig, nodes: Vec::new(), home };
        let nodes = output(Command::new("kind").args(["get", "nodes", "--name", &this.cluster]))?;
        this.nodes = nodes.lines().filter(|node| node.contains("worker")).map(str::to_owned).collect();
        this.nodes.sort();
        ensure!(this.nodes.len() >= 2, "kind made the workers {:?} instead of two", this.nodes);
        let archive = this.home.path().join("test-image.tar");
        image::write_archive(&archive)?;
        this.load(&archive)?;
        for node in this.nodes.clone() {
            install_plugins(&node)?;
        }
        this.join_workers()?;
        Ok(this)
    }

    /// A veth pair between the first two workers, as their `data0`.
    fn join_workers(&self) -> Result<()> {
        let pid =
            |node: &str| output(Command::new("docker").args(["inspect", "--format", "{{.State.Pid}}", node]));
        let (one, other) = (pid(&self.nodes[0])?, pid(&self.nodes[1])?);
        let mut add = Command::new("ip");
        add.args(["link", "add", LINK, "netns", &one, "type", "veth", "peer", "name", LINK, "netns", &other]);
        output(&mut add).context("joining the workers; it needs root")?;
        for node in &self.nodes[..2] {
            output(self.on_node(node, "ip")?.args(["link", "set", LINK, "up"]))?;
        }
        Ok(())
    }
}

impl Provider for Kind {
    fn name(&self) -> &'static str {
        "kind"
    }

    fn nodes(&self) -> Vec<String> {
        self.nodes.clone()
    }

    fn has(&self, feature: Feature) -> bool {
        feature != Feature::ControlPlane
    }

    fn command(&self, program: &str) -> Result<Command> {
        let mut command = Command::new(program);
        command.env("KUBECONFIG", &self.kubeconfig);
        Ok(command)
    }

    fn on_node(&self, node: &str, program: &str) -> Result<Command> {
        let mut command = Command::new("docker");
        command.args(["exec", "--interactive", "--privileged", node, program]);
        Ok(command)
    }

    fn load(&self, archive: &Path) -> Result<()> {
        let mut load = Command::new("kind");
        load.args(["load", "image-archive", "--name", &self.cluster]).arg(archive);
        output(&mut load).map(drop).context("bringing an image to kind's nodes")
    }

    fn restart(&self, node: &str, service: Service) -> Result<()> {
        let unit = match service {
            Service::Kubelet => "kubelet",
            Service::Runtime => "containerd",
        };
        output(self.on_node(node, "systemctl")?.args(["restart", unit])).map(drop)
    }

    fn reboot(&self, node: &str) -> Result<()> {
        output(Command::new("docker").args(["kill", node])).context("killing a node")?;
        output(Command::new("docker").args(["start", node])).context("starting a node")?;
        wait::within(Duration::from_secs(60), "the node answers", || {
            Ok(output(self.on_node(node, "true")?.args::<[&str; 0], &str>([])).is_ok())
        })?;
        // The veth pair went with the node's namespace.
        self.join_workers()
    }

    fn directory(&self) -> &Path {
        self.home.path()
    }
}

impl Drop for Kind {
    fn drop(&mut self) {
        if let Err(error) = delete(&self.cluster) {
            report(&error);
        }
    }
}

/// kind's nodes have few of the reference plugins.
fn install_plugins(node: &str) -> Result<()> {
    let plugins = artefacts::reference_plugins().context("the reference plugins are not installed")?;
    let from = format!("{}/.", plugins.display());
    output(Command::new("docker").args(["cp", "--follow-link", &from, &format!("{node}:/opt/cni/bin/")]))
        .map(drop)
        .with_context(|| format!("copying the reference plugins to {node}"))
}

fn delete(cluster: &str) -> Result<()> {
    output(Command::new("kind").args(["delete", "cluster", "--name", cluster])).map(drop)
}

/// Deletes the clusters of runs that were killed.
fn clear_orphans() {
    let clusters = output(Command::new("kind").args(["get", "clusters"])).unwrap_or_default();
    for cluster in clusters.lines().filter(|name| crate::leftovers::is_orphan(name, "braid-e2e-")) {
        delete(cluster).unwrap_or_else(|error| report(&error));
    }
}
