//! The node's report: what is known, as an object of the API server.
//!
//! It is written by server-side apply, at most once per interval, more rarely the larger it is, and only when
//! something but the time has changed, an hour has passed, or somebody has deleted it: what thousands of
//! nodes may ask of one API server is reasoned about in docs/scale.md. Whether pods can be attached at all is waited
//! for (a startup taint hangs on it): that is told soon, but not twice within one interval.
//!
//! Whether it is still there is asked with a patch that changes nothing: the right to patch reports is needed anyway,
//! while reading or watching them would open those of all nodes to every node.

mod content;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use crds::node_report::{NodeReport, ReportContent};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tracing::{debug, info, warn};

use crate::cluster::{FIELD_MANAGER, Meaning, cause_text, is_not_there, meaning, within};
use crate::known::{Known, State};
use crate::metrics::{ByOutcome, Metrics, Outcome};
use crate::retry::{about_one, fraction};

pub use content::content;

/// A request that takes longer is given up and tried again.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a report may have for one interval; after a larger one, the next waits for as many intervals more.
const BYTES_PER_INTERVAL: f64 = 3000.0;

/// A report that says nothing new is written again after so long.
const REFRESH: Duration = Duration::from_secs(3600);

/// Whether the report is still there is asked after so many intervals without a write.
const INTERVALS_UNSEEN: u32 = 10;

/// Why pods cannot be attached on the node, one sentence each; none if they can.
pub type Readiness = fn(&State) -> Vec<String>;

/// When a report is written.
#[derive(Debug, Clone)]
pub struct Occasions {
    /// At most once in this time.
    pub interval: Duration,
    /// Soon, where this changes.
    pub readiness: Readiness,
    /// Again, when this changes: the API server has an older one then.
    pub restored: watch::Receiver<u64>,
}

/// Keeps the report of `node` as things are known.
pub async fn run(
    client: Client,
    node: String,
    on: Occasions,
    known: Arc<Known>,
    metrics: Arc<Metrics>,
) -> Result<Infallible, Infallible> {
    let Occasions { interval, readiness, mut restored } = on;
    let mut news = known.news();
    let api: Api<NodeReport> = Api::all(client);
    let mut teller = Teller { api, node, metrics, last: None, told: None };
    let mut refresh = Instant::now() + REFRESH;
    let next_look = || Instant::now() + (interval * INTERVALS_UNSEEN).mul_f64(about_one());
    let mut look = next_look();
    let mut patient =
        Patient { known: Arc::clone(&known), news: known.news(), interval, readiness, hurried: None };
    let mut hurry = false;
    loop {
        if !hurry {
            // What changes on all nodes at once is not told by all of them at once.
            patient.wait(Instant::now() + interval.mul_f64(fraction()), teller.last.as_ref()).await;
        }
        news.borrow_and_update();
        let new = {
            let state = known.look();
            content(&state, &readiness(&state), teller.last.as_ref())
        };
        let mut due = refresh <= Instant::now() || teller.last.as_ref().is_none_or(|last| differ(last, &new));
        if !due && look <= Instant::now() {
            due = teller.finds_it_gone().await;
            look = next_look();
        }
        if due {
            let begun = Instant::now();
            let bytes = teller.tell(new, &known, readiness).await;
            (refresh, look) = (begun + REFRESH.mul_f64(about_one()), next_look());
            hurry = patient.wait(begun + pause(interval, bytes), teller.last.as_ref()).await;
        } else {
            hurry = false;
        }
        if !hurry {
            tokio::select! {
                // The sender lives as long as `known`.
                _ = timeout_at(refresh.min(look), news.changed()) => {}
                Ok(()) = restored.changed() => refresh = Instant::now(),
            }
        }
    }
}

/// Waits between two reports.
struct Patient {
    known: Arc<Known>,
    /// Its own: what is seen here is not taken for told.
    news: watch::Receiver<()>,
    interval: Duration,
    readiness: Readiness,
    /// When a wait was ended early.
    hurried: Option<Instant>,
}

impl Patient {
    /// Waits until `end`; not so long when the API server is told the wrong thing about the node's readiness, or
    /// nothing yet of a node that is ready. Whether it was cut short.
    async fn wait(&mut self, end: Instant, told: Option<&ReportContent>) -> bool {
        loop {
            self.news.borrow_and_update();
            let may_hurry = self.hurried.is_none_or(|last| last.elapsed() >= self.interval);
            if may_hurry && pressing(told, (self.readiness)(&self.known.look()).is_empty()) {
                self.hurried = Some(Instant::now());
                let soon = Instant::now() + self.interval.mul_f64(fraction() / 10.0);
                sleep_until(soon.min(end)).await;
                return true;
            }
            if timeout_at(end, self.news.changed()).await.is_err() {
                return false;
            }
        }
    }
}

