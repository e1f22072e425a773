//! What a pod asks of a network: addresses, hardware addresses, arguments.

use e2e::node::Pod;
use serde_json::{Value, json};

use super::{
    addresses, assert_nothing_is_left, assert_nothing_is_left_after_del, bridge, list, node, possible, tuning,
};

fn mac(pod: &Pod, interface: &str) -> Value {
    pod.netns.link(interface).unwrap()["address"].clone()
}

fn pod(request: &Value) -> Pod {
    Pod::new("one", &json!([request]).to_string()).unwrap()
}

#[test]
fn an_address_and_a_mac_reach_plugins_that_declare_the_capabilities() {
    if !possible(&[]) {
        return;
    }
    let node = node();
    node.define(&[("default/both", &list(&[bridge(&node, "both0", &["10.1.0.0/24", "fd00:1::/64"])]))])
        .unwrap();
    let pod = pod(&json!({
        "name": "both", "ips": ["10.1.0.77/24", "fd00:1::77/64"], "mac": "02:42:00:00:00:77",
    }));
    node.add(&pod).unwrap();
    assert_eq!(addresses(&pod, "net1"), ["10.1.0.77/24", "fd00:1::77/64"]);
    assert_eq!(mac(&pod, "net1"), "02:42:00:00:00:77");
    assert_ne!(mac(&pod, "eth0"), "02:42:00:00:00:77");
    node.check(&pod).unwrap();
    assert_nothing_is_left_after_del(&node, &[&pod]);
}

#[test]
fn an_address_and_a_mac_reach_plugins_without_capabilities_through_cni_args() {
    if !possible(&[]) {
        return;
    }
    let node = node();
    let mut bridge = bridge(&node, "plain0", &["10.1.0.0/24"]);
    bridge.as_object_mut().unwrap().remove("capabilities");
    node.define(&[("default/plain", &list(&[bridge]))]).unwrap();
    let pod = pod(&json!({ "name": "plain", "ips": ["10.1.0.78"], "mac": "02:42:00:00:00:78" }));
    node.add(&pod).unwrap();
    assert_eq!(addresses(&pod, "net1"), ["10.1.0.78/24"]);
    assert_eq!(mac(&pod, "net1"), "02:42:00:00:00:78");
    node.check(&pod).unwrap();
    assert_nothing_is_left_after_del(&node, &[&pod]);
}

#[test]
fn static_ipam_takes_the_pods_addresses_both_ways() {
    if !possible(&[]) {
        return;
    }
    let node = node();
    let network = |bridge: &str, capabilities: Value| {
        list(&[json!({
            "type": "bridge", "bridge": bridge, "capabilities": capabilities, "ipam": { "type": "static" },
        })])
    };
    node.define(&[
        ("default/declares", &network("decl0", json!({ "ips": true }))),
        ("default/silent", &network("silent0", json!({}))),
    ])
    .unwrap();
    let pod = Pod::new(
        "one",
        &json!([
            { "name": "declares", "ips": ["10.8.0.5/24", "fd00:8::5/64"] },
            { "name": "silent", "ips": ["10.9.0.5/24"] },
        ])
        .to_string(),
    )
    .unwrap();
    node.add(&pod).unwrap();
    assert_eq!(addresses(&pod, "net1"), ["10.8.0.5/24", "fd00:8::5/64"]);
    assert_eq!(addresses(&pod, "net2"), ["10.9.0.5/24"]);
    assert_nothing_is_left_after_del(&node, &[&pod]);
}

#[test]
fn a_mac_for_a_plugin_that_takes_none_is_set_by_tuning_behind_it() {
    if !possible(&[]) {
        return;
    }
    let node = node();
    let ptp = json!({ "type": "ptp", "ipam": node.host_local(&["10.3.0.0/24"]) });
    let mut tuning = tuning(&node);
    tuning["capabilities"] = json!({ "mac": true });
    node.define(&[
        ("default/bare", &list(std::slice::from_ref(&ptp))),
        ("default/tuned", &list(&[ptp, tuning])),
    ])
    .unwrap();
    let refused = pod(&json!({ "name": "bare", "mac": "02:42:00:00:00:79" }));
    let refusal = node.add(&refused).unwrap_err();
    assert_eq!(refusal.code, 7, "{refusal}");
    assert!(refusal.msg.contains("\"mac\"") && refusal.msg.contains("tuning"), "{refusal}");
    assert_nothing_is_left(&node, &[&refused]);
    let pod = pod(&json!({ "name": "tuned", "mac": "02:42:00:00:00:79" }));
    node.add(&pod).unwrap();
    assert_eq!(mac(&pod, "net1"), "02:42:00:00:00:79");
    assert_nothing_is_left_after_del(&node, &[&pod]);
}

#[test]
fn arguments_of_the_pod_reach_plugins_beside_the_networks_own() {
    if !possible(&[]) {
        return;
    }
    let node = node();
    node.define(&[("default/storage", &list(&[bridge(&node, "storage0", &["10.1.0.0/24"])]))]).unwrap();
    let pod = pod(&json!({ "name": "storage", "cni-args": { "ips": ["10.1.0.80"] } }));
    node.add(&pod).unwrap();
    assert_eq!(addresses(&pod, "net1"), ["10.1.0.80/24"]);
    assert_nothing_is_left_after_del(&node, &[&pod]);
}

#[test]
fn an_address_that_cannot_be_had_fails_the_pod_and_leaves_nothing() {
    if !possible(&[]) {
        return;
    }
    let node = node();
    node.define(&[("default/storage", &list(&[bridge(&node, "storage0", &["10.1.0.0/24"])]))]).unwrap();
    let holder = pod(&json!({ "name": "storage", "ips": ["10.1.0.81"] }));
    node.add(&holder).unwrap();
    let before = node.reservations().unwrap();
    for wish in ["10.1.0.81", "10.99.0.1"] {
        let second = Pod::new("two", &json!([{ "name": "storage", "ips": [wish] }]).to_string()).unwrap();
        let refusal = node.add(&second).unwrap_err();
        assert!(refusal.msg.contains("network default/storage, interface net1"), "{refusal}");
        assert!(refusal.msg.contains(wish), "{refusal}");
        assert_eq!(node.reservations().unwrap(), before);
        assert_eq!(second.netns.links().unwrap(), ["lo".to_owned()].into());
        node.del(&second).unwrap();
    }
    node.check(&holder).unwrap();
    assert_nothing_is_left_after_del(&node, &[&holder]);
}
