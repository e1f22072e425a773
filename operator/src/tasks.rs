//! Running several tasks as one process: the first that fails ends it with its reason; a signal ends it in time.
//!
//! A *working* task is dropped at its present await when the process is told to stop, before anything else
//! happens: nothing that it does can cross what `leave` does. A *lasting* task (the admin server, the webhook)
//! goes on while the process leaves, so that whoever asks gets an answer.
//!
//! Tasks run on one thread. One that holds it (a write to a dead disk) holds all of them, and the end as well;
//! whoever sent SIGTERM then sends SIGKILL, and the next start compares what it finds.

use std::any::Any;
use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::time::Duration;

use futures::FutureExt;
use futures::future::LocalBoxFuture;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::{self, JoinError, JoinSet, LocalSet};
use tokio::{select, time};
use tracing::{info, warn};

/// How long `leave` may take. With what comes before and after it, the process is gone within 2 s.
const LEAVE: Duration = Duration::from_millis(1500);

/// Only the names of API servers are looked up on other threads, one at a time.
const BLOCKING_THREADS: usize = 2;

/// Why a process ended that nobody told to stop.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// No runtime.
    #[error("start the runtime: are file descriptors (ulimit -n) or memory used up?")]
    Runtime(#[source] io::Error),
    /// No signals.
    #[error("listen to SIGTERM and SIGINT")]
    Signals(#[source] io::Error),
    /// A task failed.
    #[error("the task \"{task}\" cannot go on")]
    Failed {
        /// Its name.
        task: &'static str,
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
    /// A task panicked.
    #[error("the task \"{task}\" panicked: {reason}: this is a bug of braid, please report it with the log")]
    Panicked {
        /// Its name.
        task: &'static str,
        /// What the panic said.
        reason: String,
    },
}

/// Runs a role to its end on a runtime of one thread.
pub fn block_on<T>(role: impl Future<Output = T>) -> Result<T, TaskError> {
    let mut builder = Builder::new_current_thread();
    let runtime =
        builder.enable_all().max_blocking_threads(BLOCKING_THREADS).build().map_err(TaskError::Runtime)?;
    let end = runtime.block_on(role);
    // A look-up of a name may hang; nobody waits for it any more.
    runtime.shutdown_background();
    Ok(end)
}

/// Does work that blocks, on a thread for such work, and waits for it. `None` if the runtime ends before the work has
/// begun.
///
/// *Panics* of the work go on in the task that waits, so that they end the process as any other: what was to be done
/// is not done, and nobody else would do it.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    match task::spawn_blocking(work).await {
        Ok(done) => Some(done),
        Err(lost) => lost.try_into_panic().map_or(None, |panic| panic::resume_unwind(panic)),
    }
}

/// The tasks of one process. Nothing runs before [`Tasks::run`].
#[derive(Default)]
pub struct Tasks {
    working: Vec<LocalBoxFuture<'static, TaskError>>,
    lasting: Vec<LocalBoxFuture<'static, TaskError>>,
    stopping: watch::Sender<bool>,
}

impl Tasks {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// One more working task; `name` is what people read when it fails.
    #[must_use]
    pub fn add<E>(
        mut self,
        name: &'static str,
        task: impl Future<Output = Result<Infallible, E>> + 'static,
    ) -> Self
    where
        E: Error + Send + Sync + 'static,
    {
        self.working.push(guarded(name, task));
        self
    }

    /// One more lasting task.
    #[must_use]
    pub fn add_lasting<E>(
        mut self,
        name: &'static str,
        task: impl Future<Output = Result<Infallible, E>> + 'static,
    ) -> Self
    where
        E: Error + Send + Sync + 'static,
    {
        self.lasting.push(guarded(name, task));
        self
    }

    /// Becomes true when the process is told to stop, before any task is dropped.
    pub fn stopping(&self) -> watch::Receiver<bool> {
        self.stopping.subscribe()
    }

    /// Runs the tasks until SIGTERM or SIGINT; then drops the working ones, waits a bounded time for `leave`,
    /// and drops the rest.
    ///
    /// *Assumption*: little has been awaited before, since signals are heard from here on: as the first process
    /// of a container, braid would not notice an earlier one.
    ///
    /// *Errors*: the first task that fails or panics; `leave` is not run then.
    pub async fn run(self, leave: impl Future<Output = ()>) -> Result<(), TaskError> {
        let mut terminate = signal(SignalKind::terminate()).map_err(TaskError::Signals)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(TaskError::Signals)?;
        let told = async {
            select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            }
        };
        self.run_until(told, leave).await
    }

    /// [`Tasks::run`] with any source of signals: `told` ends with the signal's name.
    async fn run_until(
        self,
        told: impl Future<Output = &'static str>,
        leave: impl Future<Output = ()>,
    ) -> Result<(), TaskError> {
        LocalSet::new().run_until(self.supervise(told, leave)).await
    }

    async fn supervise(
        self,
        told: impl Future<Output = &'static str>,
        leave: impl Future<Output = ()>,
    ) -> Result<(), TaskError> {
        let (mut working, mut lasting) = (JoinSet::new(), JoinSet::new());
        self.working.into_iter().for_each(|task| drop(working.spawn_local(task)));
        self.lasting.into_iter().for_each(|task| drop(lasting.spawn_local(task)));
        let signal = select! {
            // What fails because everything stops is no failure.
            biased;
            signal = told => signal,
            Some(end) = working.join_next() => return Err(ended(end)),
            Some(end) = lasting.join_next() => return Err(ended(end)),
        };
        info!(signal, "told to stop");
        self.stopping.send_replace(true);
        working.shutdown().await;
        match time::timeout(LEAVE, AssertUnwindSafe(leave).catch_unwind()).await {
            Ok(Ok(())) => info!("left"),
            Ok(Err(panic)) => return Err(panicked("leave", panic_text(panic.as_ref()))),
            Err(_) => {
                warn!(ms = LEAVE.as_millis(), "not all was done that is done at the end: it took too long");
            }
        }
        Ok(())
    }
}

