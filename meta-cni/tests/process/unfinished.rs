//! Unfinished work of earlier runs, taken up by later ones.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;
use store::lock::Lock;
use store::record::Phase;

use crate::harness::{LONG, Node, Run, eventually, key};

/// A node on which the ADD of `c1` was killed while `a` was at it.
fn node_with_killed_add() -> Node {
    let node = Node::with(&["a", "b"]);
    node.steer("a", "ADD", json!({"until": node.path("go-on")}));
    let running = node.add("c1").networks("a,b").start();
    node.await_call("ADD a net1");
    running.kill();
    fs::write(node.path("go-on"), "").unwrap();
    eventually("the plugin that was left running has ended", || {
        let process = node.events().iter().find(|event| event.plugin == "a").unwrap().process;
        !Path::new("/proc").join(process.to_string()).exists()
    });
    node.mend("a", "ADD");
    assert_eq!(node.record("c1").unwrap().phase, Phase::Intended);
    node.forget();
    node
}

/// A node on which the DEL of `c1` failed, whose plugin works again.
fn node_with_failed_del() -> Node {
    let node = Node::with(&["a"]);
    node.add("c1").networks("a").result();
    node.fail("a", "DEL", 42);
    node.del("c1").error();
    node.mend("a", "DEL");
    node.forget();
    node
}

#[test]
fn an_add_that_was_killed_is_undone_by_the_next_add_after_its_own_work() {
    let node = node_with_killed_add();
    node.add("c2").networks("b").result();
    let expected =
        ["ADD primary eth0", "ADD b net1", "DEL b net2", "DEL a net1", "DEL primary eth0"].map(str::to_owned);
    assert_eq!(node.done(), expected);
    let calls = node.calls();
    let containers: Vec<_> = calls.iter().map(|call| call.env["CNI_CONTAINERID"].as_str()).collect();
    assert_eq!(containers, ["c2", "c2", "c1", "c1", "c1"]);
    assert!(node.record("c1").is_none());
    assert_eq!(node.leftovers(), ["state/attachments/c2", "run/locks/container/c2"]);
}

#[test]
fn an_add_that_was_killed_is_undone_by_the_runtimes_del() {
    let node = node_with_killed_add();
    node.del("c1").succeed();
    assert_eq!(node.done(), ["DEL b net2", "DEL a net1", "DEL primary eth0"]);
    assert!(node.leftovers().is_empty());
}

#[test]
fn an_add_that_was_killed_is_undone_before_the_container_is_added_anew() {
    let node = node_with_killed_add();
    node.add("c1").result();
    assert_eq!(node.done(), ["DEL b net2", "DEL a net1", "DEL primary eth0", "ADD primary eth0"]);
}

#[test]
fn a_del_that_was_killed_is_completed() {
    let node = Node::with(&["a"]);
    node.add("c1").networks("a").result();
    node.steer("primary", "DEL", json!({"signal": 9, "until": node.path("go-on")}));
    let running = node.del("c1").start();
    node.await_call("DEL primary eth0");
    running.kill();
    fs::write(node.path("go-on"), "").unwrap();
    node.mend("primary", "DEL");
    node.forget();
    // A record at rest is nobody's but the runtime's.
    node.status().succeed();
    assert!(node.calls().is_empty());
    node.del("c1").succeed();
    assert_eq!(node.done(), ["DEL a net1", "DEL primary eth0"]);
    assert!(node.leftovers().is_empty());
}

#[test]
fn a_del_that_failed_is_taken_up_by_a_run_of_any_verb() {
    type Call = fn(&Node) -> Run<'_>;
    let verbs: [(&str, Call); 5] = [
        ("ADD", |node| node.add("c2")),
        ("DEL", |node| node.del("c2")),
        ("CHECK", |node| node.check("c2")),
        ("GC", |node| node.gc(&[("c1", "eth0")])),
        ("STATUS", Node::status),
    ];
    for (verb, call) in verbs {
        let node = node_with_failed_del();
        call(&node).answer();
        assert_eq!(node.done().last().unwrap(), "DEL a net1", "{verb}");
        assert!(node.record("c1").is_none(), "{verb}");
    }
}

