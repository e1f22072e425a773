//! What the controller says of networks, and the nodes' reports.

use std::time::Duration;

use e2e::control_plane::User;
use e2e::memory::resident;
use e2e::{large, wait};
use serde_json::json;

use crate::scene::{Scene, possible};

const NO_WEBHOOK: &[&str] = &["--webhook-address", "127.0.0.1:0"];

/// As in the chart's `values.yaml`.
const CONTROLLER_MAY_HAVE_KIB: u64 = 128 * 1024;

fn node_and_report(scene: &Scene, name: &str) {
    scene.apply(&json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})).unwrap();
    let report = json!({
        "apiVersion": "braid.dev/v1alpha1", "kind": "NodeReport", "metadata": {"name": name},
        "report": {
            "version": "test", "networks": {"default/good": 1},
            "attachments": {"pods": 2, "networks": {"default/good": 2}, "unfinished": 0, "abandoned": 0},
        },
    });
    scene.apply(&report).unwrap();
}

#[test]
fn networks_are_judged_and_the_nodes_reports_summed_up_adopted_and_removed() {
    if !possible() {
        return;
    }
    let mut scene = Scene::new().unwrap();
    scene.put_network("default", "good", r#"{"type":"bridge"}"#).unwrap();
    scene.put_network("default", "bad", r#"{"cniVersion":"9.9.9","type":"bridge"}"#).unwrap();
    for name in ["n1", "n2"] {
        node_and_report(&scene, name);
    }
    scene.start_replica(NO_WEBHOOK).unwrap();
    let accepted = r#"{.status.conditions[?(@.type=="Accepted")].status}"#;
    scene.wait_for_part(&["nad", "good"], accepted, "True").unwrap();
    scene.wait_for_part(&["nad", "bad"], accepted, "False").unwrap();
    let sums = "{.status.nodes.ready}/{.status.nodes.total} {.status.pods} {.status.observedGeneration}";
    scene.wait_for_part(&["nad", "good"], sums, "2/2 4 1").unwrap();
    let reason =
        scene.part(&["nad", "bad"], r#"{.status.conditions[?(@.type=="Accepted")].message}"#).unwrap();
    assert!(reason.contains("9.9.9"), "{reason}");
    let events = r#"{.items[?(@.reason=="NetworkInvalid")].involvedObject.name}"#;
    scene.wait_for_part(&["events"], events, "bad").unwrap();
    scene.wait_for_part(&["nodereport", "n1"], "{.metadata.ownerReferences[0].name}", "n1").unwrap();

    scene.put_network("default", "bad", r#"{"cniVersion":"1.0.0","type":"bridge"}"#).unwrap();
    scene.wait_for_part(&["nad", "bad"], accepted, "True").unwrap();
    scene.plane.kubectl(&User::admin(), &["delete", "node", "n2"]).unwrap();
    // After 30 s of grace.
    let gone = || Ok(scene.part(&["nodereport"], "{.items[*].metadata.name}")? == "n1");
    wait::within(Duration::from_secs(60), "the report of a node that is gone is removed", gone).unwrap();
    scene.wait_for_part(&["nad", "good"], sums, "1/1 2 1").unwrap();
    let table = scene.plane.kubectl(&User::admin(), &["get", "nad"]).unwrap();
    let row = table.lines().find(|line| line.starts_with("good")).unwrap();
    assert_eq!(row.split_whitespace().take(4).collect::<Vec<_>>(), ["good", "True", "1", "2"], "{table}");
}

#[test]
fn where_another_owner_has_installed_networks_without_status_everything_else_works() {
    if !possible() {
        return;
    }
    let mut scene = Scene::new().unwrap();
    let patch = json!([{"op": "remove", "path": "/spec/versions/0/subresources"}]).to_string();
    let crd = "network-attachment-definitions.k8s.cni.cncf.io";
    scene.plane.kubectl(&User::admin(), &["patch", "crd", crd, "--type=json", "-p", &patch]).unwrap();
    scene.put_network("default", "bad", "{}").unwrap();
    node_and_report(&scene, "n1");
    scene.start_replica(NO_WEBHOOK).unwrap();
    scene.wait_for_part(&["nodereport", "n1"], "{.metadata.ownerReferences[0].name}", "n1").unwrap();
    let events = r#"{.items[?(@.reason=="NetworkInvalid")].involvedObject.name}"#;
    scene.wait_for_part(&["events"], events, "bad").unwrap();
    let without = || {
        let (_, state) = scene.replicas[0].get("/state")?;
        Ok(serde_json::from_str::<serde_json::Value>(&state)?["statusSubresource"] == false)
    };
    wait::until("it is known that there is no status", without).unwrap();
    assert_eq!(scene.part(&["nad", "bad"], "{.status}").unwrap(), "");
}

#[test]
fn networks_as_large_as_can_be_made_fit_into_the_memory_that_the_role_may_have() {
    if !possible() {
        return;
    }
    let mut scene = Scene::new().unwrap();
    large::make_networks(&scene.plane).unwrap();
    let made = large::USABLE + large::TOO_LONG;
    // Two watches of all networks: for the webhook, and for the conditions.
    scene.start_with_webhook(&[]).unwrap();
    let written = || scene.replicas[0].metric(r#"braid_status_writes_total{outcome="ok"}"#);
    wait::within(Duration::from_secs(120), "each has been judged", || {
        Ok(written()?.is_some_and(|written| written >= f64::from(made)))
    })
    .unwrap();
    let accepted = r#"{.status.conditions[?(@.type=="Accepted")].status}"#;
    for (name, expected) in [("dense-0", "True"), ("labelled-0", "True"), ("long-0", "False")] {
        scene.wait_for_part(&["nad", name], accepted, expected).unwrap();
    }
    let (peak, _) = resident(scene.replicas[0].id()).unwrap();
    assert!(peak < CONTROLLER_MAY_HAVE_KIB, "{peak} KiB");
}
