//! The line to the API server: each request of a role goes through here, and kube's client sends it.
//!
//! What is added is how a process behaves that is one of thousands:
//!
//! - An answer has to begin within a time, and a body has to go on. A watch on which nothing was heard for longer
//!   than an API server is silent (it sends a bookmark each minute) ends, and whoever resumes it finds out whether
//!   somebody is there.
//! - Who is asked to come back later does (`gate`). A short pause is waited for here and the request repeated; a longer
//!   one is its owner's to tell, and what is asked next waits for it.
//! - A token that is not taken is read anew from its file at once, and so is the CA where the API server's certificate
//!   is of another one. kube reads both each minute, of a clock that may be set back by hours.
//! - Watches are not resumed on data that has gone back (`history`).

use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use futures::{StreamExt, stream};
use http::{Request, Response, StatusCode, Uri};
use kube::client::Body;
use kube::{Client, Config};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::cause::is_of_unknown_ca;
use super::gate::Gate;
use super::history::{self, History};

/// The body of an answer.
type Answered = axum::body::Body;

/// A pause that is waited for here; two of them are shorter than what any request is given. API servers say 1 s.
const SHORT: Duration = Duration::from_secs(2);
/// What is left of a pause is waited for here, up to this; more is told at once.
const PATIENT: Duration = Duration::from_secs(15);
/// A request is repeated so often after a short pause.
const REPEATS: u32 = 2;
/// An answer about the present version is not longer.
const LARGEST: usize = 64 * 1024;
/// A list that comes whole is not longer: kube holds it twice, and the node role has 64 MiB in all. 5,000 networks are
/// some 8 MB.
const LONGEST_LIST: usize = 8 << 20;
/// Nor is any other answer but a watch.
const LONGEST: usize = 32 << 20;
/// A client is not made anew sooner after the last time.
const RENEWAL: Duration = Duration::from_secs(5);

/// How long the API server may be silent.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Before an answer begins.
    pub answer: Duration,
    /// In the midst of one.
    pub silence: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { answer: Duration::from_secs(30), silence: Duration::from_secs(90) }
    }
}

/// How the API server is asked, and what is noticed of it.
#[derive(Clone)]
pub struct Connection {
    /// Asks it.
    pub client: Client,
    /// Changes when the API server's data has gone back, as after a restore of etcd.
    pub restored: watch::Receiver<u64>,
}

/// The API server has not answered.
#[derive(Debug, thiserror::Error)]
#[error("the API server has not answered for {0:?}")]
struct Silent(Duration);

/// Nothing more came of a body.
#[derive(Debug, thiserror::Error)]
#[error("the API server stopped in the midst of an answer, {0:?} ago")]
struct Stuck(Duration);

/// An answer does not fit into our memory.
#[derive(Debug, thiserror::Error)]
#[error("the answer is longer than {} MiB", .0 >> 20)]
struct TooLong(usize);

