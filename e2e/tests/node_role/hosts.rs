//! Hosts that are not as they should be: no primary yet, a full disk, a directory that cannot be written.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use e2e::control_plane::User;
use e2e::program::output;
use e2e::wait;
use serde_json::json;

use crate::scene::{NODE, Scene, possible};

/// What `/readyz` says.
fn reasons(scene: &Scene) -> String {
    scene.role().get("/readyz").map(|(_, text)| text).unwrap_or_default()
}

fn wait_for_reason(scene: &Scene, reason: &str) {
    wait::until(&format!("it says {reason:?}"), || Ok(reasons(scene).contains(reason)))
        .unwrap_or_else(|error| panic!("{error}: {}", reasons(scene)));
}

fn mount(arguments: &[&str], at: &Path) -> Result<()> {
    output(Command::new("mount").args(arguments).arg(at)).map(drop)
}

#[test]
fn the_role_waits_for_the_primary_follows_it_and_keeps_its_configuration_without_it() {
    if !possible() {
        return;
    }
    let mut scene = Scene::without_role().unwrap();
    let (primary, ours) =
        (scene.node.file("net.d/10-primary.conflist"), scene.node.file("net.d/00-braid.conflist"));
    fs::remove_file(&primary).unwrap();
    scene.start_role(&User::admin(), &[]).unwrap();
    wait_for_reason(&scene, "there is no primary network");
    assert!(!ours.exists());
    // A half-written file is none yet.
    fs::write(&primary, r#"{"cniVersion": "1.0.0", "name": "pri"#).unwrap();
    wait_for_reason(&scene, "10-primary.conflist");
    assert!(!ours.exists());
    scene.give_primary().unwrap();
    scene.role.as_mut().unwrap().wait_until_ready().unwrap();
    let text = || fs::read_to_string(&ours).unwrap_or_default();
    assert!(text().contains("meta-cni") && !text().contains("bandwidth"), "{}", text());
    let other = json!({"cniVersion": "1.0.0", "name": "other", "plugins": [
        {"type": "ptp"}, {"type": "bandwidth", "capabilities": {"bandwidth": true}}]});
    scene.node.configure("05-other.conflist", &other).unwrap();
    wait::until("the new primary's capabilities are asked for", || Ok(text().contains("bandwidth"))).unwrap();
    fs::remove_file(scene.node.file("net.d/05-other.conflist")).unwrap();
    fs::remove_file(&primary).unwrap();
    wait_for_reason(&scene, "there is no primary network");
    let told = ["get", "nodereport", NODE, "-o", "jsonpath={.report.primary}{.report.conditions[0].status}"];
    wait::until("the report has no primary any more", || {
        Ok(scene.plane.kubectl(&User::admin(), &told).unwrap_or_default().trim() == "False")
    })
    .unwrap();
    assert!(ours.exists(), "without it, pods would start without their networks when the primary comes back");
}

#[test]
fn a_stop_leaves_everything_in_place_while_the_daemon_set_is_there() {
    if !possible() {
        return;
    }
    let mut scene = Scene::without_role().unwrap();
    let set = json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "braid-node", "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {
            "metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "none"}]}}},
    });
    let mut file = tempfile::NamedTempFile::with_suffix(".json").unwrap();
    std::io::Write::write_all(&mut file, set.to_string().as_bytes()).unwrap();
    scene.plane.apply(file.path()).unwrap();
    let ours = scene.node.file("net.d/00-braid.conflist");
    scene.start_role(&User::admin(), &["--daemonset", "default/braid-node"]).unwrap();
    scene.role.as_mut().unwrap().wait_until_ready().unwrap();
    assert!(scene.role.take().unwrap().stop().unwrap().success());
    assert!(ours.exists());
    scene.start_role(&User::admin(), &["--daemonset", "default/braid-node"]).unwrap();
    scene.role.as_mut().unwrap().wait_until_ready().unwrap();
    // An API server that does not answer says nothing of the DaemonSet.
    scene.plane.pause_api_server().unwrap();
    assert!(scene.role.take().unwrap().stop().unwrap().success());
    scene.plane.resume_api_server().unwrap();
    assert!(ours.exists());
}

#[test]
fn a_full_disk_is_told_and_made_up_for_once_there_is_room() {
    if !possible() {
        return;
    }
    let mut scene = Scene::without_role().unwrap();
    let run = scene.node.file("run");
    fs::create_dir_all(&run).unwrap();
    // Room for a few files of 4 KiB.
    mount(&["-t", "tmpfs", "-o", "size=32k", "tmpfs"], &run).unwrap();
    scene.fill(20).unwrap();
    scene.start_role(&User::admin(), &[]).unwrap();
    wait_for_reason(&scene, "No space left on device");
    assert!(!scene.node.file("net.d/00-braid.conflist").exists(), "not before the networks are complete");
    mount(&["-o", "remount,size=8m"], &run).unwrap();
    scene.role.as_mut().unwrap().wait_until_ready().unwrap();
    assert!(scene.rendered("n-19").is_some());
}

#[test]
fn a_directory_that_cannot_be_written_is_told_and_used_once_it_can() {
    if !possible() {
        return;
    }
    let mut scene = Scene::without_role().unwrap();
    let conf = scene.node.file("net.d");
    mount(&["--bind", &conf.display().to_string()], &conf).unwrap();
    mount(&["-o", "remount,bind,ro"], &conf).unwrap();
    scene.start_role(&User::admin(), &[]).unwrap();
    wait_for_reason(&scene, "Read-only file system");
    scene.put_bridge("storage", 1).unwrap();
    scene.wait_for_network("storage").unwrap();
    mount(&["-o", "remount,bind,rw"], &conf).unwrap();
    scene.role.as_mut().unwrap().wait_until_ready().unwrap();
    assert!(conf.join("00-braid.conflist").exists());
}
