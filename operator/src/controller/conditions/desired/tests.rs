use serde_json::json;

use super::*;

fn network(content: Content) -> Network {
    Network {
        namespace: "a".to_owned(),
        name: "x".to_owned(),
        uid: "u".to_owned(),
        version: "5".to_owned(),
        generation: Some(3),
        content,
        shown: None,
    }
}

fn at(second: i64) -> Time {
    Time(jiff::Timestamp::from_second(second).unwrap())
}

fn valid() -> Finding {
    Finding::Valid { warnings: Vec::new() }
}

fn tally(ready: i64, refused: i64, total: i64) -> Tally {
    Tally { ready, refused, total, pods: 7, refusal: (refused > 0).then(|| "no type".into()) }
}

fn condition<'a>(status: &'a NetworkAttachmentDefinitionStatus, kind: &str) -> &'a Condition {
    status.conditions.iter().find(|condition| condition.type_ == kind).unwrap()
}

#[test]
fn conditions_follow_from_findings() {
    let invalid = |reason| Finding::Invalid { reason, message: "bad".to_owned() };
    let warned = Finding::Valid { warnings: vec!["one".to_owned(), "two".to_owned()] };
    for (finding, expected) in [
        (valid(), ("True", "Valid", "pods can use the network")),
        (warned, ("True", "ValidWithWarnings", "one; two")),
        (invalid("Invalid"), ("False", "Invalid", "bad")),
        (invalid("Undecodable"), ("False", "Undecodable", "bad")),
    ] {
        let status = status(&network(Content::Unnamable(String::new())), &finding, None, at(9));
        let accepted = condition(&status, ACCEPTED);
        assert_eq!((accepted.status.as_str(), accepted.reason.as_str(), accepted.message.as_str()), expected);
        assert_eq!((status.observed_generation, accepted.observed_generation), (Some(3), Some(3)));
        assert_eq!(status.conditions.len(), 1, "nothing is said of nodes that nobody knows");
    }
}

#[test]
fn conditions_follow_from_what_nodes_report() {
    for (tally, expected) in [
        (tally(0, 0, 0), ("Unknown", "NoReports", "no node reports")),
        (tally(5, 0, 5), ("True", "OnAllNodes", "on 5 of 5 nodes")),
        (tally(3, 0, 5), ("False", "Pending", "on 3 of 5 nodes")),
        (tally(0, 0, 1), ("False", "Pending", "on 0 of 1 node")),
        (tally(3, 2, 5), ("False", "Refused", "refused by 2 of 5 nodes: no type")),
    ] {
        let status = status(&network(Content::Unnamable(String::new())), &valid(), Some(&tally), at(9));
        let rendered = condition(&status, RENDERED);
        assert_eq!((rendered.status.as_str(), rendered.reason.as_str(), rendered.message.as_str()), expected);
        assert_eq!((status.nodes.total, status.pods), (tally.total, 7));
    }
}

#[test]
fn a_condition_keeps_its_time_until_its_status_changes() {
    let mut network = network(Content::Unnamable(String::new()));
    network.shown = Some(status(&network, &valid(), Some(&tally(3, 0, 5)), at(1)));
    let more = status(&network, &valid(), Some(&tally(4, 0, 5)), at(2));
    assert_eq!(condition(&more, RENDERED).last_transition_time, at(1));
    assert_eq!(condition(&more, RENDERED).message, "on 4 of 5 nodes");
    network.shown = Some(more);
    let all = status(&network, &valid(), Some(&tally(5, 0, 5)), at(3));
    assert_eq!(condition(&all, RENDERED).last_transition_time, at(3));
    assert_eq!(condition(&all, ACCEPTED).last_transition_time, at(1));
    network.shown = Some(all.clone());
    assert_eq!(status(&network, &valid(), Some(&tally(5, 0, 5)), at(4)), all, "nothing to write");
    assert_eq!(status(&network, &valid(), None, at(4)), all, "without reports nothing is taken back");
}

#[test]
fn conditions_of_others_stay() {
    let mut network = network(Content::Unnamable(String::new()));
    let other = json!({"type": "Audited", "status": "True", "reason": "R", "message": "m",
        "lastTransitionTime": "2026-01-01T00:00:00Z"});
    network.shown = Some(serde_json::from_value(json!({"conditions": [other]})).unwrap());
    let status = status(&network, &valid(), None, at(9));
    assert_eq!(condition(&status, "Audited").reason, "R");
    assert_eq!(status.conditions.len(), 2);
}

#[test]
fn only_what_is_found_anew_is_urgent() {
    let mut network = network(Content::Unnamable(String::new()));
    let shown = status(&network, &valid(), Some(&tally(3, 0, 5)), at(1));
    network.shown = Some(shown.clone());
    assert!(!tells(None, &shown));
    assert!(tells(Some(&shown), &status(&network, &valid(), Some(&tally(4, 0, 5)), at(2))));
    network.generation = Some(4);
    assert!(!tells(Some(&shown), &status(&network, &valid(), None, at(2))));
}
