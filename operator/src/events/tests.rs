use serde_json::json;

use super::scripted::{Answer, Scripted, failure};
use super::*;

fn pod() -> About {
    About::Pod { name: ("team".to_owned(), "web".to_owned()), uid: "u1".to_owned() }
}

fn normal(about: About) -> Event {
    Event::normal(about, "AddedInterface", "Attach", "Added net1".to_owned())
}

fn warning(about: About) -> Event {
    Event::warning(about, "DetachFailed", "Detach", "no".to_owned())
}

fn counted(metrics: &Metrics, outcome: Outcome) -> u64 {
    metrics.events.get_or_create(&ByOutcome { outcome }).get()
}

/// A running writer, and where events are handed in.
fn writing(api: &Scripted) -> (Sender, Arc<Metrics>) {
    let metrics = Arc::new(Metrics::default());
    let (sender, receiver) = channel(PodEvents::All, Arc::clone(&metrics));
    tokio::spawn(run(api.client(), "n1".to_owned(), receiver, Arc::clone(&metrics)));
    (sender, metrics)
}

/// Lets time pass; the clock of these tests is not the world's.
async fn pass(seconds: u64) {
    sleep(Duration::from_secs(seconds)).await;
}

#[test]
fn pods_get_the_events_that_are_asked_for_and_nodes_all() {
    for (which, event, expected) in [
        (PodEvents::All, normal(pod()), true),
        (PodEvents::All, warning(pod()), true),
        (PodEvents::Problems, normal(pod()), false),
        (PodEvents::Problems, warning(pod()), true),
        (PodEvents::None, warning(pod()), false),
        (PodEvents::None, warning(About::Node), true),
    ] {
        assert_eq!(wanted(which, &event), expected, "{which:?} {event:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_is_created_beside_its_pod() {
    let api = Scripted::new([]);
    let (sender, metrics) = writing(&api);
    sender.send(normal(pod()));
    let asked = &api.asked(1).await[0];
    assert_eq!(
        (asked.method.as_str(), asked.path.as_str()),
        ("POST", "/apis/events.k8s.io/v1/namespaces/team/events")
    );
    assert_eq!(asked.body["note"], "Added net1");
    pass(1).await;
    assert_eq!(counted(&metrics, Outcome::ok), 1);
}

#[tokio::test(start_paused = true)]
async fn an_event_is_tried_again_and_made_once() {
    // The second try finds what the first has made.
    let api = Scripted::new([Answer::Hangs, failure(409, json!({}))]);
    let (sender, metrics) = writing(&api);
    sender.send(normal(pod()));
    let asked = api.asked(2).await;
    assert_eq!(asked[0].body["metadata"]["name"], asked[1].body["metadata"]["name"]);
    assert!(asked[1].at - asked[0].at >= LONGEST);
    pass(60).await;
    assert_eq!(api.count(), 2);
    assert_eq!((counted(&metrics, Outcome::ok), counted(&metrics, Outcome::failed)), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn an_event_that_cannot_be_written_is_dropped_and_the_next_one_goes() {
    for (answers, tries) in [
        (vec![failure(403, json!({}))], 1),
        (vec![failure(422, json!({}))], 1),
        (vec![failure(409, json!({}))], 1),
        (vec![failure(500, json!({})), Answer::Text(502, "bad gateway"), failure(503, json!({}))], 3),
    ] {
        let api = Scripted::new(answers);
        let (sender, metrics) = writing(&api);
        sender.send(normal(pod()));
        sender.send(warning(pod()));
        let asked = api.asked(tries + 1).await;
        assert_eq!(asked[tries].body["reason"], "DetachFailed");
        pass(60).await;
        assert_eq!((counted(&metrics, Outcome::ok), counted(&metrics, Outcome::failed)), (1, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_burst_is_bounded_and_what_does_not_fit_is_counted() {
    let api = Scripted::new([]);
    let (sender, metrics) = writing(&api);
    for _ in 0..QUEUE + 10 {
        sender.send(normal(pod()));
    }
    assert_eq!(counted(&metrics, Outcome::failed), 10);
    let asked = api.asked(QUEUE).await;
    assert_eq!(asked[99].at, asked[0].at, "a hundred at once");
    let rest = u32::try_from(QUEUE - 100).unwrap();
    assert!(asked[QUEUE - 1].at - asked[0].at >= Duration::from_millis(50) * rest);
}
