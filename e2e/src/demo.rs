//! The demo: two pods on a throw-away node, each with several networks of real plugins; what they have, what the
//! runtime and the API server are told, pings on every network, and nothing left at the end.
//!
//! It runs in a mount namespace of its own, with empty `/run` and `/var/lib`: plugins may keep what they keep where
//! the examples say, and the machine sees none of it, however the demo ends.

mod show;

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cni::npwg::{NETWORK_STATUS, NETWORKS, network_status};
use cni::result::Family;
use rustix::mount::{MountFlags, mount};
use serde_json::{Value, json};
use store::network::{Outcome, RenderedNetwork};
use store::record::Record;

use crate::node::{Node, Pod, files, reservations_in};
use crate::program::on_path;
use crate::runtime::pod_ips;
use crate::{artefacts, wait};
use show::{lines, milliseconds, size, table};

/// Says to a demo that it runs in its own namespace.
const INSIDE: &str = "BRAID_DEMO_INSIDE";

/// Where host-local and tuning keep what they keep, unless a configuration says otherwise.
const ADDRESSES: &str = "/var/lib/cni/networks";
const TUNING: &str = "/run/cni/tuning";

/// What `web` asks for: the long form of the annotation, with wishes. `db` asks in the short form.
const WEB: &str = r#"[
  {"name": "storage"},
  {"name": "fabric", "ips": ["10.88.2.50/24", "fd00:88:2::50/64"], "mac": "02:88:00:00:02:50"},
  {"name": "uplink", "interface": "up0"},
  {"name": "direct"}
]"#;
const DB: &str = "storage, fabric, uplink@up0, direct";

/// Runs the demo; the program's exit status.
pub fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { error, advice }) => {
            // There is nobody else to tell.
            let _ = writeln!(std::io::stderr(), "\nThe demo failed: {error:#}\nWhat to do next: {advice}");
            ExitCode::FAILURE
        }
    }
}

/// What went wrong, and what a person can do about it.
struct Failure {
    error: anyhow::Error,
    advice: &'static str,
}

trait Advise<T> {
    fn or_do(self, advice: &'static str) -> Result<T, Failure>;
}

impl<T> Advise<T> for Result<T> {
    fn or_do(self, advice: &'static str) -> Result<T, Failure> {
        self.map_err(|error| Failure { error, advice })
    }
}

const REPORT: &str = "run it again with `make demo`; if it fails again, `make e2e` tells which part is broken; \
                      please report both outputs";

fn run() -> Result<(), Failure> {
    check_machine().or_do(
        "run `make setup`, which installs what is missing, and start the demo as root (sudo -E make demo)",
    )?;
    artefacts::meta_cni().and(artefacts::braid()).or_do("run `make build`")?;
    if std::env::var_os(INSIDE).is_none() {
        return seclude().or_do(
            "let the machine make mount namespaces: run the demo as root, outside of a restricted container",
        );
    }
    for dir in ["/run", "/var/lib"] {
        mount("tmpfs", dir, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, None)
            .with_context(|| format!("mounting an empty {dir}"))
            .or_do("run the demo as root, outside of a restricted container")?;
    }
    let begun = Instant::now();
    say("Braid: two pods, several networks each. Real plugins, no cluster, nothing is left on this machine.\n")
        .or_do(REPORT)?;
    let node = node().or_do(REPORT)?;
    render(&node).or_do(
        "the example named above is not accepted: `braid check` on its file says what is wrong with it",
    )?;
    let pods = [("web", WEB), ("db", DB)].map(|(name, asks)| {
        Pod::new(name, asks).map(|pod| pod.with_port(if name == "web" { 8080 } else { 5432 }, 80))
    });
    let pods = pods.into_iter().collect::<Result<Vec<_>>>().or_do(REPORT)?;
    let results = attach(&node, &pods).or_do(REPORT)?;
    tell(&node, &pods, &results).or_do(REPORT)?;
    reach(&node, &pods).or_do(REPORT)?;
    detach(&node, &pods).or_do(REPORT)?;
    let took = begun.elapsed().as_secs_f64();
    say(&format!("\nDone in {took:.1} s. Next: docs/without-a-cluster.md sets Braid up for a runtime.\n"))
        .or_do(REPORT)
}

fn check_machine() -> Result<()> {
    ensure!(rustix::process::geteuid().is_root(), "it makes network namespaces and needs root");
    let programs = [
        ("ip", "iproute2"),
        ("ping", "iputils-ping"),
        ("iptables-save", "iptables"),
        ("unshare", "util-linux"),
    ];
    for (program, package) in programs {
        ensure!(on_path(program), "{program} is missing (Debian's package {package})");
    }
    ensure!(
        artefacts::reference_plugins().is_some(),
        "the CNI plugins are missing (Debian's package containernetworking-plugins)"
    );
    Ok(())
}

/// Runs this program again, in a mount namespace of its own. Returns only if that fails.
fn seclude() -> Result<()> {
    let own = std::env::current_exe().context("finding the running program")?;
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "--"]).arg(own).env(INSIDE, "1");
    Err(command.exec()).context("running unshare (Debian's package util-linux)")
}

