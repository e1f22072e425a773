//! Rendered networks: what the operator makes of a NetworkAttachmentDefinition.
//!
//! A network that cannot be used has a file too: it says why, so that a pod which asks for the network gets
//! the reason at once instead of waiting for a file that will not come.

use std::path::Path;

use cni::npwg::{NetworkRef, ObjectName};
use cni::{NetworkList, NetworkName};
use serde::{Deserialize, Serialize};

use crate::document::{self, Document};
use crate::names::name_of;
use crate::{NodeDirectory, StoreError, atomic};

/// One rendered network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RenderedNetwork {
    /// Which NetworkAttachmentDefinition it comes from.
    pub network: NetworkRef,
    /// Where the operator read it, for people: an object of the API server or a file.
    pub origin: String,
    /// `metadata.generation`, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// The device plugin's resource that its `resourceName` annotation names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_name: Option<String>,
    /// What became of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What became of a NetworkAttachmentDefinition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Outcome {
    /// Ready to run.
    Ready {
        /// The configuration.
        list: NetworkList,
    },
    /// Its configuration is on the node: the file of `confDir` whose `name` this is.
    OnNode {
        /// The name in the file.
        name: NetworkName,
    },
    /// It cannot be used.
    Refused {
        /// Why, for people.
        reason: String,
    },
}

impl Document for RenderedNetwork {
    const SCHEMA: u64 = 1;
}

impl RenderedNetwork {
    /// Reads a network; `None` if the operator has written none.
    pub fn read(dir: &NodeDirectory, network: &NetworkRef) -> Result<Option<Self>, StoreError> {
        document::read(&dir.network(network))
    }

    /// Writes the network's file, unless it already says the same; whether it was written.
    pub fn write(&self, dir: &NodeDirectory) -> Result<bool, StoreError> {
        document::write_if_changed(&dir.network(&self.network), self)
    }

    /// Removes a network's file, and its directory if it was the last; whether there was one.
    pub fn remove(dir: &NodeDirectory, network: &NetworkRef) -> Result<bool, StoreError> {
        let path = dir.network(network);
        let removed = atomic::remove(&path)?;
        // Fails while other networks are in it.
        let _ = std::fs::remove_dir(path.parent().unwrap_or(Path::new("/")));
        Ok(removed)
    }

    /// Removes what killed writers left beside the networks' files.
    pub fn sweep(dir: &NodeDirectory) -> Result<(), StoreError> {
        sweep_by_namespace(&dir.networks())
    }

    /// Every network that has a file. Files of other names are passed over: no reader would find them.
    pub fn list(dir: &NodeDirectory) -> Result<Vec<NetworkRef>, StoreError> {
        let mut found = Vec::new();
        for (namespace, file) in files_by_namespace(&dir.networks())? {
            let parsed = (cni::npwg::Namespace::parse(namespace), name_of(&file).map(ObjectName::parse));
            if let (Ok(namespace), Some(Ok(name))) = parsed {
                found.push(NetworkRef { namespace, name });
            }
        }
        Ok(found)
    }
}

/// Removes temporary files two levels below `dir`.
pub(crate) fn sweep_by_namespace(dir: &Path) -> Result<(), StoreError> {
    for namespace in atomic::files(dir)? {
        atomic::sweep(&dir.join(namespace))?;
    }
    Ok(())
}

/// Every file two levels below `dir`: its namespace and its own name.
pub(crate) fn files_by_namespace(dir: &Path) -> Result<Vec<(String, String)>, StoreError> {
    let mut found = Vec::new();
    for namespace_dir in atomic::files(dir)? {
        let Some(namespace) = name_of(&namespace_dir) else { continue };
        let files = atomic::files(&dir.join(&namespace_dir))?;
        found.extend(files.into_iter().map(|file| (namespace.clone(), file)));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn network(name: &str) -> RenderedNetwork {
        let list = json!({"name": "n", "cniVersion": "1.0.0", "plugins": [{"type": "bridge", "x": [1]}]});
        RenderedNetwork {
            network: NetworkRef::parse("default", name).unwrap(),
            origin: "networks.yaml".to_owned(),
            generation: Some(3),
            resource_name: None,
            outcome: Outcome::Ready { list: NetworkList::from_json(list, None).unwrap() },
        }
    }

    fn directory() -> (tempfile::TempDir, NodeDirectory) {
        let temp = tempfile::tempdir().unwrap();
        let dir = NodeDirectory::new(temp.path().join("run"), temp.path().join("state"));
        (temp, dir)
    }

    #[test]
    fn networks_are_written_read_listed_and_removed() {
        let (_temp, dir) = directory();
        let (a, b) = (network("a"), network("b.c"));
        assert!(a.write(&dir).unwrap());
        assert!(b.write(&dir).unwrap());
        assert_eq!(RenderedNetwork::read(&dir, &a.network).unwrap().unwrap(), a);
        assert_eq!(RenderedNetwork::list(&dir).unwrap(), [a.network.clone(), b.network.clone()]);
        assert!(RenderedNetwork::remove(&dir, &a.network).unwrap());
        assert!(RenderedNetwork::remove(&dir, &b.network).unwrap());
        assert!(!RenderedNetwork::remove(&dir, &b.network).unwrap());
        assert_eq!(RenderedNetwork::read(&dir, &a.network).unwrap(), None);
        assert_eq!(std::fs::read_dir(dir.networks()).unwrap().count(), 0, "empty namespaces go too");
    }

    #[test]
    fn an_unchanged_network_is_not_written_again() {
        let (_temp, dir) = directory();
        let mut network = network("a");
        assert!(network.write(&dir).unwrap());
        assert!(!network.write(&dir).unwrap());
        network.outcome = Outcome::Refused { reason: "no type".to_owned() };
        assert!(network.write(&dir).unwrap());
        assert_eq!(RenderedNetwork::read(&dir, &network.network).unwrap().unwrap(), network);
    }
}
