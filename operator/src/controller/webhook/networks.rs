//! The networks of the cluster as the webhook knows them: kept by a watch, asked without waiting.
//!
//! Kept is only what matters to other networks and to pods ([`Neighbours`], and why a network is refused), not the
//! configurations. Until the first list is complete nobody is told that a network is missing.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cni::npwg::{NameError, NetworkRef};
use crds::NetworkAttachmentDefinition;
use futures::StreamExt;
use kube::core::ObjectMeta;
use kube::runtime::watcher::Event;
use kube::{Api, Client, Resource};
use store::network::{Outcome, RenderedNetwork};

use crate::controller::judgement::{Judgement, Neighbours, judge_one};
use crate::lean::Definition;
use crate::metrics::Metrics;
use crate::node::render;
use crate::permissions::Permissions;
use crate::watching::{self, Subject, in_pages};

/// The networks.
#[derive(Debug, Default)]
pub struct Networks {
    state: Mutex<State>,
    permissions: Permissions,
}

#[derive(Debug, Default)]
struct State {
    all: Neighbours,
    refused: BTreeMap<NetworkRef, String>,
    /// Whether all networks have been known once.
    complete: bool,
    /// Those of a list that is arriving; what it does not name is gone at its end.
    arriving: BTreeSet<NetworkRef>,
}

/// What is known of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// Nobody can say yet.
    Unknown,
    /// There is none of this name.
    Missing,
    /// It can be used, as far as is known.
    Usable,
    /// It cannot be used, with the reason.
    Refused(String),
}

impl Networks {
    /// None yet, of which each is to be permitted.
    pub fn new(permissions: Permissions) -> Self {
        Self { state: Mutex::default(), permissions }
    }

    /// What becomes of a network on the nodes.
    pub fn render(
        &self,
        nad: &NetworkAttachmentDefinition,
        origin: &str,
    ) -> Result<RenderedNetwork, NameError> {
        render::render(nad, origin, &self.permissions)
    }

    /// Whether all networks have been known once.
    pub fn complete(&self) -> bool {
        self.state().complete
    }

    /// What is known of a network.
    pub fn look(&self, network: &NetworkRef) -> Seen {
        let state = self.state();
        match state.refused.get(network) {
            Some(reason) => Seen::Refused(reason.clone()),
            None if state.all.contains(network) => Seen::Usable,
            None if state.complete => Seen::Missing,
            None => Seen::Unknown,
        }
    }

    /// Judges a network among those that are known.
    pub fn judge(&self, network: &RenderedNetwork) -> Judgement {
        judge_one(network, &self.state().all)
    }

    /// Takes an event of the watch.
    pub fn take(&self, event: Event<Definition>, metrics: &Metrics) {
        let mut state = self.state();
        match event {
            Event::Init => state.arriving.clear(),
            Event::InitApply(object) => {
                if let Some(name) = state.insert(object, &self.permissions, metrics) {
                    state.arriving.insert(name);
                }
            }
            Event::InitDone => {
                let arrived = std::mem::take(&mut state.arriving);
                state.all.retain(|network| arrived.contains(network));
                state.refused.retain(|network, _| arrived.contains(network));
                state.complete = true;
            }
            Event::Apply(object) => drop(state.insert(object, &self.permissions, metrics)),
            Event::Delete(object) => {
                if let Some(name) = name_of(object.meta()) {
                    state.all.remove(&name);
                    state.refused.remove(&name);
                }
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn insert(
        &mut self,
        object: Definition,
        permissions: &Permissions,
        metrics: &Metrics,
    ) -> Option<NetworkRef> {
        let name = name_of(object.meta())?;
        let rendered = match object.0 {
            Ok(nad) => render::render(&nad, "the API server", permissions).ok()?,
            Err(error) => {
                metrics.undecodable_objects.inc();
                render::refused(name.clone(), "the API server", format!("it cannot be read: {error}"))
            }
        };
        match &rendered.outcome {
            Outcome::Refused { reason } => drop(self.refused.insert(name.clone(), reason.clone())),
            _ => drop(self.refused.remove(&name)),
        }
        self.all.insert(&rendered);
        Some(name)
    }
}

fn name_of(metadata: &ObjectMeta) -> Option<NetworkRef> {
    NetworkRef::parse(metadata.namespace.as_deref()?, metadata.name.as_deref()?).ok()
}

/// Keeps the networks as the API server says, for ever.
pub async fn follow(client: Client, networks: Arc<Networks>, metrics: Arc<Metrics>) -> Infallible {
    let api = Api::<Definition>::all(client);
    let stream = || in_pages(api.clone());
    let mut events = pin!(watching::events(stream, Subject::NETWORKS, Arc::clone(&metrics), |_| ()));
    while let Some(event) = events.next().await {
        networks.take(event, &metrics);
    }
    // A watch does not end.
    std::future::pending().await
}
