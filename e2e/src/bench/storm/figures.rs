//! The figures of storms, and how people see them.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};

use super::super::process::Together;
use super::super::sample::{mebibytes, milliseconds, number, percentile, rounded};
use super::super::scene::ROLE_BUDGET_KIB;

/// What was measured.
#[derive(Debug, Serialize)]
pub(in super::super) struct Figures {
    pods: usize,
    networks: usize,
    rounds: usize,
    /// Settings of the node that were given; empty: its defaults.
    settings: Map<String, Value>,
    rows: Vec<Shown>,
    /// The peak of the node role, from its start to the end of all storms.
    role_peak_rss_kib: u64,
    budget_rss_kib: u64,
}

/// One way to start pods, over all rounds. Times in milliseconds.
#[derive(Debug, Default)]
pub(super) struct Side {
    pub(super) add: Vec<f64>,
    pub(super) del: Vec<f64>,
    /// Those that were attached.
    pub(super) pods: usize,
    /// From the first ADD's start to the last one's end, all rounds together.
    pub(super) took: Duration,
    pub(super) failures: Vec<String>,
}

/// Storms of pods with so many secondary networks.
#[derive(Debug)]
pub(super) struct Row {
    n: usize,
    pub(super) by_hand: Side,
    pub(super) braid: Side,
    /// The slowest round: from the first ADD's start, and from the last one's end.
    statuses: (Duration, Duration),
    memory: Together,
    /// What should have gone with the pods.
    pub(super) left_behind: Vec<String>,
}

impl Row {
    pub(super) fn new(n: usize) -> Self {
        let (statuses, memory) = ((Duration::ZERO, Duration::ZERO), Together::default());
        let (by_hand, braid) = (Side::default(), Side::default());
        Self { n, by_hand, braid, statuses, memory, left_behind: Vec::new() }
    }

    /// All statuses were right so long after a storm's begin, whose ADDs took so long.
    pub(super) fn take_statuses(&mut self, right: Duration, adds: Duration) {
        self.statuses.0 = self.statuses.0.max(right);
        self.statuses.1 = self.statuses.1.max(right.saturating_sub(adds));
    }

    pub(super) fn take_memory(&mut self, memory: Together) {
        self.memory = memory;
    }

    fn shown(self) -> Shown {
        Shown {
            n: self.n,
            by_hand: self.by_hand.shown(),
            braid: self.braid.shown(),
            statuses_right_ms: rounded(milliseconds(self.statuses.0)),
            statuses_right_after_last_add_ms: rounded(milliseconds(self.statuses.1)),
            meta_cni_at_once: self.memory.processes,
            meta_cni_together_peak_kib: self.memory.kib,
            with_delegates_peak_kib: self.memory.with_children_kib,
            left_behind: self.left_behind,
        }
    }
}

impl Side {
    fn shown(mut self) -> ShownSide {
        let seconds = self.took.as_secs_f64();
        ShownSide {
            pods_per_second: rounded(number(self.pods) / seconds),
            add_p50_ms: percentile(&self.add, 50),
            add_p99_ms: percentile(&self.add, 99),
            del_p50_ms: percentile(&self.del, 50),
            del_p99_ms: percentile(&self.del, 99),
            failures: self.failures.len(),
            failure: (!self.failures.is_empty()).then(|| self.failures.swap_remove(0)),
        }
    }
}

/// A row as it is written.
#[derive(Debug, Serialize)]
struct Shown {
    n: usize,
    by_hand: ShownSide,
    braid: ShownSide,
    statuses_right_ms: f64,
    statuses_right_after_last_add_ms: f64,
    meta_cni_at_once: usize,
    meta_cni_together_peak_kib: u64,
    with_delegates_peak_kib: u64,
    left_behind: Vec<String>,
}

#[derive(Debug, Serialize)]
struct ShownSide {
    pods_per_second: f64,
    add_p50_ms: f64,
    add_p99_ms: f64,
    del_p50_ms: f64,
    del_p99_ms: f64,
    failures: usize,
    /// The first one.
    failure: Option<String>,
}

impl Figures {
    pub(super) fn new(
        pods: usize,
        networks: usize,
        rounds: usize,
        settings: Map<String, Value>,
        rows: Vec<Row>,
        role_peak_rss_kib: u64,
    ) -> Self {
        let rows = rows.into_iter().map(Row::shown).collect();
        let budget_rss_kib = ROLE_BUDGET_KIB;
        Self { pods, networks, rounds, settings, rows, role_peak_rss_kib, budget_rss_kib }
    }

