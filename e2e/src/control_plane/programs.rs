//! Where etcd and kube-apiserver are found: in the places in which `scripts/kubernetes` looks and puts them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::packages;

/// The programs of a control plane.
const PROGRAMS: [&str; 2] = ["etcd", "kube-apiserver"];

/// Variables that name a directory with the programs. Those of envtest have etcd and kube-apiserver only: who needs
/// more looks further.
const VARIABLES: [&str; 2] = ["KUBEBUILDER_ASSETS", "BRAID_KUBERNETES_BIN"];

/// Tells what [`super::ControlPlane::start`] misses on this machine.
pub fn missing() -> Option<String> {
    directory(&PROGRAMS).err().map(|error| format!("{error:#}"))
}

/// The first directory that has all of these programs.
pub fn directory(programs: &[&str]) -> Result<PathBuf> {
    let places = places();
    let has_all = |place: &&PathBuf| programs.iter().all(|program| place.join(program).is_file());
    places.iter().find(has_all).cloned().with_context(|| {
        let places: Vec<_> = places.iter().map(|place| place.display().to_string()).collect();
        format!(
            "{} are not together in a directory of [{}]: scripts/kubernetes builds them, or name their directory with {}",
            programs.join(" and "),
            places.join(", "),
            VARIABLES[0]
        )
    })
}

/// The etcd for the servers of a directory: the one beside them if the directory was named, else the newest that
/// `scripts/runtimes` has unpacked: the one that is built with the servers is as old as they are.
pub fn etcd(servers: &Path) -> PathBuf {
    let own = || servers.join("etcd");
    if named().any(|dir| dir == servers) {
        return own();
    }
    packages::newest("etcd-server", |_| true).map_or_else(own, |bin| bin.join("etcd"))
}

fn places() -> Vec<PathBuf> {
    let built = packages::cache().map(|cache| built(&cache.join("kubernetes"))).unwrap_or_default();
    named().chain(built).collect()
}

fn named() -> impl Iterator<Item = PathBuf> {
    let set = |variable: &str| std::env::var_os(variable).filter(|value| !value.is_empty());
    VARIABLES.into_iter().filter_map(set).map(PathBuf::from)
}

/// The directories of the versions that were built here, the newest first.
fn built(cache: &Path) -> Vec<PathBuf> {
    let versions = cache.read_dir().into_iter().flatten().flatten();
    let mut found: Vec<_> =
        versions.map(|version| version.path().join("bin")).filter(|bin| bin.is_dir()).collect();
    found.sort_by(|one, other| other.cmp(one));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_comes_first_and_a_build_that_goes_on_is_none() {
        let cache = tempfile::tempdir().unwrap();
        for dir in ["1.20.2/bin", "1.33.4/bin", ".building.x1/src"] {
            std::fs::create_dir_all(cache.path().join(dir)).unwrap();
        }
        std::fs::write(cache.path().join("lock"), "").unwrap();
        let expected = ["1.33.4/bin", "1.20.2/bin"].map(|dir| cache.path().join(dir));
        assert_eq!(built(cache.path()), expected);
    }

    #[test]
    fn what_is_not_there_is_named_with_what_provides_it() {
        let error = directory(&["etcd", "no-such-server"]).unwrap_err().to_string();
        assert!(error.starts_with("etcd and no-such-server are not together"), "{error}");
        assert!(error.contains("scripts/kubernetes builds them"), "{error}");
    }
}
