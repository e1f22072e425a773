//! What a DEL that fails leaves to do, and what no longer holds a pod.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use serde_json::{Value, json};
use store::record::Phase;

use crate::harness::{Node, Run};

/// A node with the network `default/a` of a list, and every plugin of the list and its IPAM plugins.
fn node(plugins: Value) -> Node {
    let node = Node::new();
    for plugin in plugins.as_array().unwrap() {
        node.install(plugin["type"].as_str().unwrap());
        if let Some(ipam) = plugin["ipam"]["type"].as_str() {
            node.install(ipam);
        }
    }
    node.network("default/a", json!({"plugins": plugins}));
    node
}

fn host_local(node: &Node) -> Value {
    json!([{"type": "bridge", "ipam": {"type": "host-local", "dataDir": node.path("ipam")}}])
}

/// A node whose network `default/a` gets its addresses from host-local, which keeps them on the node.
fn node_with_host_local() -> Node {
    let node = Node::new();
    for plugin in ["bridge", "host-local"] {
        node.install(plugin);
    }
    node.network("default/a", json!({"plugins": host_local(&node)}));
    node
}

fn without_namespace<'a>(node: &'a Node, container: &str) -> Run<'a> {
    node.del(container).without("CNI_NETNS")
}

#[test]
fn what_never_was_attached_owes_nothing_without_its_namespace() {
    let node = node_with_host_local();
    for (plugin, verb) in [("bridge", "ADD"), ("bridge", "DEL"), ("host-local", "DEL")] {
        node.fail(plugin, verb, 100);
    }
    node.add("c1").networks("a").error();
    assert_eq!(node.record("c1").unwrap().phase, Phase::Deleting);
    assert!(node.del("c1").error().msg.contains("bridge cannot DEL"), "its namespace is there");
    without_namespace(&node, "c1").succeed();
    assert!(node.leftovers().is_empty());
}

#[test]
fn an_address_on_file_is_owed_though_nothing_was_attached() {
    let node = node_with_host_local();
    for (plugin, verb) in [("bridge", "ADD"), ("bridge", "DEL"), ("host-local", "DEL")] {
        node.fail(plugin, verb, 100);
    }
    let file = node.path("ipam/default_a/10.0.0.7");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, "c1\r\nnet1").unwrap();
    node.add("c1").networks("a").error();
    let error = without_namespace(&node, "c1").error();
    assert!(error.msg.contains("host-local cannot DEL"), "{error}");
    assert!(node.record("c1").is_some());
    fs::remove_file(file).unwrap();
    without_namespace(&node, "c1").succeed();
    assert!(node.leftovers().is_empty());
}

#[test]
fn what_was_refused_by_a_plugin_that_is_not_known_owes_nothing_without_its_namespace() {
    // Its daemon is down at ADD, and at DEL it knows of no such container.
    let node = Node::with(&["a"]);
    node.fail("a", "ADD", 41);
    node.fail("a", "DEL", 42);
    for container in ["c1", "c2", "c3", "c4", "c5"] {
        assert_eq!(node.add(container).networks("a").error().code.0, 41);
        without_namespace(&node, container).succeed();
        assert!(node.record(container).is_none());
    }
    node.mend("a", "ADD");
    node.add("c6").networks("a").result();
}

#[test]
fn the_plugins_of_a_list_owe_what_each_of_them_has_done() {
    let mut node = node(json!([{"type": "first"}, {"type": "second"}, {"type": "third"}]));
    node.set(json!({"missingPluginGrace": "0s"}));
    node.fail("second", "ADD", 41);
    for plugin in ["first", "second", "third"] {
        node.fail(plugin, "DEL", 42);
    }
    node.add("c1").networks("a").error();
    let attachment = &node.record("c1").unwrap().attachments[0];
    assert_eq!(attachment.refused_by, Some(1));
    let error = node.del("c1").error();
    assert!(error.msg.contains("plugin first: first cannot DEL") && !error.msg.contains("third"), "{error}");
    without_namespace(&node, "c1").succeed();
    let failure = node.record("c1").unwrap().failure.unwrap();
    assert_eq!(failure.message, "network default/a, interface net1: plugin first: first cannot DEL");
}

