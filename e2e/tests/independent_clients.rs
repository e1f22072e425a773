//! Container runtimes that know nothing of Braid run containers through a CNI configuration: containerd's part
//! that serves the kubelet, and podman. They need root and the packages that `missing` names.

#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of a test may fail as loudly as the test.

use std::fs;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use cni::NetworkList;
use cni::npwg::NetworkRef;
use e2e::containerd::{self, Containerd, Pod};
use e2e::podman::{self, Podman};
use serde_json::{Value, json};
use store::NodeDirectory;
use store::network::{Outcome, RenderedNetwork};
use store::node::NodeFacts;
use tempfile::TempDir;

/// THE SWITCH: the executable that the runtimes are to run, or none for the primary's plugins without Braid.
/// Once meta-cni is built by every test run, this becomes its path, and the `Option` goes.
fn meta_cni() -> Option<PathBuf> {
    std::env::var_os("BRAID_META_CNI").map(PathBuf::from)
}

/// Where the runtimes' CNI library keeps the results of ADD until DEL.
const RESULTS: &str = "/var/lib/cni/results";

/// The name of the NAD that gives a second interface.
const SECOND: &str = "second";

/// Everything that one test makes on this machine. Dropping it takes that away.
struct Site {
    dir: TempDir,
    /// Part of every name that is seen outside of the directory.
    tag: &'static str,
    /// The primary's addresses are `10.211.<subnet>.0/24`, the secondary's those of the next number.
    subnet: u8,
}

