//! The newer parts that `scripts/runtimes` has unpacked, and where Braid's scripts keep what they provide.

use std::path::{Path, PathBuf};

use crate::version::Version;

/// The directory in which `scripts/kubernetes` and `scripts/runtimes` keep what they provide.
pub(crate) fn cache() -> Option<PathBuf> {
    let set = |variable: &str| std::env::var_os(variable).filter(|value| !value.is_empty());
    let home = |home| Path::new(&home).join(".cache");
    let cache = set("XDG_CACHE_HOME").map(PathBuf::from).or_else(|| set("HOME").map(home));
    cache.map(|cache| cache.join("braid"))
}

/// The directory with the programs of the newest unpacked version of a package that suits.
pub(crate) fn newest(package: &str, suits: impl Fn(Version) -> bool) -> Option<PathBuf> {
    newest_in(&cache()?.join("runtimes"), package, suits)
}

/// Why `scripts/runtimes` could not provide something, if it has tried.
pub(crate) fn unavailable() -> Option<String> {
    let reason = std::fs::read_to_string(cache()?.join("runtimes/unavailable")).ok()?;
    Some(format!("scripts/runtimes could not fetch everything: {}", reason.trim()))
}

fn newest_in(dir: &Path, package: &str, suits: impl Fn(Version) -> bool) -> Option<PathBuf> {
    let entries = dir.read_dir().into_iter().flatten().flatten();
    let unpacked = entries.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let version = Version::find(name.strip_prefix(package)?.strip_prefix('-')?)?;
        Some((version, entry.path().join("bin")))
    });
    let suitable = unpacked.filter(|(version, bin)| suits(*version) && bin.is_dir());
    suitable.max_by_key(|(version, _)| *version).map(|(_, bin)| bin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_that_suits_is_taken() {
        let cache = tempfile::tempdir().unwrap();
        for package in
            ["containerd-1.7.24~ds1-6", "containerd-1.10.1~ds1-1", "containerd-2.1.9+ds1-5", ".new"]
        {
            std::fs::create_dir_all(cache.path().join(package).join("bin")).unwrap();
        }
        std::fs::write(cache.path().join("lock"), "").unwrap();
        let newest = |below| {
            let bin = newest_in(cache.path(), "containerd", |version| version < Version::new(below, 0))?;
            Some(bin.strip_prefix(cache.path()).unwrap().display().to_string())
        };
        assert_eq!(newest(3).unwrap(), "containerd-2.1.9+ds1-5/bin");
        assert_eq!(newest(2).unwrap(), "containerd-1.10.1~ds1-1/bin");
        assert_eq!(newest(1), None);
    }
}