/// A node whose container `c1` the node role has given up.
fn node_with_given_up() -> Node {
    let node = Node::with(&["a"]);
    node.add("c1").networks("a").result();
    node.edit_record("c1", |record| record.abandoned = Some("its pod is gone".to_owned()));
    node.forget();
    node
}

#[test]
fn a_container_that_the_node_role_gave_up_is_undone_without_its_namespace() {
    type Change = fn(&Node);
    let gone: [(&str, Change); 3] = [
        ("removed", |node| fs::remove_file(node.path("netns")).unwrap()),
        ("another one's now", Node::replace_namespace),
        ("of an earlier boot", |node| {
            node.edit_record("c1", |record| record.boot_id = "an earlier boot".to_owned());
        }),
    ];
    for (what, go) in gone {
        let node = node_with_given_up();
        go(&node);
        node.status().succeed();
        assert_eq!(node.done(), ["DEL a net1", "DEL primary eth0"], "{what}");
        assert!(node.calls().iter().all(|call| call.env["CNI_NETNS"].is_empty()), "{what}");
        assert!(node.leftovers().is_empty(), "{what}");
    }
}

#[test]
fn a_container_that_was_given_up_keeps_its_network_while_its_namespace_lives() {
    let node = node_with_given_up();
    let before = node.record("c1");
    node.status().succeed();
    node.add("c2").result();
    node.del("c2").succeed();
    assert_eq!(node.take_done(), ["ADD primary eth0", "DEL primary eth0"], "nothing of c1");
    assert_eq!(node.record("c1"), before);
    let expected = ["state/attachments/c1", "run/unfinished/c1", "run/locks/container/c1"];
    assert_eq!(node.leftovers(), expected, "it stays hinted at");
    // Once its sandbox is gone, it is taken up.
    fs::remove_file(node.path("netns")).unwrap();
    node.status().succeed();
    assert_eq!(node.done(), ["DEL a net1", "DEL primary eth0"]);
    assert!(node.leftovers().is_empty());
}

#[test]
fn the_runtimes_del_undoes_what_was_given_up_and_still_lives() {
    let node = node_with_given_up();
    node.del("c1").succeed();
    assert_eq!(node.done(), ["DEL a net1", "DEL primary eth0"]);
    assert!(node.leftovers().is_empty());
}

#[test]
fn a_del_that_failed_is_taken_up_though_the_node_role_gave_the_container_up() {
    let node = node_with_failed_del();
    node.edit_record("c1", |record| record.abandoned = Some("its pod is gone".to_owned()));
    node.status().succeed();
    assert_eq!(node.done(), ["DEL a net1"], "the runtime has ended it: its namespace does not matter");
    assert!(node.record("c1").is_none());
}

#[test]
fn gc_by_hand_says_that_it_left_what_lives_and_why() {
    let node = node_with_given_up();
    let answer = node.gc_by_hand().answer();
    assert_eq!(answer.code(), 0, "{answer:?}");
    let netns = node.path("netns").display().to_string();
    assert_eq!(
        answer.stdout,
        format!(
            "container c1, interface eth0: in use: its pod is gone, but its namespace {netns} lives; left to \
             the runtime's DEL\nunfinished containers: 0 undone, 0 left, 1 in use\n"
        )
    );
    assert!(node.calls().is_empty());
    assert!(node.record("c1").is_some());
}

#[test]
fn plugins_are_not_sent_into_a_namespace_that_is_another_ones_now() {
    let node = node_with_failed_del();
    node.replace_namespace();
    node.status().succeed();
    assert_eq!(node.calls()[0].env["CNI_NETNS"], "");

    let node = node_with_failed_del();
    node.edit_record("c1", |record| record.boot_id = "an earlier boot".to_owned());
    node.status().succeed();
    assert_eq!(node.calls()[0].env["CNI_NETNS"], "");
}

#[test]
fn after_a_reboot_unfinished_work_is_found_again() {
    let node = node_with_failed_del();
    fs::remove_dir_all(node.path("run")).unwrap();
    node.add("c2").result();
    assert_eq!(node.done(), ["ADD primary eth0", "DEL a net1"]);
    assert!(node.record("c1").is_none() && node.record("c2").is_some());
}

