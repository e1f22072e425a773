//! A cluster on this machine, of the servers that Kubernetes consists of: a control plane and two nodes, each on a
//! machine of its own that is a handful of namespaces. Two links join the machines: `eth0`, which is the cluster's, and
//! `data0` for what pods attach to.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use super::provider::{Feature, Provider, Service};
use crate::home::Home;
use crate::parts::Part;
use crate::program::{not_installed, on_path, output};
use crate::{artefacts, containerd, control_plane as servers, wait};
use control_plane::ControlPlane;
use node::{Node, Software};

mod cgroups;
mod control_plane;
mod kubelet;
mod machine;
mod node;

/// How the directory of a cluster begins; the owner's process id follows.
const DIRECTORY: &str = "braid-cluster.";

const NODES: [&str; 2] = ["node1", "node2"];

const PROGRAMS: [&str; 6] =
    ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy"];

/// What a local cluster needs and this machine lacks.
pub(super) fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("it needs root".to_owned());
    }
    let programs = [
        ("unshare", "util-linux"),
        ("nsenter", "util-linux"),
        ("ip", "iproute2"),
        ("iptables", "iptables"),
        ("conntrack", "conntrack"),
        ("kubectl", "kubernetes-client"),
        ("buildah", "buildah"),
    ];
    let lacking = programs.iter().find(|(program, _)| !on_path(program));
    lacking
        .map(|(_, package)| not_installed(package))
        .or_else(containerd::missing)
        .or_else(artefacts::missing_plugins)
        .or_else(|| servers::directory(&PROGRAMS).err().map(|error| format!("{error:#}")))
}

/// A cluster that runs. Dropping it ends it and removes what it had.
#[derive(Debug)]
pub(super) struct Local {
    // In this order they are dropped.
    nodes: Vec<Node>,
    plane: ControlPlane,
    software: Software,
    home: Home,
}

impl Local {
    /// Starts it, and waits until both nodes are ready.
    pub(super) fn start() -> Result<Self> {
        let programs = servers::directory(&PROGRAMS)?;
        let software = Software::of(&programs)?;
        let home = Home::new(DIRECTORY)?;
        let plane =
            ControlPlane::start(home.path(), &programs, &NODES).context("starting the control plane")?;
        let start = |number: usize, name| Node::start(home.path(), &software, &plane, number, name);
        let nodes = thread::scope(|scope| {
            let starting: Vec<_> = NODES
                .iter()
                .enumerate()
                .map(|(at, name)| {
                    scope.spawn(move || start(at + 1, name).with_context(|| format!("starting {name}")))
                })
                .collect();
            let join = |handle: thread::ScopedJoinHandle<'_, Result<Node>>| {
                handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            starting.into_iter().map(join).collect::<Result<Vec<_>>>()
        })?;
        let this = Self { nodes, plane, software, home };
        this.wait_until_ready()?;
        Ok(this)
    }

    fn wait_until_ready(&self) -> Result<()> {
        wait::within(Duration::from_secs(120), "all nodes are ready", || {
            for node in &self.nodes {
                node.ensure_runs()?;
            }
            let mut ask = self.command("kubectl")?;
            let path = r#"jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}"#;
            let states = output(ask.args(["get", "nodes", "-o", path])).unwrap_or_default();
            Ok(states.split_whitespace().filter(|state| *state == "True").count() == NODES.len())
        })
    }

    fn node(&self, name: &str) -> Result<&Node> {
        self.nodes
            .iter()
            .find(|node| node.machine.name == name)
            .with_context(|| format!("there is no node {name}"))
    }
}

impl Provider for Local {
    fn name(&self) -> &'static str {
        "local"
    }

    fn nodes(&self) -> Vec<String> {
        NODES.map(str::to_owned).to_vec()
    }

    fn has(&self, _: Feature) -> bool {
        true
    }

    fn command(&self, program: &str) -> Result<Command> {
        let mut command = self.plane.machine.command_in_its_network(program)?;
        command.env("KUBECONFIG", &self.plane.kubeconfig);
        Ok(command)
    }

    fn on_node(&self, node: &str, program: &str) -> Result<Command> {
        self.node(node)?.machine.command(program)
    }

    fn load(&self, archive: &Path) -> Result<()> {
        self.nodes.iter().try_for_each(|node| node.import(archive).map(drop))
    }

    fn restart(&self, node: &str, service: Service) -> Result<()> {
        self.node(node)?.restart(service)
    }

    fn reboot(&self, node: &str) -> Result<()> {
        self.node(node)?.reboot(&self.plane)
    }

    fn stop_api_server(&self) -> Result<()> {
        self.plane.kill_api_server()
    }

    fn start_api_server(&self) -> Result<()> {
        self.plane.start_api_server()
    }

    fn logs(&self) -> Vec<PathBuf> {
        let machines = self.nodes.iter().map(|node| &node.machine).chain([&self.plane.machine]);
        let dirs = machines.filter_map(|machine| machine.dir.read_dir().ok());
        let files = dirs.flat_map(Iterator::flatten).map(|entry| entry.path());
        files.filter(|file| file.extension().is_some_and(|extension| extension == "log")).collect()
    }

    fn parts(&self) -> Vec<Part> {
        let etcd = Part::of_program("etcd", &servers::etcd(&self.software.servers));
        let [_, runc] = Part::of_containerd(&self.software.containerd);
        let plugins = artefacts::reference_plugins().map(|dir| Part::plugins(&dir));
        [etcd, runc].into_iter().chain(plugins).collect()
    }

    fn directory(&self) -> &Path {
        self.home.path()
    }
}
