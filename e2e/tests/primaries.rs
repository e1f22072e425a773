//! The stand-ins for well-known primaries keep to the contracts in `testdata/primaries/README.md`: each is
//! run by hand through its published configuration, in namespaces of the test's own, and leaves nothing.
//!
//! Needs root, `ip`, `nsenter`, `ping` and the reference plugins; a test that cannot run says so.

// Helpers of tests fail as tests do.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use e2e::netns::Namespace;
use e2e::requirement::{Need, met};
use e2e::shaped_primary::node::{Node, Primary};
use e2e::wait;
use serde_json::{Map, Value, json};

const EXECUTABLE: &str = env!("CARGO_BIN_EXE_shaped-primary");
const POD: &str = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;K8S_POD_INFRA_CONTAINER_ID=c1";

/// A namespace that plays a host or a pod, for a test that fails where it fails.
struct Netns(Namespace);

impl Netns {
    fn new(role: &str) -> Self {
        Self(Namespace::new(role).unwrap())
    }

    fn path(&self) -> String {
        self.0.path().to_string_lossy().into_owned()
    }

    fn ip(&self, args: &str) -> String {
        self.0.ip(args).unwrap()
    }

    fn json(&self, args: &str) -> Vec<Value> {
        self.0.ip_json(args).unwrap()
    }

    fn links(&self) -> BTreeSet<String> {
        self.0.links().unwrap()
    }

    fn pings(&self, address: &str) -> bool {
        self.0.ping(address.parse().unwrap(), None).is_ok()
    }
}

/// A host with a primary, and one pod.
struct Scene {
    node: Node,
    host: Netns,
    pod: Netns,
    list: Value,
    variables: Vec<(&'static str, String)>,
    runtime: Map<String, Value>,
}

impl Scene {
    fn new(primary: Primary) -> Self {
        let node = Node::new(primary, Path::new(EXECUTABLE)).unwrap();
        let list = node.published_configuration().unwrap();
        let (host, pod) = (Netns::new("host"), Netns::new("pod"));
        // Hosts have a default route, and answer ARP for others only because of it.
        host.ip("link add uplink type veth peer name switch");
        host.ip("address add 203.0.113.7/24 dev uplink");
        host.ip("address add 2001:db8::7/64 dev uplink nodad");
        host.ip("link set switch up");
        host.ip("link set uplink up");
        host.ip("route add default via 203.0.113.1");
        Self { node, host, pod, list, variables: Vec::new(), runtime: Map::new() }
    }

    /// What a runtime sends to plugin `index` of the list, as libcni makes it.
    fn stdin(&self, index: usize, previous: Option<&Value>) -> Value {
        let mut config = self.list["plugins"][index].clone();
        config["name"] = self.list["name"].clone();
        config["cniVersion"] = self.list["cniVersion"].clone();
        if let Some(previous) = previous {
            config["prevResult"] = previous.clone();
        }
        let declared = |name: &&String| config["capabilities"][name.as_str()] == true;
        let runtime: Map<String, Value> = self
            .runtime
            .keys()
            .filter(declared)
            .map(|name| (name.clone(), self.runtime[name].clone()))
            .collect();
        if !runtime.is_empty() {
            config["runtimeConfig"] = runtime.into();
        }
        config
    }

