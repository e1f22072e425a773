//! DEL: from the record alone, whatever has become of everything else.

use std::fs;
use std::time::Duration;

use serde_json::json;
use store::record::Phase;

use crate::harness::Node;

#[test]
fn del_undoes_what_add_did_whatever_the_node_says_now() {
    let mut node = Node::with(&["a", "b"]);
    node.install("other");
    node.network("default/a", json!({"plugins": [{"type": "a", "policy": {"kubeconfig": "/etc/a"}}]}));
    node.add("c1").networks("a,b").result();
    let added = node.calls();
    node.forget();
    // Gone, changed and new; and the runtime calls with other settings from another place.
    fs::remove_dir_all(node.path("run/networks")).unwrap();
    fs::remove_dir_all(node.path("run/unfinished")).unwrap();
    node.network("default/b", json!({"plugins": [{"type": "other"}]}));
    node.cluster(json!({"plugins": [{"type": "other"}]}));
    node.set(json!({"defaultNetworks": ["absent"], "binDir": "/nonexistent", "confDir": "/nonexistent"}));
    node.set(json!({"readinessindicatorfile": "/nonexistent/file"}));
    node.del("c1").env("CNI_PATH", "/nonexistent").networks("nonsense,,").env("CNI_ARGS", "").succeed();
    let deleted = node.calls();
    assert_eq!(node.done(), ["DEL b net2", "DEL a net1", "DEL primary eth0"]);
    for (add, del) in added.iter().rev().zip(&deleted) {
        let mut stdin = del.stdin.clone();
        let result = stdin.as_object_mut().unwrap().remove("prevResult").unwrap();
        assert_eq!(stdin, add.stdin);
        assert_eq!(result["interfaces"][0]["name"], add.env["CNI_IFNAME"].as_str());
        let same = ["CNI_ARGS", "CNI_CONTAINERID", "CNI_IFNAME", "CNI_NETNS"];
        assert!(same.iter().all(|name| add.env[*name] == del.env[*name]), "{del:?}");
        let path = format!("{}:/nonexistent", node.path("bin").display());
        assert_eq!(del.env["CNI_PATH"], path, "where plugins were, then where they are");
    }
    assert!(node.leftovers().is_empty());
}

#[test]
fn del_goes_on_after_errors_and_tells_all_of_them() {
    let node = Node::with(&["a", "b"]);
    node.add("c1").networks("a,b").result();
    node.forget();
    node.fail("b", "DEL", 111);
    node.fail("primary", "DEL", 112);
    let error = node.del("c1").error();
    assert_eq!(error.code.0, 111);
    assert_eq!(
        error.msg,
        "network default/b, interface net2: plugin b: b cannot DEL; \
         network cluster, interface eth0: plugin primary: primary cannot DEL"
    );
    assert_eq!(node.take_done(), ["DEL b net2", "DEL a net1", "DEL primary eth0"]);
    node.mend("b", "DEL");
    assert_eq!(node.del("c1").error().code.0, 112);
    assert_eq!(node.take_done(), ["DEL b net2", "DEL primary eth0"], "what is undone is not undone again");
    assert_eq!(node.record("c1").unwrap().failure.unwrap().attempts, 2);
    node.mend("primary", "DEL");
    node.del("c1").succeed();
    assert_eq!(node.take_done(), ["DEL primary eth0"]);
}

#[test]
fn within_a_list_del_goes_on_too() {
    let node = Node::new();
    node.install("chained");
    let needs = json!({"ADD": {"needs": true}, "CHECK": {"needs": true}});
    node.cluster(json!({"plugins": [{"type": "primary"}, {"type": "chained", "steer": needs}]}));
    node.add("c1").result();
    node.check("c1").succeed();
    node.forget();
    node.fail("chained", "DEL", 111);
    assert_eq!(node.del("c1").error().code.0, 111);
    assert_eq!(node.done(), ["DEL chained eth0", "DEL primary eth0"]);
}

#[test]
fn del_may_be_repeated_and_may_come_after_an_add_that_failed() {
    let node = Node::new();
    node.add("failed").networks("absent").error();
    node.del("failed").succeed();
    node.del("failed").without("CNI_NETNS").succeed();
    node.add("c1").result();
    node.del("c1").succeed();
    node.forget();
    node.del("c1").succeed();
    assert!(node.calls().is_empty());
    assert!(node.leftovers().is_empty());
}

