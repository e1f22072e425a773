//! ADD and DEL of one pod: the delegates one after another by hand, and the same through `meta-cni`, in turn.
//!
//! Both are run by the same code, and the time is that which a runtime waits: from starting a process to its end.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::Value;

use super::lists::{Lists, Sandbox};
use super::sample::{median, middle, milliseconds, rounded};
use super::stage::Stage;
use crate::netns::Namespace;

/// How many secondary networks pods have.
const SECONDARIES: [u8; 5] = [0, 1, 2, 4, 8];
/// Pairs that are not counted: they make the bridges and fill the page cache.
const WARM_UP: usize = 3;
/// Runs in which memory is measured, and time is not.
const MEMORY_RUNS: usize = 7;

/// What Braid may add to an ADD, in milliseconds: at n=0, more for each secondary network, and at most. The design
/// has no most, and 8 MiB below.
const BUDGET_MS: (f64, f64, f64) = (3.0, 1.0, 5.0);
/// What one `meta-cni` may need, in KiB.
const BUDGET_KIB: u32 = 4 * 1024;

/// The medians for one number of secondary networks.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    n: u8,
    raw_add_ms: f64,
    meta_add_ms: f64,
    /// The median of each pair's difference, not the difference of medians: what slows both cancels out.
    overhead_add_ms: f64,
    raw_del_ms: f64,
    meta_del_ms: f64,
    overhead_del_ms: f64,
    meta_peak_rss_kib: u32,
}

/// Measures so many pairs for each number of networks.
pub(super) fn measure(pairs: usize) -> Result<Vec<Row>> {
    SECONDARIES.iter().map(|n| row(*n, pairs).with_context(|| format!("{n} secondary networks"))).collect()
}

fn row(n: u8, pairs: usize) -> Result<Row> {
    let stage = Stage::new(usize::from(n))?;
    let by_hand = Lists::new(stage.lists().to_vec(), stage.plugin_path());
    let mut by_hand = Runtime::new(by_hand, stage.annotations())?;
    let braid = Lists::new(vec![stage.braid()?], stage.braid_path());
    let mut braid = Runtime::new(braid, stage.annotations())?;
    let (mut raw, mut meta) = (Vec::new(), Vec::new());
    for pair in 0..pairs + WARM_UP {
        // Each goes first half of the time: what a pod leaves the kernel to do slows the next one.
        let (one, other) = if pair % 2 == 0 {
            (by_hand.pod()?, braid.pod()?)
        } else {
            let other = braid.pod()?;
            (by_hand.pod()?, other)
        };
        if pair >= WARM_UP {
            raw.push(one);
            meta.push(other);
        }
    }
    braid.lists.path = stage.measuring_path();
    let peak = middle((0..MEMORY_RUNS).map(|_| peak(&mut braid, &stage)).collect::<Result<_>>()?);
    let add = |times: &[Times]| -> Vec<f64> { times.iter().map(|one| milliseconds(one.add)).collect() };
    let del = |times: &[Times]| -> Vec<f64> { times.iter().map(|one| milliseconds(one.del)).collect() };
    let over =
        |meta: Vec<f64>, raw: Vec<f64>| rounded(median(meta.iter().zip(raw).map(|(m, r)| m - r).collect()));
    Ok(Row {
        n,
        raw_add_ms: rounded(median(add(&raw))),
        meta_add_ms: rounded(median(add(&meta))),
        overhead_add_ms: over(add(&meta), add(&raw)),
        raw_del_ms: rounded(median(del(&raw))),
        meta_del_ms: rounded(median(del(&meta))),
        overhead_del_ms: over(del(&meta), del(&raw)),
        meta_peak_rss_kib: peak,
    })
}

/// The peak during an ADD; that of the DEL behind it overwrites the file later.
fn peak(braid: &mut Runtime, stage: &Stage) -> Result<u32> {
    let sandbox = braid.next()?;
    let results = braid.lists.add(&sandbox)?;
    let text = std::fs::read_to_string(stage.peak_file()).context("reading the peak of meta-cni")?;
    braid.lists.del(&sandbox, &results)?;
    text.parse().context("reading the peak of meta-cni")
}

struct Times {
    add: Duration,
    del: Duration,
}

