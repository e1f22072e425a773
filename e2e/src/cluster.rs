//! A whole cluster: nodes with kubelets and container runtimes, and what a person does to it: kubectl, helm, and a shell
//! on a node.
//!
//! Where it comes from is told by `BRAID_E2E_PROVIDER` (`local`, `kind` or `kubeconfig`); without it the machine's best
//! is taken. A `kubeconfig` is never taken by itself: scenarios are not gentle.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::parts::Part;
use crate::program::{output, output_from, output_of};
use crate::version::Version;
use crate::{artefacts, image, source, wait};
use provider::Provider;

pub use provider::{Feature, Service};

mod existing;
mod kind;
mod local;
mod provider;

/// The namespace of Braid.
pub const NAMESPACE: &str = "braid-system";

/// The name of Braid's image on the nodes, and its tag.
const IMAGE: &str = "braid";
const TAG: &str = "0.1.0";

/// The tag under which the same image is there once more, for upgrades.
pub const NEXT_TAG: &str = "0.1.0-next";

/// What is tried when nothing is told, in this order.
const ORDER: [&str; 2] = ["local", "kind"];

/// Which provider a run takes, or why there is none.
pub fn choose() -> Result<&'static str> {
    let wanted = std::env::var("BRAID_E2E_PROVIDER").unwrap_or_default();
    if !wanted.is_empty() {
        let known = ["local", "kind", "kubeconfig"].into_iter().find(|name| *name == wanted);
        let known = known.with_context(|| {
            format!("BRAID_E2E_PROVIDER is {wanted:?}: it is one of local, kind and kubeconfig")
        })?;
        return missing(known).map_or(Ok(known), |why| bail!("the provider {known} cannot run here: {why}"));
    }
    let mut reasons = Vec::new();
    for name in ORDER {
        match missing(name) {
            None => return Ok(name),
            Some(why) => reasons.push(format!("{name}: {why}")),
        }
    }
    bail!("no cluster can be had here ({})", reasons.join("; "))
}

/// What a provider needs and this machine lacks.
fn missing(provider: &str) -> Option<String> {
    match provider {
        "local" => local::missing(),
        "kind" => kind::missing(),
        _ => existing::missing(),
    }
}

/// A running cluster. Dropping it takes away what was made for it.
#[derive(Debug)]
pub struct Cluster {
    provider: Box<dyn Provider>,
}

impl Cluster {
    /// Starts the cluster of a provider, with the test image on its nodes.
    pub fn start(provider: &str) -> Result<Self> {
        let provider: Box<dyn Provider> = match provider {
            "local" => Box::new(local::Local::start()?),
            "kind" => Box::new(kind::Kind::start()?),
            _ => Box::new(existing::Existing::start()?),
        };
        Ok(Self { provider })
    }

