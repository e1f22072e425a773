//! The control groups below which the kubelets of a local cluster keep their pods, so that no kubelet takes another
//! one's pods for its own orphans.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::wait;

/// Where hierarchies are mounted.
const MOUNT: &str = "/sys/fs/cgroup";

/// Makes a control group in every hierarchy; its name is a path of one or two parts.
pub(super) fn make(group: &str) -> Result<()> {
    for hierarchy in hierarchies()? {
        let mut at = hierarchy;
        for part in group.split('/') {
            delegate(&at);
            at.push(part);
            fs::create_dir_all(&at).with_context(|| format!("making the control group {}", at.display()))?;
            inherit_cpus(&at);
        }
        delegate(&at);
    }
    Ok(())
}

/// Removes a control group, and what is below it, from every hierarchy. A group goes when its last process is gone, which
/// takes a moment after it was killed.
pub(super) fn remove(group: &str) -> Result<()> {
    for hierarchy in hierarchies()? {
        let top = hierarchy.join(group);
        wait::until("the control groups of a machine that is off are gone", || Ok(remove_tree(&top)))
            .with_context(|| format!("removing {}", top.display()))?;
    }
    Ok(())
}

/// Whether a group is gone, after those below it have been removed. What cannot be removed stays.
fn remove_tree(group: &Path) -> bool {
    let entries = fs::read_dir(group).into_iter().flatten().flatten();
    let below = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    for entry in below {
        remove_tree(&entry.path());
    }
    // The files of a group are no obstacle.
    let _ = fs::remove_dir(group);
    !group.exists()
}

/// Version 2 has one hierarchy, version 1 one for each controller.
fn hierarchies() -> Result<Vec<PathBuf>> {
    let mount = Path::new(MOUNT);
    if mount.join("cgroup.controllers").exists() {
        return Ok(vec![mount.to_owned()]);
    }
    let entries = fs::read_dir(mount).with_context(|| format!("listing {MOUNT}"))?.flatten();
    let dirs = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    Ok(dirs.map(|entry| entry.path()).filter(|dir| dir.join("tasks").exists()).collect())
}

/// Version 2 gives a group only the controllers that its parent passes on. What a kernel lacks is not passed on.
fn delegate(parent: &Path) {
    for controller in ["cpuset", "cpu", "memory", "pids"] {
        let _ = fs::write(parent.join("cgroup.subtree_control"), format!("+{controller}"));
    }
}

/// Version 1 makes groups that may run on no processor.
fn inherit_cpus(group: &Path) {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let parent = group.parent().unwrap_or(group).join(file);
        if group.join("tasks").exists()
            && let Ok(value) = fs::read_to_string(parent)
        {
            let _ = fs::write(group.join(file), value.trim());
        }
    }
}
