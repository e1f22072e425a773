//! Plugins that hang, die or print what is no answer. Whatever they do, the runtime gets one JSON value.

use std::fs::{self, OpenOptions, Permissions};
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::harness::Node;

/// How a plugin misbehaves at ADD, the code that comes of it, and what the message says.
fn ways() -> Vec<(Value, u32, &'static str)> {
    vec![
        (json!({"raw": ""}), 6, "it succeeded but printed no JSON"),
        (json!({"raw": "Segmentation fault"}), 6, "\"Segmentation fault\""),
        (json!({"raw": "{\"ips\":[]} done"}), 6, "it printed text after its JSON"),
        (json!({"raw": "{}{}"}), 6, "it printed two JSON values"),
        (json!({"raw": "level=info\n{\"ips\":[]}"}), 6, "it printed text before its JSON"),
        (json!({"raw": "{\"ips\":["}), 6, "EOF while parsing"),
        (json!({"raw": "[".repeat(1000)}), 6, "recursion limit"),
        (json!({"raw": "[]"}), 6, "it is not a JSON object"),
        (json!({"raw": "null"}), 6, "it is not a JSON object"),
        (json!({"raw": "{\"cniVersion\":\"7.0.0\"}"}), 6, "\"7.0.0\" is not one of"),
        (json!({"raw": "{\"cniVersion\":7}"}), 6, "\"cniVersion\" is not a string"),
        (json!({"raw": "{\"ips\":5}"}), 6, "read a result of CNI version 1.0.0"),
        (json!({"raw": "{\"ips\":[{\"address\":\"10.0.0.300/24\"}]}"}), 6, "invalid IP address syntax"),
        (json!({"raw": "{\"ips\":[{\"address\":\"10.0.0.2/24\",\"interface\":1e300}]}"}), 6, "invalid type"),
        (json!({"raw": "{\"routes\":[{}]}"}), 6, "missing field `dst`"),
        (json!({"raw": "{\"interfaces\":[{\"name\":null}]}"}), 6, "invalid type: null"),
        (json!({"blanks": 17 << 20}), 999, "printed more than 16777216 bytes and was killed"),
        (json!({"signal": 9}), 999, "was killed by signal 9 without a CNI error"),
        (json!({"signal": 6}), 999, "was killed by signal 6 without a CNI error"),
        (json!({"exit": 3}), 999, "failed with exit status 3 without a CNI error"),
        (json!({"exit": 3, "stderr": "no memory"}), 999, "on stderr: \"no memory\""),
        (json!({"exit": 1, "raw": "oops"}), 999, "on stdout: \"oops\""),
        (json!({"exit": 1, "raw": "{}"}), 999, "failed with exit status 1"),
        (json!({"exit": 1, "raw": "{\"code\":\"x\"}"}), 999, "failed with exit status 1"),
        (json!({"exit": 1, "raw": "{\"code\":0,\"msg\":\"full\"}"}), 999, ": full"),
        (json!({"exit": 1, "raw": "{\"code\":7}"}), 7, "the plugin gave no message"),
        (json!({"exit": 1, "raw": "{\"ips\":[]}\n{\"code\":123,\"msg\":\"full\"}"}), 123, ": full"),
        (json!({"exit": 255, "raw": "{\"code\":123,\"msg\":\"full\"}"}), 123, ": full"),
    ]
}

#[test]
fn however_a_plugin_misbehaves_the_runtime_gets_one_error_and_everything_is_undone() {
    for (way, code, text) in ways() {
        for (plugin, undone) in
            [("primary", vec!["DEL primary eth0"]), ("a", vec!["DEL a net1", "DEL primary eth0"])]
        {
            let node = Node::with(&["a"]);
            node.steer(plugin, "ADD", way.clone());
            let answer = node.add("c1").networks("a").answer();
            assert_eq!(answer.code(), 1, "{way}: {answer:?}");
            let error = answer.error();
            assert_eq!(error.code.0, code, "{way}: {error}");
            assert!(error.to_string().contains(text), "{way}: {error}");
            assert!(error.msg.contains(&format!("plugin {plugin}: ")), "{way}: {error}");
            let done = node.done();
            assert_eq!(done[done.len() - undone.len()..], undone, "{way}");
            assert!(node.record("c1").is_none(), "{way}");
        }
    }
}

