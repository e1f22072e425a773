//! Which containerd runs: the programs of one version, and which kubelets it serves.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::packages;
use crate::program::{not_installed, on_path};
use crate::version::Version;

/// Names a directory with containerd, ctr, containerd-shim-runc-v2 and perhaps runc.
const VARIABLE: &str = "BRAID_CONTAINERD_BIN";

/// The package that `scripts/runtimes` unpacks in several versions.
const PACKAGE: &str = "containerd";

/// The programs that have to be together, and Debian's package that has each.
const PROGRAMS: [(&str, &str); 3] =
    [("containerd", PACKAGE), ("ctr", PACKAGE), ("containerd-shim-runc-v2", PACKAGE)];

/// What the kubelet and the runtime have to agree on: the version `v1` of the container runtime interface came with
/// kubelet 1.23 and containerd 1.6; kubelet 1.26 and containerd 2.0 speak no other.
const KUBELET_SPEAKS_V1: Version = Version::new(1, 23);
const KUBELET_SPEAKS_V1_ONLY: Version = Version::new(1, 26);
const CONTAINERD_SPEAKS_V1: Version = Version::new(1, 6);
const CONTAINERD_SPEAKS_V1_ONLY: Version = Version::new(2, 0);

/// The programs of one containerd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Programs {
    /// Where they are; on `PATH` without it.
    dir: Option<PathBuf>,
    version: Version,
}

impl Programs {
    /// Those of the directory that `BRAID_CONTAINERD_BIN` names, else those of this machine.
    pub fn of_machine() -> Result<Self> {
        Self::at(named())
    }

    /// The newest containerd 2 that `scripts/runtimes` has unpacked, whatever this machine's is.
    pub fn newest() -> Result<Self> {
        let dir = packages::newest(PACKAGE, |version| version >= CONTAINERD_SPEAKS_V1_ONLY);
        let dir = dir.context("containerd 2 is not unpacked here: scripts/runtimes does that")?;
        Self::at(Some(dir))
    }

    /// Those that serve a kubelet: of the directory that `BRAID_CONTAINERD_BIN` names, else the newest that suits, of
    /// those that are unpacked and this machine's.
    pub(crate) fn for_kubelet(kubelet: Version) -> Result<Self> {
        let chosen = named().map_or_else(|| Self::newest_for(kubelet), |dir| Self::at(Some(dir)))?;
        let problem = disagreement(kubelet, chosen.version);
        ensure!(problem.is_none(), "{}", problem.unwrap_or_default());
        Ok(chosen)
    }

    /// The newest that suits, of this machine's and those that are unpacked.
    fn newest_for(kubelet: Version) -> Result<Self> {
        let suits = |containerd| disagreement(kubelet, containerd).is_none();
        let own = Self::at(None)?;
        let better = |version| suits(version) && (version > own.version || !suits(own.version));
        packages::newest(PACKAGE, better).map_or(Ok(own.clone()), |dir| Self::at(Some(dir)))
    }

    fn at(dir: Option<PathBuf>) -> Result<Self> {
        let containerd = dir.as_deref().unwrap_or(Path::new("")).join("containerd");
        let version = Version::of(&containerd, Some("--version")).context("looking for containerd")?;
        Ok(Self { dir, version })
    }

    /// The version of containerd.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The `PATH` on which containerd finds its shim and runc, and everybody finds these programs first.
    pub(crate) fn search_path(&self) -> OsString {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let Some(dir) = &self.dir else { return path };
        let mut all = dir.clone().into_os_string();
        all.push(OsStr::new(":"));
        all.push(path);
        all
    }

    /// The version of runc that this containerd finds.
    pub(crate) fn runc(&self) -> Option<Version> {
        let own = self.dir.as_ref().map(|dir| dir.join("runc")).filter(|runc| runc.is_file());
        Version::of(own.as_deref().unwrap_or(Path::new("runc")), Some("--version")).ok()
    }

