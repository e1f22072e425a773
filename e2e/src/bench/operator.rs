//! The node role beside a real API server: how long a network takes to reach the node, what the role needs, and
//! what it asks of the API server.

use std::fmt::Write as _;
use std::fs;
use std::pin::pin;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use cni::npwg::{NETWORK_STATUS, NetworkRef};
use futures::TryStreamExt;
use kube::api::{ListParams, PostParams, WatchEvent, WatchParams};
use serde::Serialize;
use serde_json::Map;
use store::network::RenderedNetwork;

use super::sample::{mebibytes, milliseconds, percentile, ratio, rounded};
use super::scene::{ROLE_BUDGET_KIB, Scene, api_pod};
use crate::node::Pod;
use crate::wait;

/// Networks and pods that are there before the role starts.
const NETWORKS_BEFORE: usize = 1000;
const PODS_BEFORE: usize = 110;
/// Networks whose way to the node is timed.
const TIMED: usize = 100;
/// Pods that are started while the API server counts, each with two secondary networks.
const STARTED: usize = 50;

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

/// Measures all of it. Everything happens in the namespaces of the benchmark.
pub(super) fn measure() -> Result<Figures> {
    let mut scene = Scene::new(&Map::new())?;
    fill(&scene)?;
    let plain_list = plain_list(&scene)?;
    let begun = Instant::now();
    scene.start()?;
    let initial = begun.elapsed();
    let timed = time_networks(&scene)?;
    let before = (scene.cpu()?, scene.plane.requests_of(&scene.user)?.len());
    start_pods(&scene)?;
    let cpu = scene.cpu()? - before.0;
    let [pods, events, reads] = requests_since(&scene, before.1)?;
    let (peak, now) = scene.memory()?;
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
        peak_rss_kib: peak,
        steady_rss_kib: now,
        budget_rss_kib: ROLE_BUDGET_KIB,
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

/// What a node of a large cluster finds when it starts.
fn fill(scene: &Scene) -> Result<()> {
    scene.fill_networks(0..NETWORKS_BEFORE)?;
    let names: Vec<String> = (0..PODS_BEFORE).map(|number| format!("before-{number}")).collect();
    scene.make_pods(&names, "net-1, net-2").map(drop)
}

fn plain_list(scene: &Scene) -> Result<Duration> {
    let (networks, pods) = (scene.networks()?, scene.pods()?);
    let begun = Instant::now();
    scene.plane.block_on(async {
        let all = ListParams::default();
        let listed =
            (networks.list_metadata(&all).await?, networks.list(&all).await?, pods.list(&all).await?);
        ensure!(listed.1.items.len() == NETWORKS_BEFORE, "a list of {} networks", listed.1.items.len());
        Ok(begun.elapsed())
    })
}

/// Makes networks, one after another, and times each on its way; a plain watch runs beside the role.
fn time_networks(scene: &Scene) -> Result<Timed> {
    let mut timed = Timed::default();
    let networks = scene.networks()?;
    for number in 0..TIMED {
        let name = format!("timed-{number}");
        let object = scene.bridge(&name, number)?;
        let (begun, seen) = scene.plane.block_on(async {
            let list = networks.list_metadata(&ListParams::default().limit(1)).await?;
            let version = list.metadata.resource_version.unwrap_or_default();
            let mut watch = pin!(networks.watch(&WatchParams::default(), &version).await?);
            let begun = Instant::now();
            networks.create(&PostParams::default(), &object).await?;
            while let Some(event) = watch.try_next().await? {
                if matches!(&event, WatchEvent::Added(nad) if nad.metadata.name.as_deref() == Some(&name)) {
                    break;
                }
            }
            anyhow::Ok((begun, begun.elapsed()))
        })?;
        timed.watch.push(milliseconds(seen));
        let network = NetworkRef::parse("default", &name)?;
        let written = written(scene, &network)?;
        timed.file.push(milliseconds(written.duration_since(begun)));
        if number % 4 == 0 {
            let pod = Pod::new(&name, &name)?;
            scene.node.add(&pod)?;
            timed.pod.push(milliseconds(begun.elapsed()));
            scene.node.del(&pod)?;
        }
    }
    Ok(timed)
}

/// When a network's file was written, on the clock that `Instant` shows.
fn written(scene: &Scene, network: &NetworkRef) -> Result<Instant> {
    let path = scene.node.directory().network(network);
    wait::until(&format!("{network} is on the node"), || Ok(path.exists()))?;
    ensure!(RenderedNetwork::read(&scene.node.directory(), network)?.is_some(), "{network} has no file");
    let age = fs::metadata(&path)?.modified()?.elapsed().unwrap_or_default();
    Instant::now().checked_sub(age).context("a file from before this process")
}

/// Starts pods one after another, and waits until the API server says of each what it got.
fn start_pods(scene: &Scene) -> Result<()> {
    let api = scene.pods()?;
    for number in 0..STARTED {
        let name = format!("started-{number}");
        let made =
            scene.plane.block_on(api.create(&PostParams::default(), &api_pod(&name, "net-1, net-2")?))?;
        let mut pod = Pod::new(&name, "net-1, net-2")?;
        pod.uid = made.metadata.uid.context("a pod without uid")?;
        scene.node.add(&pod)?;
        wait::until(&format!("{name} has its status"), || {
            let now = scene.plane.block_on(api.get(&name))?;
            Ok(now.metadata.annotations.is_some_and(|all| all.contains_key(NETWORK_STATUS)))
        })?;
        scene.node.del(&pod)?;
    }
    // The last event may still be on its way.
    wait::until("every event is written", || Ok(requests_since(scene, 0)?[1] >= STARTED))
}

/// Writes to pods, events, and reads, of the role, since so many of its requests.
fn requests_since(scene: &Scene, before: usize) -> Result<[usize; 3]> {
    let mut counts = [0; 3];
    for request in scene.plane.requests_of(&scene.user)?.iter().skip(before) {
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

/// The figures for a person.
pub(super) fn table(figures: &Figures) -> String {
    let mut text = format!(
        "\nThe node role, with {} networks and {} pods\n  {:<58} {:>12}   compared with\n",
        figures.initial_networks, figures.initial_pods, "what", "is"
    );
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