impl Site {
    fn new(tag: &'static str, subnet: u8) -> Self {
        let site = Self { dir: tempfile::tempdir().unwrap(), tag, subnet };
        site.clear();
        for dir in ["bin", "conf"] {
            fs::create_dir(site.path(dir)).unwrap();
        }
        for plugin in ["bridge", "host-local", "loopback", "portmap"] {
            link(&Path::new("/usr/lib/cni").join(plugin), &site.path("bin").join(plugin));
        }
        site.write_list("10-primary.conflist", &site.primary());
        if let Some(meta_cni) = meta_cni() {
            link(&meta_cni, &site.path("bin/meta-cni"));
            site.write_list("00-braid.conflist", &site.braid());
            site.write_node_directory();
        }
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write_list(&self, file: &str, list: &Value) {
        fs::write(self.path("conf").join(file), list.to_string()).unwrap();
    }

    /// Bridge and portmap: the primary. Without Braid it is what the runtimes run.
    fn primary(&self) -> Value {
        let name = if meta_cni().is_some() { format!("{}-primary", self.network()) } else { self.network() };
        let ports = json!({ "type": "portmap", "capabilities": { "portMappings": true } });
        json!({ "cniVersion": "1.0.0", "name": name, "plugins": [self.bridge("p", self.subnet), ports] })
    }

    /// Braid: the primary is the other configuration of the directory. Podman hands over no annotations, so its
    /// containers get the second network by default.
    fn braid(&self) -> Value {
        let default_networks: &[&str] = if self.tag == "podman" { &[SECOND] } else { &[] };
        let plugin = json!({
            "type": "meta-cni",
            "capabilities": { "portMappings": true, "io.kubernetes.cri.pod-annotations": true },
            "multusAutoconfigDir": self.path("conf"),
            "confDir": self.path("conf"),
            "binDir": self.path("bin"),
            "runDir": self.path("run"),
            "stateDir": self.path("state"),
            "multusNamespace": "default",
            "defaultNetworks": default_networks,
        });
        json!({ "cniVersion": "1.0.0", "name": self.network(), "plugins": [plugin] })
    }

    fn bridge(&self, which: &str, subnet: u8) -> Value {
        let range = json!({ "subnet": format!("10.211.{subnet}.0/24") });
        let ipam = json!({ "type": "host-local", "dataDir": self.path("ipam"), "ranges": [[range]] });
        json!({ "type": "bridge", "bridge": self.bridge_name(which), "isGateway": true, "ipam": ipam })
    }

    /// The name of the network that the runtimes run.
    fn network(&self) -> String {
        format!("clients-{}", self.tag)
    }

    fn bridge_name(&self, which: &str) -> String {
        format!("ic-{}-{which}", self.tag)
    }

    fn node_directory(&self) -> NodeDirectory {
        NodeDirectory::new(self.path("run"), self.path("state"))
    }

    /// What the operator would write: one network, and that there is no other.
    fn write_node_directory(&self) {
        let list =
            json!({ "cniVersion": "1.0.0", "name": SECOND, "plugins": [self.bridge("s", self.subnet + 1)] });
        let network = RenderedNetwork {
            network: NetworkRef::parse("default", SECOND).unwrap(),
            origin: "independent_clients.rs".to_owned(),
            generation: None,
            resource_name: None,
            outcome: Outcome::Ready { list: NetworkList::from_json(list, None).unwrap() },
        };
        network.write(&self.node_directory()).unwrap();
        NodeFacts::complete_now("test").write(&self.node_directory()).unwrap();
    }

    /// The gateway of the primary, which is an address of the host.
    fn gateway(&self) -> IpAddr {
        format!("10.211.{}.1", self.subnet).parse().unwrap()
    }

    /// `eth0` has the one address that the runtime knows; with Braid, `net1` has one of the second network.
    fn assert_interfaces(&self, netns: &Path, ips: &[IpAddr]) {
        let eth0 = addresses(netns, "eth0");
        assert_eq!(eth0, ips, "the runtime's addresses are those of eth0");
        assert!(eth0[0].to_string().starts_with(&format!("10.211.{}.", self.subnet)), "{eth0:?}");
        if meta_cni().is_some() {
            let net1 = addresses(netns, "net1");
            let prefix = format!("10.211.{}.", self.subnet + 1);
            assert!(net1.len() == 1 && net1[0].to_string().starts_with(&prefix), "{net1:?}");
        }
    }

    /// No namespace, no port of a bridge, no address, no port mapping, no cached result and no record.
    fn assert_nothing_left(&self, id: &str, netns: &Path) {
        assert!(!netns.exists(), "{} is left", netns.display());
        for which in ["p", "s"] {
            let ports = Path::new("/sys/class/net").join(self.bridge_name(which)).join("brif");
            assert_eq!(files(&ports), [""; 0], "interfaces on the bridge");
        }
        for network in files(&self.path("ipam")) {
            let reserved = files(&self.path("ipam").join(network));
            let reserved: Vec<_> = reserved.iter().filter(|name| name.parse::<IpAddr>().is_ok()).collect();
            assert_eq!(reserved, [""; 0], "reserved addresses");
        }
        assert!(!port_rules().contains(id), "port mappings of {id}:\n{}", port_rules());
        let cached = files(Path::new(RESULTS));
        assert!(!cached.iter().any(|name| name.contains(id)), "{cached:?}");
        assert_eq!(files(&self.node_directory().records()), [""; 0], "records");
        assert_eq!(files(&self.node_directory().unfinished()), [""; 0], "unfinished work");
    }

    /// Takes away what is not in the site's directory: all of it at the end, and what a killed run left before.
    fn clear(&self) {
        for which in ["p", "s"] {
            let bridge = self.bridge_name(which);
            if Path::new("/sys/class/net").join(&bridge).exists() {
                run(Command::new("ip").args(["link", "delete", &bridge]));
            }
        }
        let ours = format!(r#"dnat name: \"{}"#, self.network());
        for rule in port_rules().lines().filter(|rule| rule.contains(&ours)) {
            let deletion = rule.replacen("-A", "iptables -t nat -D", 1);
            let chain = rule.rsplit(' ').next().unwrap();
            run(Command::new("sh")
                .args(["-c", &format!("{deletion}; for i in F X; do iptables -t nat -$i {chain}; done")]));
        }
        for result in files(Path::new(RESULTS)).iter().filter(|name| name.starts_with(&self.network())) {
            fs::remove_file(Path::new(RESULTS).join(result)).unwrap();
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.clear();
    }
}

fn link(target: &Path, path: &Path) {
    assert!(target.is_file(), "{} is missing: install containernetworking-plugins", target.display());
    std::os::unix::fs::symlink(target, path).unwrap();
}

/// Runs a program that must succeed and returns what it printed.
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The names in a directory, hidden ones apart; none if it does not exist.
fn files(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| !name.starts_with('.')).collect()
}

/// The global addresses of an interface in a network namespace.
fn addresses(netns: &Path, interface: &str) -> Vec<IpAddr> {
    let netns = format!("--net={}", netns.display());
    let show = ["ip", "-json", "address", "show", "dev", interface];
    let links: Value = serde_json::from_str(&run(Command::new("nsenter").arg(netns).args(show))).unwrap();
    let all = links[0]["addr_info"].as_array().unwrap();
    let global = all.iter().filter(|address| address["scope"] == "global");
    global.map(|address| address["local"].as_str().unwrap().parse().unwrap()).collect()
}

fn port_rules() -> String {
    run(Command::new("iptables-save").args(["-t", "nat"]))
}

fn assert_possible(missing: Option<&str>) {
    assert_eq!(missing, None, "a package is missing");
    assert!(rustix::process::geteuid().is_root(), "this test needs root");
}

#[test]
fn containerd_runs_a_pod_sandbox() {
    assert_possible(containerd::missing().as_deref());
    let site = Site::new("ctrd", 31);
    let containerd = Containerd::start(&site.path("bin"), &site.path("conf")).unwrap();
    let pod = Pod {
        namespace: "default".to_owned(),
        name: "client".to_owned(),
        uid: "6a3c8a4e-2c5d-4d3e-9f35-0d6f4b3b9a11".to_owned(),
        annotations: [("k8s.v1.cni.cncf.io/networks".to_owned(), SECOND.to_owned())].into(),
        ports: vec![(21131, 80)],
    };
    let id = containerd.run(&pod).unwrap();

    let sandbox = containerd.status(&id).unwrap();
    assert!(sandbox.ready);
    site.assert_interfaces(&sandbox.netns, &sandbox.ips);
    assert_eq!(sandbox.interfaces["eth0"]["IPConfigs"][0]["IP"], json!(sandbox.ips[0]));
    assert_eq!(sandbox.interfaces.get("net1").is_some(), meta_cni().is_some(), "{}", sandbox.interfaces);
    assert!(port_rules().contains(&id), "the host port leads to the pod");

    containerd.stop(&id).unwrap();
    assert!(!containerd.status(&id).unwrap().ready);
    containerd.remove(&id).unwrap();
    site.assert_nothing_left(&id, &sandbox.netns);
}

#[test]
fn podman_runs_a_container() {
    assert_possible(podman::missing().as_deref());
    let site = Site::new("podman", 41);
    let podman = Podman::new(&[&site.path("bin")], &site.path("conf")).unwrap();
    let id = podman.run("client", &site.network(), &["--publish", "21141:80"]).unwrap();

    let container = podman.inspect("client", &site.network()).unwrap();
    assert_eq!(container.id, id);
    site.assert_interfaces(&container.netns, &container.ips);
    assert!(podman.exec("client", &["cat", "/sys/class/net/eth0/address"]).unwrap() == container.mac);
    podman.exec("client", &["ping", "-c", "1", "-w", "10", &site.gateway().to_string()]).unwrap();
    podman.exec("client", &["httpd", "-p", "80", "-h", "/etc"]).unwrap();
    let published = SocketAddr::new(site.gateway(), 21141);
    TcpStream::connect_timeout(&published, Duration::from_secs(10)).unwrap();

    podman.remove("client").unwrap();
    site.assert_nothing_left(&id, &container.netns);
}