    /// A command that runs one of these programs.
    pub(super) fn command(&self, program: &str) -> Command {
        let mut command = match &self.dir {
            Some(dir) => Command::new(dir.join(program)),
            None => Command::new(program),
        };
        command.env("PATH", self.search_path());
        command
    }
}

/// Says which of the programs of [`Programs::of_machine`] is not there, or that runc is not.
pub(super) fn missing() -> Option<String> {
    let named = named();
    let has = |program: &str| match &named {
        Some(dir) if dir.join(program).is_file() => true,
        // runc may be this machine's.
        Some(_) if program != "runc" => false,
        _ => on_path(program),
    };
    let mut programs = PROGRAMS.iter().chain([&("runc", "runc")]);
    programs.find(|(program, _)| !has(program)).map(|(program, package)| match &named {
        Some(dir) => format!("{VARIABLE} names {}, which has no {program}", dir.display()),
        None => not_installed(package),
    })
}

fn named() -> Option<PathBuf> {
    std::env::var_os(VARIABLE).filter(|dir| !dir.is_empty()).map(PathBuf::from)
}

/// Why a kubelet cannot run on a containerd, and what to do.
fn disagreement(kubelet: Version, containerd: Version) -> Option<String> {
    let (speaks, other, wanted) = if kubelet < KUBELET_SPEAKS_V1 && containerd >= CONTAINERD_SPEAKS_V1_ONLY {
        ("v1alpha2", "v1", "containerd before 2.0, or servers of Kubernetes 1.23 or later")
    } else if kubelet >= KUBELET_SPEAKS_V1_ONLY && containerd < CONTAINERD_SPEAKS_V1 {
        ("v1", "v1alpha2", "containerd 1.6 or later, or servers of Kubernetes before 1.26")
    } else {
        return None;
    };
    Some(format!(
        "kubelet {kubelet} speaks only {speaks} of the container runtime interface, and containerd {containerd} only \
         {other}: name a directory with {wanted} ({VARIABLE}, BRAID_KUBERNETES_BIN)"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        Version::find(text).unwrap()
    }

    #[test]
    fn a_kubelet_and_a_containerd_without_a_common_version_are_refused() {
        for (kubelet, containerd, works) in [
            ("1.20.2", "1.5.0", true),
            ("1.20.2", "1.6.20", true),
            ("1.20.2", "1.7.24", true),
            ("1.20.2", "2.1.9", false),
            ("1.22.17", "2.0.0", false),
            ("1.23.0", "2.1.9", true),
            ("1.25.16", "1.5.18", true),
            ("1.26.0", "1.5.18", false),
            ("1.26.0", "1.6.0", true),
            ("1.36.2", "1.7.24", true),
            ("1.36.2", "2.1.9", true),
        ] {
            let problem = disagreement(version(kubelet), version(containerd));
            assert_eq!(problem.is_none(), works, "kubelet {kubelet}, containerd {containerd}: {problem:?}");
        }
        assert_eq!(
            disagreement(version("1.20.2"), version("2.1.9")).unwrap(),
            "kubelet 1.20.2 speaks only v1alpha2 of the container runtime interface, and containerd 2.1.9 only v1: name \
             a directory with containerd before 2.0, or servers of Kubernetes 1.23 or later (BRAID_CONTAINERD_BIN, \
             BRAID_KUBERNETES_BIN)"
        );
    }

    #[test]
    fn its_own_directory_is_searched_before_the_machines() {
        let programs = Programs { dir: Some("/some/bin".into()), version: version("2.1.9") };
        let path = programs.search_path().into_string().unwrap();
        assert!(path.starts_with("/some/bin:") && path.len() > "/some/bin:".len(), "{path}");
        assert_eq!(programs.command("ctr").get_program(), "/some/bin/ctr");
        let of_machine = Programs { dir: None, version: version("1.6.20") };
        assert_eq!(of_machine.command("ctr").get_program(), "ctr");
    }
}
