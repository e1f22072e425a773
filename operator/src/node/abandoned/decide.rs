//! Which records are of pods that are gone for good: pure, over what is known.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use store::record::{Phase, PodIdentity, RecordKey};
use tokio::time::Instant;

use crate::known::{Record, State};

/// A pod has to be missing for so long.
pub(super) const GRACE: Duration = Duration::from_secs(60);
/// What somebody else was at, or the disk did not take, is tried again after so long.
pub(super) const AGAIN: Duration = Duration::from_secs(10);

/// A record to mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) key: RecordKey,
    /// The pod that is gone; its uid is known.
    pub(super) pod: PodIdentity,
    /// How long it has been seen missing.
    pub(super) missing_for: Duration,
}

#[derive(Debug)]
struct Seen {
    since: Instant,
    due: Instant,
}

/// Records whose pod is missing, and since when.
#[derive(Debug, Default)]
pub(super) struct Missing {
    all: BTreeMap<RecordKey, Seen>,
}

impl Missing {
    /// Looks at what is known: which records are to be marked now. While not all pods and records are known, nothing counts as missing, and the
    /// time begins anew after that.
    pub(super) fn look(&mut self, state: &State, now: Instant) -> Vec<Due> {
        if !(state.pods.complete && state.records.complete) {
            self.all.clear();
            return Vec::new();
        }
        let pods = state.pods.all.values();
        let uids: BTreeSet<&str> =
            pods.flat_map(|pod| [Some(pod.uid.as_str()), pod.mirrors.as_deref()]).flatten().collect();
        let missing: BTreeMap<_, _> = state
            .records
            .all
            .iter()
            .filter_map(|(key, record)| Some((key, owner(record)?)))
            .filter(|(_, pod)| pod.uid.as_deref().is_some_and(|uid| !uids.contains(uid)))
            .collect();
        self.all.retain(|key, _| missing.contains_key(key));
        let mut due = Vec::new();
        for (key, pod) in missing {
            let first = || Seen { since: now, due: now + GRACE };
            let seen = self.all.entry(key.clone()).or_insert_with(first);
            if seen.due <= now {
                let missing_for = now.duration_since(seen.since);
                due.push(Due { key: key.clone(), pod: pod.clone(), missing_for });
            }
        }
        due
    }

    /// Somebody was at it, or it failed: later.
    pub(super) fn put_off(&mut self, key: &RecordKey, now: Instant) {
        self.due_at(key, now + AGAIN);
    }

    /// It is marked, or needs no mark; what is known will show it.
    pub(super) fn settle(&mut self, key: &RecordKey, now: Instant) {
        self.due_at(key, now + GRACE);
    }

    fn due_at(&mut self, key: &RecordKey, due: Instant) {
        if let Some(seen) = self.all.get_mut(key) {
            seen.due = due;
        }
    }

    /// When to look again, even if nothing has changed by then.
    pub(super) fn next(&self) -> Option<Instant> {
        self.all.values().map(|seen| seen.due).min()
    }
}

/// The pod of a record at rest, if it is known who that was.
fn owner(record: &Record) -> Option<&PodIdentity> {
    let rests = record.phase == Phase::Attached && record.abandoned.is_none();
    record.pod.as_ref().filter(|pod| rests && pod.uid.is_some())
}
