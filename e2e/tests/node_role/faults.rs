//! What may happen to an API server besides being away: silence, other credentials, data that goes back.

use std::fs;
use std::time::Duration;

use e2e::control_plane::User;
use e2e::{source, wait};

use crate::scene::{Scene, possible};

/// A silent watch is noticed after 90 s, and that nobody answers 30 s later.
const SILENCE: Duration = Duration::from_secs(150);
/// Without an error for 90 s, a watch counts as well again.
const WELL: Duration = Duration::from_secs(150);
/// What has failed again and again is tried after a minute at most, and is given up after 10 s.
const RETRY: Duration = Duration::from_secs(75);
/// A watch is tried after up to a minute (30 s and as much jitter), and the CA is read anew then.
const RENEWAL: Duration = Duration::from_secs(75);

fn wait_for_reason(scene: &Scene, patience: Duration, reason: &str) {
    let reasons = || scene.role().get("/readyz").map(|(_, text)| text).unwrap_or_default();
    wait::within(patience, &format!("it says {reason:?}"), || Ok(reasons().contains(reason)))
        .unwrap_or_else(|error| panic!("{error}: {}; it logged:\n{}", reasons(), scene.role().log()));
}

fn wait_for_changes(scene: &Scene, patience: Duration) {
    wait::within(patience, "the network after it comes", || Ok(scene.rendered("after").is_some()))
        .unwrap_or_else(|error| panic!("{error}; it logged:\n{}", scene.role().log()));
}

fn wait_until_ready_again(scene: &Scene, patience: Duration) {
    let ready = || Ok(scene.role().get("/readyz").is_ok_and(|(code, _)| code == 200));
    wait::within(patience, "the role is ready again", ready)
        .unwrap_or_else(|error| panic!("{error}; it logged:\n{}", scene.role().log()));
}

/// The node role's service account, with the rights that are shipped.
fn account(scene: &Scene, secret: &str) -> User {
    scene.plane.apply(&source("deploy/manifests/parts/rbac-node.yaml")).unwrap();
    scene.plane.bound_token("braid-system", "braid-node", secret).unwrap()
}

#[test]
fn a_silent_api_server_stops_no_pod_is_told_and_is_not_overrun_afterwards() {
    if !possible() {
        return;
    }
    let mut scene = Scene::without_role().unwrap();
    let user = account(&scene, "token");
    scene.start_role(&user, &[]).unwrap();
    scene.role.as_mut().unwrap().wait_until_ready().unwrap();
    scene.put_bridge("storage", 1).unwrap();
    scene.wait_for_network("storage").unwrap();
    let pod = scene.put_pod("web", "storage").unwrap();
    let open = || scene.role().metric("process_open_fds").unwrap().unwrap_or_default();
    let before = open();
    scene.plane.pause_api_server().unwrap();
    scene.node.add(&pod).unwrap();
    let mut most = before;
    wait::within(SILENCE, "it says so", || {
        most = most.max(open());
        Ok(scene.role().get("/readyz").is_ok_and(|(code, text)| code == 503 && text.contains("networks")))
    })
    .unwrap_or_else(|error| panic!("{error}; it logged:\n{}", scene.role().log()));
    assert!(most <= before + 8.0, "{before} descriptors became {most}");
    assert_eq!(scene.role().get("/livez").unwrap().0, 200);
    let asked = || scene.plane.requests_of(&user).unwrap().len();
    let asked_before = asked();
    scene.plane.resume_api_server().unwrap();
    wait::within(RETRY, "the pod has a status", || Ok(scene.network_status("web")?.is_some()))
        .unwrap_or_else(|error| panic!("{error}; it logged:\n{}", scene.role().log()));
    scene.wait_for_status(&pod, &["eth0", "net1"]).unwrap();
    scene.put_bridge("after", 2).unwrap();
    wait_for_changes(&scene, Duration::from_secs(60));
    wait_until_ready_again(&scene, WELL);
    // With what the server had taken in while it was silent.
    let asked = asked() - asked_before;
    assert!(asked <= 80, "{asked} requests: {:?}", scene.plane.requests_of(&user).unwrap());
    scene.node.del(&pod).unwrap();
}

