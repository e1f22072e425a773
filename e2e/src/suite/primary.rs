//! Another primary on one node: a stand-in of a well-known one takes the place of the cluster's own.

use std::path::Path;

use anyhow::{Context, Result};

use super::node_change::NodeChange;
use super::stage::Stage;
use crate::program::report;
use crate::shaped_primary::NAMES;
use crate::shaped_primary::node::Primary;

/// Where the stand-ins are on a node.
const STAND_INS: &str = "/opt/braid-e2e";

/// Where the runtime looks for plugins.
const PLUGINS: &str = "/opt/cni/bin";

/// Where what attaches pods is configured.
pub const CONFIGURATIONS: &str = "/etc/cni/net.d";

/// A node whose primary is another one. Dropping it deletes the scenario's pods, for the stand-in has to undo what it
/// did, and then makes the node what it was.
#[must_use]
#[derive(Debug)]
pub struct OtherPrimary<'a> {
    stage: &'a Stage<'a>,
    node: String,
    primary: Primary,
    own: NodeReportsPrimary,
    /// In this order they are undone: the primary of the cluster is there before the other one goes.
    configuration: Vec<NodeChange<'a>>,
    rest: Vec<NodeChange<'a>>,
}

/// What a node's report says of its primary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeReportsPrimary {
    /// Its name.
    pub name: String,
    /// Its file on the node.
    pub file: String,
}

/// What a node's report says of its primary; `None` while it has none.
pub fn reported(stage: &Stage<'_>, node: &str) -> Result<Option<NodeReportsPrimary>> {
    let report = stage.cluster.get("nodereport", "", node)?.unwrap_or_default();
    let text = |key: &str| report["report"]["primary"][key].as_str().map(str::to_owned);
    Ok(text("name").zip(text("file")).map(|(name, file)| NodeReportsPrimary { name, file }))
}

/// The primary of a node that has one. Its first report may come a moment after Braid is ready.
pub fn of_node(stage: &Stage<'_>, node: &str) -> Result<NodeReportsPrimary> {
    let mut found = None;
    stage.wait(&format!("the report of {node} tells a primary"), || {
        found = reported(stage, node)?;
        Ok(found.is_some())
    })?;
    found.with_context(|| format!("the report of {node} tells no primary"))
}

impl<'a> OtherPrimary<'a> {
    /// Puts a primary in the place of the node's, and waits until Braid has seen it. `executable` is the built
    /// `shaped-primary`.
    pub fn on(stage: &'a Stage<'a>, node: &str, primary: Primary, executable: &Path) -> Result<Self> {
        let own = of_node(stage, node)?;
        let (configuration, rest) = (Vec::new(), Vec::new());
        let mut this = Self { stage, node: node.to_owned(), primary, own, configuration, rest };
        this.install(executable)?;
        this.start_agent()?;
        this.configure()?;
        Ok(this)
    }

    /// Every stand-in under its name, beside the plugins that are there.
    fn install(&mut self, executable: &Path) -> Result<()> {
        let cluster = self.stage.cluster;
        let file = format!("{STAND_INS}/shaped-primary");
        let source = executable.display();
        // Nodes of the provider `local` share this machine's files.
        let linked = format!(
            "mkdir -p {STAND_INS}; if test -x {source}; then ln -sf {source} {file}; fi; test -e {file}"
        );
        let undo = format!("rm -rf {STAND_INS}");
        self.rest.push(NodeChange::make(cluster, &self.node, &format!("mkdir -p {STAND_INS}"), &undo)?);
        if cluster.on_node(&self.node, &linked).is_err() {
            cluster.copy_to_node(&self.node, executable, &file)?;
        }
        for name in NAMES {
            let link = format!("ln -sf shaped-primary {STAND_INS}/{name}");
            cluster.on_node(&self.node, &link)?;
            // Whoever runs plugins knows nothing of the variable.
            let script = format!("#!/bin/sh\nSHAPED_PRIMARY_ROOT=/ exec {STAND_INS}/{name} \"$@\"\n");
            let plugin = format!("{PLUGINS}/{name}");
            self.rest.push(NodeChange::write(cluster, &self.node, &plugin, &script)?);
            cluster.on_node(&self.node, &format!("chmod 755 {plugin}"))?;
        }
        Ok(())
    }

