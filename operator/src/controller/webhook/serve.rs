//! Connections: TLS with the certificate of the moment, bounded in number and time.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tower::ServiceExt;

use super::Tls;
use super::places::{Places, Proof};

/// Of a request's head; an API server's has a few hundred bytes. What is not set is 400 KiB for each connection.
const BUFFER: usize = 16 << 10;
/// A handshake takes a few milliseconds.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Longer than the 90 s after which an API server closes a connection that it does not need, so that it never
/// sends a request into a connection that is closed at this moment.
const IDLE: Duration = Duration::from_secs(120);
/// After an error such as too many open files, accepting at once would fail at once.
const REST: Duration = Duration::from_millis(500);

/// Serves for ever. Connections end with this future.
pub(super) async fn serve(listener: TcpListener, mut tls: Tls, router: Router) -> Infallible {
    let mut places = Places::default();
    loop {
        let Some(config) = present(&mut tls).await else {
            // The certificate's keeper is gone, and the process with it.
            return std::future::pending().await;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                places.free().await;
                // The certificate may have changed while nobody came.
                let config = tls.borrow().clone().unwrap_or(config);
                places.take(|proof| connection(stream, config, router.clone(), proof));
            }
            Err(error) => {
                tracing::warn!(%error, "accepting an admission request failed");
                tokio::time::sleep(REST).await;
            }
        }
    }
}

/// The present configuration; waits for the first.
async fn present(tls: &mut Tls) -> Option<Arc<ServerConfig>> {
    tls.wait_for(Option::is_some).await.ok()?.clone()
}

async fn connection(stream: TcpStream, config: Arc<ServerConfig>, router: Router, proof: Proof) {
    let stream = match tokio::time::timeout(HANDSHAKE, TlsAcceptor::from(config).accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            // An API server that does not have the CA yet, or somebody who looks for open ports.
            tracing::debug!(%error, "a TLS handshake failed");
            return;
        }
        Err(_) => return,
    };
    answer(stream, router, proof).await;
}

/// The requests of one connection.
pub(super) async fn answer(stream: impl AsyncRead + AsyncWrite + Unpin, router: Router, proof: Proof) {
    let service = service_fn(|request: Request<Incoming>| {
        let (router, proof) = (router.clone(), proof.clone());
        async move {
            let response = router.oneshot(request).await;
            // Any client can send a head, or a body that never ends.
            if response.as_ref().is_ok_and(|response| response.status().is_success()) {
                proof.give();
            }
            response
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection ended early");
    }
}
