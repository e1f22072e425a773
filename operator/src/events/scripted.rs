//! An API server for tests: it answers as it is told, and remembers what it was asked.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use http::{Request, Response};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

/// What it answers.
pub(crate) enum Answer {
    /// This status and this body.
    Says(u16, Value),
    /// Text of a proxy, not of the API server.
    Text(u16, &'static str),
    /// Never.
    Hangs,
}

/// What it was asked.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) at: Instant,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) content_type: String,
    pub(crate) accept: String,
    pub(crate) body: Value,
}

/// The API server; clones are the same one.
#[derive(Clone)]
pub(crate) struct Scripted {
    answers: Arc<Mutex<VecDeque<Answer>>>,
    asked: Arc<watch::Sender<Vec<Asked>>>,
}

impl Scripted {
    /// Gives these answers, one after another, and then 200.
    pub(crate) fn new(answers: impl IntoIterator<Item = Answer>) -> Self {
        let answers = Arc::new(Mutex::new(answers.into_iter().collect()));
        Self { answers, asked: Arc::new(watch::Sender::default()) }
    }

    pub(crate) fn client(&self) -> Client {
        let server = self.clone();
        let serve = move |request: Request<Body>| server.clone().serve(request);
        Client::new(tower::service_fn(serve), "default")
    }

    async fn serve(self, request: Request<Body>) -> Result<Response<Body>, tower::BoxError> {
        let (head, body) = request.into_parts();
        let header = |name| head.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        let asked = Asked {
            at: Instant::now(),
            method: head.method.to_string(),
            path: head.uri.path().to_owned(),
            content_type: header("content-type").unwrap_or_default(),
            accept: header("accept").unwrap_or_default(),
            body: serde_json::from_slice(&body.collect_bytes().await?)?,
        };
        let answer = self.answers.lock().unwrap().pop_front().unwrap_or(Answer::Says(200, json!({})));
        self.asked.send_modify(|all| all.push(asked));
        let (status, body) = match answer {
            Answer::Says(status, body) => (status, body.to_string()),
            Answer::Text(status, text) => (status, text.to_owned()),
            Answer::Hangs => std::future::pending().await,
        };
        Ok(Response::builder().status(status).body(Body::from(body.into_bytes()))?)
    }

    /// Waits until it has been asked so often, and returns all that it was asked.
    pub(crate) async fn asked(&self, times: usize) -> Vec<Asked> {
        let mut asked = self.asked.subscribe();
        asked.wait_for(|all| all.len() >= times).await.unwrap().clone()
    }

    /// How often it has been asked by now.
    pub(crate) fn count(&self) -> usize {
        self.asked.borrow().len()
    }
}

/// A failure as the API server says it.
pub(crate) fn failure(code: u16, details: Value) -> Answer {
    let reason = "whatever";
    Answer::Says(
        code,
        json!({
            "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
            "message": "no", "reason": reason, "details": details,
        }),
    )
}