#[test]
fn a_plugin_that_hangs_is_killed_named_and_undone() {
    let mut node = Node::with(&["a"]);
    node.set(json!({"delegateTimeout": "300ms"}));
    node.steer("a", "ADD", json!({"stderr": "waiting for a lease", "hang": true}));
    let answer = node.add("c1").networks("a").answer();
    let error = answer.error();
    assert_eq!(error.code.0, 999);
    let path = node.path("bin/a").display().to_string();
    let expected = format!(
        "{path} did not end within 300ms and was killed; see what it waits for, or raise \"delegateTimeout\"; \
         on stderr: \"waiting for a lease\""
    );
    assert!(error.to_string().ends_with(&expected), "{error}");
    assert!(answer.stderr.contains("waiting for a lease"), "relayed as it came");
    assert_eq!(node.done()[2..], ["DEL a net1", "DEL primary eth0"]);
    let ended = node.events().iter().filter(|event| event.at == "end" && event.plugin == "a").count();
    assert_eq!(ended, 1, "only the DEL ended by itself");
    assert!(node.record("c1").is_none());
}

#[test]
fn what_a_plugin_prints_at_del_does_not_matter_and_how_it_ends_does() {
    for (way, code) in [
        (json!({"raw": "removed"}), None),
        (json!({"raw": "{}{}"}), None),
        (json!({"exit": 1}), Some(999)),
        (json!({"exit": 1, "raw": "gone"}), Some(999)),
        (json!({"signal": 15}), Some(999)),
        (json!({"exit": 1, "raw": "{\"code\":11,\"msg\":\"later\"}"}), Some(11)),
    ] {
        let node = Node::new();
        node.add("c1").result();
        node.steer("primary", "DEL", way.clone());
        match code {
            None => node.del("c1").succeed(),
            Some(code) => assert_eq!(node.del("c1").error().code.0, code, "{way}"),
        }
        assert_eq!(node.record("c1").is_some(), code.is_some(), "{way}");
    }
}

#[test]
fn a_plugin_that_is_being_replaced_in_place_is_a_passing_error_and_what_it_owes_is_kept() {
    let node = Node::with(&["a"]);
    let path = node.path("bin/a");
    let executable = fs::read(&path).unwrap();
    node.uninstall("a");
    fs::write(&path, executable).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    let writer = OpenOptions::new().append(true).open(&path).unwrap();
    let error = node.add("c1").networks("a").error();
    assert_eq!(error.code.0, 11);
    assert!(error.msg.contains("text file busy"), "{error}");
    assert_eq!(node.take_done(), ["ADD primary eth0", "DEL primary eth0"]);
    drop(writer);
    node.del("c1").succeed();
    assert_eq!(node.done(), ["DEL a net1"]);
    assert!(node.leftovers().is_empty());
}

#[test]
fn a_plugin_that_cannot_be_executed_is_named_with_its_path() {
    let node = Node::with(&["a"]);
    node.uninstall("a");
    fs::write(node.path("bin/a"), "#!/bin/sh\n").unwrap();
    let error = node.add("c1").networks("a").error();
    assert_eq!(error.code.0, 5);
    let path = node.path("bin/a").display().to_string();
    assert!(error.msg.contains(&format!("start {path}: Permission denied")), "{error}");
    assert_eq!(node.done(), ["ADD primary eth0", "DEL primary eth0"]);
}

#[test]
fn a_plugin_that_does_not_exist_is_refused_before_anything_runs() {
    let node = Node::with(&["a"]);
    node.network("default/b", json!({"plugins": [{"type": "a"}, {"type": "absent"}]}));
    let error = node.add("c1").networks("a,b").error();
    assert_eq!(error.code.0, 999);
    let expected = "network default/b, interface net2: find plugin absent in ";
    assert!(error.msg.starts_with(expected), "{error}");
    assert!(node.calls().is_empty() && node.leftovers().is_empty());
    node.del("c1").succeed();
}

#[test]
fn what_plugins_say_on_stderr_is_relayed_and_stdout_stays_clean() {
    let node = Node::with(&["a"]);
    for plugin in ["primary", "a"] {
        node.steer(plugin, "ADD", json!({"stderr": format!("{plugin} says {{\"code\": 1}}\n")}));
    }
    let answer = node.add("c1").networks("a").answer();
    answer.result();
    assert_eq!(answer.stderr, "primary says {\"code\": 1}\na says {\"code\": 1}\n");
}
