//! More and more nodes on one API server: real node roles as far as asked, simulated ones beyond.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Serialize;
use serde_json::json;

use super::super::process;
use super::super::sample::{mib, milliseconds, number, percentile, rounded};
use super::super::scene;
use super::api::Load;
use super::change;
use super::real::Real;
use super::simulated::Simulated;
use crate::control_plane::{ControlPlane, User};
use crate::wait;

const STEPS: [usize; 9] = [1, 10, 50, 100, 200, 500, 1000, 2000, 5000];
const NETWORKS_THERE: usize = 100;
/// How often a network is changed at each step.
const CHANGES: usize = 5;
/// That of the chart.
const REPORT_INTERVAL: Duration = Duration::from_secs(30);
/// Of fewer reports the processor time says nothing.
const LEAST_REPORTS: u64 = 40;
/// The API server is left alone for so long: between two looks, and when it is measured at rest.
const REST: Duration = Duration::from_secs(5);
/// What a real role, or what any node needs on the side of the servers, with some reserve.
const ROLE_MIB: u64 = 24;
const NODE_MIB: u64 = 2;
/// It follows its records and the host's configurations.
const INOTIFY_OF_ROLE: usize = 2;
const RESERVE_MIB: u64 = 1024;

/// What was measured with so many nodes.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) nodes: usize,
    real: usize,
    simulated: usize,
    /// From the start of the further nodes until all are synced.
    start_s: f64,
    /// A change of a network, until half of all nodes have it, and the last one.
    pub(super) change_p50_ms: f64,
    pub(super) change_last_ms: f64,
    pub(super) api_cpu_ms_per_change: f64,
    /// How many reports the changes led to, and how long until they were written.
    reports: u64,
    reports_s: f64,
    pub(super) api_cpu_ms_per_report: Option<f64>,
    etcd_cpu_ms_per_report: Option<f64>,
    watches: u64,
    rest_requests_per_s: f64,
    rest_cpu_percent: f64,
    pub(super) api_server_kib: u64,
    pub(super) etcd_kib: u64,
    /// Of the real roles: the greatest peak, and the mean.
    role_peak_kib: u64,
    role_kib: u64,
}

pub(super) const HEAD: [&str; 10] = [
    "nodes (real + simulated)",
    "start of the further ones, s",
    "a change to half / all of the nodes, ms",
    "of it API server's processor time, ms",
    "reports of it, within s",
    "processor time for a report, API server / etcd, ms",
    "watches",
    "at rest, requests/s / % of a core",
    "API server / etcd, MiB",
    "real node role, peak / mean, MiB",
];

impl Row {
    pub(super) fn cells(&self) -> Vec<String> {
        vec![
            format!("{} ({} + {})", self.nodes, self.real, self.simulated),
            format!("{:.1}", self.start_s),
            format!("{:.0} / {:.0}", self.change_p50_ms, self.change_last_ms),
            format!("{:.0}", self.api_cpu_ms_per_change),
            format!("{} / {:.0}", self.reports, self.reports_s),
            match (self.api_cpu_ms_per_report, self.etcd_cpu_ms_per_report) {
                (Some(api), Some(etcd)) => format!("{api:.1} / {etcd:.1}"),
                _ => "-".to_owned(),
            },
            self.watches.to_string(),
            format!("{:.1} / {:.1}", self.rest_requests_per_s, self.rest_cpu_percent),
            format!("{:.1} / {:.1}", mib(self.api_server_kib), mib(self.etcd_kib)),
            format!("{:.1} / {:.1}", mib(self.role_peak_kib), mib(self.role_kib)),
        ]
    }
}

/// How far it went.
pub(super) struct Reached {
    pub(super) rows: Vec<Row>,
    /// Why fewer nodes are real than were asked for.
    pub(super) fewer_real: Option<String>,
    /// What kept it from going on.
    pub(super) stopped: Option<String>,
}

/// Dropped in the order of the fields: nodes end before what they talk to.
struct Cluster {
    real: Real,
    simulated: Simulated,
    plane: ControlPlane,
    user: User,
    changes: usize,
}

