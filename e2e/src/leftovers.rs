//! What a test has outside of itself, named after its process: directories, runtimes and mounts below them. What
//! a killed test left is found by that name and taken away by force.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, kill_process};

/// Creates a directory that [`orphans`] finds when this process is no more.
pub(crate) fn directory(prefix: &str) -> Result<PathBuf> {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let name = format!("{prefix}{}.{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let dir = std::env::temp_dir().join(name);
    fs::create_dir(&dir).with_context(|| format!("creating {}", dir.display()))?;
    Ok(dir)
}

/// The directories that [`directory`] made with the same prefix for processes that are no more.
pub(crate) fn orphans(prefix: &str) -> Result<Vec<PathBuf>> {
    let parent = std::env::temp_dir();
    let mut found = Vec::new();
    for entry in fs::read_dir(&parent).with_context(|| format!("listing {}", parent.display()))? {
        let entry = entry.with_context(|| format!("listing {}", parent.display()))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if is_orphan(&name, prefix) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Whether a name is `prefix`, the id of a process that is no more, a dot, and anything.
pub(crate) fn is_orphan(name: &str, prefix: &str) -> bool {
    let owner = name.strip_prefix(prefix).and_then(|rest| rest.split('.').next()?.parse().ok());
    owner.is_some_and(is_gone)
}

/// A process that has ended but that nobody has waited for is gone too: it has no executable any more.
fn is_gone(process: u32) -> bool {
    fs::read_link(format!("/proc/{process}/exe")).is_err()
}

/// Ends the runtimes and servers that work in `dir` and what they started, unmounts what is mounted below it, network
/// namespaces included, and removes it.
pub(crate) fn clear(dir: &Path) -> Result<()> {
    for pid in processes_of(dir) {
        // It may have ended by itself since.
        let _ = kill_process(pid, Signal::KILL);
    }
    for point in mounts_below(dir)? {
        unmount(&point, UnmountFlags::DETACH).with_context(|| format!("unmounting {}", point.display()))?;
    }
    fs::remove_dir_all(dir).with_context(|| format!("removing {}", dir.display()))
}

/// The containerd, shims, conmons and servers with `dir` in an argument, and what they started: a shim names the
/// socket of its containerd, but the container that it runs does not.
fn processes_of(dir: &Path) -> Vec<Pid> {
    let mut found = BTreeSet::new();
    for id in all_processes().filter(|id| is_ours(*id, dir)) {
        add_with_children(id, &mut found);
    }
    found.into_iter().filter_map(|id| Pid::from_raw(i32::try_from(id).ok()?)).collect()
}

fn all_processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Whether a process is a runtime's or server's that works in `dir`, and not, say, a pager on one of its files.
fn is_ours(id: u32, dir: &Path) -> bool {
    let arguments = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
    let arguments = String::from_utf8_lossy(&arguments);
    let program = arguments.split('\0').next().and_then(|first| first.rsplit('/').next()).unwrap_or_default();
    let started = ["braid", "conmon", "etcd", "kube-apiserver", "podman", "unshare"].contains(&program);
    (started || program.starts_with("containerd")) && arguments.contains(&format!("{}/", dir.display()))
}

fn add_with_children(id: u32, found: &mut BTreeSet<u32>) {
    if !found.insert(id) {
        return;
    }
    for task in fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten() {
        let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        for child in children.split_whitespace().filter_map(|child| child.parse().ok()) {
            add_with_children(child, found);
        }
    }
}

/// The mount points below `dir`, innermost first.
fn mounts_below(dir: &Path) -> Result<Vec<PathBuf>> {
    let table = fs::read_to_string("/proc/self/mountinfo").context("reading the mount table")?;
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
    let mut points: Vec<PathBuf> = points.filter(|point| point.starts_with(dir)).collect();
    points.reverse();
    Ok(points)
}
