//! `podsAtOnce`: how many pods are attached at once, first come first served.

use std::fs::{self, File};
use std::num::NonZeroUsize;
use std::time::{Duration, Instant, SystemTime};

use cni::Code;
use serde_json::{Value, json};
use store::turn::{LONGEST, Line, take_turn};

use crate::harness::{Call, Node, Running, eventually};

/// A node that attaches so many pods at once, each of which is at its primary until the file `go-on` is there.
fn node_of(at_once: u32) -> Node {
    let mut node = Node::new();
    node.set(json!({"podsAtOnce": at_once, "turnWait": "20s"}));
    node.steer("primary", "ADD", json!({"until": node.path("go-on")}));
    node
}

fn go_on(node: &Node) {
    fs::write(node.path("go-on"), "").unwrap();
}

/// Starts the ADD of a container and waits until its plugin runs.
fn adding(node: &Node, container: &str) -> Running {
    let running = node.add(container).start();
    await_begin(node, container);
    running
}

fn await_begin(node: &Node, container: &str) {
    node.await_events(&format!("{container} at its primary"), |events| {
        events.iter().any(|event| event.env.get("CNI_CONTAINERID").is_some_and(|id| id == container))
    });
}

/// The containers whose plugins were called with a verb, in order.
fn served(node: &Node, verb: &str) -> Vec<String> {
    let calls = node.calls().into_iter().filter(|call| call.verb == verb);
    calls.map(|call| call.env["CNI_CONTAINERID"].clone()).collect()
}

/// How many calls of plugins ran at the same time, at most.
fn most_at_once(events: &[Call]) -> i32 {
    let (mut now, mut most) = (0, 0);
    for event in events {
        now += if event.at == "begin" { 1 } else { -1 };
        most = most.max(now);
    }
    most
}

/// The first place of those who attach.
fn place(node: &Node) -> std::path::PathBuf {
    node.path("run/locks/place/attach/0")
}

/// From now on a place is held as if it had been taken at that time.
fn held_since(node: &Node, taken: SystemTime) {
    File::options().write(true).open(place(node)).unwrap().set_modified(taken).unwrap();
}

/// Does what is over before the first place would be taken from who holds it.
fn without_a_place_that_is_taken_away<T>(node: &Node, what: impl FnOnce() -> T) -> T {
    held_since(node, SystemTime::now());
    let begun = Instant::now();
    let done = what();
    assert!(begun.elapsed() < LONGEST / 2, "it took {:?}", begun.elapsed());
    done
}

#[test]
fn no_more_pods_than_the_bound_are_attached_or_detached_at_once() {
    let node = node_of(3);
    node.steer("primary", "DEL", json!({"until": node.path("go-on")}));
    let at_work = ["c1", "c2", "c3"];
    let waiting: Vec<String> = (4..16).map(|number| format!("c{number}")).collect();
    for call in [Node::add, Node::del] {
        let mut running: Vec<_> = at_work.iter().map(|container| call(&node, container).start()).collect();
        for container in at_work {
            await_begin(&node, container);
        }
        for (index, container) in waiting.iter().enumerate() {
            let next = call(&node, container).start();
            if index == 0 {
                next.await_watch();
            } else {
                next.await_lock();
            }
            running.push(next);
        }
        assert_eq!(node.calls().len(), 3);
        go_on(&node);
        for running in running {
            assert_eq!(running.answer().code(), 0);
        }
        assert_eq!(most_at_once(&node.events()), 3);
        assert_eq!(node.calls().len(), 15);
        node.forget();
        fs::remove_file(node.path("go-on")).unwrap();
    }
    assert!(node.leftovers().is_empty(), "{:?}", node.leftovers());
}

