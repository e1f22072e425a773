//! Scenarios: stories that happen on a whole cluster, told one after another or side by side, with a table at the end.
//!
//! | to | see |
//! |---|---|
//! | say what happens | [`Scenario`], [`stage`], [`pod`] |
//! | know what a failed one left | [`bundle`] |
//! | run them | [`run`] |

use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::cluster::{self, Cluster, Feature};
use crate::requirement;
use arguments::Arguments;
use stage::Stage;

mod arguments;
pub mod bundle;
pub mod node_change;
pub mod pod;
pub mod primary;
pub mod stage;
mod table;

/// How many scenarios run side by side.
const SIDE_BY_SIDE: usize = 4;

/// From so many scenarios on that run alone, another cluster is worth its start.
const WORTH_ANOTHER: usize = 8;

/// When a scenario runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum When {
    /// Before all others, alone, in the order of the list: Braid is not installed at first.
    First,
    /// Beside others: it touches nothing but its own namespace and its own networks.
    Together,
    /// Alone on its cluster, in any order: it disturbs a node, the control plane or Braid itself, and leaves all of them well.
    Alone,
    /// At the end, alone, in the order of the list.
    Last,
}

/// A story.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// A sentence in snake case.
    pub name: &'static str,
    /// When it runs.
    pub when: When,
    /// What the cluster has to let it do.
    pub needs: &'static [Feature],
    /// Kinds of links that the kernel of the nodes has to make; looked for on this machine.
    pub links: &'static [&'static str],
    /// What happens.
    pub story: fn(&Stage<'_>) -> Result<()>,
}

/// How a scenario ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Passed,
    Failed(String),
    Skipped(String),
}

/// One line of the table.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) outcome: Outcome,
    pub(crate) took: Duration,
}

