use axum::body::to_bytes;
use cni::npwg::NetworkRef;
use crds::{NetworkAttachmentDefinition, NetworkAttachmentDefinitionSpec};
use http::Request;
use kube::core::error_boundary::InvalidObject;
use kube::runtime::watcher::Event;
use serde_json::{Value, json};
use store::settings::Settings;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tower::ServiceExt;

use super::networks::Seen;
use super::*;
use crate::lean::Definition;
use crate::metrics::Metrics;
use crate::permissions::Permissions;

pub(crate) fn desk(networks: Networks) -> Arc<Desk> {
    let settings = Settings::parse(json!({"type": "meta-cni"}).as_object().unwrap()).unwrap();
    Arc::new(Desk { networks: Arc::new(networks), rules: PodRules::from(&settings), metrics: Arc::default() })
}

fn isolated(networks: Networks) -> Arc<Desk> {
    let settings = json!({"type": "meta-cni", "namespaceIsolation": true});
    let settings = Settings::parse(settings.as_object().unwrap()).unwrap();
    Arc::new(Desk { networks: Arc::new(networks), rules: PodRules::from(&settings), metrics: Arc::default() })
}

pub(crate) async fn serve(listener: TcpListener, tls: Tls, desk: Arc<Desk>) -> Infallible {
    super::serve::serve(listener, tls, router(desk)).await
}

async fn connect(address: SocketAddr, config: ClientConfig) -> std::io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from("braid-webhook.braid-system.svc").unwrap();
    let stream = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// A client that trusts the CAs of a bundle and no other.
fn client(bundle: &[u8]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for ca in CertificateDer::pem_slice_iter(bundle) {
        roots.add(ca.unwrap()).unwrap();
    }
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// Asks over TLS as an API server would: the Service's name, and no CAs but those of the bundle.
pub(crate) async fn ask(address: SocketAddr, bundle: &[u8], review: &Value) -> std::io::Result<Value> {
    let mut stream = connect(address, client(bundle)).await?;
    let body = review.to_string();
    let head = format!(
        "POST /validate/pods?timeout=5s HTTP/1.1\r\nHost: braid-webhook.braid-system.svc\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{answer}");
    Ok(serde_json::from_str(body).unwrap())
}

fn review(kind: (&str, &str), operation: &str, namespace: &str, object: Value, old: Value) -> Value {
    let (group, kind) = kind;
    let name = object["metadata"]["name"].clone();
    let mut request = json!({
        "uid": "u-1",
        "kind": {"group": group, "version": "v1", "kind": kind},
        "resource": {"group": group, "version": "v1", "resource": "x"},
        "operation": operation, "namespace": namespace, "userInfo": {"username": "someone"},
        "object": object, "oldObject": old, "dryRun": false, "options": {},
    });
    if name.is_string() {
        request["name"] = name;
    }
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request})
}

const NAD: (&str, &str) = ("k8s.cni.cncf.io", "NetworkAttachmentDefinition");
const POD: (&str, &str) = ("", "Pod");

fn nad(config: impl ToString) -> Value {
    json!({
        "apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
        "metadata": {"name": "net", "namespace": "app"}, "spec": {"config": config.to_string()},
    })
}

fn pod(annotations: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "p-", "annotations": annotations}, "spec": {}})
}

fn asking(networks: &str) -> Value {
    pod(json!({"k8s.v1.cni.cncf.io/networks": networks}))
}

pub(crate) fn pod_review(name: &str, networks: &str) -> Value {
    let mut pod = asking(networks);
    pod["metadata"]["name"] = name.into();
    review(POD, "CREATE", "app", pod, Value::Null)
}

async fn post(desk: &Arc<Desk>, path: &str, body: impl Into<Body>) -> (StatusCode, Vec<u8>) {
    let request = Request::post(path).body(body.into()).unwrap();
    let response = router(desk.clone()).oneshot(request).await.unwrap();
    let status = response.status();
    (status, to_bytes(response.into_body(), usize::MAX).await.unwrap().to_vec())
}

