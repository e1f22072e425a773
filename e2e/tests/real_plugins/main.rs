//! Real plugins (Debian's `containernetworking-plugins`) through the real `meta-cni` and the real operator, in
//! namespaces of each test's own.
//!
//! Needs root, the reference plugins, `ip`, `ping` and `iptables`; a test that cannot run says so.

// Helpers of tests fail as tests do.
#![allow(clippy::unwrap_used, clippy::panic)]

mod attach;
mod check;
mod churn;
mod crio;
mod failures;
mod faults;
mod isolation;
mod migration;
mod requests;
mod routes;
mod sharing;

use e2e::node::{Node, Pod};
use e2e::requirement::{Need, met};
use e2e::wait;
use serde_json::{Value, json};

/// Whether the tests of this file can run here.
fn possible(more: &[Need]) -> bool {
    let needs = [
        Need::Root,
        Need::Plugins,
        Need::Program("ip", "iproute2"),
        Need::Program("ping", "iputils-ping"),
        Need::Program("iptables-save", "iptables"),
        Need::Link("veth"),
        Need::Link("bridge"),
    ];
    met(&[&needs[..], more].concat())
}

/// A node with a primary of both families: bridge, host-local, portmap.
fn node() -> Node {
    let node = Node::new().unwrap();
    node.configure("10-primary.conflist", &primary(&node)).unwrap();
    node.define(&[]).unwrap();
    node
}

fn primary(node: &Node) -> Value {
    let mut bridge = bridge(node, "pods0", &["10.244.0.0/24", "fd00:244::/64"]);
    bridge["isDefaultGateway"] = true.into();
    let ports = json!({ "type": "portmap", "capabilities": { "portMappings": true } });
    let mut list = list(&[bridge, ports]);
    list["name"] = "primary".into();
    list
}

/// A list without a name: the operator gives it one.
fn list(plugins: &[Value]) -> Value {
    json!({ "cniVersion": "1.0.0", "plugins": plugins })
}

fn bridge(node: &Node, bridge: &str, subnets: &[&str]) -> Value {
    json!({
        "type": "bridge", "bridge": bridge, "isGateway": true, "capabilities": { "ips": true, "mac": true },
        "ipam": node.host_local(subnets),
    })
}

fn tuning(node: &Node) -> Value {
    json!({ "type": "tuning", "dataDir": node.file("tuning").to_string_lossy() })
}

/// Detaches pods, and looks for anything that is left of them.
fn assert_nothing_is_left_after_del(node: &Node, pods: &[&Pod]) {
    for pod in pods {
        node.del(pod).unwrap();
    }
    assert_nothing_is_left(node, pods);
    for pod in pods {
        // Repeating it is no error and changes nothing.
        node.del(pod).unwrap();
    }
    assert_nothing_is_left(node, pods);
}

fn assert_nothing_is_left(node: &Node, pods: &[&Pod]) {
    // The kernel takes a removed namespace's interfaces away a little later.
    let _ = wait::until("nothing is left", || Ok(node.leftovers()?.is_empty()));
    assert_eq!(node.leftovers().unwrap(), [""; 0]);
    for pod in pods {
        assert_eq!(pod.netns.links().unwrap(), ["lo".to_owned()].into(), "interfaces of {}", pod.name);
    }
}

/// Both pods reach each other on an interface, in every family that it has.
fn assert_reachable(one: &Pod, other: &Pod, interface: &str) {
    for (from, to) in [(one, other), (other, one)] {
        let addresses = to.netns.addresses(interface).unwrap();
        assert!(!addresses.is_empty(), "{} has no address on {interface}", to.name);
        for address in addresses {
            from.netns.ping(address.addr(), Some(interface)).unwrap();
        }
    }
}

/// The addresses of a result that are on an interface, as texts.
fn ips_of(result: &Value, interface: &str) -> Vec<String> {
    let interfaces = result["interfaces"].as_array().unwrap();
    let ips = result["ips"].as_array().unwrap().iter();
    let index = |ip: &Value| usize::try_from(ip["interface"].as_u64().unwrap()).unwrap();
    let own = ips.filter(|ip| interfaces[index(ip)]["name"] == interface);
    own.map(|ip| ip["address"].as_str().unwrap().to_owned()).collect()
}

/// The addresses of an interface as texts.
fn addresses(pod: &Pod, interface: &str) -> Vec<String> {
    pod.netns.addresses(interface).unwrap().iter().map(ToString::to_string).collect()
}
