//! Primaries shaped like flannel, Calico, the AWS VPC CNI, Cilium and kindnet, each with its published
//! configuration, as the primary of the real `meta-cni`, with a bridge besides.
//!
//! `primaries.rs` shows that the stand-ins keep to their contracts.

// Helpers of tests fail as tests do.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use cni::result::Family;
use e2e::netns::Namespace;
use e2e::node::{Node, Pod};
use e2e::requirement::{Need, met};
use e2e::runtime::pod_ips;
use e2e::shaped_primary::node::{Node as Shaped, Primary};
use e2e::wait;
use serde_json::{Value, json};

const EXECUTABLE: &str = env!("CARGO_BIN_EXE_shaped-primary");

fn possible() -> bool {
    met(&[
        Need::Root,
        Need::Plugins,
        Need::Program("ip", "iproute2"),
        Need::Program("nsenter", "util-linux"),
        Need::Program("ping", "iputils-ping"),
        Need::Program("iptables-save", "iptables"),
        Need::Link("veth"),
        Need::Link("bridge"),
    ])
}

/// A node with a primary and the network `storage`.
struct Scene {
    primary: Primary,
    shaped: Shaped,
    node: Node,
}

impl Scene {
    fn new(primary: Primary) -> Self {
        let shaped = Shaped::new(primary, Path::new(EXECUTABLE)).unwrap();
        let mut node = Node::new().unwrap();
        // Hosts have a default route, and answer ARP for others only because of it.
        node.host.uplink().unwrap();
        node.path = shaped.path();
        let text = |path: &Path| path.to_string_lossy().into_owned();
        node.environment = shaped.environment().into_iter().map(|(name, path)| (name, text(&path))).collect();
        node.set("multusAutoconfigDir", text(&shaped.configurations()));
        let ipam = node.host_local(&["10.1.0.0/24"]);
        let bridge = json!({ "type": "bridge", "bridge": "storage0", "isGateway": true, "ipam": ipam });
        node.define(&[("shop/storage", &json!({ "cniVersion": "1.0.0", "plugins": [bridge] }))]).unwrap();
        Self { primary, shaped, node }
    }

    /// Changes the primary's configuration.
    fn configure(&self, change: impl FnOnce(&mut Value)) {
        let mut list = self.shaped.published_configuration().unwrap();
        change(&mut list);
        self.shaped.write_configuration(&list).unwrap();
    }

    fn maps_ports(&self) -> bool {
        let list = self.shaped.published_configuration().unwrap();
        list["plugins"].as_array().unwrap().iter().any(|plugin| plugin["type"] == "portmap")
    }

    /// A pod of this primary with the network besides.
    fn attached(&self, name: &str, port: Option<u16>) -> (Pod, Value) {
        let mut pod = Pod::new(name, "storage").unwrap().of("shop");
        pod.ports.extend(port.map(|port| (port, 80)));
        let result = self.node.add(&pod).unwrap_or_else(|refusal| panic!("{:?}: {refusal}", self.primary));
        (pod, result)
    }

    /// The runtime's reading of a result is what is in the pod.
    fn assert_told(&self, pod: &Pod, result: &Value) {
        let in_pod = |interface: &str| -> BTreeSet<IpAddr> {
            pod.netns.addresses(interface).unwrap().iter().map(ipnet::IpNet::addr).collect()
        };
        let told = pod_ips(result).unwrap();
        assert_eq!(
            told.iter().copied().collect::<BTreeSet<_>>(),
            in_pod("eth0"),
            "{:?}: {result}",
            self.primary
        );
        assert!(told[0].is_ipv4(), "{:?}: {told:?}", self.primary);
        let interfaces = result["interfaces"].as_array().unwrap();
        let names: Vec<_> = interfaces.iter().map(|interface| interface["name"].as_str().unwrap()).collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{names:?}");
        let net1 = names.iter().position(|name| *name == "net1").unwrap();
        assert_eq!(interfaces[net1]["sandbox"], json!(pod.netns.path()));
        let ips = result["ips"].as_array().unwrap().iter();
        let of_net1: Vec<_> = ips.filter(|ip| ip["interface"] == json!(net1)).collect();
        assert_eq!(of_net1.len(), 1, "{result}");
        assert!(in_pod("net1").iter().all(|ip| of_net1[0]["address"] == format!("{ip}/24")), "{result}");
    }