fn say(text: &str) -> Result<()> {
    std::io::stdout().write_all(text.as_bytes()).context("printing")
}

fn heading(text: &str) -> Result<()> {
    say(&format!("\n== {text}\n"))
}

/// A node with a primary, as a cluster's own network would be, and a link for macvlan.
fn node() -> Result<Node> {
    heading("1. A node, in namespaces of its own, with a primary network: bridge, host-local, portmap")?;
    for (what, path) in [("meta-cni", artefacts::meta_cni()?), ("braid", artefacts::braid()?)] {
        say(&format!("   {what:<9} {}, {}\n", path.display(), size(&path)?))?;
    }
    let plugins = artefacts::reference_plugins().context("the CNI plugins are missing")?;
    say(&format!("   {:<9} {}\n", "plugins", plugins.display()))?;
    let node = Node::new()?;
    node.host.cable("braid-up0", "switch0")?;
    let mut bridge = json!({ "type": "bridge", "bridge": "pods0", "isDefaultGateway": true });
    bridge["ipam"] = node.host_local(&["10.244.0.0/24", "fd00:244::/64"]);
    let ports = json!({ "type": "portmap", "capabilities": { "portMappings": true } });
    let list = json!({ "cniVersion": "1.0.0", "name": "primary", "plugins": [bridge, ports] });
    node.configure("10-primary.conflist", &list)?;
    Ok(node)
}

/// The directory of examples in the sources.
fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/examples/networks")
}

fn render(node: &Node) -> Result<()> {
    heading("2. NetworkAttachmentDefinitions: braid node --manifests deploy/examples/networks --once")?;
    let examples = examples();
    let examples = examples.canonicalize().with_context(|| format!("finding {}", examples.display()))?;
    let printed = node.render(&examples)?;
    let directory = node.directory();
    let mut rows = Vec::new();
    for network in RenderedNetwork::list(&directory)? {
        let found = RenderedNetwork::read(&directory, &network)?.context("a network without file")?;
        let Outcome::Ready { list } = &found.outcome else { continue };
        let plugins: Vec<_> = list.plugins.iter().map(|plugin| plugin.plugin().to_string()).collect();
        let file = Path::new(&found.origin).file_name().unwrap_or_default().to_string_lossy().into_owned();
        rows.push([network.to_string(), plugins.join(" + "), list.name.to_string(), file].to_vec());
    }
    say(&table(&["network", "plugins", "name for plugins", "from"], &rows))?;
    say(&format!("   {printed}\n"))
}

fn attach(node: &Node, pods: &[Pod]) -> Result<Vec<Value>> {
    heading(&format!("3. Pods: the runtime calls meta-cni ADD, with the annotation {NETWORKS}"))?;
    let mut results = Vec::new();
    for pod in pods {
        let asks = pod.annotations.get(NETWORKS).context("a pod without annotation")?;
        say(&format!("   pod {} asks for\n     {}\n", pod.name, asks.replace('\n', "\n     ")))?;
        let begun = Instant::now();
        results.push(node.add(pod).with_context(|| format!("attaching pod {}", pod.name))?);
        let took = milliseconds(begun.elapsed());
        let record = record(node, pod)?;
        let plugins: u64 = record.attachments.iter().filter_map(|attachment| attachment.add_us).sum();
        let plugins = milliseconds(Duration::from_micros(plugins));
        let count = record.attachments.len();
        say(&format!("   attached to {count} networks in {took}, {plugins} of which in plugins\n"))?;
    }
    Ok(results)
}

fn record(node: &Node, pod: &Pod) -> Result<Record> {
    node.record(pod)?.with_context(|| format!("pod {} has no record", pod.name))
}

