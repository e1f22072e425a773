//! Real node roles in directories of their own, without hosts: they follow the API server, write their files and
//! report, but no pod is attached there.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::json;
use store::NodeDirectory;

use super::change::{self, PATIENCE};
use crate::artefacts;
use crate::control_plane::{ControlPlane, User};
use crate::memory;
use crate::operator::Operator;
use crate::wait;

/// In memory, and gone with the benchmark's namespaces.
const PLACE: &str = "/run/braid-growth";
/// So many are started before the first of them is waited for.
const STARTED_AT_ONCE: usize = 10;
/// Looking at the files of hundreds costs something; when they were written is in the files.
const GLANCE: Duration = Duration::from_millis(50);

/// Node roles. Dropping them ends them.
#[derive(Default)]
pub(super) struct Real {
    all: Vec<Role>,
}

struct Role {
    operator: Operator,
    directory: NodeDirectory,
}

impl Real {
    pub(super) fn count(&self) -> usize {
        self.all.len()
    }

    /// Starts more, until there are so many, and waits until all of them are ready.
    pub(super) fn grow(
        &mut self,
        plane: &ControlPlane,
        user: &User,
        interval: Duration,
        to: usize,
    ) -> Result<()> {
        let kubeconfig = plane.kubeconfig(user)?;
        while self.count() < to {
            let first = self.count();
            for number in first..to.min(first + STARTED_AT_ONCE) {
                let role = start(number, &kubeconfig, interval)?;
                plane.guard(&format!("growth-{number}"), role.operator.id())?;
                self.all.push(role);
            }
            for (number, role) in self.all.iter_mut().enumerate().skip(first) {
                role.operator.wait_until_ready().with_context(|| format!("node role {number}"))?;
            }
        }
        Ok(())
    }

    /// When a change reached the files of each of them, once it has.
    pub(super) fn wait_for_arrivals(&self, change: usize) -> Result<Vec<Instant>> {
        let mut arrived = vec![None; self.count()];
        wait::at_times(GLANCE, PATIENCE, "a change is in the files of all node roles", || {
            for (at, role) in arrived.iter_mut().zip(&self.all) {
                if at.is_none() {
                    *at = change::reached(&role.directory, change)?;
                }
            }
            Ok(arrived.iter().all(Option::is_some))
        })?;
        Ok(arrived.into_iter().flatten().collect())
    }

    /// Memory in KiB: the greatest peak, and the mean now.
    pub(super) fn memory(&self) -> Result<(u64, u64)> {
        let all = self.all.iter().map(|role| memory::resident(role.operator.id()));
        let all = all.collect::<Result<Vec<_>>>()?;
        let peak = all.iter().map(|(peak, _)| *peak).max().unwrap_or_default();
        let sum: u64 = all.iter().map(|(_, now)| *now).sum();
        Ok((peak, sum / u64::try_from(all.len().max(1))?))
    }
}

fn start(number: usize, kubeconfig: &Path, interval: Duration) -> Result<Role> {
    let dir = PathBuf::from(PLACE).join(number.to_string());
    let place = |name: &str| dir.join(name).display().to_string();
    for name in ["net.d", "bin"] {
        fs::create_dir_all(dir.join(name)).with_context(|| format!("making {}", place(name)))?;
    }
    let primary = json!({"cniVersion": "1.0.0", "name": "primary", "plugins": [{"type": "bridge"}]});
    fs::write(dir.join("net.d/10-primary.conflist"), primary.to_string())?;
    let plugin = artefacts::meta_cni()?;
    std::os::unix::fs::symlink(&plugin, dir.join("bin/meta-cni"))?;
    let arguments = [
        ("--node-name", format!("real-{number}")),
        ("--report-interval", interval.as_secs().to_string()),
        ("--run-dir", place("run")),
        ("--state-dir", place("state")),
        ("--cni-conf-dir", place("net.d")),
        ("--cni-bin-dir", place("bin")),
        ("--install", "configuration".to_owned()),
    ];
    let arguments: Vec<&str> = arguments.iter().flat_map(|(flag, value)| [*flag, value]).collect();
    let operator = Operator::start("node", &dir, kubeconfig, &arguments)?;
    Ok(Role { operator, directory: NodeDirectory::new(dir.join("run"), dir.join("state")) })
}