/// Why a task ended. It catches its own panics, so that nothing else is left than a runtime that goes away.
fn ended(end: Result<TaskError, JoinError>) -> TaskError {
    end.unwrap_or_else(|lost| panicked("?", lost.to_string()))
}

/// A task that ends with the reason why it ended, whatever that is.
fn guarded<E>(
    task: &'static str,
    future: impl Future<Output = Result<Infallible, E>> + 'static,
) -> LocalBoxFuture<'static, TaskError>
where
    E: Error + Send + Sync + 'static,
{
    let end = move |end: Result<Result<Infallible, E>, Box<dyn Any + Send>>| match end {
        Ok(Err(error)) => TaskError::Failed { task, source: Box::new(error) },
        Err(panic) => panicked(task, panic_text(panic.as_ref())),
    };
    AssertUnwindSafe(future).catch_unwind().map(end).boxed_local()
}

fn panicked(task: &'static str, reason: String) -> TaskError {
    TaskError::Panicked { task, reason }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no reason given")
        .to_owned()
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::future::{pending, ready};
    use std::rc::Rc;

    use cni::error::chain_text;
    use tokio::time::{Instant, sleep};

    use super::*;

    /// What happened, in order.
    type Story = Rc<RefCell<Vec<&'static str>>>;

    /// Says so when it is dropped.
    struct Dropped(Story, &'static str);

    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.borrow_mut().push(self.1);
        }
    }

    async fn for_ever(_dropped: Dropped) -> Result<Infallible, io::Error> {
        pending().await
    }

    async fn failing_after(ms: u64, why: &'static str) -> Result<Infallible, io::Error> {
        sleep(Duration::from_millis(ms)).await;
        Err(io::Error::other(why))
    }

    async fn panicking() -> Result<Infallible, io::Error> {
        sleep(Duration::from_millis(1)).await;
        let number = 7;
        panic!("no {number}")
    }

    async fn after(ms: u64) -> &'static str {
        sleep(Duration::from_millis(ms)).await;
        "SIGTERM"
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_task_that_fails_ends_the_process_with_its_name_and_reason() {
        let tasks = Tasks::new()
            .add("networks", failing_after(20, "later"))
            .add_lasting("admin", failing_after(10, "no inotify"));
        let left = RefCell::new(false);
        let error = tasks.run_until(pending(), async { *left.borrow_mut() = true }).await.unwrap_err();
        assert_eq!(chain_text(&error), "the task \"admin\" cannot go on: no inotify");
        assert!(!*left.borrow(), "leave is for those who are told to stop");
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_of_a_task_ends_the_process_with_its_reason() {
        let tasks = Tasks::new().add("records", panicking());
        let error = tasks.run_until(pending(), ready(())).await.unwrap_err();
        assert!(
            matches!(&error, TaskError::Panicked { task: "records", reason } if reason == "no 7"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_panic_of_work_that_blocks_ends_the_process_with_its_reason() {
        let tasks = Tasks::new().add("networks", async {
            assert_eq!(blocking(|| 7).await, Some(7));
            blocking(|| panic!("no 8")).await;
            Err(io::Error::other("it went on"))
        });
        let error = tasks.run_until(pending(), ready(())).await.unwrap_err();
        assert!(
            matches!(&error, TaskError::Panicked { task: "networks", reason } if reason == "no 8"),
            "{error}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_panic_while_leaving_is_told() {
        let error = Tasks::new().run_until(ready("SIGINT"), async { panic!("oh") }).await.unwrap_err();
        assert!(matches!(&error, TaskError::Panicked { task: "leave", reason } if reason == "oh"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_signal_drops_working_tasks_then_leaves_then_drops_lasting_ones() {
        let story = Story::default();
        let tasks = Tasks::new()
            .add_lasting("admin", for_ever(Dropped(story.clone(), "lasting dropped")))
            .add("install", for_ever(Dropped(story.clone(), "working dropped")));
        let stopping = tasks.stopping();
        assert!(!*stopping.borrow());
        let leave = async {
            assert!(*stopping.borrow());
            sleep(Duration::from_millis(100)).await;
            story.borrow_mut().push("left");
        };
        tasks.run_until(after(10), leave).await.unwrap();
        assert_eq!(*story.borrow(), ["working dropped", "left", "lasting dropped"]);
    }

    #[tokio::test(start_paused = true)]
    async fn leaving_ends_within_two_seconds_whatever_it_waits_for() {
        let tasks = Tasks::new().add("networks", failing_after(3_600_000, "never"));
        let begin = Instant::now();
        tasks.run_until(ready("SIGTERM"), pending()).await.unwrap();
        assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_fails_at_the_moment_of_the_signal_is_no_failure() {
        let tasks = Tasks::new().add("networks", failing_after(10, "the API server went away"));
        tasks.run_until(after(10), ready(())).await.unwrap();
    }

    #[test]
    fn sigterm_ends_a_role() {
        let ended = block_on(async {
            let tasks = Tasks::new().add("self", async {
                let this = rustix::process::getpid();
                rustix::process::kill_process(this, rustix::process::Signal::TERM)?;
                pending::<Result<Infallible, io::Error>>().await
            });
            tasks.run(ready(())).await
        });
        ended.unwrap().unwrap();
    }
}
