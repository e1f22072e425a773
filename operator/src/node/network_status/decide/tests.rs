use store::record::PodIdentity;

use super::*;

fn key(id: &str) -> RecordKey {
    RecordKey {
        container_id: cni::ContainerId::parse(id).unwrap(),
        if_name: cni::IfName::parse("eth0").unwrap(),
    }
}

fn web() -> PodName {
    ("default".to_owned(), "web".to_owned())
}

/// A record of a container of `default/web`; an attached one says its own id.
fn record(id: &str, uid: &str, phase: Phase, created_ms: u64) -> (RecordKey, Record) {
    let uid = (!uid.is_empty()).then(|| uid.to_owned());
    let record = Record {
        phase,
        pod: Some(PodIdentity { namespace: "default".to_owned(), name: "web".to_owned(), uid }),
        created_ms,
        attachments: Vec::new(),
        network_status: (phase == Phase::Attached).then(|| id.to_owned()),
        failure: None,
        abandoned: None,
    };
    (key(id), record)
}

/// The pod `default/web`, by its uid.
fn pod(uid: &str) -> Pod {
    Pod { uid: uid.to_owned(), mirrors: None, network_status: None, created_ms: None }
}

fn state(pod: Option<Pod>, records: impl IntoIterator<Item = (RecordKey, Record)>) -> State {
    let mut state = State::default();
    state.pods.all.extend(pod.map(|pod| (web(), pod)));
    state.records.all.extend(records);
    state.records.complete = true;
    state
}

fn shows(state: &mut State, text: &str) {
    state.pods.all.get_mut(&web()).unwrap().network_status = Some(text_hash(text));
}

fn starts(attempts: &mut Attempts, state: &State, now: Instant) -> Vec<Patch> {
    attempts.decide(state, 8, now).start
}

use Phase::{Attached, Deleting, Intended};

#[test]
fn the_newest_attached_record_of_the_pods_uid_says_what_it_got() {
    let mirror = Pod { mirrors: Some("static".to_owned()), ..pod("own") };
    let young = Pod { created_ms: Some(100_000), ..pod("u2") };
    let cases = [
        ("no record", pod("u1"), vec![], None),
        ("one", pod("u1"), vec![record("a", "u1", Attached, 1)], Some("a")),
        (
            "two sandboxes",
            pod("u1"),
            vec![record("a", "u1", Attached, 2), record("b", "u1", Attached, 1)],
            Some("a"),
        ),
        (
            "at one time",
            pod("u1"),
            vec![record("a", "u1", Attached, 1), record("b", "u1", Attached, 1)],
            Some("b"),
        ),
        ("not yet", pod("u1"), vec![record("a", "u1", Intended, 1)], None),
        ("no more", pod("u1"), vec![record("a", "u1", Deleting, 1)], None),
        (
            "the new one is not attached yet",
            pod("u1"),
            vec![record("a", "u1", Attached, 1), record("b", "u1", Intended, 2)],
            Some("a"),
        ),
        ("of the pod that had the name before", pod("u2"), vec![record("a", "u1", Attached, 9)], None),
        (
            "recreated",
            pod("u2"),
            vec![record("a", "u1", Attached, 9), record("b", "u2", Attached, 1)],
            Some("b"),
        ),
        ("a mirror", mirror.clone(), vec![record("a", "static", Attached, 1)], Some("a")),
        ("a mirror by its own uid", mirror, vec![record("a", "own", Attached, 1)], Some("a")),
        ("no uid from the runtime", pod("u2"), vec![record("a", "", Attached, 1)], Some("a")),
        ("no uid, made before the pod", young.clone(), vec![record("a", "", Attached, 60_000)], None),
        ("no uid, clocks differ", young.clone(), vec![record("a", "", Attached, 90_000)], Some("a")),
        (
            "no uid, the newest",
            young,
            vec![record("a", "", Attached, 120_000), record("b", "", Attached, 110_000)],
            Some("a"),
        ),
    ];
    for (what, pod, records, expected) in cases {
        let uid = pod.uid.clone();
        let state = state(Some(pod), records);
        let patches = starts(&mut Attempts::default(), &state, Instant::now());
        assert_eq!(patches.first().map(|patch| patch.text.as_str()), expected, "{what}");
        assert!(patches.iter().all(|patch| patch.uid == uid), "{what}: the pod's own uid guards it");
    }
}

