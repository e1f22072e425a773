use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::super::script::{self, failure};
use super::*;

fn config() -> lease::Config {
    lease::Config {
        namespace: "braid-system".to_owned(),
        name: "braid-controller".to_owned(),
        identity: "me".to_owned(),
        terms: Terms::default(),
    }
}

/// Competes until `stop`, and gives the Lease back.
async fn serve(client: Client, known: &Known<State>, stop: impl Future<Output = ()>) {
    let (metrics, duties) = (Metrics::default(), Duties::default());
    tokio::select! {
        never = compete(client.clone(), config(), &duties, known, &metrics) => match never {},
        () = stop => {}
    }
    release(client, &config(), known).await;
}

#[test]
fn no_two_processes_have_one_identity() {
    let (one, two) = (identity(Some("pod-0")).unwrap(), identity(Some("pod-0")).unwrap());
    assert_ne!(one, two);
    assert!(one.starts_with("pod-0_"));
    assert!(!identity(None).unwrap().starts_with('_'));
}

#[tokio::test(start_paused = true)]
async fn a_leader_lists_and_stops_with_an_empty_holder() {
    let lease = Arc::new(Mutex::new(None::<Value>));
    let kept = lease.clone();
    let (client, log) = script::client(move |asked| {
        let mut lease = kept.lock().unwrap();
        match (asked.method.as_str(), asked.path.contains("/leases"), lease.as_ref()) {
            ("GET", true, Some(lease)) => (200, lease.clone()),
            ("GET", true, None) => failure(404, "NotFound"),
            (_, true, _) => (200, lease.insert(asked.body.clone()).clone()),
            ("GET", false, _) if !asked.path.contains("watch=true") => {
                (200, json!({"metadata": {"resourceVersion": "1"}, "items": []}))
            }
            _ => failure(500, "InternalError"),
        }
    });
    let known = Known::default();
    serve(client, &known, tokio::time::sleep(Duration::from_secs(30))).await;
    let asked = script::lines(&log);
    for list in ["/nodes", "/nodereports", "/network-attachment-definitions"] {
        assert!(asked.iter().any(|line| line.ends_with(list)), "{list}: {asked:?}");
    }
    assert_eq!(lease.lock().unwrap().as_ref().unwrap()["spec"]["holderIdentity"], "");
    assert!(known.look().networks.complete);
}

#[tokio::test(start_paused = true)]
async fn who_does_not_lead_reads_nothing_but_the_lease() {
    let held = json!({"metadata": {"name": "braid-controller", "resourceVersion": "7"},
        "spec": {"holderIdentity": "you", "leaseDurationSeconds": 15}});
    let (client, log) = script::client(move |_| (200, held.clone()));
    let known = Known::default();
    serve(client, &known, tokio::time::sleep(Duration::from_secs(14))).await;
    let lines = script::lines(&log);
    assert!(lines.len() > 5 && lines.iter().all(|line| line.starts_with("GET") && line.contains("/leases/")));
    assert_eq!(known.look().leader, "you");
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_does_not_answer_does_not_hold_up_the_end() {
    let service = tower::service_fn(|_: http::Request<kube::client::Body>| {
        std::future::pending::<Result<http::Response<kube::client::Body>, Infallible>>()
    });
    let known = Known::default();
    let begun = tokio::time::Instant::now();
    serve(Client::new(service, "default"), &known, std::future::ready(())).await;
    assert!(begun.elapsed() < Duration::from_secs(2));
}
