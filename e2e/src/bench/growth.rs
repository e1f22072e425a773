//! How latency, memory and the API server's load grow with networks, with pods of one node, and with nodes.
//!
//! | to | see |
//! |---|---|
//! | grow | [`networks`], [`pods`], [`nodes`] |
//! | have nodes | [`real`], [`simulated`] |
//! | time how a change reaches them | [`change`] |
//! | see what the API server does | [`api`] |
//! | draw | [`plot`] |

mod api;
mod change;
mod networks;
mod nodes;
mod plot;
mod pods;
mod real;
mod simulated;

use std::fmt::Write as _;

use anyhow::{Context, Result};
use serde::Serialize;

use super::sample::{mib, number};
use plot::{Line, Panel};

/// What was measured.
#[derive(Debug, Serialize)]
pub(super) struct Figures {
    networks: Vec<networks::Row>,
    pods: Vec<pods::Row>,
    nodes: Vec<nodes::Row>,
    /// Why fewer nodes are real than were asked for.
    fewer_real: Option<String>,
    /// What kept the number of nodes from growing further.
    stopped: Option<String>,
}

/// Measures all of it, with up to `real` real node roles; what is done is told meanwhile.
pub(super) fn measure(real: usize, say: &dyn Fn(&str) -> Result<()>) -> Result<Figures> {
    let networks = networks::measure(say).context("growing networks")?;
    let pods = pods::measure(say).context("growing pods")?;
    let nodes = nodes::measure(real, say).context("growing nodes")?;
    let nodes::Reached { rows: nodes, fewer_real, stopped } = nodes;
    Ok(Figures { networks, pods, nodes, fewer_real, stopped })
}

/// The figures for a person, as tables that documentation can have as they are.
pub(super) fn table(figures: &Figures) -> String {
    let mut text = String::from("\n### Networks\n\n");
    text.push_str(&markdown(&networks::HEAD, figures.networks.iter().map(networks::Row::cells)));
    text.push_str("\n### Pods of one node\n\n");
    text.push_str(&markdown(&pods::HEAD, figures.pods.iter().map(pods::Row::cells)));
    text.push_str("\n### Nodes\n\n");
    text.push_str(&markdown(&nodes::HEAD, figures.nodes.iter().map(nodes::Row::cells)));
    let stopped = figures.stopped.as_ref().map(|stopped| format!("it stopped {stopped}"));
    for line in figures.fewer_real.iter().chain(&stopped) {
        // Writing to a string does not fail.
        let _ = writeln!(text, "\n! {line}");
    }
    text.push('\n');
    text
}

fn markdown(head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut text = format!("| {} |\n|{}\n", head.join(" | "), "---|".repeat(head.len()));
    for row in rows {
        let _ = writeln!(text, "| {} |", row.join(" | "));
    }
    text
}

/// The figures as a picture.
pub(super) fn picture(figures: &Figures) -> String {
    plot::svg(&[
        panel(
            "Networks: time, ms",
            "networks",
            &figures.networks,
            |row| row.networks,
            &[
                ("start of the node role", |row| row.start_ms),
                ("a change to the node's file", |row| row.change_p50_ms),
                ("ADD, two networks", |row| row.add_p50_ms),
            ],
        ),
        panel(
            "Networks: memory, MiB",
            "networks",
            &figures.networks,
            |row| row.networks,
            &[
                ("node role, peak", |row| mib(row.role_peak_kib)),
                ("API server", |row| mib(row.api_server_kib)),
            ],
        ),
        panel(
            "Pods of one node: time, ms",
            "pods",
            &figures.pods,
            |row| row.pods,
            &[
                ("start of the node role", |row| row.start_ms),
                ("a change to the node's file", |row| row.change_p50_ms),
                ("ADD, two networks", |row| row.add_p50_ms),
                ("from ADD to network-status", |row| row.status_p50_ms),
            ],
        ),
        panel(
            "Pods of one node: memory, MiB",
            "pods",
            &figures.pods,
            |row| row.pods,
            &[("node role, peak", |row| mib(row.role_peak_kib))],
        ),
        panel(
            "Nodes: a change of a network, ms",
            "nodes",
            &figures.nodes,
            |row| row.nodes,
            &[
                ("half of the nodes have it", |row| row.change_p50_ms),
                ("all have it", |row| row.change_last_ms),
                ("API server's processor time", |row| row.api_cpu_ms_per_change),
            ],
        ),
        panel(
            "Nodes: memory, MiB",
            "nodes",
            &figures.nodes,
            |row| row.nodes,
            &[("API server", |row| mib(row.api_server_kib)), ("etcd", |row| mib(row.etcd_kib))],
        ),
    ])
}

/// Of a row, what one line shows.
type Shows<R> = fn(&R) -> f64;

fn panel<R>(
    title: &'static str,
    of: &'static str,
    rows: &[R],
    x: fn(&R) -> usize,
    lines: &[(&'static str, Shows<R>)],
) -> Panel {
    let line = |(name, y): &(&'static str, Shows<R>)| {
        let points = rows.iter().map(|row| (number(x(row)), y(row))).collect();
        Line { name, points }
    };
    Panel { title, of, lines: lines.iter().map(line).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_as_many_cells_in_each_row_as_in_its_head() {
        let text = markdown(&["a", "b"], [vec!["1".to_owned(), "2".to_owned()]].into_iter());
        assert_eq!(text, "| a | b |\n|---|---|\n| 1 | 2 |\n");
    }

    #[test]
    fn what_stopped_it_is_told() {
        let (networks, pods, nodes) = (Vec::new(), Vec::new(), Vec::new());
        let (fewer_real, stopped) = (Some("only 5 are real".to_owned()), Some("at 500 nodes: no".to_owned()));
        let figures = Figures { networks, pods, nodes, fewer_real, stopped };
        let text = table(&figures);
        let told: Vec<&str> = text.lines().filter(|line| line.starts_with('!')).collect();
        assert_eq!(told, ["! only 5 are real", "! it stopped at 500 nodes: no"]);
    }
}
