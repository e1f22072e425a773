use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::join_all;
use futures::stream::{self, StreamExt};
use futures::{FutureExt, poll};
use tokio::time::Instant;

use super::*;

/// A client that sends so many pieces of 1 KiB, of which each that is taken is counted, and then nothing for ever.
pub(in super::super) fn slow(pieces: usize, taken: &Arc<AtomicUsize>) -> Body {
    let taken = Arc::clone(taken);
    let sent = stream::iter(0..pieces).map(move |_| {
        taken.fetch_add(1, Ordering::Relaxed);
        Ok::<_, Infallible>(vec![b' '; 1 << 10])
    });
    Body::from_stream(sent.chain(stream::pending()))
}

#[tokio::test(start_paused = true)]
async fn what_is_held_of_long_reviews_is_bounded_however_many_clients_send() {
    let (room, taken) = (Room::default(), Arc::default());
    let clients = (0..256).map(|_| room.read(slow(LARGEST >> 10, &taken)).map(Result::unwrap_err));
    let ends = join_all(clients).await;
    assert_eq!(taken.load(Ordering::Relaxed) << 10, PLACES * LARGEST);
    assert!(ends[..PLACES].iter().all(|end| *end == Unread::TooSlow), "{ends:?}");
    assert!(ends[PLACES..].iter().all(|end| *end == Unread::NoPlace), "{ends:?}");
}

#[tokio::test(start_paused = true)]
async fn short_reviews_wait_for_nobody_and_long_ones_for_a_place() {
    let (room, begun) = (Room::default(), Instant::now());
    let mut first = Box::pin(room.read(slow(1, &Arc::default())));
    let mut further = pin!(join_all((1..PLACES).map(|_| room.read(slow(1, &Arc::default())))));
    assert!(poll!(&mut first).is_pending() && poll!(&mut further).is_pending());
    assert_eq!(room.read(Body::from(vec![b' '; SMALL])).await.unwrap().len(), SMALL);
    assert_eq!(begun.elapsed(), Duration::ZERO);

    let mut long = pin!(room.read(Body::from(vec![b' '; LARGEST])));
    assert!(poll!(&mut long).is_pending());
    drop(first);
    let held = long.await.unwrap();
    assert_eq!((held.len(), begun.elapsed()), (LARGEST, Duration::ZERO));

    // As long as it is judged, its place is not another's.
    let mut next = pin!(room.read(Body::from(vec![b' '; SMALL + 1])));
    assert!(poll!(&mut next).is_pending());
    drop(held);
    assert_eq!(next.await.unwrap().len(), SMALL + 1);
}

#[tokio::test(start_paused = true)]
async fn who_gets_no_place_is_told_so_before_the_api_server_stops_waiting() {
    let (room, begun) = (Room::default(), Instant::now());
    let mut holding = pin!(join_all((0..PLACES).map(|_| room.read(slow(1, &Arc::default())))));
    assert!(poll!(&mut holding).is_pending());
    let unread = room.read(Body::from(vec![b' '; SMALL + 1])).await.unwrap_err();
    assert_eq!(unread.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        unread.to_string(),
        "2 reviews of more than 32768 bytes are being read, and no more at once; ask again"
    );
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_review_is_too_long_whether_it_says_so_or_not() {
    let room = Room::default();
    let pieces = (LARGEST >> 10) + 1;
    let piecemeal =
        Body::from_stream(stream::iter((0..pieces).map(|_| Ok::<_, Infallible>(vec![b' '; 1 << 10]))));
    for body in [Body::from(vec![b' '; LARGEST + 1]), piecemeal] {
        assert_eq!(room.read(body).await.unwrap_err(), Unread::TooLong);
    }
}
