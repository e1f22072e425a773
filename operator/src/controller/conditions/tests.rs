use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::super::script::{self, Asked, Log, failure};
use super::*;

const NADS: &str = "/apis/k8s.cni.cncf.io/v1/network-attachment-definitions";

fn nad(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
        "metadata": {"namespace": "a", "name": name, "uid": format!("uid-{name}"), "resourceVersion": "4",
            "generation": 2},
        "spec": spec})
}

fn good(name: &str) -> Value {
    nad(name, json!({"config": r#"{"cniVersion":"1.0.0","type":"bridge"}"#}))
}

/// A list of these networks, a watch that says nothing, and `answer` for the rest.
fn server(networks: Value, answer: impl Fn(&Asked) -> (u16, Value) + Send + Sync + 'static) -> (Client, Log) {
    script::client(move |asked| {
        if asked.path.contains("watch=true") {
            return failure(500, "InternalError");
        }
        if asked.method == "GET" && asked.path.starts_with(&format!("{NADS}?")) {
            return (200, json!({"metadata": {"resourceVersion": "9"}, "items": networks}));
        }
        answer(asked)
    })
}

/// What the API server answers to a patch that it takes.
fn patched(asked: &Asked) -> (u16, Value) {
    let mut object = good("x");
    object["status"] = asked.body["status"].clone();
    (200, object)
}

async fn for_seconds(seconds: u64, client: Client, known: &Known<State>) {
    under(&Permissions::default(), seconds, client, known).await;
}

async fn under(permissions: &Permissions, seconds: u64, client: Client, known: &Known<State>) {
    let metrics = Metrics::default();
    known.tell(|state| {
        state.reports.complete = true;
        false
    });
    tokio::select! {
        never = run(client, "me", permissions, known, &metrics) => match never {},
        () = sleep(Duration::from_secs(seconds)) => {}
    }
}

fn of(log: &Log, method: &str) -> Vec<Asked> {
    log.lock().unwrap().iter().filter(|asked| asked.method == method).cloned().collect()
}

#[tokio::test(start_paused = true)]
async fn a_status_is_patched_guarded_by_the_version_that_was_seen() {
    let (client, log) = server(json!([good("x")]), patched);
    let known = Known::default();
    for_seconds(3, client, &known).await;
    let patches = of(&log, "PATCH");
    assert_eq!(patches.len(), 1);
    let path = "/apis/k8s.cni.cncf.io/v1/namespaces/a/network-attachment-definitions/x/status";
    assert_eq!(patches[0].path.split('?').next(), Some(path));
    assert_eq!(patches[0].body["metadata"], json!({"uid": "uid-x", "resourceVersion": "4"}));
    let status = &patches[0].body["status"];
    assert_eq!(status["observedGeneration"], 2);
    assert_eq!(status["conditions"][0]["reason"], "Valid");
    assert_eq!(status["conditions"][1]["reason"], "NoReports");
    assert_eq!(known.look().status_subresource, Some(true));
    assert!(of(&log, "POST").is_empty(), "no event for what is well");
}

#[tokio::test(start_paused = true)]
async fn a_network_that_is_not_valid_says_so_in_its_condition_and_in_one_event() {
    let bad = nad("x", json!({"config": "{"}));
    let (client, log) = server(json!([bad]), |asked| match asked.method.as_str() {
        "POST" => (201, asked.body.clone()),
        _ => patched(asked),
    });
    for_seconds(60, client, &Known::default()).await;
    assert_eq!(of(&log, "PATCH")[0].body["status"]["conditions"][0]["status"], "False");
    let events = of(&log, "POST");
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].path.split('?').next(), Some("/apis/events.k8s.io/v1/namespaces/a/events"));
    let event = &events[0].body;
    assert_eq!(event["metadata"]["name"], "x.invalid-uidx-2");
    assert_eq!((&event["reason"], &event["type"]), (&json!("NetworkInvalid"), &json!("Warning")));
    assert_eq!(event["regarding"]["uid"], "uid-x");
}

#[tokio::test(start_paused = true)]
async fn an_event_that_another_leader_has_written_is_not_written_again() {
    let bad = nad("x", json!({"config": "{"}));
    let (client, log) = server(json!([bad]), |asked| match asked.method.as_str() {
        "POST" => failure(409, "AlreadyExists"),
        _ => patched(asked),
    });
    let known = Known::default();
    for_seconds(60, client, &known).await;
    assert_eq!(of(&log, "POST").len(), 1);
    assert!(!known.look().problems.contains_key(WRITE_EVENT));
}

#[tokio::test(start_paused = true)]
async fn without_the_status_subresource_one_network_is_tried_every_ten_minutes() {
    let (client, log) = server(json!([good("x"), good("y")]), |asked| match asked.method.as_str() {
        "GET" => (200, good("x")),
        _ => failure(404, "NotFound"),
    });
    let known = Known::default();
    for_seconds(500, client.clone(), &known).await;
    assert_eq!(of(&log, "PATCH").len(), 2, "both were due before it was known");
    assert_eq!(known.look().status_subresource, Some(false));
    assert!(!known.look().problems.contains_key(WRITE_STATUS), "nothing is wrong with that");
    log.lock().unwrap().clear();
    for_seconds(1900, client, &known).await;
    let patches = of(&log, "PATCH").len();
    assert_eq!(patches, 4, "at the start, and three times later");
}

#[tokio::test(start_paused = true)]
async fn a_definition_that_drops_our_fields_counts_as_one_without_status() {
    let (client, log) = server(json!([good("x")]), |_| (200, good("x")));
    let known = Known::default();
    for_seconds(300, client, &known).await;
    assert_eq!((of(&log, "PATCH").len(), known.look().status_subresource), (1, Some(false)));
}

#[tokio::test(start_paused = true)]
async fn a_network_that_is_gone_is_no_reason_to_doubt_the_status() {
    let (client, _) = server(json!([good("x")]), |_| failure(404, "NotFound"));
    let known = Known::default();
    for_seconds(3, client, &known).await;
    assert_eq!(known.look().status_subresource, None);
}

#[tokio::test(start_paused = true)]
async fn a_conflict_is_tried_again_and_is_no_trouble() {
    let (client, log) = server(json!([good("x")]), |_| failure(409, "Conflict"));
    let known = Known::default();
    for_seconds(20, client, &known).await;
    assert!(!known.look().problems.contains_key(WRITE_STATUS));
    assert!((1..=4).contains(&of(&log, "PATCH").len()));
}

#[tokio::test(start_paused = true)]
async fn writes_that_fail_are_told_and_tried_again_until_they_hold() {
    let broken = Arc::new(Mutex::new(true));
    let fails = broken.clone();
    let (client, _) = server(json!([good("x")]), move |asked| {
        if *fails.lock().unwrap() { failure(500, "InternalError") } else { patched(asked) }
    });
    let known = Known::default();
    for_seconds(30, client.clone(), &known).await;
    assert!(known.look().problems.contains_key(WRITE_STATUS));
    *broken.lock().unwrap() = false;
    for_seconds(30, client, &known).await;
    assert!(!known.look().problems.contains_key(WRITE_STATUS));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_refused_once_and_hinders_nobody() {
    let (client, log) = server(json!([nad("bad", json!("x")), good("x")]), |asked| {
        if asked.method == "POST" { (201, asked.body.clone()) } else { patched(asked) }
    });
    for_seconds(40, client, &Known::default()).await;
    let reasons: Vec<_> = of(&log, "PATCH")
        .iter()
        .map(|asked| asked.body["status"]["conditions"][0]["reason"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(reasons.iter().filter(|reason| *reason == "Undecodable").count(), 1, "{reasons:?}");
    assert!(reasons.iter().any(|reason| reason == "Valid"), "{reasons:?}");
}

#[tokio::test(start_paused = true)]
async fn a_network_that_the_rules_do_not_permit_is_not_accepted() {
    let (client, log) = server(json!([good("x")]), |asked| match asked.method.as_str() {
        "POST" => (201, asked.body.clone()),
        _ => patched(asked),
    });
    let rules = br#"{"rules": [{"namespaces": ["a"], "plugins": ["macvlan"]}]}"#;
    under(&Permissions::parse(rules).unwrap(), 3, client, &Known::default()).await;
    let accepted = &of(&log, "PATCH")[0].body["status"]["conditions"][0];
    assert_eq!(accepted["status"], "False");
    let message = accepted["message"].as_str().unwrap();
    assert!(message.contains("networks of namespace a may not use plugin \"bridge\""), "{message}");
}
