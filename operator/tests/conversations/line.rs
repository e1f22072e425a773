//! The line to the API server itself: tokens, certificates, pauses.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use http::header::AUTHORIZATION;
use http::{HeaderMap, Request, StatusCode};
use kube::{Client, Config};
use operator::cluster::{Patience, cause_text, line};
use rcgen::{BasicConstraints, Certificate, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{self, sleep};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::server::{Answer, Server};

async fn ask(client: &Client) -> Result<String, kube::Error> {
    client.request_text(Request::get("/version").body(Vec::new()).unwrap()).await
}

/// Takes nothing but the token `new`.
async fn only_the_new(headers: HeaderMap) -> (StatusCode, &'static str) {
    match headers.get(AUTHORIZATION).map(http::HeaderValue::as_bytes) {
        Some(b"Bearer new") => (StatusCode::OK, "{}"),
        _ => (StatusCode::UNAUTHORIZED, "no"),
    }
}

#[tokio::test]
async fn a_token_that_is_not_taken_is_read_anew_without_waiting_for_a_minute_to_pass() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, Router::new().fallback(only_the_new)).await });
    let temp = tempfile::tempdir().unwrap();
    let token = temp.path().join("token");
    fs::write(&token, "old").unwrap();
    let mut config = Config::new(format!("http://{address}").parse().unwrap());
    config.auth_info.token_file = Some(token.display().to_string());
    let client = line::connect(config, Patience::default()).unwrap().client;
    let error = ask(&client).await.unwrap_err();
    assert!(cause_text(&error).contains("the token is not taken"), "{error}");
    fs::write(&token, "new").unwrap();
    let begun = Instant::now();
    while ask(&client).await.is_err() {
        // kube itself would take it after 50 s.
        assert!(begun.elapsed() < Duration::from_secs(30), "the new token is not used");
        sleep(Duration::from_millis(50)).await;
    }
}

/// A certificate authority.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: Certificate,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    /// TLS of a server that it has certified, from a year on.
    fn certified(&self, from: i32) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(2101, 1, 1));
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = config.with_single_cert(vec![certificate.der().clone()], key).unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// A server with the TLS of now, that answers one request of each connection.
async fn tls_server(tls: TlsAcceptor) -> (SocketAddr, watch::Sender<TlsAcceptor>) {
    let (sender, tls) = watch::channel(tls);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let tls = tls.borrow().clone();
            // Who does not like the certificate goes away.
            let Ok(stream) = tls.accept(stream).await else { continue };
            answer_once(stream).await.unwrap();
        }
    });
    (address, sender)
}

async fn answer_once(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<()> {
    let mut asked = Vec::new();
    while !asked.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut asked).await? == 0 {
            return Ok(());
        }
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}").await?;
    stream.shutdown().await
}

#[tokio::test]
async fn a_new_ca_is_used_by_the_very_request_that_met_it() {
    // Those of clusters have one name.
    for name in ["kubernetes", "another"] {
        let (old, new) = (Authority::new("kubernetes"), Authority::new(name));
        let (address, tls) = tls_server(old.certified(2000)).await;
        let temp = tempfile::tempdir().unwrap();
        let [ca, token] = ["ca.crt", "token"].map(|name| temp.path().join(name));
        fs::write(&token, "token").unwrap();
        fs::write(&ca, old.certificate.pem()).unwrap();
        let mut config = Config::new(format!("https://{address}").parse().unwrap());
        config.auth_info.token_file = Some(token.display().to_string());
        (config.root_cert, config.root_cert_file) =
            (Some(vec![old.certificate.der().to_vec()]), Some(ca.clone()));
        let client = line::connect(config, Patience::default()).unwrap().client;
        ask(&client).await.unwrap();
        fs::write(&ca, new.certificate.pem()).unwrap();
        tls.send_replace(new.certified(2000));
        // The client may be made anew by now; kube itself would read the file after 60 s, by a clock that goes on.
        time::pause();
        time::advance(Duration::from_secs(6)).await;
        time::resume();
        ask(&client).await.unwrap_or_else(|error| panic!("{name}: {}", cause_text(&error)));
    }
}

#[tokio::test]
async fn a_certificate_that_is_not_valid_yet_is_told_with_the_clock() {
    let authority = Authority::new("kubernetes");
    let (address, _tls) = tls_server(authority.certified(2100)).await;
    let mut config = Config::new(format!("https://{address}").parse().unwrap());
    config.root_cert = Some(vec![authority.certificate.der().to_vec()]);
    let client = line::connect(config, Patience::default()).unwrap().client;
    let text = cause_text(&ask(&client).await.unwrap_err());
    assert!(text.contains("by this machine's clock") && text.contains("not valid yet"), "{text}");
}

#[tokio::test]
async fn a_long_pause_is_told_by_its_rest_and_the_lease_does_not_wait_for_it() {
    let busy = Answer::Failure(429, &[("retry-after", "100")]);
    let server = Server::start(vec![busy], Vec::new()).await;
    let client = server.connect().client;
    ask(&client).await.unwrap_err();
    let Err(kube::Error::Api(status)) = ask(&client).await else { panic!("it was asked") };
    let rest = status.details.map(|details| details.retry_after_seconds);
    assert!(status.code == 429 && rest.is_some_and(|rest| (90..=130).contains(&rest)), "{rest:?}");
    assert_eq!(server.asked().len(), 1);
    let lease = "/apis/coordination.k8s.io/v1/namespaces/braid-system/leases/braid-controller";
    client.request_text(Request::get(lease).body(Vec::new()).unwrap()).await.unwrap();
}
