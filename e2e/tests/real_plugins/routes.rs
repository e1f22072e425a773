//! Default routes as pods ask for them, per address family.

use std::net::IpAddr;

use cni::npwg::network_status;
use cni::result::Family;
use e2e::node::{Node, Pod};
use serde_json::{Value, json};

use super::{assert_nothing_is_left_after_del, bridge, list, node, possible};

const FAR: [&str; 2] = ["192.0.2.9", "2001:db8:9::9"];

/// Three networks of both families; `gate` has default routes of its own. Behind the host there are far addresses.
fn routed() -> Node {
    let node = node();
    let fabric = bridge(&node, "fabric0", &["10.7.0.0/24", "fd00:7::/64"]);
    let mut gate = bridge(&node, "gate0", &["10.8.0.0/24", "fd00:8::/64"]);
    gate["isDefaultGateway"] = true.into();
    node.define(&[("default/fabric", &list(&[fabric])), ("default/gate", &list(&[gate]))]).unwrap();
    node.host.netns.ip("address add 192.0.2.9/32 dev lo").unwrap();
    node.host.netns.ip("address add 2001:db8:9::9/128 dev lo").unwrap();
    node
}

fn attached(node: &Node, networks: &Value) -> (Pod, Value) {
    let (pod, result) = added(node, networks);
    node.check(&pod).unwrap();
    (pod, result)
}

fn added(node: &Node, networks: &Value) -> (Pod, Value) {
    let pod = Pod::new("one", &networks.to_string()).unwrap();
    let result = node.add(&pod).unwrap();
    (pod, result)
}

/// The pod's default routes, `interface gateway`, one line for each.
fn defaults(pod: &Pod, family: Family) -> Vec<String> {
    let routes = pod.netns.default_routes(family).unwrap().into_iter();
    routes.map(|(dev, gateway)| format!("{dev} {}", gateway.unwrap())).collect()
}

/// The default routes that the runtime is told.
fn told(result: &Value) -> Vec<String> {
    let routes = result["routes"].as_array().unwrap().iter();
    let defaults = routes.filter(|r| r["dst"] == "0.0.0.0/0" || r["dst"] == "::/0");
    defaults.map(|r| r["gw"].as_str().unwrap_or_default().to_owned()).collect()
}

/// The gateways in the pod's network-status, of each interface.
fn gateways(node: &Node, pod: &Pod) -> Vec<String> {
    let record = node.record(pod).unwrap().unwrap();
    let all = record.attachments.iter().enumerate().flat_map(|(index, attachment)| {
        let result = attachment.result.as_ref().unwrap();
        let (name, if_name) = (&attachment.network, &attachment.if_name);
        network_status::statuses(name, result, if_name, record.netns.as_deref(), index == 0)
    });
    all.flat_map(|status| {
        status.gateway.into_iter().map(move |gateway| format!("{} {gateway}", status.interface))
    })
    .collect()
}

/// Far addresses answer, and the way there is through `interface`.
fn assert_far_through(pod: &Pod, interface: [&str; 2]) {
    for (address, interface) in FAR.into_iter().zip(interface) {
        let way = pod.netns.ip_json(&format!("route get {address}")).unwrap();
        assert_eq!(way[0]["dev"], interface, "to {address}");
        pod.netns.ping(address.parse::<IpAddr>().unwrap(), None).unwrap();
    }
}

#[test]
fn without_a_request_the_primary_keeps_the_default_routes() {
    if !possible(&[]) {
        return;
    }
    let node = routed();
    let (pod, result) = attached(&node, &json!([{ "name": "fabric" }]));
    assert_eq!(defaults(&pod, Family::Ipv4), ["eth0 10.244.0.1"]);
    assert_eq!(defaults(&pod, Family::Ipv6), ["eth0 fd00:244::1"]);
    assert_eq!(told(&result), ["10.244.0.1", "fd00:244::1"]);
    assert_far_through(&pod, ["eth0", "eth0"]);
    assert_nothing_is_left_after_del(&node, &[&pod]);
}

