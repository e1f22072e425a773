//! The node role's networks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cni::npwg::NetworkRef;
use operator::known::{Known, State};
use operator::metrics::Metrics;
use operator::node::networks;
use operator::permissions::Permissions;
use serde_json::json;
use store::NodeDirectory;
use store::network::RenderedNetwork;
use store::node::NodeFacts;
use store::pod::PodFacts;

use super::server::{Answer, Asked, Server, event, expired, nad};

const LONG: Duration = Duration::from_secs(30);

/// A node role's keeper of networks that talks to a script.
struct Scene {
    server: Server,
    restored: tokio::sync::watch::Receiver<u64>,
    known: Arc<Known>,
    metrics: Arc<Metrics>,
    dir: NodeDirectory,
    _temp: tempfile::TempDir,
}

impl Scene {
    async fn start(lists: Vec<Answer>, watches: Vec<Answer>) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), lists, watches).await
    }

    /// On a node that has been there before.
    async fn start_in(temp: tempfile::TempDir, lists: Vec<Answer>, watches: Vec<Answer>) -> Self {
        Self::beside(Server::start(lists, watches).await, temp)
    }

    fn beside(server: Server, temp: tempfile::TempDir) -> Self {
        let dir = NodeDirectory::new(temp.path().join("run"), temp.path().join("state"));
        let known: Arc<Known> = Arc::default();
        let (metrics, _) = Metrics::new();
        let connection = server.connect();
        let (client, of) = (connection.client, Permissions::default());
        let run = networks::run(client, dir.clone(), of, Arc::clone(&known), Arc::clone(&metrics));
        tokio::spawn(run);
        Self { server, restored: connection.restored, known, metrics, dir, _temp: temp }
    }

    /// Waits until what is known is as `condition` says.
    async fn until(&self, what: &str, condition: impl Fn(&State) -> bool) {
        let mut news = self.known.news();
        let reached = async {
            while !condition(&self.known.look()) {
                news.changed().await.unwrap();
            }
        };
        let reached = tokio::time::timeout(LONG, reached).await;
        assert!(reached.is_ok(), "{what}: {:?}; asked {:?}", self.known.look(), self.server.asked());
    }

    async fn until_networks_are(&self, names: &[&str]) {
        let wanted: Vec<_> = names.iter().map(|name| NetworkRef::parse("default", name).unwrap()).collect();
        self.until(&format!("{names:?}"), |state| {
            state.networks.complete.is_some() && state.networks.all.keys().eq(wanted.iter())
        })
        .await;
        assert_eq!(RenderedNetwork::list(&self.dir).unwrap(), wanted, "the files say the same");
    }
}

#[tokio::test]
async fn what_is_from_before_a_reboot_is_forgotten_before_anything_is_written() {
    let temp = tempfile::tempdir().unwrap();
    let dir = NodeDirectory::new(temp.path().join("run"), temp.path().join("state"));
    let pod = PodFacts {
        namespace: "default".to_owned(),
        name: "web".to_owned(),
        uid: "1".to_owned(),
        annotations: BTreeMap::new(),
    };
    pod.write(&dir).unwrap();
    let now = NodeFacts::complete_now("test");
    NodeFacts { boot_id: "an earlier boot".to_owned(), ..now }.write(&dir).unwrap();
    let scene = Scene::start_in(temp, vec![Answer::List(5, vec![nad("a", 1)])], vec![]).await;
    scene.until_networks_are(&["a"]).await;
    assert!(PodFacts::list(&dir).unwrap().is_empty());
    assert!(NodeFacts::read(&dir).unwrap().is_some());
}

#[tokio::test]
async fn a_watch_that_expires_is_made_up_for_by_a_list_that_also_removes() {
    let scene = Scene::start(
        vec![
            Answer::List(5, vec![nad("a", 1), nad("b", 2)]),
            Answer::List(900, vec![nad("b", 2), nad("c", 7)]),
        ],
        vec![Answer::Watch(vec![expired()])],
    )
    .await;
    scene.until_networks_are(&["b", "c"]).await;
    assert!(scene.metrics.watch_errors.get() >= 1, "it is counted");
}

#[tokio::test]
async fn a_watch_that_cannot_be_resumed_for_its_version_lists_anew() {
    let scene = Scene::start(
        vec![Answer::List(5, vec![nad("a", 1)]), Answer::List(9, vec![nad("c", 7)])],
        vec![Answer::Failure(410, &[])],
    )
    .await;
    scene.until_networks_are(&["c"]).await;
}

