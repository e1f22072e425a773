//! Data of the API server that goes back.

use e2e::control_plane::User;

use crate::scene::{Scene, possible};

#[test]
fn the_status_of_networks_follows_etcd_back_to_a_backup_and_onwards_from_there() {
    if !possible() {
        return;
    }
    let mut scene = Scene::new().unwrap();
    scene.start_with_webhook(&[]).unwrap();
    let nad = ["nad", "storage"];
    let accepted = r#"{.status.conditions[?(@.type=="Accepted")].status}"#;
    scene.put_network("default", "storage", r#"{"type":"bridge"}"#).unwrap();
    scene.wait_for_part(&nad, accepted, "True").unwrap();
    scene.plane.back_up("backup").unwrap();
    for number in 0..30 {
        scene.put_network("default", &format!("n-{number}"), r#"{"type":"bridge"}"#).unwrap();
    }
    scene.wait_for_part(&["nad", "n-29"], accepted, "True").unwrap();
    scene.plane.restore("backup").unwrap();
    // It has the name and the version of one that was seen before.
    scene.put_network("default", "n-29", r#"{"type":"macvlan","master":"eth1"}"#).unwrap();
    scene.wait_for_part(&["nad", "n-29"], accepted, "True").unwrap();
    scene.plane.kubectl(&User::admin(), &["delete", "nad", "storage"]).unwrap();
    scene.put_network("default", "storage", r#"{"type":"macvlan","master":"eth1"}"#).unwrap();
    scene.wait_for_part(&nad, accepted, "True").unwrap();
}
