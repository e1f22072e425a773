//! A plugin that runs on after its `meta-cni` was killed: nothing is done beside it, and it does not run for ever.

use std::fs;
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::json;

use crate::harness::{Call, Node};

/// The ADD of `c1` is killed while `a` is at it, which goes on as it is told.
fn kill_add(node: &Node, how: serde_json::Value) -> OwnedFd {
    node.steer("a", "ADD", how);
    let adding = node.add("c1").networks("a").set(json!({"delegateTimeout": "3s"})).start();
    node.await_call("ADD a net1");
    let plugin = node.events().iter().find(|event| event.plugin == "a").unwrap().process;
    let plugin = pidfd_open(Pid::from_raw(plugin).unwrap(), PidfdFlags::empty()).unwrap();
    adding.kill();
    node.mend("a", "ADD");
    plugin
}

fn has_ended(process: &OwnedFd) -> bool {
    poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&Timespec::default())).unwrap() > 0
}

fn events(node: &Node) -> Vec<String> {
    let told = |event: &Call| format!("{} {} {}", event.at, event.verb, event.plugin);
    node.events().iter().map(told).collect()
}

#[test]
fn del_waits_for_the_add_of_a_plugin_that_a_killed_run_left_running() {
    let node = Node::with(&["a"]);
    let plugin = kill_add(&node, json!({"until": node.path("go-on")}));
    let deleting = node.del("c1").start();
    deleting.await_process();
    assert!(!has_ended(&plugin));
    fs::write(node.path("go-on"), "").unwrap();
    deleting.answer().succeed();
    let expected =
        ["begin ADD a", "end ADD a", "begin DEL a", "end DEL a", "begin DEL primary", "end DEL primary"];
    assert_eq!(events(&node)[2..], expected);
    assert!(has_ended(&plugin));
    assert!(node.leftovers().is_empty(), "{:?}", node.leftovers());
}

#[test]
fn a_plugin_that_hangs_is_killed_by_the_next_call_when_its_time_is_over() {
    let node = Node::with(&["a"]);
    let plugin = kill_add(&node, json!({"hang": true}));
    let short = json!({"lockWait": "10ms"});
    let error = node.del("c1").set(short.clone()).error();
    assert_eq!(error.code.0, 11);
    assert!(error.msg.contains("still runs as process"), "{error}");
    // It is nothing for a run that has done its own work either.
    node.status().succeed();
    assert!(!has_ended(&plugin));
    assert_eq!(events(&node).len(), 3, "{:?}", events(&node));
    node.del("c1").succeed();
    assert!(has_ended(&plugin));
    assert!(!events(&node).contains(&"end ADD a".to_owned()), "it was killed");
    assert!(node.leftovers().is_empty());
}

#[test]
fn of_attachments_that_run_side_by_side_every_one_is_waited_for() {
    let mut node = Node::with(&["a", "b"]);
    node.set(json!({"attachmentConcurrency": 2, "delegateTimeout": "3s"}));
    for plugin in ["a", "b"] {
        node.steer(plugin, "ADD", json!({"hang": true}));
    }
    let adding = node.add("c1").networks("a,b").start();
    node.await_call("ADD a net1");
    node.await_call("ADD b net2");
    let calls = node.calls();
    let plugins: Vec<_> = calls[1..]
        .iter()
        .map(|call| pidfd_open(Pid::from_raw(call.process).unwrap(), PidfdFlags::empty()).unwrap())
        .collect();
    adding.kill();
    node.del("c1").succeed();
    assert!(plugins.iter().all(has_ended));
    assert_eq!(node.done()[3..], ["DEL b net2", "DEL a net1", "DEL primary eth0"]);
    assert!(node.leftovers().is_empty());
}

#[test]
fn no_add_runs_beside_a_plugin_that_a_killed_gc_left_running() {
    let node = Node::new();
    node.cluster(json!({"cniVersion": "1.1.0", "plugins": [{"type": "primary"}]}));
    node.steer("primary", "GC", json!({"until": node.path("go-on")}));
    let collecting = node.gc(&[]).start();
    node.await_call("GC primary");
    collecting.kill();
    let adding = node.add("c1").start();
    adding.await_process();
    fs::write(node.path("go-on"), "").unwrap();
    adding.answer().result();
    assert_eq!(events(&node), ["begin GC primary", "end GC primary", "begin ADD primary", "end ADD primary"]);
}
