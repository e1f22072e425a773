//! Admission requests over TLS, from the real API server.

use std::io::Write;

use e2e::control_plane::User;
use serde_json::{Value, json};

use crate::scene::{Scene, possible};

fn pod(namespace: &str, name: &str, networks: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "annotations": {"k8s.v1.cni.cncf.io/networks": networks}},
        "spec": {"containers": [{"name": "c", "image": "none"}]},
    })
}

#[test]
fn the_api_server_asks_and_people_read_why_something_is_refused() {
    if !possible() {
        return;
    }
    let mut scene = Scene::new().unwrap();
    let mut settings = tempfile::NamedTempFile::with_suffix(".json").unwrap();
    settings.write_all(br#"{"namespaceIsolation": true}"#).unwrap();
    let settings = settings.path().display().to_string();
    scene.start_with_webhook(&["--settings", &settings]).unwrap();
    scene.plane.kubectl(&User::admin(), &["create", "namespace", "shop"]).unwrap();

    // The API server takes a moment to hear of a webhook.
    e2e::wait::until("a wrong network is refused", || {
        let refused = scene.put_network("default", "bad", "{}");
        let refused = refused.err().is_some_and(|error| error.to_string().contains("denied the request"));
        if !refused {
            scene.plane.kubectl(&User::admin(), &["delete", "nad", "bad", "--ignore-not-found"])?;
        }
        Ok(refused)
    })
    .unwrap();
    let error = scene.put_network(
        "default",
        "bad",
        r#"{"type":"bridge","ipam":{"type":"host-local","subnet":"10.1.2.3/99"}}"#,
    );
    assert!(error.unwrap_err().to_string().contains("10.1.2.3/99"));
    scene.put_network("default", "storage", r#"{"type":"bridge","unknown":1}"#).unwrap();
    scene.put_network("shop", "private", r#"{"type":"bridge"}"#).unwrap();

    let error = scene.apply(&pod("default", "wrong", "storage@")).unwrap_err().to_string();
    assert!(error.contains("k8s.v1.cni.cncf.io/networks"), "{error}");
    let error = scene.apply(&pod("default", "nosy", "shop/private")).unwrap_err().to_string();
    assert!(error.contains("isolation"), "{error}");
    scene.apply(&pod("default", "early", "not-yet")).unwrap();
    scene.apply(&pod("default", "right", "storage")).unwrap();
    let metric = r#"braid_webhook_request_duration_seconds_count{kind="pod",verdict="refused"}"#;
    assert!(scene.replicas[0].metric(metric).unwrap().unwrap() >= 2.0);

    // A webhook that is away keeps nobody from anything.
    scene.replicas.remove(0).kill().unwrap();
    scene.apply(&pod("default", "wrong", "storage@")).unwrap();
}
