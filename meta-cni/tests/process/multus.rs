//! Containers that Multus attached are undone from what it wrote down.

use std::fs;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use store::record::Phase;

use crate::harness::{Node, Run};

/// A node on which Multus attached `c1` to the primary and to networks `a` and `b`, the latter as `data0`.
fn node() -> Node {
    let node = Node::with(&["a", "b"]);
    fs::create_dir_all(node.path("cni/multus/results")).unwrap();
    node.write("cni/multus/c1", &json!([cluster(), secondary("a", ""), secondary("b", "data0")]));
    for (network, interface, address) in
        [("cluster", "eth0", "10.0.0.2/24"), ("a", "net1", "10.1.0.2/24"), ("b", "data0", "10.2.0.2/24")]
    {
        let result = json!({"cniVersion": "1.0.0", "ips": [{"address": address}]});
        let capabilities = json!({"mac": format!("of {network}")});
        let cached = json!({
            "kind": "cniCacheV1", "containerId": "c1", "networkName": network, "ifName": interface,
            "cniArgs": [["K8S_POD_NAME", "cached"]], "capabilityArgs": capabilities, "result": result,
        });
        node.write(&format!("cni/multus/results/{network}-c1-{interface}"), &cached);
    }
    // As the primary is now, which is not as it was.
    node.install("today");
    node.cluster(json!({"plugins": [{"type": "today"}]}));
    node
}

/// The primary as Multus 4.3.0 writes it down, with `Bytes` that lack what the plugin needs.
fn cluster() -> Value {
    let whole = base64(json!({"type": "primary", "bridge": "cni0"}));
    let lossy = base64(json!({"cniVersion": "1.0.0", "name": "cluster", "plugins": [{"type": "primary"}]}));
    let list = json!({"Name": "cluster", "CNIVersion": "1.0.0", "Plugins": [{"Bytes": whole}]});
    json!({"Name": "", "ifnameRequest": "", "CNINetworkConfigList": list, "Bytes": lossy})
}

fn secondary(name: &str, interface: &str) -> Value {
    let conf = json!({"cniVersion": "1.0.0", "name": name, "type": name, "capabilities": {"mac": true, "ips": true}});
    json!({
        "Name": format!("default/{name}"), "ifnameRequest": interface, "ipRequest": ["10.9.0.9/24"],
        "CNINetworkConfigList": {"Plugins": null}, "Bytes": base64(conf),
    })
}

fn base64(json: Value) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(json.to_string())
}

