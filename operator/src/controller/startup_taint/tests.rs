use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use serde_json::json;

use super::super::reports::said::Said;
use super::super::script::{self, Asked, failure};
use super::*;

const KEY: &str = "braid.dev/not-ready";

fn node(name: &str) -> Value {
    json!({"metadata": {"name": name, "uid": format!("uid-{name}"), "resourceVersion": "1",
            "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"taints": [{"key": "other", "effect": "NoSchedule"}, {"key": KEY, "effect": "NoSchedule"}]},
        "status": {"nodeInfo": {"bootID": "b1"}}})
}

/// A list of Nodes, watches that say nothing, and `write` for the rest.
fn server(
    nodes: Vec<Value>,
    write: impl Fn(&Asked) -> (u16, Value) + Send + Sync + 'static,
) -> (Client, script::Log) {
    let list =
        json!({"kind": "NodeList", "apiVersion": "v1", "metadata": {"resourceVersion": "9"}, "items": nodes});
    script::client(move |asked| match asked.method.as_str() {
        "GET" if asked.path.contains("watch=true") => failure(500, "no watch here"),
        "GET" => (200, list.clone()),
        _ => write(asked),
    })
}

fn written(asked: &Asked) -> (u16, Value) {
    let name = asked.path.split(['/', '?']).nth(4).unwrap_or_default();
    (
        200,
        json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": {"name": name}}),
    )
}

fn says(known: &Known<State>, name: &str, ready: bool) {
    let written = Some("2026-01-01T00:01:00Z".parse::<Timestamp>().unwrap());
    let said = Said { ready, boot_id: "b1".to_owned(), written };
    known.tell(|state| state.reports.said.insert(name.to_owned(), said).is_none());
}

async fn for_seconds(seconds: u64, client: Client, known: &Known<State>) {
    let metrics = Metrics::default();
    tokio::select! {
        never = run(client, KEY, known, &metrics) => match never {},
        () = tokio::time::sleep(Duration::from_secs(seconds)) => {}
    }
}

fn writes(log: &script::Log) -> Vec<Asked> {
    log.lock().unwrap().iter().filter(|asked| asked.method != "GET").cloned().collect()
}

#[tokio::test(start_paused = true)]
async fn the_taint_goes_when_the_report_says_so_and_not_before() {
    let (client, log) = server(vec![node("a"), node("b")], written);
    let (known, metrics) = (Known::<State>::default(), Metrics::default());
    says(&known, "b", false);
    let then = async {
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert_eq!(writes(&log).len(), 0);
        let reasons = known.look().startup_taints.clone();
        assert_eq!(reasons["a"], "the node has not reported yet");
        assert!(reasons["b"].contains("not ready"), "{reasons:?}");
        says(&known, "a", true);
        tokio::time::sleep(Duration::from_secs(5)).await;
    };
    tokio::select! {
        never = run(client, KEY, &known, &metrics) => match never {},
        () = then => {}
    }
    let writes = writes(&log);
    assert_eq!(writes.len(), 1, "{writes:?}");
    assert_eq!(writes[0].path, "/api/v1/nodes/a?&fieldManager=braid-controller");
    assert_eq!(writes[0].body[2], json!({"op": "remove", "path": "/spec/taints/1"}));
    assert_eq!(metrics.startup_taint_removals.get_or_create(&ByOutcome { outcome: Outcome::ok }).get(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_taints_somebody_has_changed_is_no_trouble_and_tried_again() {
    let (client, log) = server(vec![node("a")], |_| failure(422, "Invalid"));
    let known = Known::<State>::default();
    says(&known, "a", true);
    for_seconds(25, client, &known).await;
    assert_eq!(writes(&log).len(), 3);
    assert!(!known.look().problems.contains_key(WRITE));
}

#[tokio::test(start_paused = true)]
async fn a_write_that_fails_is_told_and_hinders_no_other_node() {
    let forbidden = Arc::new(Mutex::new(true));
    let still = forbidden.clone();
    let (client, log) = server(vec![node("a"), node("b")], move |asked| {
        if asked.path.contains("/a?") && *still.lock().unwrap() {
            failure(403, "Forbidden")
        } else {
            written(asked)
        }
    });
    let (known, metrics) = (Known::<State>::default(), Metrics::default());
    says(&known, "a", true);
    says(&known, "b", true);
    let then = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(known.look().problems.contains_key(WRITE));
        assert!(writes(&log).iter().any(|asked| asked.path.contains("/b?")));
        *forbidden.lock().unwrap() = false;
        tokio::time::sleep(PAUSE).await;
        assert!(!known.look().problems.contains_key(WRITE));
    };
    tokio::select! {
        never = run(client, KEY, &known, &metrics) => match never {},
        () = then => {}
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_key_no_node_is_asked_for() {
    let (client, log) = server(vec![node("a")], written);
    let (known, metrics) = (Known::<State>::default(), Metrics::default());
    tokio::select! {
        never = run(client, "", &known, &metrics) => match never {},
        () = tokio::time::sleep(Duration::from_secs(60)) => {}
    }
    assert_eq!(log.lock().unwrap().len(), 0);
}
