use std::time::Duration;

use prometheus_client::registry::Registry;
use serde_json::json;
use store::record::{Phase, PodIdentity, RecordKey};
use tokio::time::sleep;

use super::*;
use crate::args::PodEvents;
use crate::events::scripted::{Answer, Scripted, failure};
use crate::events::{About, Event, Receiver, channel};
use crate::known::{Attachment, DetachFailure, Pod, Record, text_hash};

fn key(id: &str) -> RecordKey {
    RecordKey {
        container_id: cni::ContainerId::parse(id).unwrap(),
        if_name: cni::IfName::parse("eth0").unwrap(),
    }
}

fn attachment(interface: &str, network: &str, addresses: &[&str]) -> Attachment {
    Attachment {
        network: network.to_owned(),
        interface: interface.to_owned(),
        delegate: "bridge".to_owned(),
        addresses: addresses.iter().copied().map(str::to_owned).collect(),
        add_us: None,
        complaint: None,
    }
}

/// An attached record of the pod `default/<name>` with a secondary network.
fn record(name: &str, uid: &str) -> Record {
    Record {
        phase: Phase::Attached,
        pod: Some(PodIdentity {
            namespace: "default".to_owned(),
            name: name.to_owned(),
            uid: Some(uid.to_owned()),
        }),
        created_ms: 1,
        attachments: vec![
            attachment("eth0", "cluster", &["10.244.0.5/24", "fd00::5/64"]),
            attachment("net1", "default/storage", &[]),
        ],
        network_status: Some("[status]".to_owned()),
        failure: None,
        abandoned: None,
    }
}

/// The role's task on a scripted API server.
struct Node {
    api: Scripted,
    known: Arc<Known>,
    metrics: Arc<Metrics>,
    registry: Registry,
    events: Receiver,
}

impl Node {
    fn new(answers: impl IntoIterator<Item = Answer>) -> Self {
        let (api, known) = (Scripted::new(answers), Arc::new(Known::default()));
        let (metrics, registry) = Metrics::new();
        known.tell(|state: &mut crate::known::State| {
            state.records.complete = true;
            true
        });
        let (sender, events) = channel(PodEvents::All, Arc::clone(&metrics));
        tokio::spawn(run(api.client(), Arc::clone(&known), Arc::clone(&metrics), sender));
        Self { api, known, metrics, registry, events }
    }

    /// A pod `default/<name>` and its attached container, of the same id.
    fn pod(&self, name: &str, uid: &str) {
        self.known.tell(|state| {
            let pod = Pod { uid: uid.to_owned(), mirrors: None, network_status: None, created_ms: None };
            state.pods.all.insert(("default".to_owned(), name.to_owned()), pod);
            state.records.all.insert(key(name), record(name, uid));
            true
        });
    }

    /// The watch of pods shows what was patched.
    fn shows(&self, name: &str) {
        self.known.tell(|state| {
            let pod = state.pods.all.get_mut(&("default".to_owned(), name.to_owned())).unwrap();
            pod.network_status = Some(text_hash("[status]"));
            true
        });
    }

    fn edit(&self, id: &str, edit: impl FnOnce(&mut Record)) {
        self.known.tell(|state| {
            edit(state.records.all.get_mut(&key(id)).unwrap());
            true
        });
    }

    fn counts(&self) -> [u64; 4] {
        [Outcome::ok, Outcome::moot, Outcome::retried, Outcome::failed]
            .map(|outcome| self.metrics.network_status_patches.get_or_create(&ByOutcome { outcome }).get())
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.events.try_recv().ok()).collect()
    }
}

