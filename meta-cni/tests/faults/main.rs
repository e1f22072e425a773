//! Faults of every kind at the built `meta-cni` and its plugins: after each, what runtimes usually do leads to a pod
//! with exactly the interfaces that it asked for, or to none, and nothing is left.
//!
//! [`places`] says where faults may happen, [`fault`] and [`damage`] what they are, [`story`] what the runtime does,
//! [`stage`] what has to hold. Plugins leave files in place of interfaces, addresses and rules, so that no test
//! needs privileges; e2e/tests/real_plugins has faults with real ones.
//!
//! | variable | effect |
//! |---|---|
//! | `BRAID_FAULTS` | at least so many faults, in place of 2,000 |
//! | `BRAID_FAULTS_SEED` | the story of this seed alone |

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test may fail loudly.

mod damage;
mod fault;
#[path = "../process/harness.rs"]
#[allow(dead_code)] // Tests of single calls need more of it.
mod harness;
mod places;
mod random;
mod stage;
mod story;

use std::any::Any;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use fault::Fault;
use places::{SITUATIONS, Situation};
use stage::{History, Outcome, Stage};
use story::Tally;

/// How many faults there are without being asked for more.
const FAULTS: u32 = 2000;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is no number")))
}

/// Does something for each number from 0 on, on all processors, until it says that it was enough.
fn side_by_side(work: impl Fn(u64) -> bool + Sync) {
    let next = AtomicU64::new(0);
    let workers = std::thread::available_parallelism().map_or(2, usize::from) * 2;
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| while work(next.fetch_add(1, Ordering::SeqCst)) {});
        }
    });
}

/// Runs something; how it failed, with everything that happened until then.
fn tried(work: impl FnOnce(History)) -> Result<(), String> {
    let history = History::default();
    let seen = history.clone();
    catch_unwind(AssertUnwindSafe(|| work(history))).map_err(|panic| {
        let said = said(panic.as_ref());
        format!("{said}\nWhat happened:\n  {}", seen.borrow().join("\n  "))
    })
}

fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

fn report(failures: Mutex<Vec<String>>) {
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{} failed:\n\n{}", failures.len(), failures.join("\n\n"));
}

/// `meta-cni` is killed at a point in a situation, and the runtime goes on as usual.
fn killed_at(situation: &Situation, point: &str, history: History) {
    let stage = Stage::new(history);
    let sandboxes = (situation.prepare)(&stage);
    let call = (situation.call)(&stage, &sandboxes[0]);
    // The call, or the process that it has started for unfinished work.
    let (outcome, killed) = stage.run(situation.name, call, &Fault::Point(point.to_owned()));
    assert!(killed, "{outcome:?}");
    stage.calm();
    for sandbox in &sandboxes {
        stage.done("DEL", stage.del(sandbox));
        stage.is_undone(sandbox);
        stage.remove_netns(sandbox);
    }
    stage.settle();
    let next = stage.sandbox("next", &["a", "b"]);
    stage.done("ADD next", stage.add(&next));
    stage.is_attached(&next);
    stage.done("DEL next", stage.del(&next));
    stage.is_empty(false);
}

#[test]
fn killed_at_any_point_of_any_verb_meta_cni_leaves_nothing() {
    let all: Vec<(&Situation, String)> = SITUATIONS
        .iter()
        .flat_map(|situation| situation.points().into_iter().map(move |point| (situation, point)))
        .collect();
    let of_sources = places::of_sources();
    let reached = places::names(all.iter().map(|(_, point)| point));
    let missed: Vec<_> = of_sources.keys().filter(|name| !reached.contains(*name)).collect();
    assert!(missed.is_empty(), "no situation comes to these points: {missed:?}");
    let failures = Mutex::new(Vec::new());
    side_by_side(|index| {
        let Some((situation, point)) = all.get(usize::try_from(index).unwrap()) else { return false };
        if let Err(failure) = tried(|history| killed_at(situation, point, history)) {
            failures.lock().unwrap().push(format!("{}, killed at {point}: {failure}", situation.name));
        }
        true
    });
    tell(&format!("{} kills, at every point of {} situations", all.len(), SITUATIONS.len()));
    report(failures);
}

