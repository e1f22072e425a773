//! The node's report: what is known, as an object of the API server.
//!
//! It is written by server-side apply, at most once per interval, more rarely the larger it is, and only when
//! something but the time has changed, or an hour has passed (somebody may have deleted it): what thousands of
//! nodes may ask of one API server is reasoned about in docs/scale.md.

mod content;

use std::convert::Infallible;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use crds::node_report::{NodeReport, ReportContent};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tracing::{debug, info, warn};

use crate::cluster::{FIELD_MANAGER, Meaning, meaning};
use crate::known::{Known, State};
use crate::metrics::{ByOutcome, Metrics, Outcome};
use crate::watching::cause_text;

pub use content::content;

/// A request that takes longer is given up and tried again.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a report may have for one interval; after a larger one, the next waits for as many intervals more.
const BYTES_PER_INTERVAL: f64 = 3000.0;

/// A report that says nothing new is written again after so long.
const REFRESH: Duration = Duration::from_secs(3600);

/// Why pods cannot be attached on the node, one sentence each; none if they can.
pub type Readiness = fn(&State) -> Vec<String>;

/// Keeps the report of `node` as things are known, written at most once per `interval`.
pub async fn run(
    client: Client,
    node: String,
    interval: Duration,
    readiness: Readiness,
    known: Arc<Known>,
    metrics: Arc<Metrics>,
) -> Result<Infallible, Infallible> {
    let mut news = known.news();
    let api: Api<NodeReport> = Api::all(client);
    let mut teller = Teller { api, node, metrics, last: None, told: None };
    let mut refresh = Instant::now() + REFRESH;
    loop {
        // What changes on all nodes at once is not told by all of them at once.
        sleep(interval.mul_f64(fraction())).await;
        news.borrow_and_update();
        let new = {
            let state = known.look();
            content(&state, &readiness(&state), teller.last.as_ref())
        };
        if refresh <= Instant::now() || teller.last.as_ref().is_none_or(|last| differ(last, &new)) {
            let begun = Instant::now();
            let bytes = teller.tell(new, &known, readiness).await;
            refresh = begun + REFRESH.mul_f64(0.9 + 0.2 * fraction());
            sleep_until(begun + pause(interval, bytes)).await;
        }
        // The sender lives as long as `known`.
        let _ = timeout_at(refresh, news.changed()).await;
    }
}

/// How long after a report of `bytes` the next one has to wait.
fn pause(interval: Duration, bytes: usize) -> Duration {
    let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
    interval.mul_f64((f64::from(bytes) / BYTES_PER_INTERVAL).max(1.0))
}

/// Between 0 and 1, another one each time.
fn fraction() -> f64 {
    f64::from(u32::try_from(RandomState::new().hash_one(0) >> 32).unwrap_or_default()) / f64::from(u32::MAX)
}

/// Whether a report says something new; the time of the last sync alone does not.
fn differ(old: &ReportContent, new: &ReportContent) -> bool {
    let timeless = |content: &ReportContent| ReportContent { last_complete_sync: None, ..content.clone() };
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

    async fn write(&self, content: &ReportContent) -> Result<usize, String> {
        let object = json!({
            "apiVersion": "braid.dev/v1alpha1", "kind": "NodeReport",
            "metadata": {"name": self.node}, "report": content,
        });
        let params = PatchParams::apply(FIELD_MANAGER).force();
        match timeout(PATIENCE, self.api.patch_metadata(&self.node, &params, &Patch::Apply(&object))).await {
            Err(_) => Err(format!("the API server did not answer within {} s", PATIENCE.as_secs())),
            Ok(Ok(_)) => Ok(object.to_string().len()),
            Ok(Err(error)) => Err(self.explain(&error)),
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
