//! Simulated nodes: they ask of the API server what `braid node` asks of it, and do nothing else.
//!
//! Each has connections of its own, lists networks and the metadata of its pods, watches both, and writes a report of
//! the same size, with the same rights, at most once per interval. It keeps no networks and writes no files: what a node
//! needs is measured on real ones.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use crds::node_report::NodeReport;
use futures::{AsyncBufReadExt, StreamExt};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::change::{self, PATIENCE};
use crate::control_plane::{ControlPlane, User};
use crate::wait;

const NETWORKS: &str = "/apis/k8s.cni.cncf.io/v1/network-attachment-definitions";
/// As kube's watcher lists.
const LIST: &str = "limit=500&resourceVersion=0";
/// Longer than the benchmark: the watch of a real node is renewed every few minutes.
const WATCH: &str = "watch=true&allowWatchBookmarks=true&timeoutSeconds=3000";
const OBJECTS: &str = "application/json";
const LIST_OF_METADATA: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";

/// How long one start of many may take.
const START: Duration = Duration::from_secs(180);

/// Simulated nodes. Dropping it ends them.
pub(super) struct Simulated {
    tasks: Vec<JoinHandle<()>>,
    shared: Arc<Shared>,
}

/// What all of them share.
struct Shared {
    /// The change that is on its way, and when it reached which node.
    arrivals: Mutex<(usize, BTreeMap<usize, Instant>)>,
    ready: AtomicUsize,
    failures: Mutex<Vec<String>>,
    /// Other networks, in each report.
    networks: Vec<String>,
    interval: Duration,
}

impl Simulated {
    /// None yet, of a cluster with so many networks.
    pub(super) fn new(networks: usize, interval: Duration) -> Self {
        let networks = (0..networks).map(|number| format!("default/net-{number}")).collect();
        let shared = Shared {
            arrivals: Mutex::default(),
            ready: AtomicUsize::new(0),
            failures: Mutex::default(),
            networks,
            interval,
        };
        Self { tasks: Vec::new(), shared: Arc::new(shared) }
    }

    pub(super) fn count(&self) -> usize {
        self.tasks.len()
    }

    /// Starts more, until there are so many, and waits until all of them watch.
    pub(super) fn grow(&mut self, plane: &ControlPlane, user: &User, to: usize) -> Result<()> {
        for number in self.count()..to {
            let node = Node { number, client: plane.client(user)?, shared: Arc::clone(&self.shared) };
            self.tasks.push(plane.spawn(async move {
                let Err(error) = node.live().await;
                let text = format!("simulated node {}: {error:#}", node.number);
                node.shared.failures.lock().unwrap_or_else(PoisonError::into_inner).push(text);
            }));
        }
        wait::within(START, "all simulated nodes watch", || {
            self.ensure_alive()?;
            Ok(self.shared.ready.load(Ordering::Relaxed) == to)
        })
    }

    fn ensure_alive(&self) -> Result<()> {
        let failures = self.shared.failures.lock().unwrap_or_else(PoisonError::into_inner);
        ensure!(failures.is_empty(), "{} of {} ended: {}", failures.len(), self.count(), failures[0]);
        Ok(())
    }

    /// From now on, arrivals of this change are noted.
    pub(super) fn expect(&self, change: usize) {
        *self.arrivals() = (change, BTreeMap::new());
    }

    /// When the expected change reached each of them, once it has.
    pub(super) fn wait_for_arrivals(&self) -> Result<Vec<Instant>> {
        wait::within(PATIENCE, "a change is known to all simulated nodes", || {
            self.ensure_alive()?;
            Ok(self.arrivals().1.len() == self.count())
        })?;
        Ok(self.arrivals().1.values().copied().collect())
    }

