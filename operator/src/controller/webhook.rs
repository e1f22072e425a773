//! The validating webhook: answers the API server's admission requests for networks and pods, in every replica.
//!
//! It is a help for people who write manifests, never a lock: the configuration that ships says
//! `failurePolicy: Ignore`, an answer takes no question to the API server, and what cannot be known is not held
//! against anybody. What it refuses, meta-cni or the plugins would refuse when the pod starts.
//!
//! | to | see |
//! |---|---|
//! | decide what is answered | `answer` |
//! | know which networks there are | [`networks`] |
//! | serve it over TLS | `serve` |

mod answer;
pub mod networks;
mod serve;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use cni::npwg::{Isolation, Namespace};
use http::StatusCode;
use kube::core::DynamicObject;
use kube::core::admission::{AdmissionRequest, AdmissionResponse, AdmissionReview};
use store::settings::Settings;
use tokio::sync::watch;
use tokio_rustls::rustls::ServerConfig;

use crate::admin::listen;
use crate::metrics::{Metrics, RequestKind, RequestVerdict};

pub use networks::Networks;

/// The API server takes objects of 3 MiB at most; a review holds the new and the old one, but etcd takes 1.5 MiB
/// of each.
const LARGEST_REVIEW: usize = 3 << 20;
/// A review that takes longer to arrive than the API server waits for the answer is not worth reading.
const ARRIVAL: Duration = Duration::from_secs(10);

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

/// The settings of the nodes' plugin by which pods are judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Which networks a pod may use.
    pub isolation: Isolation,
    /// The namespace of a default network that is named without one.
    pub multus_namespace: Namespace,
}

impl From<&Settings> for Rules {
    fn from(settings: &Settings) -> Self {
        Self { isolation: settings.isolation.clone(), multus_namespace: settings.multus_namespace.clone() }
    }
}

/// What answers go by.
#[derive(Debug)]
pub struct Desk {
    /// The networks of the cluster.
    pub networks: Arc<Networks>,
    /// The rules for pods.
    pub rules: Rules,
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
        .with_state(desk)
}

async fn review(State(desk): State<Arc<Desk>>, body: Body) -> Response {
    let body = match tokio::time::timeout(ARRIVAL, to_bytes(body, LARGEST_REVIEW)).await {
        Ok(Ok(body)) => body,
        Ok(Err(error)) => {
            let text =
                format!("the review cannot be read, or is longer than {LARGEST_REVIEW} bytes: {error}");
            return (StatusCode::PAYLOAD_TOO_LARGE, text).into_response();
        }
        Err(_) => return (StatusCode::REQUEST_TIMEOUT, "the review did not arrive in time").into_response(),
    };
    let begun = Instant::now();
    match request(&body) {
        Ok(request) => {
            let answer = answer::answer(&request, &desk);
            desk.metrics.webhook_request(kind(&request), verdict(&answer), begun.elapsed());
            Json(answer.into_review()).into_response()
        }
        Err(reason) => {
            desk.metrics.webhook_request(RequestKind::other, RequestVerdict::unreadable, begun.elapsed());
            (StatusCode::BAD_REQUEST, reason).into_response()
        }
    }
}

fn kind(request: &AdmissionRequest<DynamicObject>) -> RequestKind {
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

fn request(body: &[u8]) -> Result<AdmissionRequest<DynamicObject>, String> {
    let review: AdmissionReview<DynamicObject> =
        serde_json::from_slice(body).map_err(|error| format!("this is no AdmissionReview: {error}"))?;
    review.try_into().map_err(|_| "the AdmissionReview holds no request".to_owned())
}

#[cfg(test)]
pub(crate) mod tests;
