//! What pods' events tell: what was added, what went away, what could not be undone. Pure.

use std::collections::BTreeMap;

use store::record::{Phase, PodIdentity, RecordKey};

use super::decide::{Patch, PodName};
use crate::events::{About, Event};
use crate::known::{Record, State};

/// The event that says what a pod got; none for a pod with its primary network alone.
pub(super) fn added(patch: &Patch, record: &Record) -> Option<Event> {
    let about = About::Pod { name: patch.pod.clone(), uid: patch.uid.clone() };
    Some(Event::normal(about, "AddedInterface", "Attach", format!("Added {}", interfaces(record)?)))
}

/// `eth0 [10.244.0.5/24] from primary, net1 [] from default/storage`; `None` without secondary networks.
fn interfaces(record: &Record) -> Option<String> {
    if record.attachments.len() < 2 {
        return None;
    }
    let all = record.attachments.iter().map(|attachment| {
        format!("{} [{}] from {}", attachment.interface, attachment.addresses.join(", "), attachment.network)
    });
    Some(all.collect::<Vec<_>>().join(", "))
}

/// What has been seen of a container.
#[derive(Debug)]
struct Seen {
    pod: PodIdentity,
    /// What it had, while it was attached.
    interfaces: Option<String>,
    /// The failure of its DEL that people were told of.
    failure: Option<String>,
}

/// What was seen of each container of a pod. A restart begins anew: what went away meanwhile is not told, nor
/// is a failure that the former process may have told of.
#[derive(Debug, Default)]
pub(super) struct History {
    seen: BTreeMap<RecordKey, Seen>,
    begun: bool,
}

impl History {
    /// What has become of records since the last time, as events about pods that still exist.
    pub(super) fn news(&mut self, state: &State) -> Vec<Event> {
        if !state.records.complete {
            return Vec::new();
        }
        let mut events = Vec::new();
        self.seen.retain(|key, seen| {
            // One that cannot be read may be attached still.
            let stays = state.records.all.contains_key(key) || state.records.unreadable.contains_key(key);
            if !stays {
                events.extend(seen.interfaces.take().and_then(|had| removed(state, &seen.pod, &had)));
            }
            stays
        });
        for (key, record) in &state.records.all {
            let Some(pod) = &record.pod else { continue };
            let first = || Seen { pod: pod.clone(), interfaces: None, failure: None };
            let seen = self.seen.entry(key.clone()).or_insert_with(first);
            if record.phase == Phase::Attached && seen.interfaces.is_none() {
                seen.interfaces = interfaces(record);
            }
            let failure = record.failure.as_ref().map(|failure| &failure.message);
            if seen.failure.as_ref() != failure {
                let told = failure.filter(|_| self.begun);
                events.extend(told.and_then(|message| failed(state, pod, key, message)));
                seen.failure = failure.cloned();
            }
        }
        self.begun = true;
        events
    }
}

fn removed(state: &State, pod: &PodIdentity, had: &str) -> Option<Event> {
    let about = existing(state, pod)?;
    Some(Event::normal(about, "RemovedInterface", "Detach", format!("Removed {had}")))
}

fn failed(state: &State, pod: &PodIdentity, key: &RecordKey, message: &str) -> Option<Event> {
    let id = &key.container_id;
    let note = format!(
        "container {id}: {message}; it is tried again. if it can never succeed: `meta-cni give-up {id}` on this node"
    );
    Some(Event::warning(existing(state, pod)?, "DetachFailed", "Detach", note))
}

/// The pod of a container, if it still exists; without a uid from the runtime, the one of its name.
fn existing(state: &State, identity: &PodIdentity) -> Option<About> {
    let name: PodName = (identity.namespace.clone(), identity.name.clone());
    let pod = state.pods.all.get(&name)?;
    let is = identity.uid.as_deref().is_none_or(|uid| pod.is(uid));
    is.then(|| About::Pod { name, uid: pod.uid.clone() })
}
