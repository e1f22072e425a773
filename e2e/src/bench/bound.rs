//! The bound on how much a node does at once (`podsAtOnce`): storms of pods on one node with different bounds, without
//! one, and by hand, in turn.

use std::fmt;
use std::fmt::Write as _;

use anyhow::Result;
use cni::AddResult;
use serde::Serialize;

use super::at_once::{Landed, Storm, at_once, together};
use super::lists::{Lists, Sandbox};
use super::process::Together;
use super::sample::{mebibytes, median, milliseconds, percentile, rounded};
use super::stage::Stage;
use crate::netns::Namespace;

/// Pods that start at once: the kubelet's limit for a node.
const PODS: usize = 110;
/// How many secondary networks each has.
const SECONDARIES: usize = 2;
/// What is compared.
const WAYS: [Way; 7] =
    [Way::Bound(1), Way::Bound(2), Way::Bound(4), Way::Bound(8), Way::Bound(16), Way::Bound(0), Way::ByHand];
/// Storms of each.
const ROUNDS: usize = 3;

/// How pods are attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// By Braid, with so many at once; 0 is no bound.
    Bound(u32),
    /// The same delegates without Braid, all pods at once.
    ByHand,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Bound(0) => f.write_str("no bound"),
            Self::Bound(bound) => write!(f, "{bound}"),
            Self::ByHand => f.write_str("by hand"),
        }
    }
}

/// What was measured in one way, over all rounds. Times in milliseconds.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    /// A number of pods at once, `no bound`, or `by hand`.
    way: String,
    /// Until all are attached or detached; medians of the rounds.
    attached_ms: f64,
    add_p50_ms: f64,
    add_p99_ms: f64,
    detached_ms: f64,
    del_p50_ms: f64,
    del_p99_ms: f64,
    /// Peaks of `meta-cni` and what they run, all together, in a storm of its own.
    processes: usize,
    memory_kib: u64,
    failures: usize,
    /// The first one.
    failure: Option<String>,
}

/// Measures storms with each bound.
pub(super) fn measure() -> Result<Vec<Row>> {
    let mut node = Node::new()?;
    // Bridges are there on a node that has had pods.
    node.storm(Way::ByHand, &mut Sample::default())?;
    let mut samples: Vec<_> = WAYS.iter().map(|_| Sample::default()).collect();
    for round in 0..ROUNDS {
        // What grows slower with time is not always the last one.
        let mut order: Vec<usize> = (0..WAYS.len()).collect();
        order.rotate_left(round * WAYS.len() / ROUNDS);
        for index in order {
            node.storm(WAYS[index], &mut samples[index])?;
        }
    }
    for (way, sample) in WAYS.iter().zip(&mut samples) {
        sample.memory = node.memory(*way, sample)?;
    }
    Ok(WAYS.iter().zip(samples).map(|(way, sample)| sample.row(*way)).collect())
}

/// A node, and a namespace for each pod.
struct Node {
    stage: Stage,
    netns: Vec<Namespace>,
    /// Pods that there have been.
    made: usize,
}

/// Times of storms, in milliseconds.
#[derive(Debug, Default)]
struct Sample {
    attached: Vec<f64>,
    detached: Vec<f64>,
    add: Vec<f64>,
    del: Vec<f64>,
    failures: Vec<String>,
    memory: Together,
}

impl Node {
    fn new() -> Result<Self> {
        let netns = (0..PODS).map(|_| Namespace::new("bound")).collect::<Result<_>>()?;
        Ok(Self { stage: Stage::new(SECONDARIES)?, netns, made: 0 })
    }

    /// What is run, and pods that no one has seen yet.
    fn prepare(&mut self, way: Way) -> Result<(Lists, Vec<Sandbox>)> {
        let mut lists = match way {
            Way::ByHand => Lists::new(self.stage.lists().to_vec(), self.stage.plugin_path()),
            Way::Bound(bound) => {
                let braid = self.stage.braid_with([("podsAtOnce", bound.into())])?;
                Lists::new(vec![braid], self.stage.braid_path())
            }
        };
        // Hundreds would talk at once; what failed is in the results.
        lists.exec.relay_stderr = false;
        let pods = self.netns.iter().map(|netns| {
            self.made += 1;
            let sandbox = Sandbox::new(self.made, netns.path(), "bound", None)?;
            Ok(sandbox.with_annotations(self.stage.annotations()))
        });
        let pods = pods.collect::<Result<_>>()?;
        Ok((lists, pods))
    }

