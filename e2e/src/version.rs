//! Versions of the programs that tests run: asked of each program, and compared. What depends on a version is decided
//! by whoever writes flags and configurations.

use std::fmt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

/// The version of a program: `1.20.2`, without what distributions add to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    major: u32,
    minor: u32,
    patch: u32,
}

impl Version {
    /// The first version with this major and minor number.
    pub const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor, patch: 0 }
    }

    /// Asks a program for its version, with the argument that it wants for that. What counts is the first line: plugins
    /// list versions of CNI below it.
    pub fn of(program: &Path, argument: Option<&str>) -> Result<Self> {
        let what = || format!("asking {} for its version", program.display());
        let mut command = Command::new(program);
        let output = command.args(argument).stdin(Stdio::null()).output().with_context(what)?;
        let printed = [output.stdout, output.stderr].concat();
        let printed = String::from_utf8_lossy(&printed);
        let line = printed.lines().next().unwrap_or_default();
        Self::find(line).with_context(|| format!("it printed {line:?}")).with_context(what)
    }

    /// The first version in a text: three numbers with dots between them. `containerd/v2 2.1.9` is 2.1.9.
    pub fn find(text: &str) -> Option<Self> {
        text.split(|c: char| !c.is_ascii_digit() && c != '.').find_map(|word| {
            let mut numbers = word.split('.').map(str::parse);
            let mut next = || numbers.next()?.ok();
            Some(Self { major: next()?, minor: next()?, patch: next()? })
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_found_in_what_programs_and_packages_say() {
        for (said, version) in [
            ("Kubernetes v1.20.2", "1.20.2"),
            ("Kubernetes v1.36.0-rc.1+0123456789abcd", "1.36.0"),
            ("containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u3", "1.6.20"),
            ("containerd github.com/containerd/containerd/v2 2.1.9+unknown ", "2.1.9"),
            ("containerd containerd.io v2.2.0 1c4457e00facac03ce1d75f7b6777a7a851e5c41", "2.2.0"),
            ("etcd Version: 3.5.30\nGit SHA: Not provided\nGo Version: go1.24.4", "3.5.30"),
            ("runc version 1.1.5+ds1\ncommit: 1.1.5+ds1-1+deb12u1\nspec: 1.0.2-dev", "1.1.5"),
            ("containernetworking-plugins-1.9.1+ds1-1", "1.9.1"),
        ] {
            let found = Version::find(said).unwrap();
            assert_eq!(found.to_string(), version, "{said}");
        }
        assert_eq!(Version::find("CNI bridge plugin version unknown"), None);
        assert_eq!(Version::find("containerd/v2 2.1"), None);
    }

    #[test]
    fn versions_are_compared_by_their_numbers() {
        let version = |text: &str| Version::find(text).unwrap();
        assert!(version("1.9.1") < version("1.20.2"));
        assert!(version("1.26.0") >= Version::new(1, 26) && version("1.25.9") < Version::new(1, 26));
    }

    #[test]
    fn a_program_that_says_no_version_is_named() {
        let error = Version::of(Path::new("true"), None).unwrap_err();
        assert_eq!(format!("{error:#}"), "asking true for its version: it printed \"\"");
    }
}
