//! Which pods' `network-status` has to be patched, and with what: pure, over what is known and what was tried.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Duration;

use store::record::{Phase, RecordKey};
use tokio::time::Instant;

use crate::known::{Pod, Record, State, text_hash};

/// A patch holds, or was moot, and the watch of pods does not show it: after so long it is tried again.
const UNSEEN: Duration = Duration::from_secs(60);
/// What the API server has refused is offered again so seldom.
const REFUSED: Duration = Duration::from_secs(600);
/// The API server is obeyed when it asks to come back later, up to this.
const LONGEST_OBEYED: Duration = Duration::from_secs(300);
/// Retries begin with about this …
const FIRST_RETRY: Duration = Duration::from_secs(2);
/// … double, and do not become rarer than this.
const LAST_RETRY: Duration = Duration::from_secs(60);
/// A record without a pod's uid is not the pod's if it is older than the pod by more than two clocks may differ.
const SKEW_MS: u64 = 30_000;

/// A pod's namespace and name.
pub(super) type PodName = (String, String);

/// One patch to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Patch {
    /// The pod.
    pub(super) pod: PodName,
    /// Its own uid, for a mirror pod too: another pod of the name is not to be touched.
    pub(super) uid: String,
    /// The annotation's text.
    pub(super) text: String,
    /// The record that it is from.
    pub(super) record: RecordKey,
    /// When ADD began, in milliseconds since 1970.
    pub(super) created_ms: u64,
    /// Whether people have been told already of what it says.
    pub(super) announced: bool,
    /// Whether the API server has refused the same before.
    pub(super) refused: bool,
}

/// How a patch ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ended {
    /// The API server has it.
    Held,
    /// The pod is gone, or another one.
    Moot,
    /// The API server will never take it as it is.
    Refused,
    /// It may go better later; not before so long, where the API server says so.
    Later(Option<Duration>),
}

/// What was tried for a pod.
#[derive(Debug)]
struct Attempt {
    uid: String,
    hash: u64,
    /// What the annotation was when it was tried.
    before: Option<u64>,
    standing: Standing,
    /// Failures one after the other.
    failures: u32,
    announced: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// The request is under way.
    UnderWay,
    /// Done, as far as this process knows; the watch has still to show it.
    Held { until: Instant },
    /// The watch has to show another pod, or none.
    Moot { until: Instant },
    /// Refused; another text may be taken at once.
    Refused { until: Instant },
    /// To be tried again.
    Later { at: Instant },
}

/// What is to be done now.
#[derive(Debug, Default)]
pub(super) struct Decision {
    /// Patches to start, at most as many as there is room for.
    pub(super) start: Vec<Patch>,
    /// When to look again, even if nothing has changed by then.
    pub(super) next: Option<Instant>,
    /// Pods whose annotation is not right yet.
    pub(super) pending: usize,
}

/// What was tried, for each pod, until the watch of pods shows that it holds.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    all: BTreeMap<PodName, Attempt>,
}

impl Attempts {
    /// Decides, and notes what it starts as under way.
    pub(super) fn decide(&mut self, state: &State, room: usize, now: Instant) -> Decision {
        let mut decision = Decision::default();
        if !state.records.complete {
            return decision;
        }
        let owed = owed(state);
        decision.pending = owed.len();
        // What holds, or is nobody's any more, is forgotten.
        let open = |attempt: &Attempt| attempt.standing == Standing::UnderWay;
        self.all.retain(|pod, attempt| open(attempt) || owed.contains_key(pod));
        // Those that have never failed first: a pod that is refused is not in the way of others.
        let mut ready: Vec<_> = Vec::new();
        for (pod, owed) in &owed {
            match self.all.get(pod).map_or(Due::Now, |attempt| attempt.due(owed, now)) {
                Due::Now => ready.push((self.all.get(pod).map_or(0, |it| it.failures), pod)),
                Due::At(at) => decision.next = Some(decision.next.map_or(at, |next| next.min(at))),
                Due::AfterNews => {}
            }
        }
        ready.sort_unstable();
        decision.start = ready.into_iter().take(room).map(|(_, pod)| self.begin(pod, &owed[pod])).collect();
        decision
    }

    fn begin(&mut self, pod: &PodName, owed: &Owed<'_>) -> Patch {
        let attempt = Attempt {
            uid: owed.pod.uid.clone(),
            hash: owed.hash,
            before: owed.pod.network_status,
            standing: Standing::UnderWay,
            failures: 0,
            announced: false,
        };
        let earlier = self.all.get(pod).filter(|earlier| earlier.uid == attempt.uid);
        let same = earlier.filter(|earlier| earlier.hash == attempt.hash);
        let failures = earlier.map_or(0, |earlier| earlier.failures);
        let announced = same.is_some_and(|earlier| earlier.announced);
        let refused = same.is_some_and(|earlier| matches!(earlier.standing, Standing::Refused { .. }));
        self.all.insert(pod.clone(), Attempt { failures, announced, ..attempt });
        Patch {
            pod: pod.clone(),
            uid: owed.pod.uid.clone(),
            text: owed.text.to_owned(),
            record: owed.key.clone(),
            created_ms: owed.created_ms,
            announced,
            refused,
        }
    }

