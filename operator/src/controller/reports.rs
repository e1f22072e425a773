//! The nodes' reports: summed up, adopted by their nodes, removed when those are gone.
//!
//! A report becomes its Node's property, so that the API server's garbage collection takes it with the Node. That
//! does not reach reports that were written after their Node had gone, or while no controller ran: those are
//! removed here, once both lists are complete and the Node has been missing for [`GRACE`], which a Node that is
//! made anew under its old name does not reach. Every write is guarded by the report's uid.

pub mod ownership;
pub mod said;
pub mod tallies;

use std::collections::{BTreeMap, HashSet};
use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use crds::NodeReport;
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Node;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::watcher as watch;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, info};

use super::known::State;
use crate::cluster::{Meaning, meaning};
use crate::known::Known;
use crate::metrics::{ByOutcome, Metrics, Outcome};
use crate::watching::{self, Subject};
use ownership::{Deed, Ledger, Owned};

/// Who the controller is to the API server's bookkeeping of fields.
pub const FIELD_MANAGER: &str = "braid-controller";

/// A Node has to be missing for so long before its report goes.
pub const GRACE: Duration = Duration::from_secs(30);

/// A report of a node with 1,000 networks has 40 KB: a page of these is 2 MB.
const PAGE: u32 = 50;
/// Writes under way at a time.
const WRITES: usize = 4;
/// The watches wait meanwhile.
const LONGEST_WRITES: Duration = Duration::from_secs(20);

const REPORTS: Subject = Subject {
    what: "nodes' reports",
    missing: "the definition of NodeReports is not installed: kubectl apply -f crds/",
};
pub(super) const NODES: Subject =
    Subject { what: "nodes", missing: "the API server does not know nodes; is it one?" };
const WATCH_REPORTS: &str = "watch the nodes' reports";
const WATCH_NODES: &str = "watch the nodes";
const WRITE: &str = "set the owner of a node's report, or remove it";

/// Keeps the reports in order for ever, and the sums of what they say in `known`.
pub async fn run(client: Client, known: &Known<State>, metrics: &Metrics) -> Infallible {
    let config = watcher::Config::default().page_size(PAGE);
    let reports: Api<DeserializeGuard<NodeReport>> = Api::all(client.clone());
    let listed = || watch(reports.clone(), config.clone());
    let mut reports = pin!(watching::events(listed, REPORTS, metrics, known.watch(WATCH_REPORTS)));
    let nodes: Api<PartialObjectMeta<Node>> = Api::all(client.clone());
    let listed = || watch(nodes.clone(), watcher::Config::default());
    let mut nodes = pin!(watching::events(listed, NODES, metrics, known.watch(WATCH_NODES)));
    let api: Api<NodeReport> = Api::all(client);
    let mut ledger = Ledger::default();
    let mut listed = HashSet::new();
    loop {
        let now = Instant::now();
        let due = ledger.due(now);
        tokio::select! {
            Some(event) = reports.next() => on_report(event, &mut listed, &mut ledger, known, metrics),
            Some(event) = nodes.next() => on_node(event, &mut ledger),
            () = sleep_until(due.unwrap_or(now)), if due.is_some() => {
                let deeds = ledger.deeds(Instant::now());
                match timeout(LONGEST_WRITES, act(&api, deeds, metrics)).await {
                    Ok(Ok(())) => known.well(WRITE),
                    Ok(Err(error)) => known.trouble(WRITE, &error),
                    Err(elapsed) => known.trouble(WRITE, &elapsed),
                }
            }
        }
    }
}

/// Takes note of a report. A new list replaces what was known at its end, not before.
fn on_report(
    event: Event<DeserializeGuard<NodeReport>>,
    listed: &mut HashSet<String>,
    ledger: &mut Ledger,
    known: &Known<State>,
    metrics: &Metrics,
) {
    match event {
        Event::Init => listed.clear(),
        Event::InitApply(report) => {
            listed.insert(report.name_any());
            put(report, ledger, known, metrics);
        }
        Event::InitDone => {
            ledger.keep_reports(listed);
            let nodes = std::mem::take(listed);
            known.tell(|state| state.reports.complete(&nodes));
        }
        Event::Apply(report) => put(report, ledger, known, metrics),
        Event::Delete(report) => {
            let name = report.name_any();
            ledger.remove_report(&name);
            known.tell(|state| state.reports.remove(&name));
        }
    }
    metrics.node_reports.set(known.look().reports.tallies.nodes().try_into().unwrap_or(i64::MAX));
}

fn put(report: DeserializeGuard<NodeReport>, ledger: &mut Ledger, known: &Known<State>, metrics: &Metrics) {
    let name = report.name_any();
    ledger.put_report(
        &name,
        Owned { uid: report.uid().unwrap_or_default(), owners: report.owner_references().to_vec() },
    );
    match report.0 {
        Ok(report) => known.tell(|state| state.reports.put(&name, &report)),
        Err(invalid) => {
            metrics.undecodable_objects.inc();
            debug!(node = name, reason = %invalid, "a node's report cannot be read and does not count");
            known.tell(|state| state.reports.remove(&name));
        }
    }
}

fn on_node(event: Event<PartialObjectMeta<Node>>, ledger: &mut Ledger) {
    let now = Instant::now();
    match event {
        Event::Init => ledger.begin_nodes(),
        Event::InitApply(node) => ledger.list_node(&node.name_any(), node.uid().unwrap_or_default()),
        Event::InitDone => ledger.complete_nodes(now),
        Event::Apply(node) => ledger.put_node(&node.name_any(), node.uid().unwrap_or_default()),
        Event::Delete(node) => ledger.remove_node(&node.name_any(), now),
    }
}

/// Does what is to be done, and stops at the first error; what is left is found again.
async fn act(
    api: &Api<NodeReport>,
    deeds: BTreeMap<String, Deed>,
    metrics: &Metrics,
) -> Result<(), kube::Error> {
    let writes = deeds.iter().map(|(name, deed)| one(api, name, deed, metrics));
    stream::iter(writes).buffer_unordered(WRITES).try_collect::<()>().await
}

async fn one(api: &Api<NodeReport>, name: &str, deed: &Deed, metrics: &Metrics) -> Result<(), kube::Error> {
    let done = match deed {
        Deed::Adopt { uid, owners } => {
            let patch = json!({"metadata": {"uid": uid, "ownerReferences": owners}});
            let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..Default::default() };
            api.patch_metadata(name, &params, &Patch::Merge(patch)).await.map(drop)
        }
        Deed::Remove { uid } => {
            let only = Preconditions { uid: Some(uid.clone()), resource_version: None };
            api.delete(name, &DeleteParams::default().preconditions(only)).await.map(|_| {
                let outcome = Outcome::ok;
                metrics.node_report_removals.get_or_create(&ByOutcome { outcome }).inc();
                info!(node = name, "removed the report of a node that is gone");
            })
        }
    };
    match done {
        // It is gone, or another one by now: its watch says so.
        Err(error) if matches!(meaning(&error), Meaning::Gone | Meaning::Conflict) => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests;
