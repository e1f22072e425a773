//! The validating webhook: answers the API server's admission requests for networks and pods, in every replica.
//!
//! It is a help for people who write manifests, never a lock: the configuration that ships says
//! `failurePolicy: Ignore`, an answer takes no question to the API server, and what cannot be known is not held
//! against anybody. What it refuses, meta-cni or the plugins would refuse when the pod starts.
//!
//! | to | see |
//! |---|---|
//! | read what an answer goes by | `request` |
//! | decide what is answered | `answer` |
//! | hold a bounded sum of reviews | `room` |
//! | know which networks there are | [`networks`] |
//! | serve it over TLS | `serve` |
//! | keep places for those who ask | `places` |

mod answer;
pub mod networks;
mod places;
mod request;
mod room;
mod serve;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use http::StatusCode;
use kube::core::DynamicObject;
use kube::core::admission::{AdmissionResponse, AdmissionReview};
use tokio::sync::watch;
use tokio_rustls::rustls::ServerConfig;

use crate::admin::listen;
use crate::metrics::{Metrics, RequestKind, RequestVerdict};
use crate::pod_rules::PodRules;
use request::Request;
use room::Room;

pub use networks::Networks;

/// The TLS configuration to serve with; `None` until there is a certificate.
pub type Tls = watch::Receiver<Option<Arc<ServerConfig>>>;

/// Why admission requests cannot be answered.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// The address is not to be had.
    #[error(
        "listen for admission requests on {address}; choose another --webhook-address, or port 0 for none"
    )]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

/// What answers go by.
#[derive(Debug)]
pub struct Desk {
    /// The networks of the cluster.
    pub networks: Arc<Networks>,
    /// The rules for pods.
    pub rules: PodRules,
    /// Where answers are counted.
    pub metrics: Arc<Metrics>,
}

/// Answers admission requests on `address` for ever. Waits until there is a certificate, and takes a new one for
/// the connections that come after it.
pub async fn run(address: SocketAddr, tls: Tls, desk: Arc<Desk>) -> Result<Infallible, WebhookError> {
    let listener = listen(address).await.map_err(|source| WebhookError::Listen { address, source })?;
    tracing::info!(%address, "admission requests are answered");
    Ok(serve::serve(listener, tls, router(desk)).await)
}

/// The paths. What is asked about stands in the review, so all of them lead to one place; the separate ones are
/// for people who read an audit log.
pub fn router(desk: Arc<Desk>) -> Router {
    Router::new()
        .route("/validate", post(review))
        .route("/validate/networks", post(review))
        .route("/validate/pods", post(review))
        .with_state((desk, Arc::default()))
}

async fn review(State((desk, room)): State<(Arc<Desk>, Arc<Room>)>, body: Body) -> Response {
    // Its room is free again when it has been judged; an answer is short.
    let body = match room.read(body).await {
        Ok(body) => body,
        Err(unread) => return (unread.status(), unread.to_string()).into_response(),
    };
    match answered(&body, &desk) {
        Ok(review) => Json(review).into_response(),
        Err(reason) => (StatusCode::BAD_REQUEST, reason).into_response(),
    }
}

/// The review that answers the review of a request; the reason, if it is none.
pub fn answered(body: &[u8], desk: &Desk) -> Result<AdmissionReview<DynamicObject>, String> {
    let begun = Instant::now();
    let request = Request::read(body).map_err(|error| answer::shorten(&error)).inspect_err(|_| {
        desk.metrics.webhook_request(RequestKind::other, RequestVerdict::unreadable, begun.elapsed());
    })?;
    let answer = answer::answer(&request, desk);
    desk.metrics.webhook_request(kind(&request), verdict(&answer), begun.elapsed());
    Ok(answer.into_review())
}

fn kind(request: &Request) -> RequestKind {
    match request.kind.kind.as_str() {
        crds::nad::KIND => RequestKind::network,
        "Pod" => RequestKind::pod,
        _ => RequestKind::other,
    }
}

fn verdict(answer: &AdmissionResponse) -> RequestVerdict {
    match (answer.allowed, &answer.warnings) {
        (false, _) => RequestVerdict::refused,
        (true, Some(_)) => RequestVerdict::warned,
        (true, None) => RequestVerdict::allowed,
    }
}

#[cfg(test)]
pub(crate) mod tests;
