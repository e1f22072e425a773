//! What the chart renders with its defaults, with its presets, and with other values.

use std::collections::BTreeSet;

use e2e::source;
use serde_json::{Value, json};

use crate::helm::{chart, find, has, helm, objects, possible};
use crate::objects::problems;

/// Every kind of object of the chart.
pub(crate) const EVERYTHING: &str = "startupTaint.enabled=true,metrics.enabled=true,metrics.serviceMonitor.enabled=true,\
    metrics.rules.enabled=true,metrics.dashboard.enabled=true,networkPolicy.enabled=true,\
    apiServer.host=192.0.2.1,controller.hostNetwork=true,permissions.enabled=true";

/// A rule with all that a rule can have.
const PERMISSIONS: &str = r#"permissions={"enabled": true, "rules": [{"namespaces": ["team-*"], "plugins": ["macvlan"],
    "interfaces": ["eth1"], "names": ["pool"], "paths": ["/var/lib/pool"], "onNode": ["lab"]}]}"#;

/// Values that reach each place of the templates.
pub(crate) const MATRIX: [&[&str]; 10] = [
    &[],
    &["--set", EVERYTHING],
    &["--set", "controller.enabled=false,crds.install=false,uninstall.enabled=false"],
    &["--set", "webhook.enabled=false,networkPolicy.enabled=true,controller.replicas=1"],
    &["--set", "image.digest=sha256:0123456789012345678901234567890123456789012345678901234567890123"],
    &[
        "--set",
        "node.nodeSelector=null,node.tolerations=null",
        "--set-json",
        "image.pullSecrets=[{\"name\": \"a\"}]",
    ],
    &[
        "--set-json",
        r#"node={"podAnnotations": {"a": "b"}, "podLabels": {"c": "d"}, "extraEnv": [{"name": "E", "value": "f"}],
            "seLinuxOptions": {"type": "spc_t"}, "appArmorProfile": {"type": "RuntimeDefault"},
            "affinity": {"nodeAffinity": {}}, "updateStrategy": {"type": "OnDelete", "rollingUpdate": null}}"#,
        "--set-json",
        r#"controller={"podAnnotations": {"a": "b"}, "podLabels": {"c": "d"}, "extraEnv": [{"name": "E", "value": "f"}],
            "affinity": {"podAntiAffinity": {}}}"#,
    ],
    &[
        "--set-json",
        r#"networkPolicy={"enabled": true, "metricsFrom": [{"podSelector": {"matchLabels": {"a": "b"}}}]}"#,
    ],
    &[
        "--set-json",
        r#"settings={"namespaceIsolation": true, "globalNamespaces": ["a", "b"], "logLevel": "info"}"#,
    ],
    &["--set-json", PERMISSIONS],
];

fn assert_right(objects: &[Value], of: &str) {
    let found: Vec<_> = objects.iter().flat_map(problems).collect();
    assert_eq!(found, [""; 0], "{of}");
    let mut names = BTreeSet::new();
    for object in objects {
        assert!(names.insert(format!("{} {}", object["kind"], object["metadata"]["name"])), "{of}: {object}");
        let labels = &object["metadata"]["labels"];
        assert_eq!(labels["app.kubernetes.io/name"], "braid", "{of}: {object}");
        assert_eq!(labels["app.kubernetes.io/instance"], "braid", "{of}: {object}");
    }
}

#[test]
fn the_linter_finds_nothing() {
    if possible() {
        helm(&["lint", &chart(), "--strict"]).unwrap();
    }
}

#[test]
fn every_combination_of_values_renders_objects_of_kubernetes() {
    if possible() {
        for values in MATRIX {
            assert_right(&objects(values).unwrap(), &format!("{values:?}"));
        }
    }
}

#[test]
fn every_preset_renders_and_mounts_the_directories_that_it_names() {
    if !possible() {
        return;
    }
    let presets = std::fs::read_dir(source("charts/braid/presets")).unwrap();
    let presets: Vec<_> = presets.map(|entry| entry.unwrap().path()).collect();
    assert!(presets.len() >= 4, "{presets:?}");
    for preset in presets {
        let given: Value = serde_saphyr::from_str(&std::fs::read_to_string(&preset).unwrap()).unwrap();
        let preset = preset.display().to_string();
        let all = objects(&["-f", &preset]).unwrap();
        assert_right(&all, &preset);
        let node = find(&all, "DaemonSet", "braid-node");
        for (volume, value, variable) in
            [("conf", "cniConfDir", "BRAID_CNI_CONF_DIR"), ("bin", "cniBinDir", "BRAID_CNI_BIN_DIR")]
        {
            let path = &given["node"][value];
            assert!(path.is_string(), "{preset}: {value}");
            assert_eq!(&host_path(node, volume), path, "{preset}");
            assert_eq!(&env(node, variable)["value"], path, "{preset}");
        }
    }
}