/// Whether it is allowed, the message, and the warnings.
async fn told(desk: &Arc<Desk>, review: &Value) -> (bool, String, Vec<String>) {
    let (status, body) = post(desk, "/validate", review.to_string()).await;
    assert_eq!(status, StatusCode::OK);
    let answer: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(answer["apiVersion"], "admission.k8s.io/v1");
    assert_eq!(answer["kind"], "AdmissionReview");
    let response = &answer["response"];
    assert_eq!(response["uid"], "u-1");
    let warnings = response["warnings"].as_array().cloned().unwrap_or_default();
    let warnings = warnings.iter().map(|text| text.as_str().unwrap().to_owned()).collect();
    let message = response["status"]["message"].as_str().unwrap_or_default().to_owned();
    (response["allowed"].as_bool().unwrap(), message, warnings)
}

fn guard(namespace: &str, name: &str, config: &Value) -> Definition {
    let mut nad = NetworkAttachmentDefinition::default();
    nad.metadata.namespace = Some(namespace.to_owned());
    nad.metadata.name = Some(name.to_owned());
    nad.spec.spec = Some(NetworkAttachmentDefinitionSpec { config: Some(config.to_string()) });
    Definition::new(Ok(nad))
}

fn bridge(subnet: &str) -> Value {
    json!({"cniVersion": "1.0.0", "type": "bridge", "bridge": "br0", "ipam": {"type": "host-local", "subnet": subnet}})
}

fn events(networks: &Networks, events: Vec<Event<Definition>>) {
    let (metrics, _) = Metrics::new();
    for event in events {
        networks.take(event, &metrics);
    }
}

/// `app/a` is fine, `app/broken` is not, and these are all.
fn known() -> Networks {
    let networks = Networks::default();
    events(
        &networks,
        vec![
            Event::Init,
            Event::InitApply(guard("app", "a", &bridge("10.1.0.0/24"))),
            Event::InitApply(guard("app", "broken", &json!({}))),
            Event::InitDone,
        ],
    );
    networks
}

fn look(networks: &Networks, name: &str) -> Seen {
    networks.look(&name.parse::<NetworkRef>().unwrap())
}

#[tokio::test]
async fn networks_are_refused_with_every_error_and_warned_of() {
    let desk = desk(known());
    let create = |object| review(NAD, "CREATE", "app", object, Value::Null);
    for (config, allowed, said, warnings) in [
        (bridge("10.9.0.0/24"), true, "", 0),
        (bridge("10.1.0.0/25"), true, "", 1),
        (json!({"type": "bridge"}), true, "", 1),
        (json!({"cniVersion": "1.0.0", "vendor": 1}), false, "has neither \"type\"", 0),
        (json!({"cniVersion": "9.0.0", "type": "bridge"}), false, "\"cniVersion\" is not supported", 0),
        (bridge("10.9.0.1/24"), false, "host bits set; write \"10.9.0.0/24\"", 0),
        (
            json!({"cniVersion": "1.0.0", "type": "bridge", "vlan": 9999, "mtu": "x"}),
            false,
            "\n- plugin \"bridge\": \"mtu\" is a string, not a whole number; write it without quotation marks\n- plugin \
             \"bridge\": \"vlan\" is 9999",
            0,
        ),
    ] {
        let (was, message, warned) = told(&desk, &create(nad(&config))).await;
        assert_eq!((was, warned.len()), (allowed, warnings), "{config}: {message} {warned:?}");
        assert!(message.contains(said), "{config}: {message}");
    }
}

