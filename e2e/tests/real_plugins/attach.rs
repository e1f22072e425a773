//! Networks of every kind: attached, reachable, checked, gone.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use cni::result::Family;
use e2e::netns::Namespace;
use e2e::node::Pod;
use e2e::requirement::Need;
use e2e::runtime::pod_ips;
use ipnet::IpNet;
use serde_json::json;

use super::{
    addresses, assert_nothing_is_left_after_del, assert_reachable, bridge, ips_of, list, node, possible,
    tuning,
};

const PATIENCE: Duration = Duration::from_secs(10);

#[test]
fn a_pod_has_its_primary_and_a_bridge_and_other_pods_answer_on_both() {
    if !possible(&[]) {
        return;
    }
    let node = node();
    node.define(&[("default/storage", &list(&[bridge(&node, "storage0", &["10.1.0.0/24"])]))]).unwrap();
    let pods = [Pod::new("one", "storage").unwrap(), Pod::new("two", "storage").unwrap()];
    for pod in &pods {
        let result = node.add(pod).unwrap();
        let eth0 = addresses(pod, "eth0");
        assert_eq!(ips_of(&result, "eth0"), eth0);
        assert_eq!(ips_of(&result, "net1"), addresses(pod, "net1"));
        let ips: Vec<IpAddr> = pod.netns.addresses("eth0").unwrap().iter().map(IpNet::addr).collect();
        assert_eq!(pod_ips(&result).unwrap(), ips, "the runtime takes the primary's addresses, IPv4 first");
        node.check(pod).unwrap();
    }
    for interface in ["eth0", "net1"] {
        assert_reachable(&pods[0], &pods[1], interface);
    }
    assert_nothing_is_left_after_del(&node, &[&pods[0], &pods[1]]);
}

#[test]
fn a_second_network_has_one_family_or_both() {
    if !possible(&[]) {
        return;
    }
    let node = node();
    node.define(&[
        ("default/four", &list(&[bridge(&node, "four0", &["10.1.4.0/24"])])),
        ("default/six", &list(&[bridge(&node, "six0", &["fd00:6::/64"])])),
        ("default/both", &list(&[bridge(&node, "both0", &["10.1.46.0/24", "fd00:46::/64"])])),
    ])
    .unwrap();
    let networks = "four,six,both";
    let pods = [Pod::new("one", networks).unwrap(), Pod::new("two", networks).unwrap()];
    for pod in &pods {
        let result = node.add(pod).unwrap();
        let families = ["net1", "net2", "net3"].map(|interface| ips_of(&result, interface).len());
        assert_eq!(families, [1, 1, 2]);
        node.check(pod).unwrap();
    }
    for interface in ["net1", "net2", "net3"] {
        assert_reachable(&pods[0], &pods[1], interface);
    }
    assert_nothing_is_left_after_del(&node, &[&pods[0], &pods[1]]);
}

#[test]
fn macvlan_pods_reach_each_other_over_their_master() {
    if !possible(&[Need::Link("macvlan")]) {
        return;
    }
    let node = node();
    node.host.cable("up0", "switch0").unwrap();
    let macvlan = json!({
        "type": "macvlan", "master": "up0", "mode": "bridge",
        "ipam": node.host_local(&["10.2.0.0/24", "fd00:2::/64"]),
    });
    node.define(&[("default/uplink", &list(&[macvlan]))]).unwrap();
    let pods = [Pod::new("one", "uplink@up").unwrap(), Pod::new("two", "uplink@up").unwrap()];
    for pod in &pods {
        node.add(pod).unwrap();
        assert_eq!(pod.netns.link("up").unwrap()["linkinfo"]["info_kind"], "macvlan");
        node.check(pod).unwrap();
    }
    assert_reachable(&pods[0], &pods[1], "up");
    assert_nothing_is_left_after_del(&node, &[&pods[0], &pods[1]]);
}