#[test]
fn what_may_have_been_attached_is_never_forgotten() {
    let mut node = Node::with(&["a"]);
    node.steer("a", "ADD", json!({"until": node.path("go-on")}));
    let running = node.add("c1").networks("a").start();
    node.await_call("ADD a net1");
    running.kill();
    fs::write(node.path("go-on"), "").unwrap();
    node.mend("a", "ADD");
    node.fail("a", "DEL", 42);
    node.fail("primary", "DEL", 43);
    without_namespace(&node, "c1").error();
    node.age("c1", Duration::from_secs(3600 * 24));
    node.set(json!({"missingPluginGrace": "1s"}));
    without_namespace(&node, "c1").succeed();
    assert_eq!(node.record("c1").unwrap().attachments.len(), 2, "both are still owed");
    for plugin in ["a", "primary"] {
        node.mend(plugin, "DEL");
    }
    node.gc_by_hand().answer();
    assert!(node.record("c1").is_none());
}

#[test]
fn sandboxes_that_are_let_go_hold_no_other_one() {
    let mut node = Node::with(&["a"]);
    node.set(json!({"missingPluginGrace": "0s"}));
    node.fail("a", "DEL", 42);
    for container in ["c1", "c2", "c3", "c4"] {
        node.add(container).networks("a").result();
        node.edit_record(container, |record| record.boot_id = "an earlier boot".to_owned());
        without_namespace(&node, container).error();
        without_namespace(&node, container).succeed();
        assert!(node.record(container).is_some(), "what it owes is still recorded");
    }
    node.add("c5").networks("a").result();
    // By hand the grace is a minute.
    for container in ["c1", "c2", "c3", "c4"] {
        node.age(container, Duration::from_secs(70));
    }
    let answer = node.gc_by_hand().answer();
    assert_eq!(answer.code(), 1);
    assert!(
        answer.stdout.contains("container c1, interface eth0: left, and its pod is let go: "),
        "{answer:?}"
    );
    assert!(answer.stdout.ends_with("unfinished containers: 0 undone, 4 left\n"), "{answer:?}");
}

#[test]
fn an_executable_that_cannot_be_run_is_none() {
    let node = node(json!([{"type": "host-device", "device": "lo", "ipam": {"type": "host-local"}}]));
    node.add("c1").networks("a").result();
    node.uninstall("host-device");
    fs::write(node.path("bin/host-device"), "no program").unwrap();
    fs::set_permissions(node.path("bin/host-device"), fs::Permissions::from_mode(0o755)).unwrap();
    node.forget();
    without_namespace(&node, "c1").succeed();
    assert_eq!(node.done(), ["DEL host-local net1", "DEL primary eth0"]);
    assert!(node.leftovers().is_empty());
}

#[test]
fn rules_that_a_plugin_leaves_without_the_namespace_are_told_of() {
    let node = node(json!([{"type": "ptp", "ipMasq": true, "ipam": {"type": "host-local"}}]));
    node.add("c1").networks("a").result();
    let answer = without_namespace(&node, "c1").answer();
    answer.succeed();
    let told = |line: &Value| line["message"].as_str().unwrap().contains("removes no packet filter rules");
    assert!(answer.log().iter().any(told), "{answer:?}");
    node.add("c2").networks("a").result();
    let answer = node.del("c2").answer();
    assert!(!answer.log().iter().any(told), "{answer:?}");
}

#[test]
fn a_network_that_is_mended_holds_no_pod() {
    let node = Node::with(&["a"]);
    node.fail("a", "ADD", 41);
    node.fail("a", "DEL", 42);
    for container in ["c1", "c2", "c3", "c4"] {
        node.add(container).networks("a").error();
    }
    assert_eq!(node.add("c5").networks("a").error().code.0, 11);
    node.install("b");
    node.network("default/a", json!({"plugins": [{"type": "b"}]}));
    node.add("c6").networks("a").result();
}

