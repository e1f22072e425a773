//! Where etcd and the programs of Kubernetes are.

use std::path::PathBuf;

use crate::program::on_path;

/// Variables that name a directory of executables, the first that has them wins.
const VARIABLES: [&str; 2] = ["KUBEBUILDER_ASSETS", "BRAID_KUBERNETES_BIN"];

/// The directory that has etcd and kube-apiserver.
pub fn executables() -> Option<PathBuf> {
    let named = VARIABLES.iter().filter_map(std::env::var_os).map(PathBuf::from);
    named.chain(cached()).find(|dir| ["etcd", "kube-apiserver"].iter().all(|name| dir.join(name).is_file()))
}

/// What `scripts/kubernetes` has built, by version, newest last.
fn cached() -> Vec<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
    let Some(versions) = cache.map(|cache| cache.join("braid/kubernetes")) else { return Vec::new() };
    let entries = versions.read_dir().into_iter().flatten().flatten();
    let mut found: Vec<_> = entries.map(|entry| entry.path()).collect();
    found.sort();
    found
}

/// What a control plane needs and this machine lacks, for people.
pub fn missing() -> Option<String> {
    if executables().is_none() {
        return Some("there are no etcd and kube-apiserver; run scripts/kubernetes".to_owned());
    }
    (!on_path("kubectl")).then(|| "kubectl is not installed".to_owned())
}
