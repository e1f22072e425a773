//! Faults, and the node that they are put into.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use e2e::artefacts;
use e2e::chance::Chance;
use e2e::plain_node::Node;
use serde_json::json;

use crate::damage::{Damage, OF_DIRECTORIES, OF_FILES};
use crate::recovery;

/// One fault.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// The role is killed at a point, when it comes there for the n-th time.
    Killed(String),
    /// The n-th call of its kind fails, and all that follow if it is `lasting`.
    Refused { call: String, number: usize, error: &'static str, lasting: bool },
    /// It may have so many files open.
    FewFiles(usize),
    /// A file or a directory is not what it should be. `<boot>` stands for the boot's id.
    Damaged { path: &'static str, damage: Damage },
}

/// The record of the container that runs.
const RECORD: &str = "var/braid/attachments/c1";

/// Files, there or not.
const FILES: [&str; 12] = [
    "run/networks/default/a",
    "run/networks/default/b",
    "run/pods/default/c1",
    "run/node",
    "run/locks/node",
    "run/locks/unfinished",
    "run/locks/configuration",
    "run/locks/container/c1",
    "run/unfinished/.looked",
    "run/unfinished/c1",
    "run/running/<boot>/c1/1-2-3-4",
    RECORD,
];

const DIRECTORIES: [&str; 11] = [
    "run/networks",
    "run/networks/default",
    "run/pods",
    "run/pods/default",
    "run/locks",
    "run/locks/container",
    "run/unfinished",
    "run/settled",
    "run/running",
    "run/running/<boot>/c1",
    "var/braid/attachments",
];

/// What can fail, and how. A system call that the role does not make is passed over.
const CALLS: [(&str, &[&str]); 10] = [
    ("openat", &["ENOSPC", "EIO", "EROFS", "EMFILE", "EACCES"]),
    ("write", &["ENOSPC", "EIO"]),
    ("read", &["EIO"]),
    ("fdatasync", &["EIO", "ENOSPC"]),
    ("rename", &["ENOSPC", "EIO", "EROFS"]),
    ("unlink", &["EIO", "EROFS"]),
    ("rmdir", &["EIO", "EROFS"]),
    ("mkdir", &["ENOSPC", "EIO", "EROFS"]),
    ("getdents64", &["EIO"]),
    ("statx", &["EIO", "EACCES"]),
];

/// Every fault that there is.
#[derive(Debug)]
pub(crate) struct Faults(Vec<Fault>);

impl Faults {
    /// Those of which a run without a fault tells, and all damages.
    pub(crate) fn of(stage: &Stage) -> Result<Self> {
        let mut all = Vec::new();
        let points = stage.points()?;
        ensure!(points.keys().any(|point| point.starts_with("sync: ")), "no points of the role: {points:?}");
        for (point, count) in points {
            let numbers: BTreeSet<usize> =
                [1, 2, count].into_iter().filter(|number| *number <= count).collect();
            all.extend(numbers.into_iter().map(|number| Fault::Killed(format!("{point}#{number}"))));
        }
        for (call, errors) in CALLS {
            let count = stage.calls(call)?;
            for number in 1..=count {
                for error in errors {
                    let refused = |lasting| Fault::Refused { call: call.to_owned(), number, error, lasting };
                    all.extend([refused(false), refused(true)]);
                }
            }
        }
        // Standard streams need three.
        all.extend((3..12).map(Fault::FewFiles));
        let damaged = |path| move |damage| Fault::Damaged { path, damage };
        all.extend(FILES.into_iter().flat_map(|path| OF_FILES.into_iter().map(damaged(path))));
        all.extend(DIRECTORIES.into_iter().flat_map(|path| OF_DIRECTORIES.into_iter().map(damaged(path))));
        // What stands in place of the run directory as a whole is not ours to move.
        all.extend([Damage::Gone, Damage::Mode].map(damaged("run")));
        Ok(Self(all))
    }

    /// At most so many: every kill, and of the others what chance picks, as many damages as system calls.
    pub(crate) fn pick(self, chance: &mut Chance) -> Vec<Fault> {
        let (mut picked, rest): (Vec<_>, Vec<_>) =
            self.0.into_iter().partition(|fault| matches!(fault, Fault::Killed(_)));
        let (mut damages, mut calls): (Vec<_>, Vec<_>) =
            rest.into_iter().partition(|fault| matches!(fault, Fault::Damaged { .. }));
        chance.random.shuffle(&mut damages);
        chance.random.shuffle(&mut calls);
        let half = chance.count.saturating_sub(picked.len()) / 2;
        let of_calls = (2 * half).saturating_sub(damages.len().min(half));
        picked.extend(damages.into_iter().take(half));
        picked.extend(calls.into_iter().take(of_calls));
        picked
    }
}

/// What all nodes have in common.
#[derive(Debug)]
pub(crate) struct Stage {
    plugin: PathBuf,
    braid: PathBuf,
    meta_cni: PathBuf,
}

impl Stage {
    pub(crate) fn new(plugin: &Path) -> Result<Self> {
        Ok(Self {
            plugin: plugin.to_owned(),
            braid: artefacts::braid_with_points()?,
            meta_cni: artefacts::meta_cni()?,
        })
    }

    /// A node on which the container `c1` runs, which has a network too many and one that is to change, and on which
    /// a writer was killed.
    fn node(&self, base: &Path) -> Result<Node> {
        let node = Node::new(base, &self.plugin)?;
        let manifests = fs::read(node.path("manifests/networks.json"))?;
        node.sync(Command::new(&self.braid))?;
        node.succeed("ADD", "c1", true)?;
        let nad = |name: &str| {
            json!({
                "apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
                "metadata": {"name": name}, "spec": {"config": r#"{"type":"old"}"#},
            })
        };
        let earlier = json!({"apiVersion": "v1", "kind": "List", "items": [nad("a"), nad("z")]});
        fs::write(node.path("manifests/networks.json"), earlier.to_string())?;
        node.sync(Command::new(&self.braid))?;
        fs::write(node.path("manifests/networks.json"), manifests)?;
        fs::write(node.path("run/networks/default/.new-1-2-3-4"), "{")?;
        Ok(node)
    }

    /// The points that the role comes to, and how often.
    fn points(&self) -> Result<BTreeMap<String, usize>> {
        let temp = tempfile::tempdir()?;
        let node = self.node(temp.path())?;
        let file = temp.path().join("points");
        let mut braid = Command::new(&self.braid);
        braid.env("BRAID_POINTS", &file);
        node.sync(braid)?;
        let mut points = BTreeMap::new();
        for point in fs::read_to_string(&file).context("the executable knows no points")?.lines() {
            *points.entry(point.to_owned()).or_default() += 1;
        }
        Ok(points)
    }

    /// How often the role makes a system call.
    fn calls(&self, call: &str) -> Result<usize> {
        let temp = tempfile::tempdir()?;
        let node = self.node(temp.path())?;
        let file = temp.path().join("trace");
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-e", "signal=none", "-e", &format!("trace={call}"), "-o"]);
        strace.arg(&file).arg(&self.braid);
        node.sync(strace)?;
        let made = format!(" {call}(");
        Ok(fs::read_to_string(&file)?.lines().filter(|line| line.contains(&made)).count())
    }

    /// Puts a fault into a node, and sees it recover.
    pub(crate) fn play(&self, fault: &Fault) -> Result<()> {
        let temp = tempfile::tempdir()?;
        let node = self.node(temp.path())?;
        let mut braid = Command::new(&self.braid);
        match fault {
            Fault::Killed(point) => {
                braid.env("BRAID_DIE_AT", point);
                let output = node.sync_somehow(braid)?;
                ensure!(output.status.signal() == Some(9), "it was not killed: {output:?}");
            }
            Fault::Refused { call, number, error, lasting } => {
                let when = format!("{number}{}", if *lasting { "+" } else { "" });
                let file = temp.path().join("trace");
                let mut strace = Command::new("strace");
                strace.args(["-f", "-qq", "-e", &format!("trace={call}"), "-e"]);
                strace.arg(format!("inject={call}:error={error}:when={when}")).arg("-o").arg(&file);
                strace.arg(&self.braid);
                self.ended(&node.sync_somehow(strace)?)?;
                ensure!(fs::read_to_string(&file)?.contains("(INJECTED)"), "strace made no call fail");
            }
            Fault::FewFiles(count) => {
                let mut limited = Command::new("prlimit");
                limited.arg(format!("--nofile={count}")).arg(&self.braid);
                self.ended(&node.sync_somehow(limited)?)?;
            }
            Fault::Damaged { path, damage } => {
                damage.inflict(&node.path(&path.replace("<boot>", &store::boot::boot_id())))?;
                // Whatever it does with that, it does not break down.
                self.ended(&node.call(Command::new(&self.meta_cni), "ADD", "c2", true)?)?;
            }
        }
        let record_is_damaged = matches!(fault, Fault::Damaged { path, .. } if *path == RECORD);
        recovery::recovers(&node, &self.braid, &self.meta_cni, record_is_damaged)
    }

    /// A program that says what is wrong, or that all is well. The loader of an executable may fail, too.
    fn ended(&self, output: &Output) -> Result<()> {
        let code = output.status.code();
        let text = String::from_utf8_lossy(&output.stderr);
        ensure!(matches!(code, Some(0..=2 | 127)), "it ended with {}: {text}", output.status);
        ensure!(!text.contains("panicked"), "{} panicked: {text}", self.braid.display());
        Ok(())
    }
}
