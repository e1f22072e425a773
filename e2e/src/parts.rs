//! The parts on which tests ran, with their versions: how far a result reaches depends on them.

use std::fmt;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use crate::containerd::Programs;
use crate::program::output;
use crate::version::Version;

/// How Debian's package of the reference plugins is called.
pub(crate) const PLUGINS: &str = "containernetworking-plugins";

/// A part and its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    name: &'static str,
    version: String,
}

impl Part {
    /// A part of which somebody has said the version.
    pub fn new(name: &'static str, version: impl fmt::Display) -> Self {
        Self { name, version: version.to_string() }
    }

    /// This machine's kernel.
    pub fn kernel() -> Self {
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self::known("kernel", Some(release.trim().to_owned()).filter(|release| !release.is_empty()))
    }

    /// A containerd, and the runc that it finds.
    pub fn of_containerd(programs: &Programs) -> [Self; 2] {
        [Self::new("containerd", programs.version()), Self::known("runc", programs.runc())]
    }

    /// A program that prints its version when it gets `--version`.
    pub fn of_program(name: &'static str, program: &Path) -> Self {
        Self::known(name, Version::of(program, Some("--version")).ok())
    }

    /// The reference plugins of a directory: what they say of themselves, else the version of their package. Debian's
    /// say nothing.
    pub fn plugins(dir: &Path) -> Self {
        let package =
            || output(Command::new("dpkg-query").args(["--showformat=${Version}", "--show", PLUGINS]));
        let version = package_of(dir)
            .or_else(|| Version::of(&dir.join("bridge"), None).ok().map(|version| version.to_string()))
            .or_else(|| package().ok().filter(|_| dir.starts_with("/usr/lib")));
        Self::known("CNI plugins", version)
    }

    fn known(name: &'static str, version: Option<impl fmt::Display>) -> Self {
        version.map_or_else(|| Self::new(name, "unknown"), |version| Self::new(name, version))
    }
}

/// The version in the name of a package that `scripts/runtimes` has unpacked.
fn package_of(dir: &Path) -> Option<String> {
    let package = dir.parent()?.file_name()?.to_str()?;
    package.strip_prefix(PLUGINS)?.strip_prefix('-').map(str::to_owned)
}

/// A line for each part.
pub(crate) fn lines(parts: &[Part]) -> Vec<String> {
    parts.iter().map(|part| format!("  {:<12} {}", part.name, part.version)).collect()
}

/// Tells on which parts the running test runs: on stderr, whatever the test harness captures.
pub fn tell(parts: &[Part]) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    let parts: Vec<_> = parts.iter().map(|part| format!("{} {}", part.name, part.version)).collect();
    let _ = writeln!(std::io::stderr(), "{test} runs on {}", parts.join(", "));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_has_a_line_and_one_without_a_version_says_so() {
        let parts = [Part::new("etcd", "3.5.30"), Part::of_program("CNI plugins", Path::new("/nonexistent"))];
        assert_eq!(lines(&parts), ["  etcd         3.5.30", "  CNI plugins  unknown"]);
        assert_ne!(Part::kernel().version, "unknown");
    }

    #[test]
    fn unpacked_plugins_have_the_version_of_their_package() {
        let dir = Path::new("/cache/braid/runtimes/containernetworking-plugins-1.9.1+ds1-1/bin");
        assert_eq!(Part::plugins(dir), Part::new("CNI plugins", "1.9.1+ds1-1"));
        assert_eq!(Part::plugins(Path::new("/nonexistent/bin")), Part::new("CNI plugins", "unknown"));
    }
}
