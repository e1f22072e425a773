//! The startup taint: it stays until the node's report says that the node is ready, and only it goes.

use e2e::control_plane::User;
use e2e::rights::{permitted, refused, used};
use e2e::{source, wait};
use serde_json::json;

use crate::scene::{Scene, possible};

const KEY: &str = "braid.dev/not-ready";
const TAINTS: &str = "{.spec.taints[*].key}";
/// That of the scene, and that which the API server gives to every new Node.
const OTHERS: &str = "example.org/gpu node.kubernetes.io/not-ready";

/// A Node that somebody else taints, too. Its kubelet has told its boot.
fn put_node(scene: &Scene, name: &str) {
    let node = json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": name},
        "spec": {"taints": [
            {"key": KEY, "effect": "NoSchedule"},
            {"key": "example.org/gpu", "value": "yes", "effect": "NoExecute"},
        ]},
        "status": {"nodeInfo": {
            "bootID": "boot-1", "machineID": "", "systemUUID": "", "kernelVersion": "", "osImage": "",
            "containerRuntimeVersion": "", "kubeletVersion": "", "kubeProxyVersion": "", "operatingSystem": "linux",
            "architecture": "amd64",
        }},
    });
    scene.apply(&node).unwrap();
}

/// The report as the node role writes it.
fn put_report(scene: &Scene, name: &str, boot: &str, ready: &str, since: u32) {
    let report = json!({
        "apiVersion": "braid.dev/v1alpha1", "kind": "NodeReport", "metadata": {"name": name},
        "report": {"version": "test", "bootID": boot, "attachments": {}, "conditions": [{
            "type": "Ready", "status": ready, "reason": "Test", "message": "",
            "lastTransitionTime": format!("2026-01-01T00:00:{since:02}Z"),
        }]},
    });
    scene.apply_as("braid", &report).unwrap();
}

/// What the leader says of a Node's taint; empty if it knows of none.
fn reason(scene: &Scene, name: &str) -> anyhow::Result<String> {
    let (_, state) = scene.replicas[0].get("/state")?;
    let state: serde_json::Value = serde_json::from_str(&state)?;
    Ok(state["startupTaints"][name].as_str().unwrap_or_default().to_owned())
}

fn wait_for_reason(scene: &Scene, name: &str, part: &str) {
    let says = || Ok(reason(scene, name)?.contains(part));
    wait::until(&format!("the taint of {name} stays: {part}"), says).unwrap();
    assert_eq!(scene.part(&["node", name], TAINTS).unwrap(), format!("{KEY} {OTHERS}"));
}

fn scene() -> Scene {
    let mut scene = Scene::new().unwrap();
    scene.plane.apply(&source("deploy/manifests/parts/rbac-startup-taint.yaml")).unwrap();
    scene.start_replica(&["--webhook-address", "127.0.0.1:0", "--startup-taint", KEY]).unwrap();
    scene
}

#[test]
fn the_startup_taint_goes_with_a_report_of_this_boot_and_the_taints_of_others_stay() {
    if !possible() {
        return;
    }
    let scene = scene();
    put_node(&scene, "n1");
    wait_for_reason(&scene, "n1", "has not reported yet");
    put_report(&scene, "n1", "boot-1", "False", 1);
    wait_for_reason(&scene, "n1", "not ready");
    put_report(&scene, "n1", "boot-0", "True", 2);
    wait_for_reason(&scene, "n1", "another boot");
    put_report(&scene, "n1", "boot-1", "True", 3);
    scene.wait_for_part(&["node", "n1"], TAINTS, OTHERS).unwrap();
    assert_eq!(scene.part(&["node", "n1"], "{.spec.taints[0].value}").unwrap(), "yes");
    wait::until("nothing is left to be told", || Ok(reason(&scene, "n1")?.is_empty())).unwrap();

    let user = scene.user().unwrap();
    assert_eq!(refused(&scene.plane, &user).unwrap(), []);
    let needed = permitted(&scene.plane, &["braid-controller-startup-taint"]).unwrap();
    assert!(needed.is_subset(&used(&scene.plane, &user).unwrap()), "{needed:?}");
}

#[test]
fn the_api_server_refuses_a_patch_made_from_taints_that_have_changed_since() {
    if !possible() {
        return;
    }
    let scene = Scene::new().unwrap();
    put_node(&scene, "n1");
    // What the controller would write had it read the Node before somebody else tainted it.
    let patch = json!([
        {"op": "test", "path": "/spec/taints", "value": [{"key": KEY, "effect": "NoSchedule"}]},
        {"op": "remove", "path": "/spec/taints/0"},
    ]);
    let arguments = ["patch", "node", "n1", "--type=json", "-p", &patch.to_string()];
    scene.plane.kubectl(&User::admin(), &arguments).unwrap_err();
    assert_eq!(scene.part(&["node", "n1"], TAINTS).unwrap(), format!("{KEY} {OTHERS}"));
    // The code that the controller takes for "read it again".
    let patches = || {
        let requests = scene.plane.requests_of(&User::admin())?;
        Ok(requests.iter().any(|request| request.verb == "patch" && request.code == Some(422)))
    };
    wait::until("the refusal is 422", patches).unwrap();
}

#[test]
fn the_report_of_an_older_node_with_the_same_name_does_not_count() {
    if !possible() {
        return;
    }
    let scene = scene();
    // Of a machine that shared its kernel, and so its boot, with the one that comes under its name.
    put_report(&scene, "n1", "boot-1", "True", 1);
    let written = scene.part(&["nodereport", "n1"], "{.metadata.creationTimestamp}").unwrap();
    // Times of the API server are whole seconds: the new Node has to be younger to be told from the old one.
    wait::until("the Node is younger than the report", || {
        put_node(&scene, "n1");
        let younger = scene.part(&["node", "n1"], "{.metadata.creationTimestamp}")? > written;
        if !younger {
            scene.plane.kubectl(&User::admin(), &["delete", "node", "n1"])?;
        }
        Ok(younger)
    })
    .unwrap();
    wait_for_reason(&scene, "n1", "older than its Node");
    // It becomes the new Node's property; that does not make it any newer.
    scene.wait_for_part(&["nodereport", "n1"], "{.metadata.ownerReferences[0].name}", "n1").unwrap();
    wait_for_reason(&scene, "n1", "older than its Node");
    // The node role starts there, too.
    put_report(&scene, "n1", "boot-1", "True", 2);
    scene.wait_for_part(&["node", "n1"], TAINTS, OTHERS).unwrap();
}
