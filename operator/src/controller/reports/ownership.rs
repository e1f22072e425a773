//! Whose a report is, and whether it stays. Pure; time is handed in.

use std::collections::{BTreeMap, HashMap, HashSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use tokio::time::Instant;

use super::{GRACE, PAGE};

/// What is to be done with a report.
#[derive(Debug, Clone, PartialEq)]
pub enum Deed {
    /// It is its Node's: these are its owners from now on.
    Adopt {
        /// The report's uid.
        uid: String,
        /// All of its owners.
        owners: Vec<OwnerReference>,
    },
    /// Its Node is gone.
    Remove {
        /// The report's uid.
        uid: String,
    },
}

/// What is known of a report's ownership.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Owned {
    /// Its uid.
    pub uid: String,
    /// Its owners.
    pub owners: Vec<OwnerReference>,
}

/// The owner that the report of a Node has.
pub fn owner(node: &str, uid: &str) -> OwnerReference {
    OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: node.to_owned(),
        uid: uid.to_owned(),
        controller: None,
        block_owner_deletion: None,
    }
}

/// Decides for one report. `node` is the uid of its Node; `missing` says since when there has been none, if
/// that is known.
pub fn decide(
    name: &str,
    report: &Owned,
    node: Option<&str>,
    missing: Option<Instant>,
    now: Instant,
) -> Option<Deed> {
    let uid = report.uid.clone();
    let Some(node) = node else {
        return missing.filter(|since| *since + GRACE <= now).map(|_| Deed::Remove { uid });
    };
    let is_node = |owner: &&OwnerReference| owner.kind == "Node" && owner.api_version == "v1";
    let right = |one: &OwnerReference| {
        one.uid == node
            && one.name == name
            && one.controller != Some(true)
            && one.block_owner_deletion != Some(true)
    };
    let nodes: Vec<_> = report.owners.iter().filter(is_node).collect();
    if matches!(nodes.as_slice(), [one] if right(one)) {
        return None;
    }
    let others = report.owners.iter().filter(|owner| !is_node(owner)).cloned();
    Some(Deed::Adopt { uid, owners: others.chain([owner(name, node)]).collect() })
}

/// All reports and all Nodes, by name.
#[derive(Debug, Default)]
pub struct Ledger {
    reports: HashMap<String, Owned>,
    nodes: HashMap<String, String>,
    listing: HashMap<String, String>,
    /// Reports that something is to be done with, and from when on.
    due: BTreeMap<String, Instant>,
    reports_complete: bool,
    nodes_complete: Option<Instant>,
}

impl Ledger {
    /// A report came or changed.
    pub fn put_report(&mut self, name: &str, report: Owned) {
        if self.reports.get(name) != Some(&report) {
            self.reports.insert(name.to_owned(), report);
            self.look(name, Instant::now());
        }
    }

    /// A report is gone.
    pub fn remove_report(&mut self, name: &str) {
        self.reports.remove(name);
        self.due.remove(name);
    }

    /// A list of reports is complete, and these are its names.
    pub fn keep_reports(&mut self, names: &HashSet<String>) {
        self.reports.retain(|name, _| names.contains(name));
        self.due.retain(|name, _| names.contains(name));
        self.reports_complete = true;
    }

    /// A list of Nodes begins.
    pub fn begin_nodes(&mut self) {
        self.listing.clear();
    }

    /// A Node of the list that has begun.
    pub fn list_node(&mut self, name: &str, uid: String) {
        self.listing.insert(name.to_owned(), uid);
    }

    /// The list of Nodes is complete.
    pub fn complete_nodes(&mut self, now: Instant) {
        self.nodes = std::mem::take(&mut self.listing);
        self.nodes_complete.get_or_insert(now);
        let names: Vec<_> = self.reports.keys().cloned().collect();
        for name in names {
            self.look(&name, now);
        }
    }

    /// A Node came or changed.
    pub fn put_node(&mut self, name: &str, uid: String) {
        // Nodes change often (their status); who they are does not.
        if self.nodes.get(name) != Some(&uid) {
            self.nodes.insert(name.to_owned(), uid);
            self.look(name, Instant::now());
        }
    }

    /// A Node is gone.
    pub fn remove_node(&mut self, name: &str, now: Instant) {
        self.nodes.remove(name);
        self.look(name, now);
    }

    /// When there is something to do, if ever.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        if !self.reports_complete || self.nodes_complete.is_none() {
            return None;
        }
        let first = self.due.values().min().copied();
        first.map(|due| due.max(now))
    }

    /// What is to be done now, at most a page of it; until the watches tell of its effect it is tried again, a
    /// grace later.
    pub fn deeds(&mut self, now: Instant) -> BTreeMap<String, Deed> {
        let most = usize::try_from(PAGE).unwrap_or(usize::MAX);
        let ripe: Vec<_> =
            self.due.iter().filter(|(_, due)| **due <= now).map(|(name, due)| (name.clone(), *due)).collect();
        let mut deeds = BTreeMap::new();
        for (name, due) in ripe.into_iter().take(most) {
            self.due.remove(&name);
            let Some(report) = self.reports.get(&name) else { continue };
            let node = self.nodes.get(&name).map(String::as_str);
            // What is due without a Node has been missing for the grace before.
            let missing = due.checked_sub(GRACE);
            if let Some(deed) = decide(&name, report, node, missing, now) {
                self.due.insert(name.clone(), now + GRACE);
                deeds.insert(name, deed);
            }
        }
        deeds
    }

    /// Looks whether something is to be done with a report, and when.
    fn look(&mut self, name: &str, now: Instant) {
        let Some(report) = self.reports.get(name) else {
            self.due.remove(name);
            return;
        };
        match self.nodes.get(name) {
            // A Node that is missing stays so from the first time on that it was missed.
            None => {
                self.due.insert(name.to_owned(), now + GRACE);
            }
            Some(node) if decide(name, report, Some(node), None, now).is_some() => {
                self.due.insert(name.to_owned(), now);
            }
            Some(_) => {
                self.due.remove(name);
            }
        }
    }
}

#[cfg(test)]
mod tests;
