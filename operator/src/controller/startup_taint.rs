//! The startup taint: it keeps pods off a new node until Braid is ready there, and is taken off here.
//!
//! Whoever makes nodes gives them the taint (a node pool, the kubelet's `--register-with-taints`). It goes once the
//! node's report says that the node is ready, in the Node's present boot ([`decision`]). The controller does it and
//! not the node role: a right to patch Nodes on every node would let one compromised node change all others.
//!
//! It is level-triggered: a Node that has the taint is looked at whenever something is news, and a write that failed,
//! or met with a change by somebody else, is tried again. Whoever taints a ready node by hand finds that gone, too.

pub mod decision;

use std::collections::{BTreeMap, HashSet};
use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams};
use kube::core::{ApiResource, Object};
use kube::runtime::watcher as watch;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, ResourceExt};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, info};

use super::known::State;
use super::reports::{FIELD_MANAGER, NODES};
use crate::cluster::{Meaning, meaning};
use crate::known::Known;
use crate::metrics::{ByOutcome, Metrics, Outcome};
use crate::watching;
use decision::{Tainted, decide};

/// A Node as far as it is read. One has some 15 KB, most of them names of images.
pub type SeenNode = Object<Spec, Status>;

/// Of a Node's `spec`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Spec {
    /// Its taints.
    #[serde(default)]
    pub taints: Vec<Value>,
}

/// Of a Node's `status`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// What the kubelet tells of its machine.
    #[serde(default)]
    pub node_info: Machine,
}

/// Of a Node's `status.nodeInfo`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Machine {
    /// The boot of its kernel.
    #[serde(default, rename = "bootID")]
    pub boot_id: String,
}

/// Nodes in a page of a list.
const PAGE: u32 = 50;
/// Writes under way at a time.
const WRITES: usize = 4;
/// One write.
const LONGEST_WRITE: Duration = Duration::from_secs(15);
/// After a write to a Node, however it ended: its watch tells what it is now.
const PAUSE: Duration = Duration::from_secs(10);

const WATCH_NODES: &str = "watch the nodes' taints";
const WRITE: &str = "take the startup taint off a node";

/// Takes the taint `key` off the Nodes that are ready, for ever; an empty key is no taint's.
pub async fn run(client: Client, key: &str, known: &Known<State>, metrics: &Metrics) -> Infallible {
    if key.is_empty() {
        return std::future::pending().await;
    }
    let api: Api<SeenNode> = Api::all_with(client, &ApiResource::erase::<Node>(&()));
    let config = watcher::Config::default().page_size(PAGE);
    let stream = || watch(api.clone(), config.clone());
    let mut nodes = pin!(watching::events(stream, NODES, metrics, known.watch(WATCH_NODES)));
    let mut news = known.news();
    let mut board = Board::new(key);
    loop {
        news.mark_unchanged();
        if !board.nodes.values().any(|seen| seen.failed) {
            known.well(WRITE);
        }
        let (ready, again) = look(&board, known, Instant::now());
        if !ready.is_empty() {
            write(&api, &mut board, ready, known, metrics).await;
            continue;
        }
        tokio::select! {
            Some(event) = nodes.next() => board.take(event),
            // Never an error: `known` outlives this.
            _ = news.changed() => {}
            () = sleep_until(again.unwrap_or_else(Instant::now)), if again.is_some() => {}
        }
    }
}

/// The Nodes whose taint is to go now, and when to look again. Why it stays on the others is told.
fn look(board: &Board<'_>, known: &Known<State>, now: Instant) -> (Vec<(String, Tainted)>, Option<Instant>) {
    let (mut ready, mut again) = (Vec::new(), None::<Instant>);
    known.tell(|state| {
        let mut reasons = BTreeMap::new();
        for (name, seen) in &board.nodes {
            let reason = match (decide(&seen.node, state.reports.said.get(name)), seen.rests) {
                (Err(reason), _) => reason,
                (Ok(()), Some(until)) if until > now => {
                    again = Some(again.map_or(until, |again| again.min(until)));
                    "it is being taken off"
                }
                (Ok(()), _) => {
                    ready.push((name.clone(), seen.node.clone()));
                    "it is being taken off"
                }
            };
            reasons.insert(name.clone(), reason);
        }
        let news = state.startup_taints != reasons;
        state.startup_taints = reasons;
        news
    });
    (ready, again)
}