#[test]
fn a_plugin_that_works_again_holds_no_pod_for_its_backoff() {
    let node = Node::with(&["a"]);
    node.fail("a", "ADD", 41);
    node.fail("a", "DEL", 42);
    for container in ["c1", "c2", "c3", "c4"] {
        node.add(container).networks("a").error();
        node.edit_record(container, |record| record.failure.as_mut().unwrap().attempts = 10);
    }
    node.mend("a", "ADD");
    node.mend("a", "DEL");
    node.add("c5").networks("a").result();
    assert!(["c1", "c2", "c3", "c4"].iter().all(|container| node.record(container).is_none()));
}

#[test]
fn a_plugin_that_fails_for_want_of_the_namespace_owes_nothing() {
    // After a reboot; sbr fails without a namespace in every version.
    let node = node(json!([{"type": "bridge", "ipam": {"type": "host-local"}}, {"type": "sbr"}]));
    node.add("c1").networks("a").result();
    node.fail("sbr", "DEL", 100);
    node.forget();
    without_namespace(&node, "c1").succeed();
    assert_eq!(node.done(), ["DEL sbr net1", "DEL bridge net1", "DEL primary eth0"]);
    assert!(node.leftovers().is_empty());
}

#[test]
fn an_unknown_plugin_holds_a_pod_without_a_namespace_for_the_grace_alone() {
    let mut node = Node::with(&["a"]);
    node.add("c1").networks("a").result();
    node.fail("a", "DEL", 42);
    assert_eq!(without_namespace(&node, "c1").error().code.0, 42);
    assert_eq!(without_namespace(&node, "c1").error().code.0, 42, "the grace has begun");
    node.set(json!({"missingPluginGrace": "0s"}));
    without_namespace(&node, "c1").succeed();
    let record = node.record("c1").unwrap();
    assert_eq!(record.attachments.len(), 1, "what it may have left is still owed");
    assert!(record.failure.unwrap().message.contains("a cannot DEL"));
    node.mend("a", "DEL");
    node.gc_by_hand().answer();
    assert!(node.leftovers().is_empty());
}

#[test]
fn rules_of_the_packet_filter_are_owed_without_a_namespace() {
    let mut node = node(json!([{"type": "bridge"}, {"type": "portmap"}]));
    node.set(json!({"missingPluginGrace": "0s"}));
    node.add("c1").networks("a").result();
    node.fail("portmap", "DEL", 42);
    assert_eq!(without_namespace(&node, "c1").error().code.0, 42);
    without_namespace(&node, "c1").succeed();
    assert!(node.record("c1").is_some());
}

#[test]
fn addresses_are_freed_where_the_plugin_does_not_get_so_far() {
    // host-device returns at once without a namespace.
    let node = node(json!([{"type": "host-device", "device": "lo", "ipam": {"type": "host-local"}}]));
    node.add("c1").networks("a").result();
    node.forget();
    without_namespace(&node, "c1").succeed();
    assert_eq!(node.take_done(), ["DEL host-device net1", "DEL host-local net1", "DEL primary eth0"]);
    assert!(node.leftovers().is_empty());

    node.add("c2").networks("a").result();
    node.forget();
    node.del("c2").succeed();
    assert_eq!(
        node.take_done(),
        ["DEL host-device net1", "DEL primary eth0"],
        "with one it frees them itself"
    );

    node.add("c3").networks("a").result();
    node.fail("host-local", "DEL", 42);
    let error = without_namespace(&node, "c3").error();
    assert_eq!((error.code.0, node.record("c3").unwrap().attachments.len()), (42, 1), "{error}");
}

#[test]
fn what_lives_in_a_namespace_holds_a_pod_for_the_grace_alone() {
    // host-device, whose device the application has renamed.
    let mut node = node(json!([{"type": "host-device", "device": "lo", "ipam": {"type": "host-local"}}]));
    node.add("c1").networks("a").result();
    node.fail("host-device", "DEL", 100);
    node.forget();
    node.del("c1").error();
    assert_eq!(
        node.take_done(),
        ["DEL host-device net1", "DEL primary eth0"],
        "the pod may use its address still"
    );
    node.del("c1").error();
    node.set(json!({"missingPluginGrace": "0s"}));
    node.forget();
    node.del("c1").succeed();
    assert_eq!(node.done(), ["DEL host-device net1", "DEL host-local net1"]);
    assert!(node.leftovers().is_empty());
}

