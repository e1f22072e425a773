use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::super::script::{self, Asked, failure};
use super::*;

/// Lists of reports and nodes, watches that say nothing, and `write` for the rest.
fn server(
    reports: Value,
    nodes: Value,
    write: impl Fn(&Asked) -> (u16, Value) + Send + Sync + 'static,
) -> (Client, script::Log) {
    script::client(move |asked| match asked.method.as_str() {
        "GET" if asked.path.contains("watch=true") => failure(500, "no watch here"),
        "GET" if asked.path.contains("/nodes?") => (200, list("PartialObjectMetadata", "v1", &nodes)),
        "GET" => (200, list("NodeReport", "braid.dev/v1alpha1", &reports)),
        _ => write(asked),
    })
}

fn list(kind: &str, version: &str, items: &Value) -> Value {
    json!({"kind": format!("{kind}List"), "apiVersion": version, "metadata": {"resourceVersion": "9"},
        "items": items})
}

fn report(name: &str) -> Value {
    json!({"kind": "NodeReport", "apiVersion": "braid.dev/v1alpha1",
        "metadata": {"name": name, "uid": format!("uid-{name}"), "resourceVersion": "3"},
        "report": {"networks": {"a/x": 1}}})
}

fn metadata(name: &str) -> (u16, Value) {
    (
        200,
        json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": {"name": name}}),
    )
}

async fn for_seconds(seconds: u64, client: Client, known: &Known<State>) {
    let metrics = Metrics::default();
    tokio::select! {
        never = run(client, known, &metrics) => match never {},
        () = tokio::time::sleep(Duration::from_secs(seconds)) => {}
    }
}

fn writes(log: &script::Log) -> Vec<Asked> {
    log.lock().unwrap().iter().filter(|asked| asked.method != "GET").cloned().collect()
}

#[tokio::test(start_paused = true)]
async fn reports_are_adopted_by_their_nodes_and_removed_without_one() {
    let nodes = json!([{"metadata": {"name": "here", "uid": "u1", "resourceVersion": "1"}}]);
    let (client, log) = server(json!([report("here"), report("gone")]), nodes, |_| metadata("here"));
    let known = Known::default();
    for_seconds(20, client.clone(), &known).await;
    let written = writes(&log);
    assert_eq!(written.len(), 1, "{written:?}");
    assert_eq!(written[0].path.split('?').next(), Some("/apis/braid.dev/v1alpha1/nodereports/here"));
    assert!(written[0].path.contains("fieldManager=braid-controller"), "{}", written[0].path);
    let owners = json!([{"apiVersion": "v1", "kind": "Node", "name": "here", "uid": "u1"}]);
    assert_eq!(written[0].body, json!({"metadata": {"uid": "uid-here", "ownerReferences": owners}}));
    let tally = known.look().reports.tallies.of("a/x", Some(1));
    assert_eq!((tally.ready, tally.total), (2, 2));
    for_seconds(40, client, &known).await;
    let removal = writes(&log).into_iter().find(|asked| asked.method == "DELETE").unwrap();
    assert_eq!(removal.path.split('?').next(), Some("/apis/braid.dev/v1alpha1/nodereports/gone"));
    assert_eq!(removal.body["preconditions"], json!({"uid": "uid-gone"}));
}

#[tokio::test(start_paused = true)]
async fn a_report_that_is_another_one_by_now_is_left_alone_and_nothing_is_said() {
    let (client, log) = server(json!([report("gone")]), json!([]), |_| failure(409, "Conflict"));
    let known = Known::default();
    for_seconds(45, client, &known).await;
    assert_eq!(writes(&log).len(), 1);
    assert!(!known.look().problems.contains_key(WRITE));
}

#[tokio::test(start_paused = true)]
async fn a_write_that_fails_is_told_and_tried_again() {
    let tries = Arc::new(Mutex::new(0));
    let counted = tries.clone();
    let nodes = json!([{"metadata": {"name": "here", "uid": "u1", "resourceVersion": "1"}}]);
    let (client, _) = server(json!([report("here")]), nodes, move |_| {
        *counted.lock().unwrap() += 1;
        failure(403, "Forbidden")
    });
    let known = Known::default();
    for_seconds(70, client, &known).await;
    assert!(*tries.lock().unwrap() >= 2);
    assert!(known.look().problems.contains_key(WRITE));
}

#[tokio::test(start_paused = true)]
async fn a_report_that_cannot_be_read_is_counted_and_hinders_nobody() {
    let mut bad = report("bad");
    bad["report"]["networks"] = json!("x");
    let (client, _) = server(json!([bad, report("good")]), json!([]), |_| failure(500, "no"));
    let (known, metrics) = (Known::default(), Metrics::default());
    tokio::select! {
        never = run(client, &known, &metrics) => match never {},
        () = tokio::time::sleep(Duration::from_secs(5)) => {}
    }
    let state = known.look();
    assert!(state.reports.complete);
    assert_eq!((state.reports.tallies.nodes(), metrics.undecodable_objects.get()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_list_that_fails_is_told_once_and_not_taken_back_by_the_next_attempt() {
    let (client, log) = script::client(|_| failure(500, "InternalError"));
    let (known, metrics) = (Known::<State>::default(), Metrics::default());
    let mut news = known.news();
    let changes = async {
        let mut changes = 0;
        while news.changed().await.is_ok() {
            changes += 1;
            assert!(changes <= 2, "one for each list: {:?}", known.look().problems);
        }
    };
    tokio::select! {
        never = run(client, &known, &metrics) => match never {},
        () = changes => {}
        () = tokio::time::sleep(Duration::from_secs(60)) => {}
    }
    assert!(script::lines(&log).len() > 6);
    assert_eq!(known.look().problems.len(), 2);
}
