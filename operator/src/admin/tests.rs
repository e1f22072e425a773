use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
use cni::error::chain_text;
use http::{Method, Request, StatusCode};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};
use tower::ServiceExt;
use tracing_subscriber::filter::LevelFilter;

use super::connections::{LONGEST, MOST, serve};
use super::*;
use crate::metrics::Metrics;

const LOOPBACK: &str = "127.0.0.1:4711";
const POD: &str = "10.244.1.7:4711";

/// A role, as the tests see it. The log is alive as long as this.
struct Role {
    router: Router,
    ready: Arc<AtomicBool>,
    logs: logs::Handle,
    _lines: Box<dyn tracing::Subscriber + Send + Sync>,
}

fn role() -> Role {
    let ready = Arc::new(AtomicBool::new(true));
    let (lines, logs) = logs::lines(LevelFilter::INFO, io::sink);
    let checks = {
        let ready = Arc::clone(&ready);
        move || {
            let ready = ready.load(Ordering::Relaxed);
            let networks = if ready { Check::fine("networks") } else { Check::wrong("networks", "not yet") };
            vec![networks, Check::fine("pods")]
        }
    };
    let (_, registry) = Metrics::new();
    let source = Source::new(checks, || json!({"version": "1"}), registry, logs.clone());
    Role { router: routes::router(source), ready, logs, _lines: Box::new(lines) }
}

/// Status, content type and body of an answer.
async fn ask(router: &Router, peer: &str, request: Request<Body>) -> (StatusCode, String, String) {
    let mut request = request;
    request.extensions_mut().insert(ConnectInfo(peer.parse::<SocketAddr>().unwrap()));
    let answer = router.clone().oneshot(request).await.unwrap();
    let content_type = answer.headers().get("content-type").map(|value| value.to_str().unwrap().to_owned());
    let (status, body) = (answer.status(), to_bytes(answer.into_body(), usize::MAX).await.unwrap());
    (status, content_type.unwrap_or_default(), String::from_utf8(body.to_vec()).unwrap())
}

fn request(method: Method, path: &str, body: impl Into<Body>) -> Request<Body> {
    Request::builder().method(method).uri(path).body(body.into()).unwrap()
}

async fn get(role: &Role, path: &str) -> (u16, String) {
    let (status, _, body) = ask(&role.router, POD, request(Method::GET, path, Body::empty())).await;
    (status.as_u16(), body)
}

async fn put_level(role: &Role, peer: &str, level: &str) -> (u16, String) {
    let request = request(Method::PUT, "/loglevel", level.to_owned());
    let (status, _, body) = ask(&role.router, peer, request).await;
    (status.as_u16(), body)
}

#[tokio::test]
async fn health_is_told_in_a_word_or_check_by_check() {
    let role = role();
    assert_eq!(get(&role, "/livez").await, (200, "ok".to_owned()));
    assert_eq!(get(&role, "/readyz").await, (200, "ok".to_owned()));
    role.ready.store(false, Ordering::Relaxed);
    assert_eq!(get(&role, "/readyz").await, (503, "networks: not yet\n".to_owned()));
    let verbose = "[-]networks failed: not yet\n[+]pods ok\nreadyz check failed\n".to_owned();
    assert_eq!(get(&role, "/readyz?a=b&verbose").await, (503, verbose));
    assert_eq!(get(&role, "/livez?verbose=1").await, (200, "[+]ping ok\nlivez check passed\n".to_owned()));
}

#[tokio::test]
async fn metrics_are_openmetrics_unless_only_the_older_text_is_asked_for() {
    let role = role();
    for (accept, content_type, end) in [
        (None, "application/openmetrics-text; version=1.0.0; charset=utf-8", true),
        (Some("*/*"), "application/openmetrics-text; version=1.0.0; charset=utf-8", true),
        (
            Some("application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5"),
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            true,
        ),
        (Some("text/plain"), "text/plain; version=0.0.4; charset=utf-8", false),
    ] {
        let mut request = request(Method::GET, "/metrics", Body::empty());
        if let Some(accept) = accept {
            request.headers_mut().insert("accept", accept.parse().unwrap());
        }
        let (status, got, body) = ask(&role.router, POD, request).await;
        assert_eq!((status, got.as_str()), (StatusCode::OK, content_type), "{accept:?}");
        assert_eq!(body.ends_with("# EOF\n"), end, "{accept:?}");
        assert!(
            body.contains("braid_build_info{version=\"") && body.contains("\nprocess_threads "),
            "{body}"
        );
    }
}

#[tokio::test]
async fn the_state_is_indented_json() {
    let role = role();
    let request = request(Method::GET, "/state", Body::empty());
    let expected = (StatusCode::OK, "application/json".to_owned(), "{\n  \"version\": \"1\"\n}\n".to_owned());
    assert_eq!(ask(&role.router, POD, request).await, expected);
}