#[test]
fn pods_are_attached_in_the_order_in_which_they_came() {
    let node = node_of(1);
    let mut running = vec![adding(&node, "c1")];
    let head = node.add("c2").start();
    head.await_watch();
    running.push(head);
    for container in ["c3", "c4", "c5", "c6"] {
        let next = node.add(container).start();
        next.await_lock();
        running.push(next);
    }
    assert_eq!(served(&node, "ADD"), ["c1"]);
    go_on(&node);
    for running in running {
        running.answer().result();
    }
    assert_eq!(served(&node, "ADD"), ["c1", "c2", "c3", "c4", "c5", "c6"]);
    assert_eq!(most_at_once(&node.events()), 1);
}

/// How often it has gone to sleep.
fn switches(running: &Running) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", running.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.unwrap().trim().parse().unwrap()
}

/// The processor's time that it has used, in hundredths of a second.
fn ticks(running: &Running) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", running.pid())).unwrap();
    // Its name is in parentheses; `utime` and `stime` are the twelfth and the thirteenth after it.
    let (_, fields) = stat.rsplit_once(')').unwrap();
    fields.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}

#[test]
fn of_those_who_wait_one_watches_and_none_keeps_the_processor_busy() {
    let node = node_of(1);
    let first = adding(&node, "c1");
    let head = node.add("c2").start();
    head.await_watch();
    let next = node.add("c3").start();
    next.await_lock();
    let fds = fs::read_dir(format!("/proc/{}/fd", next.pid())).unwrap().flatten();
    let watches =
        fds.filter(|fd| fs::read_link(fd.path()).is_ok_and(|to| to.ends_with("anon_inode:inotify")));
    assert_eq!(watches.count(), 0, "inotify instances are few");
    // Other pods come and go in the meantime; those who wait are not woken by that.
    let used = || [&head, &next].map(|running| (switches(running), ticks(running)));
    let before = used();
    for _ in 0..20 {
        node.status().succeed();
        node.del("c9").succeed();
    }
    let after = used();
    let [woken_head, woken_next] = [0, 1].map(|of| after[of].0 - before[of].0);
    assert!(woken_head <= 10 && woken_next <= 2, "{before:?}, then {after:?}");
    let [busy_head, busy_next] = [0, 1].map(|of| after[of].1 - before[of].1);
    assert!(busy_head <= 5 && busy_next <= 2, "{before:?}, then {after:?}");
    go_on(&node);
    for running in [first, head, next] {
        running.answer().result();
    }
}

#[test]
fn the_place_of_a_call_that_was_killed_is_free_at_once() {
    let node = node_of(1);
    let first = adding(&node, "c1");
    let second = node.add("c2").start();
    second.await_watch();
    without_a_place_that_is_taken_away(&node, || {
        first.kill();
        await_begin(&node, "c2");
    });
    go_on(&node);
    second.answer().result();
}

#[test]
fn a_call_that_was_killed_while_it_waited_holds_nobody_up() {
    let node = node_of(1);
    let first = adding(&node, "c1");
    let head = node.add("c2").start();
    head.await_watch();
    let third = node.add("c3").start();
    third.await_lock();
    let fourth = node.add("c4").start();
    fourth.await_lock();
    third.kill();
    head.kill();
    fourth.await_watch();
    go_on(&node);
    first.answer().result();
    fourth.answer().result();
    assert_eq!(served(&node, "ADD"), ["c1", "c4"]);
}

#[test]
fn an_add_whose_turn_does_not_come_in_time_is_told_how_busy_the_node_is_and_has_done_nothing() {
    let node = node_of(2);
    let running = [adding(&node, "c1"), adding(&node, "c2")];
    let head = node.add("c3").start();
    head.await_watch();
    let short = json!({"turnWait": "50ms"});
    let error = node.add("c4").set(short.clone()).error();
    assert_eq!(error.code.0, 11);
    let expected = "the node was busy: its turn did not come within 50ms, while as many other pods as \"podsAtOnce\" \
                    allows (2) were being attached; the runtime tries again; see which plugins are slow (\"us\" in the \
                    log of level info), or raise \"podsAtOnce\"";
    assert_eq!(error.msg, expected);
    head.kill();
    // The head of the line too.
    assert_eq!(node.add("c5").set(short).error().msg, expected);
    assert!(node.record("c4").is_none() && node.record("c5").is_none());
    assert_eq!(served(&node, "ADD"), ["c1", "c2"]);
    node.del("c4").succeed();
    assert!(served(&node, "DEL").is_empty(), "there is nothing to undo");
    go_on(&node);
    for running in running {
        running.answer().result();
    }
    node.add("c4").result();
}

