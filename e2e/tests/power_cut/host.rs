//! Power cuts while the node role puts the plugin on the host, upgrades it, and takes its configuration away.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use e2e::{artefacts, empty_api as api, wait};
use rustix::process::{Pid, Signal, kill_process};

use crate::cuts::Cut;
use crate::recording::{Recording, temporary_files};

/// What the host has when a step has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// The first version of the plugin and of its settings.
    Installed,
    /// The second of both.
    Upgraded,
    /// The plugin alone.
    Left,
}

const NAMES: [&str; 2] = ["one", "two"];
const EXECUTABLE: &str = "opt/bin/meta-cni";
const CONFIGURATION: &str = "etc/net.d/00-braid.conflist";

/// The plugin of a version, and the configuration that comes with it.
type Version = (Vec<u8>, Vec<u8>);

/// A host on which the node role starts three times.
pub(crate) struct Scene {
    pub(crate) recording: Recording<Step>,
    braid: PathBuf,
    api: SocketAddr,
    versions: Vec<Version>,
}

/// Longer than the piece that is copied at once, and not alike anywhere.
fn program(version: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(version as u64);
    (0..20_000 + version).map(|_| random.u8(..)).collect()
}

fn prepare(base: &Path) -> Result<()> {
    for dir in ["etc/net.d", "opt/bin", "var", "image"] {
        fs::create_dir_all(base.join(dir))?;
    }
    let primary = r#"{"cniVersion":"1.0.0","name":"primary","plugins":[{"type":"bridge"}]}"#;
    fs::write(base.join("etc/net.d/10-primary.conflist"), primary)?;
    for (version, name) in NAMES.iter().enumerate() {
        fs::write(base.join("image").join(name), program(version))?;
        let settings = format!(r#"{{"globalNamespaces":"{name}"}}"#);
        fs::write(base.join("image").join(format!("{name}.json")), settings)?;
    }
    Ok(())
}

impl Scene {
    /// Lets the role do its work in `base`, and writes down what happens to the disk.
    pub(crate) fn record(base: &Path) -> Result<Self> {
        prepare(base)?;
        let recording = Recording::new(base, &["etc", "opt", "var"])?;
        let (braid, api) = (artefacts::braid_with_points()?, api::start()?);
        let mut scene = Self { recording, braid, api, versions: Vec::new() };
        for (version, step) in [Step::Installed, Step::Upgraded].into_iter().enumerate() {
            let before = fs::read(base.join(CONFIGURATION)).ok();
            let installed = || {
                let now = fs::read(base.join(CONFIGURATION)).ok();
                Ok(has(base, EXECUTABLE, &program(version)) && now.is_some() && now != before)
            };
            scene.step(base, step, version, &[], installed)?;
            scene.versions.push((program(version), fs::read(base.join(CONFIGURATION))?));
        }
        let deleted = ["--daemonset", "braid-system/braid-node"];
        // It takes its configuration away at its end.
        scene.step(base, Step::Left, 1, &deleted, || Ok(true))?;
        ensure!(!base.join(CONFIGURATION).exists(), "the configuration has not been taken away");
        Ok(scene)
    }

    fn step(
        &mut self,
        base: &Path,
        step: Step,
        version: usize,
        more: &[&str],
        holds: impl Fn() -> Result<bool>,
    ) -> Result<()> {
        let Self { recording, braid, api, .. } = self;
        recording.step(step, braid, |command| run(command, *api, base, version, more, true, holds))
    }

    /// What the power cut left is whole, and the role makes what should be of it.
    pub(crate) fn check(&self, cut: &Cut) -> Result<()> {
        let temp = tempfile::tempdir()?;
        let base = temp.path();
        self.recording.put(&cut.tree, base)?;
        let found = self.is_whole(base)?;
        let (ended, open) = self.recording.at(cut.at);
        if let (Some(step), None) = (ended.last(), open) {
            let expected = match step {
                Step::Installed => (Some(0), Some(0)),
                Step::Upgraded => (Some(1), Some(1)),
                Step::Left => (Some(1), None),
            };
            ensure!(found == expected, "{step:?}: {found:?}");
        }
        prepare(base)?;
        self.completes(base)
    }

    /// Which versions of plugin and configuration are there; each is whole, and the plugin comes first.
    fn is_whole(&self, base: &Path) -> Result<(Option<usize>, Option<usize>)> {
        let executable = self.version_of(base, EXECUTABLE, |(program, _)| program)?;
        let configuration = self.version_of(base, CONFIGURATION, |(_, text)| text)?;
        if executable.is_some() {
            let mode = fs::metadata(base.join(EXECUTABLE))?.permissions().mode() & 0o777;
            ensure!(mode == 0o755, "the plugin has mode {mode:o}");
        }
        // None is less than any: the executable comes first.
        ensure!(configuration <= executable, "configuration {configuration:?} with plugin {executable:?}");
        Ok((executable, configuration))
    }

    /// The role makes the second version of what is there, and leaves nothing beside it.
    fn completes(&self, base: &Path) -> Result<()> {
        let wanted = &self.versions[1];
        let complete =
            || Ok(has(base, EXECUTABLE, &wanted.0) && has(base, CONFIGURATION, &self.here(&wanted.1, base)));
        run(Command::new(&self.braid), self.api, base, 1, &[], false, complete)?;
        // Those under /run are the next start's.
        for dir in ["etc", "opt", "var"] {
            let left = temporary_files(&base.join(dir))?;
            ensure!(left.is_empty(), "temporary files are left: {left:?}");
        }
        Ok(())
    }

    /// Which version a file is of; `None` if it is not there.
    fn version_of(&self, base: &Path, file: &str, part: fn(&Version) -> &Vec<u8>) -> Result<Option<usize>> {
        let Ok(text) = fs::read(base.join(file)) else { return Ok(None) };
        let found = self.versions.iter().position(|version| self.here(part(version), base) == text);
        let Some(version) = found else { bail!("{file} is of no version: {} bytes", text.len()) };
        Ok(Some(version))
    }

    /// A text as it is on a node in another directory.
    fn here(&self, text: &[u8], base: &Path) -> Vec<u8> {
        self.recording.translated(text, base)
    }
}

fn has(base: &Path, file: &str, text: &[u8]) -> bool {
    fs::read(base.join(file)).is_ok_and(|found| found == text)
}

/// Starts the node role. Its log is in `base`.
fn start(
    command: &mut Command,
    api: SocketAddr,
    base: &Path,
    version: usize,
    more: &[&str],
) -> Result<Child> {
    let image = base.join("image").join(NAMES[version]);
    command.args(["node", "--node-name", "n", "--admin-address", "127.0.0.1:0", "--kubeconfig"]);
    command.arg(api::kubeconfig(api, base)?).arg("--plugin").arg(&image);
    command.arg("--settings").arg(image.with_extension("json"));
    let dirs = [
        ("--run-dir", "run"),
        ("--state-dir", "var/braid"),
        ("--cni-conf-dir", "etc/net.d"),
        ("--cni-bin-dir", "opt/bin"),
    ];
    for (flag, dir) in dirs {
        command.arg(flag).arg(base.join(dir));
    }
    let log = File::create(base.join("log"))?;
    command.args(more).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    command.spawn().context("starting the node role")
}

/// Runs the node role until something holds; then it is told to end.
fn run(
    mut command: Command,
    api: SocketAddr,
    base: &Path,
    version: usize,
    more: &[&str],
    traced: bool,
    holds: impl Fn() -> Result<bool>,
) -> Result<()> {
    let mut child = start(&mut command, api, base, version, more)?;
    let told = || fs::read_to_string(base.join("log")).unwrap_or_default();
    // Before it is at work a signal would end it as it ends any program.
    let settled = || Ok(told().contains(r#""synced""#) && holds()?);
    let outcome = wait::until("the host is as it should be", settled).and_then(|()| {
        let process = if traced { started_by(&child)? } else { i32::try_from(child.id())? };
        kill_process(Pid::from_raw(process).context("no process")?, Signal::TERM)?;
        Ok(())
    });
    if let Err(error) = outcome {
        // With strace its child goes too: it is not left to run untraced.
        let _ = started_by(&child).map(|child| Pid::from_raw(child).map(|it| kill_process(it, Signal::KILL)));
        let _ = child.kill();
        let _ = child.wait();
        return Err(error.context(told()));
    }
    let status = child.wait()?;
    ensure!(status.success(), "the node role: {status}: {}", told());
    Ok(())
}

/// The process that a process has started.
fn started_by(child: &Child) -> Result<i32> {
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id()))?;
    children.split_whitespace().next().context("strace runs nothing")?.parse().context("a process id")
}

impl Scene {
    /// The points that the role comes to while it puts the first version on a host.
    pub(crate) fn points(&self) -> Result<BTreeSet<String>> {
        let temp = tempfile::tempdir()?;
        prepare(temp.path())?;
        let file = temp.path().join("points");
        let mut braid = Command::new(&self.braid);
        braid.env("BRAID_POINTS", &file);
        let complete = || Ok(temp.path().join(CONFIGURATION).exists());
        run(braid, self.api, temp.path(), 0, &[], false, complete)?;
        let points = fs::read_to_string(&file).context("the executable knows no points")?;
        Ok(points.lines().map(str::to_owned).collect())
    }

    /// The role is killed at a point, and the next one makes what should be of what it left.
    pub(crate) fn killed_at(&self, point: &str) -> Result<()> {
        let temp = tempfile::tempdir()?;
        prepare(temp.path())?;
        let mut braid = Command::new(&self.braid);
        braid.env("BRAID_DIE_AT", point);
        let mut child = start(&mut braid, self.api, temp.path(), 0, &[])?;
        let ended = wait::until("the role is killed", || Ok(child.try_wait()?.is_some()));
        let _ = child.kill();
        let status = child.wait()?;
        ended?;
        ensure!(status.signal() == Some(9), "the role was not killed: {status}");
        self.is_whole(temp.path())?;
        self.completes(temp.path())
    }
}
