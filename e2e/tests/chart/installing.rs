//! What becomes of a release on a real API server. Nobody runs pods there: `e2e/tests/cluster` does.

use std::process::Command;
use std::thread;

use anyhow::{Context, Result};
use e2e::control_plane::{ControlPlane, User};
use e2e::program::output;
use e2e::requirement::{Need, met};
use e2e::{source, wait};
use k8s_openapi::api::batch::v1::Job;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::helm::{NAMESPACE, chart, copy};

const NADS: &str = "network-attachment-definitions.k8s.cni.cncf.io";
const REPORTS: &str = "nodereports.braid.dev";

fn possible() -> bool {
    met(&[Need::Program("python3", "python3"), Need::ControlPlane])
}

/// Helm as the administrator of a control plane.
fn helm(plane: &ControlPlane, arguments: &[&str]) -> Result<String> {
    let kubeconfig = plane.kubeconfig(&User::admin())?;
    let mut command = Command::new(source("scripts/helm"));
    output(command.args(arguments).args(["--namespace", NAMESPACE, "--kubeconfig"]).arg(kubeconfig))
}

fn upgrade(plane: &ControlPlane, further: &[&str]) -> Result<String> {
    helm(plane, &[&["upgrade", "--install", "braid", &chart(), "--create-namespace"], further].concat())
}

/// An object, or null.
fn get(plane: &ControlPlane, kind: &str, name: &str) -> Value {
    let arguments = ["get", kind, name, "-n", NAMESPACE, "--ignore-not-found", "-o", "json"];
    let printed = plane.kubectl(&User::admin(), &arguments).unwrap();
    if printed.is_empty() { Value::Null } else { serde_json::from_str(&printed).unwrap() }
}

fn ca_bundles(plane: &ControlPlane) -> Vec<Value> {
    let configuration = get(plane, "validatingwebhookconfiguration", "braid");
    let webhooks = configuration["webhooks"].as_array().unwrap();
    webhooks.iter().map(|webhook| webhook["clientConfig"]["caBundle"].clone()).collect()
}

/// The minor version of a control plane's Kubernetes 1.
fn minor(plane: &ControlPlane) -> u64 {
    let printed = plane.kubectl(&User::admin(), &["get", "--raw", "/version"]).unwrap();
    let version: Value = serde_json::from_str(&printed).unwrap();
    let minor = version["minor"].as_str().unwrap().trim_end_matches('+');
    minor.parse().unwrap()
}

/// The names of each webhook's match conditions.
fn conditions(plane: &ControlPlane) -> Vec<Value> {
    let configuration = get(plane, "validatingwebhookconfiguration", "braid");
    let webhooks = configuration["webhooks"].as_array().unwrap();
    webhooks.iter().map(|webhook| webhook["matchConditions"][0]["name"].clone()).collect()
}

