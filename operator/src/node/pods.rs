//! Pods of this node: watched, and their facts brought to the node directory.
//!
//! Only metadata is asked for: the API server leaves the rest out, so a pod costs little on the wire and in
//! memory. The files are for runtimes that do not hand annotations to plugins; the uids and hashes that stay
//! in memory tell whose record is whose, and whether a pod's `network-status` is right.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;

use cni::npwg::{CONFIG_SOURCE, DEFAULT_NETWORK, NETWORK_STATUS, NETWORKS};
use kube::api::ObjectMeta;
use kube::runtime::watcher::{Config, Event};
use kube::{Api, Client};
use store::pod::PodFacts;
use store::{NodeDirectory, StoreError};

use super::sync;
use crate::known::{Known, Pod, text_hash};
use crate::lean::{MIRROR, Metadata};
use crate::metrics::Metrics;
use crate::watching::{self, Keep, Lists, Subject};

const SUBJECT: Subject = Subject { what: "pods", missing: "the API server does not know pods; is it one?" };

/// The annotations that meta-cni reads.
const FOR_THE_PLUGIN: &[&str] = &[NETWORKS, DEFAULT_NETWORK, CONFIG_SOURCE];

type Key = (String, String);

/// Keeps the facts about the pods of `node` as the API server says.
pub async fn run(
    client: Client,
    node: String,
    dir: NodeDirectory,
    known: Arc<Known>,
    metrics: Arc<Metrics>,
) -> Result<Infallible, Infallible> {
    sync::begin(&dir);
    let keeper = Keeper { dir, known, listing: BTreeMap::new() };
    let api: Api<Metadata> = Api::all(client);
    let config = Config::default().fields(&format!("spec.nodeName={node}"));
    let lists = Lists::default();
    let stream = || lists.watch(api.clone(), config.clone());
    Err(watching::keep(keeper, stream, SUBJECT, metrics).await)
}

/// Brings pods to the node directory, and tells of them.
struct Keeper {
    dir: NodeDirectory,
    known: Arc<Known>,
    /// What a list that is not complete yet has brought.
    listing: BTreeMap<Key, Pod>,
}

impl Keep<Metadata> for Keeper {
    async fn take(&mut self, event: Event<Metadata>) -> Result<(), StoreError> {
        match event {
            Event::Init => self.listing.clear(),
            Event::InitApply(object) => {
                let (key, pod) = pod(&object.0);
                facts(&key, &object.0).write(&self.dir)?;
                self.listing.insert(key, pod);
            }
            Event::InitDone => self.replace_all()?,
            Event::Apply(object) => {
                let (key, pod) = pod(&object.0);
                facts(&key, &object.0).write(&self.dir)?;
                self.known.tell(|state| {
                    let before = state.pods.all.insert(key, pod.clone());
                    before.as_ref() != Some(&pod)
                });
            }
            Event::Delete(object) => {
                let ((namespace, name), _) = pod(&object.0);
                PodFacts::remove(&self.dir, &namespace, &name)?;
                self.known.tell(|state| state.pods.all.remove(&(namespace, name)).is_some());
            }
        }
        Ok(())
    }

    fn trouble(&self) -> impl FnMut(Option<String>) + 'static {
        let known = Arc::clone(&self.known);
        move |problem| {
            known.tell(|state| std::mem::replace(&mut state.pods.problem, problem.clone()) != problem);
        }
    }
}

impl Keeper {
    fn replace_all(&mut self) -> Result<(), StoreError> {
        PodFacts::sweep(&self.dir)?;
        let wanted: BTreeSet<&Key> = self.listing.keys().collect();
        for key in PodFacts::list(&self.dir)?.iter().filter(|key| !wanted.contains(key)) {
            PodFacts::remove(&self.dir, &key.0, &key.1)?;
        }
        let all = std::mem::take(&mut self.listing);
        self.known.tell(|state| {
            state.pods.all = all;
            state.pods.complete = true;
            state.pods.problem = None;
            true
        });
        Ok(())
    }
}

fn pod(metadata: &ObjectMeta) -> (Key, Pod) {
    let annotation = |key| metadata.annotations.as_ref().and_then(|annotations| annotations.get(key));
    let key = (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default());
    let pod = Pod {
        uid: metadata.uid.clone().unwrap_or_default(),
        mirrors: annotation(MIRROR).cloned(),
        network_status: annotation(NETWORK_STATUS).map(|text| text_hash(text)),
        created_ms: metadata
            .creation_timestamp
            .as_ref()
            .and_then(|time| time.0.as_millisecond().try_into().ok()),
    };
    (key, pod)
}

