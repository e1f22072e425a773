use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::SystemTime;

use cni::npwg::NetworkRef;
use cni::{ContainerId, IfName};
use http::{Request, Response};
use kube::client::Body;
use serde_json::Value;
use store::record::{Phase, PodIdentity, RecordKey};

use super::*;
use crate::known::{self, Attachment, Fate, Network, Primary, Record};

fn network(name: &str) -> NetworkRef {
    NetworkRef::parse("default", name).unwrap()
}

fn record(phase: Phase, networks: &[&str]) -> Record {
    let attachment = |(index, name): (usize, &&str)| Attachment {
        network: (*name).to_owned(),
        interface: format!("net{index}"),
        delegate: "bridge".to_owned(),
        addresses: Vec::new(),
        add_us: None,
        complaint: None,
    };
    Record {
        phase,
        pod: Some(PodIdentity { namespace: "default".to_owned(), name: "web".to_owned(), uid: None }),
        created_ms: 0,
        attachments: networks.iter().enumerate().map(attachment).collect(),
        network_status: None,
        failure: None,
        abandoned: None,
    }
}

fn key(id: &str) -> RecordKey {
    RecordKey { container_id: ContainerId::parse(id).unwrap(), if_name: IfName::parse("eth0").unwrap() }
}

fn state() -> State {
    let mut state = State { boot_id: "b1".to_owned(), ..State::default() };
    let all = &mut state.networks.all;
    all.insert(network("storage"), Network { generation: Some(3), fate: Fate::Usable });
    all.insert(network("wrong"), Network { generation: Some(1), fate: Fate::Invalid("no type".to_owned()) });
    state.networks.complete = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000));
    state.primary = Primary::Found {
        name: "cbr0".to_owned(),
        file: "/etc/cni/net.d/10-flannel.conflist".to_owned(),
        plugins: vec!["flannel".to_owned(), "portmap".to_owned()],
        of_multus: Vec::new(),
    };
    let storage = "default/storage";
    state.records.all.insert(key("a"), record(Phase::Attached, &["cbr0", storage, storage]));
    state.records.all.insert(key("b"), record(Phase::Attached, &["cbr0", storage]));
    state.records.all.insert(key("c"), record(Phase::Deleting, &["cbr0", storage]));
    let abandoned = Record { abandoned: Some("gone".to_owned()), ..record(Phase::Attached, &["cbr0"]) };
    state.records.all.insert(key("d"), abandoned);
    state
}

#[test]
fn the_report_says_what_is_known() {
    let report = serde_json::to_value(content(&state(), &[], None)).unwrap();
    assert_eq!(report["networks"], json!({"default/storage": 3}));
    assert_eq!(
        report["refused"],
        json!([{"network": "default/wrong", "generation": 1, "reason": "Invalid", "message": "no type"}])
    );
    assert_eq!(
        report["attachments"],
        json!({"pods": 2, "networks": {"default/storage": 2}, "unfinished": 1, "abandoned": 1})
    );
    assert_eq!(report["primary"]["plugins"], json!(["flannel", "portmap"]));
    assert_eq!(report["lastCompleteSync"], "1970-01-12T13:46:40Z");
    assert_eq!(report["conditions"][0]["status"], "True");
    assert_eq!(report["bootID"], "b1");
}

#[test]
fn a_node_that_is_not_ready_says_why_and_since_when() {
    let mut before = content(&state(), &["primary: there is none".to_owned()], None);
    before.conditions[0].last_transition_time =
        serde_json::from_value(json!("2020-01-01T00:00:00Z")).unwrap();
    let still = content(&state(), &["plugin: no space".to_owned()], Some(&before));
    assert_eq!(still.conditions[0].message, "plugin: no space");
    assert_eq!(still.conditions[0].last_transition_time, before.conditions[0].last_transition_time);
    let ready = content(&state(), &[], Some(&before));
    assert_ne!(ready.conditions[0].last_transition_time, before.conditions[0].last_transition_time);
}

#[test]
fn time_alone_is_no_news() {
    let mut state = state();
    let before = content(&state, &[], None);
    state.networks.complete = Some(SystemTime::now());
    assert!(!differ(&before, &content(&state, &[], Some(&before))));
    state.records.all.clear();
    assert!(differ(&before, &content(&state, &[], Some(&before))));
}