    /// Detaches pods; neither Braid, nor the primary, nor the network besides leave anything.
    fn assert_gone_after_del(&self, mut pods: Vec<Pod>) {
        for pod in &pods {
            self.node.del(pod).unwrap_or_else(|refusal| panic!("{:?}: {refusal}", self.primary));
            assert!(!pod.netns.links().unwrap().contains("net1"));
        }
        // The interfaces of a VPC CNI pod go with its namespace, a little later.
        for pod in &mut pods {
            drop(std::mem::replace(&mut pod.netns, Namespace::new("later").unwrap()));
        }
        self.assert_clean();
        for pod in &pods {
            self.node.del(pod).unwrap();
        }
        self.assert_clean();
    }

    fn assert_clean(&self) {
        let _ = wait::until("nothing is left", || Ok(self.node.leftovers()?.is_empty()));
        assert_eq!(self.node.leftovers().unwrap(), [""; 0], "{:?}", self.primary);
        assert_eq!(self.shaped.leftovers(), Vec::<std::path::PathBuf>::new(), "{:?}", self.primary);
    }
}

#[test]
fn each_primary_and_a_network_besides_reach_other_pods_and_leave_nothing() {
    if !possible() {
        return;
    }
    for primary in Primary::ALL {
        let scene = Scene::new(primary);
        let port = scene.maps_ports().then_some(8080);
        let (server, result) = scene.attached("server", port);
        let (client, _) = scene.attached("client", None);
        scene.assert_told(&server, &result);
        for ip in pod_ips(&result).unwrap() {
            scene.node.host.netns.ping(ip, None).unwrap();
            client.netns.ping(ip, Some("eth0")).unwrap();
        }
        client.netns.ping(server.address("net1", Family::Ipv4).unwrap(), Some("net1")).unwrap();
        if port.is_some() {
            let address = server.address("eth0", Family::Ipv4).unwrap();
            let listener = server.netns.within(|| TcpListener::bind((address, 80))).unwrap().unwrap();
            let published: SocketAddr = "203.0.113.7:8080".parse().unwrap();
            let connect = || TcpStream::connect_timeout(&published, Duration::from_secs(10));
            let connected = scene.node.host.netns.within(connect).unwrap();
            connected.unwrap_or_else(|error| panic!("{primary:?}: {error}"));
            listener.accept().unwrap();
        }
        scene.assert_gone_after_del(vec![server, client]);
    }
}

#[test]
fn del_needs_neither_the_primarys_configuration_nor_the_network_of_today() {
    if !possible() {
        return;
    }
    for primary in Primary::ALL {
        let scene = Scene::new(primary);
        let port = scene.maps_ports().then_some(8080);
        let (pod, _) = scene.attached("pod", port);
        // Calico would keep the address without its kubeconfig or its IPAM.
        scene.configure(|list| {
            list["name"] = "another".into();
            list["plugins"] = json!([{ "type": "bridge", "bridge": "another0" }]);
        });
        scene.node.undefine_all().unwrap();
        scene.assert_gone_after_del(vec![pod]);
    }
}

#[test]
fn a_network_besides_takes_the_default_route_of_any_primary() {
    if !possible() {
        return;
    }
    for primary in Primary::ALL {
        let scene = Scene::new(primary);
        let asks = json!([{ "name": "storage", "default-route": ["10.1.0.1"] }]).to_string();
        let pod = Pod::new("pod", &asks).unwrap().of("shop");
        let before = {
            let (plain, _) = scene.attached("plain", None);
            let before = plain.netns.default_routes(Family::Ipv6).unwrap();
            scene.assert_gone_after_del(vec![plain]);
            before.into_iter().map(|(dev, _)| dev).collect::<Vec<_>>()
        };
        let result = scene.node.add(&pod).unwrap();
        let routes = pod.netns.default_routes(Family::Ipv4).unwrap();
        assert_eq!(routes, [("net1".to_owned(), Some("10.1.0.1".parse().unwrap()))], "{primary:?}");
        let after: Vec<_> =
            pod.netns.default_routes(Family::Ipv6).unwrap().into_iter().map(|r| r.0).collect();
        assert_eq!(after, before, "{primary:?}: the other family stays the primary's");
        let told = result["routes"].as_array().unwrap().iter();
        let told: Vec<_> = told.filter(|route| route["dst"] == "0.0.0.0/0").collect();
        assert_eq!(told, [&json!({ "dst": "0.0.0.0/0", "gw": "10.1.0.1" })], "{primary:?}");
        scene.assert_gone_after_del(vec![pod]);
    }
}

