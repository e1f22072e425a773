//! Connections, few and short: nobody can use up the process's memory or file descriptors, or keep a probe from
//! being answered.
//!
//! Each connection is one request and has a bounded time in all, so that a client that sends or reads slowly
//! holds nothing for long. When there are too many, the oldest gives way to the newest: a probe is answered
//! at once even while others hold all they can get.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time;
use tower::ServiceExt;
use tracing::{debug, warn};

/// So many at once: Prometheus, two probes, a few people.
pub(super) const MOST: usize = 32;
/// From being accepted to the end.
pub(super) const LONGEST: Duration = Duration::from_secs(10);
/// Of a request's head; hyper's smallest.
const BUFFER: usize = 8192;
/// Before accepting is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// Answers connections of `listener` for ever.
pub async fn serve(listener: TcpListener, router: Router) -> Infallible {
    let mut open = Connections::default();
    let mut troubled = false;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                troubled = false;
                open.take(answer(stream, peer, router.clone()));
            }
            // Only that client's trouble.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                if !troubled {
                    warn!(error = %error, "the admin server cannot accept connections; it tries again each second");
                }
                troubled = true;
                time::sleep(PAUSE).await;
            }
        }
    }
}

/// One connection, from its beginning to its end.
async fn answer(stream: TcpStream, peer: SocketAddr, router: Router) {
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        router.clone().oneshot(request)
    });
    let mut server = http1::Builder::new();
    server.keep_alive(false).max_buf_size(BUFFER).timer(TokioTimer::new());
    let connection = server.serve_connection(TokioIo::new(stream), service);
    match time::timeout(LONGEST, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%peer, error = %error, "a connection of the admin server ended early"),
        Err(_) => debug!(%peer, "a client of the admin server was too slow"),
    }
}

/// Those that are open; dropped with their owner.
#[derive(Default)]
struct Connections {
    tasks: JoinSet<()>,
    by_age: VecDeque<AbortHandle>,
}

impl Connections {
    fn take(&mut self, connection: impl Future<Output = ()> + Send + 'static) {
        while self.tasks.try_join_next().is_some() {}
        self.by_age.retain(|connection| !connection.is_finished());
        if self.by_age.len() >= MOST
            && let Some(oldest) = self.by_age.pop_front()
        {
            oldest.abort();
        }
        self.by_age.push_back(self.tasks.spawn(connection));
    }
}
