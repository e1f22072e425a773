use std::convert::Infallible as Never;
use std::sync::Mutex;

use http::{Method, Request, Response};
use serde_json::{Value, json};
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;

use super::decision::{Validity, decide};
use super::*;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A moment in 2033, so that nothing depends on the real clock.
fn start() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(2_000_000_000)
}

fn day(number: u32) -> SystemTime {
    start() + DAY * number
}

fn config() -> Config {
    let text = str::to_owned;
    Config {
        namespace: text("braid-system"),
        secret: text("braid-webhook-tls"),
        service: text("braid-webhook"),
        configuration: text("braid"),
    }
}

fn made(now: SystemTime) -> Material {
    making::make(Decision::Make, None, &config().names(), now).unwrap()
}

fn renewed(old: &Material, now: SystemTime) -> (Decision, Material) {
    let names = config().names();
    let decision = decide(now, Owner::Us, Some(old), &names);
    (decision, making::make(decision, Some(old), &names, now).unwrap())
}

fn at(now: SystemTime, material: &Material) -> Decision {
    decide(now, Owner::Us, Some(material), &config().names())
}

#[test]
fn what_is_due_depends_on_the_moment_only() {
    let material = made(day(0));
    for (now, expected) in [
        (day(0), Decision::Keep),
        (day(59), Decision::Keep),
        (day(61), Decision::Renew { ca: false, leaf: true }),
        (day(89), Decision::Renew { ca: false, leaf: true }),
        (day(200), Decision::Renew { ca: false, leaf: true }),
        (day(300), Decision::Renew { ca: true, leaf: true }),
        (day(400), Decision::Make),
        // Clocks: a little behind is normal, far behind means that the clock that made it was wrong.
        (start() - Duration::from_secs(60), Decision::Keep),
        (start() - DAY, Decision::Make),
    ] {
        assert_eq!(at(now, &material), expected, "{:?}", now.duration_since(start()));
    }
    assert_eq!(decide(day(0), Owner::Nobody, None, &config().names()), Decision::Make);
    assert_eq!(decide(day(0), Owner::Us, None, &config().names()), Decision::Make);
    assert_eq!(decide(day(0), Owner::SomebodyElse, None, &config().names()), Decision::LeaveAlone);
}

#[test]
fn a_new_ca_joins_the_bundle_long_before_a_leaf_of_it_is_served() {
    let mut material = made(day(0));
    // Leaves are renewed at 61, 122, 183, 244 …; the CA at 244 too: shift the leaf so that it is not due then.
    for now in [55, 110, 165, 220] {
        let names = config().names();
        let leaf = Decision::Renew { ca: false, leaf: true };
        material = making::make(leaf, Some(&material), &names, day(now)).unwrap();
    }
    let (decision, with_new_ca) = renewed(&material, day(245));
    assert_eq!(decision, Decision::Renew { ca: true, leaf: false });
    assert_eq!(with_new_ca.leaf(), material.leaf());
    assert_eq!(with_new_ca.cas()[1..], *material.cas());
    assert_eq!(at(day(245), &with_new_ca), Decision::Keep);

    let (decision, with_new_leaf) = renewed(&with_new_ca, day(282));
    assert_eq!(decision, Decision::Renew { ca: false, leaf: true });
    assert_eq!(with_new_leaf.cas(), with_new_ca.cas(), "the old CA stays while a replica may serve its leaf");

    let (decision, later) = renewed(&with_new_leaf, day(366));
    assert_eq!(decision, Decision::Renew { ca: false, leaf: true });
    assert_eq!(later.cas(), &with_new_ca.cas()[..1], "an expired CA leaves the bundle");
}

#[test]
fn years_go_by_without_a_moment_without_certificate() {
    let mut material = made(day(0));
    for now in 0..1500 {
        let (decision, new) = renewed(&material, day(now));
        assert_ne!(decision, Decision::Make, "day {now}");
        if decision != Decision::Keep {
            material = new;
            assert_eq!(at(day(now), &material), Decision::Keep, "day {now}: what is made is enough");
        }
        assert!(material.cas().len() <= 2, "day {now}");
    }
}

