//! What the controller role knows: whether it leads, and while it does, the networks and the nodes' reports.

use std::collections::BTreeMap;

use cni::error::chain_text;
use crds::NetworkAttachmentDefinitionStatus;
use store::network::RenderedNetwork;
use tracing::{info, warn};

use super::reports::tallies::Tallies;
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
    /// Whether networks have the `status` subresource; `None` until it has been tried.
    pub status_subresource: Option<bool>,
    /// What does not work now, by what is attempted, for people.
    pub problems: BTreeMap<&'static str, String>,
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
    Rendered(Box<RenderedNetwork>),
    /// Its name is none that Braid can use, with the reason.
    Unnamable(String),
    /// The object could not be read, with the reason.
    Undecodable(String),
}

/// The nodes' reports.
#[derive(Debug, Default)]
pub struct Reports {
    /// What they say of each network.
    pub tallies: Tallies,
    /// Whether all of them are known.
    pub complete: bool,
}

impl State {
    /// Forgets what only a leader knows: it begins anew with complete lists.
    pub fn forget(&mut self) {
        self.networks = Networks::default();
        self.reports = Reports::default();
        self.status_subresource = None;
        self.problems.clear();
    }
}

impl Known<State> {
    /// What is attempted does not work now. Logged when it is news, not at each attempt.
    pub fn trouble(&self, attempt: &'static str, error: &dyn std::error::Error) {
        let reason = chain_text(error);
        self.tell(|state| {
            let news = state.problems.get(attempt) != Some(&reason);
            if news {
                warn!(reason, "cannot {attempt} now; it is tried again");
                state.problems.insert(attempt, reason);
            }
            news
        });
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
