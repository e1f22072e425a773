//! The values: each is explained, is in the schema, and cannot be given something else.

use std::fmt::Write;
use std::fs;

use e2e::source;
use serde_json::Value;

use crate::helm::{possible, rendered};

/// One value of values.yaml.
struct Row {
    path: String,
    default: String,
    meaning: String,
}

/// The values of a values file, in its order: every line `key: value`, with the comment above it.
fn rows(text: &str) -> Vec<Row> {
    let (mut found, mut above, mut comment): (Vec<Row>, Vec<&str>, Vec<&str>) =
        (Vec::new(), Vec::new(), Vec::new());
    for line in text.lines() {
        let inner = line.trim_start();
        if let Some(words) = inner.strip_prefix('#') {
            comment.push(words.trim());
            continue;
        }
        if let Some((key, value)) = inner.split_once(':') {
            above.truncate((line.len() - inner.len()) / 2);
            above.push(key);
            if !value.is_empty() {
                let (default, meaning) = (value.trim().to_owned(), comment.join(" "));
                found.push(Row { path: above.join("."), default, meaning });
            }
        }
        comment.clear();
    }
    found
}

/// The values as a table of Markdown.
pub(crate) fn table(text: &str) -> String {
    let mut table = "| value | default | meaning |\n|---|---|---|\n".to_owned();
    for Row { path, default, meaning } in rows(text) {
        writeln!(table, "| `{path}` | `{default}` | {meaning} |").unwrap();
    }
    table
}

fn values_file() -> String {
    fs::read_to_string(source("charts/braid/values.yaml")).unwrap()
}

fn schema() -> Value {
    serde_json::from_str(&fs::read_to_string(source("charts/braid/values.schema.json")).unwrap()).unwrap()
}

#[test]
fn every_value_is_explained_and_is_read_as_yaml_reads_it() {
    let text = values_file();
    let all: Value = serde_saphyr::from_str(&text).unwrap();
    let rows = rows(&text);
    assert!(rows.len() > 50);
    for Row { path, default, meaning } in &rows {
        let there = path.split('.').fold(&all, |value, key| &value[key]);
        let read: Value = serde_saphyr::from_str(default).unwrap();
        assert_eq!(there, &read, "{path}");
        assert!(meaning.len() > 10 && !meaning.contains('|') && !meaning.ends_with('.'), "{path}: {meaning}");
    }
}

#[test]
fn values_and_schema_name_the_same_things() {
    let (text, schema) = (values_file(), schema());
    let rows = rows(&text);
    let in_schema =
        |path: &str| path.split('.').fold(&schema, |place, key| &place["properties"][key]).clone();
    for Row { path, .. } in &rows {
        assert!(in_schema(path).is_object(), "{path} is not in values.schema.json");
    }
    let is_section = |path: &str| rows.iter().any(|row| row.path.starts_with(&format!("{path}.")));
    let mut places = vec![String::new()];
    while let Some(place) = places.pop() {
        let at = if place.is_empty() { schema.clone() } else { in_schema(&place) };
        assert_eq!(at["additionalProperties"], false, "{place} takes what does not exist");
        for key in at["properties"].as_object().unwrap().keys().filter(|key| *key != "global") {
            let path = if place.is_empty() { key.clone() } else { format!("{place}.{key}") };
            if is_section(&path) {
                places.push(path);
            } else {
                assert!(rows.iter().any(|row| row.path == path), "{path} is in the schema only");
            }
        }
    }
}

#[test]
fn settings_that_the_node_role_refuses_are_refused_by_the_schema() {
    let schema = schema();
    let settings = &schema["properties"]["settings"]["properties"];
    for key in store::settings::OF_CNI {
        assert_eq!(settings[key], false, "{key}");
    }
}

#[test]
fn wrong_values_are_refused_with_their_place() {
    if !possible() {
        return;
    }
    for (value, place) in [
        ("nodes.cniConfDir=/etc", "nodes"),
        ("node.cniConfdir=/etc", "/node"),
        ("node.cniConfDir=etc/cni", "/node/cniConfDir"),
        ("node.install=some", "/node/install"),
        ("node.podEvents=none of them", "/node/podEvents"),
        ("node.reportInterval=0", "/node/reportInterval"),
        ("node.resources.limits.memory=much", "/node/resources/limits/memory"),
        ("node.tolerations[0].operator=Always", "/node/tolerations/0/operator"),
        ("node.seLinuxOptions.typ=spc_t", "/node/seLinuxOptions"),
        ("logLevel=loud", "/logLevel"),
        ("image.pullPolicy=Sometimes", "/image/pullPolicy"),
        ("image.digest=1234", "/image/digest"),
        ("controller.replicas=0", "/controller/replicas"),
        ("webhook.timeoutSeconds=60", "/webhook/timeoutSeconds"),
        ("webhook.failurePolicy=ignore", "/webhook/failurePolicy"),
        ("crds.install=maybe", "/crds/install"),
        ("startupTaint.key=braid.dev/not-ready:NoSchedule", "/startupTaint/key"),
        ("metrics.serviceMonitor.interval=often", "/metrics/serviceMonitor/interval"),
        ("settings.namespaceIsolation=yes", "/settings/namespaceIsolation"),
        ("settings.networkWait=5", "/settings/networkWait"),
        ("settings.podsAtOnce=-1", "/settings/podsAtOnce"),
        ("settings.maxAttachments=0", "/settings/maxAttachments"),
        ("settings.maxAttachments=1001", "/settings/maxAttachments"),
        ("settings.turnWait=60", "/settings/turnWait"),
        ("settings.type=bridge", "/settings/type"),
        ("permissions.rules[0].plugins={bridge}", "/permissions/rules/0"),
        ("permissions.rules[0].namespaces={}", "/permissions/rules/0/namespaces"),
        ("permissions.rules[0].namespaces={a},permissions.rules[0].plugin={bridge}", "/permissions/rules/0"),
        ("apiServer.host=https://192.0.2.1", "/apiServer/host"),
        ("apiServer.port=0", "/apiServer/port"),
    ] {
        let error = rendered(&["--set", value]).unwrap_err().to_string();
        assert!(error.contains(place), "{value}: {error}");
    }
}
