//! `attachmentConcurrency`: the secondary attachments side by side, with the same outcome as one by one.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::Node;

/// A node on which `a` and `b` can only be attached side by side: each waits for the other.
fn node_of_two_that_meet() -> Node {
    let node = Node::with(&["a", "b"]);
    let (a, b) = (node.path("a-is-here"), node.path("b-is-here"));
    node.steer("a", "ADD", json!({"make": a, "until": b}));
    node.steer("b", "ADD", json!({"make": b, "until": a}));
    node
}

#[test]
fn attachments_run_side_by_side_only_if_an_administrator_says_so() {
    let mut node = node_of_two_that_meet();
    node.set(json!({"attachmentConcurrency": 2}));
    let result = node.add("c1").networks("a,b").result();
    let names: Vec<_> = result["interfaces"].as_array().unwrap().iter().map(|i| i["name"].clone()).collect();
    assert_eq!(names, ["eth0", "net1", "net2"]);

    let mut node = node_of_two_that_meet();
    node.set(json!({"delegateTimeout": "300ms"}));
    let error = node.add("c1").networks("a,b").error();
    assert!(error.msg.contains("bin/a did not end within 300ms"), "{error}");
}

#[test]
fn the_primary_is_alone_and_results_are_in_the_order_of_the_plan() {
    for concurrency in [2, 8, 64] {
        let mut node = Node::with(&["a", "b", "c"]);
        node.set(json!({"attachmentConcurrency": concurrency}));
        // The first comes last.
        let rest = node.path("b-is-done");
        node.steer("a", "ADD", json!({"until": rest, "result": of("net1", "10.1.0.2/24")}));
        node.steer("b", "ADD", json!({"make": rest, "result": of("net2", "10.2.0.2/24")}));
        node.steer("c", "ADD", json!({"result": of("net3", "10.3.0.2/24")}));
        let result = node.add("c1").networks("a,b,c").result();
        let addresses: Vec<_> =
            result["ips"].as_array().unwrap().iter().map(|i| i["address"].clone()).collect();
        assert_eq!(addresses, ["10.0.0.2/24", "10.1.0.2/24", "10.2.0.2/24", "10.3.0.2/24"]);
        let events = node.events();
        assert_eq!((events[1].at.as_str(), events[1].plugin.as_str()), ("end", "primary"));
        let networks: Vec<_> =
            node.record("c1").unwrap().attachments.iter().map(|a| a.network.clone()).collect();
        assert_eq!(networks, ["cluster", "default/a", "default/b", "default/c"]);
        node.forget();
        node.del("c1").succeed();
        assert_eq!(node.done(), ["DEL c net3", "DEL b net2", "DEL a net1", "DEL primary eth0"]);
    }
}

fn of(name: &str, address: &str) -> Value {
    json!({"interfaces": [{"name": name, "sandbox": "/x"}], "ips": [{"address": address, "interface": 0}]})
}

#[test]
fn of_several_failures_the_first_in_the_plan_is_told_and_all_is_undone_in_reverse() {
    let mut node = Node::with(&["a", "b"]);
    node.set(json!({"attachmentConcurrency": 2}));
    let (a, b) = (node.path("a-is-here"), node.path("b-has-failed"));
    // `a` fails long after `b`.
    node.steer("a", "ADD", json!({"make": a, "until": b, "error": {"code": 101, "msg": "no"}}));
    node.steer("b", "ADD", json!({"until": a, "error": {"code": 102, "msg": "no"}}));
    let running = node.add("c1").networks("a,b").start();
    node.await_events("the failure of b", |events| {
        events.iter().any(|event| event.at == "end" && event.plugin == "b")
    });
    std::fs::write(b, "").unwrap();
    let error = running.answer().error();
    assert_eq!(error.code.0, 101, "{error}");
    assert_eq!(node.done()[3..], ["DEL b net2", "DEL a net1", "DEL primary eth0"]);
    assert!(node.record("c1").is_none());
}

#[test]
fn what_has_begun_is_undone_and_nothing_else() {
    let names = ["a", "b", "c", "d", "e", "f"];
    for failing in names {
        let mut node = Node::with(&names);
        node.set(json!({"attachmentConcurrency": 3}));
        node.fail(failing, "ADD", 42);
        assert_eq!(node.add("c1").networks("a,b,c,d,e,f").error().code.0, 42);
        let of = |verb: &str| -> Vec<String> {
            let calls = node.done();
            calls.iter().filter_map(|call| Some(call.strip_prefix(verb)?.to_owned())).collect()
        };
        let (added, undone) = (of("ADD"), of("DEL"));
        assert_eq!(added.iter().collect::<BTreeSet<_>>(), undone.iter().collect::<BTreeSet<_>>());
        assert!(undone[..undone.len() - 1].is_sorted_by(|a, b| a > b), "{undone:?}");
        assert_eq!(undone.last().unwrap(), " primary eth0");
    }
}

#[test]
fn attachments_that_hang_are_waited_for_together() {
    let mut node = Node::with(&["a", "b", "c", "d"]);
    node.set(json!({"attachmentConcurrency": 4, "delegateTimeout": "1s"}));
    for plugin in ["a", "b", "c", "d"] {
        node.steer(plugin, "ADD", json!({"hang": true}));
    }
    let begun = std::time::Instant::now();
    let error = node.add("c1").networks("a,b,c,d").error();
    assert!(begun.elapsed() < Duration::from_secs(3), "one after another");
    assert!(error.msg.starts_with("network default/a, interface net1: "), "{error}");
}
