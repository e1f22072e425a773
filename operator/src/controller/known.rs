//! What the controller role knows: whether it leads, and while it does, the networks and the nodes' reports.

use std::collections::{BTreeMap, HashSet};

use crds::{NetworkAttachmentDefinitionStatus, NodeReport};
use store::network::RenderedNetwork;
use tracing::{info, warn};

use super::reports::said::Said;
use super::reports::tallies::Tallies;
use crate::cluster::cause_text;
use crate::known::Known;

/// What the controller role knows.
#[derive(Debug, Default)]
pub struct State {
    /// Whether this replica leads.
    pub leading: bool,
    /// Who holds the Lease, as far as it has been seen; empty if nobody does.
    pub leader: String,
    /// The networks. Empty while this replica does not lead.
    pub networks: Networks,
    /// The nodes' reports. Empty while this replica does not lead.
    pub reports: Reports,
    /// The Nodes that have the startup taint, each with the reason. Empty while this replica does not lead.
    pub startup_taints: BTreeMap<String, &'static str>,
    /// Whether networks have the `status` subresource; `None` until it has been tried.
    pub status_subresource: Option<bool>,
    /// What does not work now, by what is attempted, for people.
    pub problems: BTreeMap<&'static str, String>,
    /// Whether the process has been told to stop.
    pub stopping: bool,
}

/// The networks of the API server.
#[derive(Debug, Default)]
pub struct Networks {
    /// Each by `namespace/name`.
    pub all: BTreeMap<String, Network>,
    /// Whether all of them are known.
    pub complete: bool,
    /// Changes whenever a network comes, goes, or is another one: what was judged before is out of date then.
    pub revision: u64,
}

/// One network.
#[derive(Debug, Clone, PartialEq)]
pub struct Network {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its `metadata.resourceVersion`.
    pub version: String,
    /// Its `metadata.generation`.
    pub generation: Option<i64>,
    /// What it is.
    pub content: Content,
    /// The status that it shows.
    pub shown: Option<NetworkAttachmentDefinitionStatus>,
}

/// What a network is, as far as it can be read.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// What becomes of it on a node.
    Rendered(Folded),
    /// Its name is none that Braid can use, with the reason.
    Unnamable(String),
    /// The object could not be read, with the reason.
    Undecodable(String),
}

/// A rendered network as text: as values in memory it may take a hundred times as much, and a tenant's quota counts
/// networks, not what is in them.
#[derive(Debug, Clone, PartialEq)]
pub struct Folded(String);

impl Folded {
    /// Folds it.
    pub fn of(network: &RenderedNetwork) -> Self {
        // What is made of values can be written; nothing would be told as what cannot be read.
        Self(serde_json::to_string(network).unwrap_or_default())
    }

    /// The network, for as long as it is needed.
    pub fn open(&self) -> Result<RenderedNetwork, serde_json::Error> {
        serde_json::from_str(&self.0)
    }
}

/// The nodes' reports.
#[derive(Debug, Default)]
pub struct Reports {
    /// What they say of each network.
    pub tallies: Tallies,
    /// What each says of its node.
    pub said: BTreeMap<String, Said>,
    /// Whether all of them are known.
    pub complete: bool,
}

impl Reports {
    /// Takes a node's report in place of its earlier one; whether that is news.
    pub fn put(&mut self, node: &str, report: &NodeReport) -> bool {
        let said = Said::of(report);
        let news = self.said.get(node) != Some(&said);
        if news {
            self.said.insert(node.to_owned(), said);
        }
        self.tallies.put(node, &report.spec.report) || news
    }

    /// Forgets a node's report; whether there was one.
    pub fn remove(&mut self, node: &str) -> bool {
        self.said.remove(node);
        self.tallies.remove(node)
    }

    /// All reports are known: those of these nodes. Whether that is news.
    pub fn complete(&mut self, nodes: &HashSet<String>) -> bool {
        self.said.retain(|node, _| nodes.contains(node));
        self.tallies.keep(nodes);
        !std::mem::replace(&mut self.complete, true)
    }
}

impl State {
    /// Forgets what only a leader knows: it begins anew with complete lists.
    pub fn forget(&mut self) {
        self.networks = Networks::default();
        self.reports = Reports::default();
        self.startup_taints.clear();
        self.status_subresource = None;
        self.problems.clear();
    }
}

impl Known<State> {
    /// What is attempted does not work now. Logged when it is news, not at each attempt.
    pub fn trouble(&self, attempt: &'static str, error: &(dyn std::error::Error + 'static)) {
        let reason = cause_text(error);
        self.tell(|state| {
            let news = state.problems.get(attempt) != Some(&reason);
            if news {
                warn!(reason, "cannot {attempt} now; it is tried again");
                state.problems.insert(attempt, reason);
            }
            news
        });
    }

    /// Takes what a watch tells of its troubles; the log has that already.
    pub fn watch(&self, attempt: &'static str) -> impl FnMut(Option<String>) {
        move |problem| {
            self.tell(|state| match problem {
                Some(reason) => state.problems.insert(attempt, reason.clone()) != Some(reason),
                None => state.problems.remove(attempt).is_some(),
            });
        }
    }

    /// What is attempted works.
    pub fn well(&self, attempt: &'static str) {
        self.tell(|state| {
            let news = state.problems.remove(attempt).is_some();
            if news {
                info!("can {attempt} again");
            }
            news
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_news_once_with_its_innermost_reason_and_so_is_its_end() {
        let known = Known::<State>::default();
        let mut news = known.news();
        let mut is_news = || std::mem::replace(&mut news, known.news()).has_changed().unwrap();
        let error = kube::runtime::watcher::Error::WatchFailed(kube::Error::ReadEvents(io_error("cut")));
        known.trouble("watch", &error);
        assert!(is_news());
        assert_eq!(known.look().problems["watch"], "cut");
        known.trouble("watch", &error);
        assert!(!is_news());
        known.well("watch");
        assert!(is_news() && known.look().problems.is_empty());
        let mut told = known.watch("watch");
        told(Some("cut".to_owned()));
        assert_eq!(known.look().problems["watch"], "cut");
        assert!(is_news());
        told(Some("cut".to_owned()));
        assert!(!is_news());
        told(None);
        assert!(is_news() && known.look().problems.is_empty());
    }

    fn io_error(text: &str) -> std::io::Error {
        std::io::Error::other(text)
    }
}
