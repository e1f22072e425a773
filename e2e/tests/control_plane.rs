//! The control plane of the harness itself: what a test may rely on when it talks to a real API server.

#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of a test may fail as loudly as the test.

use std::fmt::Debug;
use std::future::Future;
use std::net::TcpStream;
use std::path::Path;
use std::thread;
use std::time::Duration;

use crds::NetworkAttachmentDefinition;
use e2e::control_plane::{ControlPlane, Request, User};
use e2e::requirement::{Need, met};
use e2e::wait;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{ListParams, ObjectMeta, PostParams};
use kube::core::DynamicObject;
use kube::discovery::ApiResource;
use kube::{Api, Error};
use serde_json::{Value, json};

fn possible() -> bool {
    met(&[Need::ControlPlane])
}

fn named<T: Default>(name: &str, with: impl FnOnce(ObjectMeta) -> T) -> T {
    with(ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() })
}

fn config_map(name: &str) -> ConfigMap {
    named(name, |metadata| ConfigMap { metadata, ..ConfigMap::default() })
}

/// The namespace `default` as somebody sees it.
fn config_maps(plane: &ControlPlane, user: &User) -> Api<ConfigMap> {
    Api::namespaced(plane.client(user).unwrap(), "default")
}

/// The code with which the server refuses.
fn refusal<T: Debug>(answer: Result<T, Error>) -> u16 {
    match answer {
        Err(Error::Api(status)) => status.code,
        other => panic!("the server has not refused: {other:?}"),
    }
}

/// Waits for an answer as long as a patient client does.
fn within_a_second<T>(plane: &ControlPlane, answer: impl Future<Output = T>) -> Option<T> {
    plane.block_on(async { tokio::time::timeout(Duration::from_secs(1), answer).await }).ok()
}

/// Networks as they are in clusters today, in every form that the published definition has.
fn existing_networks() -> Vec<(&'static str, Value)> {
    let plugin = r#"{"cniVersion": "0.3.1", "type": "macvlan", "master": "eth0", "ipam": {"type": "dhcp"}}"#;
    let list = r#"{"cniVersion": "1.0.0", "name": "n", "plugins": [{"type": "bridge"}, {"type": "tuning"}]}"#;
    vec![
        ("without-spec", json!({})),
        ("empty-spec", json!({ "spec": {} })),
        ("empty-config", json!({ "spec": { "config": "" } })),
        ("plugin", json!({ "spec": { "config": plugin } })),
        ("list", json!({ "spec": { "config": list } })),
        ("not-even-json", json!({ "spec": { "config": "{ 'type': 'bridge'" } })),
    ]
}

