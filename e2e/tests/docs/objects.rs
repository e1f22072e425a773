//! YAML and JSON of the documentation, and the manifests of `deploy/examples`: what holds networks or pods passes
//! `braid check`, the rest can be read.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::artefacts;
use serde_json::Value;

use crate::{assert_none, name, pages};

/// Kinds of which `braid check` has an opinion.
const JUDGED: [&str; 8] = [
    "NetworkAttachmentDefinition",
    "Pod",
    "Deployment",
    "DaemonSet",
    "StatefulSet",
    "ReplicaSet",
    "Job",
    "CronJob",
];

/// The objects of a YAML text.
fn documents(text: &str) -> Result<Vec<Value>, String> {
    serde_saphyr::from_multiple(text).map_err(|error| error.to_string())
}

/// Whether `braid check` has an opinion of one of them.
fn judged(objects: &[Value]) -> bool {
    objects.iter().any(|object| object["kind"].as_str().is_some_and(|kind| JUDGED.contains(&kind)))
}

/// What `braid check` says of files if it finds errors.
fn check(files: &[PathBuf]) -> Result<(), String> {
    let output = Command::new(artefacts::braid().unwrap()).arg("check").args(files).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.success() { Ok(()) } else { Err(format!("{out}{err}")) }
}

#[test]
fn yaml_and_json_can_be_read_and_networks_and_pods_are_right() {
    let temp = tempfile::tempdir().unwrap();
    let mut problems = Vec::new();
    for (file, page) in pages() {
        for block in &page.blocks {
            let judgement = match block.tag.first().map(String::as_str) {
                Some("yaml") => yaml(&block.text, temp.path()),
                Some("json") => {
                    serde_json::from_str::<Value>(&block.text).map(drop).map_err(|error| error.to_string())
                }
                _ => Ok(()),
            };
            if let Err(problem) = judgement {
                problems.push(format!("{}:{}: {problem}", name(&file), block.line));
            }
        }
    }
    assert_none(&problems);
}

fn yaml(text: &str, temp: &Path) -> Result<(), String> {
    if !judged(&documents(text)?) {
        return Ok(());
    }
    let file = temp.join("block.yaml");
    fs::write(&file, text).unwrap();
    check(&[file])
}

#[test]
fn yaml_that_is_wrong_is_found() {
    let temp = tempfile::tempdir().unwrap();
    assert!(yaml("a: [", temp.path()).is_err());
    let network = "kind: NetworkAttachmentDefinition\napiVersion: k8s.cni.cncf.io/v1\nmetadata: {name: x}\n";
    let wrong = format!("{network}spec: {{config: '{{}}'}}\n");
    assert!(yaml(&wrong, temp.path()).unwrap_err().contains("neither"));
    let right = format!("{network}spec: {{config: '{{\"cniVersion\": \"1.0.0\", \"type\": \"bridge\"}}'}}\n");
    assert_eq!(yaml(&right, temp.path()), Ok(()));
}

#[test]
fn all_examples_are_right_beside_each_other() {
    let files = manifests(&e2e::source("deploy/examples"));
    assert!(files.len() > 4, "{files:?}");
    check(&files).unwrap_or_else(|problem| panic!("{problem}"));
}

#[test]
fn every_example_is_shown_or_named_by_the_documentation() {
    let pages: String =
        e2e::docs::files().unwrap().iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    let lost = manifests(&e2e::source("deploy/examples")).into_iter().filter_map(|file| {
        let directory = name(file.parent()?);
        let named = pages.contains(&name(&file)) || pages.contains(&format!("{directory} "));
        (!named).then(|| format!("{}: no page names it", name(&file)))
    });
    assert_none(&lost.collect::<Vec<_>>());
}

/// The YAML files of a directory and below.
fn manifests(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(manifests(&path));
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            files.push(path);
        }
    }
    files.sort();
    files
}