#[tokio::test]
async fn the_level_is_changed_from_loopback_only() {
    let role = role();
    assert_eq!(get(&role, "/loglevel").await, (200, "info\n".to_owned()));
    for peer in [POD, "[fd00::1]:1", "[::ffff:10.0.0.1]:1"] {
        assert_eq!(put_level(&role, peer, "debug").await.0, 403, "{peer}");
        assert_eq!(role.logs.level(), "info");
    }
    for (peer, level) in [(LOOPBACK, "debug"), ("[::1]:1", "warn"), ("[::ffff:127.0.0.1]:1", "trace")] {
        assert_eq!(put_level(&role, peer, level).await, (200, format!("{level}\n")));
        assert_eq!(role.logs.level(), level);
    }
}

#[tokio::test]
async fn a_bad_level_is_refused_with_those_that_are_allowed() {
    let role = role();
    let (status, body) = put_level(&role, LOOPBACK, "loud").await;
    assert_eq!(status, 400);
    assert!(body.contains("off, error, warn, info, debug, trace"), "{body}");
    assert_eq!(role.logs.level(), "info");
    assert_eq!(put_level(&role, LOOPBACK, &"x".repeat(4097)).await.0, 413);
}

#[tokio::test]
async fn what_is_not_here_says_what_is() {
    let role = role();
    let (status, body) = get(&role, "/health").await;
    assert_eq!(status, 404);
    for endpoint in ["/livez", "/readyz", "/metrics", "/state", "/loglevel"] {
        assert!(body.contains(endpoint), "{body}");
        let request = request(Method::HEAD, endpoint, Body::empty());
        let (status, _, body) = ask(&role.router, POD, request).await;
        assert_eq!((status, body.as_str()), (StatusCode::OK, ""), "HEAD {endpoint}");
    }
    let (status, ..) = ask(&role.router, LOOPBACK, request(Method::POST, "/state", "")).await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
}

/// A server on a port of its own, for as long as the test runs.
async fn served() -> (SocketAddr, Role) {
    let role = role();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, role.router.clone()));
    (address, role)
}

async fn readyz(address: SocketAddr) -> String {
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(b"GET /readyz HTTP/1.1\r\nHost: braid\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_connection_is_one_request() {
    let (address, _role) = served().await;
    let answer = readyz(address).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nok"), "{answer}");
}

#[tokio::test]
async fn a_request_over_a_real_connection_knows_its_peer() {
    let (address, role) = served().await;
    let mut client = TcpStream::connect(address).await.unwrap();
    let text = b"PUT /loglevel HTTP/1.1\r\nHost: braid\r\nContent-Length: 5\r\n\r\ndebug";
    client.write_all(text).await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert_eq!(role.logs.level(), "debug");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_slowly_is_left_in_the_end() {
    let (address, _role) = served().await;
    for begin in ["", "GET /readyz HTTP/1.1\r\nHo", "PUT /loglevel HTTP/1.1\r\nContent-Length: 5\r\n\r\nde"] {
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(begin.as_bytes()).await.unwrap();
        let accepted = Instant::now();
        let mut answer = Vec::new();
        let end = timeout(LONGEST * 2, client.read_to_end(&mut answer)).await;
        // An end or a reset.
        assert!(end.is_ok(), "{begin:?}: it is still held after {:?}", accepted.elapsed());
        assert!(!answer.starts_with(b"HTTP/1.1 200"), "{begin:?}");
    }
}

#[tokio::test]
async fn the_newest_client_is_answered_while_others_hold_all_connections() {
    let (address, _role) = served().await;
    let begun = Instant::now();
    let mut idle = Vec::new();
    for _ in 0..MOST * 2 {
        idle.push(TcpStream::connect(address).await.unwrap());
    }
    assert!(readyz(address).await.ends_with("ok"));
    // The oldest gave way, before their time was over: as many are open as there may be.
    let (given_way, open) = idle.split_at_mut(MOST + 1);
    for client in given_way {
        let end = timeout(LONGEST / 2, client.read(&mut [0])).await;
        assert_eq!(end.expect("it is still open").unwrap(), 0);
    }
    for client in open {
        assert_eq!(client.try_read(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
    assert!(begun.elapsed() < LONGEST, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn an_address_that_is_taken_is_named_with_its_flag() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let (_, registry) = Metrics::new();
    let (_lines, logs) = logs::lines(LevelFilter::INFO, io::sink);
    let error = run(address, Source::new(Vec::new, || json!({}), registry, logs)).await.unwrap_err();
    let text = chain_text(&error);
    assert!(text.contains(&address.to_string()) && text.contains("--admin-address"), "{text}");
    assert!(text.contains("in use"), "{text}");
}

#[test]
fn every_ipv4_address_stands_in_only_where_there_is_no_ipv6() {
    for (errno, stands_in) in [
        (Errno::AFNOSUPPORT, true),
        (Errno::ADDRNOTAVAIL, true),
        (Errno::ADDRINUSE, false),
        (Errno::ACCESS, false),
    ] {
        assert_eq!(is_without_ipv6(&errno.into()), stands_in, "{errno}");
    }
}
