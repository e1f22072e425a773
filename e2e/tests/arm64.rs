//! Braid's executables for arm64, under QEMU on this machine, where `make image` has built them.

// Helpers of tests fail as tests do.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::process::{Command, Stdio};

use e2e::artefacts::{QEMU, for_arm64};
use e2e::program::output;
use e2e::requirement::{Need, met};
use serde_json::Value;

#[test]
fn the_plugin_for_arm64_says_its_version_and_the_versions_of_cni() {
    if !met(&[Need::Arm64]) {
        return;
    }
    let plugin = || {
        let mut command = Command::new(QEMU);
        command.arg(for_arm64("meta-cni")).stdin(Stdio::null());
        command
    };
    let version = output(plugin().arg("--version")).unwrap();
    assert_eq!(version.trim(), format!("meta-cni {}", env!("CARGO_PKG_VERSION")));
    let answer = output(plugin().env("CNI_COMMAND", "VERSION")).unwrap();
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert!(answer["supportedVersions"].as_array().unwrap().iter().any(|one| one == "1.1.0"), "{answer}");
}

#[test]
fn the_operator_for_arm64_says_its_version_and_checks_the_annotation_of_a_pod() {
    if !met(&[Need::Arm64]) {
        return;
    }
    let braid = for_arm64("braid");
    let version = output(Command::new(QEMU).arg(&braid).arg("--version")).unwrap();
    assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
    let dir = tempfile::tempdir().unwrap();
    let check = |networks: &str| {
        let file = dir.path().join("pod.yaml");
        let annotations = format!("{{ k8s.v1.cni.cncf.io/networks: \"{networks}\" }}");
        let pod = format!("apiVersion: v1\nkind: Pod\nmetadata: {{ name: p, annotations: {annotations} }}\n");
        fs::write(&file, pod).unwrap();
        let checked = Command::new(QEMU).arg(&braid).arg("check").arg(file).output().unwrap();
        (checked.status.code(), String::from_utf8([checked.stdout, checked.stderr].concat()).unwrap())
    };
    let (code, printed) = check("lan@net5");
    assert_eq!(code, Some(0), "{printed}");
    let (code, printed) = check("a b@@");
    assert_eq!(code, Some(1), "{printed}");
    assert!(printed.contains("is not of the form"), "{printed}");
}