#[tokio::test]
async fn networks_of_odd_shapes_get_an_answer() {
    let desk = desk(known());
    for (object, allowed) in [
        (json!({"metadata": {"name": "net"}}), true),
        (json!({"metadata": {"name": "net"}, "spec": {"config": ""}}), true),
        (json!({"metadata": {"generateName": "net-"}, "spec": {"config": ""}}), true),
        (json!({"metadata": {"name": "net"}, "spec": {"config": 5}}), false),
        (json!({"metadata": {"name": "net"}, "spec": "x"}), false),
        (json!({"metadata": {}, "spec": {"config": ""}}), false),
    ] {
        let (was, message, _) = told(&desk, &review(NAD, "CREATE", "app", object.clone(), Value::Null)).await;
        assert_eq!(was, allowed, "{object}: {message}");
    }
}

#[tokio::test]
async fn an_update_that_leaves_the_configuration_passes_and_so_does_every_deletion() {
    let desk = desk(known());
    let wrong = nad("{");
    let mut labelled = wrong.clone();
    labelled["metadata"]["finalizers"] = json!([]);
    for (operation, object, old, allowed) in [
        ("UPDATE", labelled.clone(), wrong.clone(), true),
        ("UPDATE", nad("{}"), wrong.clone(), false),
        ("UPDATE", nad(bridge("10.9.0.0/24")), wrong.clone(), true),
        ("DELETE", Value::Null, wrong.clone(), true),
        ("CONNECT", wrong.clone(), Value::Null, true),
    ] {
        let (was, message, _) = told(&desk, &review(NAD, operation, "app", object, old)).await;
        assert_eq!(was, allowed, "{operation}: {message}");
    }
}

#[tokio::test]
async fn pods_are_refused_for_what_the_plugin_would_refuse() {
    let default = |text: &str| pod(json!({"v1.multus-cni.io/default-network": text}));
    for (object, error) in [
        (pod(Value::Null), ""),
        (asking(""), ""),
        (asking("a"), ""),
        (asking("[{\"name\": \"a\", \"namespace\": \"default\"}]"), ""),
        (default("default/x"), ""),
        (asking("a,,b"), "networks[1]: the element is empty"),
        (asking("[{"), "networks is not JSON"),
        (asking("a@eth"), ""),
        (asking("a@much-too-long-name"), "is longer than the 15 bytes"),
        (default("a,b"), "default-network names 2 networks"),
        (asking("other/a"), "annotation k8s.v1.cni.cncf.io/networks: namespace isolation is on"),
        // Without namespace it is of multusNamespace, which is not global.
        (default("x"), "annotation v1.multus-cni.io/default-network: namespace isolation is on"),
    ] {
        let desk = isolated(Networks::default());
        let (allowed, message, warnings) =
            told(&desk, &review(POD, "CREATE", "app", object.clone(), Value::Null)).await;
        assert_eq!(allowed, error.is_empty(), "{object}: {message}");
        assert!(message.contains(error), "{object}: {message}");
        assert!(warnings.is_empty(), "nothing is known of networks yet: {warnings:?}");
    }
}

#[tokio::test]
async fn a_network_that_is_missing_or_broken_is_a_warning() {
    let desk = desk(known());
    for (networks, warning) in [
        ("a", None),
        ("a,a", None),
        ("b", Some("network app/b does not exist")),
        ("b,b", Some("network app/b does not exist")),
        ("broken", Some("network app/broken cannot be used, so the pod will not start: spec.config")),
        ("[{\"name\": \"a\", \"gatway\": 1}]", Some("networks[0] (\"app/a\"): key \"gatway\" is not known")),
    ] {
        let (allowed, message, warnings) = told(&desk, &pod_review("p", networks)).await;
        assert!(allowed, "{networks}: {message}");
        assert_eq!(warnings.len(), usize::from(warning.is_some()), "{networks}: {warnings:?}");
        if let Some(warning) = warning {
            assert!(warnings[0].starts_with(warning), "{warnings:?}");
        }
    }
}