/// Lets time pass; the clock of these tests is not the world's.
async fn pass(seconds: u64) {
    sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_gets_one_merge_patch_that_its_uid_guards_and_one_event() {
    let mut node = Node::new([]);
    node.pod("web", "u1");
    let asked = node.api.asked(1).await.remove(0);
    assert_eq!(
        (asked.method.as_str(), asked.path.as_str()),
        ("PATCH", "/api/v1/namespaces/default/pods/web/status")
    );
    assert_eq!(asked.content_type, "application/merge-patch+json");
    assert!(asked.accept.contains("as=PartialObjectMetadata"), "{}", asked.accept);
    let expected = json!({"metadata": {
        "uid": "u1", "annotations": {"k8s.v1.cni.cncf.io/network-status": "[status]"},
    }});
    assert_eq!(asked.body, expected);
    pass(1).await;
    node.shows("web");
    pass(3600).await;
    assert_eq!(node.api.count(), 1, "no reads, and no second patch");
    assert_eq!(node.counts(), [1, 0, 0, 0]);
    let about = About::Pod { name: ("default".to_owned(), "web".to_owned()), uid: "u1".to_owned() };
    let text = "Added eth0 [10.244.0.5/24, fd00::5/64] from cluster, net1 [] from default/storage".to_owned();
    assert_eq!(node.events(), [Event::normal(about, "AddedInterface", "Attach", text)]);
}

fn cannot_undo(message: &str, attempts: u32) -> DetachFailure {
    DetachFailure { message: message.to_owned(), attempts, since_ms: 0 }
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_has_its_status_since_a_former_process_is_left_alone() {
    let mut node = Node::new([]);
    node.known.tell(|state| {
        let network_status = Some(text_hash("[status]"));
        let pod = Pod { uid: "u1".to_owned(), mirrors: None, network_status, created_ms: None };
        state.pods.all.insert(("default".to_owned(), "web".to_owned()), pod);
        let failed = Record { failure: Some(cannot_undo("told before", 3)), ..record("web", "u1") };
        state.records.all.insert(key("web"), failed);
        true
    });
    pass(60).await;
    assert_eq!(node.api.count(), 0);
    assert!(node.events().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_pod_with_its_primary_network_alone_gets_its_status_and_no_event() {
    let mut node = Node::new([]);
    node.pod("web", "u1");
    node.edit("web", |record| record.attachments.truncate(1));
    node.api.asked(1).await;
    pass(1).await;
    node.known.tell(|state| state.records.all.remove(&key("web")).is_some());
    pass(1).await;
    assert!(node.events().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_gone_or_another_one_is_left_to_the_watch() {
    let uid = json!({"causes": [{"field": "metadata.uid", "message": "immutable"}]});
    for answer in [failure(404, json!({})), failure(409, json!({})), failure(422, uid)] {
        let mut node = Node::new([answer]);
        node.pod("web", "u1");
        node.api.asked(1).await;
        pass(30).await;
        assert_eq!(node.counts(), [0, 1, 0, 0]);
        assert_eq!(node.api.count(), 1);
        assert!(node.events().is_empty());
        // The watch shows the pod that has the name now, and its own sandbox.
        node.pod("web", "u2");
        let asked = node.api.asked(2).await;
        assert_eq!(asked[1].body["metadata"]["uid"], "u2");
    }
}

#[tokio::test(start_paused = true)]
async fn what_may_go_better_later_is_tried_again_until_it_holds() {
    let asks = |seconds: u32| failure(429, json!({"retryAfterSeconds": seconds}));
    for (what, answers, at_least) in [
        ("429", vec![asks(20)], vec![20]),
        ("429 of a proxy", vec![Answer::Text(429, "slow down")], vec![1]),
        (
            "500s",
            vec![failure(500, json!({})), failure(500, json!({})), failure(500, json!({}))],
            vec![1, 2, 4],
        ),
        ("403", vec![failure(403, json!({}))], vec![1]),
        ("hang", vec![Answer::Hangs], vec![11]),
    ] {
        let mut node = Node::new(answers);
        node.pod("web", "u1");
        let asked = node.api.asked(at_least.len() + 1).await;
        for (index, seconds) in at_least.iter().enumerate() {
            let wait = asked[index + 1].at - asked[index].at;
            assert!(wait >= Duration::from_secs(*seconds), "{what}: {wait:?}");
            assert!(wait <= Duration::from_secs(seconds * 2 + 1), "{what}: {wait:?}");
        }
        pass(1).await;
        assert_eq!(node.counts(), [1, 0, at_least.len() as u64, 0], "{what}");
        assert_eq!(node.events().len(), 1, "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_server_refuses_is_not_offered_again_soon() {
    let node = Node::new([failure(422, json!({}))]);
    node.pod("web", "u1");
    node.api.asked(1).await;
    pass(300).await;
    assert_eq!((node.api.count(), node.counts()), (1, [0, 0, 0, 1]));
    let asked = node.api.asked(2).await;
    assert!(asked[1].at - asked[0].at >= Duration::from_secs(600));
}

#[tokio::test(start_paused = true)]
async fn so_many_are_under_way_and_one_that_hangs_is_not_in_the_way_of_others() {
    let hang = |_| Answer::Hangs;
    let node = Node::new((0..SIDE_BY_SIDE).map(hang));
    node.known.tell(|_| true);
    for number in 0..SIDE_BY_SIDE + 4 {
        node.pod(&format!("p{number:02}"), "u1");
    }
    let first = node.api.asked(SIDE_BY_SIDE).await;
    pass(9).await;
    assert_eq!(node.api.count(), SIDE_BY_SIDE, "no more at once");
    let asked = node.api.asked(SIDE_BY_SIDE + 4).await;
    let mut late: Vec<_> = asked[SIDE_BY_SIDE..].iter().map(|asked| asked.path.clone()).collect();
    late.dedup();
    assert_eq!(late.len(), 4);
    assert!(late.iter().all(|path| first.iter().all(|it| it.path != *path)), "those that were not tried yet");
}

#[tokio::test(start_paused = true)]
async fn what_went_away_and_what_cannot_be_undone_is_told_while_the_pod_exists() {
    let mut node = Node::new([]);
    for name in ["web", "gone"] {
        node.pod(name, "u1");
    }
    node.api.asked(2).await;
    pass(1).await;
    assert_eq!(node.events().len(), 2);
    node.known.tell(|state| state.pods.all.remove(&("default".to_owned(), "gone".to_owned())).is_some());
    let fail = |node: &Node, id: &str, message: &str, attempts| {
        node.edit(id, |record| {
            record.phase = Phase::Deleting;
            record.network_status = None;
            record.failure = Some(cannot_undo(message, attempts));
        });
    };
    for id in ["web", "gone"] {
        fail(&node, id, "a cannot DEL", 1);
    }
    pass(1).await;
    fail(&node, "web", "a cannot DEL", 2);
    pass(1).await;
    fail(&node, "web", "b cannot DEL", 3);
    pass(1).await;
    node.known.tell(|state| {
        state.records.all.clear();
        true
    });
    pass(1).await;
    let told: Vec<_> = node.events().into_iter().map(|event| (event.reason, event.note)).collect();
    let expected = [
        (
            "DetachFailed",
            "container web: a cannot DEL; it is tried again. if it can never succeed: `meta-cni give-up web` on this node",
        ),
        (
            "DetachFailed",
            "container web: b cannot DEL; it is tried again. if it can never succeed: `meta-cni give-up web` on this node",
        ),
        (
            "RemovedInterface",
            "Removed eth0 [10.244.0.5/24, fd00::5/64] from cluster, net1 [] from default/storage",
        ),
    ];
    assert_eq!(told, expected.map(|(reason, note)| (reason, note.to_owned())));
}

#[tokio::test(start_paused = true)]
async fn a_record_that_cannot_be_read_for_a_while_has_not_gone_away() {
    let mut node = Node::new([]);
    node.pod("web", "u1");
    node.api.asked(1).await;
    pass(1).await;
    node.shows("web");
    node.events();
    let record = node.known.look().records.all[&key("web")].clone();
    node.known.tell(|state| {
        state.records.all.clear();
        state.records.unreadable.insert(key("web"), "damaged".to_owned()).is_none()
    });
    pass(1).await;
    node.known.tell(|state| {
        state.records.unreadable.clear();
        state.records.all.insert(key("web"), record).is_none()
    });
    pass(1).await;
    assert!(node.events().is_empty());
    assert_eq!(node.api.asked(1).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_patch_that_fails_is_a_failed_request_and_one_of_a_pod_that_is_gone_is_not() {
    let answers = [failure(429, json!({})), Answer::Hangs, failure(403, json!({})), failure(404, json!({}))];
    let node = Node::new(answers);
    node.pod("web", "u1");
    node.api.asked(4).await;
    pass(1).await;
    let mut printed = String::new();
    prometheus_client::encoding::text::encode(&mut printed, &node.registry).unwrap();
    for code in ["429", "connection", "403"] {
        assert!(printed.contains(&format!("api_errors_total{{code=\"{code}\"}} 1\n")), "{code}: {printed}");
    }
    assert!(!printed.contains("code=\"404\""), "{printed}");
}