#[test]
fn a_leaf_never_outlives_its_ca() {
    let material = made(day(0));
    let leaf = Decision::Renew { ca: false, leaf: true };
    let late = making::make(leaf, Some(&material), &config().names(), day(350)).unwrap();
    let leaf = CertificateDer::from_pem_slice(late.leaf()).unwrap();
    assert_eq!(Validity::of(&leaf).unwrap().end, Validity::of(&late.cas()[0]).unwrap().end);
}

#[test]
fn material_that_does_not_fit_together_is_made_anew() {
    let (one, other) = (made(day(0)), made(day(0)));
    let secret = |parts: [(&str, &Material); 4]| {
        let mut mixed = one.to_secret("s");
        for (key, from) in parts {
            let bytes = from.to_secret("s").data.unwrap().remove(key).unwrap();
            mixed.data.as_mut().unwrap().insert(key.to_owned(), bytes);
        }
        Material::of(&mixed).unwrap()
    };
    let mixed = |leaf, key, cas, ca_key| {
        at(day(0), &secret([("tls.crt", leaf), ("tls.key", key), ("ca.crt", cas), ("ca.key", ca_key)]))
    };
    assert_eq!(mixed(&one, &one, &one, &one), Decision::Keep);
    assert_eq!(mixed(&one, &other, &one, &one), Decision::Renew { ca: false, leaf: true }, "another's key");
    assert_eq!(mixed(&one, &one, &other, &other), Decision::Renew { ca: false, leaf: true }, "another's CA");
    assert_eq!(
        mixed(&one, &one, &one, &other),
        Decision::Renew { ca: true, leaf: false },
        "another's CA key"
    );
}

#[test]
fn a_certificate_for_other_names_is_renewed() {
    let names = ["other.braid-system.svc".to_owned()];
    let decision = decide(day(0), Owner::Us, Some(&made(day(0))), &names);
    assert_eq!(decision, Decision::Renew { ca: false, leaf: true });
}

/// A Secret as cert-manager writes it: of another CA, for one name, for 90 days from `now`.
fn of_somebody_else(now: SystemTime) -> Secret {
    let live = |params: &mut rcgen::CertificateParams| {
        params.not_before = now.into();
        params.not_after = (now + DAY * 90).into();
    };
    let mut ca = rcgen::CertificateParams::default();
    ca.distinguished_name.push(rcgen::DnType::CommonName, "the company's CA");
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    live(&mut ca);
    let (ca_key, key) = (rcgen::KeyPair::generate().unwrap(), rcgen::KeyPair::generate().unwrap());
    let bundle = ca.self_signed(&ca_key).unwrap().pem();
    let mut leaf = rcgen::CertificateParams::new(&config().names()[..1]).unwrap();
    leaf.use_authority_key_identifier_extension = true;
    live(&mut leaf);
    let leaf = leaf.signed_by(&key, &rcgen::Issuer::new(ca, ca_key)).unwrap().pem();
    let mut secret = Secret::default();
    secret.metadata.name = Some("braid-webhook-tls".to_owned());
    let parts = [("tls.crt", leaf), ("tls.key", key.serialize_pem()), ("ca.crt", bundle)];
    let parts = parts.map(|(key, text)| (key.to_owned(), k8s_openapi::ByteString(text.into_bytes())));
    secret.data = Some(parts.into());
    secret
}

fn without(mut secret: Secret, key: &str) -> Secret {
    secret.data.as_mut().unwrap().remove(key).unwrap();
    secret
}