#[test]
fn the_report_names_what_could_not_be_undone_for_the_longest_time() {
    let mut state = state();
    for number in 0..12_u32 {
        let since_ms = u64::from(100 - number) * 1000;
        let failure = known::DetachFailure { message: "x".repeat(5000), attempts: number, since_ms };
        let record = Record { failure: Some(failure), ..record(Phase::Deleting, &["cbr0"]) };
        state.records.all.insert(key(&format!("f{number}")), record);
    }
    let before = content(&state, &[], None);
    assert_eq!(before.detach_failures.len(), 10);
    let first = serde_json::to_value(&before.detach_failures[0]).unwrap();
    assert_eq!((&first["record"], &first["pod"]), (&json!("f11"), &json!("default/web")));
    assert_eq!((&first["since"], &first["attempts"]), (&json!("1970-01-01T00:01:29Z"), &json!(11)));
    assert!(before.detach_failures.iter().all(|failure| failure.message.chars().count() <= 301));
    // One more attempt is not worth a request to the API server.
    for record in state.records.all.values_mut() {
        record.failure.iter_mut().for_each(|failure| failure.attempts += 1);
    }
    assert!(!differ(&before, &content(&state, &[], Some(&before))));
}

/// An API server that answers with the given codes, then with 200, and keeps what it was sent. A patch that changes
/// nothing finds the report.
fn server(codes: &[u16]) -> (Client, Arc<Mutex<Vec<Value>>>) {
    let seen: Arc<Mutex<Vec<Value>>> = Arc::default();
    let (kept, codes) = (Arc::clone(&seen), Mutex::new(VecDeque::from(codes.to_vec())));
    let codes = Arc::new(codes);
    let service = tower::service_fn(move |request: Request<Body>| {
        let (kept, codes) = (Arc::clone(&kept), Arc::clone(&codes));
        async move {
            assert_eq!(request.method(), "PATCH");
            let bytes = request.into_body().collect_bytes().await.unwrap();
            let body: Value = serde_json::from_slice(&bytes).unwrap();
            if body == json!({}) {
                return Ok(found());
            }
            let code = codes.lock().unwrap().pop_front().unwrap_or(200);
            kept.lock().unwrap().push(body);
            Ok::<_, std::convert::Infallible>(if code == 200 { found() } else { failure(code, "No") })
        }
    });
    (Client::new(service, "default"), seen)
}

/// Nothing is ever restored.
fn occasions(interval: Duration, readiness: Readiness) -> Occasions {
    Occasions { interval, readiness, restored: watch::channel(0).1 }
}

#[tokio::test(start_paused = true)]
async fn a_report_is_written_again_when_the_api_servers_data_has_gone_back() {
    let (client, seen) = server(&[]);
    let (metrics, _) = Metrics::new();
    let (sender, restored) = watch::channel(0);
    let on = Occasions { restored, ..occasions(Duration::from_secs(30), |_| Vec::new()) };
    let run = run(client, "n".to_owned(), on, Arc::default(), metrics);
    let script = async {
        sleep(Duration::from_secs(90)).await;
        assert_eq!(seen.lock().unwrap().len(), 1);
        sender.send_replace(1);
        sleep(Duration::from_secs(31)).await;
        assert_eq!(seen.lock().unwrap().len(), 2);
        sleep(Duration::from_secs(600)).await;
        assert_eq!(seen.lock().unwrap().len(), 2, "once");
    };
    tokio::select! { _ = run => unreachable!(), () = script => {} }
}

fn found() -> Response<Body> {
    let object =
        json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": {"name": "n"}});
    Response::new(Body::from(object.to_string().into_bytes()))
}