#[test]
fn a_del_that_goes_on_failing_says_since_when_and_what_to_do() {
    let mut node = Node::with(&["a"]);
    node.add("c1").networks("a").result();
    node.fail("a", "DEL", 42);
    let first = node.del("c1").error();
    assert_eq!(first.msg, "network default/a, interface net1: plugin a: a cannot DEL");
    node.age("c1", Duration::from_secs(75));
    let error = node.del("c1").error();
    let record = node.path("state/attachments/c1").display().to_string();
    assert_eq!(error.code.0, 42);
    for part in
        ["a cannot DEL; DEL of this container has failed 2 times in 7", &record, "`meta-cni give-up c1`"]
    {
        assert!(error.msg.contains(part), "{error}");
    }
    node.set(json!({"missingPluginGrace": "0s"}));
    assert_eq!(node.del("c1").error().code.0, 42, "a plugin that is not known may have left anything");
}

#[test]
fn requests_that_failed_add_do_not_fail_del() {
    let node =
        node(json!([{"type": "bridge", "ipam": {"type": "host-local"}, "capabilities": {"ips": true}}]));
    node.install("other");
    node.network("default/b", json!({"plugins": [{"type": "other", "capabilities": {"ips": true}}]}));
    let wish = |name: &str| json!({"name": name, "ips": ["10.0.0.7/24"], "mac": "02:00:00:00:00:07", "cni-args": {"ips": ["x"], "k": 1}});
    node.add("c1").selections(&json!([wish("a"), wish("b")])).result();
    let added = node.calls();
    node.forget();
    node.del("c1").succeed();
    let calls = node.calls();
    let of = |plugin: &str| calls.iter().find(|call| call.plugin == plugin).unwrap();
    let added = added.iter().find(|call| call.plugin == "bridge").unwrap();
    assert!(added.env["CNI_ARGS"].contains("IP=10.0.0.7") && added.env["CNI_ARGS"].contains("MAC="));
    let known = of("bridge");
    assert!(!known.env["CNI_ARGS"].contains("IP=") && !known.env["CNI_ARGS"].contains("MAC="));
    assert!(known.env["CNI_ARGS"].contains("K8S_POD_NAME=web"));
    assert_eq!(known.stdin["runtimeConfig"]["ips"], Value::Null);
    assert_eq!(known.stdin["args"]["cni"], json!({"k": 1}));
    let unknown = of("other");
    assert!(unknown.env["CNI_ARGS"].contains("IP=10.0.0.7"), "who knows what it goes by");
    assert_eq!(unknown.stdin["runtimeConfig"]["ips"], json!(["10.0.0.7/24"]));
    assert_eq!(unknown.stdin["args"]["cni"], json!({"ips": ["x"], "k": 1}));
}

#[test]
fn a_plain_file_is_no_namespace() {
    // What a runtime leaves that was killed while it removed a sandbox.
    let node = Node::with(&["a"]);
    let file = node.path("stale");
    fs::write(&file, "").unwrap();
    let error = node.add("c1").env("CNI_NETNS", &file).networks("a").error();
    assert_eq!(error.code.0, 8);
    assert!(error.msg.ends_with("leads to no network namespace: it is a file, not a namespace"), "{error}");
    assert!(node.calls().is_empty() && node.leftovers().is_empty());
    node.del("c1").env("CNI_NETNS", &file).succeed();
    assert!(node.calls().is_empty());
    node.add("c2").networks("a").result();
    node.forget();
    node.del("c2").env("CNI_NETNS", &file).succeed();
    assert!(node.calls().iter().all(|call| call.env["CNI_NETNS"].is_empty()), "{:?}", node.done());
}

#[test]
fn the_namespace_of_the_host_is_none_of_a_container_at_del() {
    // The process id in the path is another process's now.
    let node = Node::new();
    node.add("c1").result();
    node.forget();
    node.del("c1").env("CNI_NETNS", "/proc/self/ns/net").succeed();
    assert_eq!(node.calls()[0].env["CNI_NETNS"], "");
    assert!(node.leftovers().is_empty());
}