#[test]
fn a_server_takes_the_plain_manifests_and_1_20_all_but_the_disruption_budget() {
    if !possible() {
        return;
    }
    let plane = ControlPlane::start().unwrap();
    let file = source("deploy/manifests/braid.yaml").display().to_string();
    // What a server calls deprecated it says in a warning.
    let applied = plane.kubectl(&User::admin(), &["apply", "--warnings-as-errors", "-f", &file]);
    if minor(&plane) >= 21 {
        applied.unwrap();
        assert!(get(&plane, "poddisruptionbudget", "braid-controller").is_object());
    } else {
        let error = applied.unwrap_err().to_string();
        assert_eq!(error.matches("no matches for kind").count(), 1, "{error}");
        assert!(
            error.contains(r#"no matches for kind "PodDisruptionBudget" in version "policy/v1""#),
            "{error}"
        );
    }
    for (kind, name) in [
        ("crd", NADS),
        ("crd", REPORTS),
        ("daemonset", "braid-node"),
        ("deployment", "braid-controller"),
        ("clusterrole", "braid-controller"),
        ("validatingwebhookconfiguration", "braid"),
        ("service", "braid-webhook"),
    ] {
        assert!(get(&plane, kind, name).is_object(), "{kind} {name}");
    }
    let labels = &get(&plane, "namespace", NAMESPACE)["metadata"]["labels"];
    for mode in ["enforce", "audit", "warn"] {
        assert_eq!(labels[format!("pod-security.kubernetes.io/{mode}")], "privileged");
    }
}

#[test]
fn the_server_gets_match_conditions_from_1_30_on() {
    if !possible() {
        return;
    }
    let plane = ControlPlane::start().unwrap();
    upgrade(&plane, &[]).unwrap();
    let manifest = helm(&plane, &["get", "manifest", "braid"]).unwrap();
    let knows = minor(&plane) >= 30;
    assert_eq!(manifest.contains("\n    matchConditions:"), knows, "{manifest}");
    let expected =
        if knows { ["new-spec", "new-annotations"].map(Value::from) } else { [Value::Null, Value::Null] };
    assert_eq!(conditions(&plane), expected);
}

/// The release that an object belongs to.
fn owner(object: &Value) -> &Value {
    &object["metadata"]["annotations"]["meta.helm.sh/release-name"]
}

#[test]
fn an_upgrade_and_a_rollback_leave_what_the_controller_wrote() {
    if !possible() {
        return;
    }
    let plane = ControlPlane::start().unwrap();
    upgrade(&plane, &[]).unwrap();
    // As the controller does it.
    let at = |index| json!({"op": "add", "path": format!("/webhooks/{index}/clientConfig/caBundle"), "value": "Q0E="});
    let patch = json!([at(0), at(1)]).to_string();
    let arguments = ["patch", "validatingwebhookconfiguration", "braid", "--type=json", "-p", &patch];
    plane.kubectl(&User::admin(), &arguments).unwrap();
    upgrade(&plane, &["--set", "webhook.timeoutSeconds=7,logLevel=debug"]).unwrap();
    let configuration = get(&plane, "validatingwebhookconfiguration", "braid");
    assert_eq!(configuration["webhooks"][0]["timeoutSeconds"], 7);
    assert_eq!(ca_bundles(&plane), ["Q0E=", "Q0E="], "after the upgrade");
    helm(&plane, &["rollback", "braid", "1"]).unwrap();
    let configuration = get(&plane, "validatingwebhookconfiguration", "braid");
    assert_eq!(configuration["webhooks"][0]["timeoutSeconds"], 5);
    assert_eq!(ca_bundles(&plane), ["Q0E=", "Q0E="], "after the rollback");
}

/// Gives the namespace that Braid is to be in this level of Pod Security; no level takes the label away.
fn enforce(plane: &ControlPlane, level: Option<&str>) {
    let key = "pod-security.kubernetes.io/enforce";
    let label = level.map_or_else(|| format!("{key}-"), |level| format!("{key}={level}"));
    plane.kubectl(&User::admin(), &["label", "--overwrite", "namespace", NAMESPACE, &label]).unwrap();
}

#[test]
fn a_namespace_that_forbids_the_node_role_is_refused_before_anything_is_made() {
    if !possible() {
        return;
    }
    let plane = ControlPlane::start().unwrap();
    plane.kubectl(&User::admin(), &["create", "namespace", NAMESPACE]).unwrap();
    for level in ["baseline", "restricted"] {
        enforce(&plane, Some(level));
        let error = upgrade(&plane, &["--wait"]).unwrap_err().to_string();
        for part in [
            &format!("install Braid in namespace \"{NAMESPACE}\""),
            &format!("pod-security.kubernetes.io/enforce={level}"),
            "the host's network",
            "paths of the host",
            "a port of the host",
            &format!(
                "kubectl label --overwrite namespace {NAMESPACE} pod-security.kubernetes.io/enforce=privileged"
            ),
        ] {
            assert!(error.contains(part), "{level}: no {part:?} in {error}");
        }
        assert_eq!(get(&plane, "daemonset", "braid-node"), Value::Null, "{level}");
        assert_eq!(get(&plane, "crd", REPORTS), Value::Null, "{level}");
    }
    for level in [None, Some("privileged")] {
        enforce(&plane, level);
        upgrade(&plane, &[]).unwrap();
    }
    assert!(get(&plane, "daemonset", "braid-node").is_object());
    // Its pods would not come again once the upgrade has taken the old ones away.
    enforce(&plane, Some("baseline"));
    let error = upgrade(&plane, &["--set", "logLevel=debug"]).unwrap_err().to_string();
    assert!(error.contains("pod-security.kubernetes.io/enforce=baseline"), "{error}");
}

/// The chart as a version of Braid might have had it whose reports had one column.
fn older_chart() -> Result<tempfile::TempDir> {
    let dir = copy()?;
    let file = dir.path().join("files/crds/braid.dev_nodereports.yaml");
    let mut definition: Value = serde_saphyr::from_str(&std::fs::read_to_string(&file)?)?;
    let columns = definition.pointer_mut("/spec/versions/0/additionalPrinterColumns");
    columns.and_then(Value::as_array_mut).context("no columns")?.truncate(1);
    // With the keys where the template looks for them.
    std::fs::write(&file, serde_saphyr::to_string(&definition)?)?;
    Ok(dir)
}

/// The names of the columns that `kubectl get nodereports` shows.
fn columns(plane: &ControlPlane) -> Vec<String> {
    let definition = get(plane, "crd", REPORTS);
    let columns = definition["spec"]["versions"][0]["additionalPrinterColumns"].as_array().unwrap();
    columns.iter().map(|column| column["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn definitions_are_upgraded_outlive_the_release_and_are_taken_into_use_again() {
    if !possible() {
        return;
    }
    let plane = ControlPlane::start().unwrap();
    let older = older_chart().unwrap();
    let its_chart = older.path().display().to_string();
    helm(&plane, &["install", "braid", &its_chart, "--create-namespace"]).unwrap();
    assert_eq!(columns(&plane), ["Ready"]);
    upgrade(&plane, &["--set", "uninstall.enabled=false"]).unwrap();
    assert!(columns(&plane).len() > 4, "{:?}", columns(&plane));
    for name in [NADS, REPORTS] {
        assert_eq!(owner(&get(&plane, "crd", name)), "braid");
    }
    let printed = helm(&plane, &["uninstall", "braid"]).unwrap();
    assert!(printed.contains("uninstalled"), "{printed}");
    for name in [NADS, REPORTS] {
        assert_eq!(owner(&get(&plane, "crd", name)), "braid", "{name} stays");
    }
    assert_eq!(get(&plane, "daemonset", "braid-node"), Value::Null);
    upgrade(&plane, &[]).unwrap();
}

#[test]
fn an_upgrade_can_keep_what_was_set_and_take_new_defaults_for_the_rest() {
    if !possible() {
        return;
    }
    let plane = ControlPlane::start().unwrap();
    let older = older_chart().unwrap();
    let values = older.path().join("values.yaml");
    // Another default, which nobody set.
    let text =
        std::fs::read_to_string(&values).unwrap().replace("  reportInterval: 30", "  reportInterval: 60");
    std::fs::write(&values, text).unwrap();
    let its_chart = older.path().display().to_string();
    helm(&plane, &["install", "braid", &its_chart, "--create-namespace", "--set", "logLevel=debug"]).unwrap();
    upgrade(&plane, &["--reset-then-reuse-values", "--set", "node.podEvents=none"]).unwrap();
    let node = get(&plane, "daemonset", "braid-node");
    let variables = node["spec"]["template"]["spec"]["containers"][0]["env"].as_array().unwrap();
    for (name, value) in
        [("BRAID_LOG_LEVEL", "debug"), ("BRAID_POD_EVENTS", "none"), ("BRAID_REPORT_INTERVAL", "30")]
    {
        let variable = variables.iter().find(|variable| variable["name"] == name).unwrap();
        assert_eq!(variable["value"], value, "{name}");
    }
}

#[test]
fn a_definition_of_somebody_else_is_left_alone_and_told() {
    if !possible() {
        return;
    }
    let plane = ControlPlane::start().unwrap();
    plane.apply(&source(&format!("crds/{}", "k8s.cni.cncf.io_network-attachment-definitions.yaml"))).unwrap();
    let spec = get(&plane, "crd", NADS)["spec"].clone();
    for _ in ["the installation", "an upgrade"] {
        let printed = upgrade(&plane, &[]).unwrap();
        assert!(printed.contains(&format!("{NADS} was there before")), "{printed}");
        let theirs = get(&plane, "crd", NADS);
        assert_eq!((owner(&theirs), &theirs["spec"]), (&Value::Null, &spec));
        assert_eq!(owner(&get(&plane, "crd", REPORTS)), "braid");
    }
    // Handed over as the chart's README says, it is upgraded from then on.
    let note = ["meta.helm.sh/release-name=braid", "meta.helm.sh/release-namespace=braid-system"];
    plane.kubectl(&User::admin(), &[&["annotate", "crd", NADS], &note[..]].concat()).unwrap();
    plane.kubectl(&User::admin(), &["label", "crd", NADS, "app.kubernetes.io/managed-by=Helm"]).unwrap();
    let printed = upgrade(&plane, &[]).unwrap();
    assert!(!printed.contains("was there before"), "{printed}");
    assert_eq!(get(&plane, "crd", NADS)["metadata"]["labels"]["app.kubernetes.io/name"], "braid");
}

#[test]
fn the_node_role_goes_first_and_has_its_rights_as_long_as_it_goes() {
    if !possible() {
        return;
    }
    let plane = ControlPlane::start().unwrap();
    upgrade(&plane, &[]).unwrap();
    thread::scope(|scope| {
        let uninstalling = scope.spawn(|| helm(&plane, &["uninstall", "braid", "--timeout", "2m"]));
        wait::until("the Job is there", || Ok(!get(&plane, "job", "braid-uninstall").is_null())).unwrap();
        for (kind, name) in [
            ("daemonset", "braid-node"),
            ("role", "braid-node"),
            ("rolebinding", "braid-node"),
            ("clusterrole", "braid-node"),
            ("serviceaccount", "braid-node"),
            ("deployment", "braid-controller"),
            ("rolebinding", "braid-uninstall"),
        ] {
            let object = get(&plane, kind, name);
            assert!(object.is_object() && object["metadata"]["deletionTimestamp"].is_null(), "{kind} {name}");
        }
        // Its pod would delete the DaemonSet; here nobody runs it.
        end_the_job(&plane).unwrap();
        uninstalling.join().unwrap().unwrap();
    });
    for (kind, name) in [("daemonset", "braid-node"), ("role", "braid-node"), ("role", "braid-uninstall")] {
        assert_eq!(get(&plane, kind, name), Value::Null);
    }
}

/// What the Job's controller writes. API servers from 1.31 on refuse a Job that is complete without the rest of it.
fn end_the_job(plane: &ControlPlane) -> Result<()> {
    let jobs: Api<Job> = Api::namespaced(plane.client(&User::admin())?, NAMESPACE);
    let now = k8s_openapi::jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let condition = |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": now});
    let conditions = ["SuccessCriteriaMet", "Complete"].map(condition);
    let status = json!({"status": {
        "succeeded": 1, "startTime": now, "completionTime": now, "conditions": conditions,
    }});
    plane.block_on(jobs.patch_status("braid-uninstall", &PatchParams::default(), &Patch::Merge(&status)))?;
    Ok(())
}