#[test]
fn a_primary_that_fails_says_so_itself_and_nothing_else_is_attached() {
    if !possible() {
        return;
    }
    for (primary, reason) in [
        (Primary::Flannel, "run/flannel/subnet.env"),
        (Primary::Calico, "var/lib/calico/nodename"),
        (Primary::AwsVpc, "ipamd.sock"),
        (Primary::Cilium, "unable to connect to Cilium agent"),
    ] {
        let mut scene = Scene::new(primary);
        scene.shaped.stop_agent();
        let pod = Pod::new("pod", "storage").unwrap().of("shop");
        let refusal = scene.node.add(&pod).unwrap_err();
        assert!(refusal.msg.contains(reason), "{primary:?}: {refusal}");
        assert!(!scene.node.host.netns.links().unwrap().contains("storage0"), "{primary:?}");
        // The agent comes up, and the runtime tidies up as it does after a failed ADD.
        scene.shaped.start_agent().unwrap();
        scene.assert_gone_after_del(vec![pod]);
    }
}

#[test]
fn primaries_of_both_families_have_the_ipv4_address_first() {
    if !possible() {
        return;
    }
    let calico = Scene::new(Primary::Calico);
    calico.configure(|list| list["plugins"][0]["ipam"]["assign_ipv6"] = "true".into());
    let cilium = Scene::new(Primary::Cilium);
    cilium.shaped.write("var/run/cilium/dual-stack", "").unwrap();
    for scene in [calico, cilium] {
        let (pod, result) = scene.attached("pod", None);
        assert_eq!(pod_ips(&result).unwrap().len(), 2, "{result}");
        scene.assert_told(&pod, &result);
        scene.assert_gone_after_del(vec![pod]);
    }
}

#[test]
fn the_vpc_cni_gets_the_pods_annotations_and_its_further_interfaces_are_told() {
    if !possible() {
        return;
    }
    let scene = Scene::new(Primary::AwsVpc);
    let mut pod = Pod::new("pod", "storage").unwrap().of("shop");
    pod.annotations.insert("k8s.amazonaws.com/nicConfig".to_owned(), "multi-nic-attachment".to_owned());
    let result = scene.node.add(&pod).unwrap();
    let names =
        result["interfaces"].as_array().unwrap().iter().map(|interface| interface["name"].as_str().unwrap());
    let names: BTreeSet<_> = names.collect();
    assert!(["eth0", "mNicIf1", "net1"].iter().all(|name| names.contains(name)), "{result}");
    assert_eq!(pod_ips(&result).unwrap().len(), 1, "the pod's address is that of eth0: {result}");
    scene.assert_told(&pod, &result);
    scene.assert_gone_after_del(vec![pod]);
}

#[test]
fn a_pods_secrets_and_the_primarys_stay_out_of_logs() {
    if !possible() {
        return;
    }
    let mut scene = Scene::new(Primary::Calico);
    let log = scene.node.file("log");
    scene.node.set("logFile", log.to_string_lossy().into_owned());
    scene.node.set("logLevel", "debug");
    let (pod, _) = scene.attached("pod", None);
    scene.assert_gone_after_del(vec![pod]);
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("\"attached\"") && log.contains("shop/pod"), "{log}");
    for secret in ["secret-token", "kubeconfig"] {
        assert!(!log.contains(secret), "{log}");
    }
}