#[test]
fn a_secret_is_ours_if_our_ca_has_issued_it_or_nothing_can_be_read_and_it_is_marked() {
    let ours = || made(day(0)).to_secret("s");
    let unmarked = || Secret { metadata: kube::core::ObjectMeta::default(), ..ours() };
    let theirs = || of_somebody_else(day(0));
    let spoilt = |mut secret: Secret| {
        secret.data = Some([("tls.crt".to_owned(), k8s_openapi::ByteString(b"x".to_vec()))].into());
        secret
    };
    let marked = |secret: Secret| Secret { metadata: ours().metadata, ..secret };
    let empty = Secret {
        data: Some([("tls.crt".to_owned(), k8s_openapi::ByteString(Vec::new()))].into()),
        ..Secret::default()
    };
    for (case, secret, owner) in [
        ("absent", None, Owner::Nobody),
        ("without data", Some(Secret::default()), Owner::Nobody),
        ("with empty data", Some(empty), Owner::Nobody),
        ("made", Some(ours()), Owner::Us),
        ("made by a version without a mark", Some(unmarked()), Owner::Us),
        ("made by such a version, without its CA's key", Some(without(unmarked(), "ca.key")), Owner::Us),
        ("made by such a version, without its leaf", Some(without(unmarked(), "tls.crt")), Owner::Us),
        ("made and spoilt", Some(spoilt(ours())), Owner::Us),
        ("somebody else's", Some(theirs()), Owner::SomebodyElse),
        ("put in the place of ours", Some(marked(theirs())), Owner::SomebodyElse),
        ("without a CA", Some(without(theirs(), "ca.crt")), Owner::SomebodyElse),
        ("not issued yet", Some(without(theirs(), "tls.crt")), Owner::SomebodyElse),
        ("of unknown content", Some(spoilt(unmarked())), Owner::SomebodyElse),
    ] {
        assert_eq!(Owner::of(secret.as_ref()), owner, "{case}");
    }
}

#[test]
fn somebody_elses_certificate_is_used_while_it_serves_and_never_replaced() {
    let material = Material::of(&of_somebody_else(day(0))).unwrap();
    let at = |now| decide(now, Owner::SomebodyElse, Some(&material), &config().names());
    assert_eq!(at(day(80)), Decision::Keep, "its owner renews it");
    assert_eq!(at(day(91)), Decision::LeaveAlone);
}

#[tokio::test]
async fn a_secret_of_somebody_else_that_cannot_be_served_is_reported_and_not_written() {
    for (secret, why) in [
        (without(of_somebody_else(day(0)), "ca.crt"), "ca.crt is missing or cannot be read"),
        (without(of_somebody_else(day(0)), "tls.crt"), "tls.crt is missing or cannot be read"),
        (of_somebody_else(day(100)), "is not valid now for braid-webhook.braid-system.svc"),
    ] {
        let before = serde_json::to_value(secret).unwrap();
        let server = shared(Server { secret: Some(before.clone()), ..Server::with_configuration() });
        let (mut keeper, tls) = replica(&server);
        let error = keeper.look(day(0)).await.unwrap_err().to_string();
        let begins = "use the webhook's Secret braid-system/braid-webhook-tls, which was not made by Braid: ";
        assert!(error.starts_with(begins) && error.contains(why), "{error}");
        assert_eq!(server.lock().unwrap().secret, Some(before), "{why}");
        assert!(server.lock().unwrap().writes.is_empty() && tls.borrow().is_none(), "{why}");

        // Its owner puts it right.
        server.lock().unwrap().secret = Some(serde_json::to_value(of_somebody_else(day(0))).unwrap());
        keeper.look(day(0)).await.unwrap();
        assert!(tls.borrow().is_some(), "{why}");
    }
}

#[tokio::test]
async fn a_secret_of_a_version_that_did_not_mark_its_own_is_renewed_and_marked() {
    let mut secret = made(day(0)).to_secret("braid-webhook-tls");
    secret.metadata.annotations = None;
    let server = shared(Server::with_configuration());
    server.lock().unwrap().put(serde_json::to_value(secret).unwrap());
    let (mut keeper, _tls) = replica(&server);
    keeper.look(day(89)).await.unwrap();
    assert_eq!(at(day(89), &stored(&server)), Decision::Keep);
    let marks = server.lock().unwrap().secret.as_ref().unwrap()["metadata"]["annotations"].clone();
    assert_eq!(marks["braid.dev/made-by"], "braid-controller");
}

