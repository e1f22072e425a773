//! Calls that meet: one at a time for a container, side by side for several, GC alone.

use std::fs;

use serde_json::json;
use store::lock::Lock;

use crate::harness::{Call, LONG, Node, Running};

/// An ADD of `c1` that is at its primary until the file `go-on` is there.
fn adding(node: &Node) -> Running {
    node.steer("primary", "ADD", json!({"until": node.path("go-on")}));
    let adding = node.add("c1").start();
    node.await_call("ADD primary eth0");
    adding
}

fn go_on(node: &Node) {
    fs::write(node.path("go-on"), "").unwrap();
}

#[test]
fn a_second_add_without_del_is_refused_and_changes_nothing() {
    let node = Node::with(&["a"]);
    node.add("c1").networks("a").result();
    node.forget();
    let before = node.files();
    for run in [node.add("c1").networks("a"), node.add("c1")] {
        let error = run.error();
        assert_eq!(error.code.0, 4);
        let expected =
            "container c1 is attached already with interface eth0; the runtime has to call DEL before ADD";
        assert_eq!(error.msg, expected);
    }
    assert_eq!(node.files(), before);
    node.del("c1").succeed();
    node.add("c1").result();
}

#[test]
fn del_waits_for_the_add_of_its_container() {
    let node = Node::new();
    let adding = adding(&node);
    let deleting = node.del("c1").start();
    deleting.await_lock();
    go_on(&node);
    adding.answer().result();
    deleting.answer().succeed();
    let told = |event: &Call| format!("{} {}", event.at, event.verb);
    let events: Vec<_> = node.events().iter().map(told).collect();
    assert_eq!(events, ["begin ADD", "end ADD", "begin DEL", "end DEL"]);
    assert!(node.leftovers().is_empty());
}

#[test]
fn waiting_for_another_call_is_bounded_and_ends_with_try_again_later() {
    let mut node = Node::new();
    let adding = adding(&node);
    node.set(json!({"lockWait": "50ms"}));
    let calls = [("DEL", node.del("c1")), ("CHECK", node.check("c1")), ("ADD", node.add("c1"))];
    for (verb, run) in calls {
        let error = run.error();
        assert_eq!(error.code.0, 11, "{verb}: {error}");
        let path = node.path("run/locks/container/c1").display().to_string();
        let expected = format!("lock {path}: another process held it for more than 50ms");
        assert_eq!(error.msg, expected, "{verb}");
    }
    let error = node.gc(&[]).error();
    assert_eq!(error.code.0, 11);
    assert!(error.msg.contains("run/locks/node: another process held it"), "{error}");
    assert_eq!(node.done(), ["ADD primary eth0"]);
    go_on(&node);
    adding.answer().result();
}

#[test]
fn containers_do_not_wait_for_each_other() {
    let node = Node::new();
    let first = adding(&node);
    let second = node.add("c2").start();
    node.await_events("both at their primary", |events| {
        events.iter().filter(|event| event.at == "begin").count() == 2
    });
    node.del("c3").succeed();
    go_on(&node);
    first.answer().result();
    second.answer().result();
}

#[test]
fn gc_waits_for_attachments_and_never_takes_a_container_that_is_being_added() {
    let node = Node::new();
    node.cluster(json!({"cniVersion": "1.1.0", "plugins": [{"type": "primary"}]}));
    let adding = adding(&node);
    let collecting = node.gc(&[("c1", "eth0")]).start();
    collecting.await_lock();
    go_on(&node);
    adding.answer().result();
    collecting.answer().succeed();
    assert_eq!(node.done(), ["ADD primary eth0", "GC primary"]);
    assert_eq!(node.calls()[1].stdin["cni.dev/valid-attachments"][0]["containerID"], "c1");
}

/// A node on which the DEL of `c1` failed, whose plugin works again, and whose primary has GC.
fn node_with_failed_del() -> Node {
    let node = Node::with(&["a"]);
    node.cluster(json!({"cniVersion": "1.1.0", "plugins": [{"type": "primary"}]}));
    node.add("c1").networks("a").result();
    node.fail("a", "DEL", 42);
    node.del("c1").error();
    node.mend("a", "DEL");
    node.forget();
    node
}

#[test]
fn unfinished_work_is_not_taken_up_beside_a_gc() {
    let node = node_with_failed_del();
    node.steer("primary", "GC", json!({"until": node.path("go-on")}));
    let collecting = node.gc(&[("c1", "eth0")]).start();
    node.await_call("GC primary");
    node.status().succeed();
    let answer = node.gc_by_hand().answer();
    assert!(answer.stdout.contains("container c1, interface eth0: busy"), "{answer:?}");
    assert_eq!(node.done(), ["GC primary", "STATUS primary"], "only what was asked for");
    go_on(&node);
    collecting.answer().succeed();
    assert_eq!(node.done().last().unwrap(), "DEL a net1", "afterwards it is");
}

#[test]
fn gc_by_hand_waits_for_a_run_that_takes_up_work_within_a_bound() {
    let node = node_with_failed_del();
    let only = Lock::of_unfinished_work(&node.dir(), LONG).unwrap();
    let collecting = node.gc_by_hand().start();
    collecting.await_lock();
    assert!(node.calls().is_empty());
    drop(only);
    assert_eq!(collecting.answer().code(), 0);
    assert_eq!(node.done(), ["DEL a net1"]);
    let _only = Lock::of_unfinished_work(&node.dir(), LONG).unwrap();
    let plugin = json!({"type": "meta-cni", "lockWait": "50ms"});
    node.write("braid.conflist", &json!({"cniVersion": "1.0.0", "name": "braid", "plugins": [plugin]}));
    let config = node.path("braid.conflist").display().to_string();
    let (run, state) = (node.path("run").display().to_string(), node.path("state").display().to_string());
    let answer =
        node.by_hand(&["gc", "--config", &config, "--run-dir", &run, "--state-dir", &state]).answer();
    assert_eq!(answer.code(), 1);
    assert!(answer.stdout.contains("another process held it for more than 50ms"), "{answer:?}");
}

#[test]
fn many_calls_for_many_containers_leave_nothing() {
    let node = Node::with(&["a"]);
    let containers: Vec<String> = (0..12).map(|number| format!("c{number}")).collect();
    let adding: Vec<_> = containers.iter().map(|c| node.add(c).networks("a,a").start()).collect();
    for running in adding {
        running.answer().result();
    }
    let deleting: Vec<_> = containers.iter().chain(&containers).map(|c| node.del(c).start()).collect();
    for running in deleting {
        running.answer().succeed();
    }
    assert_eq!(node.calls().len(), 12 * 3 * 2);
    assert!(node.leftovers().is_empty(), "{:?}", node.leftovers());
}
