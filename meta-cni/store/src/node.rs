//! Facts about the node: whether the lists of networks and pods are complete.

use std::io::ErrorKind;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::document::{self, Document};
use crate::{NodeDirectory, StoreError, atomic, boot};

/// What the operator says about the node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeFacts {
    /// The boot in which it was said; of another boot it is void.
    pub boot_id: String,
    /// When the lists were last compared with what should be, in seconds since 1970.
    pub complete_at: u64,
    /// Whether something could not be read then: everything else is on the node, but a network that is not
    /// may only be unseen.
    #[serde(default)]
    pub partial: bool,
    /// Who said it: the version of the operator.
    pub operator: String,
}

impl Document for NodeFacts {
    const SCHEMA: u64 = 1;
}

impl NodeFacts {
    /// "The lists are complete now, in this boot."
    pub fn complete_now(operator: impl Into<String>) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Self { boot_id: boot::boot_id(), complete_at: now, partial: false, operator: operator.into() }
    }

    /// "Everything that can be read is on the node now, in this boot; something cannot."
    pub fn partial_now(operator: impl Into<String>) -> Self {
        Self { partial: true, ..Self::complete_now(operator) }
    }

    /// Reads the facts; `None` if the lists have not been written out in this boot. A run directory that is not
    /// in memory keeps its files over a reboot, so the boot is compared.
    pub fn read(dir: &NodeDirectory) -> Result<Option<Self>, StoreError> {
        let facts: Option<Self> = document::read(&dir.node())?;
        Ok(facts.filter(|facts| facts.boot_id == boot::boot_id()))
    }

    /// Whether the run directory is from before a reboot: it is not in memory, and the operator has not yet
    /// been at it in this boot. Facts that cannot be read say nothing.
    pub fn are_of_earlier_boot(dir: &NodeDirectory) -> bool {
        let facts: Result<Option<Self>, _> = document::read(&dir.node());
        facts.is_ok_and(|facts| facts.is_some_and(|facts| facts.boot_id != boot::boot_id()))
    }

    /// Removes the networks and pods of an earlier boot, as if the run directory were in memory; whether there
    /// were some. The facts go last: if this process is killed before, the next one does it again.
    ///
    /// *Assumption*: nothing of this boot has been written yet. Callers within one process do not meet.
    pub fn forget_earlier_boot(dir: &NodeDirectory) -> Result<bool, StoreError> {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        if !Self::are_of_earlier_boot(dir) {
            return Ok(false);
        }
        for old in [dir.networks(), dir.pods()] {
            match std::fs::remove_dir_all(&old) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(StoreError::write(&old)(error));
                }
                _ => {}
            }
        }
        atomic::remove(&dir.node())?;
        Ok(true)
    }

    /// Writes the facts.
    pub fn write(&self, dir: &NodeDirectory) -> Result<(), StoreError> {
        document::write(&dir.node(), self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_hold_for_one_boot_only() {
        let temp = tempfile::tempdir().unwrap();
        let dir = NodeDirectory::new(temp.path().join("run"), temp.path().join("state"));
        assert_eq!(NodeFacts::read(&dir).unwrap(), None);
        let facts = NodeFacts::complete_now("test");
        facts.write(&dir).unwrap();
        assert_eq!(NodeFacts::read(&dir).unwrap(), Some(facts.clone()));
        NodeFacts { boot_id: "another".to_owned(), ..facts }.write(&dir).unwrap();
        assert_eq!(NodeFacts::read(&dir).unwrap(), None);
    }

    #[test]
    fn what_an_earlier_boot_left_is_forgotten_once_and_what_is_of_this_boot_stays() {
        let temp = tempfile::tempdir().unwrap();
        let dir = NodeDirectory::new(temp.path().join("run"), temp.path().join("state"));
        let fill = || {
            for place in [dir.networks(), dir.pods(), dir.records()] {
                atomic::write(&place.join("default/a"), b"{}").unwrap();
            }
        };
        assert!(!NodeFacts::forget_earlier_boot(&dir).unwrap(), "there is nothing");
        fill();
        let now = NodeFacts::complete_now("test");
        now.write(&dir).unwrap();
        assert!(!NodeFacts::forget_earlier_boot(&dir).unwrap());
        assert!(dir.networks().exists() && dir.pods().exists());
        NodeFacts { boot_id: "another".to_owned(), ..now }.write(&dir).unwrap();
        assert!(NodeFacts::are_of_earlier_boot(&dir));
        assert!(NodeFacts::forget_earlier_boot(&dir).unwrap());
        assert!(!dir.networks().exists() && !dir.pods().exists() && !dir.node().exists());
        assert!(dir.records().join("default/a").exists(), "records outlive a boot");
        fill();
        assert!(!NodeFacts::forget_earlier_boot(&dir).unwrap());
        assert!(dir.networks().exists(), "they are of this boot");
    }

    #[test]
    fn facts_of_an_operator_that_does_not_know_of_parts_are_of_the_whole() {
        let older = r#"{"boot_id":"b","complete_at":1,"operator":"braid 0.1.0"}"#;
        assert!(!serde_json::from_str::<NodeFacts>(older).unwrap().partial);
    }
}
