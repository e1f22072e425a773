//! What a test needs of the machine, and what happens when it is not there.
//!
//! A test that needs something says so first and returns if it is not met:
//!
//! ```no_run
//! use e2e::requirement::{Need, met};
//!
//! if !met(&[Need::Root, Need::Link("macvlan")]) {
//!     return;
//! }
//! ```
//!
//! | variable | meaning |
//! |---|---|
//! | `BRAID_SKIPPED` | a file to which one line is appended for each test that was skipped |
//! | `BRAID_ALL_TESTS=1` or `CI` | a need that is not met fails the test, unless it is out of reach here (the kernel's; what Debian's archive has, elsewhere or without it) |

use std::fmt;
use std::fs::OpenOptions;
use std::io::Write;

use crate::netns::Namespace;
use crate::program::{not_installed, on_path};
use crate::{artefacts, containerd, control_plane, packages, podman};

/// Something that a test needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// The rights to make network namespaces.
    Root,
    /// The reference plugins.
    Plugins,
    /// A program on `PATH`, and Debian's package that has it.
    Program(&'static str, &'static str),
    /// Executables of Braid for arm64, which `make image` builds, and QEMU to run them.
    Arm64,
    /// Executables of Braid that need nothing of the machine.
    StaticPrograms,
    /// Everything that [`containerd::Containerd`] needs.
    Containerd,
    /// The newest containerd that `scripts/runtimes` provides, whatever this machine's is.
    NewestContainerd,
    /// Everything that [`podman::Podman`] needs.
    Podman,
    /// Everything that [`control_plane::ControlPlane`] needs.
    ControlPlane,
    /// A kind of link (`ip link add type …`) that the kernel can make.
    Link(&'static str),
}

impl Need {
    /// What is missing, if something is.
    pub(crate) fn missing(self) -> Option<String> {
        match self {
            Self::Root => (!rustix::process::geteuid().is_root()).then(|| "it needs root".to_owned()),
            Self::Plugins => artefacts::missing_plugins(),
            Self::Program(program, of) => (!on_path(program)).then(|| not_installed(of)),
            Self::Arm64 => artefacts::missing_for_arm64(),
            Self::StaticPrograms => artefacts::not_static(),
            Self::Containerd => containerd::missing(),
            Self::NewestContainerd => {
                let problem = containerd::Programs::newest().err()?;
                Some(packages::unavailable().unwrap_or_else(|| format!("{problem:#}")))
            }
            Self::Podman => podman::missing().map(|package| not_installed(&package)),
            Self::ControlPlane => control_plane::missing(),
            Self::Link(kind) => {
                let problem = probe(kind).err()?;
                Some(format!("this kernel makes no link of type {kind}: {problem:#}"))
            }
        }
    }

    /// Whether nobody can do anything about it on this machine. `scripts/kubernetes` builds a control plane on Debian, and
    /// `scripts/runtimes` unpacks newer parts there, if it reaches Debian's archive.
    fn is_out_of_reach(self) -> bool {
        match self {
            Self::Link(_) => true,
            // CI makes the image first, unless nobody can: rustup may not have the target.
            Self::Arm64 => std::env::var_os("CI").is_none() || !artefacts::can_be_built_for_arm64(),
            Self::ControlPlane => !is_debian(),
            Self::Plugins => artefacts::plugins_are_unavailable(),
            Self::NewestContainerd => !is_debian() || packages::unavailable().is_some(),
            _ => false,
        }
    }
}

/// Not Ubuntu and others that come from it: their archives are other ones.
fn is_debian() -> bool {
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    release.lines().any(|line| line == "ID=debian")
}

/// Makes a link of a kind in a throw-away namespace.
fn probe(kind: &str) -> anyhow::Result<()> {
    let netns = Namespace::new("probe")?;
    let rest = match kind {
        "veth" => "peer name p1",
        "vrf" => "table 10",
        "vlan" => "id 5",
        _ => "",
    };
    let on = if ["macvlan", "ipvlan", "vlan"].contains(&kind) {
        netns.ip("link add master0 type veth peer name master1")?;
        "link master0"
    } else {
        ""
    };
    netns.ip(&format!("link add {on} name p0 type {kind} {rest}")).map(drop)
}

/// Whether the running test can run. If not, that is told, and the test is to return.
///
/// *Guarantees*: it never passes in silence: what was skipped is on stderr, whatever the test harness captures, and
/// in the file of `BRAID_SKIPPED`.
///
/// # Panics
/// On behalf of the test, where nothing may be skipped.
pub fn met(needs: &[Need]) -> bool {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    for need in needs {
        let Some(why) = need.missing() else { continue };
        assert!(need.is_out_of_reach() || !all_tests(), "{test} cannot be skipped here: {why}");
        skipped(format_args!("{test}: {why}"));
        return false;
    }
    true
}

/// Tells that something was skipped that is no test of the standard runner. Where nothing may be skipped and this
/// machine could run it, that is an error.
pub(crate) fn skip(what: &str, why: &str) -> anyhow::Result<()> {
    let out_of_reach = why.starts_with("this kernel") || !is_debian();
    anyhow::ensure!(out_of_reach || !all_tests(), "{what} cannot be skipped here: {why}");
    skipped(format_args!("{what}: {why}"));
    Ok(())
}

/// The same where nothing on this machine could change it: versions that no package has, a cluster that is somebody else's.
pub(crate) fn out_of_reach(what: &str, why: &str) {
    skipped(format_args!("{what}: {why}"));
}

fn all_tests() -> bool {
    std::env::var("BRAID_ALL_TESTS").is_ok_and(|value| value == "1") || std::env::var_os("CI").is_some()
}

fn skipped(what: fmt::Arguments<'_>) {
    // Not eprintln!, which the test harness captures.
    let _ = writeln!(std::io::stderr(), "SKIPPED {what}");
    let Some(file) = std::env::var_os("BRAID_SKIPPED") else { return };
    let opened = OpenOptions::new().create(true).append(true).open(&file);
    // One write for a line: tests of several processes append to the file.
    if let Err(error) = opened.and_then(|mut file| file.write_all(format!("{what}\n").as_bytes())) {
        let _ = writeln!(std::io::stderr(), "cannot write {}: {error}", file.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_named_with_its_package() {
        let missing = Need::Program("no-such-program", "no-such-package").missing();
        assert_eq!(missing.unwrap(), "Debian's package no-such-package is not installed");
        assert_eq!(Need::Program("sh", "dash").missing(), None);
    }

    #[test]
    fn a_kind_of_link_is_probed_by_making_one() {
        if !met(&[Need::Root, Need::Program("ip", "iproute2")]) {
            return;
        }
        assert_eq!(Need::Link("veth").missing(), None);
        let missing = Need::Link("no-such-kind").missing().unwrap();
        assert!(missing.starts_with("this kernel makes no link of type no-such-kind: "), "{missing}");
    }
}
