use std::path::Path;
use std::time::Duration;

use cni::NetworkList;
use serde_json::{Value, json};
use store::record::{AttachmentRecord, PodIdentity, Record};

use super::*;
use crate::known::State;

fn directory(temp: &Path) -> NodeDirectory {
    NodeDirectory::new(temp.join("run"), temp.join("state"))
}

fn record(id: &str, phase: Phase, pod: bool) -> Record {
    let result: Value = json!({
        "interfaces": [{"name": "net1", "mac": "02:00:00:00:00:01", "sandbox": "/run/netns/x"}],
        "ips": [{"address": "10.1.0.5/24", "interface": 0}],
    });
    let attachment = AttachmentRecord {
        network: "default/storage".to_owned(),
        network_ref: None,
        if_name: cni::IfName::parse("net1").unwrap(),
        list: NetworkList::parse(br#"{"cniVersion":"1.0.0","name":"a","plugins":[{"type":"bridge"}]}"#, None)
            .unwrap(),
        args: serde_json::from_value(json!({})).unwrap_or_default(),
        capabilities: serde_json::from_value(json!({})).unwrap_or_default(),
        result: Some(serde_json::from_value(result).unwrap()),
        default_route: Vec::new(),
        refused_by: None,
        add_us: Some(1500),
        seen: None,
        complaint: None,
    };
    Record {
        phase,
        container_id: cni::ContainerId::parse(id).unwrap(),
        if_name: cni::IfName::parse("eth0").unwrap(),
        netns: Some("/run/netns/x".into()),
        netns_id: None,
        boot_id: store::boot::boot_id(),
        pod: pod.then(|| PodIdentity {
            namespace: "default".to_owned(),
            name: "web".to_owned(),
            uid: Some("u1".to_owned()),
        }),
        path: Vec::new(),
        created_ms: 5,
        attachments: vec![attachment],
        abandoned: None,
        failure: None,
    }
}

fn ids(keys: impl IntoIterator<Item = RecordKey>) -> Vec<String> {
    keys.into_iter().map(|key| key.container_id.to_string()).collect()
}

fn changed(look: Look) -> Vec<String> {
    ids(look.changed.into_iter().map(|(key, _)| key))
}

#[test]
fn what_matters_of_a_record_is_kept() {
    let kept = summary::summary(&record("c1", Phase::Attached, true));
    let attachment = &kept.attachments[0];
    assert_eq!(attachment.delegate, "bridge");
    assert_eq!(attachment.addresses, ["10.1.0.5/24"]);
    let status: Value = serde_json::from_str(&kept.network_status.unwrap()).unwrap();
    assert_eq!(status[0]["name"], "default/storage");
    assert_eq!(status[0]["ips"], json!(["10.1.0.5"]));
    assert_eq!(status[0]["default"], true);
}

#[test]
fn only_a_pods_container_that_is_attached_has_a_network_status() {
    for (phase, pod) in [(Phase::Intended, true), (Phase::Deleting, true), (Phase::Attached, false)] {
        assert_eq!(summary::summary(&record("c1", phase, pod)).network_status, None, "{phase:?} {pod}");
    }
}

#[test]
fn only_files_that_changed_are_read() {
    let temp = tempfile::tempdir().unwrap();
    let dir = directory(temp.path());
    let mut follower = Follower::default();
    assert!(changed(follower.look(&dir).unwrap()).is_empty(), "a directory that is not there is empty");
    record("c1", Phase::Attached, true).write(&dir).unwrap();
    record("c2", Phase::Intended, true).write(&dir).unwrap();
    assert_eq!(changed(follower.look(&dir).unwrap()), ["c1", "c2"]);
    assert!(changed(follower.look(&dir).unwrap()).is_empty());
    record("c2", Phase::Attached, true).write(&dir).unwrap();
    assert_eq!(changed(follower.look(&dir).unwrap()), ["c2"]);
    std::fs::remove_file(dir.records().join("c1")).unwrap();
    let look = follower.look(&dir).unwrap();
    assert_eq!(ids(look.gone), ["c1"]);
}

#[test]
fn a_record_that_cannot_be_read_is_told_until_it_can() {
    let temp = tempfile::tempdir().unwrap();
    let dir = directory(temp.path());
    let mut follower = Follower::default();
    record("c1", Phase::Attached, true).write(&dir).unwrap();
    follower.look(&dir).unwrap();
    std::fs::write(dir.records().join("c1"), "{").unwrap();
    std::fs::write(dir.records().join("c2"), r#"{"schema":99}"#).unwrap();
    std::fs::write(dir.records().join("no record"), "").unwrap();
    for round in 0..2 {
        let look = follower.look(&dir).unwrap();
        assert_eq!(ids(look.unreadable.keys().cloned()), ["c1", "c2"], "{round}");
        assert_eq!(look.gone.len(), 1 - round, "what was known of c1 goes once");
        assert!(!look.again, "damage does not pass by itself");
    }
    record("c1", Phase::Attached, true).write(&dir).unwrap();
    let look = follower.look(&dir).unwrap();
    assert_eq!(ids(look.unreadable.keys().cloned()), ["c2"]);
    assert_eq!(changed(look), ["c1"]);
}

#[test]
fn a_look_that_finds_nothing_new_wakes_nobody() {
    let metrics = Metrics::default();
    let mut state = State::default();
    let look = || Look {
        changed: vec![(
            record("c1", Phase::Attached, true).key(),
            summary::summary(&record("c1", Phase::Attached, true)),
        )],
        ..Look::default()
    };
    assert!(take(&mut state.records, look(), &metrics));
    assert!(state.records.complete);
    assert!(!take(&mut state.records, look(), &metrics));
    assert!(!take(&mut state.records, Look::default(), &metrics));
    let gone = Look { gone: vec![record("c1", Phase::Attached, true).key()], ..Look::default() };
    assert!(take(&mut state.records, gone, &metrics));
}

#[tokio::test]
async fn records_that_come_change_and_go_are_known() {
    let temp = tempfile::tempdir().unwrap();
    let dir = directory(temp.path());
    let known = Arc::new(Known::default());
    let mut news = known.news();
    let following = tokio::spawn(run(dir.clone(), Arc::clone(&known), Arc::default()));
    let mut until = async |what: &str, holds: &dyn Fn(&Records) -> bool| {
        let wait = async {
            while !holds(&known.look().records) {
                news.changed().await.unwrap();
            }
        };
        timeout(Duration::from_secs(20), wait).await.expect(what);
    };
    until("the first look", &|records| records.complete).await;
    record("c1", Phase::Intended, true).write(&dir).unwrap();
    until("intended", &|records| records.all.values().any(|r| r.phase == Phase::Intended)).await;
    record("c1", Phase::Attached, true).write(&dir).unwrap();
    until("attached", &|records| records.all.values().any(|r| r.network_status.is_some())).await;
    std::fs::write(dir.records().join("c2"), "{").unwrap();
    until("damaged", &|records| records.unreadable.len() == 1).await;
    Record::remove(&dir, &record("c1", Phase::Attached, true).key()).unwrap();
    until("gone", &|records| records.all.is_empty()).await;
    following.abort();
}