#[tokio::test]
async fn pods_are_judged_on_update_only_where_the_network_annotations_change() {
    let desk = desk(known());
    let mut labelled = asking(",");
    labelled["metadata"]["annotations"]["other"] = "x".into();
    for (object, old, allowed) in [
        (labelled, asking(","), true),
        (asking(","), asking("a"), false),
        (pod(Value::Null), asking(","), true),
    ] {
        let (was, message, _) = told(&desk, &review(POD, "UPDATE", "app", object, old)).await;
        assert_eq!(was, allowed, "{message}");
    }
}

#[tokio::test]
async fn pods_that_are_never_attached_are_warned_and_not_refused() {
    let desk = desk(known());
    let mut host = asking(",");
    host["spec"]["hostNetwork"] = true.into();
    let mut mirror = asking(",");
    mirror["metadata"]["annotations"]["kubernetes.io/config.mirror"] = "x".into();
    for object in [host, mirror] {
        let (allowed, _, warnings) = told(&desk, &review(POD, "CREATE", "app", object, Value::Null)).await;
        assert!(allowed && warnings.len() == 1 && warnings[0].contains(", but: annotation"), "{warnings:?}");
    }
}

#[tokio::test]
async fn a_pod_of_the_hosts_network_is_told_that_its_annotation_is_ignored() {
    let desk = desk(known());
    let mut host = asking("there, nowhere");
    host["spec"]["hostNetwork"] = true.into();
    let (allowed, _, warnings) = told(&desk, &review(POD, "CREATE", "app", host, Value::Null)).await;
    let ignored = "a pod of the host's network gets no other networks: annotation k8s.v1.cni.cncf.io/networks is ignored";
    assert!(allowed);
    assert_eq!(warnings, [ignored]);
}

#[tokio::test]
async fn annotations_that_are_nearly_those_of_networks_are_warned_of() {
    let desk = desk(known());
    let near = |key: &str| json!({"metadata": {"name": "p", "annotations": {key: "there"}}, "spec": {}});
    let pod = review(POD, "CREATE", "app", near("k8s.v1.cni.cncf.io/network"), Value::Null);
    let (allowed, _, warnings) = told(&desk, &pod).await;
    let expected = "annotation \"k8s.v1.cni.cncf.io/network\" is not known and has no effect; did you mean \
                    \"k8s.v1.cni.cncf.io/networks\"?";
    assert!(allowed);
    assert_eq!(warnings, [expected]);
    let pod = review(POD, "CREATE", "app", near("example.com/networks"), Value::Null);
    assert_eq!(told(&desk, &pod).await.2, [""; 0]);
}

#[tokio::test]
async fn other_kinds_and_subresources_are_allowed() {
    let desk = desk(known());
    let mut status = pod_review("p", ",");
    status["request"]["subResource"] = "status".into();
    let foreign = review(("example.com", "Pod"), "CREATE", "app", asking(","), Value::Null);
    for review in [status, foreign] {
        assert!(told(&desk, &review).await.0, "{review}");
    }
}

