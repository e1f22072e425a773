//! Pods: their facts on the node, and what they got in the API.

use std::time::Duration;

use cni::npwg::NETWORKS;
use e2e::control_plane::User;
use e2e::wait;
use store::pod::PodFacts;

use crate::scene::{Scene, possible};

#[test]
fn a_pod_is_told_what_it_really_got_and_leaves_nothing_behind() {
    if !possible() {
        return;
    }
    let scene = Scene::start().unwrap();
    scene.put_bridge("storage", 1).unwrap();
    scene.put_bridge("fabric", 2).unwrap();
    scene.wait_for_network("fabric").unwrap();
    let pod = scene.put_pod("web", "storage, fabric@fab0").unwrap();
    let facts = || PodFacts::read(&scene.node.directory(), "default", "web");
    wait::until("the pod's facts are on the node", || Ok(facts()?.is_some())).unwrap();
    assert_eq!(facts().unwrap().unwrap().annotations[NETWORKS], "storage, fabric@fab0");
    scene.node.add(&pod).unwrap();
    let status = scene.wait_for_status(&pod, &["eth0", "net1", "fab0"]).unwrap();
    assert_eq!(status[0]["default"], true);
    assert_eq!(status[1]["name"], "default/storage");
    wait::until("an event tells of it", || {
        let events =
            scene.plane.kubectl(&User::admin(), &["get", "events", "-o", "jsonpath={.items[*].message}"])?;
        Ok(events.contains("net1") && events.contains("default/fabric"))
    })
    .unwrap();
    scene.node.del(&pod).unwrap();
    scene.delete_pod("web").unwrap();
    wait::until("the pod's facts are gone", || Ok(facts()?.is_none())).unwrap();
    wait::until("nothing is left", || Ok(scene.node.leftovers()?.is_empty())).unwrap();
}

#[test]
fn each_pod_of_a_name_is_told_what_it_got_itself_and_a_new_sandbox_what_is_new() {
    if !possible() {
        return;
    }
    let scene = Scene::start().unwrap();
    scene.put_bridge("storage", 1).unwrap();
    scene.wait_for_network("storage").unwrap();
    let mut before = None;
    for _ in 0..3 {
        let pod = scene.put_pod("db-0", "storage").unwrap();
        scene.node.add(&pod).unwrap();
        let status = scene.wait_for_status(&pod, &["eth0", "net1"]).unwrap();
        assert_ne!(before.as_ref(), Some(&status), "each has addresses of its own");
        before = Some(status);
        // The old sandbox goes after the new pod of the name has come, as it may on a busy node.
        scene.delete_pod("db-0").unwrap();
        let next = scene.put_pod("db-0", "storage").unwrap();
        scene.node.add(&next).unwrap();
        scene.node.del(&pod).unwrap();
        scene.wait_for_status(&next, &["eth0", "net1"]).unwrap();
        // The same pod gets another sandbox, as after a crash of the first.
        let mut again = e2e::node::Pod::new("db-0", "storage").unwrap();
        again.uid.clone_from(&next.uid);
        scene.node.del(&next).unwrap();
        scene.node.add(&again).unwrap();
        scene.wait_for_status(&again, &["eth0", "net1"]).unwrap();
        scene.node.del(&again).unwrap();
        scene.delete_pod("db-0").unwrap();
    }
}

#[test]
fn what_happened_while_the_role_was_down_is_told_when_it_is_back_and_only_once() {
    if !possible() {
        return;
    }
    let mut scene = Scene::start().unwrap();
    scene.put_bridge("storage", 1).unwrap();
    scene.wait_for_network("storage").unwrap();
    scene.role.take().unwrap().kill().unwrap();
    let pod = scene.put_pod("web", "storage").unwrap();
    scene.node.add(&pod).unwrap();
    assert!(scene.network_status("web").unwrap().is_none());
    for _ in 0..2 {
        scene.start_role(&User::admin(), &[]).unwrap();
        scene.wait_for_status(&pod, &["eth0", "net1"]).unwrap();
        scene.role.as_mut().unwrap().wait_until_ready().unwrap();
        assert!(scene.role.take().unwrap().stop().unwrap().success());
    }
    let patches = scene.plane.requests().unwrap();
    let patches: Vec<_> = patches.iter().filter(|request| request.resource == "pods/status").collect();
    assert_eq!(patches.len(), 1, "{patches:?}");
}

#[test]
fn a_pod_that_is_gone_for_good_is_given_up_and_the_next_run_frees_what_it_had() {
    if !possible() {
        return;
    }
    let scene = Scene::start().unwrap();
    scene.put_bridge("storage", 1).unwrap();
    scene.wait_for_network("storage").unwrap();
    let gone = scene.put_pod("gone", "storage").unwrap();
    scene.node.add(&gone).unwrap();
    scene.wait_for_status(&gone, &["eth0", "net1"]).unwrap();
    assert_eq!(scene.node.reservations().unwrap().len(), 2);
    // As after a runtime that has lost its state: no sandbox, no DEL, no pod.
    scene.delete_pod("gone").unwrap();
    let record = |pod: &e2e::node::Pod| scene.node.record(pod).unwrap();
    let id = gone.container_id.clone();
    let kept = e2e::node::Pod { container_id: id, ..e2e::node::Pod::new("kept", "").unwrap() };
    drop(gone);
    // It may only be late: it is given up after a minute.
    wait::within(Duration::from_secs(120), "it is given up", || {
        Ok(record(&kept).is_some_and(|record| record.abandoned.is_some()))
    })
    .unwrap();
    wait::until("an event tells of it", || {
        let events = scene
            .plane
            .kubectl(&User::admin(), &["get", "events", "-A", "-o", "jsonpath={.items[*].reason}"])?;
        Ok(events.contains("AttachmentAbandoned"))
    })
    .unwrap_or_else(|error| panic!("{error}; the role logged:\n{}", scene.role().log()));
    let other = scene.put_pod("other", "").unwrap();
    scene.node.add(&other).unwrap();
    wait::until("the next run has freed it", || Ok(record(&kept).is_none())).unwrap();
    assert_eq!(scene.node.reservations().unwrap().len(), 1, "the other pod's own");
    scene.node.del(&other).unwrap();
}
