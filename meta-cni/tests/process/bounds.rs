//! What one pod may ask of a node, and what cannot be its primary.

use std::fs;
use std::time::Instant;

use serde_json::json;

use crate::harness::{LONG, Node};

#[test]
fn too_many_networks_are_refused_before_anything_is_looked_for() {
    let mut node = Node::with(&["a"]);
    // What is not there would be waited for.
    node.set(json!({"networkWait": "30s", "readinessWait": "30s", "maxAttachments": 3}));
    let begun = Instant::now();
    for (annotation, asked) in [
        ("absent,absent,absent,absent".to_owned(), 4),
        (json!(vec![json!({"name": "absent"}); 5]).to_string(), 5),
        (vec!["a"; 100_000].join(","), 100_000),
        (format!("[{}{{\"name\":\"a\"}}]", "{\"a\":[{}]},".repeat(99_999)), 100_000),
    ] {
        let error = node.add("c1").networks(&annotation).error();
        let expected = format!(
            "asks for {asked} networks, and one pod may have 3 (setting \"maxAttachments\"); ask for fewer, or let the \
             administrator of Braid raise that setting"
        );
        assert!(error.code.0 == 7 && error.msg.ends_with(&expected), "{error}");
    }
    assert!(begun.elapsed() < LONG, "{:?}", begun.elapsed());
    assert!(node.calls().is_empty() && node.leftovers().is_empty());
    node.add("c2").networks("a,a@x,a@y").result();
    assert_eq!(node.done().len(), 4, "the primary does not count");
}

#[test]
fn a_configuration_that_makes_no_interface_is_not_taken_for_the_primary() {
    let mut node = Node::new();
    fs::remove_file(node.path("net.d/10-cluster.conflist")).unwrap();
    node.set(json!({"clusterNetwork": null, "multusAutoconfigDir": node.path("net.d")}));
    node.install("loopback");
    node.write("net.d/200-loopback.conf", &json!({"cniVersion": "1.0.0", "name": "lo", "type": "loopback"}));
    let passed = "200-loopback.conf was passed over: plugin \"loopback\" sets up \"lo\" and makes no eth0";
    let error = node.add("c1").error();
    assert!(error.code.0 == 11 && error.msg.contains(passed), "{error}");
    let error = node.status().error();
    assert!(error.code.0 == 50 && error.msg.contains(passed), "{error}");
    assert!(node.calls().is_empty() && node.leftovers().is_empty());
    node.cluster(json!({"plugins": [{"type": "primary"}]}));
    node.add("c1").result();
    assert_eq!(node.done(), ["ADD primary eth0"]);
}
