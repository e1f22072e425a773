//! Where it was measured: figures of two machines cannot be compared.

use std::fmt;
use std::fs::read_to_string;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde::Serialize;

use super::process;
use crate::{artefacts, control_plane};

/// Everything that the figures depend on.
#[derive(Debug, Serialize)]
pub(super) struct Machine {
    cpu: String,
    cores: usize,
    kernel: String,
    /// The average number of running processes in the minute before.
    load: f64,
    /// What the reference plugins say of themselves, and Debian of their package.
    plugins: String,
    meta_cni_bytes: u64,
    memory_mib: u64,
    /// What the operator says of itself.
    braid: String,
    /// What the servers say of themselves; empty where there are none.
    api_server: String,
    etcd: String,
}

impl Machine {
    pub(super) fn look() -> Result<Self> {
        let meta_cni = artefacts::meta_cni()?;
        let servers = control_plane::directory(&["etcd", "kube-apiserver"]).ok();
        let said = |program: PathBuf| first_line(&program, &["--version"]);
        Ok(Self {
            cpu: cpu(&read("/proc/cpuinfo")),
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load: read("/proc/loadavg")
                .split(' ')
                .next()
                .and_then(|load| load.parse().ok())
                .unwrap_or_default(),
            plugins: plugins()?,
            meta_cni_bytes: std::fs::metadata(&meta_cni)
                .with_context(|| format!("looking at {}", meta_cni.display()))?
                .len(),
            memory_mib: process::total_mib()?,
            braid: first_line(&artefacts::braid()?, &["--version"]),
            api_server: servers.as_ref().map(|dir| said(dir.join("kube-apiserver"))).unwrap_or_default(),
            etcd: servers.as_ref().map(|dir| said(control_plane::etcd(dir))).unwrap_or_default(),
        })
    }
}

fn read(path: &str) -> String {
    read_to_string(path).unwrap_or_default()
}

fn cpu(cpuinfo: &str) -> String {
    let name = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    name.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, name)| name.to_owned())
}

fn plugins() -> Result<String> {
    let dir = artefacts::reference_plugins()
        .context("the reference plugins: install containernetworking-plugins")?;
    let said = first_line(&dir.join("bridge"), &[]);
    let package = first_line(
        Path::new("dpkg-query"),
        &["--showformat=${Version}", "--show", "containernetworking-plugins"],
    );
    Ok(if package.is_empty() { said } else { format!("{said} (Debian's package: {package})") })
}

/// The first line that a program prints; nothing if it cannot be run.
fn first_line(program: &Path, args: &[&str]) -> String {
    let Ok(output) = Command::new(program).args(args).output() else { return String::new() };
    let printed = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&printed).lines().next().unwrap_or_default().trim().to_owned()
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        #[allow(clippy::cast_precision_loss)] // A few MiB.
        let mebibytes = self.meta_cni_bytes as f64 / f64::from(1 << 20);
        let Self { cpu, cores, kernel, load, memory_mib, .. } = self;
        writeln!(f, "{cpu}, {cores} cores, {memory_mib} MiB of memory, Linux {kernel}, load {load}")?;
        writeln!(f, "delegates: {}", self.plugins)?;
        writeln!(f, "{}; meta-cni: {mebibytes:.1} MiB on disk", self.braid)?;
        if !self.api_server.is_empty() {
            writeln!(f, "servers: {}, {}", self.api_server, self.etcd)?;
        }
        #[allow(clippy::cast_precision_loss)]
        let busy = self.load > self.cores as f64 / 2.0;
        if busy {
            writeln!(f, "The machine is busy with other things: expect figures that are too high.")
        } else {
            Ok(())
        }
    }
}
