//! What is counted and measured, in OpenMetrics' names and units. No label bears the name of an object: their
//! number would grow with the cluster.
//!
//! | to | see |
//! |---|---|
//! | have labels with few values | [`labels`] |
//! | show what the node role knows | [`known`] |
//! | show the process | [`process`] |
//!
//! `docs/observability.md` lists every metric; a test compares it with what is registered.

pub mod known;
pub mod labels;
pub mod process;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::known::Known;
use known::OfKnown;
use labels::{ByCode, ByDelegate, ByDelegateAndOutcome, DelegateTypes};
pub use labels::{ByOutcome, ByRequest, Outcome, RequestKind, RequestVerdict};
use process::Process;

/// The beginning of every name but those of the process.
const PREFIX: &str = "braid";

/// A histogram for each set of labels.
type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// Everything that is counted while it happens; what is known anyway is read when somebody asks.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Events written.
    pub events: Family<ByOutcome, Counter>,
    /// Lists and watches that ended with an error.
    pub watch_errors: Counter,
    /// Objects of the API server that could not be read.
    pub undecodable_objects: Counter,
    api_errors: Family<ByCode, Counter>,

    /// Node: patches of `network-status`.
    pub network_status_patches: Family<ByOutcome, Counter>,
    /// Node: pods whose `network-status` is not right yet; whoever patches sets it.
    pub network_status_pending: Gauge,
    /// Node: from a container being attached to its pod's `network-status` saying so, in seconds.
    pub network_status_latency: Histogram,
    /// Node: from a change of networks or pods being seen to the node directory having it, in seconds.
    pub sync_latency: Histogram,
    /// Node: writes of the node's report.
    pub reports: Family<ByOutcome, Counter>,
    attachments: Family<ByDelegateAndOutcome, Counter>,
    attachment_add: Histograms<ByDelegate>,
    delegate_types: Arc<DelegateTypes>,

    /// Controller: 1 while this replica leads.
    pub leader: Gauge,
    /// Controller: reports of nodes.
    pub node_reports: Gauge,
    /// Controller: reports removed because their node is gone.
    pub node_report_removals: Family<ByOutcome, Counter>,
    /// Controller: startup taints taken off Nodes.
    pub startup_taint_removals: Family<ByOutcome, Counter>,
    /// Controller: writes of a network's status.
    pub status_writes: Family<ByOutcome, Counter>,
    /// Controller: when the webhook's certificate ends, in seconds since 1970; 0 while there is none.
    pub webhook_certificate_expiry: Gauge<f64, AtomicU64>,
    webhook_requests: Histograms<ByRequest>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            events: Family::default(),
            watch_errors: Counter::default(),
            undecodable_objects: Counter::default(),
            api_errors: Family::default(),
            network_status_patches: Family::default(),
            network_status_pending: Gauge::default(),
            network_status_latency: to_minutes(),
            sync_latency: to_minutes(),
            reports: Family::default(),
            attachments: Family::default(),
            attachment_add: Family::new_with_constructor(to_minutes),
            delegate_types: Arc::default(),
            leader: Gauge::default(),
            node_reports: Gauge::default(),
            node_report_removals: Family::default(),
            startup_taint_removals: Family::default(),
            status_writes: Family::default(),
            webhook_certificate_expiry: Gauge::default(),
            webhook_requests: Family::new_with_constructor(to_seconds),
        }
    }
}

/// 5 ms to 82 s.
fn to_minutes() -> Histogram {
    Histogram::new(exponential_buckets(0.005, 2.0, 15))
}

/// 0.25 ms to 8 s; the API server waits for a webhook at most 10 s.
fn to_seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.000_25, 2.0, 16))
}