fn pod(object: &Value) -> &Value {
    &object["spec"]["template"]["spec"]
}

fn named<'a>(list: &'a Value, name: &str) -> &'a Value {
    let list = list.as_array().unwrap();
    list.iter().find(|one| one["name"] == name).unwrap_or_else(|| panic!("no {name} in {list:?}"))
}

fn env<'a>(object: &'a Value, name: &str) -> &'a Value {
    named(&pod(object)["containers"][0]["env"], name)
}

/// The path of a volume, which has to be the same on the host and in the container.
fn host_path(object: &Value, volume: &str) -> Value {
    let on_host = &named(&pod(object)["volumes"], volume)["hostPath"];
    assert_eq!(on_host["type"], "DirectoryOrCreate");
    let inside = named(&pod(object)["containers"][0]["volumeMounts"], volume);
    assert_eq!(inside["mountPath"], on_host["path"]);
    on_host["path"].clone()
}

#[test]
fn the_node_role_is_everywhere_before_others_and_goes_to_the_address_that_is_given() {
    if !possible() {
        return;
    }
    let all = objects(&["--set", "apiServer.host=192.0.2.1,apiServer.port=7445"]).unwrap();
    let node = find(&all, "DaemonSet", "braid-node");
    assert_eq!(pod(node)["tolerations"], json!([{"operator": "Exists"}]));
    assert_eq!(pod(node)["hostNetwork"], true);
    assert_eq!(pod(node)["priorityClassName"], "system-node-critical");
    assert_eq!(env(node, "BRAID_DAEMONSET")["value"], "braid-system/braid-node");
    assert_eq!(env(node, "BRAID_ADMIN_ADDRESS")["value"], "127.0.0.1:9770");
    for role in [node, find(&all, "Deployment", "braid-controller"), find(&all, "Job", "braid-uninstall")] {
        assert_eq!(env(role, "KUBERNETES_SERVICE_HOST")["value"], "192.0.2.1");
        assert_eq!(env(role, "KUBERNETES_SERVICE_PORT")["value"], "7445");
        assert_eq!(pod(role)["enableServiceLinks"], false);
        assert_eq!(pod(role)["automountServiceAccountToken"], true);
    }
}

#[test]
fn a_change_of_the_settings_rolls_the_pods_and_nothing_else_does() {
    if !possible() {
        return;
    }
    let template =
        |values: &[&str], kind, name| find(&objects(values).unwrap(), kind, name)["spec"]["template"].clone();
    for (kind, name) in [("DaemonSet", "braid-node"), ("Deployment", "braid-controller")] {
        let before = template(&[], kind, name);
        assert_ne!(before, template(&["--set", "settings.namespaceIsolation=true"], kind, name));
        assert_eq!(before, template(&["--set", "networkPolicy.enabled=true,crds.keep=false"], kind, name));
        assert!(!before.to_string().contains("helm.sh/chart"), "a new chart alone rolls nothing: {before}");
    }
}

/// Whether a role is told to read rules.
fn reads_rules(all: &[Value], kind: &str, name: &str) -> bool {
    let variables = &pod(find(all, kind, name))["containers"][0]["env"];
    let is_told =
        |one: &Value| one["name"] == "BRAID_PERMISSIONS" && one["value"] == "/etc/braid/permissions.json";
    variables.as_array().unwrap().iter().any(is_told)
}