    /// What must not be: one line each.
    fn missed(&self) -> Vec<String> {
        let mut all = Vec::new();
        for row in &self.rows {
            for (who, side) in [("by hand", &row.by_hand), ("with Braid", &row.braid)] {
                let Some(failure) = &side.failure else { continue };
                all.push(format!("n={}: {} failed {who}; the first: {failure}", row.n, side.failures));
            }
            if !row.left_behind.is_empty() {
                let left = &row.left_behind;
                all.push(format!("n={}: {} things are left, such as {}", row.n, left.len(), left[0]));
            }
        }
        if let Some(excess) = self.role_peak_rss_kib.checked_sub(self.budget_rss_kib + 1) {
            all.push(format!("the node role's peak is {} KiB over the budget", excess + 1));
        }
        all
    }
}

/// The figures for a person.
pub(in super::super) fn table(figures: &Figures) -> String {
    let f = figures;
    let mut text = format!("\nStorm: {} pods of one node at once, {} networks", f.pods, f.networks);
    if !f.settings.is_empty() {
        // Writing to a string does not fail.
        let _ = write!(text, ", settings {}", Value::Object(f.settings.clone()));
    }
    text.push_str(
        "\n                         ADD, ms             DEL, ms\n   \
         n              pods/s       p50       p99       p50       p99   failures\n",
    );
    for row in &f.rows {
        for (who, side) in [("by hand", &row.by_hand), ("Braid", &row.braid)] {
            let _ = writeln!(
                text,
                "  {:>2}  {who:<8} {:>9.1} {:>9.0} {:>9.0} {:>9.0} {:>9.0}   {:>8}{}",
                row.n,
                side.pods_per_second,
                side.add_p50_ms,
                side.add_p99_ms,
                side.del_p50_ms,
                side.del_p99_ms,
                side.failures,
                if side.failures > 0 { "!" } else { "" },
            );
        }
    }
    for row in &f.rows {
        let _ = writeln!(
            text,
            "n={}: every network-status is right {:.0} ms after the storm's begin, {:.0} ms after the last ADD; \
             at most {} meta-cni at once, {} together, {} with their delegates",
            row.n,
            row.statuses_right_ms,
            row.statuses_right_after_last_add_ms,
            row.meta_cni_at_once,
            mebibytes(row.meta_cni_together_peak_kib),
            mebibytes(row.with_delegates_peak_kib),
        );
    }
    let (peak, budget) = (mebibytes(f.role_peak_rss_kib), mebibytes(f.budget_rss_kib));
    let mark = if f.role_peak_rss_kib > f.budget_rss_kib { "!" } else { "" };
    let _ = writeln!(text, "The node role's peak: {peak}{mark}; budget {budget}");
    text.extend(f.missed().iter().map(|line| format!("! {line}\n")));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(failures: &[&str], left: &[&str]) -> Row {
        let mut row = Row::new(2);
        let owned = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect();
        row.braid = Side {
            add: vec![10.0, 30.0],
            del: vec![5.0, 6.0],
            pods: 2,
            took: Duration::from_millis(40),
            failures: owned(failures),
        };
        row.left_behind = owned(left);
        row
    }

    fn marked(row: Row, peak: u64) -> Vec<String> {
        let figures = Figures::new(2, 1000, 1, Map::new(), vec![row], peak);
        table(&figures).lines().filter(|line| line.starts_with('!')).map(str::to_owned).collect()
    }

    #[test]
    fn failures_what_is_left_and_a_missed_budget_are_marked_and_nothing_else_is() {
        assert_eq!(marked(row(&[], &[]), ROLE_BUDGET_KIB), Vec::<String>::new());
        let all = marked(row(&["ADD of a: no"], &["address 10.0.0.2"]), ROLE_BUDGET_KIB + 2);
        assert_eq!(
            all,
            [
                "! n=2: 1 failed with Braid; the first: ADD of a: no",
                "! n=2: 1 things are left, such as address 10.0.0.2",
                "! the node role's peak is 2 KiB over the budget"
            ]
        );
    }

    #[test]
    fn the_slowest_round_tells_when_statuses_are_right() {
        let mut row = row(&[], &[]);
        let ms = Duration::from_millis;
        row.take_statuses(ms(500), ms(400));
        row.take_statuses(ms(450), ms(300));
        let shown = row.shown();
        assert!((shown.statuses_right_ms - 500.0).abs() < f64::EPSILON);
        assert!((shown.statuses_right_after_last_add_ms - 150.0).abs() < f64::EPSILON);
        assert!((shown.braid.pods_per_second - 50.0).abs() < f64::EPSILON);
    }
}
