//! What the role may do: exactly what it does. It runs as its service account, with the rights that are shipped.

use e2e::control_plane::User;
use e2e::rights::{permitted, refused, used};
use e2e::{source, wait};

use crate::scene::{Scene, possible};

#[test]
fn the_role_needs_every_right_that_is_shipped_and_no_other() {
    if !possible() {
        return;
    }
    let mut scene = Scene::without_role().unwrap();
    scene.plane.apply(&source("deploy/manifests/parts/rbac-node.yaml")).unwrap();
    let user = scene.plane.service_account("braid-system", "braid-node").unwrap();
    scene.start_role(&user, &["--daemonset", "braid-system/braid-node"]).unwrap();
    scene.role.as_mut().unwrap().wait_until_ready().unwrap();
    scene.put_bridge("storage", 1).unwrap();
    scene.wait_for_network("storage").unwrap();
    let pod = scene.put_pod("web", "storage").unwrap();
    scene.node.add(&pod).unwrap();
    scene.wait_for_status(&pod, &["eth0", "net1"]).unwrap();
    wait::until("the events and the report are written", || {
        let reports = scene.plane.kubectl(&User::admin(), &["get", "nodereports", "-o", "name"])?;
        let events = scene.plane.kubectl(&User::admin(), &["get", "events", "-o", "name"])?;
        Ok(!reports.is_empty() && !events.is_empty())
    })
    .unwrap();
    scene.node.del(&pod).unwrap();
    let configuration = scene.node.file("net.d/00-braid.conflist");
    assert!(configuration.exists());
    // There is no DaemonSet: it was deleted, and the primary serves the node again.
    assert!(scene.role.take().unwrap().stop().unwrap().success());
    assert!(!configuration.exists());

    assert_eq!(refused(&scene.plane, &user).unwrap(), []);
    let mut done = used(&scene.plane, &user).unwrap();
    // Server-side apply of what is not there yet is a creation to RBAC and a patch to the audit log.
    done.insert("braid.dev/nodereports create".to_owned());
    let permitted = permitted(&scene.plane, &["braid-node", "braid-system/braid-node"]).unwrap();
    let needless: Vec<_> = permitted.difference(&done).collect();
    assert!(needless.is_empty(), "permitted and not used: {needless:?}");
}

#[test]
fn without_a_right_the_role_says_which_one() {
    if !possible() {
        return;
    }
    let mut scene = Scene::without_role().unwrap();
    scene.plane.apply(&source("deploy/manifests/parts/rbac-node.yaml")).unwrap();
    let user = scene.plane.service_account("braid-system", "braid-node").unwrap();
    scene.plane.kubectl(&User::admin(), &["delete", "clusterrolebinding", "braid-node"]).unwrap();
    scene.start_role(&user, &[]).unwrap();
    wait::until("it says so", || {
        let (code, reasons) = scene.role().get("/readyz").unwrap_or_default();
        Ok(code == 503 && reasons.contains("RBAC has to permit Braid to list and watch the networks"))
    })
    .unwrap();
}

#[test]
fn in_a_pod_the_role_uses_the_pods_own_account() {
    if !possible() {
        return;
    }
    let mut scene = Scene::without_role().unwrap();
    scene.plane.apply(&source("deploy/manifests/parts/rbac-node.yaml")).unwrap();
    let user = scene.plane.service_account("braid-system", "braid-node").unwrap();
    scene.start_role_in_pod(&user).unwrap();
    scene.role.as_mut().unwrap().wait_until_ready().unwrap();
    let requests = scene.plane.requests_of(&user).unwrap();
    assert!(requests.iter().any(|request| request.resource == "network-attachment-definitions"));
}
