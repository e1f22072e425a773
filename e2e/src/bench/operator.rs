//! The node role beside a real API server: how long a network takes to reach the node, what the role needs, and
//! what it asks of the API server.

use std::fmt::Write as _;
use std::fs;
use std::pin::pin;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cni::npwg::{NETWORK_STATUS, NETWORKS, NetworkRef};
use crds::NetworkAttachmentDefinition;
use futures::TryStreamExt;
use k8s_openapi::api::core::v1::Pod as ApiPod;
use kube::Api;
use kube::api::{ListParams, PostParams, WatchEvent, WatchParams};
use serde::Serialize;
use serde_json::json;
use store::network::RenderedNetwork;

use super::sample::{milliseconds, rounded};
use crate::control_plane::{ControlPlane, User};
use crate::node::{Node, Pod};
use crate::operator::Operator;
use crate::program::output;
use crate::{artefacts, source, wait};

/// Networks and pods that are there before the role starts.
const NETWORKS_BEFORE: usize = 1000;
const PODS_BEFORE: usize = 110;
/// Networks whose way to the node is timed.
const TIMED: usize = 100;
/// Pods that are started while the API server counts, each with two secondary networks.
const STARTED: usize = 50;
/// What the role may need at its peak, in KiB.
const BUDGET_KIB: u64 = 25 * 1024;

const NODE: &str = "bench-node";

/// What was measured, beside what it is compared with.
#[derive(Debug, Serialize)]
pub(super) struct Figures {
    nad_to_file_p50_ms: f64,
    nad_to_file_p99_ms: f64,
    /// A plain watch of the same kind, which writes nothing.
    plain_watch_p50_ms: f64,
    plain_watch_p99_ms: f64,
    nad_to_pod_p50_ms: f64,
    nad_to_pod_p99_ms: f64,
    initial_sync_ms: f64,
    /// A plain list of the same networks and pods.
    plain_list_ms: f64,
    initial_networks: usize,
    initial_pods: usize,
    peak_rss_kib: u64,
    steady_rss_kib: u64,
    budget_rss_kib: u64,
    pod_writes_per_start: f64,
    event_writes_per_start: f64,
    reads_per_start: f64,
    cpu_seconds_per_1000_starts: f64,
}

/// A control plane, a node with a primary, and the role between them once it is started.
struct Scene {
    role: Option<Operator>,
    plane: ControlPlane,
    node: Node,
    user: User,
}

/// Measures all of it. Everything happens in the namespaces of the benchmark.
pub(super) fn measure() -> Result<Figures> {
    output(Command::new("ip").args(["link", "set", "lo", "up"])).context("bringing up the loopback link")?;
    let mut scene = Scene::new()?;
    scene.fill()?;
    let plain_list = scene.plain_list()?;
    let begun = Instant::now();
    scene.start()?;
    let initial = begun.elapsed();
    let timed = scene.time_networks()?;
    let before = (scene.cpu()?, scene.plane.requests_of(&scene.user)?.len());
    scene.start_pods()?;
    let cpu = scene.cpu()? - before.0;
    let [pods, events, reads] = scene.requests_since(before.1)?;
    let status = scene.status()?;
    let per_start = |count: usize| rounded(ratio(count, STARTED));
    Ok(Figures {
        nad_to_file_p50_ms: percentile(&timed.file, 50),
        nad_to_file_p99_ms: percentile(&timed.file, 99),
        plain_watch_p50_ms: percentile(&timed.watch, 50),
        plain_watch_p99_ms: percentile(&timed.watch, 99),
        nad_to_pod_p50_ms: percentile(&timed.pod, 50),
        nad_to_pod_p99_ms: percentile(&timed.pod, 99),
        initial_sync_ms: rounded(milliseconds(initial)),
        plain_list_ms: rounded(milliseconds(plain_list)),
        initial_networks: NETWORKS_BEFORE,
        initial_pods: PODS_BEFORE,
        peak_rss_kib: kib(&status, "VmHWM")?,
        steady_rss_kib: kib(&status, "VmRSS")?,
        budget_rss_kib: BUDGET_KIB,
        pod_writes_per_start: per_start(pods),
        event_writes_per_start: per_start(events),
        reads_per_start: per_start(reads),
        cpu_seconds_per_1000_starts: rounded(cpu * ratio(1000, STARTED)),
    })
}

