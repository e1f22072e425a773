use std::time::Duration;

use store::lock::Lock;
use store::record::{Phase, PodIdentity, Record};

use super::decide::{AGAIN, GRACE};
use super::*;
use crate::args::PodEvents;
use crate::events::{Receiver, channel};
use crate::known::{self, Pod, State};

fn identity(uid: Option<&str>) -> PodIdentity {
    PodIdentity { namespace: "default".to_owned(), name: "web".to_owned(), uid: uid.map(str::to_owned) }
}

fn key() -> RecordKey {
    RecordKey {
        container_id: cni::ContainerId::parse("c1").unwrap(),
        if_name: cni::IfName::parse("eth0").unwrap(),
    }
}

fn known_record(phase: Phase, pod: Option<PodIdentity>) -> known::Record {
    known::Record {
        phase,
        pod,
        created_ms: 1,
        attachments: Vec::new(),
        network_status: None,
        failure: None,
        abandoned: None,
    }
}

/// All is known: a container of uid `u1`, and the pod.
fn state(pod: Option<Pod>) -> State {
    let mut state = State::default();
    state.records.all.insert(key(), known_record(Phase::Attached, Some(identity(Some("u1")))));
    state.pods.all.extend(pod.map(|pod| (("default".to_owned(), "web".to_owned()), pod)));
    state.records.complete = true;
    state.pods.complete = true;
    state
}

fn pod(uid: &str, mirrors: Option<&str>) -> Pod {
    let mirrors = mirrors.map(str::to_owned);
    Pod { uid: uid.to_owned(), mirrors, network_status: None, created_ms: None }
}

fn due_after_grace(state: &State) -> usize {
    let (mut missing, now) = (Missing::default(), Instant::now());
    assert!(missing.look(state, now).is_empty(), "not at once");
    assert!(
        missing.look(state, now + GRACE - Duration::from_millis(1)).is_empty(),
        "not before the grace is over"
    );
    missing.look(state, now + GRACE).len()
}

#[test]
fn only_containers_at_rest_whose_pods_uid_nobody_has_are_given_up() {
    assert_eq!(due_after_grace(&state(None)), 1);
    assert_eq!(due_after_grace(&state(Some(pod("u2", None)))), 1, "another pod of the name");
    assert_eq!(due_after_grace(&state(Some(pod("u1", None)))), 0);
    assert_eq!(due_after_grace(&state(Some(pod("own", Some("u1"))))), 0, "a mirror");
    let edit = |change: &dyn Fn(&mut known::Record)| {
        let mut state = state(None);
        state.records.all.values_mut().for_each(change);
        state
    };
    let mut unknown_pods = state(None);
    unknown_pods.pods.complete = false;
    let mut unknown_records = state(None);
    unknown_records.records.complete = false;
    for (what, state) in [
        ("pods are not all known", unknown_pods),
        ("records are not all known", unknown_records),
        ("no pod", edit(&|record| record.pod = None)),
        ("no uid", edit(&|record| record.pod = Some(identity(None)))),
        ("DEL has begun", edit(&|record| record.phase = Phase::Deleting)),
        ("ADD has not ended", edit(&|record| record.phase = Phase::Intended)),
        ("given up already", edit(&|record| record.abandoned = Some("x".to_owned()))),
    ] {
        assert_eq!(due_after_grace(&state), 0, "{what}");
    }
}

#[test]
fn the_grace_begins_anew_when_the_pod_comes_back_or_pods_are_not_known() {
    let mut unknown = state(None);
    unknown.pods.complete = false;
    for between in [unknown, state(Some(pod("u1", None)))] {
        let (mut missing, now) = (Missing::default(), Instant::now());
        missing.look(&state(None), now);
        missing.look(&between, now + GRACE / 2);
        assert_eq!(missing.next(), None);
        assert!(missing.look(&state(None), now + GRACE).is_empty());
        assert_eq!(missing.look(&state(None), now + GRACE * 2).len(), 1);
    }
}

#[test]
fn what_is_put_off_is_due_again_later() {
    let (mut missing, now) = (Missing::default(), Instant::now());
    missing.look(&state(None), now);
    assert_eq!(missing.next(), Some(now + GRACE));
    let then = now + GRACE;
    assert_eq!(missing.look(&state(None), then)[0].missing_for, GRACE);
    missing.put_off(&key(), then);
    assert_eq!(missing.next(), Some(then + AGAIN));
    assert!(missing.look(&state(None), then).is_empty());
    assert_eq!(missing.look(&state(None), then + AGAIN).len(), 1);
}

