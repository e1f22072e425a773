//! Room for reviews that arrive: however many clients send however much, what is held of it is bounded, because the
//! controller's memory is.
//!
//! Nearly all reviews are short, and wait for nobody: each connection has one, and connections are bounded. Long ones
//! share a few places. Who gets none in time is told so; the API server then goes by `failurePolicy`.

use std::fmt;
use std::ops::Deref;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use futures::StreamExt;
use http::StatusCode;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time;

/// An API server takes requests of 3 MiB at most. A review holds the new and the old object, but etcd takes 1.5 MiB
/// of each.
pub(super) const LARGEST: usize = 3 << 20;
/// A review that is no longer needs no place. Those of common pods have 5 to 20 KiB, those of networks less.
pub(super) const SMALL: usize = 32 << 10;
/// So many longer ones are held at once.
pub(super) const PLACES: usize = 2;
/// So long one waits for a place: the answer is to be there within the 5 s that the API server waits.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);
/// A review that takes longer to arrive is not worth reading: nobody waits for the answer any more.
const ARRIVAL: Duration = Duration::from_secs(10);

/// The places of long reviews.
#[derive(Debug)]
pub(super) struct Room(Semaphore);

impl Default for Room {
    fn default() -> Self {
        Self(Semaphore::new(PLACES))
    }
}

/// A review, and its place.
#[derive(Debug)]
pub(super) struct Held<'a> {
    body: Vec<u8>,
    _place: Option<SemaphorePermit<'a>>,
}

impl Deref for Held<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.body
    }
}

/// Why a review was not read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unread {
    /// No API server sends such a one.
    TooLong,
    /// Others are being read.
    NoPlace,
    /// It did not arrive in time.
    TooSlow,
    /// The connection broke, or what came is no body.
    Broken(String),
}

impl Unread {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::TooLong => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NoPlace => StatusCode::SERVICE_UNAVAILABLE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Broken(_) => StatusCode::BAD_REQUEST,
        }
    }
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "the review is longer than {LARGEST} bytes"),
            Self::NoPlace => write!(
                f,
                "{PLACES} reviews of more than {SMALL} bytes are being read, and no more at once; ask again"
            ),
            Self::TooSlow => write!(f, "the review did not arrive in time"),
            Self::Broken(error) => write!(f, "the review cannot be read: {error}"),
        }
    }
}

impl Room {
    /// Reads a review; a long one, or one that does not say how long it is, once it has a place.
    pub(super) async fn read(&self, body: Body) -> Result<Held<'_>, Unread> {
        let announced =
            body.size_hint().upper().map_or(LARGEST, |most| most.try_into().unwrap_or(usize::MAX));
        if announced > LARGEST {
            return Err(Unread::TooLong);
        }
        let place = if announced > SMALL { Some(self.place().await?) } else { None };
        let body = time::timeout(ARRIVAL, collect(body, announced)).await.map_err(|_| Unread::TooSlow)??;
        Ok(Held { body, _place: place })
    }

    async fn place(&self) -> Result<SemaphorePermit<'_>, Unread> {
        let place = time::timeout(PATIENCE, self.0.acquire()).await;
        place.ok().and_then(Result::ok).ok_or(Unread::NoPlace)
    }
}

/// Piece by piece into one buffer: a list of pieces of one byte would take many times their sum.
async fn collect(body: Body, most: usize) -> Result<Vec<u8>, Unread> {
    let mut all = Vec::with_capacity(most);
    let mut pieces = body.into_data_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|error| Unread::Broken(error.to_string()))?;
        if piece.len() > most - all.len() {
            return Err(Unread::TooLong);
        }
        all.extend_from_slice(&piece);
    }
    Ok(all)
}

#[cfg(test)]
pub(super) mod tests;