#[test]
fn a_secret_without_parts_or_with_nonsense_is_no_material() {
    let whole = made(day(0)).to_secret("s");
    assert!(Material::of(&whole).is_some());
    for key in ["tls.crt", "tls.key", "ca.crt"] {
        let mut secret = whole.clone();
        secret.data.as_mut().unwrap().remove(key);
        assert!(Material::of(&secret).is_none(), "{key}");
    }
    for nonsense in ["tls.crt", "tls.key", "ca.crt", "ca.key"] {
        let mut secret = whole.clone();
        let bytes = k8s_openapi::ByteString(b"\xff-----BEGIN CERTIFICATE-----".to_vec());
        secret.data.as_mut().unwrap().insert(nonsense.to_owned(), bytes);
        let owner = Owner::of(Some(&secret));
        let decision = decide(day(0), owner, Material::of(&secret).as_ref(), &config().names());
        assert_eq!(owner, Owner::Us, "{nonsense}");
        assert!(!matches!(decision, Decision::Keep | Decision::LeaveAlone), "{nonsense}");
    }
}

#[test]
fn keys_are_not_printed() {
    let printed = format!("{:?}", made(day(0)));
    assert_eq!(printed, "Material { cas: 1, .. }");
}

type Meanwhile = Box<dyn FnOnce(&mut Server) + Send>;

/// An API server with one Secret and one ValidatingWebhookConfiguration.
#[derive(Default)]
struct Server {
    secret: Option<Value>,
    configuration: Option<Value>,
    version: u32,
    /// Another replica: does something right before the next write of the Secret.
    meanwhile: Option<Meanwhile>,
    /// Each request that changes something, and its code.
    writes: Vec<(String, u16)>,
}

impl Server {
    fn with_configuration() -> Self {
        let conditions = json!([{"name": "new-spec", "expression": "object.spec != oldObject.spec"}]);
        let webhook = |name: &str| json!({"name": name, "clientConfig": {"service": {"name": "s"}}, "matchConditions": conditions, "new": [1]});
        let configuration = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": "braid", "resourceVersion": "7"},
            "webhooks": [webhook("a"), webhook("b")],
        });
        Self { configuration: Some(configuration), ..Self::default() }
    }

    fn put(&mut self, mut secret: Value) -> (u16, Value) {
        self.version += 1;
        secret["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.secret = Some(secret.clone());
        (200, secret)
    }

    fn answer(&mut self, method: &Method, path: &str, body: Value) -> (u16, Value) {
        let secrets = "/api/v1/namespaces/braid-system/secrets";
        let one = format!("{secrets}/braid-webhook-tls");
        let configuration = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/braid";
        if [Method::POST, Method::PUT].contains(method)
            && let Some(meanwhile) = self.meanwhile.take()
        {
            meanwhile(self);
        }
        match (method, path) {
            (&Method::GET, path) if path == one => found(self.secret.clone()),
            (&Method::GET, path) if path == configuration => found(self.configuration.clone()),
            (&Method::POST, path) if path == secrets && self.secret.is_some() => (409, Value::Null),
            (&Method::POST, path) if path == secrets => self.put(body),
            (&Method::PUT, path) if path == one => {
                let current = self.secret.as_ref().map(|secret| &secret["metadata"]["resourceVersion"]);
                match current {
                    None => (404, Value::Null),
                    Some(version) if *version != body["metadata"]["resourceVersion"] => (409, Value::Null),
                    Some(_) => self.put(body),
                }
            }
            (&Method::PATCH, path) if path == configuration => {
                let configuration = self.configuration.as_mut().unwrap();
                assert_eq!(body["metadata"], json!({"resourceVersion": "7"}));
                configuration["webhooks"] = body["webhooks"].clone();
                (200, configuration.clone())
            }
            other => panic!("not asked for: {other:?}"),
        }
    }
}