    /// What the primary's agent has on a node where it runs.
    fn start_agent(&mut self) -> Result<()> {
        for (file, content) in self.primary.agents_files()? {
            self.rest.push(NodeChange::write(self.stage.cluster, &self.node, &file, &content)?);
        }
        if let Some(socket) = self.primary.socket() {
            let pid = format!("{STAND_INS}/agent.pid");
            let start = format!(
                "ln -sf shaped-primary {STAND_INS}/agent; mkdir -p /$(dirname {socket})
                 {STAND_INS}/agent /{socket} </dev/null >/dev/null 2>&1 & echo $! >{pid}
                 for _ in $(seq 50); do test -S /{socket} && exit 0; sleep 0.1; done; exit 1"
            );
            let stop = format!("kill $(cat {pid}); rm -f /{socket}");
            // First in, first out: the directory of its program goes later.
            self.rest.insert(0, NodeChange::make(self.stage.cluster, &self.node, &start, &stop)?);
        }
        Ok(())
    }

    fn configure(&mut self) -> Result<()> {
        let (cluster, node) = (self.stage.cluster, self.node.clone());
        let file = format!("{CONFIGURATIONS}/{}", self.primary.file());
        let list = self.primary.published()?;
        // The new one is there before the old one goes: at no moment the node has none.
        let written = NodeChange::write(cluster, &node, &file, &list.to_string())?;
        self.configuration.push(NodeChange::hide(cluster, &node, &self.own.file)?);
        self.configuration.push(written);
        self.wait_until_reported(list["name"].as_str().unwrap_or_default())
    }

    /// Waits until a node's report tells a primary of that name.
    fn wait_until_reported(&self, name: &str) -> Result<()> {
        self.stage.wait(&format!("the report of {} tells the primary {name}", self.node), || {
            Ok(reported(self.stage, &self.node)?.is_some_and(|primary| primary.name == name))
        })
    }

    /// Gives the node the cluster's primary again, and leaves the other one's plugins and agent: pods of it may run.
    pub fn put_back(&mut self) -> Result<()> {
        for change in std::mem::take(&mut self.configuration) {
            change.undo()?;
        }
        self.wait_until_reported(&self.own.name)
    }

    /// Waits until the other primary has nothing on the node any more: no address, no endpoint, no kept configuration,
    /// no interface.
    pub fn wait_until_nothing_is_left(&self) -> Result<()> {
        let mut left = String::new();
        let waited = self.stage.wait(&format!("nothing of {:?} is left", self.primary), || {
            left = self.left()?;
            Ok(left.is_empty())
        });
        waited.with_context(|| format!("left are {left:?}"))
    }

    fn left(&self) -> Result<String> {
        let name = self.primary.published()?["name"].as_str().unwrap_or_default().to_owned();
        let script = format!(
            "find /var/lib/shaped-primary /var/lib/cni/flannel /var/lib/cni/networks/{name} -type f 2>/dev/null |
                 grep -v -e /lock$ -e /last_reserved_ip || :
             ip -o link show | grep -o -E ' (cali|eni)[0-9a-f]+' || :"
        );
        self.stage.cluster.on_node(&self.node, &script)
    }

    /// Makes the node what it was, and tells if that fails.
    pub fn undo(mut self) -> Result<()> {
        self.put_back()?;
        self.forget();
        Ok(())
    }

    /// Everything but the configuration; what was kept of it stays for a node that could not be mended.
    fn forget(&mut self) {
        self.rest.clear();
        let clear =
            "rm -rf /var/lib/shaped-primary /var/lib/cni/flannel; ip link delete cni0 2>/dev/null || :";
        let _ = self.stage.cluster.on_node(&self.node, clear).inspect_err(report);
    }
}

impl Drop for OtherPrimary<'_> {
    fn drop(&mut self) {
        if self.rest.is_empty() {
            return;
        }
        // A story that failed may have left pods: without its plugin the stand-in's part of them could not be undone.
        let delete = ["delete", "pods", "--all", "--timeout=60s"];
        let _ = self.stage.kubectl(&delete).inspect_err(report);
        let _ = self.put_back().inspect_err(report);
        self.forget();
    }
}