/// Whether it cannot wait to tell that the node is `ready`, or is not.
fn pressing(told: Option<&ReportContent>, ready: bool) -> bool {
    told.map_or(ready, |told| told.is_ready() != ready)
}

/// How long after a report of `bytes` the next one has to wait.
fn pause(interval: Duration, bytes: usize) -> Duration {
    let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
    interval.mul_f64((f64::from(bytes) / BYTES_PER_INTERVAL).max(1.0))
}

/// Whether a report says something new; the time of the last sync alone does not.
fn differ(old: &ReportContent, new: &ReportContent) -> bool {
    // That something was tried once more is no news either.
    let timeless = |content: &ReportContent| {
        let mut content = ReportContent { last_complete_sync: None, ..content.clone() };
        content.detach_failures.iter_mut().for_each(|failure| failure.attempts = 0);
        content
    };
    timeless(old) != timeless(new)
}

struct Teller {
    api: Api<NodeReport>,
    node: String,
    metrics: Arc<Metrics>,
    /// What the API server has.
    last: Option<ReportContent>,
    /// The error that the log has been told already.
    told: Option<String>,
}

impl Teller {
    /// Writes until it holds; what is written is always the newest. How many bytes it was.
    async fn tell(&mut self, mut content: ReportContent, known: &Known, readiness: Readiness) -> usize {
        for pause in retries() {
            match self.write(&content).await {
                Ok(bytes) => {
                    self.count(Outcome::ok);
                    if self.told.take().is_some() {
                        info!("the node's report is written again");
                    }
                    debug!(node = self.node, "the node's report is written");
                    self.last = Some(content);
                    return bytes;
                }
                Err(text) => {
                    self.count(Outcome::retried);
                    if self.told.as_ref() != Some(&text) {
                        warn!(error = text, "the node's report cannot be written; trying again");
                        self.told = Some(text);
                    }
                }
            }
            sleep(pause).await;
            let state = known.look();
            content = content::content(&state, &readiness(&state), self.last.as_ref());
        }
        0
    }

    /// Whether somebody has deleted the report. An answer that says neither is no reason to write it.
    async fn finds_it_gone(&self) -> bool {
        let nothing = Patch::Merge(json!({}));
        let params = PatchParams::default();
        let asked = within(PATIENCE, self.api.patch_metadata(&self.node, &params, &nothing)).await;
        let Err(error) = asked else { return false };
        let gone = is_not_there(&error);
        if gone {
            info!(node = self.node, "the node's report is gone; writing it again");
        } else {
            self.metrics.api_error(&error);
        }
        gone
    }

    async fn write(&self, content: &ReportContent) -> Result<usize, String> {
        let object = json!({
            "apiVersion": "braid.dev/v1alpha1", "kind": "NodeReport",
            "metadata": {"name": self.node}, "report": content,
        });
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let patch = Patch::Apply(&object);
        match within(PATIENCE, self.api.patch_metadata(&self.node, &params, &patch)).await {
            Ok(_) => Ok(object.to_string().len()),
            Err(error) => Err(self.explain(&error)),
        }
    }

    fn explain(&self, error: &kube::Error) -> String {
        self.metrics.api_error(error);
        match meaning(error) {
            Meaning::Gone => format!(
                "{}; the definition of NodeReports is not installed: kubectl apply -f crds/",
                cause_text(error)
            ),
            Meaning::Forbidden => {
                format!("{}; RBAC has to permit Braid to patch nodereports", cause_text(error))
            }
            _ => cause_text(error),
        }
    }

    fn count(&self, outcome: Outcome) {
        self.metrics.reports.get_or_create(&ByOutcome { outcome }).inc();
    }
}

/// From one second to two minutes, with jitter, without end.
fn retries() -> impl Iterator<Item = Duration> {
    let pauses = ExponentialBuilder::new().with_min_delay(Duration::from_secs(1));
    pauses.with_max_delay(Duration::from_secs(120)).without_max_times().with_jitter().build()
}

#[cfg(test)]
mod tests;
