//! Networks of the API server: watched, rendered, and brought to the node directory.
//!
//! A list replaces everything, an event one network. A list's networks are written as they come, so that nobody has
//! to hold them; what is not in it is removed at its end.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use cni::error::chain_text;
use cni::npwg::{NameError, NetworkRef};
use kube::runtime::watcher::{Config, Event};
use kube::{Api, Client, Resource};
use store::network::{Outcome, RenderedNetwork};
use store::{NodeDirectory, StoreError};
use tracing::{debug, error, info, warn};

use super::render;
use super::sync::{self, Extent, Summary, Sync};
use crate::known::{Fate, Known, Network};
use crate::lean::Definition;
use crate::metrics::Metrics;
use crate::permissions::Permissions;
use crate::tasks;
use crate::watching::{self, Keep, Lists, Subject};

/// Where networks come from, for people.
const ORIGIN: &str = "API server";

/// Keeps the node's networks as the API server says.
pub async fn run(
    client: Client,
    dir: NodeDirectory,
    permissions: Permissions,
    known: Arc<Known>,
    metrics: Arc<Metrics>,
) -> Result<Infallible, Infallible> {
    sync::begin(&dir);
    let keeper = Keeper { dir, permissions, known, metrics: Arc::clone(&metrics), listing: None };
    let api: Api<Definition> = Api::all(client);
    let lists = Lists::default();
    let stream = || lists.watch(api.clone(), Config::default());
    Err(watching::keep(keeper, stream, Subject::NETWORKS, metrics).await)
}

/// Brings networks to the node directory, and tells what became of them.
struct Keeper {
    dir: NodeDirectory,
    permissions: Permissions,
    known: Arc<Known>,
    metrics: Arc<Metrics>,
    /// A list that is not complete yet.
    listing: Option<Listing>,
}

/// A list that comes.
struct Listing {
    begun: Instant,
    sync: Sync,
    /// What it has brought so far.
    all: BTreeMap<NetworkRef, Network>,
}

impl Listing {
    fn begin(dir: &NodeDirectory) -> Self {
        Self { begun: Instant::now(), sync: Sync::begin(dir), all: BTreeMap::new() }
    }
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

impl Keep<Definition> for Keeper {
    async fn take(&mut self, event: Event<Definition>) -> Result<(), StoreError> {
        match event {
            Event::Init => self.listing = None,
            Event::InitApply(object) => {
                if let Some(seen) = self.see(&object) {
                    let listing = self.listing.get_or_insert_with(|| Listing::begin(&self.dir));
                    listing.all.insert(seen.rendered.network.clone(), seen.network());
                    listing.sync.put(seen.rendered);
                }
                // A thousand files may take their time on a slow disk; others go on meanwhile.
                tokio::task::yield_now().await;
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
    fn see(&self, object: &Definition) -> Option<Seen> {
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
        let listing = self.listing.take().unwrap_or_else(|| Listing::begin(&self.dir));
        let Listing { begun, sync, all } = listing;
        let known = Arc::clone(&self.known);
        let Some(summary) = end(sync, move || known.look().stopping).await else { return Ok(()) };
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

    fn remove(&self, object: &Definition) -> Result<(), StoreError> {
        let Ok(network) = network_of(object) else { return Ok(()) };
        if RenderedNetwork::remove(&self.dir, &network)? {
            info!(%network, "a network is removed");
        }
        self.known.tell(|state| state.networks.all.remove(&network).is_some());
        Ok(())
    }
}

/// Compares the directory with a complete list; `None` if the process ends before.
async fn end(sync: Sync, stop: impl Fn() -> bool + Send + 'static) -> Option<Summary> {
    tasks::blocking(move || sync.end(Extent::All, &stop)).await
}

fn network_of(object: &Definition) -> Result<NetworkRef, NameError> {
    let metadata = object.meta();
    let (namespace, name) = (metadata.namespace.as_deref(), metadata.name.as_deref());
    NetworkRef::parse(namespace.unwrap_or_default(), name.unwrap_or_default())
}

/// An object that cannot be read has a file too, so that a pod that asks for it is told why.
fn see(object: &Definition, permissions: &Permissions) -> Result<Seen, NameError> {
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
