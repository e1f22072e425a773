//! The one result that the runtime gets.

use serde_json::{Value, json};

use crate::harness::Node;

/// A node on which the primary makes a bridge, a veth pair and two addresses, and `a` an interface.
fn node() -> Node {
    let node = Node::with(&["a"]);
    let sandbox = node.path("netns");
    node.steer(
        "primary",
        "ADD",
        json!({"result": {
            "cniVersion": "1.1.0",
            "interfaces": [
                {"name": "cni0", "mac": "02:00:00:00:00:10"},
                {"name": "veth1", "mac": "02:00:00:00:00:11"},
                {"name": "eth0", "mac": "02:00:00:00:00:12", "mtu": 1450, "sandbox": sandbox},
            ],
            "ips": [
                {"address": "10.0.0.5/24", "gateway": "10.0.0.1", "interface": 2},
                {"address": "fd00::5/64", "gateway": "fd00::1", "interface": 2},
            ],
            "routes": [{"dst": "0.0.0.0/0", "gw": "10.0.0.1"}],
            "dns": {"nameservers": ["10.0.0.10"], "search": ["svc"]},
        }}),
    );
    node.steer(
        "a",
        "ADD",
        json!({"result": {
            "cniVersion": "1.1.0",
            "interfaces": [{"name": "net1", "mac": "02:00:00:00:00:20", "sandbox": sandbox}],
            "ips": [{"address": "192.168.1.5/24", "gateway": "192.168.1.1", "interface": 0}],
            "routes": [{"dst": "192.168.0.0/16", "gw": "192.168.1.1"}],
            "dns": {"nameservers": ["192.168.1.10"]},
        }}),
    );
    node
}

#[test]
fn the_primary_comes_first_and_addresses_keep_their_interfaces() {
    let node = node();
    let sandbox = node.path("netns");
    assert_eq!(
        node.add("c1").networks("a").result(),
        json!({
            "cniVersion": "1.1.0",
            "interfaces": [
                {"name": "cni0", "mac": "02:00:00:00:00:10"},
                {"name": "veth1", "mac": "02:00:00:00:00:11"},
                {"name": "eth0", "mac": "02:00:00:00:00:12", "mtu": 1450, "sandbox": sandbox},
                {"name": "net1", "mac": "02:00:00:00:00:20", "sandbox": sandbox},
            ],
            "ips": [
                {"address": "10.0.0.5/24", "gateway": "10.0.0.1", "interface": 2},
                {"address": "fd00::5/64", "gateway": "fd00::1", "interface": 2},
                {"address": "192.168.1.5/24", "gateway": "192.168.1.1", "interface": 3},
            ],
            "routes": [{"dst": "0.0.0.0/0", "gw": "10.0.0.1"}],
            "dns": {"nameservers": ["10.0.0.10"], "search": ["svc"]},
        })
    );
    let record = node.record("c1").unwrap();
    let results: Vec<_> = record.attachments.iter().map(|a| a.result.as_ref().unwrap().ips.len()).collect();
    assert_eq!(results, [2, 1], "each attachment keeps its own");
}

/// The kubelet takes the first address of each family that CRI-O gives it, whatever its interface; containerd gives it
/// those of `eth0`.
#[test]
fn a_runtime_gets_what_it_can_do_with() {
    let node = node();
    for (runtime, expected) in [("containerd", true), ("crio", false), ("something", false)] {
        // A shell by this name, which does not become the program that it runs.
        let shell = node.path(runtime);
        std::fs::copy("/bin/sh", &shell).unwrap();
        let through = [shell.to_str().unwrap(), "-c", "\"$0\" \"$@\"; exit $?"];
        let add = |container: &str| {
            node.add(container).networks("a").set(json!({"result": null})).through(&through)
        };
        let result = add(&format!("pod-of-{runtime}")).result();
        assert_eq!(names(&result).contains(&"net1"), expected, "{runtime}: {result}");
        // The record, from which network-status is written, has everything.
        let record = node.record(&format!("pod-of-{runtime}")).unwrap();
        assert!(record.attachments.iter().all(|attachment| attachment.result.is_some()));
        // No kubelet asks for a container that is no pod.
        let alone = add(&format!("no-pod-of-{runtime}"))
            .env("CNI_ARGS", "IgnoreUnknown=1")
            .set(json!({"defaultNetworks": ["a"], "multusNamespace": "default"}))
            .result();
        assert!(names(&alone).contains(&"net1"), "{runtime}: {alone}");
    }
}

