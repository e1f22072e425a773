//! Places for connections: bounded, and not to be held by those who ask nothing.
//!
//! An API server finishes its handshake and sends its first review in milliseconds, and then keeps the connection for
//! others to come. Whoever opens connections and sends nothing would hold places that it needs. So when all are taken,
//! the oldest one on which no review has been answered yet gives way to the newest connection.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::{AbortHandle, JoinSet};

/// One API server holds a few connections; more come only from others.
pub(super) const MOST: usize = 256;

/// Whether a review has been answered on a connection.
#[derive(Debug, Clone, Default)]
pub(super) struct Proof(Arc<AtomicBool>);

impl Proof {
    /// One has.
    pub(super) fn give(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_given(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug)]
struct Taken {
    proof: Proof,
    task: AbortHandle,
}

/// The connections that are open; they end with it.
#[derive(Debug, Default)]
pub(super) struct Places {
    tasks: JoinSet<()>,
    /// The oldest first.
    taken: VecDeque<Taken>,
}

impl Places {
    /// Waits until one more connection can be taken in.
    pub(super) async fn free(&mut self) {
        loop {
            while self.tasks.try_join_next().is_some() {}
            self.taken.retain(|taken| !taken.task.is_finished());
            if self.taken.len() < MOST || self.taken.iter().any(|taken| !taken.proof.is_given()) {
                return;
            }
            // A panic is in the log; it costs its own connection alone, whatever a client has sent to cause it.
            self.tasks.join_next().await;
        }
    }

    /// Takes a connection in, in the place of another one if need be. To be called when there is room: see
    /// [`Places::free`].
    pub(super) fn take<F>(&mut self, connection: impl FnOnce(Proof) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        if self.taken.len() >= MOST
            && let Some(oldest) = self.taken.iter().position(|taken| !taken.proof.is_given())
            && let Some(evicted) = self.taken.remove(oldest)
        {
            evicted.task.abort();
        }
        let proof = Proof::default();
        let task = self.tasks.spawn(connection(proof.clone()));
        self.taken.push_back(Taken { proof, task });
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use futures::FutureExt;
    use tokio::sync::oneshot;

    use super::*;

    /// A connection that is open until it is evicted or told to end, and what shows that it is.
    fn open(places: &mut Places) -> (Proof, oneshot::Sender<()>) {
        let (end, ended) = oneshot::channel();
        let mut proof = Proof::default();
        places.take(|given| {
            proof = given;
            async move { drop(ended.await) }
        });
        (proof, end)
    }

    #[tokio::test]
    async fn the_oldest_without_an_answered_review_gives_way_and_others_stay() {
        let mut places = Places::default();
        let mut connections = Vec::new();
        for number in 0..MOST {
            assert!(places.free().now_or_never().is_some());
            connections.push(open(&mut places));
            if number < 3 {
                connections[number].0.give();
            }
        }
        assert!(places.free().now_or_never().is_some());
        let (newest, _open) = open(&mut places);
        connections[3].1.closed().await;
        let closed: Vec<_> = (0..MOST).filter(|number| connections[*number].1.is_closed()).collect();
        assert_eq!((closed, places.taken.len()), (vec![3], MOST));

        // Where all have asked, the next one waits until one ends.
        connections.iter().map(|(proof, _)| proof).chain([&newest]).for_each(Proof::give);
        assert!(places.free().now_or_never().is_none());
        let (_, end) = connections.swap_remove(0);
        end.send(()).unwrap();
        places.free().await;
        assert_eq!(places.taken.len(), MOST - 1);
    }

    #[tokio::test]
    async fn a_panic_of_a_connection_costs_its_own_place_alone() {
        let mut places = Places::default();
        places.take(|_| async { panic!("what a client sent") });
        places.take(|_| pending());
        tokio::task::yield_now().await;
        places.free().await;
        assert_eq!(places.taken.len(), 1);
    }
}
