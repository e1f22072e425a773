//! An API server that says what a test has written down for it.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{RawQuery, State};
use axum::response::Response;
use futures::{StreamExt, stream};
use kube::Config;
use operator::cluster::{Connection, Patience, line};
use serde_json::{Value, json};

/// One answer.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// An error of the API server, with headers.
    Failure(u16, &'static [(&'static str, &'static str)]),
    /// A list with its resource version.
    List(u64, Vec<Value>),
    /// A part of a list, and what to ask for the next one with.
    Page(u64, Vec<Value>, &'static str),
    /// A watch that says these lines and ends.
    Watch(Vec<String>),
    /// A watch that says these lines and stays open.
    Open(Vec<String>),
    /// No answer at all.
    Silence,
}

/// Answers that are to be given, in order, to lists and to watches. After them: an empty list, and silence.
#[derive(Debug, Default)]
struct Script {
    lists: VecDeque<Answer>,
    watches: VecDeque<Answer>,
    /// Lists of a present version, for who asks for nothing else; after them it is not said.
    versions: VecDeque<Answer>,
    asked: Vec<Asked>,
}

/// A request, but for those for the present version.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) at: Instant,
    pub(crate) query: String,
}

impl Asked {
    pub(crate) fn is_watch(&self) -> bool {
        self.query.contains("watch=true")
    }
}

/// A running server.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    script: Arc<Mutex<Script>>,
    address: SocketAddr,
}

impl Server {
    /// Starts it.
    pub(crate) async fn start(lists: Vec<Answer>, watches: Vec<Answer>) -> Self {
        Self::start_at(lists, watches, Vec::new()).await
    }

    /// Starts one that is asked for its present version.
    pub(crate) async fn start_at(lists: Vec<Answer>, watches: Vec<Answer>, versions: Vec<Answer>) -> Self {
        let script = Script {
            lists: lists.into(),
            watches: watches.into(),
            versions: versions.into(),
            asked: Vec::new(),
        };
        let script = Arc::new(Mutex::new(script));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().fallback(answer).with_state(Arc::clone(&script));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { script, address }
    }

    /// The line that the roles use, with less patience.
    pub(crate) fn connect(&self) -> Connection {
        let config = Config::new(format!("http://{}", self.address).parse().unwrap());
        let patience = Patience { answer: Duration::from_secs(2), silence: Duration::from_secs(2) };
        line::connect(config, patience).unwrap()
    }

    /// The requests so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.script.lock().unwrap().asked.clone()
    }
}

async fn answer(State(script): State<Arc<Mutex<Script>>>, RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap_or_default();
    let answer = {
        let mut script = script.lock().unwrap();
        if query == "limit=1" {
            script.versions.pop_front().unwrap_or(Answer::Failure(404, &[]))
        } else {
            let asked = Asked { at: Instant::now(), query };
            let watches = asked.is_watch();
            script.asked.push(asked);
            if watches {
                script.watches.pop_front().unwrap_or(Answer::Open(Vec::new()))
            } else {
                script.lists.pop_front().unwrap_or(Answer::List(1, Vec::new()))
            }
        }
    };
    let (code, body) = match answer {
        Answer::Silence => std::future::pending().await,
        Answer::Failure(code, headers) => {
            let status = json!({"kind": "Status", "status": "Failure", "reason": "Scripted",
                "message": "as the script says", "code": code});
            let response = headers
                .iter()
                .fold(Response::builder(), |response, (name, value)| response.header(*name, *value));
            return response.status(code).body(Body::from(status.to_string())).unwrap();
        }
        Answer::List(version, items) => (200, list(version, items, "")),
        Answer::Page(version, items, next) => (200, list(version, items, next)),
        Answer::Watch(lines) => (200, Body::from_stream(stream::iter(chunks(lines)))),
        Answer::Open(lines) => (200, Body::from_stream(stream::iter(chunks(lines)).chain(stream::pending()))),
    };
    Response::builder().status(code).body(body).unwrap()
}

/// Of which kind is for who asked to know.
fn list(version: u64, items: Vec<Value>, next: &str) -> Body {
    let list = json!({"apiVersion": crds::nad::API_VERSION, "kind": "NetworkAttachmentDefinitionList",
        "metadata": {"resourceVersion": version.to_string(), "continue": next}, "items": items});
    Body::from(list.to_string())
}

fn chunks(lines: Vec<String>) -> Vec<Result<Bytes, Infallible>> {
    lines.into_iter().map(|line| Ok(Bytes::from(line))).collect()
}

/// A line of a watch.
pub(crate) fn event(kind: &str, object: &Value) -> String {
    format!("{}\n", json!({"type": kind, "object": object}))
}

/// The line by which a watch is told that its version is too old.
pub(crate) fn expired() -> String {
    event(
        "ERROR",
        &json!({"kind": "Status", "status": "Failure", "reason": "Expired", "message": "too old", "code": 410}),
    )
}

/// A network.
pub(crate) fn nad(name: &str, version: u64) -> Value {
    json!({
        "apiVersion": crds::nad::API_VERSION, "kind": crds::nad::KIND,
        "metadata": {"namespace": "default", "name": name, "resourceVersion": version.to_string(), "generation": 1},
        "spec": {"config": r#"{"type":"bridge"}"#},
    })
}
