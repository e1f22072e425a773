//! Memory and processor time of other processes, from `/proc`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::memory::kib;

/// The kernel counts processor time in hundredths of a second, whatever its own clock does (`USER_HZ`).
const TICK: Duration = Duration::from_millis(10);

/// Processor time that a process has had.
pub(super) fn cpu(process: u32) -> Result<Duration> {
    let path = format!("/proc/{process}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    let ticks = Stat::parse(&stat).with_context(|| format!("{path} says {stat:?}"))?.ticks;
    Ok(TICK * ticks)
}

/// What is used of `/proc/<pid>/stat`.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    name: String,
    parent: u32,
    ticks: u32,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // A name may hold blanks and parentheses.
        let (head, rest) = text.rsplit_once(')')?;
        let (_, name) = head.split_once('(')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let ticks = |index: usize| fields.get(index)?.parse::<u32>().ok();
        Some(Self {
            name: name.to_owned(),
            parent: fields.get(1)?.parse().ok()?,
            ticks: ticks(11)? + ticks(12)?,
        })
    }
}

/// What processes need together, in KiB. Of memory that several share, each counts its part (`Pss`): a page of an
/// executable that a hundred run is there once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Together {
    pub(super) processes: usize,
    pub(super) kib: u64,
    /// How many there are with everything that they have started.
    pub(super) with_children: usize,
    /// The same memory with everything that they have started.
    pub(super) with_children_kib: u64,
}

impl Together {
    /// The children of this process that are called `name`, now.
    pub(super) fn look(name: &str) -> Self {
        let all = table();
        let family = Family::of(&all, std::process::id(), name);
        let sum = |processes: &BTreeSet<u32>| processes.iter().filter_map(|process| share(*process)).sum();
        let own: u64 = sum(&family.named);
        let processes = family.named.len();
        let with_children = processes + family.below.len();
        Self { processes, kib: own, with_children, with_children_kib: own + sum(&family.below) }
    }

    /// The greater of both in each respect.
    pub(super) fn max(self, other: Self) -> Self {
        Self {
            processes: self.processes.max(other.processes),
            kib: self.kib.max(other.kib),
            with_children: self.with_children.max(other.with_children),
            with_children_kib: self.with_children_kib.max(other.with_children_kib),
        }
    }
}

/// Children of a process, and what is below them.
#[derive(Debug, PartialEq, Eq)]
struct Family {
    named: BTreeSet<u32>,
    below: BTreeSet<u32>,
}

impl Family {
    /// A process that is about to run another program still has its parent's name and memory: it is not counted twice.
    fn of(all: &BTreeMap<u32, Stat>, parent: u32, name: &str) -> Self {
        let is_named = |stat: &Stat| stat.parent == parent && stat.name == name;
        let named: BTreeSet<u32> =
            all.iter().filter(|(_, stat)| is_named(stat)).map(|(process, _)| *process).collect();
        let mut below = BTreeSet::new();
        let is_below = |below: &BTreeSet<u32>, stat: &Stat| {
            stat.name != name && (named.contains(&stat.parent) || below.contains(&stat.parent))
        };
        while let Some((process, _)) =
            all.iter().find(|(process, stat)| !below.contains(*process) && is_below(&below, stat))
        {
            below.insert(*process);
        }
        Self { named, below }
    }
}

fn table() -> BTreeMap<u32, Stat> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let processes = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let stat = |process| Stat::parse(&fs::read_to_string(format!("/proc/{process}/stat")).ok()?);
    processes.filter_map(|process| Some((process, stat(process)?))).collect()
}

/// A process's share of memory; none of one that has ended meanwhile.
fn share(process: u32) -> Option<u64> {
    kib(&fs::read_to_string(format!("/proc/{process}/smaps_rollup")).ok()?, "Pss").ok()
}

/// Memory that programs can still have, in MiB.
pub(super) fn available_mib() -> Result<u64> {
    of_machine("MemAvailable")
}

/// The machine's memory, in MiB.
pub(super) fn total_mib() -> Result<u64> {
    of_machine("MemTotal")
}

fn of_machine(field: &str) -> Result<u64> {
    let path = "/proc/meminfo";
    let text = fs::read_to_string(path).with_context(|| format!("reading {path}"))?;
    Ok(kib(&text, field)? / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(name: &str, parent: u32) -> Stat {
        Stat { name: name.to_owned(), parent, ticks: 0 }
    }

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let text = "42 (a) b (c) S 7 42 42 0 -1 4194560 100 0 0 0 12 30 0 0 20 0 1 0 100 0 0\n";
        assert_eq!(Stat::parse(text), Some(Stat { name: "a) b (c".to_owned(), parent: 7, ticks: 42 }));
        assert_eq!(Stat::parse("42 (gone"), None);
    }

    #[test]
    fn what_our_children_started_is_below_them_and_what_others_run_is_not() {
        let all = BTreeMap::from([
            (10, stat("meta-cni", 1)),
            (11, stat("bridge", 10)),
            (12, stat("host-local", 11)),
            // About to become a delegate.
            (13, stat("meta-cni", 10)),
            (20, stat("meta-cni", 2)),
            (21, stat("bridge", 20)),
            (30, stat("etcd", 1)),
        ]);
        let expected = Family { named: BTreeSet::from([10]), below: BTreeSet::from([11, 12]) };
        assert_eq!(Family::of(&all, 1, "meta-cni"), expected);
    }

    #[test]
    fn a_child_of_ours_is_seen_with_its_memory() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let mut seen = Together::default();
        // Until it has become what it runs, it has our name.
        crate::wait::until("the child is seen", || {
            seen = Together::look("sleep");
            Ok(seen.processes == 1 && seen.kib > 0)
        })
        .unwrap();
        assert_eq!((seen.processes, seen.kib), (seen.with_children, seen.with_children_kib));
        let (peak, now) = crate::memory::resident(child.id()).unwrap();
        assert!(peak >= now && now > 0, "{peak} {now}");
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
