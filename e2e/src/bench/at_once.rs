//! Something done for many pods at the same moment, each by a thread of its own, as a kubelet does after a reboot.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::process::Together;

/// The pause between two looks at the memory of all processes, which cost some milliseconds.
const GLANCE: Duration = Duration::from_millis(20);

/// What became of one call, and how long it took.
pub(super) struct Landed<T> {
    pub(super) took: Duration,
    pub(super) done: Result<T>,
}

/// What became of all of them, and how long that took from the first one's start.
pub(super) struct Storm<T> {
    pub(super) begun: Instant,
    pub(super) took: Duration,
    pub(super) all: Vec<Landed<T>>,
}

/// Does something with all of them at once, in the network namespace of the caller.
pub(super) fn at_once<I: Sync, T: Send>(items: &[I], work: impl Fn(&I) -> Result<T> + Sync) -> Storm<T> {
    let gate = Barrier::new(items.len() + 1);
    // Threads are in the namespace of the one that starts them.
    thread::scope(|scope| {
        let start = |item| {
            let (gate, work) = (&gate, &work);
            scope.spawn(move || {
                gate.wait();
                let begun = Instant::now();
                let done = work(item);
                Landed { took: begun.elapsed(), done }
            })
        };
        let all: Vec<_> = items.iter().map(start).collect();
        gate.wait();
        let begun = Instant::now();
        let join = |one: thread::ScopedJoinHandle<'_, Landed<T>>| {
            one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        let all = all.into_iter().map(join).collect();
        Storm { begun, took: begun.elapsed(), all }
    })
}

/// The most that all processes of this name need at once while something is done.
pub(super) fn together<T: Send>(
    name: &str,
    work: impl FnOnce() -> Result<T> + Send,
) -> Result<(Together, T)> {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let sampler = scope.spawn(|| {
            let mut most = Together::default();
            while !over.load(Ordering::Relaxed) {
                most = most.max(Together::look(name));
                thread::sleep(GLANCE);
            }
            most
        });
        let done = work();
        over.store(true, Ordering::Relaxed);
        let most = sampler.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok((most, done?))
    })
}