    /// Runs a plugin on the host. The answer: what it printed, or its error.
    fn call(&self, verb: &str, stdin: &Value) -> Result<Value, Value> {
        let name = stdin["type"].as_str().unwrap();
        let path = self.node.path();
        let plugin = path.iter().map(|dir| dir.join(name)).find(|file| file.exists()).unwrap();
        let joined = std::env::join_paths(&path).unwrap();
        let mut child = Command::new("nsenter")
            .arg(format!("--net={}", self.host.path()))
            .arg(plugin)
            .envs(self.node.environment())
            .envs([
                ("CNI_COMMAND", verb),
                ("CNI_CONTAINERID", "c1"),
                ("CNI_IFNAME", "eth0"),
                ("CNI_ARGS", POD),
            ])
            .envs([("CNI_NETNS", self.pod.path().as_str())])
            .env("CNI_PATH", joined)
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(stdin.to_string().as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let printed = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        if output.status.success() { Ok(printed) } else { Err(printed) }
    }

    fn plugins(&self) -> usize {
        self.list["plugins"].as_array().unwrap().len()
    }

    fn add(&self) -> Value {
        let mut result: Option<Value> = None;
        for index in 0..self.plugins() {
            let stdin = self.stdin(index, result.as_ref());
            result =
                Some(self.call("ADD", &stdin).unwrap_or_else(|error| panic!("{}: {error}", stdin["type"])));
        }
        result.unwrap()
    }

    /// DEL with what ADD returned, which versions before 0.4.0 do not get.
    fn del(&self, result: &Value) {
        let previous = (self.list["cniVersion"] == "0.4.0").then_some(result);
        for index in (0..self.plugins()).rev() {
            let stdin = self.stdin(index, previous);
            self.call("DEL", &stdin).unwrap_or_else(|error| panic!("{}: {error}", stdin["type"]));
        }
    }

    fn first(&self, verb: &str) -> Result<Value, String> {
        let answer = self.call(verb, &self.stdin(0, None));
        answer.map_err(|error| format!("{} {}", error["code"], error["msg"].as_str().unwrap()))
    }

    fn addresses(&self, if_name: &str) -> BTreeSet<String> {
        let links = self.pod.json(&format!("address show dev {if_name} scope global"));
        let all = links.iter().filter_map(|link| link["addr_info"].as_array()).flatten();
        all.filter_map(|one| Some(format!("{}/{}", one["local"].as_str()?, one["prefixlen"]))).collect()
    }

    fn foreign_links(&self) -> Vec<String> {
        let known = ["cni0", "lo", "switch", "uplink"];
        self.host.links().into_iter().filter(|name| !known.contains(&name.as_str())).collect()
    }

    /// Nothing of the pod is on the host; bridges stay, as they do on nodes.
    fn assert_clean(&self) {
        assert_eq!(self.node.leftovers(), Vec::<std::path::PathBuf>::new());
        assert_eq!(self.foreign_links(), [""; 0]);
        let rules: Vec<_> = self.host.json("rule show").iter().map(|rule| rule["priority"].clone()).collect();
        assert_eq!(rules, [json!(0), json!(32766), json!(32767)]);
        let routes = self.host.json("route show");
        assert!(routes.iter().all(|route| route["dev"] == "cni0" || route["dev"] == "uplink"), "{routes:?}");
    }
}

fn possible() -> bool {
    let programs = [
        Need::Program("ip", "iproute2"),
        Need::Program("nsenter", "util-linux"),
        Need::Program("ping", "iputils-ping"),
        Need::Program("iptables-save", "iptables"),
    ];
    met(&[&[Need::Root, Need::Plugins, Need::Link("veth")][..], &programs].concat())
}

fn ips_of(result: &Value) -> BTreeSet<String> {
    let ips = result["ips"].as_array().unwrap().iter();
    ips.map(|ip| ip["address"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn each_primary_attaches_a_pod_that_answers_and_leaves_nothing_behind() {
    if !possible() {
        return;
    }
    for primary in Primary::ALL {
        let mut scene = Scene::new(primary);
        let result = scene.add();
        assert_eq!(result["cniVersion"], scene.list["cniVersion"], "{primary:?}");
        assert!(ips_of(&result).is_subset(&scene.addresses("eth0")), "{primary:?}: {result}");
        for ip in ips_of(&result) {
            let address = ip.split('/').next().unwrap();
            assert!(scene.host.pings(address), "{primary:?}: {address} does not answer");
        }
        assert!(!scene.pod.json("route show default").is_empty(), "{primary:?}: the pod has a default route");
        scene.del(&result);
        scene.del(&result);
        // The interfaces of a VPC CNI pod go with its namespace, a little later.
        scene.pod = Netns::new("later");
        wait::until("the host is clean", || Ok(scene.foreign_links().is_empty())).unwrap();
        scene.assert_clean();
    }
}

#[test]
fn flannel_returns_what_bridge_returns_and_keeps_the_configuration_for_del() {
    if !possible() {
        return;
    }
    let mut scene = Scene::new(Primary::Flannel);
    let result = scene.add();
    let names: Vec<_> = result["interfaces"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert_eq!((names[0], names[2]), (&json!("cni0"), &json!("eth0")));
    assert_eq!(result["ips"][0]["interface"], 2);
    assert_eq!(result["ips"][0]["gateway"], "10.244.3.1");
    let routes: Vec<_> = result["routes"].as_array().unwrap().iter().map(|route| &route["dst"]).collect();
    assert_eq!(routes, ["10.244.0.0/16", "0.0.0.0/0"]);
    // The subnet may change or be gone: DEL needs only what ADD kept.
    scene.node.stop_agent();
    scene.first("DEL").unwrap();
    assert!(scene.node.leftovers().is_empty());
    let error = scene.first("ADD").unwrap_err();
    assert!(error.starts_with("999 ") && error.contains("run/flannel/subnet.env"), "{error}");
}

#[test]
fn calico_returns_the_hosts_interface_as_the_pods_and_addresses_without_interface() {
    if !possible() {
        return;
    }
    let mut scene = Scene::new(Primary::Calico);
    let result = scene.add();
    let interface = &result["interfaces"][0];
    assert!(interface["name"].as_str().unwrap().starts_with("cali"));
    assert_eq!(interface["sandbox"], scene.pod.path());
    assert_eq!(interface["mac"], scene.pod.json("link show dev eth0")[0]["address"]);
    assert_eq!(result["interfaces"].as_array().unwrap().len(), 1);
    assert_eq!(result["ips"], json!([{"address": "192.168.0.2/32", "version": "4"}]));
    assert_eq!(result.get("routes"), None);
    assert_eq!(scene.pod.json("route show default")[0]["gateway"], "169.254.1.1");
    scene.del(&result);
    scene.variables = vec![("SHAPED_PRIMARY_RELEASE", "older".to_owned())];
    let older = scene.add();
    assert_eq!(older["interfaces"], json!([{"name": interface["name"]}]));
    scene.del(&older);
    assert!(scene.node.leftovers().is_empty());
}

#[test]
fn calico_needs_on_del_what_it_needs_on_add() {
    if !possible() {
        return;
    }
    let mut scene = Scene::new(Primary::Calico);
    let (result, whole) = (scene.add(), scene.list.clone());
    for lost in ["kubernetes", "ipam"] {
        scene.list["plugins"][0].as_object_mut().unwrap().remove(lost);
        scene.first("DEL").unwrap_err();
        assert!(!scene.node.leftovers().is_empty(), "the address is kept without {lost:?}");
        scene.list = whole.clone();
    }
    scene.node.stop_agent();
    assert!(scene.first("DEL").unwrap_err().contains("var/lib/calico/nodename"));
    scene.node.start_agent().unwrap();
    scene.del(&result);
    scene.assert_clean();
}

#[test]
fn calico_of_two_families() {
    if !possible() {
        return;
    }
    let mut scene = Scene::new(Primary::Calico);
    scene.list["plugins"][0]["ipam"]["assign_ipv6"] = "true".into();
    let result = scene.add();
    let expected = ["192.168.0.2/32", "fdca:11c0::2/128"].map(str::to_owned);
    assert_eq!(ips_of(&result), expected.clone().into());
    assert_eq!(scene.addresses("eth0"), expected.into());
    assert!(scene.host.pings("fdca:11c0::2"));
    scene.del(&result);
    scene.assert_clean();
}

#[test]
fn the_vpc_cni_returns_interfaces_that_are_none() {
    if !possible() {
        return;
    }
    let mut scene = Scene::new(Primary::AwsVpc);
    let result = scene.add();
    let [host, pod, dummy] = &result["interfaces"].as_array().unwrap()[..] else { panic!("{result}") };
    assert!(scene.host.links().contains(host["name"].as_str().unwrap()));
    assert_eq!(*pod, json!({"name": "eth0", "mac": "254", "sandbox": scene.pod.path()}));
    assert_eq!((&dummy["mac"], &dummy["sandbox"]), (&json!("0"), &json!("0")));
    assert_eq!(dummy["name"].as_str().unwrap().len(), 16, "longer than the kernel takes");
    assert_eq!(result["ips"], json!([{"address": "172.31.32.2/32", "interface": 1, "version": "4"}]));
    assert_eq!(result.get("routes"), None);
    // Without its daemon, DEL removes the rules that the result of ADD tells of, and reports success.
    scene.node.stop_agent();
    let rules = |scene: &Scene| scene.host.json("rule show").len();
    scene.first("DEL").unwrap();
    assert_eq!(rules(&scene), 4, "without the result of ADD nothing is undone");
    scene.del(&result);
    assert_eq!(rules(&scene), 3);
    assert_eq!(scene.node.leftovers().len(), 1, "the daemon will give the address back");
}

#[test]
fn the_vpc_cni_asks_for_the_pods_annotations_itself() {
    if !possible() {
        return;
    }
    let mut scene = Scene::new(Primary::AwsVpc);
    let annotations = json!({"k8s.amazonaws.com/nicConfig": "multi-nic-attachment"});
    scene.runtime.insert("io.kubernetes.cri.pod-annotations".to_owned(), annotations);
    let result = scene.add();
    assert_eq!(result["interfaces"][3]["name"], "mNicIf1");
    assert_eq!(result["ips"][1]["interface"], 3);
    assert_eq!(scene.addresses("mNicIf1"), ["172.31.32.3/32".to_owned()].into());
    scene.del(&result);
    assert!(scene.node.leftovers().is_empty());
}

#[test]
fn the_vpc_cnis_egress_plugin_adds_interfaces_but_no_addresses() {
    if !possible() {
        return;
    }
    let mut scene = Scene::new(Primary::AwsVpc);
    let egress = &mut scene.list["plugins"][1];
    egress["enabled"] = "true".into();
    egress["nodeIP"] = "2001:db8::7".into();
    let result = scene.add();
    let interfaces = result["interfaces"].as_array().unwrap();
    assert_eq!(interfaces.len(), 5);
    assert_eq!(interfaces[4]["name"], "v6if0");
    assert_eq!(result["ips"].as_array().unwrap().len(), 1);
    assert!(!scene.addresses("v6if0").is_empty());
    scene.del(&result);
    assert!(scene.node.leftovers().is_empty());
    let unchained = scene.call("ADD", &scene.stdin(1, None)).unwrap_err();
    assert_eq!(unchained["msg"], "must be called as a chained plugin");
}

#[test]
fn cilium_returns_both_ends_and_goes_on_without_its_agent() {
    if !possible() {
        return;
    }
    let mut scene = Scene::new(Primary::Cilium);
    scene.node.write("var/run/cilium/dual-stack", "").unwrap();
    let result = scene.add();
    assert!(result["interfaces"][0]["name"].as_str().unwrap().starts_with("lxc"));
    assert_eq!(result["interfaces"][1]["name"], "eth0");
    let ips = result["ips"].as_array().unwrap();
    assert_eq!((&ips[0]["version"], &ips[1]["version"]), (&json!("6"), &json!("4")), "IPv6 comes first");
    assert!(ips.iter().all(|ip| ip["interface"] == 1));
    assert_eq!(result["routes"][2]["dst"], "10.0.1.1/32");
    assert!(scene.host.pings("10.0.1.2") && scene.host.pings("fd00:10:0:1::2"));
    scene.node.stop_agent();
    assert!(scene.first("ADD").unwrap_err().contains("unable to connect to Cilium agent"));
    scene.first("DEL").unwrap();
    assert!(!scene.pod.links().contains("eth0"));
    assert_eq!(scene.node.root().join("var/run/cilium/deleteQueue").read_dir().unwrap().count(), 1);
    scene.node.start_agent().unwrap();
    scene.first("DEL").unwrap();
    assert!(scene.node.leftovers().is_empty());
}

#[test]
fn cilium_refuses_to_be_chained_and_old_releases_a_del_without_namespace() {
    if !possible() {
        return;
    }
    let mut scene = Scene::new(Primary::Cilium);
    let chained = scene.stdin(0, Some(&json!({"cniVersion": "0.3.1", "ips": []})));
    scene.call("ADD", &chained).unwrap_err();
    let result = scene.add();
    scene.pod = Netns::new("later");
    scene.variables = vec![("CNI_NETNS", String::new())];
    scene.del(&result);
    scene.variables.push(("SHAPED_PRIMARY_RELEASE", "older".to_owned()));
    assert!(scene.first("DEL").unwrap_err().contains("opening netns"));
    assert!(scene.node.leftovers().is_empty());
}

#[test]
fn arguments_that_a_plugin_does_not_know_are_refused_without_ignore_unknown() {
    if !possible() {
        return;
    }
    for primary in [Primary::AwsVpc, Primary::Cilium] {
        let mut scene = Scene::new(primary);
        scene.variables =
            vec![("CNI_ARGS", "K8S_POD_NAMESPACE=a;K8S_POD_NAME=b;MAC=02:00:00:00:00:01".to_owned())];
        assert!(scene.first("ADD").unwrap_err().contains("unknown args [\"MAC\"]"), "{primary:?}");
    }
}
