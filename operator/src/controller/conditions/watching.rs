//! The networks of the API server, as far as their status needs them.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::pin;

use cni::error::chain_text;
use crds::NetworkAttachmentDefinitionStatus;
use futures::StreamExt;
use kube::runtime::watcher::Event;
use kube::{Api, Client, Resource, ResourceExt};

use crate::controller::known::{Content, Folded, Network, Networks, State};
use crate::known::Known;
use crate::lean::Definition;
use crate::metrics::Metrics;
use crate::node::render;
use crate::permissions::Permissions;
use crate::watching::{self, Subject, in_pages};

const WATCH: &str = "watch the networks";

type Guarded = Definition<Option<NetworkAttachmentDefinitionStatus>>;

/// Keeps `known` up to date for ever.
pub(super) async fn run(
    client: Client,
    permissions: &Permissions,
    known: &Known<State>,
    metrics: &Metrics,
) -> Infallible {
    let api: Api<Guarded> = Api::all(client);
    let stream = || in_pages(api.clone());
    let mut events = pin!(watching::events(stream, Subject::NETWORKS, metrics, known.watch(WATCH)));
    let mut listed = BTreeMap::new();
    while let Some(event) = events.next().await {
        take(event, permissions, &mut listed, known, metrics);
    }
    // A watch does not end.
    std::future::pending().await
}

/// Takes note of an event. A new list replaces what was known at its end, not before.
fn take(
    event: Event<Guarded>,
    permissions: &Permissions,
    listed: &mut BTreeMap<String, Network>,
    known: &Known<State>,
    metrics: &Metrics,
) {
    match event {
        Event::Init => listed.clear(),
        Event::InitApply(nad) => {
            let network = network(nad, permissions, metrics);
            listed.insert(key(&network.namespace, &network.name), network);
        }
        Event::InitDone => {
            let all = std::mem::take(listed);
            known.tell(|state| {
                state.networks.replace(all);
                true
            });
        }
        Event::Apply(nad) => {
            let network = network(nad, permissions, metrics);
            known.tell(|state| state.networks.put(network));
        }
        Event::Delete(nad) => {
            let key = key(&nad.namespace().unwrap_or_default(), &nad.name_any());
            known.tell(|state| state.networks.remove(&key));
        }
    }
}

fn key(namespace: &str, name: &str) -> String {
    format!("{namespace}/{name}")
}

fn network(nad: Guarded, permissions: &Permissions, metrics: &Metrics) -> Network {
    let (namespace, name) = (nad.namespace().unwrap_or_default(), nad.name_any());
    let (uid, version) = (nad.uid().unwrap_or_default(), nad.resource_version().unwrap_or_default());
    let generation = nad.meta().generation;
    let (content, shown) = match nad.0 {
        Ok(nad) => {
            let content = match render::render(&nad, "", permissions) {
                Ok(rendered) => Content::Rendered(Folded::of(&rendered)),
                Err(error) => Content::Unnamable(chain_text(&error)),
            };
            (content, nad.status)
        }
        Err(invalid) => {
            metrics.undecodable_objects.inc();
            (Content::Undecodable(invalid.error), None)
        }
    };
    Network { namespace, name, uid, version, generation, content, shown }
}

impl Networks {
    /// The complete list.
    fn replace(&mut self, all: BTreeMap<String, Network>) {
        self.all = all;
        self.complete = true;
        self.revision += 1;
    }

    /// One network; whether anything is new.
    fn put(&mut self, network: Network) -> bool {
        let key = key(&network.namespace, &network.name);
        let old = self.all.get(&key);
        if old == Some(&network) {
            return false;
        }
        // Our own writes of the status come back as changes, too.
        let same = old.is_some_and(|old| old.content == network.content && old.uid == network.uid);
        if !same {
            self.revision += 1;
        }
        self.all.insert(key, network);
        true
    }

    fn remove(&mut self, key: &str) -> bool {
        let removed = self.all.remove(key).is_some();
        self.revision += u64::from(removed);
        removed
    }
}