fn found(object: Option<Value>) -> (u16, Value) {
    object.map_or((404, Value::Null), |object| (200, object))
}

type Shared = Arc<Mutex<Server>>;

fn client(server: &Shared) -> Client {
    let server = server.clone();
    let service = tower::service_fn(move |request: Request<kube::client::Body>| {
        let server = server.clone();
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect_bytes().await.unwrap();
            let body = serde_json::from_slice(&body).unwrap_or_default();
            let mut server = server.lock().unwrap();
            let (code, mut answer) = server.answer(&parts.method, parts.uri.path(), body);
            if parts.method != Method::GET {
                server.writes.push((format!("{} {}", parts.method, parts.uri.path()), code));
            }
            if code >= 400 {
                let reason = if code == 404 { "NotFound" } else { "AlreadyExists" };
                answer = json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": "x"});
            }
            let body = kube::client::Body::from(answer.to_string().into_bytes());
            Ok::<_, Never>(Response::builder().status(code).body(body).unwrap())
        }
    });
    Client::new(service, "default")
}

type Tls = watch::Receiver<Option<Arc<ServerConfig>>>;

fn replica(server: &Shared) -> (Keeper, Tls) {
    let (sender, receiver) = watch::channel(None);
    (Keeper::new(client(server), config(), sender, Arc::default()), receiver)
}

fn shared(server: Server) -> Shared {
    Arc::new(Mutex::new(server))
}

fn stored(server: &Shared) -> Material {
    let secret = server.lock().unwrap().secret.clone().unwrap();
    Material::of(&serde_json::from_value(secret).unwrap()).unwrap()
}

fn bundles(server: &Shared) -> Vec<Value> {
    let server = server.lock().unwrap();
    let webhooks = server.configuration.as_ref().unwrap()["webhooks"].as_array().unwrap().clone();
    webhooks.iter().map(|webhook| webhook["clientConfig"]["caBundle"].clone()).collect()
}

fn encoded(bytes: Vec<u8>) -> Value {
    serde_json::to_value(k8s_openapi::ByteString(bytes)).unwrap()
}

#[tokio::test]
async fn the_first_replica_makes_everything_and_the_second_takes_it() {
    let server = shared(Server::with_configuration());
    let (mut first, first_tls) = replica(&server);
    let (mut second, second_tls) = replica(&server);
    first.look(start()).await.unwrap();
    assert!(first_tls.borrow().is_some());
    let secret = server.lock().unwrap().secret.clone().unwrap();
    assert_eq!(secret["type"], "kubernetes.io/tls");
    let bundle = encoded(stored(&server).ca_bundle());
    assert_eq!(bundles(&server), [bundle.clone(), bundle]);
    let webhook = server.lock().unwrap().configuration.as_ref().unwrap()["webhooks"][1].clone();
    assert_eq!(webhook["matchConditions"][0]["name"], "new-spec", "a merge patch replaces the whole list");
    assert_eq!(webhook["new"], json!([1]), "a field that this version does not know stays");

    let writes = server.lock().unwrap().writes.len();
    second.look(start()).await.unwrap();
    assert!(second_tls.borrow().is_some());
    assert_eq!(second.served, first.served);
    assert_eq!(server.lock().unwrap().writes.len(), writes, "nothing differs, nothing is written");
}

#[tokio::test]
async fn a_replica_that_loses_the_creation_takes_the_winners_certificate() {
    let winner = made(start());
    let secret = serde_json::to_value(winner.to_secret("braid-webhook-tls")).unwrap();
    let mut server = Server::with_configuration();
    server.meanwhile = Some(Box::new(move |server| drop(server.put(secret))));
    let server = shared(server);
    let (mut loser, tls) = replica(&server);
    loser.look(start()).await.unwrap();
    assert_eq!(loser.served.as_deref(), Some(winner.leaf()));
    assert!(tls.borrow().is_some());
    assert_eq!(server.lock().unwrap().writes[0].1, 409);
}