fn failure(code: u16, reason: &str) -> Response<Body> {
    let status =
        json!({"kind": "Status", "status": "Failure", "message": "no", "reason": reason, "code": code});
    Response::builder().status(code).body(Body::from(status.to_string().into_bytes())).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_report_is_written_once_and_again_only_for_news_and_not_too_often() {
    let (client, seen) = server(&[]);
    let known: Arc<Known> = Arc::default();
    let (metrics, _) = Metrics::new();
    let interval = Duration::from_secs(30);
    let run = run(
        client,
        "n".to_owned(),
        occasions(interval, |_| Vec::new()),
        Arc::clone(&known),
        Arc::clone(&metrics),
    );
    let script = async {
        sleep(Duration::from_secs(60)).await;
        assert_eq!(seen.lock().unwrap().len(), 1);
        for second in 0..60 {
            known.tell(|state| {
                let network = Network { generation: Some(second), fate: Fate::Usable };
                state.networks.all.insert(network_ref(), network).is_none_or(|_| true)
            });
            sleep(Duration::from_secs(1)).await;
        }
        let written = seen.lock().unwrap().len();
        assert!((2..=4).contains(&written), "{written} writes in two minutes");
        sleep(Duration::from_secs(60)).await;
        assert_eq!(
            seen.lock().unwrap().last().unwrap()["report"]["networks"],
            json!({"default/storage": 59})
        );
    };
    tokio::select! { _ = run => unreachable!(), () = script => {} }
}

/// Ready once all records are known.
fn when_records_are_complete(state: &State) -> Vec<String> {
    if state.records.complete { Vec::new() } else { vec!["records: not read yet".to_owned()] }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_becomes_ready_is_told_soon_however_large_its_report_is() {
    let (client, seen) = server(&[]);
    let known: Arc<Known> = Arc::default();
    a_thousand_networks(&known);
    let (metrics, _) = Metrics::new();
    let interval = Duration::from_secs(30);
    let run = run(
        client,
        "n".to_owned(),
        occasions(interval, when_records_are_complete),
        Arc::clone(&known),
        metrics,
    );
    let status = |at: usize| seen.lock().unwrap()[at]["report"]["conditions"][0]["status"].clone();
    let script = async {
        sleep(Duration::from_secs(31)).await;
        assert_eq!(status(0), "False");
        let ready =
            |ready| known.tell(move |state| std::mem::replace(&mut state.records.complete, ready) != ready);
        ready(true);
        sleep(Duration::from_secs(4)).await;
        assert_eq!(status(1), "True");
        // Again and again: not again and again.
        for second in 0..30 {
            ready(second % 2 == 1);
            sleep(Duration::from_secs(1)).await;
        }
        let written = seen.lock().unwrap().len();
        assert!(written <= 3, "{written} reports of a node that flaps");
    };
    tokio::select! { _ = run => unreachable!(), () = script => {} }
}

#[test]
fn large_reports_are_written_more_rarely() {
    let interval = Duration::from_secs(30);
    assert_eq!(pause(interval, 1_000), interval);
    assert_eq!(pause(interval, 36_000), Duration::from_secs(360));
}

/// Many networks: their report takes many intervals' share.
fn a_thousand_networks(known: &Known) {
    known.tell(|state| {
        for number in 0..1000 {
            let network = Network { generation: Some(1), fate: Fate::Usable };
            state.networks.all.insert(self::network(&format!("network-{number}")), network);
        }
        true
    });
}

#[tokio::test(start_paused = true)]
async fn after_a_large_report_the_next_waits_for_as_many_intervals_as_it_took() {
    let (client, seen) = server(&[]);
    let known: Arc<Known> = Arc::default();
    a_thousand_networks(&known);
    let (metrics, _) = Metrics::new();
    let interval = Duration::from_secs(30);
    let run = run(client, "n".to_owned(), occasions(interval, |_| Vec::new()), Arc::clone(&known), metrics);
    let written = || seen.lock().unwrap().len();
    let script = async {
        sleep(interval).await;
        assert_eq!(written(), 1);
        let bytes = seen.lock().unwrap()[0].to_string().len();
        let pause = interval.mul_f64(f64::from(u32::try_from(bytes).unwrap()) / 3000.0);
        assert!(pause > interval * 8, "{bytes} bytes");
        known.tell(|state| state.networks.all.remove(&self::network("network-0")).is_some());
        // The first one was written within this interval.
        sleep(pause.saturating_sub(interval + Duration::from_secs(1))).await;
        assert_eq!(written(), 1);
        // What is new is spread over an interval.
        sleep(interval * 2).await;
        assert_eq!(written(), 2);
    };
    tokio::select! { _ = run => unreachable!(), () = script => {} }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_ready_at_once_is_told_at_once() {
    // Else it is told at any time within an interval.
    for _ in 0..20 {
        let (client, seen) = server(&[]);
        let (metrics, _) = Metrics::new();
        let on = occasions(Duration::from_secs(30), |_| Vec::new());
        let run = run(client, "n".to_owned(), on, Arc::default(), metrics);
        tokio::select! { _ = run => unreachable!(), () = sleep(Duration::from_secs(4)) => {} }
        assert_eq!(seen.lock().unwrap().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_report_that_was_deleted_is_there_again_within_minutes_and_one_that_is_there_is_not_written() {
    deleted_report(false).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_no_news_for_the_report_does_not_put_the_look_for_it_off() {
    deleted_report(true).await;
}

/// The report of a node is deleted, on which something happens all the time or nothing at all.
async fn deleted_report(stirred: bool) {
    let there = Arc::new(Mutex::new(false));
    let (writes, looks) = (Arc::new(Mutex::new(0)), Arc::new(Mutex::new(0)));
    let kept = (Arc::clone(&there), Arc::clone(&writes), Arc::clone(&looks));
    let service = tower::service_fn(move |request: Request<Body>| {
        let (there, writes, looks) = kept.clone();
        async move {
            let bytes = request.into_body().collect_bytes().await.unwrap();
            let mut there = there.lock().unwrap();
            if bytes.as_ref() == b"{}" {
                *looks.lock().unwrap() += 1;
            } else {
                *writes.lock().unwrap() += 1;
                *there = true;
            }
            let answer = if *there { found() } else { failure(404, "NotFound") };
            Ok::<_, std::convert::Infallible>(answer)
        }
    });
    let (client, known) = (Client::new(service, "default"), Arc::<Known>::default());
    let (metrics, _) = Metrics::new();
    let interval = Duration::from_secs(30);
    let run = run(client, "n".to_owned(), occasions(interval, |_| Vec::new()), Arc::clone(&known), metrics);
    let script = async {
        let stir = async {
            loop {
                known.tell(|_| stirred);
                sleep(Duration::from_secs(7)).await;
            }
        };
        let wait = async {
            sleep(Duration::from_secs(1800)).await;
            assert_eq!(*writes.lock().unwrap(), 1);
            let seen = *looks.lock().unwrap();
            assert!((4..=6).contains(&seen), "{seen} looks in half an hour");
            *there.lock().unwrap() = false;
            sleep(Duration::from_secs(400)).await;
            assert!(*there.lock().unwrap(), "the report is not there again");
            assert_eq!(*writes.lock().unwrap(), 2);
        };
        tokio::select! { () = stir => {} () = wait => {} }
    };
    tokio::select! { _ = run => unreachable!(), () = script => {} }
}

#[tokio::test(start_paused = true)]
async fn a_report_that_says_nothing_new_is_written_again_within_the_hour() {
    let (client, seen) = server(&[]);
    let (metrics, _) = Metrics::new();
    let interval = Duration::from_secs(30);
    let run = run(client, "n".to_owned(), occasions(interval, |_| Vec::new()), Arc::default(), metrics);
    tokio::select! { _ = run => unreachable!(), () = sleep(Duration::from_secs(4 * 3600)) => {} }
    let written = seen.lock().unwrap().len();
    assert!((4..=5).contains(&written), "{written} writes in four hours");
}

fn network_ref() -> NetworkRef {
    network("storage")
}

#[tokio::test(start_paused = true)]
async fn a_write_that_fails_is_repeated_until_it_holds() {
    let (client, seen) = server(&[500, 404, 429]);
    let known: Arc<Known> = Arc::default();
    let (metrics, _) = Metrics::new();
    let interval = Duration::from_secs(1);
    let run = run(
        client,
        "n".to_owned(),
        occasions(interval, |_| Vec::new()),
        Arc::clone(&known),
        Arc::clone(&metrics),
    );
    tokio::select! { _ = run => unreachable!(), () = sleep(Duration::from_secs(300)) => {} }
    let count = |outcome| metrics.reports.get_or_create(&ByOutcome { outcome }).get();
    assert_eq!((count(Outcome::ok), count(Outcome::retried)), (1, 3));
    assert_eq!(seen.lock().unwrap().len(), 4);
}
