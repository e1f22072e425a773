//! ADD that fails: what was done is undone, and what cannot be undone is not forgotten.

use serde_json::json;
use store::record::Phase;

use crate::harness::Node;

const PLUGINS: [&str; 4] = ["primary", "a", "b", "c"];
const CALLS: [&str; 4] = ["primary eth0", "a net1", "b net2", "c net3"];

#[test]
fn a_failure_at_any_place_is_undone_in_reverse_and_told_with_its_code() {
    for (place, plugin) in PLUGINS.into_iter().enumerate() {
        let node = Node::with(&["a", "b", "c"]);
        node.steer(
            plugin,
            "ADD",
            json!({"error": {"code": 100 + place, "msg": "pool is empty", "details": "all 254 are taken"}}),
        );
        let error = node.add("c1").networks("a,b,c").error();
        assert_eq!(error.code.0, 100 + u32::try_from(place).unwrap());
        let network = ["cluster", "default/a", "default/b", "default/c"][place];
        let if_name = CALLS[place].split_once(' ').unwrap().1;
        let expected = format!("network {network}, interface {if_name}: plugin {plugin}: pool is empty");
        assert_eq!(error.msg, expected);
        assert_eq!(error.details, "all 254 are taken");
        let begun = &CALLS[..=place];
        let added = begun.iter().map(|call| format!("ADD {call}"));
        let undone = begun.iter().rev().map(|call| format!("DEL {call}"));
        assert_eq!(node.take_done(), added.chain(undone).collect::<Vec<_>>());
        assert_eq!(node.leftovers(), ["run/locks/container/c1"], "the lock goes with the runtime's DEL");
        node.del("c1").succeed();
        assert!(node.calls().is_empty() && node.leftovers().is_empty());
    }
}

#[test]
fn a_list_that_failed_is_undone_whole_and_those_before_it_get_their_results() {
    let node = Node::with(&["a"]);
    for plugin in ["x", "y", "z"] {
        node.install(plugin);
    }
    let plugins = json!([{"type": "x"}, {"type": "y"}, {"type": "z"}]);
    node.network("default/list", json!({"plugins": plugins}));
    node.fail("y", "ADD", 42);
    assert_eq!(node.add("c1").networks("a,list").error().code.0, 42);
    let done = node.done();
    assert_eq!(done[2..4], ["ADD x net2", "ADD y net2"]);
    assert_eq!(done[4..], ["DEL z net2", "DEL y net2", "DEL x net2", "DEL a net1", "DEL primary eth0"]);
    let with_result: Vec<_> = node.calls()[4..].iter().map(|c| c.stdin.get("prevResult").is_some()).collect();
    assert_eq!(with_result, [false, false, false, true, true]);
}

#[test]
fn what_cannot_be_undone_stays_recorded_for_del() {
    let node = Node::with(&["a", "b"]);
    node.fail("b", "ADD", 42);
    node.fail("primary", "DEL", 43);
    let error = node.add("c1").networks("a,b").error();
    assert_eq!(error.code.0, 42, "the first error is the one to tell");
    assert!(!error.msg.contains("primary"), "{error}");
    let done = node.take_done();
    assert_eq!(done[3..], ["DEL b net2", "DEL a net1", "DEL primary eth0"], "each once");
    let record = node.record("c1").unwrap();
    assert_eq!(record.phase, Phase::Deleting);
    let left: Vec<_> = record.attachments.iter().map(|attachment| attachment.network.as_str()).collect();
    assert_eq!(left, ["cluster"]);
    let failure = record.failure.unwrap();
    assert_eq!(failure.attempts, 1);
    assert!(failure.message.contains("primary cannot DEL"), "{}", failure.message);

    assert_eq!(node.del("c1").error().code.0, 43);
    node.mend("primary", "DEL");
    node.del("c1").succeed();
    assert_eq!(node.done(), ["DEL primary eth0", "DEL primary eth0"]);
    assert!(node.leftovers().is_empty());
}

#[test]
fn the_next_add_of_the_container_first_undoes_what_the_last_one_left() {
    let node = Node::with(&["a"]);
    node.fail("a", "ADD", 42);
    node.fail("primary", "DEL", 43);
    node.add("c1").networks("a").error();
    node.forget();
    let error = node.add("c1").error();
    assert_eq!(error.code.0, 43);
    assert!(error.msg.starts_with("undo what an earlier ADD of this container left: "), "{error}");
    assert_eq!(node.take_done(), ["DEL primary eth0"], "nothing new is made");
    node.mend("primary", "DEL");
    node.add("c1").result();
    assert_eq!(node.done(), ["DEL primary eth0", "ADD primary eth0"]);
    assert_eq!(node.record("c1").unwrap().phase, Phase::Attached);
}

#[test]
fn the_next_add_does_not_hide_what_a_plugin_that_is_gone_still_owes() {
    let mut node = Node::with(&["a", "b"]);
    node.set(json!({"missingPluginGrace": "0s"}));
    node.fail("b", "ADD", 42);
    node.fail("a", "DEL", 43);
    node.add("c1").networks("a,b").error();
    node.uninstall("a");
    for _ in 0..2 {
        let error = node.add("c1").error();
        assert!(error.msg.contains("find plugin a"), "{error}");
    }
    assert!(node.record("c1").is_some());
    node.install("a");
    node.mend("a", "DEL");
    node.add("c1").result();
}

#[test]
fn what_was_never_attached_holds_the_pod_for_the_grace_only_and_stays_recorded() {
    let mut node = Node::with(&["a"]);
    node.fail("a", "ADD", 42);
    node.fail("a", "DEL", 43);
    node.add("c1").networks("a").error();
    assert_eq!(node.del("c1").error().code.0, 43, "the grace is not over");
    node.set(json!({"missingPluginGrace": "0s"}));
    node.del("c1").succeed();
    let record = node.record("c1").unwrap();
    assert_eq!(record.phase, Phase::Deleting);
    assert_eq!(record.attachments.len(), 1);
    // What was attached is another matter: there is something to undo for sure.
    node.fail("primary", "DEL", 44);
    node.add("c2").networks("a").error();
    for _ in 0..2 {
        assert_eq!(node.del("c2").error().code.0, 43);
    }
    node.mend("a", "DEL");
    node.mend("primary", "DEL");
    node.gc_by_hand().answer();
    assert!(node.leftovers().is_empty(), "{:?}", node.leftovers());
}

#[test]
fn a_record_that_cannot_be_written_at_the_end_is_a_failure_that_is_undone() {
    let node = Node::with(&["a"]);
    // While the delegate runs, the directory of records is put aside and a file takes its place.
    let (begun, go_on) = (node.path("begun"), node.path("go-on"));
    node.steer("a", "ADD", json!({"make": begun, "until": go_on}));
    let running = node.add("c1").networks("a").start();
    node.await_call("ADD a net1");
    std::fs::rename(node.path("state"), node.path("aside")).unwrap();
    std::fs::write(node.path("state"), "").unwrap();
    std::fs::write(go_on, "").unwrap();
    let error = running.answer().error();
    assert_eq!(error.code.0, 5, "{error}");
    assert_eq!(node.done()[2..], ["DEL a net1", "DEL primary eth0"]);
    std::fs::remove_file(node.path("state")).unwrap();
    std::fs::rename(node.path("aside"), node.path("state")).unwrap();
    assert_eq!(node.record("c1").unwrap().phase, Phase::Intended, "DEL will do it again");
    node.del("c1").succeed();
    assert!(node.leftovers().is_empty());
}