#[tokio::test]
async fn malformed_reviews_get_400_and_too_long_ones_413() {
    let desk = desk(known());
    let review = pod_review("p", "a").to_string();
    for body in [
        "",
        "x",
        "[]",
        "{}",
        "null",
        "{\"kind\":\"AdmissionReview\",\"apiVersion\":\"admission.k8s.io/v1\"}",
        &review[..review.len() - 1],
        &review.replace("u-1", "\u{0}"),
        &review.replace("CREATE", "BAKE"),
    ] {
        let (status, text) = post(&desk, "/validate", body.to_owned()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}: {}", String::from_utf8_lossy(&text));
    }
    let (status, _) = post(&desk, "/validate", vec![b' '; room::LARGEST + 1]).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    let long = review.replace("u-1", &"u".repeat(129));
    assert_eq!(post(&desk, "/validate", long).await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test(start_paused = true)]
async fn a_small_review_is_answered_while_clients_that_send_slowly_hold_all_places() {
    let router = router(desk(known()));
    let ask = |body: Body| router.clone().oneshot(Request::post("/validate").body(body).unwrap());
    let slow = || ask(room::tests::slow(1, &Arc::default()));
    let mut holding = std::pin::pin!(futures::future::join_all((0..room::PLACES).map(|_| slow())));
    assert!(futures::poll!(&mut holding).is_pending());
    assert_eq!(ask(pod_review("p", "a").to_string().into()).await.unwrap().status(), StatusCode::OK);
    let response = ask(vec![b' '; room::SMALL + 1].into()).await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    for response in holding.await {
        assert_eq!(response.unwrap().status(), StatusCode::REQUEST_TIMEOUT);
    }
}

#[tokio::test(start_paused = true)]
async fn the_head_of_a_request_is_short() {
    let (mut client, server) = tokio::io::duplex(1 << 20);
    let talk = async {
        client.write_all(b"POST /validate HTTP/1.1\r\nx: ").await.unwrap();
        client.write_all(&vec![b'x'; 32 << 10]).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let (answer, ()) =
        tokio::join!(talk, super::serve::answer(server, router(desk(known())), places::Proof::default()));
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer:?}");
}

/// What to serve with, and the certificate to trust.
fn self_signed() -> (Tls, Vec<u8>) {
    let names = ["braid-webhook.braid-system.svc".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    (watch::channel(Some(Arc::new(config))).1, made.cert.pem().into_bytes())
}

#[tokio::test]
async fn a_review_is_answered_while_clients_that_ask_nothing_hold_all_places() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tls, bundle) = self_signed();
    let serving = tokio::spawn(serve(listener, tls, desk(known())));
    let mut half = connect(address, client(&bundle)).await.unwrap();
    half.write_all(b"POST /validate HTTP/1.1\r\nContent-Length: 9\r\n\r\n{").await.unwrap();
    let mut silent = Vec::new();
    for _ in 0..2 * places::MOST {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    let review = pod_review("p", "a");
    let asked = tokio::time::timeout(std::time::Duration::from_secs(5), ask(address, &bundle, &review));
    let answer = asked.await.expect("an API server waits no longer").unwrap();
    assert_eq!(answer["response"]["allowed"], true, "{answer}");
    assert!(half.read_to_end(&mut Vec::new()).await.is_err(), "the oldest had to give way");
    serving.abort();
}

#[tokio::test]
async fn an_answer_is_short_whatever_is_asked() {
    let desk = desk(known());
    let plugin = json!({"type": "bridge", "vlan": 9999});
    let long = json!({"cniVersion": "1.0.0", "plugins": vec![plugin; 100]});
    let asked = review(NAD, "CREATE", "app", nad(&long), Value::Null);
    let (allowed, message, _) = told(&desk, &asked).await;
    assert!(!allowed && message.ends_with("\n- and 68 more"), "{message}");
    assert_eq!(message.matches("\n- ").count(), 33, "{message}");
    assert_eq!(answer::shorten(&"ü".repeat(2000)), format!("{}…", "ü".repeat(510)));
}

#[tokio::test]
async fn what_asks_for_too_much_is_refused() {
    let desk = desk(known());
    let config = nad(format!(r#"{{"type":"bridge","x":[{}0]}}"#, "0,".repeat(100_000)));
    let (allowed, message, warnings) = told(&desk, &review(NAD, "CREATE", "app", config, Value::Null)).await;
    assert!(!allowed && message.starts_with("spec.config is 200025 bytes long"), "{message}");
    assert!(warnings.is_empty(), "{warnings:?}");
    for (annotation, expected) in [
        (
            ",".repeat(256 << 10),
            "networks asks for 262145 networks, and one pod may have 32 (setting \"maxAttachments\")",
        ),
        (
            format!("[{}]", " ".repeat(128 << 10)),
            "networks is 131074 bytes long, and none of more than 131072 is read",
        ),
    ] {
        let review = review(POD, "CREATE", "app", asking(&annotation), Value::Null);
        let (allowed, message, _) = told(&desk, &review).await;
        assert!(!allowed && message.contains(expected), "{message}");
    }
}

#[tokio::test]
async fn every_path_of_the_configuration_answers_and_others_do_not() {
    let desk = desk(known());
    let review = pod_review("p", "a").to_string();
    for (path, expected) in [
        ("/validate", StatusCode::OK),
        ("/validate/networks?timeout=5s", StatusCode::OK),
        ("/validate/pods", StatusCode::OK),
        ("/", StatusCode::NOT_FOUND),
    ] {
        assert_eq!(post(&desk, path, review.clone()).await.0, expected, "{path}");
    }
}

#[test]
fn networks_follow_the_watch() {
    let networks = Networks::default();
    let fine = || guard("app", "a", &bridge("10.1.0.0/24"));
    assert_eq!(look(&networks, "app/a"), Seen::Unknown);
    events(&networks, vec![Event::Init, Event::InitApply(fine())]);
    assert_eq!(look(&networks, "app/a"), Seen::Usable, "it is known before the list is complete");
    assert_eq!(look(&networks, "app/b"), Seen::Unknown, "it may still come");
    events(&networks, vec![Event::InitDone]);
    assert_eq!(look(&networks, "app/b"), Seen::Missing);

    events(&networks, vec![Event::Apply(guard("app", "a", &json!({})))]);
    assert!(matches!(look(&networks, "app/a"), Seen::Refused(_)));
    events(&networks, vec![Event::Apply(fine()), Event::Apply(guard("app", "b", &bridge("10.2.0.0/24")))]);
    assert_eq!(look(&networks, "app/a"), Seen::Usable);
    events(&networks, vec![Event::Delete(fine())]);
    assert_eq!(look(&networks, "app/a"), Seen::Missing);

    // A new list does not name what went away while nobody watched; until its end nothing is lost.
    events(&networks, vec![Event::Init]);
    assert_eq!(look(&networks, "app/b"), Seen::Usable);
    events(&networks, vec![Event::InitApply(fine()), Event::InitDone]);
    assert_eq!((look(&networks, "app/a"), look(&networks, "app/b")), (Seen::Usable, Seen::Missing));
}

#[test]
fn an_object_that_cannot_be_read_is_there_and_counted() {
    let networks = Networks::default();
    let (metrics, _) = Metrics::new();
    let metadata = serde_json::from_value(json!({"namespace": "app", "name": "odd"})).unwrap();
    let odd = Definition::new(Err(InvalidObject { error: "no".to_owned(), metadata }));
    networks.take(Event::Apply(odd), &metrics);
    assert_eq!(look(&networks, "app/odd"), Seen::Refused("it cannot be read: no".to_owned()));
    assert_eq!(metrics.undecodable_objects.get(), 1);
}

#[tokio::test]
async fn port_0_answers_nothing_and_a_taken_port_is_an_error() {
    let (_sender, tls) = watch::channel(None);
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let error = run(taken.local_addr().unwrap(), tls.clone(), desk(known())).await.unwrap_err().to_string();
    assert!(error.contains("--webhook-address"), "{error}");
    let none = run("127.0.0.1:0".parse().unwrap(), tls, desk(known()));
    let mut none = std::pin::pin!(none);
    assert!(futures::poll!(&mut none).is_pending());
}

mod manifest {
    use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
    use k8s_openapi::api::core::v1::Service;
    use serde_json::Value;

    use crate::manifests::documents::{Form, objects};

    const MANIFEST: &str = include_str!("../../../../deploy/manifests/parts/webhook.yaml");

    fn read<T: serde::de::DeserializeOwned>(kind: &str) -> T {
        let all = objects(MANIFEST, Form::Yaml);
        let object = all.into_iter().filter_map(Result::ok).find(|object| object.kind() == kind).unwrap();
        serde_json::from_value(Value::Object(object.fields)).unwrap()
    }

    #[test]
    fn the_configuration_never_stops_a_cluster() {
        let configuration: ValidatingWebhookConfiguration = read("ValidatingWebhookConfiguration");
        assert_eq!(configuration.metadata.name.as_deref(), Some("braid"));
        let webhooks = configuration.webhooks.unwrap();
        assert_eq!(webhooks.len(), 2);
        for webhook in webhooks {
            assert_eq!(webhook.failure_policy.as_deref(), Some("Ignore"), "{}", webhook.name);
            assert_eq!(webhook.timeout_seconds, Some(5));
            assert_eq!(webhook.side_effects, "None");
            assert_eq!(webhook.admission_review_versions, ["v1"]);
            assert_eq!(webhook.match_policy.as_deref(), Some("Equivalent"));
            assert!(webhook.match_conditions.is_none(), "1.20 refuses none, but does not know them either");
            assert_eq!(webhook.client_config.ca_bundle, None, "the controller writes it");
            let excluded = webhook.namespace_selector.unwrap().match_expressions.unwrap();
            assert_eq!(excluded[0].key, "kubernetes.io/metadata.name");
            assert_eq!(excluded[0].operator, "NotIn");
            assert_eq!(excluded[0].values.as_ref().unwrap(), &["kube-system", "braid-system"]);
            for rule in webhook.rules.unwrap() {
                assert_eq!(rule.operations.unwrap(), ["CREATE", "UPDATE"]);
            }
        }
    }

    #[test]
    fn the_configuration_leads_to_the_service_and_the_service_to_the_webhook() {
        let configuration: ValidatingWebhookConfiguration = read("ValidatingWebhookConfiguration");
        let service: Service = read("Service");
        let paths: Vec<_> = configuration
            .webhooks
            .unwrap()
            .into_iter()
            .map(|webhook| webhook.client_config.service.unwrap())
            .inspect(|to| {
                assert_eq!(Some(&to.name), service.metadata.name.as_ref());
                assert_eq!(Some(&to.namespace), service.metadata.namespace.as_ref());
            })
            .filter_map(|to| to.path)
            .collect();
        assert_eq!(paths, ["/validate/networks", "/validate/pods"]);
        let ports = service.spec.unwrap().ports.unwrap();
        assert_eq!(ports[0].port, 443);
        assert_eq!(serde_json::to_value(&ports[0].target_port).unwrap(), "webhook");
    }
}

#[tokio::test]
async fn what_the_rules_do_not_permit_is_refused_early_and_pods_that_ask_for_it_are_warned() {
    let rules =
        br#"{"rules": [{"namespaces": ["app"], "plugins": ["macvlan"], "interfaces": ["storage0"]}]}"#;
    let networks = Networks::new(Permissions::parse(rules).unwrap());
    let macvlan = |master: &str| json!({"cniVersion": "1.0.0", "type": "macvlan", "master": master});
    let listed = [("good", "storage0"), ("bad", "eth0")];
    let listed = listed.map(|(name, master)| Event::InitApply(guard("app", name, &macvlan(master))));
    events(&networks, [Event::Init].into_iter().chain(listed).chain([Event::InitDone]).collect());
    let desk = desk(networks);
    let asked = |config: Value| review(NAD, "CREATE", "app", nad(config), Value::Null);
    assert_eq!(told(&desk, &asked(macvlan("storage0"))).await, (true, String::new(), Vec::new()));
    let (allowed, message, _) = told(&desk, &asked(macvlan("eth0"))).await;
    assert!(!allowed && message.contains("may not use interface \"eth0\" of the host"), "{message}");
    let (allowed, _, warnings) = told(&desk, &pod_review("p", "good")).await;
    assert!(allowed && warnings.is_empty(), "{warnings:?}");
    let (allowed, _, warnings) = told(&desk, &pod_review("p", "bad")).await;
    assert!(allowed && warnings[0].contains("may not use interface \"eth0\""), "{warnings:?}");
}
