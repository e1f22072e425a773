//! Braid is taken away from a node while pods run, comes back, and is taken away for good.

use std::fs;

use e2e::control_plane::User;
use e2e::wait;
use serde_json::Value;

use crate::scene::{Scene, possible};

/// The plugin of the configuration that the runtime takes now; `None` where it is not ours.
fn plugin(scene: &Scene) -> Option<Value> {
    let text = fs::read(scene.node.file("net.d/00-braid.conflist")).ok()?;
    let list: Value = serde_json::from_slice(&text).unwrap();
    Some(list["plugins"][0].clone())
}

/// From now on the runtime calls with the configuration that is there.
fn reload(scene: &mut Scene) {
    scene.node.settings.clone_from(plugin(scene).unwrap().as_object().unwrap());
}

fn start(scene: &mut Scene) {
    // There is no such DaemonSet: when the role ends, it has been deleted.
    scene.start_role(&User::admin(), &["--daemonset", "braid-system/braid-node"]).unwrap();
    scene.role.as_mut().unwrap().wait_until_ready().unwrap();
}

fn stop(scene: &mut Scene) {
    assert!(scene.role.take().unwrap().stop().unwrap().success());
}

#[test]
fn a_node_that_braid_leaves_keeps_its_pods_whole_until_the_last_of_them_is_gone() {
    if !possible() {
        return;
    }
    let mut scene = Scene::without_role().unwrap();
    start(&mut scene);
    reload(&mut scene);
    scene.put_bridge("storage", 1).unwrap();
    scene.wait_for_network("storage").unwrap();
    let old = scene.put_pod("old", "storage").unwrap();
    scene.node.add(&old).unwrap();
    stop(&mut scene);
    assert_eq!(plugin(&scene).unwrap()["retired"], true);

    reload(&mut scene);
    let between = scene.put_pod("between", "storage").unwrap();
    scene.node.add(&between).unwrap();
    assert!(scene.node.record(&between).unwrap().is_none(), "it has the primary alone");
    assert!(!between.netns.links().unwrap().contains("net1"));

    start(&mut scene);
    assert_eq!(plugin(&scene).unwrap().get("retired"), None, "Braid is back");
    reload(&mut scene);
    scene.node.del(&between).unwrap();
    let new = scene.put_pod("new", "storage").unwrap();
    scene.node.add(&new).unwrap();
    assert!(new.netns.links().unwrap().contains("net1"));
    stop(&mut scene);

    reload(&mut scene);
    scene.node.del(&old).unwrap();
    assert_eq!(plugin(&scene).unwrap()["retired"], true, "one is left");
    scene.node.del(&new).unwrap();
    assert_eq!(plugin(&scene), None, "the runtime takes the primary's by itself");
    wait::until("nothing is left", || Ok(scene.node.leftovers()?.is_empty())).unwrap();
}
