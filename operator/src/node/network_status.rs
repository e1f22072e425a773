//! Tells the API server what pods got: the annotation `k8s.v1.cni.cncf.io/network-status`, and events.
//!
//! One merge patch per pod, guarded by its uid, begun as soon as the record says that it is attached and tried
//! again until the watch of pods shows it, or the pod is gone. What has to be patched is decided anew from what
//! is known each time something changes (`decide`), so a restart goes on where the former process ended.
//! Nothing is read from the API server, and ADD waits for none of this.

mod act;
mod decide;
mod history;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures::future::Either;
use futures::stream::{FuturesUnordered, StreamExt};
use kube::Client;
use store::record::now_ms;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, error, info, warn};

use crate::events::Sender;
use crate::known::Known;
use crate::metrics::{ByOutcome, Metrics, Outcome};
use crate::retry::fraction;
use act::Answer;
use decide::{Attempts, Ended, Patch};
use history::History;

/// So many patches are under way at once.
const SIDE_BY_SIDE: usize = 8;

/// Patches pods of which `known` says what they got, and tells `events` about it.
///
/// *Guarantees*: no pod has two patches under way, and none is patched again before the watch of pods has had
/// its time to show the patch. A pod of the same name and another uid is never touched.
pub async fn run(
    client: Client,
    known: Arc<Known>,
    metrics: Arc<Metrics>,
    events: Sender,
) -> Result<Infallible, Infallible> {
    let mut news = known.news();
    let mut patches = Patches { known, metrics, events, attempts: Attempts::default(), told: None };
    let mut history = History::default();
    let mut under_way = FuturesUnordered::new();
    loop {
        for event in history.news(&patches.known.look()) {
            patches.events.send(event);
        }
        let room = SIDE_BY_SIDE - under_way.len();
        let decision = patches.attempts.decide(&patches.known.look(), room, Instant::now());
        patches.metrics.network_status_pending.set(decision.pending.try_into().unwrap_or(i64::MAX));
        let started = decision.start.into_iter().map(|patch| act::patch(client.clone(), patch));
        under_way.extend(started);
        let wait =
            decision.next.map_or(Either::Right(std::future::pending()), |at| Either::Left(sleep_until(at)));
        tokio::select! {
            Some((patch, answer)) = under_way.next() => patches.end(&patch, answer),
            // We hold its sender.
            _ = news.changed() => {}
            () = wait => {}
        }
    }
}

struct Patches {
    known: Arc<Known>,
    metrics: Arc<Metrics>,
    events: Sender,
    attempts: Attempts,
    /// The kind of trouble that the log has been told of.
    told: Option<u16>,
}

impl Patches {
    fn end(&mut self, patch: &Patch, answer: Answer) {
        let ended = answer.ended;
        self.attempts.end(patch, &ended, fraction(), Instant::now());
        let outcome = match ended {
            Ended::Held => Outcome::ok,
            Ended::Moot => Outcome::moot,
            Ended::Refused => Outcome::failed,
            Ended::Later(_) => Outcome::retried,
        };
        self.metrics.network_status_patches.get_or_create(&ByOutcome { outcome }).inc();
        // That a pod is gone is no failure of the API server.
        if let Some(error) = answer.error.as_ref().filter(|_| ended != Ended::Moot) {
            self.metrics.api_error(error);
        }
        self.log(patch, &ended, &answer.why, answer.code);
        if ended == Ended::Held {
            let took = Duration::from_millis(now_ms().saturating_sub(patch.created_ms));
            self.metrics.network_status_latency.observe(took.as_secs_f64());
        }
        if ended == Ended::Held && !patch.announced {
            self.announce(patch);
        }
    }

    /// Tells the log what is new: trouble with the API server once for all pods, a refusal once for each.
    fn log(&mut self, patch: &Patch, ended: &Ended, why: &str, code: u16) {
        let (namespace, pod) = &patch.pod;
        match ended {
            Ended::Held if self.told.take().is_some() => info!("pods can be patched again"),
            Ended::Refused if !patch.refused => {
                error!(namespace, pod, error = why, "the API server refuses a pod's network-status");
            }
            Ended::Later(_) if self.told != Some(code) => {
                warn!(
                    namespace,
                    pod,
                    error = why,
                    "a pod's network-status cannot be patched; it is tried again"
                );
                self.told = Some(code);
            }
            _ => debug!(namespace, pod, ?ended, error = why, "a patch of a pod's network-status has ended"),
        }
    }

    fn announce(&self, patch: &Patch) {
        let event = {
            let state = self.known.look();
            // Its record may have gone while the request was under way.
            state.records.all.get(&patch.record).and_then(|record| history::added(patch, record))
        };
        if let Some(event) = event {
            self.events.send(event);
        }
    }
}

#[cfg(test)]
mod tests;