/// Adds nodes step by step, real ones up to `real`, until something stops it.
pub(super) fn measure(real: usize, say: &dyn Fn(&str) -> Result<()>) -> Result<Reached> {
    allow_connections().context("allowing as many open files as this process may have")?;
    let (plane, user) = scene::control_plane()?;
    fill(&plane)?;
    let asked = real;
    let instances = inotify_instances()?;
    let real = most_real(asked, instances);
    let fewer_real = (real < asked).then(|| {
        format!(
            "only {real} nodes are real: each role takes {INOTIFY_OF_ROLE} of the {instances} inotify instances that \
             a user may have (fs.inotify.max_user_instances)"
        )
    });
    let simulated = Simulated::new(NETWORKS_THERE, REPORT_INTERVAL);
    let mut cluster = Cluster { real: Real::default(), simulated, plane, user, changes: 0 };
    let (mut rows, mut stopped) = (Vec::new(), None);
    for nodes in STEPS {
        match cluster.step(nodes, real) {
            Ok(row) => rows.push(row),
            Err(error) => {
                stopped = Some(format!("at {nodes} nodes: {error:#}"));
                break;
            }
        }
        say(&format!("  {nodes} nodes are measured\n"))?;
    }
    Ok(Reached { rows, fewer_real, stopped })
}

/// A simulated node has three connections. Servers are started with the same limit.
fn allow_connections() -> rustix::io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
}

/// On a real cluster each role has a host of its own.
fn inotify_instances() -> Result<usize> {
    let path = "/proc/sys/fs/inotify/max_user_instances";
    let text = fs::read_to_string(path).with_context(|| format!("reading {path}"))?;
    text.trim().parse().with_context(|| format!("reading {path}, which says {text:?}"))
}

/// As many as are asked for, and as find inotify instances; an eighth of these is left to others.
fn most_real(asked: usize, instances: usize) -> usize {
    asked.min((instances - instances / 8) / INOTIFY_OF_ROLE)
}

/// Networks like those of the other scenes.
fn fill(plane: &ControlPlane) -> Result<()> {
    let ipam = |number| json!({"type": "host-local", "subnet": format!("10.9.{number}.0/24")});
    let objects = (0..NETWORKS_THERE).map(|number| scene::network(number, ipam(number)));
    scene::make_networks(plane, objects)?;
    change::make(plane, 0).map(drop)
}

impl Cluster {
    fn step(&mut self, nodes: usize, most_real: usize) -> Result<Row> {
        let (begun, first) = (Instant::now(), Load::look(&self.plane)?);
        let further = nodes - self.real.count() - self.simulated.count();
        self.grow(nodes, nodes.min(most_real))?;
        let start = begun.elapsed();
        // Of the first reports none is to be counted with those that a change leads to.
        let (before, _) = self.settle(first, further)?;
        let (mut times, mut last) = (Vec::new(), Vec::new());
        for _ in 0..CHANGES {
            let of_change = self.change()?;
            last.push(of_change.iter().copied().fold(0.0, f64::max));
            times.extend(of_change);
        }
        let (changed, settling) = (Load::look(&self.plane)?, Instant::now());
        let (told, told_at) = self.settle(before, nodes)?;
        let rest = self.rest()?;
        let (role_peak_kib, role_kib) = self.real.memory()?;
        let reporting = told_at.saturating_duration_since(settling);
        let per_report = PerReport::of(&changed, &told, reporting, &rest);
        Ok(Row {
            nodes,
            real: self.real.count(),
            simulated: self.simulated.count(),
            start_s: rounded(start.as_secs_f64()),
            change_p50_ms: percentile(&times, 50),
            change_last_ms: percentile(&last, 50),
            api_cpu_ms_per_change: rounded(
                milliseconds(changed.api_cpu.saturating_sub(before.api_cpu)) / number(CHANGES),
            ),
            reports: told.report_writes - before.report_writes,
            reports_s: rounded(reporting.as_secs_f64()),
            api_cpu_ms_per_report: per_report.as_ref().map(|cpu| cpu.api_ms),
            etcd_cpu_ms_per_report: per_report.as_ref().map(|cpu| cpu.etcd_ms),
            watches: told.watches,
            rest_requests_per_s: rest.requests,
            rest_cpu_percent: rest.api_percent,
            api_server_kib: told.api_kib,
            etcd_kib: told.etcd_kib,
            role_peak_kib,
            role_kib,
        })
    }

    fn grow(&mut self, nodes: usize, real: usize) -> Result<()> {
        let further = u64::try_from(nodes - self.real.count() - self.simulated.count())?;
        let roles = u64::try_from(real - self.real.count())?;
        let needed = roles * ROLE_MIB + further * NODE_MIB + RESERVE_MIB;
        let available = process::available_mib()?;
        ensure!(
            available >= needed,
            "{available} MiB of memory are available, and {further} more nodes need {needed} MiB with a reserve"
        );
        self.real.grow(&self.plane, &self.user, REPORT_INTERVAL, real)?;
        self.simulated.grow(&self.plane, &self.user, nodes - real)
    }