#[test]
fn del_works_when_the_network_namespace_is_gone() {
    for netns in [None, Some("/nonexistent/netns")] {
        let node = Node::with(&["a"]);
        node.add("c1").networks("a").result();
        node.forget();
        fs::remove_file(node.path("netns")).unwrap();
        let run = node.del("c1").without("CNI_NETNS");
        match netns {
            Some(path) => run.env("CNI_NETNS", path).succeed(),
            None => run.succeed(),
        }
        let given: Vec<_> = node.calls().iter().map(|call| call.env["CNI_NETNS"].clone()).collect();
        assert_eq!(given, ["", ""], "a path that leads nowhere is none");
        assert!(node.leftovers().is_empty());
    }
}

#[test]
fn del_sends_no_plugin_into_a_namespace_that_is_another_ones_now() {
    // As when the process id in /proc/<pid>/ns/net is used again.
    let node = Node::with(&["a"]);
    node.add("c1").networks("a").result();
    node.forget();
    node.replace_namespace();
    node.del("c1").succeed();
    let given: Vec<_> = node.calls().iter().map(|call| call.env["CNI_NETNS"].clone()).collect();
    assert_eq!(given, ["", ""]);

    // After a reboot an inode's number says nothing.
    node.add("c2").result();
    node.edit_record("c2", |record| record.boot_id = "an earlier boot".to_owned());
    node.forget();
    node.del("c2").succeed();
    assert_eq!(node.calls()[0].env["CNI_NETNS"], "");
}

#[test]
fn a_plugin_that_is_gone_fails_del_until_the_grace_is_over_and_its_part_is_never_forgotten() {
    let mut node = Node::with(&["a"]);
    node.add("c1").networks("a").result();
    node.forget();
    node.uninstall("a");
    let error = node.del("c1").error();
    assert!(error.msg.contains("find plugin a in "), "{error}");
    assert_eq!(node.take_done(), ["DEL primary eth0"], "the others are undone");
    node.del("c1").error();

    node.set(json!({"missingPluginGrace": "0s"}));
    node.del("c1").succeed();
    node.del("c1").succeed();
    let record = node.record("c1").unwrap();
    assert_eq!(record.phase, Phase::Deleting);
    assert_eq!(record.attachments.len(), 1);

    node.install("a");
    node.age("c1", Duration::from_secs(300));
    node.status().succeed();
    assert_eq!(node.done(), ["DEL a net1"]);
    assert!(node.leftovers().is_empty());
}

#[test]
fn an_ipam_plugin_that_is_gone_does_not_hold_a_pod_for_ever_either() {
    let mut node = Node::new();
    for plugin in ["bridge", "pool"] {
        node.install(plugin);
    }
    let plugins = json!([{"type": "bridge", "ipam": {"type": "pool"}}]);
    node.network("default/a", json!({"plugins": plugins}));
    node.add("c1").networks("a").result();
    node.uninstall("pool");
    node.fail("bridge", "DEL", 42);
    assert_eq!(node.del("c1").error().code.0, 42, "the grace has begun");
    node.set(json!({"missingPluginGrace": "0s"}));
    node.del("c1").succeed();
    assert_eq!(node.record("c1").unwrap().attachments.len(), 1, "it stays recorded");
    node.install("pool");
    node.forget();
    node.del("c1").succeed();
    assert_eq!(
        node.done(),
        ["DEL bridge net1", "DEL pool net1"],
        "with it there, addresses are freed by it alone"
    );
    assert!(node.leftovers().is_empty());
}

#[test]
fn the_grace_is_for_plugins_that_are_gone_and_not_for_those_that_fail() {
    let mut node = Node::with(&["a"]);
    node.set(json!({"missingPluginGrace": "0s"}));
    node.add("c1").networks("a").result();
    node.uninstall("a");
    node.fail("primary", "DEL", 42);
    for _ in 0..3 {
        let error = node.del("c1").error();
        assert!(error.msg.contains("find plugin a") && error.msg.contains("primary cannot DEL"), "{error}");
    }
}

