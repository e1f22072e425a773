//! An API server that answers by a script: for failures that a real one cannot be made to show.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http::{Request, Response};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

/// One request as it came.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Asked {
    pub(super) method: String,
    /// Path and query.
    pub(super) path: String,
    pub(super) body: Value,
}

/// What was asked, in order.
pub(super) type Log = Arc<Mutex<Vec<Asked>>>;

/// A client whose requests `answer` answers with code and body.
pub(super) fn client<F>(answer: F) -> (Client, Log)
where
    F: Fn(&Asked) -> (u16, Value) + Send + Sync + 'static,
{
    let log = Log::default();
    let (seen, answer) = (log.clone(), Arc::new(answer));
    let service = tower::service_fn(move |request: Request<Body>| {
        let (seen, answer) = (seen.clone(), answer.clone());
        async move {
            let (head, body) = request.into_parts();
            let bytes = body.collect_bytes().await.unwrap();
            let asked = Asked {
                method: head.method.to_string(),
                path: head.uri.path_and_query().unwrap().to_string(),
                body: serde_json::from_slice(&bytes).unwrap_or_default(),
            };
            seen.lock().unwrap().push(asked.clone());
            let (code, value) = answer(&asked);
            let answer = Response::builder().status(code).body(Body::from(value.to_string().into_bytes()));
            Ok::<_, Infallible>(answer.unwrap())
        }
    });
    (Client::new(service, "default"), log)
}

/// The body of an error.
pub(super) fn failure(code: u16, reason: &str) -> (u16, Value) {
    (
        code,
        json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason,
        "message": reason}),
    )
}

/// `GET /path` of each request, without queries.
pub(super) fn lines(log: &Log) -> Vec<String> {
    let path = |asked: &Asked| asked.path.split('?').next().unwrap_or_default().to_owned();
    log.lock().unwrap().iter().map(|asked| format!("{} {}", asked.method, path(asked))).collect()
}