#[test]
fn nothing_is_done_for_pods_that_are_not_known_have_it_or_before_all_records_are_read() {
    let records = || vec![record("a", "u1", Attached, 1)];
    let mut has_it = state(Some(pod("u1")), records());
    shows(&mut has_it, "a");
    let unread = State {
        records: crate::known::Records { complete: false, ..state(None, records()).records },
        ..state(Some(pod("u1")), [])
    };
    let mut podman = state(Some(pod("u1")), records());
    podman.records.all.values_mut().for_each(|record| record.pod = None);
    for state in [has_it, unread, podman, state(None, records())] {
        assert!(starts(&mut Attempts::default(), &state, Instant::now()).is_empty(), "{state:?}");
    }
}

#[test]
fn a_pod_is_not_patched_twice_before_the_watch_shows_it() {
    let (mut attempts, now) = (Attempts::default(), Instant::now());
    let mut state = state(Some(pod("u1")), [record("a", "u1", Attached, 1)]);
    let patch = starts(&mut attempts, &state, now).remove(0);
    assert!(starts(&mut attempts, &state, now).is_empty(), "under way");
    attempts.end(&patch, &Ended::Held, 0.0, now);
    let decision = attempts.decide(&state, 8, now + UNSEEN / 2);
    assert!(decision.start.is_empty(), "the watch has not shown it yet");
    assert_eq!(decision.next, Some(now + UNSEEN));
    shows(&mut state, "a");
    assert!(starts(&mut attempts, &state, now + UNSEEN).is_empty());
    assert!(attempts.all.is_empty(), "what holds is forgotten");
    // Somebody overwrites it.
    shows(&mut state, "x");
    assert_eq!(starts(&mut attempts, &state, now).len(), 1);
}

#[test]
fn a_patch_that_the_watch_never_shows_is_done_again_but_not_announced_again() {
    let (mut attempts, now) = (Attempts::default(), Instant::now());
    let state = state(Some(pod("u1")), [record("a", "u1", Attached, 1)]);
    let patch = starts(&mut attempts, &state, now).remove(0);
    assert!(!patch.announced);
    attempts.end(&patch, &Ended::Held, 0.0, now);
    let patch = starts(&mut attempts, &state, now + UNSEEN).remove(0);
    assert!(patch.announced);
}

#[test]
fn a_second_refusal_of_the_same_is_known_as_such() {
    let (mut attempts, now) = (Attempts::default(), Instant::now());
    let mut state = state(Some(pod("u1")), [record("a", "u1", Attached, 1)]);
    let patch = starts(&mut attempts, &state, now).remove(0);
    assert!(!patch.refused);
    attempts.end(&patch, &Ended::Refused, 0.0, now);
    let patch = starts(&mut attempts, &state, now + REFUSED).remove(0);
    assert!(patch.refused);
    attempts.end(&patch, &Ended::Refused, 0.0, now + REFUSED);
    state.records.all.extend([record("b", "u1", Attached, 2)]);
    assert!(!starts(&mut attempts, &state, now + REFUSED)[0].refused, "another text");
}

#[test]
fn another_text_is_patched_at_once_unless_the_server_is_in_trouble() {
    let later = Ended::Later(None);
    for (ended, at_once) in
        [(Ended::Held, true), (Ended::Refused, true), (Ended::Moot, false), (later, false)]
    {
        let (mut attempts, now) = (Attempts::default(), Instant::now());
        let mut state = state(Some(pod("u1")), [record("a", "u1", Attached, 1)]);
        let patch = starts(&mut attempts, &state, now).remove(0);
        attempts.end(&patch, &ended, 0.0, now);
        assert!(starts(&mut attempts, &state, now).is_empty(), "{ended:?}: not the same again at once");
        state.records.all.extend([record("b", "u1", Attached, 2)]);
        let next = starts(&mut attempts, &state, now);
        assert_eq!(next.first().map(|patch| patch.text.as_str()), at_once.then_some("b"), "{ended:?}");
        assert!(next.iter().all(|patch| !patch.announced));
    }
}