#[test]
fn a_del_does_not_wait_for_adds() {
    let node = node_of(1);
    let first = adding(&node, "c1");
    let waiting = node.add("c2").start();
    waiting.await_watch();
    without_a_place_that_is_taken_away(&node, || node.del("c3").succeed());
    assert_eq!(served(&node, "DEL"), ["c3"]);
    go_on(&node);
    first.answer().result();
    waiting.answer().result();
}

#[test]
fn a_del_that_has_waited_for_its_turn_works_out_of_turn() {
    let node = node_of(1);
    node.steer("primary", "DEL", json!({"until": node.path("go-on")}));
    let first = node.del("c1").start();
    await_begin(&node, "c1");
    let second = node.del("c2").set(json!({"turnWait": "50ms"})).start();
    await_begin(&node, "c2");
    go_on(&node);
    first.answer().succeed();
    let answer = second.answer();
    answer.succeed();
    let told = |line: &Value| line["message"] == "the node is busy: detaching out of turn";
    assert!(answer.log().iter().any(told), "{answer:?}");
}

#[test]
fn zero_is_no_bound() {
    let node = node_of(0);
    let running: Vec<_> = ["c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8", "c9", "c10", "c11", "c12"]
        .map(|container| node.add(container).start())
        .into();
    node.await_events("twelve at once", |events| most_at_once(events) == 12);
    assert!(!node.path("run/locks/place").exists());
    go_on(&node);
    for running in running {
        running.answer().result();
    }
}

#[test]
fn check_and_status_wait_for_nobody() {
    let node = node_of(1);
    go_on(&node);
    node.add("c0").result();
    fs::remove_file(node.path("go-on")).unwrap();
    let first = adding(&node, "c1");
    let second = node.add("c2").start();
    second.await_watch();
    without_a_place_that_is_taken_away(&node, || {
        node.status().succeed();
        node.check("c0").succeed();
    });
    go_on(&node);
    first.answer().result();
    second.answer().result();
}

#[test]
fn who_waits_for_its_turn_holds_no_lock_that_others_need() {
    let node = node_of(1);
    node.cluster(json!({"cniVersion": "1.1.0", "plugins": [{"type": "primary"}]}));
    go_on(&node);
    // Whoever has the place holds nothing else.
    let turn = take_turn(&node.dir(), Line::Attach, NonZeroUsize::MIN, Duration::ZERO).unwrap().unwrap();
    let waiting = node.add("c1").start();
    waiting.await_watch();
    without_a_place_that_is_taken_away(&node, || {
        // Of the same container, which has nothing yet.
        node.del("c1").succeed();
        node.gc(&[("c1", "eth0")]).succeed();
    });
    assert_eq!(node.done(), ["DEL primary eth0", "GC primary"]);
    drop(turn);
    waiting.answer().result();
}

#[test]
fn calls_of_one_container_and_of_others_that_wait_for_turns_and_locks_all_come_to_an_end() {
    let mut node = Node::with(&["a"]);
    node.set(json!({"podsAtOnce": 1}));
    let mut adding = Vec::new();
    let mut deleting = Vec::new();
    for round in 0..6 {
        for container in ["c1", "c2"] {
            adding.push(node.add(container).networks("a").start());
            deleting.push(node.del(container).start());
        }
        adding.push(node.add(&format!("d{round}")).start());
    }
    for running in adding {
        let answer = running.answer();
        if answer.code() == 0 {
            continue;
        }
        // An ADD of a container that is attached is refused, and nothing else is.
        let error = answer.error();
        assert!(
            error.code == Code::INVALID_ENVIRONMENT && error.msg.contains("is attached already"),
            "{error}"
        );
    }
    for running in deleting {
        running.answer().succeed();
    }
    for container in ["c1", "c2", "d0", "d1", "d2", "d3", "d4", "d5"] {
        node.del(container).succeed();
    }
    assert!(node.leftovers().is_empty(), "{:?}", node.leftovers());
}

