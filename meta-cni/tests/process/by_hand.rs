//! `meta-cni` by hand.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use serde_json::json;
use store::lock::Lock;

use crate::harness::{Node, key};

/// A node on which the DEL of containers has failed.
fn node_with_unfinished(containers: &[&str]) -> Node {
    let node = Node::with(&["a"]);
    for container in containers {
        node.add(container).networks("a").result();
    }
    node.fail("a", "DEL", 42);
    for container in containers {
        node.del(container).error();
    }
    node.forget();
    node
}

#[test]
fn gc_takes_up_everything_at_once_and_says_what_it_did() {
    let node = node_with_unfinished(&["c1", "c2"]);
    node.add("rests").result();
    node.forget();
    let answer = node.gc_by_hand().answer();
    assert_eq!(answer.code(), 1, "{answer:?}");
    let left = "left: network default/a, interface net1: plugin a: a cannot DEL";
    assert_eq!(
        answer.stdout,
        format!(
            "container c1, interface eth0: {left}\ncontainer c2, interface eth0: {left}\n\
             unfinished containers: 0 undone, 2 left\n"
        )
    );
    node.mend("a", "DEL");
    let held = Lock::of_container(&node.dir(), &key("c2").container_id, Duration::ZERO).unwrap();
    let answer = node.gc_by_hand().answer();
    assert_eq!(answer.code(), 1);
    assert_eq!(
        answer.stdout,
        "container c1, interface eth0: undone\n\
         container c2, interface eth0: busy: another process is at it\n\
         unfinished containers: 1 undone, 1 left\n"
    );
    drop(held);
    let answer = node.gc_by_hand().answer();
    assert_eq!(answer.code(), 0);
    assert_eq!(
        answer.stdout,
        "container c2, interface eth0: undone\nunfinished containers: 1 undone, 0 left\n"
    );
    let answer = node.gc_by_hand().answer();
    assert_eq!((answer.code(), answer.stdout.as_str()), (0, "unfinished containers: 0 undone, 0 left\n"));
    assert_eq!(node.leftovers(), ["state/attachments/rests", "run/locks/container/rests"]);
}

#[test]
fn gc_finds_its_directories_in_the_installed_configuration() {
    let node = node_with_unfinished(&["c1"]);
    node.mend("a", "DEL");
    let plugin = json!({
        "type": "meta-cni", "runDir": node.path("run"), "stateDir": node.path("state"), "binDir": node.path("bin"),
    });
    let plugins = json!([{"type": "first", "logLevel": "not ours"}, plugin]);
    node.write("braid.conflist", &json!({"cniVersion": "1.0.0", "name": "braid", "plugins": plugins}));
    let config = node.path("braid.conflist").display().to_string();
    let answer = node.by_hand(&["gc", "--config", &config]).answer();
    assert_eq!(answer.code(), 0, "{answer:?}");
    assert!(node.record("c1").is_none());
}

#[test]
fn a_record_that_cannot_be_read_is_told_and_left() {
    let node = node_with_unfinished(&["c1"]);
    std::fs::write(node.path("state/attachments/c1"), "{").unwrap();
    let answer = node.gc_by_hand().answer();
    assert_eq!(answer.code(), 1);
    assert!(answer.stdout.contains("state/attachments/c1 is damaged"), "{answer:?}");
}

#[test]
fn help_and_version_go_to_stdout() {
    let node = Node::new();
    for word in ["--help", "-h", "help"] {
        let answer = node.by_hand(&[word]).answer();
        assert_eq!(answer.code(), 0);
        assert!(answer.stdout.contains("meta-cni gc [options]"), "{answer:?}");
    }
    for word in ["--version", "-V"] {
        let answer = node.by_hand(&[word]).answer();
        let expected = format!("meta-cni {}\n", env!("CARGO_PKG_VERSION"));
        assert_eq!((answer.code(), answer.stdout), (0, expected));
    }
}

#[test]
fn wrong_usage_is_status_2_and_says_where_to_look() {
    let node = Node::new();
    let missing = node.path("absent").display().to_string();
    let list = node.path("net.d/10-cluster.conflist").display().to_string();
    node.cluster(json!({"plugins": [{"type": "meta-cni", "logLevel": "loud"}]}));
    node.write("named.d/other.conf", &json!({"name": "other", "type": "bridge"}));
    let other = node.path("named.d/other.conf").display().to_string();
    for (words, text) in [
        (vec!["collect"], "\"collect\" is nothing that meta-cni does"),
        (vec![""], "\"\" is nothing"),
        (vec!["--help", "gc"], "is nothing"),
        (vec!["gc", "--run-dir"], "--run-dir needs a value"),
        (vec!["gc", "--colour", "red"], "unknown option \"--colour\""),
        (vec!["gc", "--state-dir", "relative"], "setting \"stateDir\""),
        (vec!["gc", "--config", &missing], "No such file"),
        (vec!["gc", "--config", &list], "setting \"logLevel\""),
        (vec!["gc", "--config", &other], "has no plugin of type \"meta-cni\""),
    ] {
        let answer = node.by_hand(&words).answer();
        assert_eq!((answer.code(), answer.stdout.as_str()), (2, ""), "{words:?}: {answer:?}");
        let said = &answer.stderr;
        assert!(said.contains(text) && said.ends_with("; see meta-cni --help\n"), "{words:?}: {said}");
    }
    let answer = node.by_hand(&[]).raw_argument(OsString::from_vec(vec![0xff, b'x'])).answer();
    assert_eq!(answer.code(), 2, "{answer:?}");
}

#[test]
fn without_anything_it_says_what_it_is() {
    let node = Node::new();
    for run in [node.by_hand(&[]), node.by_hand(&[]).env("CNI_COMMAND", "")] {
        let answer = run.answer();
        assert_eq!((answer.code(), answer.stdout.as_str()), (0, ""));
        assert!(answer.stderr.starts_with("Braid's meta-cni "), "{answer:?}");
        let versions = "CNI versions: 0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0\n";
        assert!(answer.stderr.ends_with(versions), "{answer:?}");
    }
}

#[test]
fn a_runtime_that_gives_arguments_is_served_as_a_runtime() {
    let node = Node::new();
    node.add("c1").arguments(&["gc"]).result();
    assert_eq!(node.done(), ["ADD primary eth0"]);
}
