//! Facts about this node's pods, for runtimes that do not hand annotations to plugins.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::document::{self, Document};
use crate::names::name_of;
use crate::network::{files_by_namespace, sweep_by_namespace};
use crate::{NodeDirectory, StoreError, atomic};

/// What the operator knows of one pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodFacts {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid; a pod of the same name that was created anew has another.
    pub uid: String,
    /// Those of its annotations that matter to networks.
    pub annotations: BTreeMap<String, String>,
}

impl Document for PodFacts {
    const SCHEMA: u64 = 1;
}

impl PodFacts {
    /// Reads a pod; `None` if the operator has written none.
    pub fn read(dir: &NodeDirectory, namespace: &str, name: &str) -> Result<Option<Self>, StoreError> {
        document::read(&dir.pod(namespace, name))
    }

    /// Writes the pod's file, unless it already says the same; whether it was written.
    pub fn write(&self, dir: &NodeDirectory) -> Result<bool, StoreError> {
        document::write_if_changed(&dir.pod(&self.namespace, &self.name), self)
    }

    /// Removes a pod's file; whether there was one.
    pub fn remove(dir: &NodeDirectory, namespace: &str, name: &str) -> Result<bool, StoreError> {
        let path = dir.pod(namespace, name);
        let removed = atomic::remove(&path)?;
        // Fails while other pods are in it.
        let _ = std::fs::remove_dir(path.parent().unwrap_or(Path::new("/")));
        Ok(removed)
    }

    /// Removes what killed writers left beside the pods' files.
    pub fn sweep(dir: &NodeDirectory) -> Result<(), StoreError> {
        sweep_by_namespace(&dir.pods())
    }

    /// Namespace and name of every pod that has a file.
    pub fn list(dir: &NodeDirectory) -> Result<Vec<(String, String)>, StoreError> {
        let files = files_by_namespace(&dir.pods())?;
        Ok(files.into_iter().filter_map(|(namespace, file)| Some((namespace, name_of(&file)?))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_are_written_read_listed_and_removed() {
        let temp = tempfile::tempdir().unwrap();
        let dir = NodeDirectory::new(temp.path().join("run"), temp.path().join("state"));
        let pod = PodFacts {
            namespace: "default".to_owned(),
            name: "web-0".to_owned(),
            uid: "1234".to_owned(),
            annotations: BTreeMap::from([("k".to_owned(), "v".to_owned())]),
        };
        assert!(pod.write(&dir).unwrap());
        assert!(!pod.write(&dir).unwrap(), "it says the same already");
        assert_eq!(PodFacts::read(&dir, "default", "web-0").unwrap().unwrap(), pod);
        assert_eq!(PodFacts::list(&dir).unwrap(), [("default".to_owned(), "web-0".to_owned())]);
        assert!(PodFacts::remove(&dir, "default", "web-0").unwrap());
        assert_eq!(PodFacts::read(&dir, "default", "web-0").unwrap(), None);
    }
}
