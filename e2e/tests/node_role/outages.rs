//! The API server comes late, goes, comes back, and forgets.

use e2e::control_plane::User;
use e2e::wait;
use store::pod::PodFacts;

use crate::scene::{Scene, possible};

#[test]
fn pods_start_while_the_api_server_is_away_and_are_told_of_when_it_is_back() {
    if !possible() {
        return;
    }
    let scene = Scene::start().unwrap();
    scene.put_bridge("storage", 1).unwrap();
    scene.wait_for_network("storage").unwrap();
    let pod = scene.put_pod("web", "storage").unwrap();
    scene.plane.kill_api_server().unwrap();
    scene.node.add(&pod).unwrap();
    scene.plane.start_api_server().unwrap();
    scene.wait_for_status(&pod, &["eth0", "net1"]).unwrap();
    scene.node.del(&pod).unwrap();
}

#[test]
fn what_changed_while_no_watch_could_be_resumed_is_made_up_for() {
    if !possible() {
        return;
    }
    let scene = Scene::start().unwrap();
    for name in ["kept", "gone", "changed"] {
        scene.put_network(name, r#"{"type":"bridge"}"#).unwrap();
    }
    scene.wait_for_network("changed").unwrap();
    scene.put_pod("early", "kept").unwrap();
    let facts = |name| PodFacts::read(&scene.node.directory(), "default", name);
    wait::until("the pod is known", || Ok(facts("early")?.is_some())).unwrap();
    // The role hears nothing from now on, and the API server will not know its version any more.
    scene.role().send(rustix::process::Signal::STOP).unwrap();
    scene.delete_network("gone").unwrap();
    scene.put_network("changed", r#"{"type":"macvlan"}"#).unwrap();
    scene.put_network("new", r#"{"type":"ptp"}"#).unwrap();
    scene.delete_pod("early").unwrap();
    scene.put_pod("late", "kept").unwrap();
    scene.plane.kill_api_server().unwrap();
    scene.plane.compact_etcd().unwrap();
    scene.plane.start_api_server().unwrap();
    scene.role().send(rustix::process::Signal::CONT).unwrap();
    scene.wait_for_network("new").unwrap();
    wait::until("the rest is made up for", || {
        let changed = scene.rendered("changed").unwrap().generation == Some(2);
        let pods = facts("late")?.is_some() && facts("early")?.is_none();
        Ok(changed && pods && scene.rendered("gone").is_none() && scene.rendered("kept").is_some())
    })
    .unwrap();
}

#[test]
fn the_role_starts_before_the_api_server_and_says_what_it_waits_for() {
    if !possible() {
        return;
    }
    let mut scene = Scene::without_role().unwrap();
    scene.put_network("storage", r#"{"type":"bridge"}"#).unwrap();
    scene.plane.stop_api_server().unwrap();
    scene.start_role(&User::admin(), &[]).unwrap();
    wait::until("it serves", || Ok(scene.role().get("/livez").is_ok_and(|(code, _)| code == 200))).unwrap();
    let (code, reasons) = scene.role().get("/readyz").unwrap();
    assert_eq!(code, 503);
    assert!(reasons.contains("networks"), "{reasons}");
    assert!(!scene.node.file("net.d/00-braid.conflist").exists(), "not before the first sync");
    scene.plane.start_api_server().unwrap();
    scene.role.as_mut().unwrap().wait_until_ready().unwrap();
    assert!(scene.rendered("storage").is_some());
    assert!(scene.node.file("net.d/00-braid.conflist").exists());
}
