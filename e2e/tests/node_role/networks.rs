//! Networks of the API server on the node.

use e2e::control_plane::{Request, User};
use e2e::memory::resident;
use e2e::{large, wait};
use serde_json::json;
use store::network::{Outcome, RenderedNetwork};
use store::node::NodeFacts;

use crate::scene::{NODE, Scene, possible};

/// As in the chart's `values.yaml`.
const NODE_ROLE_MAY_HAVE_KIB: u64 = 64 * 1024;

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
    let boot = ["get", "nodereport", NODE, "-o", "jsonpath={.report.bootID}"];
    assert_eq!(scene.plane.kubectl(&User::admin(), &boot).unwrap(), store::boot::boot_id());
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

#[test]
fn a_report_that_somebody_deletes_is_written_again_and_looking_for_it_changes_nothing() {
    if !possible() {
        return;
    }
    let scene = Scene::start().unwrap();
    let kubectl = |words: &[&str]| scene.plane.kubectl(&User::admin(), words);
    let of_report = |path: &str| kubectl(&["get", "nodereport", NODE, "--ignore-not-found", "-o", path]);
    let version = || of_report("jsonpath={.metadata.resourceVersion}");
    wait::until("the node is told to be ready", || {
        Ok(of_report("jsonpath={.report.conditions[0].status}").unwrap_or_default() == "True")
    })
    .unwrap();
    let before = version().unwrap();
    // With a report every second, ten seconds apart.
    wait::until("the role looks twice", || {
        let is_look = |it: &Request| {
            it.verb == "patch" && it.resource == "nodereports" && !it.path.contains("fieldManager")
        };
        let requests = scene.plane.requests_of(&User::admin())?;
        Ok(requests.iter().filter(|it| is_look(it) && it.code == Some(200)).count() >= 2)
    })
    .unwrap();
    assert_eq!(version().unwrap(), before);
    kubectl(&["delete", "nodereport", NODE]).unwrap();
    wait::until("the report is there again", || Ok(!version()?.is_empty())).unwrap();
}

#[test]
fn a_pod_of_a_network_that_the_rules_do_not_permit_is_told_so_by_the_node() {
    if !possible() {
        return;
    }
    let mut scene = Scene::without_role().unwrap();
    let rules = scene.node.file("permissions.json");
    let pools = scene.node.file("ipam");
    let rule = json!({"namespaces": ["default"], "plugins": ["bridge", "host-local"], "interfaces": ["br1"],
        "paths": [pools]});
    std::fs::write(&rules, json!({"rules": [rule]}).to_string()).unwrap();
    scene.start_role(&User::admin(), &["--permissions", rules.to_str().unwrap()]).unwrap();
    scene.role.as_mut().unwrap().wait_until_ready().unwrap();
    scene.put_bridge("good", 1).unwrap();
    scene.put_bridge("bad", 2).unwrap();
    scene.wait_for_network("good").unwrap();
    wait::until("the other one is refused", || {
        Ok(scene.rendered("bad").is_some_and(|network| matches!(network.outcome, Outcome::Refused { .. })))
    })
    .unwrap();
    let pod = scene.put_pod("one", "good").unwrap();
    scene.node.add(&pod).unwrap();
    scene.node.del(&pod).unwrap();
    let pod = scene.put_pod("other", "bad").unwrap();
    let refusal = scene.node.add(&pod).unwrap_err().to_string();
    assert!(
        refusal.contains("networks of namespace default may not use interface \"br2\" of the host"),
        "{refusal}"
    );
    scene.node.del(&pod).unwrap();
}

#[test]
fn networks_as_large_as_can_be_made_fit_into_the_memory_that_the_role_may_have() {
    if !possible() {
        return;
    }
    let mut scene = Scene::without_role().unwrap();
    large::make_networks(&scene.plane).unwrap();
    let made = large::USABLE + large::TOO_LONG;
    scene.start_role(&User::admin(), &[]).unwrap();
    scene.role.as_mut().unwrap().wait_until_ready().unwrap();
    let all = RenderedNetwork::list(&scene.node.directory()).unwrap();
    assert_eq!(all.len(), usize::try_from(made).unwrap(), "none is passed over");
    let refused = |name: &str| match scene.rendered(name).unwrap().outcome {
        Outcome::Refused { reason } => Some(reason),
        _ => None,
    };
    assert!(refused("long-0").unwrap().contains("none of more than 131072 is read"));
    assert_eq!((refused("dense-0"), refused("labelled-0")), (None, None), "what is only long works");
    // By itself each comes as an event, too.
    scene.put_network("dense-0", r#"{"type":"macvlan"}"#).unwrap();
    scene.wait_for_network("dense-0").unwrap();
    let (peak, _) = resident(scene.role().id()).unwrap();
    assert!(peak < NODE_ROLE_MAY_HAVE_KIB, "{peak} KiB");
}