#[test]
fn the_reason_names_the_pod_and_since_when() {
    let due = Due { key: key(), pod: identity(Some("u1")), missing_for: GRACE };
    let now = Timestamp::from_second(1_700_000_060).unwrap();
    assert_eq!(reason(&due, now), "pod default/web (u1) is gone since 2023-11-14T22:13:20Z");
}

/// A node directory with the record of `c1`.
struct Node {
    _temp: tempfile::TempDir,
    dir: NodeDirectory,
    known: Arc<Known>,
    events: Receiver,
}

impl Node {
    fn with(phase: Phase) -> (Self, Sender) {
        let temp = tempfile::tempdir().unwrap();
        let dir = NodeDirectory::new(temp.path().join("run"), temp.path().join("state"));
        let record = Record {
            phase,
            container_id: key().container_id,
            if_name: key().if_name,
            netns: None,
            netns_id: None,
            boot_id: String::new(),
            pod: Some(identity(Some("u1"))),
            path: Vec::new(),
            created_ms: 1,
            attachments: Vec::new(),
            abandoned: None,
            failure: None,
        };
        record.write(&dir).unwrap();
        let (sender, events) = channel(PodEvents::None, Arc::default());
        let known = Arc::new(Known::default());
        known.tell(|it| {
            *it = state(None);
            true
        });
        (Self { _temp: temp, dir, known, events }, sender)
    }

    fn abandoned(&self) -> Option<String> {
        Record::read(&self.dir, &key()).unwrap().unwrap().abandoned
    }
}

#[tokio::test(start_paused = true)]
async fn a_container_whose_pod_is_gone_is_marked_hinted_at_and_told() {
    let (mut node, sender) = Node::with(Phase::Attached);
    tokio::spawn(run(node.dir.clone(), Arc::clone(&node.known), sender));
    let event = node.events.recv().await.unwrap();
    assert_eq!((event.reason, &event.about, event.warning), ("AttachmentAbandoned", &About::Node, true));
    let reason = node.abandoned().unwrap();
    assert!(reason.starts_with("pod default/web (u1) is gone since 2"), "{reason}");
    assert!(event.note.contains(&reason), "{}", event.note);
    assert_eq!(store::record::unfinished(&node.dir).unwrap(), [key()]);
}

#[tokio::test(start_paused = true)]
async fn a_container_that_somebody_holds_is_marked_later() {
    let (mut node, sender) = Node::with(Phase::Attached);
    let held = Lock::of_container(&node.dir, &key().container_id, Duration::ZERO).unwrap();
    tokio::spawn(run(node.dir.clone(), Arc::clone(&node.known), sender));
    tokio::time::sleep(GRACE + AGAIN * 3).await;
    assert_eq!(node.abandoned(), None);
    drop(held);
    node.events.recv().await.unwrap();
    assert!(node.abandoned().is_some());
}

#[test]
fn what_has_changed_since_it_was_known_is_not_marked() {
    let (node, _sender) = Node::with(Phase::Deleting);
    assert_eq!(mark::mark(&node.dir, &key(), &identity(Some("u1")), "x").unwrap(), Marked::Moot);
    let (node, _sender) = Node::with(Phase::Attached);
    assert_eq!(mark::mark(&node.dir, &key(), &identity(Some("u2")), "x").unwrap(), Marked::Moot);
    assert_eq!(node.abandoned(), None);
    assert_eq!(mark::mark(&node.dir, &key(), &identity(Some("u1")), "x").unwrap(), Marked::Done);
    assert_eq!(mark::mark(&node.dir, &key(), &identity(Some("u1")), "y").unwrap(), Marked::Moot);
    assert_eq!(node.abandoned().as_deref(), Some("x"));
    Record::remove(&node.dir, &key()).unwrap();
    let locks = node.dir.container_locks();
    assert_eq!(mark::mark(&node.dir, &key(), &identity(Some("u1")), "x").unwrap(), Marked::Moot);
    assert_eq!(std::fs::read_dir(locks).unwrap().count(), 0, "no lock's file is left");
}
