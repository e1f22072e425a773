//! One gRPC call over a Unix socket: a request message in, a response message out.
//!
//! The few calls that the tests make need neither streams nor pools nor TLS, so this is the wire protocol over
//! the `h2` crate instead of a framework: a length-prefixed message each way, the status in the trailers.

use std::future::poll_fn;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use h2::{RecvStream, client};
use http::{HeaderMap, Request};
use prost::Message;
use prost::bytes::{BufMut, Bytes, BytesMut};
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};

/// The part of a message in front of its content: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// A server behind a Unix socket. Each call uses a connection of its own.
pub(super) struct Channel {
    socket: PathBuf,
    runtime: Runtime,
}

impl Channel {
    pub(super) fn new(socket: &Path) -> Result<Self> {
        let runtime =
            Builder::new_current_thread().enable_all().build().context("starting the gRPC client")?;
        Ok(Self { socket: socket.to_owned(), runtime })
    }

    /// Calls `method` (`/package.Service/Method`) and waits at most `limit` for the answer.
    pub(super) fn call<Answer: Message + Default>(
        &self,
        method: &str,
        request: &impl Message,
        limit: Duration,
    ) -> Result<Answer> {
        let body = encode(request);
        self.runtime
            .block_on(async { tokio::time::timeout(limit, exchange(&self.socket, method, body)).await })
            .with_context(|| format!("{method}: no answer within {limit:?}"))?
            .and_then(|message| Answer::decode(message).context("decoding the answer"))
            .with_context(|| format!("calling {method} at {}", self.socket.display()))
    }
}

fn encode(message: &impl Message) -> Bytes {
    let content = message.encode_to_vec();
    let mut body = BytesMut::with_capacity(PREFIX + content.len());
    body.put_u8(0);
    // No message of a test comes near the limit; one that did would be cut off by the server.
    body.put_u32(u32::try_from(content.len()).unwrap_or(u32::MAX));
    body.put(content.as_slice());
    body.freeze()
}

/// Sends one request and returns the content of the one message that answers it.
async fn exchange(socket: &Path, method: &str, body: Bytes) -> Result<Bytes> {
    let stream = UnixStream::connect(socket).await.context("connecting")?;
    let (sender, connection) = client::handshake(stream).await.context("opening an HTTP/2 connection")?;
    let driver = tokio::spawn(connection);
    let answer = async {
        let request = Request::post(format!("http://localhost{method}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())?;
        let (response, mut upload) = sender.ready().await?.send_request(request, false)?;
        upload.send_data(body, true)?;
        let (head, stream) = response.await?.into_parts();
        receive(&head.headers, stream).await
    }
    .await;
    driver.abort();
    answer
}

/// Reads a message and the status after it. A server that refuses at once sends its status in the headers.
async fn receive(headers: &HeaderMap, mut stream: RecvStream) -> Result<Bytes> {
    let mut data = BytesMut::new();
    while let Some(chunk) = stream.data().await {
        let chunk = chunk?;
        stream.flow_control().release_capacity(chunk.len())?;
        data.put(chunk);
    }
    let trailers = poll_fn(|context| stream.poll_trailers(context)).await?;
    check_status(trailers.as_ref().unwrap_or(headers))?;
    ensure!(data.len() >= PREFIX && data[0] == 0, "the answer is not one uncompressed message");
    Ok(data.freeze().slice(PREFIX..))
}

fn check_status(headers: &HeaderMap) -> Result<()> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match text("grpc-status") {
        "0" => Ok(()),
        code => bail!("gRPC status {code}: {}", percent_decoded(text("grpc-message"))),
    }
}

/// Undoes the percent encoding of gRPC messages; what is not encoded stays as it is.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, others)) = rest.split_first() {
        let digits =
            (*first == b'%').then(|| others.get(..2).and_then(|two| str::from_utf8(two).ok())).flatten();
        let decoded = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(decoded.unwrap_or(*first));
        rest = if decoded.is_some() { &others[2..] } else { others };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_refused_calls_are_readable() {
        assert_eq!(percent_decoded("a%0Ab %e2%82%ac 100% %zz"), "a\nb € 100% %zz");
    }

    #[test]
    fn a_call_to_a_missing_server_says_where_it_was_sought() {
        let channel = Channel::new(Path::new("/nonexistent/cri.sock")).unwrap();
        let error = channel.call::<()>("/s.S/M", &(), Duration::from_secs(5)).unwrap_err();
        assert!(format!("{error:#}").contains("calling /s.S/M at /nonexistent/cri.sock: connecting"));
    }
}
