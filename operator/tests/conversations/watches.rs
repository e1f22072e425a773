//! Watches other than the node role's networks: they outlive the same things.

use std::sync::Arc;
use std::time::Duration;

use cni::npwg::NetworkRef;
use operator::controller::webhook::networks::{self, Networks, Seen};
use operator::known::Known;
use operator::metrics::Metrics;
use operator::node::pods;
use serde_json::{Value, json};
use store::NodeDirectory;
use tokio::time::{sleep, timeout};

use super::server::{Answer, Server, expired, nad};

const LONG: Duration = Duration::from_secs(30);

/// Looks at a condition until it holds.
async fn until(what: &str, server: &Server, holds: impl Fn() -> bool) {
    let looking = async {
        while !holds() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(timeout(LONG, looking).await.is_ok(), "{what}: asked {:?}", server.asked());
}

fn pod(name: &str, version: u64) -> Value {
    json!({
        "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
        "metadata": {"namespace": "default", "name": name, "uid": name, "resourceVersion": version.to_string()},
    })
}

/// What ends a watch for its version: an event, or the answer itself.
fn ends() -> [Answer; 2] {
    [Answer::Watch(vec![expired()]), Answer::Failure(410, &[])]
}

#[tokio::test]
async fn a_watch_of_pods_whose_version_is_too_old_is_made_up_for_by_a_list() {
    for end in ends() {
        let lists = vec![Answer::List(5, vec![pod("a", 1)]), Answer::List(9, vec![pod("b", 7)])];
        let server = Server::start(lists, vec![end.clone()]).await;
        let temp = tempfile::tempdir().unwrap();
        let dir = NodeDirectory::new(temp.path().join("run"), temp.path().join("state"));
        let known: Arc<Known> = Arc::default();
        let (metrics, _) = Metrics::new();
        let client = server.connect().client;
        tokio::spawn(pods::run(client, "node-1".to_owned(), dir, Arc::clone(&known), metrics));
        let is_b = || known.look().pods.all.keys().map(|(_, name)| name.as_str()).eq(["b"]);
        until(&format!("{end:?}"), &server, is_b).await;
    }
}

#[tokio::test]
async fn the_webhooks_watch_whose_version_is_too_old_is_made_up_for_by_a_list() {
    for end in ends() {
        let lists = vec![Answer::List(5, vec![nad("a", 1)]), Answer::List(9, vec![nad("b", 7)])];
        let server = Server::start(lists, vec![end.clone()]).await;
        let networks: Arc<Networks> = Arc::default();
        let (metrics, _) = Metrics::new();
        tokio::spawn(networks::follow(server.connect().client, Arc::clone(&networks), metrics));
        let [a, b] = ["a", "b"].map(|name| NetworkRef::parse("default", name).unwrap());
        let is_b = || networks.look(&a) == Seen::Missing && networks.look(&b) == Seen::Usable;
        until(&format!("{end:?}"), &server, is_b).await;
    }
}
