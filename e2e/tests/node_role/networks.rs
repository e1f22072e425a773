//! Networks of the API server on the node.

use e2e::control_plane::User;
use e2e::wait;
use store::network::{Outcome, RenderedNetwork};
use store::node::NodeFacts;

use crate::scene::{NODE, Scene, possible};

#[test]
fn a_network_is_made_changed_broken_mended_and_deleted_on_the_node_as_in_the_api() {
    if !possible() {
        return;
    }
    let scene = Scene::start().unwrap();
    assert!(NodeFacts::read(&scene.node.directory()).unwrap().is_some(), "an empty list is complete too");
    scene.put_network("storage", r#"{"type":"bridge"}"#).unwrap();
    scene.wait_for_network("storage").unwrap();
    scene.put_network("storage", r#"{"type":"macvlan"}"#).unwrap();
    wait::until("the change is on the node", || {
        let list = match scene.rendered("storage").unwrap().outcome {
            Outcome::Ready { list } => list,
            other => panic!("{other:?}"),
        };
        Ok(list.plugins[0].plugin().as_str() == "macvlan")
    })
    .unwrap();
    scene.put_network("storage", r#"{"kind":"macvlan"}"#).unwrap();
    wait::until("the mistake is on the node", || {
        Ok(matches!(scene.rendered("storage").unwrap().outcome, Outcome::Refused { reason } if reason.contains("type")))
    })
    .unwrap();
    let report = || {
        let path =
            ["get", "nodereport", NODE, "-o", "jsonpath={.report.refused[0].network} {.report.networks}"];
        scene.plane.kubectl(&User::admin(), &path)
    };
    wait::until("the report names it", || Ok(report().unwrap_or_default().trim() == "default/storage"))
        .unwrap();
    scene.put_network("storage", r#"{"type":"bridge"}"#).unwrap();
    scene.wait_for_network("storage").unwrap();
    wait::until(
        "the report has it",
        || Ok(report().unwrap_or_default().trim() == r#"{"default/storage":4}"#),
    )
    .unwrap();
    scene.delete_network("storage").unwrap();
    wait::until("the file is gone", || Ok(scene.rendered("storage").is_none())).unwrap();
}

#[test]
fn a_thousand_networks_are_all_there_and_what_went_while_the_role_was_down_is_gone() {
    if !possible() {
        return;
    }
    let mut scene = Scene::without_role().unwrap();
    scene.fill(1000).unwrap();
    scene.start_role(&User::admin(), &[]).unwrap();
    scene.role.as_mut().unwrap().wait_until_ready().unwrap();
    let all = || RenderedNetwork::list(&scene.node.directory()).unwrap().len();
    assert_eq!(all(), 1000, "ready means complete");
    scene.role.take().unwrap().kill().unwrap();
    scene.delete_network("n-7").unwrap();
    scene.put_network("n-8", r#"{"type":"macvlan"}"#).unwrap();
    assert!(scene.rendered("n-7").is_some(), "nobody has touched it");
    scene.start_role(&User::admin(), &[]).unwrap();
    wait::until("the difference is made up for", || {
        let changed = scene.rendered("n-8").unwrap().generation == Some(2);
        Ok(changed && scene.rendered("n-7").is_none())
    })
    .unwrap();
}
