//! What the role tells and leaves: no configurations, no annotations, no credentials.

use std::path::Path;
use std::process::Command;

use cni::npwg::NETWORKS;
use e2e::control_plane::User;
use e2e::wait;
use k8s_openapi::api::core::v1::Pod as ApiPod;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::scene::{Scene, possible};

/// Stands in a configuration, in an annotation, and as a value that is wrong.
const SECRET: &str = "s3cr3t";

#[test]
fn nothing_that_is_served_or_logged_tells_configurations_annotations_or_tokens_and_no_token_is_on_the_node() {
    if !possible() {
        return;
    }
    let mut scene = Scene::without_role().unwrap();
    let user = User::admin();
    scene.start_role_in_pod(&user).unwrap();
    scene.role.as_mut().unwrap().wait_until_ready().unwrap();
    let ipam = scene.node.host_local(&["10.9.1.0/24"]);
    let config =
        json!({"cniVersion": "1.0.0", "type": "bridge", "bridge": "br1", "ipam": ipam, "password": SECRET});
    scene.put_network("storage", &config.to_string()).unwrap();
    scene
        .put_network("broken", &json!({"type": "bridge", "args": SECRET, "password": SECRET}).to_string())
        .unwrap();
    scene.wait_for_network("storage").unwrap();
    let pod = scene.put_pod("web", "storage").unwrap();
    let annotations = json!({"metadata": {"annotations": {"password": SECRET, NETWORKS: "storage"}}});
    scene
        .ask(|client| async move {
            let api: Api<ApiPod> = Api::default_namespaced(client);
            api.patch("web", &PatchParams::default(), &Patch::Merge(&annotations)).await
        })
        .unwrap();
    scene.node.add(&pod).unwrap();
    scene.wait_for_status(&pod, &["eth0", "net1"]).unwrap();
    wait::until("the broken network is refused", || Ok(scene.rendered("broken").is_some())).unwrap();
    let role = scene.role();
    let state = role.get("/state").unwrap().1;
    assert!(state.contains("default/storage") && state.contains("default/broken"), "{state}");
    let told = ["/state", "/metrics", "/readyz?verbose", "/livez", "/loglevel", "/nowhere"]
        .map(|path| role.get(path).unwrap().1)
        .into_iter()
        .chain([role.whole_log()]);
    for text in told {
        assert!(!text.is_empty(), "nothing is told, so nothing is shown");
        for hidden in [SECRET, user.token()] {
            assert!(!text.contains(hidden), "{hidden} is told: {text}");
        }
    }
    // The account's own directory stands for what the kubelet mounts into the pod; it is no part of the host.
    for place in ["run", "state", "net.d", "opt-cni-bin"] {
        assert_eq!(holding(user.token(), &scene.node.file(place)), None, "the token");
    }
    assert!(holding(user.token(), &scene.node.file("account")).is_some(), "what is looked for can be found");
    scene.node.del(&pod).unwrap();
}

/// The files below a directory that hold a text; an error of grep is none of "it holds it not".
fn holding(text: &str, dir: &Path) -> Option<String> {
    let output = Command::new("grep").args(["-rlaF", "--", text]).arg(dir).output().unwrap();
    match output.status.code() {
        Some(0) => Some(String::from_utf8_lossy(&output.stdout).into_owned()),
        Some(1) => None,
        _ => panic!("grep ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr)),
    }
}
