//! What is made from something else is up to date: copies inside the chart (which may not read outside its directory),
//! the table of values, and the plain manifests. `BRAID_WRITE_YAML=1 cargo test -p e2e --test chart` makes all of it.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;

use e2e::source;
use serde_json::Value;

use crate::helm::{NAMESPACE, parsed, possible, rendered};
use crate::objects::problems;
use crate::values::table;

fn read(path: &str) -> String {
    fs::read_to_string(source(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Compares a file with what it should be, or makes it so.
fn assert_up_to_date(path: &str, expected: &str) {
    if std::env::var_os("BRAID_WRITE_YAML").is_some() {
        fs::write(source(path), expected).unwrap();
    }
    let present = fs::read_to_string(source(path)).unwrap_or_default();
    assert!(present == expected, "{path} is old: run `BRAID_WRITE_YAML=1 cargo test -p e2e --test chart`");
}

/// The YAML files of a directory of the sources, by name.
fn yaml_files(dir: &str) -> BTreeSet<String> {
    let paths = fs::read_dir(source(dir)).unwrap().map(|entry| entry.unwrap().path());
    let yaml = paths.filter(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    yaml.map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect()
}

#[test]
fn the_charts_definitions_are_those_of_the_types() {
    let names = yaml_files("crds");
    assert_eq!(names.len(), 2);
    for name in &names {
        assert_up_to_date(&format!("charts/braid/files/crds/{name}"), &read(&format!("crds/{name}")));
    }
    assert_eq!(yaml_files("charts/braid/files/crds"), names);
}

/// The YAML block of the chapter on alerts.
fn alerts() -> String {
    let page = read("docs/observability.md");
    let (_, chapter) = page.split_once("\n## Alerts\n").unwrap();
    let (_, block) = chapter.split_once("```yaml\n").unwrap();
    block.split_once("```").unwrap().0.to_owned()
}

#[test]
fn the_charts_alerts_are_those_of_the_documentation() {
    assert_up_to_date("charts/braid/files/alerts.yaml", &alerts());
}

/// The metrics of the tables of the documentation.
fn documented() -> BTreeSet<String> {
    let page = read("docs/observability.md");
    let cells = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let names = cells.map(|(name, _)| name.to_owned());
    names.filter(|name| is_metric(name)).collect()
}

fn is_metric(name: &str) -> bool {
    name.starts_with("braid_") || name.starts_with("process_")
}

/// The metrics that a text speaks of, without what histograms add to their names.
fn spoken_of(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| is_metric(word));
    let plain = words.map(|word| {
        let suffixes = ["_bucket", "_count", "_sum"];
        suffixes.iter().find_map(|suffix| word.strip_suffix(suffix)).unwrap_or(word).to_owned()
    });
    plain.collect()
}

#[test]
fn dashboard_and_alerts_ask_for_metrics_that_there_are() {
    let documented = documented();
    assert!(documented.len() > 30, "{documented:?}");
    let dashboard = read("charts/braid/files/dashboard.json");
    let dashboard: Value = serde_json::from_str(&dashboard).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let questions: Vec<_> = targets.map(|target| target["expr"].as_str().unwrap()).collect();
    assert!(questions.len() > 15);
    for text in questions.into_iter().chain([alerts().as_str()]) {
        let asked = spoken_of(text);
        assert!(!asked.is_empty() && asked.is_subset(&documented), "{text}: {asked:?}");
    }
    let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len(), "each panel has an id of its own");
}

#[test]
fn the_table_of_values_is_that_of_the_values_file() {
    const BEGIN: &str =
        "<!-- values: made from values.yaml by `BRAID_WRITE_YAML=1 cargo test -p e2e --test chart` -->\n";
    const END: &str = "<!-- end of values -->\n";
    let page = read("charts/braid/README.md");
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let table = table(&read("charts/braid/values.yaml"));
    assert_up_to_date("charts/braid/README.md", &format!("{before}{BEGIN}{table}{END}{after}"));
}

/// A rendered template as somebody would write it who has no Helm: without what only Helm looks at.
fn plain(template: &str, further: &[&str]) -> String {
    let file = format!("{template}.yaml");
    // Helm renders for its own version of Kubernetes; the manifests are for every one from 1.20 on.
    let for_all = ["--no-hooks", "--show-only", &file, "--set", "webhook.matchConditions=false"];
    let text = rendered(&[&for_all[..], further].concat()).unwrap();
    let of_helm =
        ["# Source:", "helm.sh/chart:", "app.kubernetes.io/managed-by:", "app.kubernetes.io/instance: "];
    let lines = text.lines().filter(|line| !of_helm.iter().any(|start| line.trim_start().starts_with(start)));
    lines.fold(String::new(), |text, line| text + line + "\n")
}

/// A file of plain manifests: what it is, the namespace, and the rest.
fn manifests(about: &str, rest: &str) -> String {
    let mut text = String::new();
    for line in about.lines() {
        writeln!(text, "# {line}").unwrap();
    }
    text += "# Made from charts/braid by `BRAID_WRITE_YAML=1 cargo test -p e2e --test chart`; do not edit.\n";
    text += "# The node role needs the host's network, paths and a port of the host: Pod Security calls that privileged.\n";
    write!(
        text,
        "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {NAMESPACE}\n  labels:\n    \
         app.kubernetes.io/name: braid\n"
    )
    .unwrap();
    // What is enforced, and else recorded and warned of at each pod.
    for mode in ["enforce", "audit", "warn"] {
        writeln!(text, "    pod-security.kubernetes.io/{mode}: privileged").unwrap();
    }
    text += rest;
    let objects = parsed(&text).unwrap();
    let wrong: Vec<_> = objects.iter().flat_map(problems).collect();
    assert_eq!(wrong, [""; 0], "{about}");
    let names: BTreeSet<_> =
        objects.iter().map(|object| format!("{} {}", object["kind"], object["metadata"]["name"])).collect();
    assert_eq!(names.len(), objects.len(), "{about}: something is there twice");
    text
}

#[test]
fn the_plain_manifests_are_the_chart_with_its_defaults() {
    if !possible() {
        return;
    }
    let mut everything = String::new();
    for name in yaml_files("crds") {
        write!(everything, "---\n{}", read(&format!("crds/{name}"))).unwrap();
    }
    for template in ["settings", "rbac-node", "rbac-controller", "node", "controller", "webhook"] {
        everything += &plain(template, &[]);
    }
    let about = format!(
        "Braid without Helm: the chart with its defaults but webhook.matchConditions, in namespace {NAMESPACE}.\n\
         On Kubernetes 1.20, which has no policy/v1, kubectl refuses the PodDisruptionBudget and applies all the rest.\n\
         To take it away: kubectl -n {NAMESPACE} delete daemonset braid-node --cascade=foreground, and only then the rest.\n\
         Not with kubectl delete -f: that deletes the definition of networks, and with it every network."
    );
    assert_up_to_date("deploy/manifests/braid.yaml", &manifests(&about, &everything));
}

#[test]
fn the_parts_of_the_plain_manifests_are_those_of_the_chart() {
    if !possible() {
        return;
    }
    for (template, about, values) in [
        ("rbac-node", "A part of braid.yaml: the rights of the node role.", &[][..]),
        ("rbac-controller", "A part of braid.yaml: the rights of the controller.", &[]),
        ("webhook", "A part of braid.yaml: the webhook and its Service.", &[]),
        (
            "rbac-startup-taint",
            "Not in braid.yaml: the right that the controller's --startup-taint needs besides.",
            &["--set", "startupTaint.enabled=true"],
        ),
    ] {
        let text = manifests(about, &plain(template, values));
        assert_up_to_date(&format!("deploy/manifests/parts/{template}.yaml"), &text);
    }
    assert_eq!(yaml_files("deploy/manifests/parts").len(), 4);
}
