//! What the report says. Pure.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use crds::node_report::{
    AttachmentCounts, DetachFailure, PrimaryReport, READY, RefusedNetwork, ReportContent,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use store::record::Phase;

use crate::excerpt::cut_to_characters;
use crate::known::{Fate, Networks, Primary, Records, State};

/// A message that is longer is cut off: the report goes over the network to all that watch it.
const LONGEST_MESSAGE: usize = 1000;

/// The report of what is known. `unready` says why pods cannot be attached; `last` is the report before, for
/// the times of what has not changed.
pub fn content(state: &State, unready: &[String], last: Option<&ReportContent>) -> ReportContent {
    ReportContent {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        boot_id: state.boot_id.clone(),
        last_complete_sync: state.networks.complete.and_then(time),
        conditions: vec![ready(unready, last)],
        primary: primary(&state.primary),
        networks: usable(&state.networks),
        refused: refused(&state.networks),
        attachments: attachments(&state.records),
        detach_failures: detach_failures(&state.records),
    }
}

fn time(at: SystemTime) -> Option<Time> {
    // Whole seconds, as the API server keeps them.
    let seconds = at.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
    Timestamp::from_second(i64::try_from(seconds).ok()?).ok().map(Time)
}

fn ready(unready: &[String], last: Option<&ReportContent>) -> Condition {
    let before = last.and_then(|last| last.conditions.iter().find(|condition| condition.type_ == READY));
    let (status, reason, message) = match unready {
        [] => ("True", "Ready", "pods can be attached".to_owned()),
        reasons => ("False", "NotReady", cut_to_characters(reasons.join("; "), LONGEST_MESSAGE)),
    };
    let since =
        before.filter(|before| before.status == status).map(|before| before.last_transition_time.clone());
    Condition {
        type_: READY.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message,
        observed_generation: None,
        last_transition_time: since
            .or_else(|| time(SystemTime::now()))
            .unwrap_or(Time(Timestamp::UNIX_EPOCH)),
    }
}

fn primary(primary: &Primary) -> Option<PrimaryReport> {
    let Primary::Found { name, file, plugins, .. } = primary else { return None };
    Some(PrimaryReport { name: name.clone(), file: file.clone(), plugins: plugins.clone() })
}

fn usable(networks: &Networks) -> BTreeMap<String, i64> {
    let usable = networks.all.iter().filter(|(_, network)| network.fate == Fate::Usable);
    usable.map(|(name, network)| (name.to_string(), network.generation.unwrap_or_default())).collect()
}

fn refused(networks: &Networks) -> Vec<RefusedNetwork> {
    let refused = networks.all.iter().filter_map(|(name, network)| {
        let (reason, message) = match &network.fate {
            Fate::Usable => return None,
            Fate::Invalid(message) => ("Invalid", message),
            Fate::Undecodable(message) => ("Undecodable", message),
        };
        Some(RefusedNetwork {
            network: name.to_string(),
            generation: network.generation,
            reason: reason.to_owned(),
            message: cut_to_characters(message.clone(), LONGEST_MESSAGE),
        })
    });
    refused.collect()
}

/// The report has room for so many; metrics count them all.
const MOST_FAILURES: usize = 10;
const LONGEST_FAILURE: usize = 300;

fn detach_failures(records: &Records) -> Vec<DetachFailure> {
    let failing =
        records.all.iter().filter_map(|(key, record)| Some((record.failure.as_ref()?, key, record)));
    let mut failing: Vec<_> = failing.collect();
    failing.sort_by_key(|(failure, key, _)| (failure.since_ms, *key));
    let told = failing.into_iter().take(MOST_FAILURES).map(|(failure, key, record)| DetachFailure {
        record: key.file_name(),
        pod: record.pod.as_ref().map(|pod| format!("{}/{}", pod.namespace, pod.name)),
        since: time(SystemTime::UNIX_EPOCH + Duration::from_millis(failure.since_ms)),
        attempts: failure.attempts,
        message: cut_to_characters(failure.message.clone(), LONGEST_FAILURE),
    });
    told.collect()
}

fn attachments(records: &Records) -> AttachmentCounts {
    let mut counts = AttachmentCounts::default();
    for record in records.all.values() {
        match (record.phase, &record.abandoned) {
            (_, Some(_)) => counts.abandoned += 1,
            (Phase::Deleting, None) => counts.unfinished += 1,
            (Phase::Attached, None) if record.pod.is_some() => {
                counts.pods += 1;
                let mut named: Vec<&str> =
                    record.attachments.iter().map(|attachment| attachment.network.as_str()).collect();
                named.sort_unstable();
                // A pod that has a network twice is one pod; the primary's name is no `namespace/name`.
                named.dedup();
                for network in named.into_iter().filter(|name| name.contains('/')) {
                    *counts.networks.entry(network.to_owned()).or_default() += 1;
                }
            }
            (Phase::Intended | Phase::Attached, None) => {}
        }
    }
    counts
}
