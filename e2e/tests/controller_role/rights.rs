//! What the controller may do: exactly what it does. All scenes run with the rights that are shipped; this one
//! makes the role use each of them.

use std::collections::BTreeSet;
use std::time::Duration;

use e2e::control_plane::User;
use e2e::rights::{permitted, refused, used};
use e2e::wait;
use serde_json::json;

use crate::scene::{Scene, possible};

#[test]
fn the_role_needs_every_right_that_is_shipped_and_no_other() {
    if !possible() {
        return;
    }
    let mut scene = Scene::new().unwrap();
    scene.put_network("default", "bad", "{}").unwrap();
    for name in ["n1", "gone"] {
        scene.apply(&json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})).unwrap();
        let report = json!({"apiVersion": "braid.dev/v1alpha1", "kind": "NodeReport", "metadata": {"name": name},
            "report": {"version": "test"}});
        scene.apply(&report).unwrap();
    }
    // A Secret of old, to be renewed: it holds nothing that serves.
    scene
        .apply(&json!({"apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": "braid-webhook-tls", "namespace": "braid-system"}}))
        .unwrap();
    scene.start_with_webhook(&[]).unwrap();
    // And one that is to be made.
    scene
        .plane
        .kubectl(&User::admin(), &["-n", "braid-system", "delete", "secret", "braid-webhook-tls"])
        .unwrap();
    scene.plane.kubectl(&User::admin(), &["delete", "node", "gone"]).unwrap();
    scene.wait_for_part(&["nodereport", "n1"], "{.metadata.ownerReferences[0].name}", "n1").unwrap();
    let user = scene.user().unwrap();
    let permitted = permitted(&scene.plane, &["braid-controller", "braid-system/braid-controller"]).unwrap();
    // Asked for only where a status cannot be written: see the scene with another owner's definition.
    let elsewhere = BTreeSet::from(["k8s.cni.cncf.io/network-attachment-definitions get".to_owned()]);
    let needless = || -> anyhow::Result<Vec<String>> {
        Ok(permitted
            .difference(&used(&scene.plane, &user)?)
            .filter(|right| !elsewhere.contains(*right))
            .cloned()
            .collect())
    };
    // The certificate is looked at once a minute, and reports of nodes that are gone have 30 s of grace.
    wait::within(Duration::from_secs(120), "every right is used", || Ok(needless()?.is_empty()))
        .unwrap_or_else(|error| panic!("{error}: {:?}", needless()));
    assert_eq!(refused(&scene.plane, &user).unwrap(), []);
}