    /// Notes how a patch ended; `jitter` is from 0 to 1.
    pub(super) fn end(&mut self, patch: &Patch, ended: &Ended, jitter: f64, now: Instant) {
        let Some(attempt) = self.all.get_mut(&patch.pod) else { return };
        attempt.failures = match ended {
            Ended::Later(_) => attempt.failures.saturating_add(1),
            _ => 0,
        };
        attempt.announced |= *ended == Ended::Held;
        attempt.standing = match ended {
            Ended::Held => Standing::Held { until: now + UNSEEN },
            Ended::Moot => Standing::Moot { until: now + UNSEEN },
            Ended::Refused => Standing::Refused { until: now + REFUSED },
            Ended::Later(asked) => {
                let asked = asked.unwrap_or_default().min(LONGEST_OBEYED);
                Standing::Later { at: now + asked.max(pause(attempt.failures, jitter)) }
            }
        };
    }
}

/// How long to wait after so many failures: from 1 to 2 seconds, 2 to 4, … 30 to 60; `jitter` is from 0 to 1.
pub(super) fn pause(failures: u32, jitter: f64) -> Duration {
    let longest = FIRST_RETRY.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LAST_RETRY);
    longest.mul_f64(f64::midpoint(1.0, jitter.clamp(0.0, 1.0)))
}

/// When an attempt is due.
enum Due {
    Now,
    At(Instant),
    /// Something else wakes us: the end of the request.
    AfterNews,
}

impl Attempt {
    fn due(&self, owed: &Owed<'_>, now: Instant) -> Due {
        let at = |at: Instant| if at <= now { Due::Now } else { Due::At(at) };
        let same_pod = self.uid == owed.pod.uid;
        let same = same_pod && self.hash == owed.hash;
        match self.standing {
            Standing::UnderWay => Due::AfterNews,
            Standing::Held { until } if same && owed.pod.network_status == self.before => at(until),
            Standing::Moot { until } if same_pod => at(until),
            Standing::Refused { until } if same => at(until),
            Standing::Later { at: then } if same_pod => at(then),
            _ => Due::Now,
        }
    }
}

/// What a pod's annotation must be and is not.
#[derive(Debug)]
struct Owed<'a> {
    pod: &'a Pod,
    key: &'a RecordKey,
    created_ms: u64,
    text: &'a str,
    hash: u64,
}

/// Pods whose annotation is not what their newest attached record says. Pods without such a record keep theirs.
fn owed(state: &State) -> BTreeMap<PodName, Owed<'_>> {
    let mut newest: BTreeMap<(&str, &str), (&RecordKey, &Record, &Pod)> = BTreeMap::new();
    for (key, record) in &state.records.all {
        let Some((name, pod)) = pod_of(state, record) else { continue };
        match newest.entry((&name.0, &name.1)) {
            Entry::Vacant(place) => drop(place.insert((key, record, pod))),
            Entry::Occupied(mut place) => {
                if (record.created_ms, key) > (place.get().1.created_ms, place.get().0) {
                    place.insert((key, record, pod));
                }
            }
        }
    }
    let mut owed = BTreeMap::new();
    for ((namespace, name), (key, record, pod)) in newest {
        let Some(text) = &record.network_status else { continue };
        let hash = text_hash(text);
        if pod.network_status != Some(hash) {
            owed.insert(
                (namespace.to_owned(), name.to_owned()),
                Owed { pod, key, created_ms: record.created_ms, text, hash },
            );
        }
    }
    owed
}

/// The pod that an attached record is of, if it is one of this node's pods.
fn pod_of<'a>(state: &'a State, record: &Record) -> Option<(&'a PodName, &'a Pod)> {
    if record.phase != Phase::Attached || record.network_status.is_none() {
        return None;
    }
    let identity = record.pod.as_ref()?;
    let name = (identity.namespace.clone(), identity.name.clone());
    let (name, pod) = state.pods.all.get_key_value(&name)?;
    let is = match &identity.uid {
        Some(uid) => pod.is(uid),
        None => pod.created_ms.is_none_or(|created| record.created_ms.saturating_add(SKEW_MS) >= created),
    };
    is.then_some((name, pod))
}

#[cfg(test)]
mod tests;