#[test]
fn a_token_that_ends_is_followed_by_the_one_that_is_mounted_then() {
    if !possible() {
        return;
    }
    let mut scene = Scene::without_role().unwrap();
    let first = account(&scene, "first");
    scene.start_role_in_pod(&first).unwrap();
    scene.role.as_mut().unwrap().wait_until_ready().unwrap();
    let second = scene.plane.bound_token("braid-system", "braid-node", "second").unwrap();
    scene.plane.kubectl(&User::admin(), &["-n", "braid-system", "delete", "secret", "first"]).unwrap();
    // Watches that were begun would go on with the old one.
    scene.plane.kill_api_server().unwrap();
    scene.plane.start_api_server().unwrap();
    wait_for_reason(&scene, Duration::from_secs(60), "the token is not taken");
    scene.mount("token", second.token()).unwrap();
    wait_until_ready_again(&scene, Duration::from_secs(45));
    scene.put_bridge("after", 1).unwrap();
    scene.wait_for_network("after").unwrap();
}

#[test]
fn a_new_authority_of_the_api_server_is_taken_up_without_a_restart() {
    if !possible() {
        return;
    }
    let mut scene = Scene::without_role().unwrap();
    let user = account(&scene, "token");
    scene.start_role_in_pod(&user).unwrap();
    scene.role.as_mut().unwrap().wait_until_ready().unwrap();
    scene.plane.renew_authority().unwrap();
    wait_for_reason(&scene, Duration::from_secs(60), "is of a CA that this process was not told");
    scene.mount("ca.crt", &fs::read_to_string(scene.plane.authority()).unwrap()).unwrap();
    scene.put_bridge("after", 1).unwrap();
    wait_for_changes(&scene, RENEWAL);
    wait_until_ready_again(&scene, WELL);
}

#[test]
fn a_node_follows_etcd_back_to_a_backup_and_onwards_from_there() {
    if !possible() {
        return;
    }
    let scene = Scene::start().unwrap();
    for (name, number) in [("kept", 1), ("deleted", 2), ("changed", 3)] {
        scene.put_bridge(name, number).unwrap();
        scene.wait_for_network(name).unwrap();
    }
    let pod = scene.put_pod("web", "kept").unwrap();
    scene.plane.back_up("backup").unwrap();
    // All that is forgotten later.
    scene.node.add(&pod).unwrap();
    scene.wait_for_status(&pod, &["eth0", "net1"]).unwrap();
    scene.delete_network("deleted").unwrap();
    scene.put_network("changed", r#"{"type":"macvlan"}"#).unwrap();
    scene.put_bridge("forgotten", 4).unwrap();
    scene.fill(50).unwrap();
    scene.wait_for_network("n-49").unwrap();
    wait::until("the rest has come", || {
        let changed = scene.rendered("changed").unwrap().generation == Some(2);
        Ok(changed && scene.rendered("deleted").is_none() && scene.rendered("forgotten").is_some())
    })
    .unwrap();

    scene.plane.restore("backup").unwrap();
    assert!(scene.network_status("web").unwrap().is_none(), "the API server has forgotten it");
    wait::within(Duration::from_secs(60), "the node is as it was", || {
        let changed = scene.rendered("changed").is_some_and(|network| network.generation == Some(1));
        let forgotten = scene.rendered("forgotten").is_none() && scene.rendered("n-49").is_none();
        Ok(changed && forgotten && scene.rendered("deleted").is_some() && scene.rendered("kept").is_some())
    })
    .unwrap_or_else(|error| panic!("{error}; it logged:\n{}", scene.role().log()));
    scene.put_bridge("after", 5).unwrap();
    scene.wait_for_network("after").unwrap();
    // The watch of pods has pauses of its own.
    wait::within(Duration::from_secs(90), "the pod is told again", || {
        Ok(scene.network_status("web")?.is_some())
    })
    .unwrap_or_else(|error| panic!("{error}; it logged:\n{}", scene.role().log()));
    scene.wait_for_status(&pod, &["eth0", "net1"]).unwrap();
    let report = ["get", "nodereport", crate::scene::NODE, "-o", "jsonpath={.report.networks}"];
    wait::until("the report says so", || {
        let networks = scene.plane.kubectl(&User::admin(), &report).unwrap_or_default();
        Ok(networks.contains("default/after") && !networks.contains("default/forgotten"))
    })
    .unwrap();
    scene.node.del(&pod).unwrap();
}
