//! Networks of the API server: watched, rendered, and brought to the node directory.
//!
//! A list replaces everything (what is not in it is removed), an event one network.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use cni::error::chain_text;
use cni::npwg::{NameError, NetworkRef};
use crds::NetworkAttachmentDefinition;
use kube::core::DeserializeGuard;
use kube::runtime::watcher::{Config, Event, watcher};
use kube::{Api, Client, Resource};
use store::network::{Outcome, RenderedNetwork};
use store::{NodeDirectory, StoreError};
use tracing::{debug, error, info, warn};

use super::render;
use super::sync::{self, Extent, Summary};
use crate::known::{Fate, Known, Network};
use crate::metrics::Metrics;
use crate::permissions::Permissions;
use crate::watching::{self, Keep, Subject};

/// Where networks come from, for people.
const ORIGIN: &str = "API server";

type Object = DeserializeGuard<NetworkAttachmentDefinition>;

/// Keeps the node's networks as the API server says.
pub async fn run(
    client: Client,
    dir: NodeDirectory,
    permissions: Permissions,
    known: Arc<Known>,
    metrics: Arc<Metrics>,
) -> Result<Infallible, Infallible> {
    sync::begin(&dir);
    let keeper = Keeper { dir, permissions, known, metrics: Arc::clone(&metrics), listing: BTreeMap::new() };
    let api: Api<Object> = Api::all(client);
    // From the API server's memory: thousands of nodes may ask at once, and what is older than etcd by a
    // moment is made up for by the watch that goes on from there.
    let stream = || watcher(api.clone(), Config::default().any_semantic());
    Err(watching::keep(keeper, stream, Subject::NETWORKS, metrics).await)
}

/// Brings networks to the node directory, and tells what became of them.
struct Keeper {
    dir: NodeDirectory,
    permissions: Permissions,
    known: Arc<Known>,
    metrics: Arc<Metrics>,
    /// What a list that is not complete yet has brought.
    listing: BTreeMap<NetworkRef, Seen>,
}

/// A network as it goes into its file, and what is told of it.
struct Seen {
    rendered: RenderedNetwork,
    fate: Fate,
}

impl Seen {
    fn network(&self) -> Network {
        Network { generation: self.rendered.generation, fate: self.fate.clone() }
    }
}

impl Keep<Object> for Keeper {
    async fn take(&mut self, event: Event<Object>) -> Result<(), StoreError> {
        match event {
            Event::Init => self.listing.clear(),
            Event::InitApply(object) => {
                if let Some(seen) = self.see(&object) {
                    self.listing.insert(seen.rendered.network.clone(), seen);
                }
            }
            Event::InitDone => self.replace_all().await?,
            Event::Apply(object) => {
                if let Some(seen) = self.see(&object) {
                    self.put(&seen)?;
                }
            }
            Event::Delete(object) => self.remove(&object)?,
        }
        Ok(())
    }

    fn trouble(&self) -> impl FnMut(Option<String>) + 'static {
        let known = Arc::clone(&self.known);
        move |problem| {
            known.tell(|state| std::mem::replace(&mut state.networks.problem, problem.clone()) != problem);
        }
    }
}

impl Keeper {
    /// `None` for a name that no pod could ask for.
    fn see(&self, object: &Object) -> Option<Seen> {
        if object.0.is_err() {
            self.metrics.undecodable_objects.inc();
        }
        see(object, &self.permissions)
            .inspect_err(|error| {
                warn!(error = chain_text(error), "a network without a usable name is passed over");
            })
            .ok()
    }

    async fn replace_all(&mut self) -> Result<(), StoreError> {
        let begun = Instant::now();
        let listing = std::mem::take(&mut self.listing);
        let all = listing.iter().map(|(name, seen)| (name.clone(), seen.network())).collect();
        let (dir, known) = (self.dir.clone(), Arc::clone(&self.known));
        // A thousand files may take their time on a slow disk; others go on meanwhile.
        let synced = tokio::task::spawn_blocking(move || {
            let networks = listing.into_values().map(|seen| seen.rendered);
            sync::sync(&dir, networks, Extent::All, &|| known.look().stopping)
        });
        let Ok(summary) = synced.await else { return Ok(()) };
        self.metrics.sync_latency.observe(begun.elapsed().as_secs_f64());
        let Summary { written, unchanged, removed, refused, failed, complete, .. } = summary;
        info!(networks = written + unchanged, written, removed, refused = refused.len(), complete, "synced");
        let mut failed = failed.into_iter();
        let first = failed.next();
        for error in failed {
            error!(error = chain_text(&error), "the node directory did not take a change");
        }
        self.known.tell(|state| {
            state.networks.all = all;
            if complete {
                state.networks.complete = Some(SystemTime::now());
                state.networks.problem = None;
            }
            true
        });
        first.map_or(Ok(()), Err)
    }

    fn put(&self, seen: &Seen) -> Result<(), StoreError> {
        let (name, network) = (&seen.rendered.network, seen.network());
        let begun = Instant::now();
        let written = seen.rendered.write(&self.dir)?;
        self.metrics.sync_latency.observe(begun.elapsed().as_secs_f64());
        match (&network.fate, written) {
            (Fate::Invalid(reason) | Fate::Undecodable(reason), true) => {
                warn!(network = %name, reason, "a network cannot be used");
            }
            (Fate::Usable, true) => info!(network = %name, "a network is written"),
            (_, false) => debug!(network = %name, "a network is as it was"),
        }
        self.known.tell(|state| {
            let before = state.networks.all.insert(name.clone(), network.clone());
            before.as_ref() != Some(&network)
        });
        Ok(())
    }

    fn remove(&self, object: &Object) -> Result<(), StoreError> {
        let Ok(network) = network_of(object) else { return Ok(()) };
        if RenderedNetwork::remove(&self.dir, &network)? {
            info!(%network, "a network is removed");
        }
        self.known.tell(|state| state.networks.all.remove(&network).is_some());
        Ok(())
    }
}

fn network_of(object: &Object) -> Result<NetworkRef, NameError> {
    let metadata = object.meta();
    let (namespace, name) = (metadata.namespace.as_deref(), metadata.name.as_deref());
    NetworkRef::parse(namespace.unwrap_or_default(), name.unwrap_or_default())
}

/// An object that cannot be read has a file too, so that a pod that asks for it is told why.
fn see(object: &Object, permissions: &Permissions) -> Result<Seen, NameError> {
    match &object.0 {
        Ok(nad) => {
            let rendered = render::render(nad, ORIGIN, permissions)?;
            let fate = match &rendered.outcome {
                Outcome::Ready { .. } | Outcome::OnNode { .. } => Fate::Usable,
                Outcome::Refused { reason } => Fate::Invalid(reason.clone()),
            };
            Ok(Seen { rendered, fate })
        }
        Err(invalid) => {
            let reason =
                format!("the object cannot be read as a NetworkAttachmentDefinition: {}", invalid.error);
            let mut rendered = render::refused(network_of(object)?, ORIGIN, reason.clone());
            rendered.generation = invalid.metadata.generation;
            Ok(Seen { rendered, fate: Fate::Undecodable(reason) })
        }
    }
}

#[cfg(test)]
mod tests;
