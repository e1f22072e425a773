use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use prometheus_client::encoding::text::encode;

use super::*;

const DOCUMENTED: &str = include_str!("../../../docs/observability.md");

fn text_of(registry: &Registry) -> String {
    let mut text = String::new();
    encode(&mut text, registry).unwrap();
    text
}

/// A registry of both roles' metrics, with at least one value of each.
fn everything() -> Registry {
    let (metrics, mut registry) = Metrics::new();
    metrics.register_node(&mut registry, Arc::default());
    metrics.register_controller(&mut registry);
    let ended = ByOutcome { outcome: Outcome::ok };
    for family in [
        &metrics.events,
        &metrics.network_status_patches,
        &metrics.reports,
        &metrics.node_report_removals,
        &metrics.startup_taint_removals,
        &metrics.status_writes,
    ] {
        family.get_or_create(&ended).inc();
    }
    metrics.api_error(&kube::Error::TlsRequired);
    metrics.attachment_add("bridge", Duration::from_millis(3));
    metrics.webhook_request(RequestKind::pod, RequestVerdict::allowed, Duration::from_millis(1));
    registry
}

/// A metric as queries know it.
#[derive(Debug, Default)]
struct Shape {
    kind: String,
    unit: String,
    labels: BTreeSet<String>,
    help: String,
}

/// What a registry prints, as the rows of a table.
fn rows(text: &str) -> BTreeSet<String> {
    let mut shapes = BTreeMap::<&str, Shape>::new();
    for line in text.lines() {
        let words: Vec<_> = line.splitn(4, ' ').collect();
        match words[..] {
            ["#", "HELP", name, help] => help.clone_into(&mut shapes.entry(name).or_default().help),
            ["#", "TYPE", name, kind] => kind.clone_into(&mut shapes.entry(name).or_default().kind),
            ["#", "UNIT", name, unit] => unit.clone_into(&mut shapes.entry(name).or_default().unit),
            ["#", "EOF"] => {}
            _ => {
                let name = line.split(['{', ' ']).next().unwrap();
                // The longest name that this one begins with: its own, or that before _total, _bucket …
                let shape = shapes.iter_mut().rev().find(|(known, _)| name.starts_with(**known)).unwrap().1;
                shape.labels.extend(labels(line));
            }
        }
    }
    shapes.iter().map(|(name, shape)| row(name, shape)).collect()
}

fn labels(sample: &str) -> impl Iterator<Item = String> {
    let inner =
        sample.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map_or("", |(inner, _)| inner);
    let names = inner.split(',').filter_map(|pair| pair.split_once('=')).map(|(name, _)| name.to_owned());
    names.filter(|name| name != "le")
}

fn row(name: &str, shape: &Shape) -> String {
    let suffix = match shape.kind.as_str() {
        "counter" => "_total",
        "info" => "_info",
        _ => "",
    };
    let labels: Vec<_> = shape.labels.iter().map(|label| format!("`{label}`")).collect();
    let Shape { kind, unit, help, .. } = shape;
    let mut row = String::new();
    let help = help.trim_end_matches('.');
    for cell in [&format!("`{name}{suffix}`"), kind, unit, &labels.join(", "), help] {
        write!(row, "| {cell} ").unwrap();
    }
    row.push('|');
    row.replace("|  |", "| |").replace("|  |", "| |")
}

#[test]
fn the_table_of_metrics_is_that_of_the_registry() {
    let registered = rows(&text_of(&everything()));
    let documented: BTreeSet<_> = DOCUMENTED
        .lines()
        .filter(|line| line.starts_with("| `braid_") || line.starts_with("| `process_"))
        .map(str::to_owned)
        .collect();
    let missing: Vec<_> = registered.difference(&documented).cloned().collect();
    let surplus: Vec<_> = documented.difference(&registered).cloned().collect();
    assert!(
        missing.is_empty() && surplus.is_empty(),
        "docs/observability.md lacks\n{}\nand has what is not registered:\n{}",
        missing.join("\n"),
        surplus.join("\n")
    );
}

#[test]
fn every_metric_that_an_alert_uses_is_documented() {
    let alerts = DOCUMENTED.split_once("## Alerts").unwrap().1;
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let used: BTreeSet<_> = alerts
        .split(|c: char| !is_part(c))
        .filter(|word| word.starts_with("braid_") || word.starts_with("process_"))
        .collect();
    assert!(used.len() > 5, "{used:?}");
    for name in used {
        let base = name.trim_end_matches("_bucket").trim_end_matches("_count").trim_end_matches("_sum");
        assert!(DOCUMENTED.contains(&format!("| `{base}` |")), "{name}");
    }
}

#[test]
fn a_role_prints_nothing_of_the_other() {
    let (metrics, mut node) = Metrics::new();
    metrics.register_node(&mut node, Arc::default());
    let (metrics, mut controller) = Metrics::new();
    metrics.register_controller(&mut controller);
    let (node, controller) = (text_of(&node), text_of(&controller));
    assert!(node.contains("braid_primary_found 0\n") && !node.contains("braid_leader"), "{node}");
    assert!(controller.contains("braid_leader 0\n") && !controller.contains("braid_primary"), "{controller}");
}

#[test]
fn names_follow_openmetrics() {
    for row in rows(&text_of(&everything())) {
        let cells: Vec<_> = row.split(" | ").map(|cell| cell.trim_matches(['|', ' ', '`'])).collect();
        let name = cells[0].trim_end_matches("_total");
        for unit in ["seconds", "bytes"] {
            assert_eq!(name.ends_with(unit), row.contains(&format!("| {unit} |")), "{row}");
        }
        assert!(!row.contains("`namespace`") && !row.contains("`pod`"), "names of objects: {row}");
    }
}

#[test]
fn attachments_are_counted_by_their_end_and_timed_when_they_were_made() {
    let (metrics, mut registry) = Metrics::new();
    metrics.register_node(&mut registry, Arc::default());
    metrics.attachment_add("macvlan", Duration::from_millis(8));
    metrics.attachment_failed("macvlan");
    let text = text_of(&registry);
    for line in [
        "braid_attachments_total{delegate_type=\"macvlan\",outcome=\"ok\"} 1\n",
        "braid_attachments_total{delegate_type=\"macvlan\",outcome=\"failed\"} 1\n",
        "braid_attachment_add_duration_seconds_count{delegate_type=\"macvlan\"} 1\n",
        "braid_attachment_add_duration_seconds_bucket{le=\"0.01\",delegate_type=\"macvlan\"} 1\n",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
}
