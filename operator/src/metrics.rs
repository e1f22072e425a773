//! What is counted and measured, in OpenMetrics' names and units. No label bears the name of an object: their
//! number would grow with the cluster.

use std::sync::Arc;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// How something ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the names are those of the label's values")]
pub enum Outcome {
    /// It is done.
    ok,
    /// It was not needed any more.
    moot,
    /// It failed and will be tried again.
    retried,
    /// It failed for good.
    failed,
}

/// The label of what can end one way or another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ByOutcome {
    /// How it ended.
    pub outcome: Outcome,
}

/// Everything that is counted while it happens; what is known anyway is read when somebody asks.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    /// Patches of `network-status`.
    pub network_status_patches: Family<ByOutcome, Counter>,
    /// Events written.
    pub events: Family<ByOutcome, Counter>,
    /// Writes of the node's report.
    pub reports: Family<ByOutcome, Counter>,
    /// Lists and watches that ended with an error.
    pub watch_errors: Counter,
    /// Objects of the API server that could not be read.
    pub undecodable_objects: Counter,
}

impl Metrics {
    /// Metrics, and the registry that prints them.
    pub fn new() -> (Arc<Self>, Registry) {
        let metrics = Self::default();
        let mut registry = Registry::with_prefix("braid");
        registry.register(
            "network_status_patches",
            "Patches of a pod's network-status",
            metrics.network_status_patches.clone(),
        );
        registry.register("events", "Events written to the API server", metrics.events.clone());
        registry.register("reports", "Writes of the node's report", metrics.reports.clone());
        registry.register(
            "watch_errors",
            "Lists and watches that ended with an error",
            metrics.watch_errors.clone(),
        );
        registry.register(
            "undecodable_objects",
            "Objects of the API server that could not be read",
            metrics.undecodable_objects.clone(),
        );
        (Arc::new(metrics), registry)
    }
}
