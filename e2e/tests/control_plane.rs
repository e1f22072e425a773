//! The control plane that other tests build on, and Braid's definitions on a real API server.

// Helpers of tests fail as tests do.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::Write;

use crds::NetworkAttachmentDefinition;
use e2e::control_plane::{ADMIN, ControlPlane, NOBODY};
use e2e::requirement::{Need, met};
use kube::Api;
use kube::api::ListParams;

fn plane() -> Option<ControlPlane> {
    met(&[Need::ControlPlane]).then(|| {
        let plane = ControlPlane::start().unwrap();
        plane.install_definitions().unwrap();
        plane
    })
}

fn apply(plane: &ControlPlane, yaml: &str) -> anyhow::Result<String> {
    let mut file = tempfile::NamedTempFile::with_suffix(".yaml")?;
    file.write_all(yaml.as_bytes())?;
    plane.kubectl(ADMIN, &["apply", "-f", &file.path().display().to_string()])
}

const EVERY_SHAPE: &str = r#"
apiVersion: k8s.cni.cncf.io/v1
kind: NetworkAttachmentDefinition
metadata: {name: bare, namespace: default}
---
apiVersion: k8s.cni.cncf.io/v1
kind: NetworkAttachmentDefinition
metadata: {name: empty, namespace: default}
spec: {}
---
apiVersion: k8s.cni.cncf.io/v1
kind: NetworkAttachmentDefinition
metadata: {name: whole, namespace: default, annotations: {k8s.v1.cni.cncf.io/resourceName: intel.com/sriov}}
spec:
  config: '{"cniVersion": "0.3.1", "type": "macvlan", "master": "eth1", "ipam": {"type": "dhcp"}}'
---
apiVersion: k8s.cni.cncf.io/v1
kind: NetworkAttachmentDefinition
metadata: {name: wrong, namespace: default}
spec: {config: "this is no JSON"}
"#;

#[tokio::test]
async fn networks_of_every_published_shape_are_taken_and_read_back() {
    let Some(plane) = plane() else { return };
    apply(&plane, EVERY_SHAPE).unwrap();
    let api: Api<NetworkAttachmentDefinition> = Api::all(plane.client(ADMIN).await.unwrap());
    let all = api.list(&ListParams::default()).await.unwrap();
    let configs: Vec<_> =
        all.iter().map(|nad| (nad.metadata.name.as_deref().unwrap(), nad.config())).collect();
    assert_eq!(configs[0], ("bare", ""));
    assert_eq!(configs[1], ("empty", ""));
    assert!(configs[2].1.contains("macvlan"));
    assert_eq!(configs[3], ("wrong", "this is no JSON"), "the published definition takes any text");
    let table = plane.kubectl(ADMIN, &["get", "nad"]).unwrap();
    assert!(table.lines().next().unwrap().contains("ACCEPTED"), "{table}");
}

#[test]
fn the_server_comes_back_with_its_data_after_being_killed() {
    if !met(&[Need::ControlPlane]) {
        return;
    }
    let mut plane = ControlPlane::start().unwrap();
    plane.kubectl(ADMIN, &["create", "configmap", "kept", "--from-literal=a=b"]).unwrap();
    plane.kill_api_server().unwrap();
    plane.kubectl(ADMIN, &["get", "configmap", "kept", "--request-timeout=2s"]).unwrap_err();
    plane.compact_etcd().unwrap();
    plane.start_api_server().unwrap();
    let kept = plane.kubectl(ADMIN, &["get", "configmap", "kept", "-o", "jsonpath={.data.a}"]).unwrap();
    assert_eq!(kept, "b");
}

#[test]
fn the_server_tells_who_asked_for_what_and_refuses_whom_nobody_permitted() {
    if !met(&[Need::ControlPlane]) {
        return;
    }
    let plane = ControlPlane::start().unwrap();
    let refused = plane.kubectl(NOBODY, &["get", "pods"]).unwrap_err();
    assert!(refused.to_string().contains("Forbidden"), "{refused}");
    let requests = plane.requests().unwrap();
    let theirs: Vec<_> =
        requests.iter().filter(|request| request.user == "nobody" && request.resource == "pods").collect();
    assert_eq!(theirs.len(), 1, "{theirs:?}");
    assert_eq!((theirs[0].verb.as_str(), theirs[0].code), ("list", 403));
}