/// A runtime that knows some lists, and a pod's namespace that it uses again and again.
struct Runtime {
    lists: Lists,
    annotations: Value,
    pod: Namespace,
    runs: usize,
}

impl Runtime {
    fn new(lists: Lists, annotations: Value) -> Result<Self> {
        Ok(Self { lists, annotations, pod: Namespace::new("pod")?, runs: 0 })
    }

    /// A pod comes and goes.
    fn pod(&mut self) -> Result<Times> {
        let sandbox = self.next()?;
        let begun = Instant::now();
        let results = self.lists.add(&sandbox)?;
        let add = begun.elapsed();
        let begun = Instant::now();
        self.lists.del(&sandbox, &results)?;
        Ok(Times { add, del: begun.elapsed() })
    }

    fn next(&mut self) -> Result<Sandbox> {
        self.runs += 1;
        let sandbox = Sandbox::new(self.runs, self.pod.path(), "bench", None)?;
        Ok(sandbox.with_annotations(self.annotations.clone()))
    }
}

/// The rows for a person.
pub(super) fn table(rows: &[Row]) -> String {
    let mut text = String::from(
        "\n                ADD, ms                          DEL, ms            peak of meta-cni, MiB\n  \
           n   by hand   Braid   adds  budget      by hand   Braid   adds      is   budget\n",
    );
    for row in rows {
        let mark = |over: bool| if over { "!" } else { " " };
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "  {:>2}  {:>7.2} {:>7.2} {:>6.2}{} {:>6.1}      {:>7.2} {:>7.2} {:>6.2}   {:>5.1}{} {:>6.1}",
            row.n,
            row.raw_add_ms,
            row.meta_add_ms,
            row.overhead_add_ms,
            mark(row.excess_ms().is_some()),
            row.budget_ms(),
            row.raw_del_ms,
            row.meta_del_ms,
            row.overhead_del_ms,
            mebibytes(row.meta_peak_rss_kib),
            mark(row.excess_kib().is_some()),
            mebibytes(BUDGET_KIB),
        );
    }
    text.push_str("n: secondary networks, each bridge + host-local. Medians; \"adds\" is the median of the pairs' differences.\n");
    text.extend(rows.iter().map(Row::excess));
    text.push('\n');
    text
}

fn mebibytes(kib: u32) -> f64 {
    f64::from(kib) / 1024.0
}

impl Row {
    fn budget_ms(&self) -> f64 {
        (BUDGET_MS.0 + BUDGET_MS.1 * f64::from(self.n)).min(BUDGET_MS.2)
    }

    /// By how much ADD is over its budget.
    fn excess_ms(&self) -> Option<f64> {
        Some(self.overhead_add_ms - self.budget_ms()).filter(|excess| *excess > 0.0)
    }

    fn excess_kib(&self) -> Option<u32> {
        self.meta_peak_rss_kib.checked_sub(BUDGET_KIB).filter(|excess| *excess > 0)
    }

    /// A line for each budget that was missed, with by how much.
    fn excess(&self) -> String {
        let mut text = String::new();
        if let Some(excess) = self.excess_ms() {
            let _ = writeln!(text, "! n={}: ADD is {excess:.2} ms over the budget", self.n);
        }
        if let Some(excess) = self.excess_kib() {
            let _ = writeln!(text, "! n={}: the peak is {excess} KiB over the budget", self.n);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_budget_is_told_with_its_excess_and_a_met_one_is_not() {
        let row = |n, overhead_add_ms, meta_peak_rss_kib| Row {
            n,
            raw_add_ms: 10.0,
            meta_add_ms: 10.0,
            overhead_add_ms,
            raw_del_ms: 10.0,
            meta_del_ms: 10.0,
            overhead_del_ms: 100.0,
            meta_peak_rss_kib,
        };
        let text = table(&[row(0, 3.0, 4096), row(2, 5.25, 4097), row(8, 5.0, 2600)]);
        let told: Vec<_> = text.lines().filter(|line| line.starts_with('!')).collect();
        assert_eq!(
            told,
            ["! n=2: ADD is 0.25 ms over the budget", "! n=2: the peak is 1 KiB over the budget"]
        );
    }
}