/// Writes to all of these Nodes, also after one has failed.
async fn write(
    api: &Api<SeenNode>,
    board: &mut Board<'_>,
    ready: Vec<(String, Tainted)>,
    known: &Known<State>,
    metrics: &Metrics,
) {
    let key = board.key;
    let writes = ready.iter().map(async |(name, node)| {
        let written = timeout(LONGEST_WRITE, take_off(api, name, node, key, metrics)).await;
        (name, written)
    });
    let ended: Vec<_> = stream::iter(writes).buffer_unordered(WRITES).collect().await;
    for (name, written) in ended {
        let failed = told(written, known);
        board.rest(name, Instant::now() + PAUSE, failed);
    }
}

/// Tells that a write failed, if it did.
fn told(written: Result<Result<(), kube::Error>, Elapsed>, known: &Known<State>) -> bool {
    match written {
        Ok(Ok(())) => return false,
        Ok(Err(error)) => known.trouble(WRITE, &error),
        Err(elapsed) => known.trouble(WRITE, &elapsed),
    }
    true
}

async fn take_off(
    api: &Api<SeenNode>,
    name: &str,
    node: &Tainted,
    key: &str,
    metrics: &Metrics,
) -> Result<(), kube::Error> {
    let patch = serde_json::from_value(node.patch(key)).map_err(kube::Error::SerdeError)?;
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let count = |outcome| metrics.startup_taint_removals.get_or_create(&ByOutcome { outcome }).inc();
    match api.patch_metadata(name, &params, &Patch::Json::<()>(patch)).await {
        Ok(_) => {
            count(Outcome::ok);
            info!(
                node = name,
                taint = key,
                "took the startup taint off: the node's report says that it is ready"
            );
            Ok(())
        }
        // A test of the patch failed (422): the Node is another one by now, or has other taints. Or it is gone.
        Err(error) if matches!(meaning(&error), Meaning::Refused | Meaning::Conflict | Meaning::Gone) => {
            count(Outcome::retried);
            debug!(node = name, %error, "the node has changed meanwhile; looking again");
            Ok(())
        }
        Err(error) => {
            count(Outcome::retried);
            Err(error)
        }
    }
}

/// The Nodes that have the taint.
struct Board<'a> {
    key: &'a str,
    nodes: BTreeMap<String, Seen>,
    listed: HashSet<String>,
}

struct Seen {
    node: Tainted,
    /// Nothing is written to it before, unless it changes.
    rests: Option<Instant>,
    /// The last write to it did.
    failed: bool,
}

impl<'a> Board<'a> {
    fn new(key: &'a str) -> Self {
        Self { key, nodes: BTreeMap::new(), listed: HashSet::new() }
    }

    /// Takes note of a Node. A new list replaces what was known at its end, not before.
    fn take(&mut self, event: Event<SeenNode>) {
        match event {
            Event::Init => self.listed.clear(),
            Event::InitApply(node) => {
                self.listed.insert(node.name_any());
                self.put(&node);
            }
            Event::InitDone => {
                let listed = std::mem::take(&mut self.listed);
                self.nodes.retain(|name, _| listed.contains(name));
            }
            Event::Apply(node) => self.put(&node),
            Event::Delete(node) => drop(self.nodes.remove(&node.name_any())),
        }
    }

    fn put(&mut self, node: &SeenNode) {
        let name = node.name_any();
        match Tainted::of(node, self.key) {
            None => drop(self.nodes.remove(&name)),
            Some(node) if self.nodes.get(&name).is_some_and(|seen| seen.node == node) => {}
            Some(node) => drop(self.nodes.insert(name, Seen { node, rests: None, failed: false })),
        }
    }

    fn rest(&mut self, name: &str, until: Instant, failed: bool) {
        if let Some(seen) = self.nodes.get_mut(name) {
            (seen.rests, seen.failed) = (Some(until), failed);
        }
    }
}

#[cfg(test)]
mod tests;