#[test]
fn attempts_become_rarer_and_are_counted() {
    let node = node_with_failed_del();
    node.fail("a", "DEL", 43);
    node.status().succeed();
    let failure = node.record("c1").unwrap().failure.unwrap();
    assert_eq!(failure.attempts, 2);
    assert!(failure.message.contains("a cannot DEL"));
    // As if it had been tried six times, the last time 62 seconds ago: it is due after 63.
    let since = failure.since_ms;
    node.edit_record("c1", |record| record.failure.as_mut().unwrap().attempts = 7);
    node.age("c1", Duration::from_secs(40));
    node.forget();
    node.status().succeed();
    assert!(node.calls().is_empty(), "not due yet");
    node.age("c1", Duration::from_secs(24));
    node.status().succeed();
    assert_eq!(node.take_done(), ["DEL a net1"]);
    let failure = node.record("c1").unwrap().failure.unwrap();
    assert_eq!((failure.attempts, failure.since_ms), (8, since - 64_000), "since when it fails is kept");
    node.status().succeed();
    assert!(node.calls().is_empty());
}

#[test]
fn a_clock_that_was_set_back_stops_nothing() {
    let node = node_with_failed_del();
    node.edit_record("c1", |record| record.failure.as_mut().unwrap().last_ms += 3_600_000);
    node.status().succeed();
    assert_eq!(node.done(), ["DEL a net1"]);
    assert!(node.record("c1").is_none());
}

#[test]
fn unfinished_work_never_fails_the_call_that_takes_it_up() {
    let node = node_with_failed_del();
    node.fail("a", "DEL", 43);
    node.add("c2").result();
    assert_eq!(node.done(), ["ADD primary eth0", "DEL a net1"]);
    fs::write(node.path("state/attachments/c1"), "{").unwrap();
    node.add("c3").result();
    node.status().succeed();
    assert_eq!(fs::read_to_string(node.path("state/attachments/c1")).unwrap(), "{");
}

#[test]
fn a_record_that_cannot_be_read_or_put_right_stops_nothing_and_is_told_once() {
    let mut node = Node::with(&["a"]);
    for container in ["b1", "b2", "c1"] {
        node.add(container).networks("a").result();
    }
    node.fail("a", "DEL", 42);
    node.del("c1").error();
    node.mend("a", "DEL");
    node.forget();
    // One that is damaged, and one whose hint cannot be removed: both come before c1.
    for (container, text) in [("b1", "{"), ("b2", "")] {
        node.edit_record(container, |record| record.phase = Phase::Deleting);
        fs::write(node.path("state/attachments").join(container), text).unwrap();
    }
    let hint = node.path("run/unfinished/b2");
    fs::remove_file(&hint).unwrap();
    fs::create_dir(&hint).unwrap();
    fs::remove_file(node.path("state/attachments/b2")).unwrap();
    node.set(json!({"logFile": node.path("log")}));
    let told = || {
        node.status().succeed();
        let log = fs::read_to_string(node.path("log")).unwrap();
        fs::remove_file(node.path("log")).unwrap();
        let told = |text: &str| log.lines().filter(|line| line.contains(text)).count();
        [told("attachments/b1 is damaged"), told("unfinished/b2")]
    };
    assert_eq!(told(), [1, 1]);
    assert_eq!(node.done(), ["DEL a net1"], "the others are taken up");
    assert_eq!(told(), [0, 1]);
}

#[test]
fn one_run_at_a_time_takes_up_work_and_none_that_another_holds() {
    let node = node_with_failed_del();
    let only = Lock::of_unfinished_work_if_free(&node.dir()).unwrap().unwrap();
    node.status().start().answer_alone().succeed();
    assert!(node.calls().is_empty(), "another one is at it");
    drop(only);
    let held = Lock::of_container(&node.dir(), &key("c1").container_id, LONG).unwrap();
    node.status().succeed();
    assert!(node.calls().is_empty(), "the container's lock is held");
    drop(held);
    node.status().succeed();
    assert_eq!(node.done(), ["DEL a net1"]);
}