/// Times in milliseconds from asking for a network to be made.
#[derive(Default)]
struct Timed {
    file: Vec<f64>,
    watch: Vec<f64>,
    pod: Vec<f64>,
}

impl Scene {
    fn new() -> Result<Self> {
        let (plane, node) = (ControlPlane::start()?, Node::new()?);
        plane.install_definitions()?;
        plane.apply(&source("deploy/rbac/node.yaml"))?;
        let user = plane.service_account("braid-system", "braid-node")?;
        let mut bridge = json!({"type": "bridge", "bridge": "pods0", "isDefaultGateway": true});
        bridge["ipam"] = node.host_local(&["10.244.0.0/16"]);
        node.configure(
            "10-primary.conflist",
            &json!({"cniVersion": "1.0.0", "name": "primary", "plugins": [bridge]}),
        )?;
        Ok(Self { role: None, plane, node, user })
    }

    fn networks(&self) -> Result<Api<NetworkAttachmentDefinition>> {
        Ok(Api::default_namespaced(self.plane.client(&User::admin())?))
    }

    fn pods(&self) -> Result<Api<ApiPod>> {
        Ok(Api::default_namespaced(self.plane.client(&User::admin())?))
    }

    /// What a node of a large cluster finds when it starts.
    fn fill(&self) -> Result<()> {
        let (networks, pods) = (self.networks()?, self.pods()?);
        self.plane.block_on(async {
            for number in 0..NETWORKS_BEFORE {
                networks
                    .create(&PostParams::default(), &self.bridge(&format!("net-{number}"), number)?)
                    .await?;
            }
            for number in 0..PODS_BEFORE {
                let name = format!("before-{number}");
                pods.create(&PostParams::default(), &api_pod(&name, "net-1, net-2")?).await?;
            }
            Ok(())
        })
    }

    /// A network of bridge and host-local, as people write them.
    fn bridge(&self, name: &str, number: usize) -> Result<NetworkAttachmentDefinition> {
        let ipam = self.node.host_local(&[&format!("10.{}.{}.0/24", 100 + number / 250, number % 250)]);
        // Few bridges for many networks: their number is not what is measured.
        let bridge = format!("bench{}", number % 4);
        let config = json!({"cniVersion": "1.0.0", "type": "bridge", "bridge": bridge, "ipam": ipam});
        let object = json!({"metadata": {"name": name}, "spec": {"config": config.to_string()}});
        serde_json::from_value(object).context("making a network")
    }

    fn plain_list(&self) -> Result<Duration> {
        let (networks, pods) = (self.networks()?, self.pods()?);
        let begun = Instant::now();
        self.plane.block_on(async {
            let all = ListParams::default();
            let listed =
                (networks.list_metadata(&all).await?, networks.list(&all).await?, pods.list(&all).await?);
            ensure!(listed.1.items.len() == NETWORKS_BEFORE, "a list of {} networks", listed.1.items.len());
            Ok(begun.elapsed())
        })
    }

    /// Starts the role and waits until it is ready.
    fn start(&mut self) -> Result<()> {
        let file = |name: &str| self.node.file(name).display().to_string();
        let plugin = artefacts::meta_cni()?.display().to_string();
        let arguments = [
            "--node-name",
            NODE,
            "--plugin",
            &plugin,
            "--run-dir",
            &file("run"),
            "--state-dir",
            &file("state"),
        ]
        .map(str::to_owned);
        let more = ["--cni-conf-dir".to_owned(), file("net.d"), "--cni-bin-dir".to_owned(), file("host-bin")];
        fs::create_dir_all(self.node.file("host-bin")).context("making a directory for the plugin")?;
        let arguments: Vec<&str> = arguments.iter().chain(&more).map(String::as_str).collect();
        let kubeconfig = self.plane.kubeconfig(&self.user)?;
        let mut role = Operator::start("node", &self.node.file(""), &kubeconfig, &arguments)?;
        role.wait_until_ready()?;
        self.role = Some(role);
        Ok(())
    }

