//! Facts about the node: whether the lists of networks and pods are complete.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::document::{self, Document};
use crate::{NodeDirectory, StoreError, boot};

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
    fn facts_of_an_operator_that_does_not_know_of_parts_are_of_the_whole() {
        let older = r#"{"boot_id":"b","complete_at":1,"operator":"braid 0.1.0"}"#;
        assert!(!serde_json::from_str::<NodeFacts>(older).unwrap().partial);
    }
}