#[test]
fn the_time_for_unfinished_work_is_bounded() {
    let mut node = Node::new();
    let containers = ["c1", "c2", "c3", "c4", "c5", "c6"];
    for container in containers {
        node.add(container).result();
        node.edit_record(container, |record| record.abandoned = Some("its pod is gone".to_owned()));
        // What the ADD of the next one has taken up would be missing here.
        Lock::of_container(&node.dir(), &key(container).container_id, LONG).unwrap().remove();
        fs::remove_file(node.path("run/unfinished").join(container)).unwrap();
    }
    fs::remove_file(node.path("run/unfinished/.looked")).unwrap();
    // Their sandboxes are gone.
    fs::remove_file(node.path("netns")).unwrap();
    node.forget();
    node.set(json!({"delegateTimeout": "700ms"}));
    node.steer("primary", "DEL", json!({"hang": true}));
    node.status().succeed();
    let tried = node.calls().len();
    assert!((1..=4).contains(&tried), "{tried} of {} within two seconds", containers.len());
    let failed = containers.iter().filter_map(|c| node.record(c).unwrap().failure).collect::<Vec<_>>();
    assert_eq!(failed.len(), tried);
    assert!(failed[0].message.contains("did not end within 700ms"), "{}", failed[0].message);
}

#[test]
fn a_record_of_many_plugins_that_hang_does_not_hold_a_run_for_longer_than_one_bound() {
    let node = Node::with(&["a", "b", "c"]);
    node.add("c1").networks("a,b,c").result();
    node.edit_record("c1", |record| record.abandoned = Some("its pod is gone".to_owned()));
    fs::remove_file(node.path("netns")).unwrap();
    node.forget();
    for plugin in ["a", "b", "c", "primary"] {
        node.steer(plugin, "DEL", json!({"hang": true}));
    }
    let begun = Instant::now();
    node.status().succeed();
    // One after another they would take 20 seconds each.
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    let record = node.record("c1").unwrap();
    assert_eq!(record.attachments.len(), 4, "what was not attempted is still owed");
    let message = record.failure.unwrap().message;
    assert!(
        message.contains("plugin primary was not called: the time for the whole work was over"),
        "{message}"
    );
}

/// A node of whose containers 20 have gone without their DEL, and whose plugin `a` hangs at DEL for ever.
fn node_with_much_that_hangs() -> Node {
    let mut node = Node::with(&["a"]);
    let containers: Vec<_> = (0..20).map(|number| format!("old{number}")).collect();
    for container in &containers {
        node.add(container).networks("a").result();
    }
    for container in &containers {
        node.edit_record(container, |record| {
            "an earlier boot".clone_into(&mut record.boot_id);
            record.abandoned = Some("its pod is gone".to_owned());
        });
    }
    node.steer("a", "DEL", json!({"hang": true}));
    node.set(json!({"delegateTimeout": "20s"}));
    node.forget();
    node
}

#[test]
fn no_call_waits_for_the_work_of_others() {
    let node = node_with_much_that_hangs();
    // A hundred times what a call takes, and a tenth of what one plugin that hangs would.
    let at_once = Duration::from_secs(2);
    for run in [node.add("c1"), node.status(), node.check("c1"), node.del("c1"), node.status()] {
        let begun = Instant::now();
        let answer = run.start().answer_alone();
        assert_eq!(answer.code(), 0, "{answer:?}");
        assert!(begun.elapsed() < at_once, "{:?}", begun.elapsed());
    }
    // One process alone is at it, has a session of its own, and holds none of the runtime's pipes.
    eventually("a plugin is called", || node.done().iter().any(|call| call == "DEL a net1"));
    let plugins = node.calls().iter().filter(|call| call.text() == "DEL a net1").count();
    assert_eq!(plugins, 1, "{:?}", node.done());
}

