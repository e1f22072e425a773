//! The control groups below which the kubelets of a local cluster keep their pods, so that no kubelet takes another
//! one's pods for its own orphans.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

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