/// Runs scenarios on the cluster that this machine can have, as the command line says. Exit code 0 if none failed.
pub fn run(scenarios: &[Scenario]) -> ExitCode {
    let arguments = Arguments::of_process();
    if arguments.list {
        for scenario in scenarios {
            table::say(&format!("{}: test", scenario.name));
        }
        return ExitCode::SUCCESS;
    }
    let wanted: Vec<Scenario> = scenarios.iter().filter(|one| arguments.wants(one.name)).copied().collect();
    if wanted.is_empty() {
        table::say("0 passed, 0 failed");
        return ExitCode::SUCCESS;
    }
    match on_a_cluster(&wanted, &arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            table::say(&format!("failed: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn on_a_cluster(wanted: &[Scenario], arguments: &Arguments) -> Result<bool> {
    let provider = match cluster::choose() {
        Ok(provider) => provider,
        Err(error) => {
            requirement::skip("the scenarios on a cluster", &format!("{error:#}"))?;
            table::say(&format!("0 passed, 0 failed, {} skipped", wanted.len()));
            return Ok(true);
        }
    };
    let queues = Queues::of(wanted);
    // Most of the time of those that run alone is waiting, which two clusters do at once. Kept is only one.
    let another = provider == "local" && !arguments.keep && queues.alone.len() >= WORTH_ANOTHER;
    let number = if another { "two clusters" } else { "a cluster" };
    table::say(&format!("==> starting {number} of provider {provider} for {} scenarios", wanted.len()));
    let started = Instant::now();
    let (cluster, ready, lines) = thread::scope(|scope| {
        let aside = another.then(|| scope.spawn(|| aside(provider, &queues)));
        let told = main_cluster(provider, &queues);
        let aside = aside.map(|aside| aside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        let (cluster, ready, mut lines) = told?;
        lines.extend(aside.transpose()?.into_iter().flatten());
        lines.extend(some(&cluster, &queues.last, 1));
        anyhow::Ok((cluster, ready, lines))
    })?;
    if arguments.keep {
        hold(&cluster);
    }
    table::print(&cluster, ready, started.elapsed(), &lines);
    Ok(lines.iter().all(|line| !matches!(line.outcome, Outcome::Failed(_))))
}

/// The scenarios that are still to be run, by when they run.
struct Queues<'a> {
    first: Queue<'a>,
    together: Queue<'a>,
    alone: Queue<'a>,
    last: Queue<'a>,
}

impl<'a> Queues<'a> {
    fn of(wanted: &'a [Scenario]) -> Self {
        let of = |when| Queue::of(wanted.iter().filter(|scenario| scenario.when == when));
        Self {
            first: of(When::First),
            together: of(When::Together),
            alone: of(When::Alone),
            last: of(When::Last),
        }
    }
}

/// Scenarios in their order, taken by whoever has a place for one.
struct Queue<'a> {
    scenarios: Vec<&'a Scenario>,
    next: AtomicUsize,
}

impl<'a> Queue<'a> {
    fn of(scenarios: impl Iterator<Item = &'a Scenario>) -> Self {
        Self { scenarios: scenarios.collect(), next: AtomicUsize::new(0) }
    }

    fn len(&self) -> usize {
        self.scenarios.len()
    }

    fn take(&self) -> Option<&'a Scenario> {
        self.scenarios.get(self.next.fetch_add(1, Ordering::Relaxed)).copied()
    }
}

/// The cluster to which Braid comes: all scenarios but the last ones, of those that run alone as many as it comes to.
fn main_cluster(provider: &str, queues: &Queues<'_>) -> Result<(Cluster, Duration, Vec<Line>)> {
    let (cluster, ready) = cluster(provider)?;
    if queues.first.len() == 0 {
        cluster.install_braid(&[])?;
    }
    let mut lines = some(&cluster, &queues.first, 1);
    lines.extend(some(&cluster, &queues.together, SIDE_BY_SIDE));
    lines.extend(some(&cluster, &queues.alone, 1));
    Ok((cluster, ready, lines))
}

/// Another cluster, on which Braid is from the beginning, for scenarios that run alone.
fn aside(provider: &str, queues: &Queues<'_>) -> Result<Vec<Line>> {
    let (cluster, _) = cluster(provider)?;
    cluster.install_braid(&[])?;
    Ok(some(&cluster, &queues.alone, 1))
}

/// A cluster with Braid's image, and how long it took.
fn cluster(provider: &str) -> Result<(Cluster, Duration)> {
    let started = Instant::now();
    let cluster = Cluster::start(provider).context("starting a cluster")?;
    cluster.load_braid()?;
    let took = started.elapsed();
    table::say(&format!("==> a cluster is ready after {:.0} s", took.as_secs_f64()));
    Ok((cluster, took))
}

fn some(cluster: &Cluster, queue: &Queue<'_>, at_once: usize) -> Vec<Line> {
    let lines = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..at_once.min(queue.len()) {
            scope.spawn(|| {
                while let Some(scenario) = queue.take() {
                    let line = one(cluster, scenario);
                    table::say(&table::line(&line));
                    lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
                }
            });
        }
    });
    lines.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn one(cluster: &Cluster, scenario: &Scenario) -> Line {
    let began = Instant::now();
    let outcome = outcome(cluster, scenario).unwrap_or_else(|error| Outcome::Failed(format!("{error:#}")));
    Line { name: scenario.name.to_owned(), outcome, took: began.elapsed() }
}

fn outcome(cluster: &Cluster, scenario: &Scenario) -> Result<Outcome> {
    for feature in scenario.needs {
        if let Some(why) = cluster.lacks(*feature)? {
            requirement::out_of_reach(scenario.name, &why);
            return Ok(Outcome::Skipped(why));
        }
    }
    for kind in scenario.links {
        if let Some(why) = requirement::Need::Link(kind).missing() {
            requirement::skip(scenario.name, &why)?;
            return Ok(Outcome::Skipped(why));
        }
    }
    let stage = Stage::new(cluster, scenario.name)?;
    // A panic of one story is not the end of the others.
    let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| (scenario.story)(&stage)));
    let told = told.unwrap_or_else(|_| Err(anyhow::anyhow!("it panicked; the message is above")));
    let Err(error) = told else {
        stage.clear();
        return Ok(Outcome::Passed);
    };
    let place = bundle::write(&stage, &error);
    stage.clear();
    Ok(Outcome::Failed(format!("{error:#}\n      what was there: {}", place.display())))
}

/// Lets people look at the cluster.
fn hold(cluster: &Cluster) {
    let command = cluster.command("kubectl").map(|command| format!("{command:?}")).unwrap_or_default();
    table::say(&format!("==> the cluster is kept; Ctrl-C ends it. kubectl there: {command}"));
    loop {
        thread::park();
    }
}
