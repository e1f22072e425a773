//! GC: what belongs to no valid container is removed, and every network is told what is valid.

use std::fs;

use serde_json::{Value, json};

use crate::harness::Node;

/// A node with networks `a` and `b` of a version that has GC.
fn node() -> Node {
    let node = Node::with(&["a", "b"]);
    node.cluster(json!({"cniVersion": "1.1.0", "plugins": [{"type": "primary"}]}));
    for name in ["a", "b"] {
        let list = json!({"cniVersion": "1.1.0", "plugins": [{"type": name}]});
        node.network(&format!("default/{name}"), list);
    }
    node
}

/// What the GC calls so far said is valid, as `container interface`, and to which plugin.
fn told(node: &Node) -> Vec<(String, Vec<String>)> {
    let calls = node.calls().into_iter().filter(|call| call.verb == "GC");
    let text = |valid: &Value| {
        let (id, name) = (valid["containerID"].as_str().unwrap(), valid["ifname"].as_str().unwrap());
        format!("{id} {name}")
    };
    calls
        .map(|call| {
            assert_eq!(call.stdin["cni.dev/valid-attachments"], call.stdin["cni.dev/attachments"]);
            let valid = call.stdin["cni.dev/valid-attachments"].as_array().unwrap();
            (call.plugin, valid.iter().map(text).collect())
        })
        .collect()
}

fn owned(told: &[(&str, &[&str])]) -> Vec<(String, Vec<String>)> {
    told.iter().map(|(p, valid)| ((*p).to_owned(), valid.iter().map(|&v| v.to_owned()).collect())).collect()
}

#[test]
fn stale_containers_are_undone_and_networks_learn_of_every_valid_interface() {
    let node = node();
    node.add("keep").networks("a").result();
    node.add("stale").networks("a,b").result();
    node.forget();
    node.gc(&[("keep", "eth0")]).succeed();
    let done = node.done();
    assert_eq!(done[..3], ["DEL b net2", "DEL a net1", "DEL primary eth0"]);
    assert!(node.calls()[..3].iter().all(|call| call.env["CNI_CONTAINERID"] == "stale"));
    assert_eq!(done[3..], ["GC primary", "GC a", "GC b"]);
    let expected =
        [("primary", &["keep eth0"][..]), ("a", &["keep eth0", "keep net1"]), ("b", &["keep eth0"])];
    assert_eq!(told(&node), owned(&expected));
    let gc = &node.calls()[3];
    let variables: Vec<_> = gc.env.keys().map(String::as_str).collect();
    assert_eq!(variables, ["CNI_COMMAND", "CNI_PATH"]);
    assert!(node.record("keep").is_some());
    assert_eq!(node.leftovers(), ["state/attachments/keep", "run/locks/container/keep"]);
    node.del("keep").succeed();
    assert!(node.leftovers().is_empty());
}

#[test]
fn a_network_that_is_gone_from_the_node_is_told_as_long_as_a_container_is_on_it() {
    let node = node();
    node.add("keep").networks("a").result();
    fs::remove_dir_all(node.path("run/networks")).unwrap();
    node.forget();
    node.gc(&[("keep", "eth0")]).succeed();
    assert_eq!(node.done(), ["GC primary", "GC a"]);
}

#[test]
fn networks_that_have_no_gc_are_not_asked() {
    let node = node();
    let plugin = json!([{"type": "a"}]);
    node.network("default/a", json!({"cniVersion": "1.1.0", "disableGC": true, "plugins": plugin}));
    node.network("default/b", json!({"cniVersion": "1.0.0", "plugins": [{"type": "b"}]}));
    node.gc(&[]).succeed();
    assert_eq!(node.done(), ["GC primary"]);
}

#[test]
fn beside_containers_of_others_only_the_primary_is_collected() {
    let node = node();
    node.add("keep").networks("a").result();
    node.forget();
    node.gc(&[("keep", "eth0"), ("of-multus", "eth0")]).succeed();
    assert_eq!(told(&node), owned(&[("primary", &["keep eth0", "of-multus eth0"])]));
}

#[test]
fn an_empty_list_may_be_null_and_an_old_runtime_uses_the_old_key() {
    for (config, done) in [
        (json!({"cni.dev/valid-attachments": null}), 3),
        (json!({"cni.dev/valid-attachments": []}), 3),
        (json!({"cni.dev/valid-attachments": null, "cni.dev/attachments": null}), 3),
        (json!({"cni.dev/attachments": [{"containerID": "stale", "ifname": "eth0"}]}), 0),
        (
            json!({
                "cni.dev/valid-attachments": null,
                "cni.dev/attachments": [{"containerID": "stale", "ifname": "eth0"}],
            }),
            0,
        ),
    ] {
        let node = node();
        node.add("stale").networks("a,b").result();
        node.forget();
        // `set` takes null for "take away".
        let mut text = json!({"cniVersion": "1.1.0", "name": "braid", "type": "meta-cni"});
        for key in ["clusterNetwork", "binDir", "runDir", "stateDir"] {
            text[key] = node.setting(key);
        }
        text.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
        node.gc(&[]).stdin(text.to_string()).succeed();
        let deleted = node.done().iter().filter(|call| call.starts_with("DEL")).count();
        assert_eq!(deleted, done, "{config}");
    }
}

#[test]
fn gc_goes_on_after_errors_and_tells_all_of_them() {
    let node = node();
    for container in ["stale1", "stale2"] {
        node.add(container).networks("a").result();
    }
    node.forget();
    node.fail("a", "DEL", 42);
    node.fail("primary", "GC", 43);
    let error = node.gc(&[]).error();
    assert_eq!(error.code.0, 42);
    assert_eq!(error.msg.matches("a cannot DEL").count(), 2, "{error}");
    assert!(error.msg.contains("network cluster: plugin primary: primary cannot GC"), "{error}");
    let expected = ["DEL a net1", "DEL primary eth0", "DEL a net1", "DEL primary eth0"];
    assert_eq!(node.done()[..4], expected);
    assert_eq!(
        node.done()[4..],
        ["GC primary", "GC a", "GC b"],
        "each once, and networks are told all the same"
    );
}

#[test]
fn no_network_is_told_less_than_everything_that_is_valid() {
    let node = node();
    node.add("keep").networks("a").result();
    node.add("stale").result();
    node.forget();
    fs::write(node.path("state/attachments/keep"), "{").unwrap();
    let error = node.gc(&[("keep", "eth0")]).error();
    assert_eq!(error.code.0, 6);
    assert!(error.msg.contains("state/attachments/keep is damaged"), "{error}");
    assert_eq!(node.done(), ["DEL primary eth0"], "stale ones are undone all the same");
}