impl Metrics {
    /// Metrics, and the registry that prints those that both roles have.
    pub fn new() -> (Arc<Self>, Registry) {
        let metrics = Self::default();
        let mut registry = Registry::default();
        let ours = registry.sub_registry_with_prefix(PREFIX);
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        ours.register("build", "The version of braid", version);
        ours.register("events", "Events written to the API server", metrics.events.clone());
        let watch_errors = metrics.watch_errors.clone();
        ours.register("watch_errors", "Lists and watches that ended with an error", watch_errors);
        let undecodable = metrics.undecodable_objects.clone();
        ours.register("undecodable_objects", "Objects of the API server that could not be read", undecodable);
        let help =
            "Requests to the API server that failed, by HTTP status, or connection, auth, undecodable, other";
        ours.register("api_errors", help, metrics.api_errors.clone());
        registry.register_collector(Box::new(Process::started(SystemTime::now())));
        (Arc::new(metrics), registry)
    }

    /// Lets `registry` print what only the node role has.
    pub fn register_node(&self, registry: &mut Registry, known: Arc<Known>) {
        let ours = registry.sub_registry_with_prefix(PREFIX);
        let patches = self.network_status_patches.clone();
        ours.register("network_status_patches", "Patches of a pod's network-status", patches);
        let pending = self.network_status_pending.clone();
        ours.register("network_status_pending", "Pods whose network-status is not right yet", pending);
        let help = "From the beginning of a pod's ADD to its network-status saying so";
        let latency = self.network_status_latency.clone();
        ours.register_with_unit("network_status_latency", help, Unit::Seconds, latency);
        let help = "From a change of networks or pods being seen to the node directory having it";
        ours.register_with_unit("sync_latency", help, Unit::Seconds, self.sync_latency.clone());
        ours.register("reports", "Writes of the node's report", self.reports.clone());
        let help = "Attachments that meta-cni has tried; delegate types after the first 50 are other";
        ours.register("attachments", help, self.attachments.clone());
        let help = "How long the ADD of an attachment took";
        ours.register_with_unit("attachment_add_duration", help, Unit::Seconds, self.attachment_add.clone());
        ours.register_collector(Box::new(OfKnown(known)));
    }

    /// Lets `registry` print what only the controller role has.
    pub fn register_controller(&self, registry: &mut Registry) {
        let ours = registry.sub_registry_with_prefix(PREFIX);
        ours.register("leader", "1 while this replica leads, else 0", self.leader.clone());
        ours.register("node_reports", "Reports of nodes", self.node_reports.clone());
        let removals = self.node_report_removals.clone();
        ours.register("node_report_removals", "Reports removed because their node is gone", removals);
        let removals = self.startup_taint_removals.clone();
        ours.register("startup_taint_removals", "Startup taints taken off Nodes", removals);
        ours.register("status_writes", "Writes of a network's status", self.status_writes.clone());
        let help = "How long an admission request took";
        let requests = self.webhook_requests.clone();
        ours.register_with_unit("webhook_request_duration", help, Unit::Seconds, requests);
        let help = "When the webhook's certificate ends; 0 while there is none";
        let expiry = self.webhook_certificate_expiry.clone();
        ours.register_with_unit("webhook_certificate_expiry_timestamp", help, Unit::Seconds, expiry);
    }

    /// A request to the API server failed.
    pub fn api_error(&self, error: &kube::Error) {
        self.api_errors.get_or_create(&ByCode::of(error)).inc();
    }

    /// An attachment was made: `delegate_type` is the type of its first plugin, `duration` that of its ADD.
    pub fn attachment_add(&self, delegate_type: &str, duration: Duration) {
        let by_delegate = ByDelegate { delegate_type: self.delegate_types.bounded(delegate_type) };
        self.attachment_add.get_or_create(&by_delegate).observe(duration.as_secs_f64());
        self.attachments.get_or_create(&by_delegate.ended(Outcome::ok)).inc();
    }

    /// An attachment was tried in vain.
    pub fn attachment_failed(&self, delegate_type: &str) {
        let by_delegate = ByDelegate { delegate_type: self.delegate_types.bounded(delegate_type) };
        self.attachments.get_or_create(&by_delegate.ended(Outcome::failed)).inc();
    }

    /// An admission request was answered.
    pub fn webhook_request(&self, kind: RequestKind, verdict: RequestVerdict, duration: Duration) {
        let request = ByRequest { kind, verdict };
        self.webhook_requests.get_or_create(&request).observe(duration.as_secs_f64());
    }
}
