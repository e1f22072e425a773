//! Container runtimes that know nothing of Braid run containers through a CNI configuration: containerd's part
//! that serves the kubelet, and podman. They call `meta-cni`, which they take for any plugin, and it runs the
//! plugins of Debian's `containernetworking-plugins`. The runtimes themselves run on a throw-away host.

#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of a test may fail as loudly as the test.

use std::fs;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use e2e::containerd::{Containerd, Pod, Programs};
use e2e::node::Node;
use e2e::parts::{self, Part};
use e2e::podman::Podman;
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

/// The primary's gateway, which is an address of the host.
const GATEWAY: &str = "10.211.1.1";

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
    node.install_configuration().unwrap();
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

#[test]
fn containerd_runs_pod_sandboxes() {
    if !possible(Need::Containerd) {
        return;
    }
    let node = node(&json!({}));
    let programs = Programs::of_machine().unwrap();
    tell_parts(Part::of_containerd(&programs));
    let start = || Containerd::start(&programs, &node.file("bin"), &node.file("net.d"));
    let containerd = node.host.netns.within(start).unwrap().unwrap();
    let pod = |name: &str, ports: &[(u16, u16)]| Pod {
        namespace: "default".to_owned(),
        name: name.to_owned(),
        uid: format!("6a3c8a4e-{name}"),
        annotations: [("k8s.v1.cni.cncf.io/networks".to_owned(), "second".to_owned())].into(),
        ports: ports.to_vec(),
    };
    let ids = [pod("client", &[]), pod("server", &[(8080, 80)])].map(|pod| containerd.run(&pod).unwrap());
    let sandboxes = ids.each_ref().map(|id| containerd.status(id).unwrap());
    for sandbox in &sandboxes {
        assert!(sandbox.ready);
        assert_interfaces(&sandbox.netns, &sandbox.ips, &[("net1", &SECOND)]);
        assert_eq!(sandbox.ips.len(), 2, "a pod IP of each family");
        let known = sandbox.interfaces["eth0"]["IPConfigs"].as_array().unwrap();
        for ip in &sandbox.ips {
            assert!(known.iter().any(|config| config["IP"] == json!(ip)), "{ip}: {known:?}");
        }
        assert!(sandbox.interfaces.get("net1").is_some(), "{}", sandbox.interfaces);
    }
    assert!(rules(&node).contains(&ids[1]), "the host port leads to the pod");
    for interface in ["eth0", "net1"] {
        for server in addresses(&sandboxes[1].netns, interface) {
            let server = server.to_string();
            inside(&sandboxes[0].netns, &["ping", "-c1", "-w10", "-I", interface, &server]);
        }
    }

    for id in &ids {
        containerd.stop(id).unwrap();
        assert!(!containerd.status(id).unwrap().ready);
        containerd.remove(id).unwrap();
    }
    for (id, sandbox) in ids.iter().zip(&sandboxes) {
        assert_nothing_left(&node, id, &sandbox.netns);
    }
}

#[test]
fn podman_runs_a_container() {
    if !possible(Need::Podman) {
        return;
    }
    tell_parts(["podman", "runc"].map(|name| Part::of_program(name, Path::new(name))));
    // Podman hands over no annotations: its containers get the other networks by default.
    let node = node(&json!({ "multusNamespace": "default", "defaultNetworks": ["second", "third"] }));
    let podman = Podman::new(&[&node.file("bin")], &node.file("net.d")).unwrap();
    let on_host = &node.host.netns;
    let run = || podman.run("client", "braid", &["--publish", "8080:80"]);
    let id = on_host.within(run).unwrap().unwrap();

    let container = podman.inspect("client", "braid").unwrap();
    assert_eq!(container.id, id);
    assert_interfaces(&container.netns, &container.ips, &[("net1", &SECOND), ("net2", &THIRD)]);
    let exec = |words: &[&str]| podman.exec("client", words).unwrap();
    assert_eq!(exec(&["cat", "/sys/class/net/eth0/address"]), container.mac);
    exec(&["ping", "-c", "1", "-w", "10", GATEWAY]);
    exec(&["httpd", "-p", "80", "-h", "/etc"]);
    assert!(rules(&node).contains(&id), "the published port leads to the container");
    let published = SocketAddr::new(GATEWAY.parse().unwrap(), 8080);
    let connect = || TcpStream::connect_timeout(&published, Duration::from_secs(10));
    on_host.within(connect).unwrap().unwrap();

    on_host.within(|| podman.remove("client")).unwrap().unwrap();
    assert_nothing_left(&node, &id, &container.netns);
}