#[test]
fn the_runtime_may_be_given_the_primary_alone() {
    let result = node().add("c1").networks("a").set(json!({"result": "primary"})).result();
    assert_eq!(names(&result), ["cni0", "veth1", "eth0"]);
    assert_eq!(result["ips"].as_array().unwrap().len(), 2);
}

fn names(result: &Value) -> Vec<&str> {
    result["interfaces"].as_array().unwrap().iter().map(|i| i["name"].as_str().unwrap()).collect()
}

#[test]
fn several_interfaces_of_one_name_are_told_once_with_the_pods_own() {
    let node = node();
    node.steer(
        "a",
        "ADD",
        json!({"result": {
            "interfaces": [{"name": "veth1"}, {"name": "net1", "sandbox": node.path("netns")}],
            "ips": [{"address": "192.168.1.5/24", "interface": 1}],
        }}),
    );
    let result = node.add("c1").networks("a").result();
    assert_eq!(names(&result), ["cni0", "veth1", "eth0", "net1"]);
    assert_eq!(result["ips"][2], json!({"address": "192.168.1.5/24", "interface": 3}));
}

#[test]
fn the_result_has_the_version_of_the_configuration_whatever_delegates_speak() {
    for version in ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        for theirs in ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
            let node = Node::new();
            node.install("a");
            node.cluster(json!({"cniVersion": theirs, "plugins": [{"type": "primary"}]}));
            let plugin = json!({"type": "a", "address": "fd00::2/64"});
            node.network("default/a", json!({"cniVersion": theirs, "plugins": [plugin]}));
            let result = node.add("c1").networks("a").set(json!({"cniVersion": version})).result();
            let place = format!("{version} of {theirs}");
            assert_eq!(result["cniVersion"], version, "{place}");
            assert_eq!(names(&result), ["eth0", "net1"], "{place}");
            let with_family = version < "1.0.0";
            for (ip, (address, family)) in [("10.0.0.2/24", "4"), ("fd00::2/64", "6")].into_iter().enumerate()
            {
                let mut expected = json!({"address": address, "interface": ip});
                if with_family {
                    expected["version"] = family.into();
                }
                assert_eq!(result["ips"][ip], expected, "{place}");
            }
            assert_eq!(node.calls()[1].stdin["cniVersion"], theirs, "{place}");
        }
    }
}

#[test]
fn the_oldest_runtimes_get_the_first_address_of_each_family() {
    for version in ["0.1.0", "0.2.0"] {
        let result = node().add("c1").networks("a").set(json!({"cniVersion": version})).result();
        assert_eq!(result["cniVersion"], version);
        assert_eq!(result["ip4"]["ip"], "10.0.0.5/24");
        assert_eq!(result["ip4"]["routes"], json!([{"dst": "0.0.0.0/0", "gw": "10.0.0.1"}]));
        assert_eq!(result["ip6"]["ip"], "fd00::5/64");
        assert_eq!(result.get("interfaces"), None);
    }
}

#[test]
fn a_result_that_the_runtimes_version_cannot_express_is_a_failure_that_is_undone() {
    let node = Node::new();
    node.steer("primary", "ADD", json!({"result": {"interfaces": [{"name": "eth0"}]}}));
    let error = node.add("c1").set(json!({"cniVersion": "0.2.0"})).error();
    assert!(error.msg.contains("needs at least one address"), "{error}");
    assert_eq!(node.done(), ["ADD primary eth0", "DEL primary eth0"]);
    assert!(node.record("c1").is_none());
}

#[test]
fn a_configuration_without_version_means_the_oldest() {
    let result = node().add("c1").set(json!({"cniVersion": null})).result();
    assert_eq!(result["cniVersion"], "0.1.0");
}
