//! What a network's status should be. Pure.

use std::collections::BTreeMap;

use crds::NetworkAttachmentDefinitionStatus;
use crds::nad::{ACCEPTED, NodeCounts, RENDERED};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::controller::judgement::{Judgement, Neighbours, judge_one};
use crate::controller::known::{Content, Network};
use crate::controller::reports::tallies::Tally;
use crate::excerpt::cut;

/// What is found of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// Pods can use it.
    Valid {
        /// What its author may not have meant.
        warnings: Vec<String>,
    },
    /// Pods cannot use it.
    Invalid {
        /// One word: `Invalid`, `Undecodable`.
        reason: &'static str,
        /// What is wrong, for people.
        message: String,
    },
}

/// A condition without its history.
struct Verdict {
    kind: &'static str,
    status: &'static str,
    reason: &'static str,
    message: String,
}

/// A condition's message may be longer, but nobody reads it.
const LONGEST: usize = 4096;

/// Judges all networks, alone and beside each other.
pub fn findings(networks: &BTreeMap<String, Network>) -> BTreeMap<String, Finding> {
    let mut neighbours = Neighbours::default();
    // One at a time is open.
    for network in networks.values() {
        if let Content::Rendered(folded) = &network.content
            && let Ok(rendered) = folded.open()
        {
            neighbours.insert(&rendered);
        }
    }
    let found = |network: &Network| match &network.content {
        Content::Undecodable(reason) => invalid("Undecodable", reason.clone()),
        Content::Unnamable(reason) => invalid("Invalid", reason.clone()),
        Content::Rendered(folded) => match folded.open().map(|rendered| judge_one(&rendered, &neighbours)) {
            Ok(Judgement { errors, warnings }) if errors.is_empty() => Finding::Valid { warnings },
            Ok(Judgement { errors, .. }) => invalid("Invalid", errors.join("; ")),
            Err(error) => invalid("Undecodable", error.to_string()),
        },
    };
    networks.iter().map(|(key, network)| (key.clone(), found(network))).collect()
}

fn invalid(reason: &'static str, message: String) -> Finding {
    Finding::Invalid { reason, message }
}

/// The status that a network should show. Without a tally what it shows of the nodes stays as it is. A condition
/// whose status stays keeps its time; conditions of others stay.
pub fn status(
    network: &Network,
    finding: &Finding,
    tally: Option<&Tally>,
    now: Time,
) -> NetworkAttachmentDefinitionStatus {
    let mut status = network.shown.clone().unwrap_or_default();
    status.observed_generation = network.generation;
    let mut verdicts = vec![accepted(finding)];
    if let Some(tally) = tally {
        status.nodes = NodeCounts { ready: tally.ready, refused: tally.refused, total: tally.total };
        status.pods = tally.pods;
        verdicts.push(rendered(tally));
    }
    for verdict in verdicts {
        set(&mut status.conditions, verdict, network.generation, &now);
    }
    status
}

fn accepted(finding: &Finding) -> Verdict {
    let verdict = |status, reason, message| Verdict { kind: ACCEPTED, status, reason, message };
    match finding {
        Finding::Valid { warnings } if warnings.is_empty() => {
            verdict("True", "Valid", "pods can use the network".to_owned())
        }
        Finding::Valid { warnings } => {
            verdict("True", "ValidWithWarnings", cut(&warnings.join("; "), LONGEST, "…"))
        }
        Finding::Invalid { reason, message } => verdict("False", reason, cut(message, LONGEST, "…")),
    }
}

fn rendered(tally: &Tally) -> Verdict {
    let Tally { ready, refused, total, refusal, .. } = tally;
    let of = format!("{total} {}", if *total == 1 { "node" } else { "nodes" });
    let (status, reason, message) = match (*refused, *ready, *total) {
        (_, _, 0) => ("Unknown", "NoReports", "no node reports".to_owned()),
        (1.., ..) => {
            let why = refusal.as_deref().unwrap_or_default();
            ("False", "Refused", cut(&format!("refused by {refused} of {of}: {why}"), LONGEST, "…"))
        }
        (_, ready, total) if ready >= total => ("True", "OnAllNodes", format!("on {ready} of {of}")),
        (_, ready, _) => ("False", "Pending", format!("on {ready} of {of}")),
    };
    Verdict { kind: RENDERED, status, reason, message }
}

fn set(conditions: &mut Vec<Condition>, verdict: Verdict, generation: Option<i64>, now: &Time) {
    let place = conditions.iter_mut().find(|condition| condition.type_ == verdict.kind);
    let since = place.as_ref().filter(|condition| condition.status == verdict.status);
    let condition = Condition {
        type_: verdict.kind.to_owned(),
        status: verdict.status.to_owned(),
        reason: verdict.reason.to_owned(),
        message: verdict.message,
        observed_generation: generation,
        last_transition_time: since.map_or_else(|| now.clone(), |same| same.last_transition_time.clone()),
    };
    match place {
        Some(place) => *place = condition,
        None => conditions.push(condition),
    }
}

/// Whether a status says of the network itself what is found now: only the nodes' numbers may be out of date.
pub fn tells(
    shown: Option<&NetworkAttachmentDefinitionStatus>,
    desired: &NetworkAttachmentDefinitionStatus,
) -> bool {
    let accepted = |status: &NetworkAttachmentDefinitionStatus| {
        status.conditions.iter().find(|condition| condition.type_ == ACCEPTED).cloned()
    };
    shown.is_some_and(|shown| {
        shown.observed_generation == desired.observed_generation && accepted(shown) == accepted(desired)
    })
}

#[cfg(test)]
mod tests;