fn tell(node: &Node, pods: &[Pod], results: &[Value]) -> Result<()> {
    heading("4. What the pods have")?;
    let mut rows = Vec::new();
    for pod in pods {
        for attachment in &record(node, pod)?.attachments {
            let interface = attachment.if_name.as_str();
            let link = pod.netns.link(interface)?;
            let addresses: Vec<_> = pod.netns.addresses(interface)?.iter().map(ToString::to_string).collect();
            let mac = link["address"].as_str().unwrap_or_default().to_owned();
            let row = [
                &pod.name,
                interface,
                &attachment.network,
                &addresses.join(" "),
                &mac,
                &link["mtu"].to_string(),
            ];
            rows.push(row.map(str::to_owned).to_vec());
        }
    }
    say(&table(&["pod", "interface", "network", "addresses", "mac", "mtu"], &rows))?;
    let (pod, result) = pods.first().zip(results.first()).context("there is no pod")?;
    heading(&format!("5. What the runtime gets for {}: one result, the primary first", pod.name))?;
    say(&lines(result))?;
    let ips: Vec<_> = pod_ips(result)?.iter().map(ToString::to_string).collect();
    say(&format!("   so the pod's addresses are {}\n", ips.join(" and ")))?;
    heading(&format!("6. What the API server would get for {}: the annotation {NETWORK_STATUS}", pod.name))?;
    say(&lines(&status(node, pod)?))
}

fn status(node: &Node, pod: &Pod) -> Result<Value> {
    let record = record(node, pod)?;
    let mut all = Vec::new();
    for (index, attachment) in record.attachments.iter().enumerate() {
        let result = attachment.result.as_ref().context("an attachment without result")?;
        let (name, if_name) = (&attachment.network, &attachment.if_name);
        all.extend(network_status::statuses(name, result, if_name, record.netns.as_deref(), index == 0));
    }
    serde_json::from_str(&network_status::to_annotation(&all)).context("reading the annotation")
}

fn reach(node: &Node, pods: &[Pod]) -> Result<()> {
    let [web, db] = pods else { anyhow::bail!("the demo has two pods") };
    heading(&format!(
        "7. {} pings {} on every network; a port of the node leads to {}",
        web.name, db.name, web.name
    ))?;
    let mut rows = Vec::new();
    for attachment in &record(node, db)?.attachments {
        let interface = attachment.if_name.as_str();
        for address in db.netns.addresses(interface)? {
            let address = address.addr();
            let took = web.netns.ping(address, Some(interface));
            let took = took.with_context(|| format!("pinging {address} on {}", attachment.network))?;
            let row = [interface, &attachment.network, &address.to_string(), &milliseconds(took)];
            rows.push(row.map(str::to_owned).to_vec());
        }
    }
    say(&table(&["interface", "network", "address", "answers in"], &rows))?;
    let inside = SocketAddr::new(web.address("eth0", Family::Ipv4)?, 80);
    let listener = web.netns.within(|| TcpListener::bind(inside))?.context("listening in the pod")?;
    let port: SocketAddr = "10.244.0.1:8080".parse().context("reading an address")?;
    let connect = || TcpStream::connect_timeout(&port, Duration::from_secs(5));
    let begun = Instant::now();
    node.host.netns.within(connect)?.with_context(|| format!("connecting to {port} on the node"))?;
    let took = milliseconds(begun.elapsed());
    listener.accept().context("accepting in the pod")?;
    say(&format!("   {port} on the node leads to {inside} in {}: connected in {took}\n", web.name))
}

fn detach(node: &Node, pods: &[Pod]) -> Result<()> {
    heading("8. The networks are deleted, then the runtime calls DEL: meta-cni goes by its record")?;
    node.undefine_all()?;
    for pod in pods {
        let begun = Instant::now();
        node.del(pod).with_context(|| format!("detaching pod {}", pod.name))?;
        say(&format!("   {} detached in {}\n", pod.name, milliseconds(begun.elapsed())))?;
    }
    let _ = wait::until("nothing is left", || Ok(leftovers(node, pods)?.is_empty()));
    let left = leftovers(node, pods)?;
    let mut text = String::new();
    for what in &left {
        let _ = write!(text, "\n  {what}");
    }
    ensure!(left.is_empty(), "something is left:{text}");
    say("   nothing is left: no interface, address, port mapping, record, lock or backup of a setting\n")
}

fn leftovers(node: &Node, pods: &[Pod]) -> Result<Vec<String>> {
    let mut found = node.leftovers()?;
    let reserved = reservations_in(Path::new(ADDRESSES))?;
    found.extend(reserved.into_iter().map(|(network, ip)| format!("address {ip} of {network}")));
    found.extend(files(Path::new(TUNING))?.into_iter().map(|file| format!("tuning's backup {file}")));
    for pod in pods {
        let links = pod.netns.links()?.into_iter().filter(|link| link != "lo");
        found.extend(links.map(|link| format!("interface {link} of pod {}", pod.name)));
    }
    Ok(found)
}
