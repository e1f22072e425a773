//! GC: what belongs to no valid container is removed, and every network is told what is valid.

use std::fs;

use serde_json::{Value, json};
use store::lock::Lock;
use store::network::Outcome;
use store::record::now_ms;

use crate::harness::{LONG, Node, key};

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
fn a_network_that_changed_is_told_in_its_old_form_and_in_its_new_one() {
    let node = node();
    node.add("keep").networks("a").result();
    node.network("default/a", json!({"cniVersion": "1.1.0", "plugins": [{"type": "a", "dataDir": "/new"}]}));
    node.forget();
    node.gc(&[("keep", "eth0")]).succeed();
    assert_eq!(node.done(), ["GC primary", "GC a", "GC a", "GC b"]);
    let mut dirs: Vec<_> = node.calls()[1..3].iter().map(|call| call.stdin["dataDir"].clone()).collect();
    dirs.sort_by_key(ToString::to_string);
    assert_eq!(dirs, [json!("/new"), json!(null)]);
    assert!(told(&node)[1..3].iter().all(|(_, valid)| *valid == ["keep eth0", "keep net1"]));
}

#[test]
fn networks_on_the_node_and_default_networks_are_told_too() {
    let mut node = node();
    for (name, plugin) in [("on-node", "file"), ("audit", "sidecar")] {
        node.install(plugin);
        let list = json!({"cniVersion": "1.1.0", "name": name, "plugins": [{"type": plugin}]});
        node.write(&format!("named.d/{name}.conflist"), &list);
    }
    node.outcome("default/c", Outcome::OnNode { name: "on-node".parse().unwrap() });
    node.set(json!({"defaultNetworks": ["audit"]}));
    node.gc(&[]).succeed();
    assert_eq!(node.done(), ["GC sidecar", "GC primary", "GC a", "GC b", "GC file"]);
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

#[test]
fn a_stale_container_that_hangs_does_not_keep_others_from_being_attached() {
    let node = node();
    node.add("stale").networks("a").result();
    node.forget();
    node.steer("a", "DEL", json!({"until": node.path("go-on")}));
    let collecting = node.gc(&[]).start();
    node.await_call("DEL a net1");
    node.add("new").result();
    node.del("other").succeed();
    fs::write(node.path("go-on"), "").unwrap();
    collecting.answer().succeed();
    assert_eq!(told(&node)[0], ("primary".to_owned(), vec!["new eth0".to_owned()]), "it came after the list");
    assert!(node.record("stale").is_none() && node.record("new").is_some());
}

#[test]
fn gc_waits_for_no_primary() {
    let node = node();
    fs::remove_file(node.path("net.d/10-cluster.conflist")).unwrap();
    let running = node.gc(&[]).set(json!({"readinessWait": "1h"})).start();
    assert_eq!(running.answer().error().code.0, 11);
}

#[test]
fn containers_that_are_newer_than_the_runtimes_list_or_that_somebody_is_at_are_left_alone() {
    let node = node();
    for container in ["busy", "newer", "finished-later", "stale"] {
        node.add(container).networks("a").result();
    }
    let later = now_ms() + 3_600_000;
    node.edit_record("newer", |record| record.created_ms = later);
    let written = std::time::SystemTime::now() + std::time::Duration::from_secs(3600);
    let file = fs::File::options().write(true).open(node.path("state/attachments/finished-later")).unwrap();
    file.set_modified(written).unwrap();
    let held = Lock::of_container(&node.dir(), &key("busy").container_id, LONG).unwrap();
    node.forget();
    node.gc(&[]).succeed();
    drop(held);
    assert_eq!(node.done()[..2], ["DEL a net1", "DEL primary eth0"]);
    assert_eq!(node.calls()[0].env["CNI_CONTAINERID"], "stale");
    let left = ["busy eth0", "finished-later eth0", "newer eth0"];
    assert_eq!(told(&node)[0], owned(&[("primary", &left)])[0]);
}