#[test]
fn an_owner_of_one_family_leaves_the_other_to_the_primary() {
    if !possible(&[]) {
        return;
    }
    let node = routed();
    let (pod, result) = attached(&node, &json!([{ "name": "fabric", "default-route": ["10.7.0.1"] }]));
    assert_eq!(defaults(&pod, Family::Ipv4), ["net1 10.7.0.1"]);
    assert_eq!(defaults(&pod, Family::Ipv6), ["eth0 fd00:244::1"]);
    assert_eq!(told(&result), ["fd00:244::1", "10.7.0.1"]);
    assert_eq!(gateways(&node, &pod), ["eth0 fd00:244::1", "net1 10.7.0.1"]);
    assert_far_through(&pod, ["net1", "eth0"]);
    let record = node.record(&pod).unwrap().unwrap();
    assert_eq!(record.attachments[1].default_route, [Family::Ipv4]);
    assert_nothing_is_left_after_del(&node, &[&pod]);

    let (pod, _) = attached(&node, &json!([{ "name": "fabric", "default-route": ["fd00:7::1"] }]));
    assert_eq!(defaults(&pod, Family::Ipv4), ["eth0 10.244.0.1"]);
    assert_eq!(defaults(&pod, Family::Ipv6), ["net1 fd00:7::1"]);
    assert_far_through(&pod, ["eth0", "net1"]);
    assert_nothing_is_left_after_del(&node, &[&pod]);
}

#[test]
fn one_network_may_own_both_families_and_two_networks_one_each() {
    if !possible(&[]) {
        return;
    }
    let node = routed();
    let both = json!([{ "name": "fabric", "default-route": ["10.7.0.1", "fd00:7::1"] }]);
    let (pod, result) = attached(&node, &both);
    assert_eq!(defaults(&pod, Family::Ipv4), ["net1 10.7.0.1"]);
    assert_eq!(defaults(&pod, Family::Ipv6), ["net1 fd00:7::1"]);
    assert_eq!(told(&result), ["10.7.0.1", "fd00:7::1"]);
    assert_far_through(&pod, ["net1", "net1"]);
    assert_nothing_is_left_after_del(&node, &[&pod]);

    let each = json!([
        { "name": "gate", "default-route": ["fd00:8::1"] }, { "name": "fabric", "default-route": ["10.7.0.1"] },
    ]);
    let (pod, _) = attached(&node, &each);
    assert_eq!(defaults(&pod, Family::Ipv4), ["net2 10.7.0.1"]);
    assert_eq!(defaults(&pod, Family::Ipv6), ["net1 fd00:8::1"]);
    assert_far_through(&pod, ["net2", "net1"]);
    assert_nothing_is_left_after_del(&node, &[&pod]);
}

#[test]
fn an_empty_list_keeps_the_networks_own_default_routes_and_the_others_lose_theirs() {
    if !possible(&[]) {
        return;
    }
    let node = routed();
    let (pod, result) = attached(&node, &json!([{ "name": "gate", "default-route": [] }]));
    assert_eq!(defaults(&pod, Family::Ipv4), ["net1 10.8.0.1"]);
    assert_eq!(defaults(&pod, Family::Ipv6), ["net1 fd00:8::1"]);
    assert_eq!(told(&result), ["10.8.0.1", "fd00:8::1"]);
    assert_eq!(gateways(&node, &pod), ["net1 10.8.0.1", "net1 fd00:8::1"]);
    assert_far_through(&pod, ["net1", "net1"]);
    assert_nothing_is_left_after_del(&node, &[&pod]);
}

#[test]
fn an_empty_list_of_a_network_without_default_routes_changes_nothing() {
    if !possible(&[]) {
        return;
    }
    let node = routed();
    let (pod, _) = attached(&node, &json!([{ "name": "fabric", "default-route": [] }]));
    assert_eq!(defaults(&pod, Family::Ipv4), ["eth0 10.244.0.1"]);
    assert_eq!(defaults(&pod, Family::Ipv6), ["eth0 fd00:244::1"]);
    assert_nothing_is_left_after_del(&node, &[&pod]);
}

#[test]
fn every_network_but_the_owner_loses_the_default_route_of_the_owned_family_only() {
    if !possible(&[]) {
        return;
    }
    let node = routed();
    let networks = json!([{ "name": "gate" }, { "name": "fabric", "default-route": ["10.7.0.1"] }]);
    let (pod, _) = attached(&node, &networks);
    assert_eq!(defaults(&pod, Family::Ipv4), ["net2 10.7.0.1"]);
    // Nobody asked for the IPv6 one: both networks that set one keep it.
    let ipv6 = pod.netns.ip("-6 route show default").unwrap();
    assert!(ipv6.contains("fd00:244::1 dev eth0") && ipv6.contains("fd00:8::1 dev net1"), "{ipv6}");
    assert_nothing_is_left_after_del(&node, &[&pod]);

    // The kernel makes one route of several IPv6 ones, which has to be taken apart.
    let networks = json!([{ "name": "gate" }, { "name": "fabric", "default-route": ["fd00:7::1"] }]);
    let (pod, _) = attached(&node, &networks);
    assert_eq!(defaults(&pod, Family::Ipv6), ["net2 fd00:7::1"]);
    let ipv4 = pod.netns.ip("-4 route show default").unwrap();
    assert!(ipv4.contains("10.244.0.1 dev eth0") && ipv4.contains("10.8.0.1 dev net1"), "{ipv4}");
    assert_nothing_is_left_after_del(&node, &[&pod]);
}