    /// Makes networks, one after another, and times each on its way; a plain watch runs beside the role.
    fn time_networks(&self) -> Result<Timed> {
        let mut timed = Timed::default();
        let networks = self.networks()?;
        for number in 0..TIMED {
            let name = format!("timed-{number}");
            let object = self.bridge(&name, number)?;
            let (begun, seen) = self.plane.block_on(async {
                let list = networks.list_metadata(&ListParams::default().limit(1)).await?;
                let version = list.metadata.resource_version.unwrap_or_default();
                let mut watch = pin!(networks.watch(&WatchParams::default(), &version).await?);
                let begun = Instant::now();
                networks.create(&PostParams::default(), &object).await?;
                while let Some(event) = watch.try_next().await? {
                    if matches!(&event, WatchEvent::Added(nad) if nad.metadata.name.as_deref() == Some(&name))
                    {
                        break;
                    }
                }
                anyhow::Ok((begun, begun.elapsed()))
            })?;
            timed.watch.push(milliseconds(seen));
            let network = NetworkRef::parse("default", &name)?;
            let written = self.written(&network)?;
            timed.file.push(milliseconds(written.duration_since(begun)));
            if number % 4 == 0 {
                let pod = Pod::new(&name, &name)?;
                self.node.add(&pod)?;
                timed.pod.push(milliseconds(begun.elapsed()));
                self.node.del(&pod)?;
            }
        }
        Ok(timed)
    }

    /// When a network's file was written, on the clock that `Instant` shows.
    fn written(&self, network: &NetworkRef) -> Result<Instant> {
        let path = self.node.directory().network(network);
        wait::until(&format!("{network} is on the node"), || Ok(path.exists()))?;
        ensure!(RenderedNetwork::read(&self.node.directory(), network)?.is_some(), "{network} has no file");
        let age = fs::metadata(&path)?.modified()?.elapsed().unwrap_or_default();
        Instant::now().checked_sub(age).context("a file from before this process")
    }

    /// Starts pods one after another, and waits until the API server says of each what it got.
    fn start_pods(&self) -> Result<()> {
        let api = self.pods()?;
        for number in 0..STARTED {
            let name = format!("started-{number}");
            let made =
                self.plane.block_on(api.create(&PostParams::default(), &api_pod(&name, "net-1, net-2")?))?;
            let mut pod = Pod::new(&name, "net-1, net-2")?;
            pod.uid = made.metadata.uid.context("a pod without uid")?;
            self.node.add(&pod)?;
            wait::until(&format!("{name} has its status"), || {
                let now = self.plane.block_on(api.get(&name))?;
                Ok(now.metadata.annotations.is_some_and(|all| all.contains_key(NETWORK_STATUS)))
            })?;
            self.node.del(&pod)?;
        }
        // The last event may still be on its way.
        wait::until("every event is written", || Ok(self.requests_since(0)?[1] >= STARTED))
    }

    /// Writes to pods, events, and reads, of the role, since so many of its requests.
    fn requests_since(&self, before: usize) -> Result<[usize; 3]> {
        let mut counts = [0; 3];
        for request in self.plane.requests_of(&self.user)?.iter().skip(before) {
            match (request.resource.as_str(), request.verb.as_str()) {
                ("pods/status", "patch") => counts[0] += 1,
                // What is told when a pod goes is not of its start.
                ("events", _) => counts[1] += 1,
                (_, "get" | "list") => counts[2] += 1,
                _ => {}
            }
        }
        Ok(counts)
    }

    fn role(&self) -> Result<&Operator> {
        self.role.as_ref().context("the role does not run")
    }

