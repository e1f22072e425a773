//! Calling helm.

use std::process::Command;

use anyhow::{Context, Result};
use e2e::program::output;
use e2e::requirement::{Need, met};
use e2e::source;
use serde_json::Value;
use tempfile::TempDir;

/// The namespace that everything is rendered for.
pub(crate) const NAMESPACE: &str = "braid-system";

pub(crate) fn possible() -> bool {
    met(&[Need::Program("python3", "python3")])
}

/// Runs helm and returns what it printed.
pub(crate) fn helm(arguments: &[&str]) -> Result<String> {
    output(Command::new(source("scripts/helm")).args(arguments))
}

/// The chart's directory, as an argument.
pub(crate) fn chart() -> String {
    source("charts/braid").display().to_string()
}

/// A copy of the chart, to be changed.
pub(crate) fn copy() -> Result<TempDir> {
    let dir = tempfile::tempdir()?;
    output(Command::new("cp").arg("-r").arg(source("charts/braid/.")).arg(dir.path()))?;
    Ok(dir)
}

/// What the chart renders with further arguments of helm.
pub(crate) fn rendered(further: &[&str]) -> Result<String> {
    helm(&[&["template", "braid", &chart(), "--namespace", NAMESPACE], further].concat())
}

/// The same as objects.
pub(crate) fn objects(further: &[&str]) -> Result<Vec<Value>> {
    parsed(&rendered(further)?)
}

/// The objects of a YAML text.
pub(crate) fn parsed(text: &str) -> Result<Vec<Value>> {
    let all: Vec<Value> = serde_saphyr::from_multiple(text).context("reading YAML")?;
    Ok(all.into_iter().filter(|object| !object.is_null()).collect())
}

/// The one object of a kind and name.
pub(crate) fn find<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let mut found =
        objects.iter().filter(|object| object["kind"] == kind && object["metadata"]["name"] == name);
    let one = found.next().unwrap_or_else(|| panic!("no {kind} {name}"));
    assert!(found.next().is_none(), "two of {kind} {name}");
    one
}

/// Whether there is an object of a kind and name.
pub(crate) fn has(objects: &[Value], kind: &str, name: &str) -> bool {
    objects.iter().any(|object| object["kind"] == kind && object["metadata"]["name"] == name)
}
