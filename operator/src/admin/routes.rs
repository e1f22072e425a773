//! What is answered to which request.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, DefaultBodyLimit, RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, StatusCode};
use prometheus_client::encoding::{prometheus_text, text};
use prometheus_client::registry::Registry;
use tracing::info;

use super::Source;
use super::checks::{Check, all_hold, brief, verbose};
use crate::logs::LevelError;
use cni::error::chain_text;

/// Nothing longer is read of a request's body.
const LONGEST_BODY: usize = 4096;

const ENDPOINTS: &str = "\
/livez              200 while the process answers
/readyz             200, or 503 with the reasons; ?verbose shows every check
/metrics            metrics, as OpenMetrics
/state              everything that is known, as JSON
/loglevel           the level of the log; PUT or POST a new one, from the loopback interface only
";

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Asked = State<Arc<Source>>;
/// A status and a text for people.
type Plain = (StatusCode, String);

/// Answers all requests. They have to bear their peer's address as `ConnectInfo<SocketAddr>`.
pub fn router(source: Source) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/state", get(state))
        .route("/loglevel", get(level).put(set_level).post(set_level))
        .fallback(nothing_here)
        .layer(DefaultBodyLimit::max(LONGEST_BODY))
        .with_state(Arc::new(source))
}

async fn nothing_here() -> Plain {
    (StatusCode::NOT_FOUND, format!("there is nothing here; there is:\n{ENDPOINTS}"))
}

async fn livez(RawQuery(query): RawQuery) -> Plain {
    checked("livez", query.as_deref(), &[Check::fine("ping")])
}

async fn readyz(State(source): Asked, RawQuery(query): RawQuery) -> Plain {
    checked("readyz", query.as_deref(), &(source.checks)())
}

fn checked(endpoint: &str, query: Option<&str>, checks: &[Check]) -> Plain {
    let status = if all_hold(checks) { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, if is_verbose(query) { verbose(endpoint, checks) } else { brief(checks) })
}

/// As for the API server, the word alone counts.
fn is_verbose(query: Option<&str>) -> bool {
    let mut pairs = query.unwrap_or_default().split('&');
    pairs.any(|pair| pair.split('=').next() == Some("verbose"))
}

async fn metrics(State(source): Asked, headers: HeaderMap) -> Response {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    match encode(&source.registry, wants_old_text(accepted)) {
        Ok((content_type, text)) => ([(CONTENT_TYPE, content_type)], text).into_response(),
        Err(error) => {
            (StatusCode::INTERNAL_SERVER_ERROR, format!("write the metrics: {error}\n")).into_response()
        }
    }
}

/// Whether a scraper asks for text, and not for OpenMetrics.
fn wants_old_text<'a>(accepted: impl Iterator<Item = &'a str>) -> bool {
    let accepted: Vec<_> = accepted.map(str::to_ascii_lowercase).collect();
    let any = |part: &str| accepted.iter().any(|value| value.contains(part));
    any("text/plain") && !any("application/openmetrics-text")
}

/// The content type, and every metric.
fn encode(registry: &Registry, old: bool) -> Result<(&'static str, String), std::fmt::Error> {
    let mut text = String::new();
    if old {
        prometheus_text::encode(&mut text, registry)?;
        return Ok((prometheus_text::CONTENT_TYPE, text));
    }
    text::encode(&mut text, registry)?;
    Ok((OPENMETRICS, text))
}

async fn state(State(source): Asked) -> Response {
    // Indented: it is read by people first.
    let text = format!("{:#}\n", (source.state)());
    ([(CONTENT_TYPE, "application/json")], text).into_response()
}

async fn level(State(source): Asked) -> String {
    format!("{}\n", source.logs.level())
}

async fn set_level(
    State(source): Asked,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    wanted: String,
) -> Plain {
    if !is_loopback(peer.ip()) {
        let text =
            "the level may be changed from the loopback interface only: kubectl port-forward leads there\n";
        return (StatusCode::FORBIDDEN, text.to_owned());
    }
    // Before it is changed: a quieter log would not show it.
    info!(present = source.logs.level(), wanted, %peer, "the log is asked for another level");
    match source.logs.set(&wanted) {
        Ok(level) => (StatusCode::OK, format!("{level}\n")),
        Err(error @ LevelError::Lost(_)) => {
            (StatusCode::INTERNAL_SERVER_ERROR, format!("{}\n", chain_text(&error)))
        }
        Err(error) => (StatusCode::BAD_REQUEST, format!("{}\n", chain_text(&error))),
    }
}

/// An IPv4 client of an IPv6 socket has an address like `::ffff:127.0.0.1`.
fn is_loopback(peer: IpAddr) -> bool {
    peer.to_canonical().is_loopback()
}
