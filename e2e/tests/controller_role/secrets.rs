//! What the role tells: no configurations, no annotations, no credentials.

use serde_json::json;

use crate::scene::{Scene, possible};

/// Stands in configurations and annotations.
const SECRET: &str = "s3cr3t";

#[test]
fn nothing_that_is_served_answered_or_logged_tells_configurations_annotations_tokens_or_keys() {
    if !possible() {
        return;
    }
    let mut scene = Scene::new().unwrap();
    scene.start_with_webhook(&[]).unwrap();
    let bridge = json!({"cniVersion": "1.0.0", "type": "bridge", "password": SECRET});
    scene.put_network("default", "good", &bridge.to_string()).unwrap();
    let wrong = json!({"cniVersion": "1.0.0", "type": "bridge", "vlan": 5000, "password": SECRET});
    let refused = scene.put_network("default", "wrong", &wrong.to_string()).unwrap_err();
    let refused = format!("{refused:#}");
    let (_, reason) = refused.split_once("denied the request").unwrap_or_else(|| panic!("{refused}"));
    assert!(reason.contains("vlan") && !reason.contains(SECRET), "{reason}");
    let pod = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "web", "namespace": "default", "annotations": {
            "password": SECRET, "k8s.v1.cni.cncf.io/networks": "good"}},
        "spec": {"containers": [{"name": "c", "image": "none"}]}});
    scene.apply(&pod).unwrap();
    let accepted = r#"{.status.conditions[?(@.type=="Accepted")].status}"#;
    scene.wait_for_part(&["-n", "default", "net-attach-def", "good"], accepted, "True").unwrap();
    let key =
        scene.part(&["-n", "braid-system", "secret", "braid-webhook-tls"], "{.data.tls\\.key}").unwrap();
    let line = key.get(200..240).unwrap_or_else(|| panic!("no key: {key:?}"));
    let token = scene.users.last().unwrap().token();
    let replica = scene.replicas.last().unwrap();
    let served = ["/state", "/metrics", "/readyz?verbose", "/livez", "/loglevel", "/nowhere"];
    let told = served.map(|path| replica.get(path).unwrap().1).into_iter().chain([replica.whole_log()]);
    for text in told {
        assert!(!text.is_empty(), "nothing is told, so nothing is shown");
        for hidden in [SECRET, token, line, "PRIVATE KEY"] {
            assert!(!text.contains(hidden), "{hidden} is told: {text}");
        }
    }
}
