//! Power cuts while containers are attached and detached.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use e2e::artefacts;
use e2e::plain_node::{self, Node};
use store::atomic;
use store::node::NodeFacts;
use store::record::{Phase, Record};

use crate::cuts::Cut;
use crate::disk::{Change, Disk};
use crate::recording::{Recording, temporary_files};

/// What a step is about, and what has become true when it has ended.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Step {
    /// The container is attached.
    Attached(&'static str),
    /// Nothing is left of the container.
    Gone(&'static str),
    /// The container could not be detached as a whole, and that is recorded.
    Owed(&'static str),
    /// The container is gone, because the runtime said that it has others only.
    Collected(&'static str),
}

impl Step {
    fn container(self) -> &'static str {
        match self {
            Self::Attached(id) | Self::Gone(id) | Self::Owed(id) | Self::Collected(id) => id,
        }
    }
}

/// A node on which containers come and go.
pub(crate) struct Scene {
    pub(crate) recording: Recording<Step>,
    plugin: PathBuf,
    meta_cni: PathBuf,
    braid: PathBuf,
}

impl Scene {
    /// Lets them come and go in `base`, and writes down what happens to the disk.
    pub(crate) fn record(base: &Path, plugin: &Path) -> Result<Self> {
        let node = Node::new(base, plugin)?;
        let (meta_cni, braid) = (artefacts::meta_cni()?, artefacts::braid()?);
        let recording = Recording::new(base, &["var", "held"])?;
        let mut scene = Self { recording, plugin: plugin.to_owned(), meta_cni, braid };
        node.sync(Command::new(&scene.braid))?;
        scene.call(&node, Step::Attached("c1"), "ADD", true)?;
        scene.call(&node, Step::Attached("c2"), "ADD", true)?;
        scene.call(&node, Step::Gone("c1"), "DEL", true)?;
        node.fails("a", "DEL", true)?;
        scene.call(&node, Step::Owed("c2"), "DEL", false)?;
        node.fails("a", "DEL", false)?;
        node.fails("b", "ADD", true)?;
        // It takes up what is left of the one before, too.
        scene.call(&node, Step::Gone("c3"), "ADD", false)?;
        node.fails("b", "ADD", false)?;
        scene.call(&node, Step::Gone("c2"), "DEL", true)?;
        scene.call(&node, Step::Attached("c4"), "ADD", true)?;
        scene.call(&node, Step::Attached("c5"), "ADD", true)?;
        let collected = Step::Collected("c4");
        let gc = |meta_cni| plain_node::good(&node.gc(meta_cni, &["c5"])?);
        scene.recording.step(collected, &scene.meta_cni, gc)?;
        Ok(scene)
    }

    fn call(&mut self, node: &Node, step: Step, verb: &str, succeeds: bool) -> Result<()> {
        self.recording.step(step, &self.meta_cni, |meta_cni| {
            let output = node.call(meta_cni, verb, step.container(), true)?;
            ensure!(output.status.success() == succeeds, "{verb} at {step:?}: {output:?}");
            Ok(())
        })
    }

    /// Where a step has just ended that leaves something owed: that is so until the next change only, since any later
    /// run may take it up.
    pub(crate) fn owed(&self) -> Vec<usize> {
        let steps = self.recording.steps.iter();
        steps.filter(|(step, ..)| matches!(step, Step::Owed(_))).map(|(_, _, ended)| *ended).collect()
    }

    /// What the power cut left keeps every promise, and the node starts from it and loses nothing.
    pub(crate) fn check(&self, cut: &Cut) -> Result<()> {
        let temp = tempfile::tempdir()?;
        self.recording.put(&cut.tree, temp.path())?;
        let node = Node::new(temp.path(), &self.plugin)?;
        let (ended, open) = self.recording.at(cut.at);
        let mut known = BTreeSet::new();
        for step in ended {
            match step {
                Step::Attached(id) | Step::Owed(id) => known.insert(*id),
                Step::Gone(id) | Step::Collected(id) => known.remove(id),
            };
        }
        let busy = open.map(|step| step.container());
        self.promises(&node, cut.at, busy)?;
        let synced = node.sync(Command::new(&self.braid))?;
        ensure!(synced.starts_with("2 networks: 2 written"), "the node role wrote: {synced}");
        ensure!(NodeFacts::read(&node.directory())?.is_some(), "the lists are not complete");
        // The runtime knows of a container whose ADD was cut off, or does not. If it does not, and ADD had come to its
        // end but for the answer, the container is GC's, or the node role's when its pod is gone.
        let unknown = busy.filter(|_| cut.at % 2 == 1 && matches!(open, Some(Step::Attached(_))));
        known.extend(busy.filter(|_| unknown.is_none()));
        let forgotten =
            unknown.filter(|id| node.record(id).is_ok_and(|it| it.is_some_and(|it| it.is_at_rest())));
        for id in &known {
            node.succeed("DEL", id, false)?;
        }
        node.succeed("ADD", "n1", true)?;
        let of_new = node.held()?.iter().filter(|held| held.contains(".n1.")).count();
        ensure!(of_new == 3, "a new container has {of_new} attachments of 3");
        node.succeed("DEL", "n1", true)?;
        nothing_is_left(&node, &removed(&self.recording.disk, cut.at), forgotten)?;
        plain_node::good(&node.gc(Command::new(&self.meta_cni), &[])?).context("GC")?;
        nothing_is_left(&node, &BTreeSet::new(), None).context("after GC")
    }

    /// What was promised when a step had ended is true, unless another step is about the same container.
    fn promises(&self, node: &Node, at: usize, busy: Option<&str>) -> Result<()> {
        let (ended, _) = self.recording.at(at);
        let ended: Vec<_> = ended.copied().collect();
        for (index, step) in ended.iter().enumerate() {
            let id = step.container();
            let later = ended[index + 1..].iter().any(|later| later.container() == id);
            if later || busy == Some(id) {
                continue;
            }
            let record = node.record(id)?;
            let what = || format!("{step:?}, and the record is {record:?}");
            match step {
                Step::Attached(_) => {
                    let record = record.as_ref().with_context(what)?;
                    let whole = record.attachments.iter().filter(|it| it.result.is_some()).count() == 3;
                    ensure!(record.phase == Phase::Attached && whole, what());
                }
                // Any later run may have taken it up.
                Step::Owed(_) if index + 1 < ended.len() || at > self.recording.steps[index].2 => {}
                Step::Owed(_) => {
                    ensure!(record.as_ref().is_some_and(|it| it.phase == Phase::Deleting), what());
                }
                Step::Gone(_) | Step::Collected(_) => ensure!(record.is_none(), what()),
            }
        }
        Ok(())
    }
}

/// What plugins may hold that no record knows of: they had removed it, and it came back, since they do not sync.
fn removed(disk: &Disk, at: usize) -> BTreeSet<String> {
    let names = disk.changes[..at].iter().filter_map(|(change, _)| match change {
        Change::Leave { name, .. } => Some(name.to_string_lossy().into_owned()),
        _ => None,
    });
    names.collect()
}

/// Nothing is left of any container, but for one that is `forgotten`.
fn nothing_is_left(node: &Node, excused: &BTreeSet<String>, forgotten: Option<&str>) -> Result<()> {
    let dir = node.directory();
    let mut records = Record::list(&dir)?;
    records.retain(|key| forgotten != Some(key.container_id.as_str()));
    ensure!(records.is_empty(), "records are left: {records:?}");
    let hints = atomic::files(&dir.unfinished())?;
    ensure!(hints.is_empty(), "hints are left: {hints:?}");
    for part in [dir.run(), dir.state()] {
        let files = temporary_files(part)?;
        ensure!(files.is_empty(), "temporary files are left: {files:?}");
    }
    let excused =
        |held: &str| excused.contains(held) || forgotten.is_some_and(|id| held.contains(&format!(".{id}.")));
    if let Some(held) = node.held()?.into_iter().find(|held| !excused(held)) {
        bail!("{held} is still held, and nobody will free it");
    }
    Ok(())
}