    fn arrivals(&self) -> std::sync::MutexGuard<'_, (usize, BTreeMap<usize, Instant>)> {
        self.shared.arrivals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Simulated {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

struct Node {
    number: usize,
    client: Client,
    shared: Arc<Shared>,
}

#[derive(Deserialize)]
struct List {
    metadata: ListMetadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListMetadata {
    resource_version: String,
    #[serde(default, rename = "continue")]
    more: String,
}

impl Node {
    fn name(&self) -> String {
        format!("simulated-{}", self.number)
    }

    async fn live(&self) -> Result<Infallible> {
        let pods = format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{}", self.name());
        let (news, changes) = watch::channel(());
        let networks_since = self.list(&format!("{NETWORKS}?"), OBJECTS).await.context("listing networks")?;
        let pods_since = self.list(&format!("{pods}&"), LIST_OF_METADATA).await.context("listing pods")?;
        self.shared.ready.fetch_add(1, Ordering::Relaxed);
        let networks = format!("{NETWORKS}?{WATCH}&resourceVersion={networks_since}");
        let pods = format!("{pods}&{WATCH}&resourceVersion={pods_since}");
        let networks = self.watch(&networks, OBJECTS, |line| {
            if self.shared.note(self.number, line) {
                news.send_replace(());
            }
        });
        let pods = self.watch(&pods, METADATA, |_| ());
        let done = futures::future::try_join3(networks, pods, self.report(changes)).await;
        done.map(|(never, ..)| never)
    }

    /// Asks for a list and forgets it; the version that it has.
    async fn list(&self, path: &str, accept: &str) -> Result<String> {
        let mut more = String::new();
        loop {
            let page = if more.is_empty() { LIST.to_owned() } else { format!("limit=500&continue={more}") };
            let request = http::Request::get(format!("{path}{page}")).header("accept", accept);
            let text = self.client.request_text(request.body(Vec::new())?).await?;
            let List { metadata } = serde_json::from_str(&text).context("reading a list")?;
            if metadata.more.is_empty() {
                return Ok(metadata.resource_version);
            }
            more = metadata.more;
        }
    }

    async fn watch(&self, path: &str, accept: &str, mut line: impl FnMut(&str)) -> Result<Infallible> {
        let request = http::Request::get(path).header("accept", accept).body(Vec::new())?;
        let stream = self.client.request_stream(request).await.with_context(|| format!("watching {path}"))?;
        let mut lines = std::pin::pin!(stream.lines());
        while let Some(text) = lines.next().await {
            line(&text.with_context(|| format!("watching {path}"))?);
        }
        bail!("the watch of {path} ended")
    }

    /// As `braid node` does: soon after the start, then after a change, at most once per interval.
    async fn report(&self, mut changes: watch::Receiver<()>) -> Result<Infallible> {
        let api: Api<NodeReport> = Api::all(self.client.clone());
        sleep(self.shared.interval.mul_f64(self.fraction() / 10.0)).await;
        loop {
            changes.borrow_and_update();
            let object = self.content();
            let params = PatchParams::apply("braid").force();
            api.patch_metadata(&self.name(), &params, &Patch::Apply(&object)).await.context("reporting")?;
            let bytes = f64::from(u32::try_from(object.to_string().len()).unwrap_or(u32::MAX));
            sleep(self.shared.interval.mul_f64((bytes / 3000.0).max(1.0))).await;
            changes.changed().await.context("there is nothing more to report")?;
            sleep(self.shared.interval.mul_f64(self.fraction())).await;
        }
    }

    fn content(&self) -> Value {
        let change = self.shared.arrivals.lock().unwrap_or_else(PoisonError::into_inner).0;
        let networks = self.shared.networks.iter().map(|name| (name.clone(), json!(1)));
        let networks: serde_json::Map<_, _> =
            networks.chain([("default/changed".to_owned(), json!(change + 1))]).collect();
        json!({
            "apiVersion": "braid.dev/v1alpha1", "kind": "NodeReport", "metadata": {"name": self.name()},
            "report": {
                "version": env!("CARGO_PKG_VERSION"), "bootID": "00000000-0000-0000-0000-000000000000",
                "conditions": [{
                    "type": "Ready", "status": "True", "reason": "Ready", "message": "pods can be attached",
                    "lastTransitionTime": "2026-01-01T00:00:00Z",
                }],
                "primary": {"name": "primary", "file": "10-primary.conflist", "plugins": ["bridge"]},
                "networks": networks,
                "attachments": {"pods": 0, "unfinished": 0, "abandoned": 0},
            },
        })
    }

    /// Between 0 and 1, spread evenly over the nodes.
    fn fraction(&self) -> f64 {
        let golden = 0.618_033_988_75;
        (f64::from(u32::try_from(self.number).unwrap_or_default()) * golden).fract()
    }
}

impl Shared {
    /// Whether a line of a watch tells of a change, and not only of a version.
    fn note(&self, node: usize, line: &str) -> bool {
        let mut arrivals = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        if line.contains(&change::mark(arrivals.0)) {
            arrivals.1.entry(node).or_insert_with(Instant::now);
        }
        !line.contains("\"type\":\"BOOKMARK\"")
    }
}