/// Whether an answer was given up for its length.
pub fn is_too_long(error: &(dyn Error + 'static)) -> bool {
    error.is::<TooLong>() || error.source().is_some_and(is_too_long)
}

/// Waits for an answer for so long; its lack is an error like others.
pub async fn within<T>(
    limit: Duration,
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, kube::Error> {
    timeout(limit, request).await.unwrap_or_else(|_| Err(silent(limit)))
}

fn silent(limit: Duration) -> kube::Error {
    kube::Error::Service(Box::new(Silent(limit)))
}

/// Makes the line; nothing is asked yet.
pub fn connect(mut config: Config, patience: Patience) -> Result<Connection, kube::Error> {
    // What is repeated, and when, is decided here.
    config.default_retry = false;
    let namespace = config.default_namespace.clone();
    let client = Mutex::new((Client::try_from(config.clone())?, Instant::now()));
    let (gate, history) = (Gate::default(), History::new());
    let restored = history.restored();
    let line = Arc::new(Line { config, client, patience, gate, history });
    let service = tower::service_fn(move |request| {
        let line = Arc::clone(&line);
        async move { line.send(request).await }
    });
    Ok(Connection { client: Client::new(service, namespace), restored })
}

/// What the API server says of its present version.
enum Present {
    At(u64),
    /// It has no networks, or does not let us see them, or its versions are no numbers.
    Unsaid,
    /// It cannot say now: that is the watch's answer, which would be begun on nobody knows what.
    NotNow(Response<Answered>),
}

struct Line {
    config: Config,
    /// What sends, and since when it is used.
    client: Mutex<(Client, Instant)>,
    patience: Patience,
    gate: Gate,
    history: History,
}

impl Line {
    async fn send(&self, request: Request<Body>) -> Result<Response<Answered>, kube::Error> {
        let mut goes_on_from = history::watched_from(request.uri());
        let (mut request, mut repeats) = (request, 0);
        loop {
            if let Some(rest) = self.gate.closed_for(request.uri(), Instant::now()) {
                if rest > PATIENT {
                    return later(rest);
                }
                sleep(rest).await;
                continue;
            }
            if let Some(seen) = goes_on_from.take() {
                match self.present_version(request.uri()).await? {
                    Present::At(present) => {
                        if let Some(refusal) = self.history.refuse(request.uri(), seen, present) {
                            return Ok(refusal.map(Answered::new));
                        }
                    }
                    Present::Unsaid => {}
                    Present::NotNow(answer) => return Ok(answer),
                }
                continue;
            }
            let again = copy(&request);
            let uri = request.uri().clone();
            let answer = self.ask(request).await?;
            if let Some(pause) = self.gate.heed(&uri, answer.status(), answer.headers())
                && let Some(again) = again.filter(|_| pause <= SHORT && repeats < REPEATS)
            {
                (request, repeats) = (again, repeats + 1);
                continue;
            }
            return Ok(answer);
        }
    }

    async fn present_version(&self, watch: &Uri) -> Result<Present, kube::Error> {
        let question = history::question(watch);
        let uri = question.uri().clone();
        let answer = self.ask(question).await?;
        let status = answer.status();
        self.gate.heed(&uri, status, answer.headers());
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            return Ok(Present::NotNow(answer));
        }
        let bytes = axum::body::to_bytes(answer.into_body(), LARGEST).await.ok();
        let version = bytes.filter(|_| status.is_success()).and_then(|bytes| history::version(&bytes));
        Ok(version.map_or(Present::Unsaid, Present::At))
    }

    async fn ask(&self, request: Request<Body>) -> Result<Response<Answered>, kube::Error> {
        let Patience { answer, silence } = self.patience;
        let kind = Kind::of(request.uri());
        let again = copy(&request);
        let send = |request| {
            let client = self.client().0.clone();
            async move { within(answer, client.send(request)).await }
        };
        let mut answer = send(request).await;
        // Nothing was asked yet: without this, a watch would come back only after its pause.
        if answer.as_ref().is_err_and(|error| is_of_unknown_ca(error))
            && self.renew(Instant::now())
            && let Some(again) = again
        {
            answer = send(again).await;
        }
        let answer = answer?;
        if answer.status() == StatusCode::UNAUTHORIZED {
            self.renew(Instant::now());
        }
        Ok(answer.map(|body| listening(body, silence, kind)))
    }

    /// Reads token and CA anew; whether it did.
    fn renew(&self, now: Instant) -> bool {
        let mut place = self.client();
        if self.config.auth_info.token_file.is_some()
            && now.duration_since(place.1) >= RENEWAL
            && let Ok(client) = Client::try_from(self.config.clone())
        {
            *place = (client, now);
            return true;
        }
        false
    }

    fn client(&self) -> MutexGuard<'_, (Client, Instant)> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The same once more; `None` where the body cannot be had twice.
fn copy(request: &Request<Body>) -> Option<Request<Body>> {
    let mut copy = Request::new(request.body().try_clone()?);
    request.method().clone_into(copy.method_mut());
    request.uri().clone_into(copy.uri_mut());
    request.headers().clone_into(copy.headers_mut());
    *copy.extensions_mut() = request.extensions().clone();
    Some(copy)
}

/// What the API server has said already, in its place.
fn later(rest: Duration) -> Result<Response<Answered>, kube::Error> {
    let seconds = rest.as_secs() + 1;
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "TooManyRequests", "code": 429,
        "message": "the API server has asked not to be asked for now", "details": {"retryAfterSeconds": seconds},
    });
    let body = Answered::from(status.to_string());
    Response::builder().status(429).body(body).map_err(kube::Error::HttpError)
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Goes on for ever.
    Watch,
    /// Comes whole from the API server's memory, however long it is.
    WholeList,
    Other,
}

impl Kind {
    fn of(uri: &Uri) -> Self {
        let has = |parameter| uri.query().is_some_and(|query| query.split('&').any(|one| one == parameter));
        match () {
            () if has("watch=true") => Self::Watch,
            () if has("resourceVersion=0") => Self::WholeList,
            () => Self::Other,
        }
    }

    /// In bytes.
    fn longest(self) -> usize {
        match self {
            Self::Watch => usize::MAX,
            Self::WholeList => LONGEST_LIST,
            Self::Other => LONGEST,
        }
    }
}

/// A body that does not stop in its midst (a watch ends then, and anything else fails), and ends before it is too long.
fn listening(body: Body, silence: Duration, kind: Kind) -> Answered {
    let begun = (Answered::new(body).into_data_stream(), kind.longest());
    Answered::from_stream(stream::unfold(begun, move |(mut chunks, rest)| async move {
        let chunk = match timeout(silence, chunks.next()).await {
            Ok(chunk) => chunk?,
            Err(_) if kind == Kind::Watch => return None,
            Err(_) => Err(axum::Error::new(Stuck(silence))),
        };
        let length = chunk.as_ref().map_or(0, Bytes::len);
        match rest.checked_sub(length) {
            Some(rest) => Some((chunk, (chunks, rest))),
            None => Some((Err(axum::Error::new(TooLong(kind.longest()))), (chunks, 0))),
        }
    }))
}
