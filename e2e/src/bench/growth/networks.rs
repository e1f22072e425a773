//! More and more networks: what they cost one node, and the API server.

use std::time::Instant;

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::{Map, json};

use super::super::lists::Sandbox;
use super::super::sample::{median, mib, milliseconds, percentile, rounded};
use super::super::scene::Scene;
use super::api::Load;
use super::change;
use crate::netns::Namespace;

const STEPS: [usize; 4] = [10, 100, 1000, 5000];
/// How often a network is changed and a pod attached at each step.
const TIMES: usize = 10;

/// What was measured with so many networks.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) networks: usize,
    /// From the role's start until it is ready.
    pub(super) start_ms: f64,
    start_api_cpu_ms: f64,
    pub(super) change_p50_ms: f64,
    change_max_ms: f64,
    /// ADD of a pod with two secondary networks.
    pub(super) add_p50_ms: f64,
    pub(super) role_peak_kib: u64,
    role_kib: u64,
    pub(super) api_server_kib: u64,
    etcd_kib: u64,
}

pub(super) const HEAD: [&str; 8] = [
    "networks",
    "start of the role, ms",
    "of it API server's processor time, ms",
    "a change to the node's file, p50 / max ms",
    "ADD with two networks, p50 ms",
    "node role, peak / then, MiB",
    "API server, MiB",
    "etcd, MiB",
];

impl Row {
    pub(super) fn cells(&self) -> Vec<String> {
        vec![
            self.networks.to_string(),
            format!("{:.0}", self.start_ms),
            format!("{:.0}", self.start_api_cpu_ms),
            format!("{:.0} / {:.0}", self.change_p50_ms, self.change_max_ms),
            format!("{:.1}", self.add_p50_ms),
            format!("{:.1} / {:.1}", mib(self.role_peak_kib), mib(self.role_kib)),
            format!("{:.1}", mib(self.api_server_kib)),
            format!("{:.1}", mib(self.etcd_kib)),
        ]
    }
}

/// The role starts anew at each step.
pub(super) fn measure(say: &dyn Fn(&str) -> Result<()>) -> Result<Vec<Row>> {
    let mut scene = Scene::new(&Map::new())?;
    let netns = Namespace::new("growth")?;
    let (mut there, mut number) = (0, 0);
    let mut rows = Vec::new();
    for networks in STEPS {
        scene.fill_networks(there..networks)?;
        there = networks;
        let row = step(&mut scene, networks, &netns, &mut number);
        rows.push(row.with_context(|| format!("{networks} networks"))?);
        say(&format!("  {networks} networks are measured\n"))?;
    }
    Ok(rows)
}

fn step(scene: &mut Scene, networks: usize, netns: &Namespace, number: &mut usize) -> Result<Row> {
    scene.role = None;
    let before = Load::look(&scene.plane)?;
    let begun = Instant::now();
    scene.start()?;
    let start = begun.elapsed();
    let started = Load::look(&scene.plane)?;
    let mut changes = Vec::new();
    for _ in 0..TIMES {
        *number += 1;
        changes.push(milliseconds(change::time(&scene.plane, &scene.node.directory(), *number)?));
    }
    let adds = adds(scene, netns, number)?;
    let (peak, now) = scene.memory()?;
    let load = Load::look(&scene.plane)?;
    Ok(Row {
        networks,
        start_ms: rounded(milliseconds(start)),
        start_api_cpu_ms: rounded(milliseconds(started.api_cpu.saturating_sub(before.api_cpu))),
        change_p50_ms: percentile(&changes, 50),
        change_max_ms: percentile(&changes, 100),
        add_p50_ms: rounded(median(adds)),
        role_peak_kib: peak,
        role_kib: now,
        api_server_kib: load.api_kib,
        etcd_kib: load.etcd_kib,
    })
}

/// Pods that no API server knows come and go, one after another.
fn adds(scene: &Scene, netns: &Namespace, number: &mut usize) -> Result<Vec<f64>> {
    let lists = scene.braid()?;
    let mut times = Vec::new();
    for _ in 0..TIMES {
        *number += 1;
        let sandbox = Sandbox::new(*number, netns.path(), "growth", None)?;
        let sandbox = sandbox.with_annotations(json!({ "k8s.v1.cni.cncf.io/networks": "net-1, net-2" }));
        times.push(scene.node.host.netns.within(|| {
            let begun = Instant::now();
            let results = lists.add(&sandbox)?;
            let took = begun.elapsed();
            lists.del(&sandbox, &results)?;
            anyhow::Ok(milliseconds(took))
        })??);
    }
    Ok(times)
}
