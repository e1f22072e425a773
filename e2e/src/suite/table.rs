//! What a suite prints.

use std::time::Duration;

use super::{Line, Outcome};
use crate::cluster::Cluster;
use crate::parts;

/// Prints a line for whoever runs the suite.
#[expect(clippy::print_stdout)]
pub(super) fn say(line: &str) {
    println!("{line}");
}

/// How one scenario ended.
pub(super) fn line(line: &Line) -> String {
    let word = word(&line.outcome);
    let more = match &line.outcome {
        Outcome::Passed => String::new(),
        Outcome::Failed(why) | Outcome::Skipped(why) => format!("\n      {why}"),
    };
    format!("  {word:<7} {:>6.1} s  {}{more}", line.took.as_secs_f64(), line.name)
}

/// The whole table, and the closing line.
pub(super) fn print(cluster: &Cluster, ready: Duration, all: Duration, lines: &[Line]) {
    let count = |outcome: &str| lines.iter().filter(|line| word(&line.outcome) == outcome).count();
    say("");
    say(&format!("a cluster of provider {}, nodes {}, on", cluster.provider(), cluster.nodes().join(", ")));
    match cluster.parts() {
        Ok(parts) => parts::lines(&parts).iter().for_each(|line| say(line)),
        Err(error) => say(&format!("  unknown versions: {error:#}")),
    }
    say(&format!("  {:<7} {:>6.1} s  {}", "", ready.as_secs_f64(), "(starting the cluster)"));
    for one in lines {
        say(&line(one));
    }
    say(&format!("  {:<7} {:>6.1} s  {}", "", all.as_secs_f64(), "(all)"));
    say("");
    say(&format!("{} passed, {} failed, {} skipped", count("passed"), count("failed"), count("skipped")));
}

fn word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Passed => "passed",
        Outcome::Failed(_) => "failed",
        Outcome::Skipped(_) => "skipped",
    }
}