#[tokio::test]
async fn a_watch_that_ends_is_resumed_where_it_was_without_a_list() {
    let scene = Scene::start(
        vec![Answer::List(5, vec![nad("a", 1)])],
        vec![
            Answer::Watch(vec![event("ADDED", &nad("b", 6))]),
            Answer::Open(vec![event("DELETED", &nad("a", 7))]),
        ],
    )
    .await;
    scene.until_networks_are(&["b"]).await;
    let asked = scene.server.asked();
    assert_eq!(asked.iter().filter(|asked| !asked.is_watch()).count(), 1, "{asked:?}");
    assert!(asked.iter().any(|asked| asked.query.contains("resourceVersion=6")), "{asked:?}");
}

#[tokio::test]
async fn an_event_that_is_cut_off_is_not_taken_and_comes_again() {
    let whole = event("ADDED", &nad("b", 6));
    let (half, _) = whole.split_at(whole.len() / 2);
    let scene = Scene::start(
        vec![Answer::List(5, vec![nad("a", 1)])],
        vec![Answer::Watch(vec![half.to_owned()]), Answer::Open(vec![whole.clone()])],
    )
    .await;
    scene.until_networks_are(&["a", "b"]).await;
}

#[tokio::test]
async fn a_line_that_is_no_event_ends_neither_the_watch_nor_the_process() {
    let scene = Scene::start(
        vec![Answer::List(5, vec![nad("a", 1)]), Answer::List(6, vec![nad("a", 1), nad("b", 6)])],
        vec![
            Answer::Watch(vec!["<html>gateway</html>\n".to_owned()]),
            Answer::Open(vec![event("ADDED", &nad("b", 6))]),
        ],
    )
    .await;
    scene.until_networks_are(&["a", "b"]).await;
    assert!(scene.metrics.watch_errors.get() >= 1);
}

#[tokio::test]
async fn an_event_of_an_object_that_cannot_be_read_is_reported_and_the_next_is_taken() {
    let mut odd = nad("odd", 6);
    odd["spec"] = json!({"config": 5});
    let scene = Scene::start(
        vec![Answer::List(5, Vec::new())],
        vec![Answer::Open(vec![event("ADDED", &odd), event("ADDED", &nad("b", 7))])],
    )
    .await;
    scene.until_networks_are(&["b", "odd"]).await;
    assert_eq!(scene.metrics.undecodable_objects.get(), 1);
}

#[tokio::test]
async fn an_overloaded_server_is_asked_again_no_sooner_than_it_says_and_once_each_time() {
    let busy = Answer::Failure(429, &[("retry-after", "1")]);
    let lists = vec![busy.clone(), busy, Answer::List(5, vec![nad("a", 1)])];
    let scene = Scene::start(lists, Vec::new()).await;
    scene.until_networks_are(&["a"]).await;
    let lists: Vec<_> = scene.server.asked().into_iter().filter(|asked| !asked.is_watch()).collect();
    assert_eq!(lists.len(), 3, "{lists:?}");
    for pair in lists.windows(2) {
        let pause = pair[1].at - pair[0].at;
        assert!((Duration::from_secs(1)..Duration::from_secs(4)).contains(&pause), "{pause:?}");
    }
    assert_eq!(scene.metrics.watch_errors.get(), 0, "a short pause is nobody's trouble");
}

#[tokio::test]
async fn a_server_that_asks_for_a_long_pause_is_told_of_and_not_asked_for_anything() {
    let scene = Scene::start(vec![Answer::Failure(429, &[("retry-after", "60")])], Vec::new()).await;
    scene.until("it is told", |state| state.networks.problem.is_some()).await;
    // Its own retry comes after 2 s at the latest, and is answered in the server's place.
    scene
        .until("it has been tried again", |state| {
            state.networks.problem.as_ref().is_some_and(|problem| problem.contains("asked not to be asked"))
        })
        .await;
    assert_eq!(scene.server.asked().len(), 1, "{:?}", scene.server.asked());
}