#[test]
fn rules_for_networks_reach_both_roles_and_are_what_the_program_takes() {
    if !possible() {
        return;
    }
    let settings = |all: &[Value]| find(all, "ConfigMap", "braid-settings")["data"].clone();
    let (without, with) = (objects(&[]).unwrap(), objects(&["--set-json", PERMISSIONS]).unwrap());
    for (kind, name) in [("DaemonSet", "braid-node"), ("Deployment", "braid-controller")] {
        assert!(!reads_rules(&without, kind, name) && reads_rules(&with, kind, name), "{kind}");
        let template = |all| pod_template(find(all, kind, name))["metadata"].clone();
        assert_ne!(template(&without), template(&with), "{kind}: it rolls");
    }
    assert!(settings(&without).get("permissions.json").is_none());
    let dir = tempfile::tempdir().unwrap();
    let (rules, network) = (dir.path().join("permissions.json"), dir.path().join("network.json"));
    std::fs::write(&rules, settings(&with)["permissions.json"].as_str().unwrap()).unwrap();
    for (config, code) in
        [(r#"{"type":"macvlan","master":"eth1"}"#, 0), (r#"{"type":"macvlan","master":"eth2"}"#, 1)]
    {
        let nad = json!({"apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
            "metadata": {"namespace": "team-a", "name": "n"}, "spec": {"config": config}});
        std::fs::write(&network, nad.to_string()).unwrap();
        let mut braid = std::process::Command::new(e2e::artefacts::braid().unwrap());
        let output = braid.arg("check").arg("--permissions").arg(&rules).arg(&network).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{config}: {output:?}");
    }
}

fn pod_template(object: &Value) -> &Value {
    &object["spec"]["template"]
}

#[test]
fn each_switch_brings_and_takes_its_objects() {
    if !possible() {
        return;
    }
    let default = objects(&[]).unwrap();
    for (switch, kind, name, at_first) in [
        ("webhook.enabled", "ValidatingWebhookConfiguration", "braid", true),
        ("webhook.enabled", "Service", "braid-webhook", true),
        ("controller.enabled", "Deployment", "braid-controller", true),
        ("controller.enabled", "ValidatingWebhookConfiguration", "braid", true),
        ("crds.install", "CustomResourceDefinition", "nodereports.braid.dev", true),
        ("crds.install", "CustomResourceDefinition", "network-attachment-definitions.k8s.cni.cncf.io", true),
        ("podDisruptionBudget.enabled", "PodDisruptionBudget", "braid-controller", true),
        ("uninstall.enabled", "Job", "braid-uninstall", true),
        ("networkPolicy.enabled", "NetworkPolicy", "braid-controller", false),
        ("startupTaint.enabled", "ClusterRole", "braid-controller-startup-taint", false),
        ("metrics.enabled", "Service", "braid-metrics", false),
        ("metrics.rules.enabled", "PrometheusRule", "braid", false),
        ("metrics.dashboard.enabled", "ConfigMap", "braid-dashboard", false),
    ] {
        assert_eq!(has(&default, kind, name), at_first, "{kind} {name}");
        let other = objects(&["--set", &format!("{switch}={}", !at_first)]).unwrap();
        assert_eq!(has(&other, kind, name), !at_first, "{switch}: {kind} {name}");
    }
    let metrics = objects(&["--set", "metrics.enabled=true"]).unwrap();
    let address = &env(find(&metrics, "DaemonSet", "braid-node"), "BRAID_ADMIN_ADDRESS")["value"];
    assert_eq!(address, "[::]:9770", "Prometheus has to reach it");
}

#[test]
fn definitions_stay_when_braid_goes_unless_somebody_wants_them_gone() {
    if !possible() {
        return;
    }
    for (values, policy) in [(&[][..], json!("keep")), (&["--set", "crds.keep=false"], Value::Null)] {
        let all = objects(values).unwrap();
        let definitions: Vec<_> =
            all.iter().filter(|object| object["kind"] == "CustomResourceDefinition").collect();
        assert_eq!(definitions.len(), 2);
        for definition in definitions {
            assert_eq!(definition["metadata"]["annotations"]["helm.sh/resource-policy"], policy);
        }
    }
}

#[test]
fn a_webhook_that_nobody_answers_never_stops_a_pod() {
    if !possible() {
        return;
    }
    let all = objects(&["--set", "webhook.failurePolicy=Fail,webhook.timeoutSeconds=3"]).unwrap();
    let configuration = find(&all, "ValidatingWebhookConfiguration", "braid");
    let webhooks = &configuration["webhooks"];
    assert_eq!(named(webhooks, "networks.braid.dev")["failurePolicy"], "Fail");
    assert_eq!(named(webhooks, "pods.braid.dev")["failurePolicy"], "Ignore");
    for webhook in webhooks.as_array().unwrap() {
        assert_eq!(webhook["timeoutSeconds"], 3);
        assert_eq!(
            webhook["namespaceSelector"]["matchExpressions"][0]["values"],
            json!(["kube-system", "braid-system"])
        );
        assert!(webhook["clientConfig"].get("caBundle").is_none(), "the controller writes it");
    }
}

#[test]
fn every_variable_of_the_pods_is_one_that_the_program_knows() {
    if !possible() {
        return;
    }
    let known = std::fs::read_to_string(source("operator/src/args.rs")).unwrap();
    for object in objects(&["--set", EVERYTHING]).unwrap() {
        let Some(variables) = pod(&object)["containers"][0]["env"].as_array() else { continue };
        for name in variables.iter().filter_map(|variable| variable["name"].as_str()) {
            let ours = name.starts_with("BRAID_");
            assert!(!ours || known.contains(&format!("env = \"{name}\"")), "{}: {name}", object["kind"]);
        }
    }
}
