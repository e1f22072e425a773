//! A cluster that is there already: that of `KUBECONFIG`. Nothing is done to its nodes, and the images have to be
//! where its nodes can pull them.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::provider::{Feature, Provider, Service};
use crate::home::Home;
use crate::program::{on_path, output};

/// How the directory of a run begins; the owner's process id follows.
const DIRECTORY: &str = "braid-existing.";

/// What it needs and this machine lacks.
pub(super) fn missing() -> Option<String> {
    if !on_path("kubectl") {
        return Some("kubectl is not installed".to_owned());
    }
    ["KUBECONFIG", "BRAID_IMAGE", "BRAID_E2E_IMAGE"].into_iter().find(|name| std::env::var_os(name).is_none()).map(
        |name| format!("{name} is not set: it needs KUBECONFIG, and the names of Braid's image and of one with busybox that the nodes can pull"),
    )
}

/// Somebody else's cluster.
#[derive(Debug)]
pub(super) struct Existing {
    nodes: Vec<String>,
    home: Home,
}

impl Existing {
    /// Looks at it.
    pub(super) fn start() -> Result<Self> {
        let nodes = output(Command::new("kubectl").args(["get", "nodes", "-o", "json"]))
            .context("asking the cluster of KUBECONFIG for its nodes")?;
        let nodes = usable(&serde_json::from_str(&nodes).context("reading its nodes")?);
        ensure!(!nodes.is_empty(), "the cluster of KUBECONFIG has no node on which any pod may run");
        Ok(Self { nodes, home: Home::new(DIRECTORY)? })
    }
}

/// The nodes without taints.
fn usable(nodes: &Value) -> Vec<String> {
    let nodes = nodes["items"].as_array().into_iter().flatten();
    let free = nodes.filter(|node| node["spec"]["taints"].as_array().is_none_or(Vec::is_empty));
    free.filter_map(|node| node["metadata"]["name"].as_str().map(str::to_owned)).collect()
}

impl Provider for Existing {
    fn name(&self) -> &'static str {
        "kubeconfig"
    }

    fn nodes(&self) -> Vec<String> {
        self.nodes.clone()
    }

    fn has(&self, _: Feature) -> bool {
        false
    }

    fn command(&self, program: &str) -> Result<Command> {
        Ok(Command::new(program))
    }

    fn on_node(&self, node: &str, _: &str) -> Result<Command> {
        bail!("programs cannot be run on {node}: it is somebody else's")
    }

    fn load(&self, _: &Path) -> Result<()> {
        Ok(())
    }

    fn restart(&self, node: &str, _: Service) -> Result<()> {
        bail!("nothing is restarted on {node}: it is somebody else's")
    }

    fn reboot(&self, node: &str) -> Result<()> {
        bail!("{node} is not rebooted: it is somebody else's")
    }

    fn directory(&self) -> &Path {
        self.home.path()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tainted_nodes_are_left_alone() {
        let nodes = json!({ "items": [
            { "metadata": { "name": "a" }, "spec": {} },
            { "metadata": { "name": "b" }, "spec": { "taints": [{ "key": "x", "effect": "NoSchedule" }] } },
        ] });
        assert_eq!(usable(&nodes), ["a"]);
    }
}