fn facts((namespace, name): &Key, metadata: &ObjectMeta) -> PodFacts {
    let annotations = metadata.annotations.iter().flatten();
    let annotations = annotations.filter(|(key, _)| FOR_THE_PLUGIN.contains(&key.as_str()));
    PodFacts {
        namespace: namespace.clone(),
        name: name.clone(),
        uid: metadata.uid.clone().unwrap_or_default(),
        annotations: annotations.map(|(key, value)| (key.clone(), value.clone())).collect(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn keeper() -> (tempfile::TempDir, Keeper) {
        let temp = tempfile::tempdir().unwrap();
        let dir = NodeDirectory::new(temp.path().join("run"), temp.path().join("state"));
        (temp, Keeper { dir, known: Arc::default(), listing: BTreeMap::new() })
    }

    fn object(name: &str, uid: &str, annotations: Value) -> Metadata {
        let metadata = json!({"namespace": "default", "name": name, "uid": uid, "annotations": annotations});
        serde_json::from_value(json!({
            "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": metadata,
        }))
        .unwrap()
    }

    async fn list(keeper: &mut Keeper, objects: impl IntoIterator<Item = Metadata>) {
        keeper.take(Event::Init).await.unwrap();
        for object in objects {
            keeper.take(Event::InitApply(object)).await.unwrap();
        }
        keeper.take(Event::InitDone).await.unwrap();
    }

    fn files(keeper: &Keeper) -> Vec<String> {
        PodFacts::list(&keeper.dir).unwrap().into_iter().map(|(_, name)| name).collect()
    }

    #[tokio::test]
    async fn a_pod_has_a_file_with_what_the_plugin_reads_and_nothing_else() {
        let (_temp, mut keeper) = keeper();
        list(&mut keeper, [object("web", "u1", json!({NETWORKS: "storage", "other": "x", MIRROR: "m1"}))])
            .await;
        let facts = PodFacts::read(&keeper.dir, "default", "web").unwrap().unwrap();
        assert_eq!(facts.uid, "u1");
        assert_eq!(facts.annotations, BTreeMap::from([(NETWORKS.to_owned(), "storage".to_owned())]));
        let state = keeper.known.look();
        let pod = state.pods.all.values().next().unwrap();
        assert!(state.pods.complete && pod.is("u1") && pod.is("m1") && !pod.is("u2"));
    }

    #[tokio::test]
    async fn pods_that_are_gone_lose_their_files_by_event_and_by_list() {
        let (_temp, mut keeper) = keeper();
        list(&mut keeper, ["a", "b", "c"].map(|name| object(name, name, json!({})))).await;
        keeper.take(Event::Delete(object("a", "a", json!({})))).await.unwrap();
        assert_eq!(files(&keeper), ["b", "c"]);
        list(&mut keeper, [object("c", "c", json!({}))]).await;
        assert_eq!(files(&keeper), ["c"]);
        assert_eq!(keeper.known.look().pods.all.len(), 1);
    }

    #[tokio::test]
    async fn pods_are_not_complete_before_the_list_is_but_their_files_are_there() {
        let (_temp, mut keeper) = keeper();
        keeper.take(Event::Init).await.unwrap();
        keeper.take(Event::InitApply(object("a", "a", json!({})))).await.unwrap();
        assert!(!keeper.known.look().pods.complete);
        assert_eq!(files(&keeper), ["a"], "a plugin may be waiting for it");
    }

    #[tokio::test]
    async fn an_own_patch_comes_back_as_the_hash_of_its_text() {
        let (_temp, mut keeper) = keeper();
        list(&mut keeper, [object("a", "a", json!({}))]).await;
        let mut news = keeper.known.news();
        keeper.take(Event::Apply(object("a", "a", json!({NETWORK_STATUS: "[]"})))).await.unwrap();
        assert!(news.has_changed().unwrap());
        news.mark_unchanged();
        let status = keeper.known.look().pods.all.values().next().unwrap().network_status;
        assert_eq!(status, Some(text_hash("[]")));
        keeper.take(Event::Apply(object("a", "a", json!({NETWORK_STATUS: "[]"})))).await.unwrap();
        assert!(!news.has_changed().unwrap());
    }
}
