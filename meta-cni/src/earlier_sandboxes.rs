//! The limit on earlier sandboxes of a pod that are still to be undone.
//!
//! A pod whose networks can be made but not undone leaves a record with each sandbox that the kubelet tries, and with
//! it whatever its plugins hold. The limit ends that; it must not outlast the cause. So it counts only records of
//! networks that the pod is about to get again, in the same form, and what is left is tried once more before the pod is
//! refused. A record that no longer holds its own pod holds no other sandbox of it either: what it owes stays visible.

use std::time::{Duration, Instant};

use cni::exec::ProcessExec;
use cni::{CniError, Code, ContainerId, NetworkList};
use store::record::{self, Phase, PodIdentity, Record, RecordKey};

use crate::call::Call;
use crate::plan::Plan;
use crate::{undo, unfinished};

/// How many sandboxes of one pod may be left to undo before it gets another one.
const MOST_LEFT: usize = 4;

/// How long the last try may take in all.
const BOUND: Duration = Duration::from_secs(5);

/// Fails with code 11 while too many sandboxes of the pod are still to be undone.
pub(crate) fn are_few(
    call: &Call,
    own: &ContainerId,
    pod: &PodIdentity,
    plan: &Plan,
) -> Result<(), CniError> {
    let left = left(call, own, pod, plan);
    if left.len() < MOST_LEFT {
        return Ok(());
    }
    let exec = ProcessExec { until: Some(Instant::now() + BOUND), ..call.exec.clone() };
    for (key, _) in &left {
        // What fails is recorded, and read again below.
        let _ = unfinished::take_up_one(call, key, &exec, true);
    }
    let left = self::left(call, own, pod, plan);
    if left.len() < MOST_LEFT {
        return Ok(());
    }
    Err(CniError::new(Code::TRY_AGAIN_LATER, text(&left)))
}

/// Records of the pod's other sandboxes that a DEL could not undo, and that hold what the plan would make again.
fn left(call: &Call, own: &ContainerId, pod: &PodIdentity, plan: &Plan) -> Vec<(RecordKey, Record)> {
    let dir = &call.settings.directory;
    // What cannot be seen is told after the answer.
    let keys = record::unfinished(dir).unwrap_or_default();
    if keys.len() < MOST_LEFT {
        return Vec::new();
    }
    let others = keys.into_iter().filter(|key| key.container_id != *own);
    // One that cannot be read may be anybody's, and is told elsewhere.
    let records = others.filter_map(|key| Some((Record::read(dir, &key).ok()??, key)));
    let is_held = |record: &Record| counts(record, pod, plan) && !undo::is_let_go(call, record);
    records.filter(|(record, _)| is_held(record)).map(|(record, key)| (key, record)).collect()
}

/// Whether a record is one that a new sandbox would add to. An ADD that runs just now, or was killed, has not been undone in vain; a network that is another one now may be
/// right again.
fn counts(record: &Record, pod: &PodIdentity, plan: &Plan) -> bool {
    let again = || {
        let planned = |list: &NetworkList| plan.attachments.iter().any(|attachment| attachment.list == *list);
        record.attachments.iter().any(|left| planned(&left.list))
    };
    record.phase == Phase::Deleting && record.pod.as_ref() == Some(pod) && again()
}

fn text(left: &[(RecordKey, Record)]) -> String {
    let failures = left.iter().filter_map(|(_, record)| record.failure.as_ref());
    let why = failures.max_by_key(|failure| failure.last_ms).map_or("", |failure| failure.message.as_str());
    let containers: Vec<_> = left.iter().map(|(key, _)| key.container_id.as_str()).collect();
    format!(
        "{} earlier sandboxes of this pod are still to be undone, and what they hold would be made again: containers \
         {}; each run of meta-cni tries them again, and so did this one. mend what the last of them failed with, or give \
         each up with `meta-cni give-up <container>` on this node. the last failure: {why}",
        left.len(),
        containers.join(", "),
    )
}