#[test]
fn a_new_pod_of_the_name_does_not_wait_for_what_the_old_one_waits_for() {
    for ended in [Ended::Held, Ended::Refused, Ended::Moot, Ended::Later(Some(Duration::from_secs(99)))] {
        let (mut attempts, now) = (Attempts::default(), Instant::now());
        let old = state(Some(pod("u1")), [record("a", "u1", Attached, 1)]);
        let patch = starts(&mut attempts, &old, now).remove(0);
        let new = state(Some(pod("u2")), [record("b", "u2", Attached, 2)]);
        assert!(starts(&mut attempts, &new, now).is_empty(), "one at a time");
        attempts.end(&patch, &ended, 0.0, now);
        let next = starts(&mut attempts, &new, now).remove(0);
        assert_eq!((next.uid.as_str(), next.text.as_str()), ("u2", "b"), "{ended:?}");
    }
}

#[test]
fn retries_become_rarer_obey_the_server_and_begin_anew_for_another_pod() {
    let (mut attempts, mut now) = (Attempts::default(), Instant::now());
    let state = state(Some(pod("u1")), [record("a", "u1", Attached, 1)]);
    let mut waits = Vec::new();
    for asked in [None, None, None, None, None, None, None, Some(7), Some(200), Some(9999)] {
        let patch = starts(&mut attempts, &state, now).remove(0);
        attempts.end(&patch, &Ended::Later(asked.map(Duration::from_secs)), 0.0, now);
        let at = attempts.decide(&state, 8, now).next.unwrap();
        waits.push((at - now).as_secs());
        now = at;
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30, 30, 200, 300]);
    assert_eq!(pause(1, 1.0), Duration::from_secs(2));
    assert_eq!(pause(u32::MAX, 1.0), Duration::from_secs(60));
}

#[test]
fn there_is_room_for_so_many_and_those_that_have_not_failed_come_first() {
    let (mut attempts, now) = (Attempts::default(), Instant::now());
    let mut state = state(None, []);
    for name in ["p1", "p2", "p3"] {
        let (key, mut record) = record(name, "u1", Attached, 1);
        record.pod.as_mut().unwrap().name = name.to_owned();
        state.records.all.insert(key, record);
        state.pods.all.insert(("default".to_owned(), name.to_owned()), pod("u1"));
    }
    let names = |patches: &[Patch]| patches.iter().map(|patch| patch.text.clone()).collect::<Vec<_>>();
    let first = attempts.decide(&state, 1, now).start;
    assert_eq!(names(&first), ["p1"]);
    attempts.end(&first[0], &Ended::Later(None), 0.0, now);
    let later = now + Duration::from_secs(5);
    assert_eq!(names(&attempts.decide(&state, 2, later).start), ["p2", "p3"]);
    assert!(attempts.decide(&state, 0, later).start.is_empty());
    assert_eq!(names(&attempts.decide(&state, 1, later).start), ["p1"]);
}

#[test]
fn what_is_nobodys_any_more_is_forgotten() {
    let (mut attempts, now) = (Attempts::default(), Instant::now());
    let full = state(Some(pod("u1")), [record("a", "u1", Attached, 1)]);
    let patch = starts(&mut attempts, &full, now).remove(0);
    let empty = state(None, []);
    starts(&mut attempts, &empty, now);
    assert_eq!(attempts.all.len(), 1, "its request is under way");
    attempts.end(&patch, &Ended::Moot, 0.0, now);
    starts(&mut attempts, &empty, now);
    assert!(attempts.all.is_empty());
}