#[test]
fn the_definitions_are_taken_and_existing_networks_are_accepted() {
    if !met(&[Need::ControlPlane, Need::Program("kubectl", "kubernetes-client")]) {
        return;
    }
    let plane = ControlPlane::start().unwrap();
    plane.apply(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds")).unwrap();
    plane.wait_for_definition("network-attachment-definitions.k8s.cni.cncf.io").unwrap();
    plane.wait_for_definition("nodereports.braid.dev").unwrap();

    let client = plane.client(&User::admin()).unwrap();
    let resource = ApiResource::erase::<NetworkAttachmentDefinition>(&());
    let untyped: Api<DynamicObject> = Api::namespaced_with(client.clone(), "default", &resource);
    let typed: Api<NetworkAttachmentDefinition> = Api::namespaced(client, "default");
    for (name, content) in existing_networks() {
        let object = named_object(name, &content, &resource);
        plane.block_on(untyped.create(&PostParams::default(), &object)).unwrap();
        let read = plane.block_on(untyped.get(name)).unwrap();
        assert_eq!(read.data, content, "{name} is as it was");
        let read = plane.block_on(typed.get(name)).unwrap();
        assert_eq!(read.config(), content["spec"]["config"].as_str().unwrap_or_default(), "{name}");
    }
    for (name, content) in
        [("spec-text", json!({ "spec": "x" })), ("config-number", json!({ "spec": { "config": 5 } }))]
    {
        let object = named_object(name, &content, &resource);
        assert_eq!(refusal(plane.block_on(untyped.create(&PostParams::default(), &object))), 422, "{name}");
    }
    let listed = plane.kubectl(&User::admin(), &["get", "net-attach-def", "-o", "name"]).unwrap();
    assert_eq!(listed.lines().count(), existing_networks().len(), "{listed}");
}

fn named_object(name: &str, content: &Value, resource: &ApiResource) -> DynamicObject {
    DynamicObject::new(name, resource).data(content.clone())
}

#[test]
fn the_server_comes_back_with_its_data_after_being_killed() {
    if !possible() {
        return;
    }
    let plane = ControlPlane::start().unwrap();
    let maps = config_maps(&plane, &User::admin());
    plane.block_on(maps.create(&PostParams::default(), &config_map("kept"))).unwrap();
    let uid = plane.block_on(maps.get("kept")).unwrap().metadata.uid;

    plane.kill_api_server().unwrap();
    assert!(plane.block_on(maps.get("kept")).is_err(), "nobody answers");
    assert!(plane.kill_api_server().is_err(), "it is dead already");
    plane.start_api_server().unwrap();
    assert_eq!(plane.block_on(maps.get("kept")).unwrap().metadata.uid, uid);

    stop_while_somebody_watches(&plane);
    assert!(plane.block_on(maps.get("kept")).is_err(), "nobody answers");
    plane.start_api_server().unwrap();
    assert_eq!(plane.block_on(maps.get("kept")).unwrap().metadata.uid, uid, "the client goes on as well");
}

/// A watch would last for five minutes; it ends with the server.
fn stop_while_somebody_watches(plane: &ControlPlane) {
    let client = plane.client(&User::admin()).unwrap();
    let path = "/api/v1/namespaces/default/configmaps?watch=true&timeoutSeconds=300";
    let request = http::Request::get(path).body(Vec::new()).unwrap();
    thread::scope(|scope| {
        let watch = scope.spawn(|| plane.block_on(client.request_text(request)));
        let watches = |request: &Request| request.verb == "watch" && request.path == path;
        wait::until("the watch is told", || Ok(plane.requests()?.iter().any(watches))).unwrap();
        plane.stop_api_server().unwrap();
        drop(watch.join().unwrap());
    });
}

#[test]
fn a_paused_server_takes_requests_and_answers_them_when_it_goes_on() {
    if !possible() {
        return;
    }
    let plane = ControlPlane::start().unwrap();
    let maps = config_maps(&plane, &User::admin());
    plane.pause_api_server().unwrap();
    let address = plane.url().replace("https://", "");
    TcpStream::connect(&address).unwrap();
    assert!(within_a_second(&plane, maps.list(&ListParams::default())).is_none(), "it is silent");
    plane.resume_api_server().unwrap();
    wait::until("the server answers again", || {
        Ok(within_a_second(&plane, maps.list(&ListParams::default())).is_some_and(|answer| answer.is_ok()))
    })
    .unwrap();
}

#[test]
fn a_watch_from_before_a_compaction_is_gone() {
    if !possible() {
        return;
    }
    let plane = ControlPlane::start_with(&["--watch-cache=false"]).unwrap();
    let maps = config_maps(&plane, &User::admin());
    let created = plane.block_on(maps.create(&PostParams::default(), &config_map("first"))).unwrap();
    let version = created.metadata.resource_version.unwrap();
    for name in ["second", "third"] {
        plane.block_on(maps.create(&PostParams::default(), &config_map(name))).unwrap();
    }
    let client = plane.client(&User::admin()).unwrap();
    let path = format!(
        "/api/v1/namespaces/default/configmaps?watch=true&timeoutSeconds=1&resourceVersion={version}"
    );
    let watch = || {
        let request = http::Request::get(&path).body(Vec::new()).unwrap();
        plane.block_on(client.request_text(request)).unwrap()
    };
    // On a busy machine a watch of a second may end before it has begun to tell.
    wait::until("the change is told", || Ok(watch().contains(r#""name":"second""#))).unwrap();

    let revision = plane.compact_etcd().unwrap();
    assert!(revision > version.parse().unwrap());
    let mut told = String::new();
    wait::until("the watch is refused", || {
        told = watch();
        Ok(!told.is_empty())
    })
    .unwrap();
    assert!(told.contains(r#""type":"ERROR""#) && told.contains(r#""code":410"#), "{told}");
}

#[test]
fn a_user_without_roles_is_refused_and_a_service_account_may_do_what_its_role_says() {
    if !possible() {
        return;
    }
    let plane = ControlPlane::shared().unwrap();
    assert_eq!(
        refusal(plane.block_on(config_maps(plane, &User::stranger()).list(&ListParams::default()))),
        403
    );
    let reader = plane.service_account("default", "reader").unwrap();
    let maps = config_maps(plane, &reader);
    assert_eq!(refusal(plane.block_on(maps.list(&ListParams::default()))), 403);

    let may = json!([{ "apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"] }]);
    let role = json!({ "metadata": { "name": "reader" }, "rules": may });
    let binding = json!({
        "metadata": { "name": "reader" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader" },
        "subjects": [{ "kind": "ServiceAccount", "name": "reader", "namespace": "default" }],
    });
    let admin = || plane.client(&User::admin()).unwrap();
    let role: Role = serde_json::from_value(role).unwrap();
    let roles = Api::namespaced(admin(), "default");
    plane.block_on(roles.create(&PostParams::default(), &role)).unwrap();
    let binding: RoleBinding = serde_json::from_value(binding).unwrap();
    let bindings = Api::namespaced(admin(), "default");
    plane.block_on(bindings.create(&PostParams::default(), &binding)).unwrap();
    // The server learns of roles by watches of its own.
    wait::until("the role counts", || Ok(plane.block_on(maps.list(&ListParams::default())).is_ok())).unwrap();
    assert_eq!(refusal(plane.block_on(maps.get("kept"))), 403, "get is not in the role");
}

#[test]
fn every_request_is_counted_once_with_what_rbac_calls_it() {
    if !possible() {
        return;
    }
    let plane = ControlPlane::shared().unwrap();
    let counted = plane.service_account("default", "counted").unwrap();
    let maps = config_maps(plane, &counted);
    for _ in 0..3 {
        assert_eq!(refusal(plane.block_on(maps.get_metadata("mine"))), 403);
    }
    assert_eq!(refusal(plane.block_on(maps.create(&PostParams::default(), &config_map("mine")))), 403);
    assert_eq!(refusal(plane.block_on(maps.get_status("mine"))), 403);
    assert_eq!(plane.requests_of(&counted).unwrap().len(), 5);
    let answered = |request: &Request| request.code.is_some();
    wait::until("all codes are told", || Ok(plane.requests_of(&counted)?.iter().all(answered))).unwrap();
    let requests = plane.requests_of(&counted).unwrap();
    let what = |request: &Request| {
        (format!("{} {}", request.verb, request.resource), request.name.clone(), request.code)
    };
    let get = ("get configmaps".to_owned(), "mine".to_owned(), Some(403));
    let create = ("create configmaps".to_owned(), String::new(), Some(403));
    let status = ("get configmaps/status".to_owned(), "mine".to_owned(), Some(403));
    let all: Vec<_> = requests.iter().map(what).collect();
    assert_eq!(all, [get.clone(), get.clone(), get, create, status]);
    assert!(requests.iter().all(|request| request.namespace == "default" && request.group.is_empty()));
}

#[test]
fn nothing_is_left_of_a_control_plane_that_is_dropped() {
    if !possible() {
        return;
    }
    let plane = ControlPlane::start().unwrap();
    let address = plane.url().replace("https://", "");
    let kubeconfig = plane.kubeconfig(&User::admin()).unwrap();
    let dir = kubeconfig.parent().unwrap().to_owned();
    TcpStream::connect(&address).unwrap();
    drop(plane);
    assert!(TcpStream::connect(&address).is_err());
    assert!(!dir.exists(), "{} is left", dir.display());
}

#[test]
fn a_server_that_cannot_start_says_why() {
    if !possible() {
        return;
    }
    let error = ControlPlane::start_with(&["--no-such-flag"]).unwrap_err();
    let error = format!("{error:#}");
    assert!(error.contains("unknown flag: --no-such-flag"), "{error}");
}
