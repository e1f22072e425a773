//! Events: what people read with `kubectl describe`. Best effort, and never in anybody's way.
//!
//! Each is an object of `events.k8s.io/v1` (API servers from 1.19) that is created and never changed: who
//! sends them sends each piece of news once, and kube's recorder would fold a pod's second sandbox into the
//! event of its first, with the addresses of the first. So the right to create is enough.
//!
//! Senders never wait: what does not fit into the queue is dropped and counted. A burst of pods goes out at
//! once, after it the rate is bounded.

mod object;
mod pace;
#[cfg(test)]
pub(crate) mod scripted;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::events::v1::Event as Object;
use kube::api::PostParams;
use kube::{Client, Resource};
use serde::de::IgnoredAny;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tracing::{debug, info, warn};

use crate::args::PodEvents;
use crate::cluster::{FIELD_MANAGER, Meaning, cause_text, meaning, within};
use crate::metrics::{ByOutcome, Metrics, Outcome};
use pace::Pace;

/// So many events wait at most.
const QUEUE: usize = 256;
/// A request that hangs is given up after this.
const LONGEST: Duration = Duration::from_secs(10);
/// An event is tried so often, with pauses of 1 and 2 seconds; then it is dropped.
const TRIES: u32 = 3;

/// What an event is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum About {
    /// A pod.
    Pod {
        /// Its namespace and name.
        name: (String, String),
        /// Its own uid, for a mirror pod too.
        uid: String,
    },
    /// This node.
    Node,
}

/// One piece of news.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What it is about.
    pub about: About,
    /// Whether it is a problem.
    pub warning: bool,
    /// One word for what happened.
    pub reason: &'static str,
    /// One word for what was being done.
    pub action: &'static str,
    /// What happened, for people; cut to what an event may hold.
    pub note: String,
}

impl Event {
    /// Something went as it should.
    pub fn normal(about: About, reason: &'static str, action: &'static str, note: String) -> Self {
        Self { about, warning: false, reason, action, note }
    }

    /// Something did not.
    pub fn warning(about: About, reason: &'static str, action: &'static str, note: String) -> Self {
        Self { about, warning: true, reason, action, note }
    }
}

/// Where events are handed in.
#[derive(Debug, Clone)]
pub struct Sender {
    queue: mpsc::Sender<Event>,
    which: PodEvents,
    metrics: Arc<Metrics>,
}

/// Where they are taken out, by [`run`].
pub type Receiver = mpsc::Receiver<Event>;

/// A queue of events; pods get those that `which` says.
pub fn channel(which: PodEvents, metrics: Arc<Metrics>) -> (Sender, Receiver) {
    let (queue, receiver) = mpsc::channel(QUEUE);
    (Sender { queue, which, metrics }, receiver)
}

impl Sender {
    /// Hands an event in; never waits. If the queue is full it is dropped and counted as failed.
    pub fn send(&self, event: Event) {
        if !wanted(self.which, &event) {
            return;
        }
        if let Err(error) = self.queue.try_send(event) {
            debug!(error = %error, "an event is dropped");
            count(&self.metrics, Outcome::failed);
        }
    }
}

fn wanted(which: PodEvents, event: &Event) -> bool {
    match (&event.about, which) {
        (About::Node, _) | (_, PodEvents::All) => true,
        (About::Pod { .. }, PodEvents::Problems) => event.warning,
        (About::Pod { .. }, PodEvents::None) => false,
    }
}

fn count(metrics: &Metrics, outcome: Outcome) {
    metrics.events.get_or_create(&ByOutcome { outcome }).inc();
}

/// Writes events to the API server, one after another, at a bounded rate.
pub async fn run(
    client: Client,
    node_name: String,
    mut receiver: Receiver,
    metrics: Arc<Metrics>,
) -> Result<Infallible, Infallible> {
    let mut pace = Pace::default();
    let mut told = false;
    while let Some(event) = receiver.recv().await {
        sleep(pace.take(Instant::now())).await;
        let object = object::object(&event, &node_name, jiff::Timestamp::now());
        match write(&client, &object, &metrics).await {
            Ok(()) => {
                count(&metrics, Outcome::ok);
                if std::mem::take(&mut told) {
                    info!("events can be written again");
                }
            }
            Err(error) => {
                count(&metrics, Outcome::failed);
                // Once until it goes well again.
                if !std::mem::replace(&mut told, true) {
                    warn!(error, reason = event.reason, "an event cannot be written and is dropped");
                }
            }
        }
    }
    // Nobody sends any more; a task of a role ends with the role.
    std::future::pending().await
}

/// Creates an event; tries again what may go better later.
async fn write(client: &Client, object: &Object, metrics: &Metrics) -> Result<(), String> {
    let mut failures = 0;
    loop {
        let (later, error) = match within(LONGEST, create(client, object)).await {
            Ok(()) => return Ok(()),
            // The name is ours alone: an earlier try has made it, and its answer was lost.
            Err(error) if failures > 0 && meaning(&error) == Meaning::Conflict => return Ok(()),
            Err(error) => {
                metrics.api_error(&error);
                (meaning(&error) == Meaning::Later, cause_text(&error))
            }
        };
        failures += 1;
        if !later || failures == TRIES {
            return Err(error);
        }
        count(metrics, Outcome::retried);
        sleep(Duration::from_secs(u64::from(failures))).await;
    }
}

async fn create(client: &Client, object: &Object) -> Result<(), kube::Error> {
    let namespace = object.metadata.namespace.as_deref();
    let events = kube::core::Request::new(Object::url_path(&(), namespace));
    let body = serde_json::to_vec(object).map_err(kube::Error::SerdeError)?;
    let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    let request = events.create(&params, body).map_err(kube::Error::BuildRequest)?;
    client.request::<IgnoredAny>(request).await.map(drop)
}

#[cfg(test)]
mod tests;