/// What is left below Multus's directory.
fn left(node: &Node) -> Vec<String> {
    let dirs = [node.path("cni/multus"), node.path("cni/multus/results")];
    let entries = dirs.iter().flat_map(|dir| fs::read_dir(dir).unwrap()).map(Result::unwrap);
    let files = entries.filter(|entry| entry.path().is_file());
    let mut names: Vec<_> = files.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// DEL as a runtime makes it that knows nothing but the container.
fn bare(run: Run<'_>) -> Run<'_> {
    run.without("CNI_NETNS").without("CNI_ARGS").without_annotations()
}

#[test]
fn every_network_is_undone_in_reverse_with_what_it_had_at_add() {
    let node = node();
    node.del("c1").networks("nonsense,,").succeed();
    assert_eq!(node.done(), ["DEL b data0", "DEL a net1", "DEL primary eth0"]);
    let calls = node.calls();
    assert_eq!(calls[2].stdin["bridge"], "cni0", "the whole configuration, not the lossy one");
    assert_eq!(calls[2].stdin["prevResult"]["ips"][0]["address"], "10.0.0.2/24");
    assert_eq!(calls[0].stdin["runtimeConfig"], json!({"mac": "of b", "ips": ["10.9.0.9/24"]}));
    assert_eq!(calls[0].stdin["prevResult"]["ips"][0]["address"], "10.2.0.2/24");
    assert!(calls.iter().all(|call| call.env["CNI_NETNS"] == node.path("netns").display().to_string()));
    assert!(calls[0].env["CNI_ARGS"].contains("K8S_POD_NAME=web"), "the runtime's come first");
    assert!(left(&node).is_empty() && node.leftovers().is_empty());
    node.forget();
    node.del("c1").succeed();
    assert!(node.done().is_empty(), "DEL is repeated");
}

#[test]
fn a_container_id_is_enough() {
    let node = node();
    bare(node.del("c1")).succeed();
    assert_eq!(node.done(), ["DEL b data0", "DEL a net1", "DEL primary eth0"]);
    assert!(node.calls().iter().all(|call| call.env["CNI_ARGS"] == "K8S_POD_NAME=cached"));
    assert!(left(&node).is_empty());
}

#[test]
fn what_fails_is_recorded_and_tried_again_and_multus_file_goes_with_the_last() {
    let node = node();
    node.fail("a", "DEL", 42);
    let error = node.del("c1").error();
    assert_eq!(
        (error.code.0, error.msg.as_str()),
        (42, "network default/a, interface net1: plugin a: a cannot DEL")
    );
    assert_eq!(node.take_done(), ["DEL b data0", "DEL a net1", "DEL primary eth0"], "it goes on");
    assert_eq!(left(&node).len(), 4, "nothing of Multus's is removed before all is undone");
    node.mend("a", "DEL");
    node.add("c2").result();
    assert_eq!(node.take_done(), ["ADD today eth0", "DEL a net1"], "another run takes it up");
    assert!(left(&node).is_empty() && node.record("c1").is_none());
}

#[test]
fn results_that_libcni_does_not_have_are_done_without() {
    let node = node();
    fs::remove_file(node.path("cni/multus/results/a-c1-net1")).unwrap();
    node.write("cni/multus/results/b-c1-data0", &json!("nonsense"));
    node.del("c1").succeed();
    let results: Vec<_> = node.calls().iter().map(|call| call.stdin.get("prevResult").is_some()).collect();
    assert_eq!(results, [false, false, true]);
    assert!(left(&node).is_empty());
}

#[test]
fn a_file_that_is_cut_off_is_told_and_kept_and_holds_no_pod_for_ever() {
    for text in ["", "[{\"Bytes\":\"e30", "[{}]", "{}"] {
        let mut node = node();
        let file = node.path("cni/multus/c1");
        fs::write(&file, text).unwrap();
        let error = node.del("c1").error();
        assert_eq!(error.code.0, 6);
        let path = file.display().to_string();
        assert!(error.msg.starts_with(&path) && error.msg.contains("then remove that file"), "{error}");
        assert_eq!(node.take_done(), ["DEL today eth0"], "the primary is undone all the same");
        node.set(json!({"missingPluginGrace": "0s"}));
        node.del("c1").succeed();
        assert_eq!(node.record("c1").unwrap().phase, Phase::Deleting, "it stays recorded");
        assert_eq!(fs::read_to_string(&file).unwrap(), text);
        fs::remove_file(file).unwrap();
        node.age("c1", Duration::from_secs(300));
        node.status().answer();
        assert!(node.leftovers().is_empty(), "whoever removes it has ended the matter");
        assert!(node.done().iter().all(|call| !call.starts_with("DEL")));
    }
}

#[test]
fn a_plugin_that_is_gone_holds_a_pod_of_multus_no_longer_than_one_of_ours() {
    let mut node = node();
    node.uninstall("b");
    assert!(node.del("c1").error().msg.contains("find plugin b in "));
    node.set(json!({"missingPluginGrace": "0s"}));
    node.del("c1").succeed();
    assert_eq!(node.record("c1").unwrap().attachments.len(), 1);
    assert_eq!(left(&node).len(), 4);
}

#[test]
fn without_a_file_of_multus_the_primary_of_today_is_undone() {
    let node = node();
    node.write("cni/multus/c3", &json!([]));
    for container in ["c2", "c3"] {
        node.del(container).succeed();
        assert_eq!(node.take_done(), ["DEL today eth0"]);
    }
    assert_eq!(left(&node).len(), 4, "that of c3 goes, those of c1 stay");
}

#[test]
fn a_file_in_which_multus_called_us_is_its_own_to_settle() {
    let node = node();
    let us = json!({"Name": "", "Bytes": base64(json!({"name": "braid", "type": "meta-cni"}))});
    node.write("cni/multus/c2", &json!([us, secondary("a", "")]));
    node.add("c2").result();
    node.forget();
    node.del("c2").succeed();
    assert_eq!(node.done(), ["DEL today eth0"]);
    assert!(node.path("cni/multus/c2").exists());
}

#[test]
fn braid_that_leaves_undoes_them_too_unless_multus_is_back() {
    let node = node();
    node.del("c1").set(json!({"retired": true})).succeed();
    assert_eq!(node.done(), ["DEL b data0", "DEL a net1", "DEL primary eth0"]);
    assert!(left(&node).is_empty());
}

#[test]
fn gc_undoes_those_that_the_runtime_no_longer_has() {
    let node = node();
    node.write("cni/multus/keep", &json!([cluster()]));
    node.write("cni/multus/new", &json!([cluster()]));
    let later = SystemTime::now() + Duration::from_secs(3600);
    fs::File::options().write(true).open(node.path("cni/multus/new")).unwrap().set_modified(later).unwrap();
    node.gc(&[("keep", "eth0")]).succeed();
    assert_eq!(node.done(), ["DEL b data0", "DEL a net1", "DEL primary eth0"]);
    assert_eq!(left(&node), ["keep", "new"]);
}