    /// The provider's name.
    pub fn provider(&self) -> &'static str {
        self.provider.name()
    }

    /// The nodes on which pods may run.
    pub fn nodes(&self) -> Vec<String> {
        self.provider.nodes()
    }

    /// Whether scenarios may do something here.
    pub fn has(&self, feature: Feature) -> bool {
        self.provider.has(feature)
    }

    /// Why scenarios may not do something here, if they may not.
    pub fn lacks(&self, feature: Feature) -> Result<Option<String>> {
        let lacking = match feature {
            Feature::Since(minor) => {
                let version = self.oldest_version()?;
                (version < Version::new(1, minor))
                    .then(|| format!("it needs {feature}, and {version} is here"))
            }
            Feature::UserNamespaces => {
                let has = |node: &Value| {
                    let mut handlers = node["status"]["runtimeHandlers"].as_array().into_iter().flatten();
                    // The one without a name runs pods that name none.
                    let default = handlers.find(|handler| handler["name"].as_str().is_none_or(str::is_empty));
                    default.is_some_and(|handler| handler["features"]["userNamespaces"] == true)
                };
                let all = self.list("nodes", "", "")?.iter().all(has);
                (!all).then(|| format!("a runtime of the nodes does not say that it has {feature}"))
            }
            _ => {
                let has = self.provider.has(feature);
                (!has).then(|| format!("a cluster of {} does not allow {feature}", self.provider()))
            }
        };
        Ok(lacking)
    }

    /// That of the API server, or of the kubelet that is older.
    fn oldest_version(&self) -> Result<Version> {
        let server = self.kubectl(&["get", "--raw", "/version"])?;
        let server: Value = serde_json::from_str(&server).context("reading the servers' version")?;
        let nodes = self.list("nodes", "", "")?;
        let told = nodes.iter().map(|node| &node["status"]["nodeInfo"]["kubeletVersion"]);
        let all = told.chain([&server["gitVersion"]]).map(|told| {
            let version = Version::find(told.as_str().unwrap_or_default());
            version.with_context(|| format!("a server's version is {told}"))
        });
        all.collect::<Result<Vec<_>>>()?.into_iter().min().context("there is no server")
    }

    /// The parts that the cluster consists of, as far as it tells of them.
    pub fn parts(&self) -> Result<Vec<Part>> {
        let versions = self.kubectl(&["version", "-o", "json"])?;
        let versions: Value =
            serde_json::from_str(&versions).context("reading what kubectl version printed")?;
        let nodes = self.list("nodes", "", "")?;
        let mut parts = parts_of(&versions["serverVersion"], &nodes);
        parts.extend(self.provider.parts());
        Ok(parts)
    }

    /// Runs kubectl and returns what it printed.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        output(self.command("kubectl")?.args(arguments))
    }

    /// Runs kubectl with something on its stdin.
    pub fn kubectl_with(&self, arguments: &[&str], stdin: &str) -> Result<String> {
        output_of(self.command("kubectl")?.args(arguments), stdin)
    }

    /// Runs helm (`scripts/helm`, which is the real engine) and returns what it printed.
    pub fn helm(&self, arguments: &[&str]) -> Result<String> {
        let helm = source("scripts/helm");
        output(self.command(&helm.to_string_lossy())?.args(arguments))
    }

    /// A program that talks to the API server.
    pub fn command(&self, program: &str) -> Result<Command> {
        self.provider.command(program)
    }

    /// Applies manifests: YAML, or JSON.
    pub fn apply(&self, manifests: &str) -> Result<()> {
        self.kubectl_with(&["apply", "-f", "-"], manifests).map(drop)
    }

    /// An object, or `None` if there is none. `kind` as kubectl spells it.
    pub fn get(&self, kind: &str, namespace: &str, name: &str) -> Result<Option<Value>> {
        let printed =
            self.kubectl(&["get", kind, "-n", namespace, name, "--ignore-not-found", "-o", "json"])?;
        if printed.is_empty() {
            return Ok(None);
        }
        serde_json::from_str(&printed).map(Some).with_context(|| format!("reading {kind} {namespace}/{name}"))
    }

    /// All objects of a kind in a namespace, with a selector that may be empty.
    pub fn list(&self, kind: &str, namespace: &str, selector: &str) -> Result<Vec<Value>> {
        let printed = self.kubectl(&["get", kind, "-n", namespace, "-l", selector, "-o", "json"])?;
        let mut list: Value = serde_json::from_str(&printed).with_context(|| format!("reading {kind}"))?;
        match list["items"].take() {
            Value::Array(items) => Ok(items),
            other => bail!("kubectl printed {other} instead of a list of {kind}"),
        }
    }

    /// Runs a shell script on a node, as root, and returns what it printed.
    pub fn on_node(&self, node: &str, script: &str) -> Result<String> {
        let mut shell = self.provider.on_node(node, "sh")?;
        output(shell.args(["-euc", script])).with_context(|| format!("running on {node}: {script}"))
    }

    /// Writes a file on a node.
    pub fn write_on_node(&self, node: &str, file: &str, content: &str) -> Result<()> {
        let mut shell = self.provider.on_node(node, "sh")?;
        output_of(
            shell.args(["-euc", "mkdir -p \"${0%/*}\"; cat >\"$0.new\"; mv \"$0.new\" \"$0\"", file]),
            content,
        )
        .map(drop)
        .with_context(|| format!("writing {file} on {node}"))
    }

    /// Restarts a service of a node.
    pub fn restart(&self, node: &str, service: Service) -> Result<()> {
        self.provider.restart(node, service).with_context(|| format!("restarting {service:?} of {node}"))
    }

    /// Kills everything on a node at once, empties its `/run` and starts it again.
    pub fn reboot(&self, node: &str) -> Result<()> {
        self.provider.reboot(node).with_context(|| format!("rebooting {node}"))
    }

    /// Stops the API server. The scenario starts it again, whatever happens.
    pub fn stop_api_server(&self) -> Result<()> {
        self.provider.stop_api_server()
    }

    /// Starts the API server again and waits until it answers.
    pub fn start_api_server(&self) -> Result<()> {
        self.provider.start_api_server()
    }

    /// The logs of the cluster's own programs.
    pub fn logs(&self) -> Vec<PathBuf> {
        self.provider.logs()
    }

    /// Where the suite may put files.
    pub fn directory(&self) -> &Path {
        self.provider.directory()
    }

    /// The image that pods of scenarios run.
    pub fn test_image(&self) -> String {
        self.named("BRAID_E2E_IMAGE", image::REFERENCE)
    }

    /// Braid's image, without its tag.
    pub fn braid_image(&self) -> String {
        self.named("BRAID_IMAGE", IMAGE)
    }

    /// On somebody else's cluster images have names that only its owner knows.
    fn named(&self, variable: &str, here: &str) -> String {
        match std::env::var(variable) {
            Ok(name) if self.provider() == "kubeconfig" => name,
            _ => here.to_owned(),
        }
    }

    /// Builds Braid's image and brings it to the nodes, under its tag and under [`NEXT_TAG`].
    pub fn load_braid(&self) -> Result<()> {
        if self.provider() == "kubeconfig" {
            return Ok(());
        }
        let archive = self.directory().join("braid.tar");
        for tag in [TAG, NEXT_TAG] {
            let mut build = Command::new(source("scripts/image"));
            build.env("BRAID_META_CNI", artefacts::meta_cni()?).env("BRAID_OPERATOR", artefacts::braid()?);
            build.arg("--tag").arg(format!("{IMAGE}:{tag}")).arg("--out").arg(&archive);
            output(&mut build).context("building Braid's image")?;
            self.provider.load(&archive).context("bringing Braid's image to the nodes")?;
        }
        Ok(())
    }

    /// Installs Braid as the README says, with further arguments of helm, and waits until it is ready.
    pub fn install_braid(&self, further: &[&str]) -> Result<()> {
        let chart = source("charts/braid");
        let chart = chart.to_string_lossy();
        let repository = format!("image.repository={}", self.braid_image());
        let mut arguments = vec!["upgrade", "--install", "braid", &*chart, "--namespace", NAMESPACE];
        arguments.extend(["--create-namespace", "--wait", "--timeout", "180s", "--set", &repository]);
        arguments.extend(["--set", "image.pullPolicy=IfNotPresent"]);
        // Nodes one by one, as the default has it, is twice as long with two of them.
        arguments.extend(["--set", "node.updateStrategy.rollingUpdate.maxUnavailable=100%"]);
        // What scenarios wait for is told at once and not after half a minute.
        arguments.extend(["--set", "node.reportInterval=1"]);
        arguments.extend(further);
        self.helm(&arguments).context("installing Braid with helm")?;
        self.wait_for_braid()
    }

    /// Waits until Braid is ready on every node.
    pub fn wait_for_braid(&self) -> Result<()> {
        wait::within(Duration::from_secs(180), "Braid is ready on every node", || {
            let Some(set) = self.get("daemonset", NAMESPACE, "braid-node")? else { return Ok(false) };
            let status = &set["status"];
            let wanted = status["desiredNumberScheduled"].as_u64().unwrap_or(0);
            Ok(wanted > 0
                && status["observedGeneration"] == set["metadata"]["generation"]
                && status["updatedNumberScheduled"].as_u64() == Some(wanted)
                && status["numberReady"].as_u64() == Some(wanted))
        })
    }

    /// The pod of the node role on a node.
    pub fn braid_pod(&self, node: &str) -> Result<String> {
        let pods = self.list("pods", NAMESPACE, "app.kubernetes.io/component=node")?;
        let pod = pods
            .iter()
            .find(|pod| pod["spec"]["nodeName"] == node && pod["metadata"]["deletionTimestamp"].is_null());
        let name = pod.and_then(|pod| pod["metadata"]["name"].as_str());
        name.map(str::to_owned).with_context(|| format!("no pod of the node role is on {node}"))
    }

    /// Copies a program to a node.
    pub fn copy_to_node(&self, node: &str, from: &Path, to: &str) -> Result<()> {
        let mut shell = self.provider.on_node(node, "sh")?;
        shell.args([
            "-euc",
            "mkdir -p \"${0%/*}\"; cat >\"$0.new\"; chmod 755 \"$0.new\"; mv \"$0.new\" \"$0\"",
            to,
        ]);
        output_from(&mut shell, from)
            .map(drop)
            .with_context(|| format!("copying {} to {to} on {node}", from.display()))
    }
}

