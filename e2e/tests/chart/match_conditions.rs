//! The match conditions of the webhooks: for which versions of Kubernetes the chart writes them, and what they say.
//! What a real server makes of them is in `installing`.

use std::fs;

use serde_json::{Value, json};

use crate::helm::{copy, find, helm, objects, parsed, possible};
use crate::objects::problems;

/// What the templates ask Helm for.
const VERSION: &str = ".Capabilities.KubeVersion.Version";

/// The webhooks that the chart renders for a version of Kubernetes, in the place of the version that Helm supposes
/// without a cluster.
fn webhooks_for(version: &str) -> Vec<Value> {
    let chart = copy().unwrap();
    let template = chart.path().join("templates/webhook.yaml");
    let text = fs::read_to_string(&template).unwrap();
    assert_eq!(text.matches(VERSION).count(), 1);
    fs::write(&template, text.replace(VERSION, &format!("{version:?}"))).unwrap();
    let chart = chart.path().display().to_string();
    webhooks(&parsed(&helm(&["template", "braid", &chart, "--namespace", "braid-system"]).unwrap()).unwrap())
}

fn webhooks(all: &[Value]) -> Vec<Value> {
    let configuration = find(all, "ValidatingWebhookConfiguration", "braid");
    assert_eq!(problems(configuration), [""; 0]);
    configuration["webhooks"].as_array().unwrap().clone()
}

#[test]
fn webhooks_have_match_conditions_where_kubernetes_has_them_for_good() {
    if !possible() {
        return;
    }
    for (version, has) in [
        ("v1.20.2", false),
        ("v1.29.14", false),
        ("v1.29.10-gke.1100", false),
        ("v1.30.0-rc.1", true),
        ("v1.30.0", true),
        ("v1.30.8-eks-2d5f260", true),
        ("v1.36.2+k3s1", true),
    ] {
        for webhook in webhooks_for(version) {
            assert_eq!(webhook.get("matchConditions").is_some(), has, "{version}: {}", webhook["name"]);
        }
    }
    for webhook in webhooks(&objects(&["--set", "webhook.matchConditions=false"]).unwrap()) {
        assert!(webhook.get("matchConditions").is_none(), "{}", webhook["name"]);
    }
}

/// Word for word: each expression leaves out only what the webhook lets pass (`operator/src/controller/webhook/answer.rs`),
/// and asks `has` before it reads what may not be there, because an error would mean "do not ask".
#[test]
fn match_conditions_leave_out_what_the_webhook_lets_pass() {
    if !possible() {
        return;
    }
    let found: Vec<_> = webhooks_for("v1.36.0")
        .iter()
        .map(|webhook| (webhook["name"].clone(), webhook["matchConditions"].clone()))
        .collect();
    let condition = |name: &str, expression: &str| json!([{"name": name, "expression": expression}]);
    let spec = "request.operation != 'UPDATE' || has(object.spec) != has(oldObject.spec) \
        || (has(object.spec) && object.spec != oldObject.spec)";
    let annotations = "has(object.metadata.annotations) && (request.operation != 'UPDATE' \
        || !has(oldObject.metadata.annotations) || object.metadata.annotations != oldObject.metadata.annotations)";
    assert_eq!(
        found,
        [
            (json!("networks.braid.dev"), condition("new-spec", spec)),
            (json!("pods.braid.dev"), condition("new-annotations", annotations)),
        ]
    );
}