    /// How long one change took to each node, in milliseconds.
    fn change(&mut self) -> Result<Vec<f64>> {
        self.changes += 1;
        self.simulated.expect(self.changes);
        let begun = change::make(&self.plane, self.changes)?;
        let mut arrived = self.simulated.wait_for_arrivals()?;
        arrived.extend(self.real.wait_for_arrivals(self.changes)?);
        Ok(arrived.into_iter().map(|at| milliseconds(at.saturating_duration_since(begun))).collect())
    }

    /// Waits until so many reports have been written since `before`, and no more come; how it was then, and when.
    fn settle(&self, before: Load, expected: usize) -> Result<(Load, Instant)> {
        let expected = before.report_writes + u64::try_from(expected)?;
        let mut last = (Load::look(&self.plane)?, Instant::now());
        wait::at_times(REST, REPORT_INTERVAL * 6, "every node has reported", || {
            let now = Load::look(&self.plane)?;
            let quiet = now.report_writes == last.0.report_writes;
            if !quiet {
                last = (now, Instant::now());
            }
            Ok(quiet && now.report_writes >= expected)
        })?;
        Ok(last)
    }

    /// What is done where nobody wants anything.
    fn rest(&self) -> Result<Rest> {
        let before = Load::look(&self.plane)?;
        // A time to measure over, and nothing to wait for.
        thread::sleep(REST);
        let after = Load::look(&self.plane)?;
        // The second look is one of them.
        let requests = (after.requests - before.requests).saturating_sub(1);
        let percent = |cpu: Duration| rounded(cpu.as_secs_f64() / REST.as_secs_f64() * 100.0);
        Ok(Rest {
            requests: rounded(count(requests) / REST.as_secs_f64()),
            api_percent: percent(after.api_cpu.saturating_sub(before.api_cpu)),
            etcd_percent: percent(after.etcd_cpu.saturating_sub(before.etcd_cpu)),
        })
    }
}

/// Of servers at rest: requests per second, and processor time in percent of a core, with one look at them.
struct Rest {
    requests: f64,
    api_percent: f64,
    etcd_percent: f64,
}

/// Processor time for a report.
struct PerReport {
    api_ms: f64,
    etcd_ms: f64,
}

impl PerReport {
    /// What the servers do at rest is taken off; `None` of few reports, where that is nearly all.
    fn of(before: &Load, after: &Load, time: Duration, rest: &Rest) -> Option<Self> {
        let written = after.report_writes - before.report_writes;
        let each = |cpu: Duration, rest: f64| {
            rounded((milliseconds(cpu) - milliseconds(time) * rest / 100.0).max(0.0) / count(written))
        };
        (written >= LEAST_REPORTS).then(|| Self {
            api_ms: each(after.api_cpu.saturating_sub(before.api_cpu), rest.api_percent),
            etcd_ms: each(after.etcd_cpu.saturating_sub(before.etcd_cpu), rest.etcd_percent),
        })
    }
}

fn count(count: u64) -> f64 {
    number(usize::try_from(count).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn real_roles_are_as_many_as_find_inotify_instances() {
        for (asked, instances, expected) in [(200, 128, 56), (50, 128, 50), (1000, 8192, 1000), (1, 0, 0)] {
            assert_eq!(most_real(asked, instances), expected);
        }
    }

    #[test]
    fn what_servers_do_at_rest_is_no_work_for_reports() {
        let load = |report_writes, ms| Load {
            requests: 0,
            report_writes,
            watches: 0,
            api_cpu: Duration::from_millis(ms),
            etcd_cpu: Duration::ZERO,
            api_kib: 0,
            etcd_kib: 0,
        };
        let rest = Rest { requests: 0.0, api_percent: 10.0, etcd_percent: 0.0 };
        let time = Duration::from_secs(10);
        let each = PerReport::of(&load(0, 0), &load(100, 1500), time, &rest).unwrap();
        assert!((each.api_ms - 5.0).abs() < 1e-9, "{}", each.api_ms);
        assert!(PerReport::of(&load(0, 0), &load(LEAST_REPORTS - 1, 1500), time, &rest).is_none());
    }
}