#[tokio::test]
async fn a_renewal_that_another_replica_made_meanwhile_is_taken() {
    let server = shared(Server::with_configuration());
    let (mut keeper, mut tls) = replica(&server);
    keeper.look(day(0)).await.unwrap();
    tls.mark_unchanged();
    let old = stored(&server);
    let (_, winner) = renewed(&old, day(61));
    let renewed = winner.clone();
    server.lock().unwrap().meanwhile = Some(Box::new(move |server| {
        let mut secret = serde_json::from_value(server.secret.clone().unwrap()).unwrap();
        renewed.put_into(&mut secret);
        server.put(serde_json::to_value(secret).unwrap());
    }));
    keeper.look(day(61)).await.unwrap();
    assert_eq!(keeper.served.as_deref(), Some(winner.leaf()));
    assert!(tls.has_changed().unwrap());
    assert!(server.lock().unwrap().writes.iter().any(|(_, code)| *code == 409));
}

#[tokio::test]
async fn a_secret_that_is_deleted_or_spoilt_is_made_again_and_keeps_what_others_wrote() {
    let server = shared(Server::with_configuration());
    let (mut keeper, _tls) = replica(&server);
    keeper.look(day(0)).await.unwrap();
    let first = stored(&server);
    server.lock().unwrap().secret = None;
    keeper.look(day(0)).await.unwrap();
    assert!(stored(&server) != first);

    server.lock().unwrap().secret.as_mut().unwrap()["data"] = json!({"tls.crt": "AA==", "x": "AA=="});
    keeper.look(day(0)).await.unwrap();
    assert_eq!(at(day(0), &stored(&server)), Decision::Keep);
    assert_eq!(server.lock().unwrap().secret.as_ref().unwrap()["data"]["x"], "AA==");
}

#[tokio::test]
async fn a_bundle_that_somebody_changed_is_put_right_at_the_next_look() {
    let server = shared(Server::with_configuration());
    let (mut keeper, _tls) = replica(&server);
    keeper.look(day(0)).await.unwrap();
    server.lock().unwrap().configuration.as_mut().unwrap()["webhooks"][1]["clientConfig"]["caBundle"] =
        "AA==".into();
    keeper.look(day(0)).await.unwrap();
    let bundle = encoded(stored(&server).ca_bundle());
    assert_eq!(bundles(&server), [bundle.clone(), bundle]);
}

#[tokio::test]
async fn a_missing_webhook_configuration_is_told_and_the_certificate_is_served_all_the_same() {
    let server = shared(Server::default());
    let (mut keeper, tls) = replica(&server);
    let error = keeper.look(day(0)).await.unwrap_err().to_string();
    assert!(error.contains("upgrade the chart with webhook.enabled"), "{error}");
    assert!(tls.borrow().is_some());
}

#[tokio::test]
async fn a_real_client_that_trusts_the_bundle_gets_through_before_and_after_a_rotation() {
    use crate::controller::webhook;

    // This one is about the real clock: rustls looks at it.
    let now = SystemTime::now();
    let server = shared(Server::with_configuration());
    let (mut keeper, tls) = replica(&server);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let desk = webhook::tests::desk(webhook::Networks::default());
    let serving = tokio::spawn(webhook::tests::serve(listener, tls, desk));

    keeper.look(now).await.unwrap();
    let first = stored(&server);
    let review = webhook::tests::pod_review("p", ",");
    let answer = webhook::tests::ask(address, &first.ca_bundle(), &review).await.unwrap();
    assert_eq!(answer["response"]["allowed"], false, "{answer}");

    // A Secret that is gone means a new CA: who trusts only the old one does not get through any more.
    server.lock().unwrap().secret = None;
    keeper.look(now).await.unwrap();
    let second = stored(&server);
    webhook::tests::ask(address, &first.ca_bundle(), &review).await.unwrap_err();
    let answer = webhook::tests::ask(address, &second.ca_bundle(), &review).await.unwrap();
    assert_eq!(answer["response"]["allowed"], false, "{answer}");
    serving.abort();
}