#[test]
fn a_plugin_that_hangs_holds_a_place_for_a_while_only() {
    let node = node_of(1);
    let hanging = adding(&node, "c1");
    let waiting = node.add("c2").start();
    waiting.await_watch();
    // As if it had been at it for that long.
    held_since(&node, SystemTime::now() - LONGEST);
    await_begin(&node, "c2");
    // The place is held by the second one now, and by nobody else.
    let third = node.add("c3").start();
    third.await_watch();
    assert_eq!(served(&node, "ADD"), ["c1", "c2"]);
    go_on(&node);
    for running in [hanging, waiting, third] {
        running.answer().result();
    }
}

#[test]
fn a_clock_that_was_set_back_makes_no_place_last_for_ever() {
    let node = node_of(1);
    let first = adding(&node, "c1");
    held_since(&node, SystemTime::now() + Duration::from_secs(3600));
    let second = node.add("c2").start();
    await_begin(&node, "c2");
    go_on(&node);
    first.answer().result();
    second.answer().result();
}

#[test]
fn a_pod_that_waited_is_attached_as_things_are_when_its_turn_comes() {
    let mut node = Node::with(&["a", "b"]);
    node.set(json!({"podsAtOnce": 1, "turnWait": "20s"}));
    node.steer("primary", "ADD", json!({"until": node.path("go-on")}));
    let first = adding(&node, "c1");
    let second = node.add("c2").networks("a").start();
    second.await_watch();
    let third = node.add("c3").env("CNI_NETNS", node.path("netns-3")).start();
    // Its namespace is not there at all: it does not even wait.
    assert_eq!(third.answer().error().code.0, 8);
    node.make_namespace("netns-4");
    let fourth = node.add("c4").env("CNI_NETNS", node.path("netns-4")).start();
    fourth.await_lock();
    fs::remove_file(node.path("netns-4")).unwrap();
    node.network("default/a", json!({"plugins": [{"type": "b"}]}));
    go_on(&node);
    first.answer().result();
    second.answer().result();
    let error = fourth.answer().error();
    assert!(error.msg.contains("netns-4 leads to no network namespace"), "{error}");
    assert_eq!(node.done(), ["ADD primary eth0", "ADD primary eth0", "ADD b net1"]);
}

#[test]
fn a_node_that_cannot_keep_count_attaches_and_detaches_without_a_bound() {
    let node = node_of(1);
    go_on(&node);
    fs::create_dir_all(node.path("run/locks")).unwrap();
    fs::write(node.path("run/locks/place"), "").unwrap();
    let added = node.add("c1").answer();
    added.result();
    let deleted = node.del("c1").answer();
    deleted.succeed();
    for answer in [added, deleted] {
        let lines = answer.log();
        let line = lines.iter().find(|line| line["level"] == "warn").unwrap();
        assert_eq!(line["message"], "turns cannot be taken: going on without a bound", "{line}");
        assert!(line["error"].as_str().unwrap().contains("run/locks/place"), "{line}");
    }
    assert_eq!(node.done(), ["ADD primary eth0", "DEL primary eth0"]);
}

#[test]
fn unfinished_work_is_taken_up_after_the_turn_is_given_back() {
    let mut node = Node::with(&["a"]);
    node.set(json!({"podsAtOnce": 1, "turnWait": "20s"}));
    node.add("c1").networks("a").result();
    node.fail("a", "DEL", 42);
    node.del("c1").error();
    node.steer("a", "DEL", json!({"until": node.path("go-on")}));
    // Its own work is done, and it is at that of c1.
    let first = node.add("c2").start();
    eventually("c1 is taken up", || served(&node, "DEL").iter().filter(|id| *id == "c1").count() == 3);
    without_a_place_that_is_taken_away(&node, || node.add("c3").start().answer_alone().result());
    go_on(&node);
    first.answer().result();
}
