//! What a review takes of the memory of a process that has only this to do.

// Helpers of tests fail as tests do.
#![allow(clippy::unwrap_used)]

use std::num::NonZeroUsize;
use std::sync::Arc;

use cni::npwg::{Isolation, Namespace};
use operator::controller::webhook::{Desk, Networks, answered};
use operator::pod_rules::PodRules;
use serde_json::{Value, json};

/// The longest that is read.
const LARGEST: usize = 3 << 20;
/// Of 128 MiB that the controller may have in all.
const MOST_MIB: usize = 40;

/// The memory that this process has had at its most since the last call, in bytes.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak = line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10;
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    peak
}

/// As many of a text as make a length, in brackets.
fn many(text: &str, length: usize) -> String {
    format!("[{}{text}]", format!("{text},").repeat(length / (text.len() + 1) - 2))
}

/// A review with a text of JSON in place of each marker.
fn review(kind: &Value, object: &Value, marker: &str, content: &str) -> String {
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "u", "kind": kind, "name": "n", "namespace": "a", "operation": "CREATE", "object": object}});
    review.to_string().replace(&format!("\"{marker}\""), content)
}

fn desk() -> Desk {
    Desk {
        networks: Arc::new(Networks::default()),
        rules: PodRules {
            isolation: Isolation { enabled: true, ..Isolation::default() },
            multus_namespace: Namespace::parse("kube-system").unwrap(),
            max_attachments: NonZeroUsize::new(1000).unwrap(),
        },
        metrics: Arc::default(),
    }
}

fn text(json: &str) -> String {
    Value::from(json).to_string()
}

/// As long as can be, around what no answer goes by.
fn long_reviews() -> Vec<(&'static str, String)> {
    let network = json!({"group": "k8s.cni.cncf.io", "version": "v1", "kind": "NetworkAttachmentDefinition"});
    let pod = json!({"group": "", "version": "v1", "kind": "Pod"});
    let long = LARGEST - 1024;
    let objects = many("{\"a\":0}", long);
    let keys = (0..long / 11).map(|n| format!("\"{n:06}\":1,")).collect::<Vec<_>>().concat();
    let letters = text(&"x".repeat(long));
    vec![
        ("objects", review(&network, &json!({"metadata": "?"}), "?", &objects)),
        ("arrays", review(&pod, &json!({"metadata": {}, "spec": "?"}), "?", &many("[0]", long))),
        ("fields", review(&pod, &json!({"metadata": {"managedFields": "?"}}), "?", &objects)),
        (
            "annotations",
            review(&pod, &json!({"metadata": {"annotations": "?"}}), "?", &format!("{{{keys}\"a\":1}}")),
        ),
        ("nested", review(&pod, &json!({"spec": "?"}), "?", &"[".repeat(long))),
        ("name", review(&network, &json!({"metadata": {"name": "?"}}), "?", &letters)),
        ("uid", review(&pod, &json!({}), "u", &letters)),
        ("config", review(&network, &json!({"spec": {"config": "?"}}), "?", &letters)),
    ]
}

/// As much as is judged.
fn judged_reviews() -> Vec<(&'static str, String)> {
    let network = json!({"group": "k8s.cni.cncf.io", "version": "v1", "kind": "NetworkAttachmentDefinition"});
    let pod = json!({"group": "", "version": "v1", "kind": "Pod"});
    let long = 250 << 10;
    let config = |config: &str| {
        review(&network, &json!({"metadata": {"name": "n"}, "spec": {"config": "?"}}), "?", &text(config))
    };
    let annotated = |annotation: &str| {
        let object = json!({"metadata": {"annotations": {"k8s.v1.cni.cncf.io/networks": "?"}}});
        review(&pod, &object, "?", &text(annotation))
    };
    let different: Vec<_> = (0..long / 9).map(|n| format!("b/a{n:05}")).collect();
    vec![
        ("objects", config(&format!("{{\"type\":\"x\",\"x\":{}}}", many("{\"a\":0}", long)))),
        (
            "plugins",
            config(&format!("{{\"plugins\":{}}}", many("{\"type\":\"bridge\",\"vlan\":\"x\"}", long))),
        ),
        ("selections", annotated(&format!("{}b/a", "b/a,".repeat(long / 4 - 1)))),
        ("different selections", annotated(&different.join(","))),
        ("JSON", annotated(&many("{\"name\":\"a\",\"x\":0}", long))),
    ]
}

#[test]
fn a_review_takes_little_more_memory_than_its_length_whatever_it_holds() {
    let desk = desk();
    for (what, review) in long_reviews().into_iter().chain(judged_reviews()) {
        assert!(review.len() <= LARGEST, "{what}: {}", review.len());
        peak();
        let before = peak();
        let _ = answered(review.as_bytes(), &desk);
        let taken = peak().saturating_sub(before) >> 10;
        assert!(taken <= MOST_MIB << 10, "{what}: {} KiB take {taken} KiB", review.len() >> 10);
    }
}