#[test]
fn point_to_point_networks_reach_the_host_and_through_it_each_other() {
    if !possible(&[]) {
        return;
    }
    let node = node();
    let ptp = json!({ "type": "ptp", "ipam": node.host_local(&["10.3.0.0/24", "fd00:3::/64"]) });
    node.define(&[("default/direct", &list(&[ptp]))]).unwrap();
    let pods = [Pod::new("one", "direct").unwrap(), Pod::new("two", "direct").unwrap()];
    for pod in &pods {
        node.add(pod).unwrap();
        node.check(pod).unwrap();
        for address in pod.netns.addresses("net1").unwrap() {
            node.host.netns.ping(address.addr(), None).unwrap();
        }
    }
    assert_reachable(&pods[0], &pods[1], "net1");
    assert_nothing_is_left_after_del(&node, &[&pods[0], &pods[1]]);
}

#[test]
fn a_device_of_the_host_goes_into_the_pod_and_comes_back() {
    if !possible(&[]) {
        return;
    }
    let node = node();
    node.host.cable("dev0", "peer0").unwrap();
    node.host.netns.ip("address add 10.4.0.1/24 dev peer0").unwrap();
    let address = json!([{ "address": "10.4.0.7/24" }]);
    let device = json!({
        "type": "host-device", "device": "dev0", "ipam": { "type": "static", "addresses": address },
    });
    node.define(&[("default/device", &list(&[device]))]).unwrap();
    let pod = Pod::new("one", "device").unwrap();
    node.add(&pod).unwrap();
    assert!(!node.host.netns.links().unwrap().contains("dev0"));
    assert_eq!(addresses(&pod, "net1"), ["10.4.0.7/24"]);
    pod.netns.ping("10.4.0.1".parse().unwrap(), Some("net1")).unwrap();
    node.check(&pod).unwrap();
    assert_nothing_is_left_after_del(&node, &[&pod]);
    assert!(node.host.netns.links().unwrap().contains("dev0"), "the device is the host's again");
}

#[test]
fn a_list_with_tuning_sets_mac_mtu_and_sysctls() {
    if !possible(&[]) {
        return;
    }
    let node = node();
    let mut tuning = tuning(&node);
    tuning["mac"] = "02:42:00:00:00:05".into();
    tuning["mtu"] = 1320.into();
    // Not IFNAME, which tuning's CHECK does not know (1.1.1).
    tuning["sysctl"] = json!({ "net.ipv4.conf.net1.arp_filter": "1" });
    node.define(&[("default/tuned", &list(&[bridge(&node, "tuned0", &["10.5.0.0/24"]), tuning]))]).unwrap();
    let pod = Pod::new("one", "tuned").unwrap();
    let result = node.add(&pod).unwrap();
    let link = pod.netns.link("net1").unwrap();
    assert_eq!((&link["address"], &link["mtu"]), (&json!("02:42:00:00:00:05"), &json!(1320)));
    let net1 = result["interfaces"].as_array().unwrap().iter().find(|i| i["name"] == "net1").unwrap();
    assert_eq!(net1["mac"], "02:42:00:00:00:05", "the result says what tuning made of it");
    assert_eq!(pod.netns.read_sysctl("ipv4/conf/net1/arp_filter").unwrap(), "1");
    assert_eq!(pod.netns.read_sysctl("ipv4/conf/eth0/arp_filter").unwrap(), "0");
    node.check(&pod).unwrap();
    assert_nothing_is_left_after_del(&node, &[&pod]);
}

#[test]
fn one_network_several_times_gives_several_interfaces() {
    if !possible(&[]) {
        return;
    }
    let node = node();
    node.define(&[("default/storage", &list(&[bridge(&node, "storage0", &["10.1.0.0/24"])]))]).unwrap();
    let pod = Pod::new("one", "storage,storage@extra,storage").unwrap();
    let other = Pod::new("two", "storage").unwrap();
    node.add(&pod).unwrap();
    node.add(&other).unwrap();
    // The number counts attachments, those with names of their own too.
    assert_eq!(pod.netns.links().unwrap(), ["eth0", "extra", "lo", "net1", "net3"].map(str::to_owned).into());
    let mut all: Vec<_> = ["net1", "extra", "net3"].iter().flat_map(|name| addresses(&pod, name)).collect();
    all.dedup();
    assert_eq!(all.len(), 3, "{all:?}");
    for address in all {
        let address = address.split('/').next().unwrap().parse().unwrap();
        other.netns.ping(address, Some("net1")).unwrap();
    }
    node.check(&pod).unwrap();
    assert_nothing_is_left_after_del(&node, &[&pod, &other]);
}