    /// All pods start at once; when all have, all end at once.
    fn storm(&mut self, way: Way, sample: &mut Sample) -> Result<()> {
        let (lists, pods) = self.prepare(way)?;
        let added = at_once(&pods, |pod| lists.add(pod));
        let results = sample.take_add(added);
        let pods: Vec<_> = pods.iter().zip(results).collect();
        sample.take_del(at_once(&pods, |(pod, results)| lists.del(pod, results)));
        Ok(())
    }

    /// Its times are not counted: looking at memory costs some. Its failures are.
    fn memory(&mut self, way: Way, sample: &mut Sample) -> Result<Together> {
        let (lists, pods) = self.prepare(way)?;
        let mut uncounted = Sample::default();
        let name = if way == Way::ByHand { "bridge" } else { "meta-cni" };
        let (most, added) = together(name, || Ok(at_once(&pods, |pod| lists.add(pod))))?;
        let results = uncounted.take_add(added);
        let pods: Vec<_> = pods.iter().zip(results).collect();
        uncounted.take_del(at_once(&pods, |(pod, results)| lists.del(pod, results)));
        sample.failures.append(&mut uncounted.failures);
        Ok(most)
    }
}

impl Sample {
    /// What each pod got; nothing where it failed.
    fn take_add(&mut self, storm: Storm<Vec<AddResult>>) -> Vec<Vec<AddResult>> {
        self.attached.push(milliseconds(storm.took));
        let results = storm.all.into_iter().map(|Landed { took, done }| {
            self.add.push(milliseconds(took));
            done.unwrap_or_else(|error| {
                self.failures.push(format!("ADD: {error:#}"));
                Vec::new()
            })
        });
        results.collect()
    }

    fn take_del(&mut self, storm: Storm<()>) {
        self.detached.push(milliseconds(storm.took));
        for Landed { took, done } in storm.all {
            self.del.push(milliseconds(took));
            self.failures.extend(done.err().map(|error| format!("DEL: {error:#}")));
        }
    }

    fn row(mut self, way: Way) -> Row {
        Row {
            way: way.to_string(),
            attached_ms: rounded(median(self.attached)),
            add_p50_ms: percentile(&self.add, 50),
            add_p99_ms: percentile(&self.add, 99),
            detached_ms: rounded(median(self.detached)),
            del_p50_ms: percentile(&self.del, 50),
            del_p99_ms: percentile(&self.del, 99),
            processes: self.memory.with_children,
            memory_kib: self.memory.with_children_kib,
            failures: self.failures.len(),
            failure: (!self.failures.is_empty()).then(|| self.failures.swap_remove(0)),
        }
    }
}

/// The rows for a person.
pub(super) fn table(rows: &[Row]) -> String {
    let mut text = format!(
        "\nAt once: {PODS} pods with {SECONDARIES} secondary networks each start, and end, at the same moment\n\
         \x20                   ADD, ms                   DEL, ms\n\
         \x20 podsAtOnce      all     p50     p99       all     p50     p99   processes   memory, all   failures\n"
    );
    for row in rows {
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "  {:>10}  {:>7.0} {:>7.0} {:>7.0}   {:>7.0} {:>7.0} {:>7.0}   {:>9}   {:>11}   {:>8}{}",
            row.way,
            row.attached_ms,
            row.add_p50_ms,
            row.add_p99_ms,
            row.detached_ms,
            row.del_p50_ms,
            row.del_p99_ms,
            row.processes,
            mebibytes(row.memory_kib),
            row.failures,
            if row.failures > 0 { "!" } else { "" },
        );
    }
    let failed = rows.iter().filter_map(|row| Some((&row.way, row.failure.as_ref()?)));
    text.extend(failed.map(|(way, failure)| format!("! podsAtOnce {way}: the first failure: {failure}\n")));
    text
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use anyhow::anyhow;

    use super::*;

    #[test]
    fn a_failure_is_counted_and_marked_and_its_pod_has_no_result() {
        let landed = |done| Landed { took: Duration::from_millis(10), done };
        let mut sample = Sample::default();
        let all = vec![landed(Ok(vec![AddResult::default()])), landed(Err(anyhow!("no")))];
        let results = sample.take_add(Storm { begun: Instant::now(), took: Duration::from_millis(12), all });
        assert_eq!(results.iter().map(Vec::len).collect::<Vec<_>>(), [1, 0]);
        let rows = [sample.row(Way::Bound(8)), Sample::default().row(Way::ByHand)];
        assert_eq!((rows[0].failures, rows[1].failures), (1, 0));
        let text = table(&rows);
        let marked: Vec<_> = text.lines().filter(|line| line.contains('!')).collect();
        assert_eq!(marked.len(), 2, "{text}");
        assert_eq!(marked[1], "! podsAtOnce 8: the first failure: ADD: no");
    }
}
