//! More and more pods on one node, each attached for real to two of many networks.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cni::npwg::NETWORKS;
use serde::Serialize;
use serde_json::{Map, json};

use super::super::lists::{Lists, Sandbox};
use super::super::sample::{median, mib, milliseconds, percentile, ratio, rounded};
use super::super::scene::Scene;
use super::super::statuses::{self, Statuses};
use super::change;
use crate::netns::Namespace;
use crate::wait;

const STEPS: [usize; 5] = [1, 10, 50, 110, 250];
const NETWORKS_THERE: usize = 1000;
/// How often a network is changed at each step.
const CHANGES: usize = 10;
/// So many of a step's pods are timed, the last ones.
const TIMED: usize = 20;
/// Networks that pods are on, by turns: a network has addresses for 253 of them.
const USED: usize = 8;

/// What was measured with so many pods.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) pods: usize,
    pub(super) add_p50_ms: f64,
    /// From the end of ADD until the API server says what the pod got.
    pub(super) status_p50_ms: f64,
    status_max_ms: f64,
    requests_per_pod: f64,
    /// From the start of a role that finds all these pods until it is ready.
    pub(super) start_ms: f64,
    pub(super) change_p50_ms: f64,
    pub(super) role_peak_kib: u64,
    role_kib: u64,
}

pub(super) const HEAD: [&str; 7] = [
    "pods",
    "ADD with two networks, p50 ms",
    "from ADD to network-status, p50 / max ms",
    "requests of the role for a pod",
    "start of the role, ms",
    "a change to the node's file, p50 ms",
    "node role, peak / then, MiB",
];

impl Row {
    pub(super) fn cells(&self) -> Vec<String> {
        vec![
            self.pods.to_string(),
            format!("{:.1}", self.add_p50_ms),
            format!("{:.0} / {:.0}", self.status_p50_ms, self.status_max_ms),
            format!("{:.2}", self.requests_per_pod),
            format!("{:.0}", self.start_ms),
            format!("{:.0}", self.change_p50_ms),
            format!("{:.1} / {:.1}", mib(self.role_peak_kib), mib(self.role_kib)),
        ]
    }
}

/// Pods that run, each in a namespace of its own.
#[derive(Default)]
struct Running {
    all: Vec<Namespace>,
    changes: usize,
}

/// The role starts anew at each step, when its pods are there.
pub(super) fn measure(say: &dyn Fn(&str) -> Result<()>) -> Result<Vec<Row>> {
    let mut scene = Scene::new(&Map::new())?;
    scene.fill_networks(0..NETWORKS_THERE)?;
    scene.start()?;
    let mut running = Running::default();
    let mut rows = Vec::new();
    for pods in STEPS {
        let row = step(&mut scene, pods, &mut running).with_context(|| format!("{pods} pods"))?;
        rows.push(row);
        say(&format!("  {pods} pods are measured\n"))?;
    }
    Ok(rows)
}

fn step(scene: &mut Scene, pods: usize, running: &mut Running) -> Result<Row> {
    let before = scene.plane.requests_of(&scene.user)?.len();
    let (braid, first) = (scene.braid()?, running.all.len());
    let (mut adds, mut tells) = (Vec::new(), Vec::new());
    for number in first..pods {
        let (add, tell) = attach(scene, &braid, number, running)?;
        adds.push(milliseconds(add));
        tells.push(milliseconds(tell));
    }
    let last = |times: &[f64]| times[times.len().saturating_sub(TIMED)..].to_vec();
    let (adds, tells) = (last(&adds), last(&tells));
    let asked = scene.plane.requests_of(&scene.user)?.len() - before;
    scene.role = None;
    let begun = Instant::now();
    scene.start()?;
    let start = begun.elapsed();
    let mut changes = Vec::new();
    for _ in 0..CHANGES {
        running.changes += 1;
        let took = change::time(&scene.plane, &scene.node.directory(), running.changes)?;
        changes.push(milliseconds(took));
    }
    let (peak, now) = scene.memory()?;
    Ok(Row {
        pods,
        add_p50_ms: rounded(median(adds)),
        status_p50_ms: percentile(&tells, 50),
        status_max_ms: percentile(&tells, 100),
        requests_per_pod: rounded(ratio(asked, pods - first)),
        start_ms: rounded(milliseconds(start)),
        change_p50_ms: percentile(&changes, 50),
        role_peak_kib: peak,
        role_kib: now,
    })
}

/// How long ADD took, and from then on the status.
fn attach(
    scene: &Scene,
    braid: &Lists,
    number: usize,
    running: &mut Running,
) -> Result<(Duration, Duration)> {
    let name = format!("growth-{number}");
    let asked = format!("net-{}, net-{}", number % USED, (number + 1) % USED);
    let statuses = Statuses::follow(&scene.plane, scene.pods()?)?;
    let uid = scene.make_pods(std::slice::from_ref(&name), &asked)?.pop().unwrap_or_default();
    let netns = Namespace::new("growth")?;
    let sandbox = Sandbox::new(number, netns.path(), &name, Some(&uid))?;
    let sandbox = sandbox.with_annotations(json!({ NETWORKS: asked }));
    running.all.push(netns);
    let (added, end, result) = scene.node.host.netns.within(|| {
        let begun = Instant::now();
        let results = braid.add(&sandbox)?;
        anyhow::Ok((begun.elapsed(), Instant::now(), results.into_iter().next()))
    })??;
    let result = result.context("ADD without a result")?;
    let expected = [(name.as_str(), statuses::attached(&result))];
    let mut right = None;
    wait::until(&format!("{name} has its status"), || {
        statuses.ensure_following()?;
        right = statuses.right_since(&expected);
        Ok(right.is_some())
    })?;
    Ok((added, right.map_or(Duration::MAX, |right| right.saturating_duration_since(end))))
}