#[test]
fn no_fault_leaves_anything_or_blocks_what_comes_next() {
    if !has_strace() {
        return;
    }
    let places = places::by_verb();
    let one = number("BRAID_FAULTS_SEED");
    let wanted = number("BRAID_FAULTS").map_or(FAULTS, |number| u32::try_from(number).unwrap());
    let first = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() * 1_000_000;
    let (tallies, failures, begun) = (Mutex::new(Tally::new()), Mutex::new(Vec::new()), Instant::now());
    let stories = AtomicU64::new(0);
    side_by_side(|index| {
        let is_over = match one {
            Some(_) => index > 0,
            None => tallies.lock().unwrap().values().sum::<u32>() >= wanted,
        };
        if is_over || failures.lock().unwrap().len() >= 5 {
            return false;
        }
        let seed = one.unwrap_or(first + index);
        let mut tally = Tally::new();
        let told = tried(|history| story::tell_story(seed, Stage::new(history), &places, &mut tally));
        if let Err(failure) = told {
            let again = format!("BRAID_FAULTS_SEED={seed} cargo test -p meta-cni --test faults no_fault");
            failures.lock().unwrap().push(format!("seed {seed}: {failure}\nTo see it again: {again}"));
        }
        stories.fetch_add(1, Ordering::SeqCst);
        let mut all = tallies.lock().unwrap();
        for (kind, count) in tally {
            *all.entry(kind).or_default() += count;
        }
        true
    });
    let (tally, stories) = (tallies.into_inner().unwrap(), stories.into_inner());
    let all: u32 = tally.values().sum();
    let seconds = begun.elapsed().as_secs();
    tell(&format!("{all} faults in {stories} stories from seed {first}, {seconds} s: {}", kinds(&tally)));
    report(failures);
}

#[test]
fn a_fault_counts_only_if_it_has_happened() {
    if !has_strace() {
        return;
    }
    let plugin = |plugin, what: &str| Fault::Plugin(plugin, "ADD", what.to_owned());
    let call = |number| Fault::Call("rename".to_owned(), number, "error=EIO");
    for (fault, happens) in [
        (Fault::None, false),
        (Fault::Point("add: intended#1".to_owned()), true),
        (Fault::Point("add: intended#2".to_owned()), false),
        (call(1), true),
        (call(99), false),
        (Fault::Files(4), true),
        (Fault::Files(100), false),
        (plugin("a", "error 1"), true),
        (plugin("a", "error 3"), false),
        (plugin("c", "error 1"), false),
        (plugin("rules", "kill 1"), true),
        (plugin("rules", "kill 2"), false),
        (plugin("a", "netns 1"), true),
        (Fault::LeftRunning("a", "ADD", 2), true),
        (Fault::LeftRunning("a", "ADD", 9), false),
    ] {
        let stage = Stage::new(History::default());
        let sandbox = stage.sandbox("s1", &["a", "b"]);
        let (outcome, happened) = stage.run("ADD", stage.add(&sandbox), &fault);
        assert_eq!(happened, happens, "{fault:?}: {outcome:?}");
        assert!(happened || matches!(outcome, Outcome::Done(_)), "{fault:?}: {outcome:?}");
        assert!(fs::read_dir(stage.node.path("world/faults")).unwrap().next().is_none(), "{fault:?}");
    }
}

#[test]
fn while_the_boot_is_not_known_nothing_is_taken_for_one_of_an_earlier_boot() {
    if !has_strace() {
        return;
    }
    let stage = Stage::new(History::default());
    let sandbox = stage.sandbox("s1", &["a", "b"]);
    stage.done("ADD", stage.add(&sandbox));
    let file = "/proc/sys/kernel/random/boot_id";
    let inject = "inject=openat:error=EMFILE";
    let through = [fault::strace().unwrap(), "-o", "/dev/null", "-P", file, "-e", inject];
    let error = stage.del(&sandbox).through(&through).error();
    assert_eq!(error.code.0, 5);
    assert!(error.msg.contains(file), "{error}");
    stage.is_attached(&sandbox);
    stage.done("DEL", stage.del(&sandbox));
    stage.is_undone(&sandbox);
}

fn kinds(tally: &BTreeMap<&'static str, u32>) -> String {
    let kinds: Vec<_> = tally.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    kinds.join(", ")
}

/// A line for people, also when the test succeeds.
fn tell(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Without strace no system call can be made to fail. As in e2e/src/requirement.rs this is told, and an error in CI.
fn has_strace() -> bool {
    if fault::strace().is_some() {
        return true;
    }
    let reason = "Debian's package strace is not installed";
    let is_asked_for = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    assert!(!is_asked_for("BRAID_ALL_TESTS") && !is_asked_for("CI"), "{reason}");
    if let Some(file) = std::env::var_os("BRAID_SKIPPED") {
        let mut file = fs::File::options().append(true).create(true).open(file).unwrap();
        writeln!(file, "meta-cni faults: {reason}").unwrap();
    }
    tell(&format!("skipped: {reason}"));
    false
}