/// As `routed`, and `sourced`: like `gate`, but sbr moves the routes of the interface into a table of its own. The CHECK
/// of such a list fails with every runtime: bridge looks for the subnet's route in the main table.
fn routed_by_source() -> Node {
    let node = routed();
    let mut gate = bridge(&node, "sourced0", &["10.9.0.0/24", "fd00:9::/64"]);
    gate["isDefaultGateway"] = true.into();
    node.define(&[("default/sourced", &list(&[gate, json!({ "type": "sbr" })]))]).unwrap();
    node
}

/// Whether sbr's tables, one for each address of `net1`, have the default routes that it has put there.
fn in_its_tables(pod: &Pod) -> [bool; 2] {
    [("-4", "100", "10.9.0.1"), ("-6", "101", "fd00:9::1")].map(|(family, table, gateway)| {
        let routes = pod.netns.ip(&format!("{family} route show table {table}")).unwrap();
        routes.lines().any(|line| line.starts_with(&format!("default via {gateway} dev net1")))
    })
}

#[test]
fn a_gateway_in_the_subnet_is_taken_though_sbr_has_moved_the_routes() {
    if !possible(&[]) {
        return;
    }
    let node = routed_by_source();
    let networks = json!([{ "name": "sourced", "default-route": ["10.9.0.1", "fd00:9::1"] }]);
    let (pod, result) = added(&node, &networks);
    assert_eq!(defaults(&pod, Family::Ipv4), ["net1 10.9.0.1"]);
    assert_eq!(defaults(&pod, Family::Ipv6), ["net1 fd00:9::1"]);
    assert_eq!(told(&result), ["10.9.0.1", "fd00:9::1"]);
    assert_eq!(gateways(&node, &pod), ["net1 10.9.0.1", "net1 fd00:9::1"]);
    assert_far_through(&pod, ["net1", "net1"]);
    assert_eq!(in_its_tables(&pod), [true, true]);
    assert_nothing_is_left_after_del(&node, &[&pod]);

    for outside in ["10.8.0.1", "fd00:8::1"] {
        let pod = Pod::new("one", &json!([{ "name": "sourced", "default-route": [outside] }]).to_string());
        let pod = pod.unwrap();
        let refusal = node.add(&pod).unwrap_err();
        assert_eq!(refusal.code, 7, "{refusal}");
        assert!(refusal.msg.contains("a gateway has to be in a subnet of the interface"), "{refusal}");
        assert_nothing_is_left_after_del(&node, &[&pod]);
    }
}

#[test]
fn an_empty_list_keeps_the_default_route_that_sbr_has_moved_where_it_is() {
    if !possible(&[]) {
        return;
    }
    let node = routed_by_source();
    let (pod, result) = added(&node, &json!([{ "name": "sourced", "default-route": [] }]));
    assert_eq!(defaults(&pod, Family::Ipv4), ["eth0 10.244.0.1"]);
    // Of its IPv6 default route and the primary's the kernel makes one, which sbr leaves where it is.
    assert_eq!(defaults(&pod, Family::Ipv6), ["net1 fd00:9::1"]);
    assert_eq!(told(&result), ["10.244.0.1", "fd00:9::1"]);
    assert_eq!(in_its_tables(&pod), [true, true]);
    assert_far_through(&pod, ["eth0", "net1"]);
    assert_nothing_is_left_after_del(&node, &[&pod]);
}

#[test]
fn a_gateway_that_cannot_be_reached_fails_the_pod_and_everything_is_undone() {
    if !possible(&[]) {
        return;
    }
    let node = routed();
    for gateway in ["198.51.100.1", "2001:db8:77::1"] {
        let networks = json!([{ "name": "fabric", "default-route": [gateway] }]);
        let pod = Pod::new("one", &networks.to_string()).unwrap();
        let refusal = node.add(&pod).unwrap_err();
        assert_eq!(refusal.code, 7, "{refusal}");
        assert!(refusal.msg.contains(gateway) && refusal.msg.contains("net1"), "{refusal}");
        assert_nothing_is_left_after_del(&node, &[&pod]);
    }
    // The IPv4 route could be set, the IPv6 one could not.
    let networks = json!([{ "name": "fabric", "default-route": ["10.7.0.1", "2001:db8:77::1"] }]);
    let pod = Pod::new("one", &networks.to_string()).unwrap();
    node.add(&pod).unwrap_err();
    assert_nothing_is_left_after_del(&node, &[&pod]);
}