#[tokio::test]
async fn a_watch_from_a_version_that_the_server_has_no_longer_reached_lists_anew() {
    let lists =
        vec![Answer::List(1000, vec![nad("a", 1), nad("b", 900)]), Answer::List(50, vec![nad("a", 1)])];
    // The first watch ends as when the API server stops; then etcd is an older one.
    let watches = vec![Answer::Watch(vec![event("ADDED", &nad("c", 1005))])];
    let versions = [1000, 50, 50].map(|version| Answer::List(version, Vec::new()));
    let server = Server::start_at(lists, watches, versions.into()).await;
    let scene = Scene::beside(server, tempfile::tempdir().unwrap());
    scene.until_networks_are(&["a"]).await;
    assert!(scene.restored.has_changed().unwrap(), "who has to do something about it is told");
    let asked = scene.server.asked();
    assert!(!asked.iter().any(|asked| asked.query.contains("resourceVersion=1005")), "{asked:?}");
}

#[tokio::test]
async fn a_watch_does_not_go_on_before_a_server_that_is_busy_says_its_present_version() {
    for busy in [Answer::Failure(503, &[]), Answer::Failure(429, &[("retry-after", "1")])] {
        let lists = vec![Answer::List(1000, vec![nad("a", 1)]), Answer::List(50, vec![nad("b", 1)])];
        let watches = vec![Answer::Watch(vec![event("ADDED", &nad("c", 1005))])];
        let at = |version| Answer::List(version, Vec::new());
        let server = Server::start_at(lists, watches, vec![at(1000), busy, at(50), at(50)]).await;
        let scene = Scene::beside(server, tempfile::tempdir().unwrap());
        scene.until("it is told", |state| state.networks.problem.is_some()).await;
        scene.until_networks_are(&["b"]).await;
        let asked = scene.server.asked();
        assert!(!asked.iter().any(|asked| asked.query.contains("resourceVersion=1005")), "{asked:?}");
    }
}

#[tokio::test]
async fn a_watch_that_falls_silent_is_resumed_and_nobody_is_troubled() {
    let scene = Scene::start(
        vec![Answer::List(5, vec![nad("a", 1)])],
        vec![Answer::Open(Vec::new()), Answer::Open(vec![event("ADDED", &nad("b", 6))])],
    )
    .await;
    scene.until_networks_are(&["a", "b"]).await;
    assert_eq!(scene.metrics.watch_errors.get(), 0);
    assert_eq!(scene.server.asked().iter().filter(|asked| !asked.is_watch()).count(), 1, "no list");
}

#[tokio::test]
async fn errors_are_told_and_forgotten_once_the_server_answers() {
    let scene = Scene::start(
        vec![Answer::Failure(500, &[]), Answer::Failure(403, &[]), Answer::List(5, vec![nad("a", 1)])],
        Vec::new(),
    )
    .await;
    scene
        .until("the error is told", |state| {
            state.networks.problem.as_ref().is_some_and(|problem| problem.contains("as the script says"))
        })
        .await;
    scene.until_networks_are(&["a"]).await;
    scene.until("the error is over", |state| state.networks.problem.is_none()).await;
}

#[tokio::test]
async fn a_silent_server_is_given_up_and_asked_anew() {
    let scene =
        Scene::start(vec![Answer::Silence, Answer::List(5, vec![nad("a", 1)])], vec![Answer::Silence]).await;
    scene.until_networks_are(&["a"]).await;
}

#[tokio::test]
async fn a_list_that_would_fill_the_memory_is_given_up_and_comes_in_pages() {
    let mut long = nad("long", 1);
    long["metadata"]["labels"] = json!({"x": "x".repeat(9 << 20)});
    let scene = Scene::start(
        vec![
            Answer::List(5, vec![long.clone(), nad("a", 1)]),
            Answer::Page(5, vec![long], "more"),
            Answer::List(5, vec![nad("a", 1)]),
            Answer::List(7, vec![nad("a", 1)]),
        ],
        vec![Answer::Watch(vec![expired()])],
    )
    .await;
    scene
        .until("it is told", |state| {
            let problem = state.networks.problem.as_deref().unwrap_or_default();
            problem.contains("longer than 8 MiB; asking for a few at a time")
        })
        .await;
    scene.until("the pages are there", |state| state.networks.all.len() == 2).await;
    scene.until_networks_are(&["a"]).await;
    let lists: Vec<_> = scene.server.asked().into_iter().filter(|asked| !asked.is_watch()).collect();
    let [whole, first, second, anew] = &lists[..] else { panic!("{lists:?}") };
    let has = |asked: &Asked, parameter: &str| asked.query.split('&').any(|one| one == parameter);
    assert!(has(whole, "resourceVersion=0"), "{whole:?}");
    for page in [first, second, anew] {
        assert!(has(page, "limit=5") && !has(page, "resourceVersion=0"), "{page:?}");
    }
    assert!(has(second, "continue=more"), "{second:?}");
}