/// What the API server says of itself, and the nodes of themselves. Nodes need not be alike.
fn parts_of(server: &Value, nodes: &[Value]) -> Vec<Part> {
    let said = |key: &str| {
        let all = nodes.iter().filter_map(|node| node["status"]["nodeInfo"][key].as_str());
        all.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(", ")
    };
    vec![
        Part::new("kernel", said("kernelVersion")),
        Part::new("Kubernetes", server["gitVersion"].as_str().unwrap_or("unknown")),
        Part::new("kubelet", said("kubeletVersion")),
        Part::new("runtime", said("containerRuntimeVersion")),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn versions_of_nodes_that_differ_are_all_told() {
        let node = |kubelet: &str| {
            json!({ "status": { "nodeInfo": { "kernelVersion": "6.18.0", "kubeletVersion": kubelet,
                "containerRuntimeVersion": "containerd://1.7.24~ds1" } } })
        };
        let nodes = [node("v1.35.1"), node("v1.36.2"), node("v1.36.2")];
        let expected = [
            Part::new("kernel", "6.18.0"),
            Part::new("Kubernetes", "v1.36.2"),
            Part::new("kubelet", "v1.35.1, v1.36.2"),
            Part::new("runtime", "containerd://1.7.24~ds1"),
        ];
        assert_eq!(parts_of(&json!({ "gitVersion": "v1.36.2" }), &nodes), expected);
    }
}