#[test]
fn a_record_that_cannot_be_read_is_an_error_with_its_path_and_stays() {
    for (text, code, why) in [
        ("", 6, "is damaged"),
        ("{", 6, "is damaged"),
        ("{\"schema\":1}", 6, "is damaged"),
        ("[]", 6, "is damaged"),
        ("{\"schema\":2,\"attachments\":[]}", 11, "has schema version 2, this version of Braid reads 1"),
    ] {
        let node = Node::new();
        node.add("c1").result();
        node.forget();
        let path = node.path("state/attachments/c1");
        fs::write(&path, text).unwrap();
        for run in [node.del("c1"), node.add("c1"), node.check("c1")] {
            let error = run.error();
            assert_eq!(error.code.0, code, "{text}: {error}");
            assert!(error.msg.contains(&path.display().to_string()) && error.msg.contains(why), "{error}");
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        assert!(node.calls().is_empty());
        node.add("c2").result();
        node.del("c2").succeed();
    }
}

#[test]
fn a_container_may_have_several_primaries_each_with_its_own_record() {
    // podman and nerdctl call once for each network, with an interface of their own.
    let node = Node::with(&["a"]);
    node.add("c1").result();
    node.add("c1").env("CNI_IFNAME", "eth1").networks("a").result();
    node.del("c1").succeed();
    node.forget();
    node.del("c1").env("CNI_IFNAME", "eth1").succeed();
    assert_eq!(node.done(), ["DEL a net1", "DEL primary eth1"]);
    assert!(node.leftovers().is_empty());
}

#[test]
fn a_container_from_before_braid_is_undone_with_the_primary_of_today() {
    let node = Node::with(&["a"]);
    node.install("chained");
    let ports = json!({"type": "chained", "capabilities": {"portMappings": true}});
    node.cluster(json!({"plugins": [{"type": "primary"}, ports]}));
    let result = json!({"cniVersion": "1.1.0", "ips": [{"address": "10.0.0.7/24"}]});
    let run = node.del("c1").networks("a").capability("portMappings", json!([{"hostPort": 80}]));
    run.set(json!({"prevResult": result})).succeed();
    assert_eq!(node.done(), ["DEL chained eth0", "DEL primary eth0"], "not what it may have had besides");
    let call = &node.calls()[0];
    assert_eq!(call.env["CNI_NETNS"], node.path("netns").display().to_string());
    assert!(call.env["CNI_ARGS"].contains("K8S_POD_NAME=web"));
    assert_eq!(call.stdin["name"], "cluster");
    assert_eq!(call.stdin["runtimeConfig"], json!({"portMappings": [{"hostPort": 80}]}));
    assert_eq!(call.stdin["prevResult"]["ips"][0]["address"], "10.0.0.7/24");
    assert!(node.leftovers().is_empty());
    node.forget();
    node.del("c1").succeed();
    assert!(node.calls().is_empty(), "the runtime repeats DEL, its plugins need not");
    node.del("c2").without("CNI_NETNS").set(json!({"prevResult": "nonsense"})).succeed();
    assert_eq!(node.calls()[0].stdin.get("prevResult"), None);
}

#[test]
fn what_cannot_be_undone_of_a_container_from_before_braid_is_recorded_and_tried_again() {
    let mut node = Node::new();
    node.fail("primary", "DEL", 42);
    assert_eq!(node.del("c1").error().code.0, 42);
    assert_eq!(node.record("c1").unwrap().phase, Phase::Deleting);
    node.set(json!({"missingPluginGrace": "0s"}));
    node.del("c1").succeed();
    node.mend("primary", "DEL");
    node.gc_by_hand().answer();
    assert!(node.leftovers().is_empty());
}

#[test]
fn without_a_record_and_without_a_primary_there_is_nothing_to_undo() {
    let node = Node::new();
    fs::remove_file(node.path("net.d/10-cluster.conflist")).unwrap();
    let answer = node.del("c1").answer();
    answer.succeed();
    assert!(
        answer
            .log()
            .iter()
            .any(|line| line["message"].as_str().unwrap().contains("there is no primary network"))
    );
}