/// Connects from a namespace to an address, and sees to it that it is the listener of the pod that answers.
fn assert_leads_to(from: &Namespace, address: SocketAddr, listener: &TcpListener) {
    let mut client = from.within(|| TcpStream::connect_timeout(&address, PATIENCE)).unwrap().unwrap();
    // The connection is made, so it is there to be accepted.
    let (mut server, _) = listener.accept().unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    server.write_all(b"the pod").unwrap();
    drop(server);
    let mut said = String::new();
    client.read_to_string(&mut said).unwrap();
    assert_eq!(said, "the pod");
}

#[test]
fn a_host_port_leads_to_the_pod_on_its_primary_and_is_gone_with_it() {
    if !possible(&[]) {
        return;
    }
    let node = node();
    let ports = json!({ "type": "portmap", "capabilities": { "portMappings": true } });
    // The pod's ports are for its primary only, even if another network could map them.
    let storage = list(&[bridge(&node, "storage0", &["10.1.0.0/24"]), ports]);
    node.define(&[("default/storage", &storage)]).unwrap();
    let pod = Pod::new("server", "storage").unwrap().with_port(8080, 80);
    let client = Pod::new("client", "").unwrap();
    node.add(&pod).unwrap();
    node.add(&client).unwrap();
    let address = pod.address("eth0", Family::Ipv4).unwrap();
    let listener = pod.netns.within(|| TcpListener::bind((address, 80))).unwrap().unwrap();
    let gateway: IpAddr = "10.244.0.1".parse().unwrap();
    assert_leads_to(&node.host.netns, SocketAddr::new(gateway, 8080), &listener);
    assert_leads_to(&node.host.netns, SocketAddr::from(([127, 0, 0, 1], 8080)), &listener);
    assert_leads_to(&client.netns, SocketAddr::new(gateway, 8080), &listener);
    let rules = node.host.rules().unwrap();
    assert!(!rules.iter().any(|rule| rule.contains("10.1.0.")), "{rules:?}");
    // No CHECK: of a pod with two families, portmap (1.1.1) seeks the IPv4 rules in the IPv6 table.
    assert_nothing_is_left_after_del(&node, &[&pod, &client]);
    drop(listener);
    let refused = node.host.netns.within(|| TcpStream::connect((gateway, 8080))).unwrap();
    assert_eq!(refused.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
}

#[test]
fn check_fails_once_an_interface_or_an_address_was_taken_away_by_hand() {
    if !possible(&[]) {
        return;
    }
    let node = node();
    node.define(&[("default/storage", &list(&[bridge(&node, "storage0", &["10.1.0.0/24"])]))]).unwrap();
    let pods = [Pod::new("one", "storage").unwrap(), Pod::new("two", "storage").unwrap()];
    for pod in &pods {
        node.add(pod).unwrap();
        node.check(pod).unwrap();
    }
    pods[0].netns.ip("link delete net1").unwrap();
    let refusal = node.check(&pods[0]).unwrap_err();
    assert!(refusal.msg.contains("network default/storage, interface net1"), "{refusal}");
    pods[1].netns.ip("address flush dev eth0").unwrap();
    let refusal = node.check(&pods[1]).unwrap_err();
    assert!(refusal.msg.contains("network primary, interface eth0"), "{refusal}");
    assert_nothing_is_left_after_del(&node, &[&pods[0], &pods[1]]);
}

#[test]
fn a_pod_whose_namespace_is_gone_is_detached_all_the_same() {
    if !possible(&[]) {
        return;
    }
    let node = node();
    node.define(&[("default/storage", &list(&[bridge(&node, "storage0", &["10.1.0.0/24"])]))]).unwrap();
    let mut pod = Pod::new("one", "storage").unwrap().with_port(8080, 80);
    node.add(&pod).unwrap();
    // Dropping the old namespace removes it; the runtime's path leads to nothing like it.
    let later = Namespace::new("later").unwrap();
    drop(std::mem::replace(&mut pod.netns, later));
    assert_nothing_is_left_after_del(&node, &[&pod]);
}