    fn status(&self) -> Result<String> {
        let path = format!("/proc/{}/status", self.role()?.id());
        fs::read_to_string(&path).with_context(|| format!("reading {path}"))
    }

    /// Seconds of processor time that the role has had.
    fn cpu(&self) -> Result<f64> {
        let name = "process_cpu_seconds_total";
        self.role()?.metric(name)?.with_context(|| format!("the role has no metric {name}"))
    }
}

fn api_pod(name: &str, networks: &str) -> Result<ApiPod> {
    let object = json!({
        "metadata": {"name": name, "annotations": {NETWORKS: networks}},
        "spec": {"nodeName": NODE, "containers": [{"name": "c", "image": "none"}]},
    });
    serde_json::from_value::<ApiPod>(object).context("making a pod")
}

fn kib(status: &str, field: &str) -> Result<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let number = line.and_then(|line| line.split_whitespace().next()).context("a status without memory")?;
    number.parse().with_context(|| format!("reading {field}"))
}

fn ratio(one: usize, other: usize) -> f64 {
    let number = |count| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    number(one) / number(other)
}

/// The smallest of the values that so many percent of them do not exceed.
fn percentile(values: &[f64], percent: usize) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let index = (values.len() * percent).div_ceil(100).saturating_sub(1);
    values.get(index).map_or(f64::NAN, |value| rounded(*value))
}

/// The figures for a person.
pub(super) fn table(figures: &Figures) -> String {
    let mut text = format!(
        "\nThe node role, with {} networks and {} pods\n  {:<58} {:>12}   compared with\n",
        figures.initial_networks, figures.initial_pods, "what", "is"
    );
    let mebibytes = |kib: u64| format!("{}.{} MiB", kib / 1024, kib % 1024 * 10 / 1024);
    let mut row = |what: &str, is: String, compared: String| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "  {what:<58} {is:>12}   {compared}");
    };
    let f = figures;
    let both = |p50: f64, p99: f64| format!("{p50:.1} / {p99:.1}");
    row(
        "a new network to its file, p50 / p99 ms",
        both(f.nad_to_file_p50_ms, f.nad_to_file_p99_ms),
        format!("a plain watch that writes nothing: {}", both(f.plain_watch_p50_ms, f.plain_watch_p99_ms)),
    );
    row(
        "a new network to a pod on it, p50 / p99 ms",
        both(f.nad_to_pod_p50_ms, f.nad_to_pod_p99_ms),
        "budget: usable within 1000 ms".to_owned(),
    );
    row(
        "start until everything is synced, ms",
        format!("{:.0}", f.initial_sync_ms),
        format!("listing the same by a plain client: {:.0}", f.plain_list_ms),
    );
    let over = if f.peak_rss_kib > f.budget_rss_kib { "; OVER" } else { "" };
    row(
        "peak memory",
        mebibytes(f.peak_rss_kib),
        format!("budget: {}{over}; Multus thick: 52 MiB with 2 networks", mebibytes(f.budget_rss_kib)),
    );
    row("memory at the end", mebibytes(f.steady_rss_kib), String::new());
    row("writes to a pod per start", format!("{:.2}", f.pod_writes_per_start), "budget: 1".to_owned());
    row(
        "reads per start",
        format!("{:.2}", f.reads_per_start),
        "budget: 0; Multus thin: 2n+5 requests".to_owned(),
    );
    row(
        "events per start and end (--pod-events problems: 0)",
        format!("{:.2}", f.event_writes_per_start),
        "Multus: n+1 per start".to_owned(),
    );
    row("CPU seconds per 1000 pod starts", format!("{:.2}", f.cpu_seconds_per_1000_starts), String::new());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert!((percentile(&values, 50) - 50.0).abs() < f64::EPSILON);
        assert!((percentile(&values, 99) - 99.0).abs() < f64::EPSILON);
        assert!((percentile(&[3.0], 99) - 3.0).abs() < f64::EPSILON);
    }
}
