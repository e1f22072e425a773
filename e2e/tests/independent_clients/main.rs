//! Container runtimes that know nothing of Braid run containers through a CNI configuration: containerd's part
//! that serves the kubelet, and podman. They call `meta-cni`, which they take for any plugin, and it runs the
//! plugins of Debian's `containernetworking-plugins`. The runtimes themselves run on a throw-away host.
//!
//! containerd is this machine's and the newest that `scripts/runtimes` provides. What they do differently is said where
//! a test expects it.

#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of a test may fail as loudly as the test.

mod newest_containerd;
mod podman;
mod sandboxes;
mod unfinished_work;

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;

use e2e::node::Node;
use e2e::parts::{self, Part};
use e2e::program::output;
use e2e::requirement::{Need, met};
use e2e::{artefacts, wait};
use serde_json::{Value, json};

/// Where the runtimes' CNI library keeps the results of ADD until DEL.
const RESULTS: &str = "/var/lib/cni/results";

/// The prefixes of the networks, per family.
const PRIMARY: [&str; 2] = ["10.211.1.", "fd00:211:1::"];
const SECOND: [&str; 2] = ["10.211.2.", "fd00:211:2::"];
const THIRD: [&str; 1] = ["10.211.3."];

fn possible(runtime: Need) -> bool {
    let nsenter = Need::Program("nsenter", "util-linux");
    let iptables = Need::Program("iptables-save", "iptables");
    met(&[Need::Root, Need::Plugins, Need::Program("ip", "iproute2"), nsenter, iptables, runtime])
}

/// A node with a dual-stack primary, networks `second` (dual-stack) and `third`, and Braid's configuration as the
/// first of its directory.
fn node(settings: &Value) -> Node {
    let mut node = Node::new().unwrap();
    node.settings.extend(settings.as_object().unwrap().clone());
    let bridge = |name: &str, subnets: &[&str]| {
        let ipam = node.host_local(subnets);
        json!({ "type": "bridge", "bridge": name, "isGateway": true, "ipam": ipam })
    };
    let ports = json!({ "type": "portmap", "capabilities": { "portMappings": true } });
    // IPv6 first in the result: that the pod's address is the IPv4 one is the runtime's rule.
    let plugins = [bridge("pods0", &["fd00:211:1::/64", "10.211.1.0/24"]), ports];
    let primary = json!({ "cniVersion": "1.0.0", "name": "primary", "plugins": plugins });
    let list = |plugin: Value| json!({ "cniVersion": "1.0.0", "plugins": [plugin] });
    let second = list(bridge("second0", &["10.211.2.0/24", "fd00:211:2::/64"]));
    let third = list(bridge("third0", &["10.211.3.0/24"]));
    node.configure("10-primary.conflist", &primary).unwrap();
    // As the node role writes it. Runtimes that know `cniVersions` call STATUS; older ones speak 1.0.0.
    let braid = json!({
        "cniVersion": "1.0.0", "cniVersions": ["1.0.0", "1.1.0"], "name": "braid", "plugins": [node.settings],
    });
    node.configure("00-braid.conflist", &braid).unwrap();
    node.define(&[("default/second", &second), ("default/third", &third)]).unwrap();
    node
}

/// Runs a program in the network namespace of a container.
fn inside(netns: &Path, words: &[&str]) -> String {
    let netns = format!("--net={}", netns.display());
    output(Command::new("nsenter").arg(netns).args(words)).unwrap()
}

/// The addresses of an interface in the network namespace of a container.
fn addresses(netns: &Path, interface: &str) -> Vec<IpAddr> {
    let shown = inside(netns, &["ip", "-json", "address", "show", "dev", interface, "scope", "global"]);
    let links: Value = serde_json::from_str(&shown).unwrap();
    let all = links.as_array().unwrap().iter().filter_map(|link| link["addr_info"].as_array()).flatten();
    // What ip left out leaves an empty object.
    all.filter_map(|address| Some(address["local"].as_str()?.parse().unwrap())).collect()
}

/// `eth0` has an address of each family, and the runtime knows these and no others, IPv4 first; the others have
/// those of their networks.
fn assert_interfaces(netns: &Path, ips: &[IpAddr], others: &[(&str, &[&str])]) {
    assert_eq!(addresses(netns, "eth0"), ips, "the runtime's addresses are those of eth0");
    for (interface, prefixes) in [("eth0", &PRIMARY[..])].iter().chain(others) {
        let found: Vec<_> = addresses(netns, interface).iter().map(ToString::to_string).collect();
        let fits = found.iter().zip(*prefixes).all(|(address, prefix)| address.starts_with(prefix));
        assert!(found.len() == prefixes.len() && fits, "{interface}: {found:?}");
    }
}

/// Nothing on the node, no namespace, and no result that the runtime's library keeps.
fn assert_nothing_left(node: &Node, id: &str, netns: &Path) {
    assert!(!netns.exists(), "{} is left", netns.display());
    // The kernel takes a removed namespace's interfaces away a little later.
    let _ = wait::until("nothing is left", || Ok(node.leftovers()?.is_empty()));
    assert_eq!(node.leftovers().unwrap(), [""; 0]);
    let cached = fs::read_dir(RESULTS).into_iter().flatten().map(|entry| entry.unwrap().file_name());
    let of_it: Vec<_> = cached.filter(|name| name.to_string_lossy().contains(id)).collect();
    assert_eq!(of_it, [""; 0], "results that the runtime keeps");
}

fn tell_parts(runtime: [Part; 2]) {
    let plugins = artefacts::reference_plugins().map(|dir| Part::plugins(&dir));
    let parts = [Part::kernel()].into_iter().chain(runtime).chain(plugins);
    parts::tell(&parts.collect::<Vec<_>>());
}

fn rules(node: &Node) -> String {
    node.host.rules().unwrap().join("\n")
}