#[test]
fn nothing_in_the_node_directory_is_anybody_elses_business() {
    let node = node_with_killed_add();
    node.add("c2").networks("b").result();
    node.fail("b", "DEL", 42);
    node.del("c2").error();
    node.steer("primary", "ADD", json!({"until": node.path("go-on-2")}));
    let running = node.add("c3").start();
    node.await_events("c3 at its primary", |events| {
        events.iter().any(|event| event.env.get("CNI_CONTAINERID").is_some_and(|id| id == "c3"))
    });
    let mut seen = Vec::new();
    let mut dirs = vec![node.path("run"), node.path("state")];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let mode = path.metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, if path.is_dir() { 0o700 } else { 0o600 }, "{}", path.display());
            seen.push(path.strip_prefix(node.path("")).unwrap().display().to_string());
            dirs.extend(path.is_dir().then_some(path));
        }
    }
    for kind in
        ["run/unfinished/c2", "run/running", "run/locks/container/c3", "state/attachments/c2", "run/node"]
    {
        assert!(seen.iter().any(|path| path == kind), "{kind}: {seen:?}");
    }
    fs::write(node.path("go-on-2"), "").unwrap();
    running.answer().result();
}

#[test]
fn a_pod_of_which_four_sandboxes_cannot_be_undone_gets_no_fifth_one() {
    let node = Node::with(&["a"]);
    node.fail("a", "ADD", 41);
    node.fail("a", "DEL", 42);
    for container in ["c1", "c2", "c3", "c4"] {
        assert_eq!(node.add(container).networks("a").error().code.0, 41);
        assert!(node.record(container).is_some());
    }
    node.forget();
    let error = node.add("c5").networks("a").error();
    assert_eq!(error.code.0, 11);
    assert!(error.msg.contains("earlier sandboxes of this pod are still to be undone"), "{error}");
    assert!(error.msg.contains("a cannot DEL"), "{error}");
    assert!(node.record("c5").is_none());
    assert!(node.calls().iter().all(|call| call.env["CNI_CONTAINERID"] != "c5"), "{:?}", node.done());
    // Another pod is another matter, and so is an earlier sandbox of this one.
    let other = "K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;K8S_POD_UID=uid-2";
    node.add("d1").env("CNI_ARGS", other).result();
    node.mend("a", "ADD");
    node.mend("a", "DEL");
    node.add("c4").networks("a").result();
    node.gc_by_hand().answer();
    node.add("c5").networks("a").result();
}

#[test]
fn a_sandbox_that_another_add_is_just_adding_is_none_that_cannot_be_undone() {
    let node = Node::with(&["a", "b"]);
    node.fail("a", "ADD", 41);
    node.fail("a", "DEL", 42);
    for container in ["c1", "c2", "c3"] {
        node.add(container).networks("a").error();
    }
    node.steer("b", "ADD", json!({"until": node.path("go-on")}));
    let running = node.add("c4").networks("b").start();
    node.await_call("ADD b net1");
    let phases = ["c1", "c2", "c3", "c4"].map(|container| node.record(container).unwrap().phase);
    assert_eq!(phases, [Phase::Deleting, Phase::Deleting, Phase::Deleting, Phase::Intended]);
    node.add("c5").result();
    fs::write(node.path("go-on"), "").unwrap();
    running.answer().result();
}

#[test]
fn each_later_attempt_begins_with_another_attachment() {
    let node = Node::with(&["a", "b"]);
    node.add("c1").networks("a,b").result();
    for plugin in ["primary", "a", "b"] {
        node.fail(plugin, "DEL", 42);
    }
    node.forget();
    node.del("c1").error();
    assert_eq!(node.take_done(), ["DEL b net2", "DEL a net1", "DEL primary eth0"]);
    node.status().succeed();
    assert_eq!(node.take_done(), ["DEL a net1", "DEL primary eth0", "DEL b net2"]);
    node.age("c1", Duration::from_secs(2));
    node.status().succeed();
    assert_eq!(node.take_done(), ["DEL primary eth0", "DEL b net2", "DEL a net1"]);
    let left = node.record("c1").unwrap().attachments;
    let left: Vec<_> = left.iter().map(|attachment| attachment.if_name.as_str()).collect();
    assert_eq!(left, ["eth0", "net1", "net2"], "the plan's order is kept");
}