#[test]
fn a_primary_that_cannot_be_read_now_is_no_reason_to_forget_a_container() {
    let mut node = Node::new();
    let path = node.path("net.d/10-cluster.conflist");
    let whole = fs::read_to_string(&path).unwrap();
    for setting in [json!({}), json!({"clusterNetwork": null, "multusAutoconfigDir": node.path("net.d")})] {
        node.set(setting);
        for text in [&whole[..whole.len() / 2], "", "{\"name\": 7}"] {
            fs::write(&path, text).unwrap();
            let error = node.del("c1").error();
            assert_eq!(error.code.0, 11, "{error}");
            assert!(error.msg.contains("primary network of a container that has no record"), "{error}");
        }
        fs::write(&path, &whole).unwrap();
        node.forget();
        node.del("c1").succeed();
        assert_eq!(node.done(), ["DEL primary eth0"]);
        fs::remove_dir_all(node.path("run/settled")).unwrap();
    }
}

/// `meta-cni give-up` by hand, on this node's directories.
fn give_up<'a>(node: &'a Node, words: &[&str]) -> Run<'a> {
    let dirs = [("--run-dir", "run"), ("--state-dir", "state"), ("--bin-dir", "bin")];
    let dirs = dirs.map(|(option, dir)| [option.to_owned(), node.path(dir).display().to_string()]);
    let words = std::iter::once("give-up").chain(words.iter().copied()).map(str::to_owned);
    let words: Vec<String> = words.chain(dirs.into_iter().flatten()).collect();
    node.by_hand(&words.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn a_person_can_give_up_what_can_never_be_undone() {
    let plugins =
        json!([{"type": "other", "ipam": {"type": "pool"}, "address": "10.0.0.7/24"}, {"type": "portmap"}]);
    let node = node(plugins);
    node.add("c1").networks("a").result();
    for plugin in ["other", "portmap"] {
        node.fail(plugin, "DEL", 42);
    }
    node.del("c1").error();
    node.forget();
    let answer = give_up(&node, &["c1"]).answer();
    assert_eq!(answer.code(), 0, "{answer:?}");
    for part in [
        "container c1, interface eth0: given up; what stays behind:\n",
        "network default/a, interface net1: the interface, in namespace ",
        "10.0.0.7/24, which pool may hold under \"default_a\"",
        "whatever plugin other keeps outside of the namespace; packet filter rules of plugin portmap\n",
        "its DEL failed 1 times, the last time with: network default/a",
    ] {
        assert!(answer.stdout.contains(part), "{part}: {}", answer.stdout);
    }
    assert!(node.leftovers().is_empty());
    node.del("c1").succeed();
    assert!(node.calls().is_empty(), "nothing is run, then or later");
}

#[test]
fn nobody_gives_up_what_is_attached_or_what_is_not_there() {
    let node = Node::new();
    node.add("c1").env("CNI_IFNAME", "eth1").result();
    for (words, code, text) in [
        (vec!["c1"], 1, "there is nothing to give up"),
        (vec!["c1", "--interface", "eth1"], 1, "no DEL of it has failed: delete its pod"),
        (vec!["c1", "--interface", "eth1", "--interface", "eth2"], 2, "--interface needs one value"),
        (vec!["../c1"], 2, "container \"../c1\""),
        (vec!["--interface", "eth0"], 2, "give-up needs the id of a container"),
    ] {
        let answer = give_up(&node, &words).answer();
        let said = format!("{}{}", answer.stdout, answer.stderr);
        assert!(answer.code() == code && said.contains(text), "{words:?}: {answer:?}");
    }
    assert_eq!(node.leftovers(), ["state/attachments/c1@eth1", "run/locks/container/c1"]);
}

#[test]
fn a_record_that_cannot_be_read_can_be_given_up_and_is_kept_aside() {
    let node = Node::new();
    node.add("c1").result();
    fs::write(node.path("state/attachments/c1"), "{").unwrap();
    node.del("c1").error();
    let answer = give_up(&node, &["c1"]).answer();
    assert_eq!(answer.code(), 0, "{answer:?}");
    let aside = node.path("state/.aside/c1-0");
    assert!(answer.stdout.contains(&aside.display().to_string()), "{answer:?}");
    assert_eq!(fs::read_to_string(aside).unwrap(), "{");
    node.forget();
    node.del("c1").succeed();
    assert!(node.calls().is_empty() && node.leftovers().is_empty());
}
