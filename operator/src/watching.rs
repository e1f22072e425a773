//! Watches of the API server: their errors are counted, told once, and never end them.
//!
//! kube's watcher resumes, lists anew and backs off by itself. What is left to do is to let nobody overlook
//! that it has to, and to list anew where it would not: after an answer of 410, and from time to time. All watches of
//! both roles are made of [`events`].

use std::convert::Infallible;
use std::ops::Deref;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cni::error::chain_text;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Config, Event};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use store::StoreError;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::{error, info, warn};

use crate::cluster::{Meaning, cause_text, is_too_long, meaning};
use crate::metrics::Metrics;
use crate::retry::{self, about_one, longer};

/// Without an error for so long, a watch works again: kube waits 30 s at most before it tries.
const QUIET: Duration = Duration::from_secs(90);

/// What is watched, for people.
#[derive(Debug, Clone, Copy)]
pub struct Subject {
    /// What: "networks".
    pub what: &'static str,
    /// What to do where the API server does not know the kind.
    pub missing: &'static str,
}

/// Everything is listed anew after so long, give or take a tenth: a watch that misses something, as after a restore
/// of etcd that nobody noticed, is wrong no longer. What that costs is in docs/scale.md.
const RENEWAL: Duration = Duration::from_secs(4 * 3600);

impl Subject {
    /// What both roles watch.
    pub const NETWORKS: Self = Self {
        what: "networks",
        missing: "the definition of NetworkAttachmentDefinitions is not installed: kubectl apply -f crds/",
    };
}

/// Objects of a page. Each may have 1.5 MB, and kube holds a page twice.
const PAGE: u32 = 5;

/// How a node role's lists are asked for: whole and from the API server's memory, as thousands of nodes may ask at
/// once, and what is older than etcd by a moment is made up for by the watch that goes on from there. Only where that
/// is too much for the memory of a role, in pages, which come from etcd: whoever may make objects could otherwise end
/// the role on each node.
#[derive(Debug, Default)]
pub struct Lists {
    in_pages: Arc<AtomicBool>,
}

impl Lists {
    /// A watch that begins with a list.
    pub fn watch<K>(
        &self,
        api: Api<K>,
        config: Config,
    ) -> impl Stream<Item = watcher::Result<Event<K>>> + use<K>
    where
        K: Resource + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
    {
        let in_pages = Arc::clone(&self.in_pages);
        let config = if in_pages.load(Ordering::Relaxed) {
            config.page_size(PAGE)
        } else {
            // With a limit, kube would leave `resourceVersion=0` out, and the list would come from etcd.
            Config { page_size: None, ..config.any_semantic() }
        };
        watcher::watcher(api, config).inspect_err(move |error| {
            if matches!(error, watcher::Error::InitialListFailed(cause) if is_too_long(cause)) {
                in_pages.store(true, Ordering::Relaxed);
            }
        })
    }
}

/// The same in pages, for the few replicas of the controller.
pub fn in_pages<K>(api: Api<K>) -> impl Stream<Item = watcher::Result<Event<K>>>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    watcher::watcher(api, Config::default().page_size(PAGE))
}

/// kube's watcher asks for a version that is too old for ever where the API server answers so with a status and
/// not with an event, as it does where a definition was removed and came back; a new watcher lists first.
fn lasting<K, S>(stream: impl Fn() -> S) -> impl Stream<Item = watcher::Result<Event<K>>>
where
    S: Stream<Item = watcher::Result<Event<K>>>,
{
    stream::unfold((stream, None), |(stream, mut current)| async move {
        loop {
            let begin = || (Box::pin(stream()), Instant::now() + RENEWAL.mul_f64(about_one()));
            let (mut watcher, until) = current.unwrap_or_else(begin);
            let Ok(item) = timeout_at(until, watcher.next()).await else {
                current = None;
                continue;
            };
            let item = item?;
            let refused = |error: &kube::Error| meaning(error) == Meaning::Gone;
            let ended = match &item {
                Err(watcher::Error::WatchStartFailed(error)) => refused(error),
                Err(watcher::Error::InitialListFailed(error)) => is_too_long(error),
                _ => false,
            };
            return Some((item, (stream, (!ended).then_some((watcher, until)))));
        }
    })
}

/// The events of a watch. `trouble` is told what is wrong, in words for people, and `None` once it is over.
pub fn events<K, S>(
    stream: impl Fn() -> S,
    subject: Subject,
    metrics: impl Deref<Target = Metrics>,
    trouble: impl FnMut(Option<String>),
) -> impl Stream<Item = Event<K>>
where
    S: Stream<Item = watcher::Result<Event<K>>>,
{
    let watch = Watch {
        stream: Box::pin(lasting(stream).default_backoff()),
        told: Told { subject, metrics, trouble, last: None },
    };
    stream::unfold(watch, |mut watch| async { Some((watch.next().await?, watch)) })
}

/// A stream of kube's watcher, and what was told of its errors.
struct Watch<S, T, M> {
    stream: S,
    told: Told<T, M>,
}

impl<K, S, T, M> Watch<S, T, M>
where
    S: Stream<Item = watcher::Result<Event<K>>> + Unpin,
    T: FnMut(Option<String>),
    M: Deref<Target = Metrics>,
{
    async fn next(&mut self) -> Option<Event<K>> {
        loop {
            // A watch that was resumed says nothing until something changes.
            let patience = if self.told.last.is_some() { QUIET } else { Duration::MAX };
            match timeout(patience, self.stream.next()).await {
                Err(_) => self.told.well(),
                // A list begins before the API server has answered anything.
                Ok(Some(Ok(Event::Init))) => return Some(Event::Init),
                Ok(Some(Ok(event))) => {
                    self.told.well();
                    return Some(event);
                }
                Ok(Some(Err(error))) => self.told.wrong(&error),
                Ok(None) => return None,
            }
        }
    }
}

/// Tells each trouble once.
struct Told<T, M> {
    subject: Subject,
    metrics: M,
    trouble: T,
    last: Option<String>,
}

impl<T: FnMut(Option<String>), M: Deref<Target = Metrics>> Told<T, M> {
    fn wrong(&mut self, error: &watcher::Error) {
        self.metrics.watch_errors.inc();
        if let watcher::Error::InitialListFailed(cause)
        | watcher::Error::WatchStartFailed(cause)
        | watcher::Error::WatchFailed(cause) = error
        {
            self.metrics.api_error(cause);
        }
        let text = explain(error, self.subject);
        if self.last.as_ref() != Some(&text) {
            warn!(error = text, "the {} cannot be watched; trying again", self.subject.what);
            (self.trouble)(Some(text.clone()));
            self.last = Some(text);
        }
    }

    fn well(&mut self) {
        if self.last.take().is_some() {
            info!("the {} are watched again", self.subject.what);
            (self.trouble)(None);
        }
    }
}

/// What is kept as the API server says.
pub trait Keep<K> {
    /// Takes one event. An error says that the node directory did not take it.
    fn take(&mut self, event: Event<K>) -> impl Future<Output = Result<(), StoreError>>;

    /// What keeps it from being right, in words for people; `None` once that is over.
    fn trouble(&self) -> impl FnMut(Option<String>) + 'static;
}

/// Lets `keeper` follow `stream` for ever. Where the node directory does not take something, everything is
/// listed and compared anew after a while: there is no second way to mend things.
pub async fn keep<K, S>(
    mut keeper: impl Keep<K>,
    stream: impl Fn() -> S,
    subject: Subject,
    metrics: Arc<Metrics>,
) -> Infallible
where
    S: Stream<Item = watcher::Result<Event<K>>>,
{
    let mut trouble = keeper.trouble();
    let mut retry = None;
    loop {
        let begun = Instant::now();
        let mut events = pin!(events(&stream, subject, Arc::clone(&metrics), keeper.trouble()));
        let error = loop {
            let Some(event) = events.next().await else { continue };
            if let Err(error) = keeper.take(event).await {
                break chain_text(&error);
            }
        };
        error!(error, "the node directory does not take the {}; listing anew in a while", subject.what);
        trouble(Some(format!("the node directory: {error}")));
        let pause = longer(retry.filter(|_| begun.elapsed() <= 2 * retry::LAST));
        tokio::time::sleep(pause).await;
        retry = Some(pause);
    }
}

/// What a watch's error means for people.
fn explain(error: &watcher::Error, subject: Subject) -> String {
    let what = subject.what;
    let (doing, cause) = match error {
        watcher::Error::InitialListFailed(cause) => ("listing", cause),
        watcher::Error::WatchStartFailed(cause) | watcher::Error::WatchFailed(cause) => ("watching", cause),
        watcher::Error::WatchError(status) => {
            return format!("watching the {what}: {} ({} {})", status.message, status.code, status.reason);
        }
        watcher::Error::NoResourceVersion => return format!("watching the {what}: {error}"),
    };
    let advice = match meaning(cause) {
        // 410 is about versions.
        Meaning::Gone if matches!(cause, kube::Error::Api(status) if status.code == 404) => {
            format!("; {}", subject.missing)
        }
        _ if is_too_long(cause) => "; asking for a few at a time from now on".to_owned(),
        Meaning::Forbidden => format!("; RBAC has to permit Braid to list and watch the {what}"),
        _ => String::new(),
    };
    format!("{doing} the {what}: {}{advice}", cause_text(cause))
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    const SUBJECT: Subject = Subject { what: "networks", missing: "install the definition" };

    fn answer(code: u16) -> kube::Error {
        kube::Error::Api(Box::new(Status::failure("no", "Reason").with_code(code)))
    }

    #[test]
    fn errors_say_what_was_attempted_and_what_to_do() {
        for (error, expected) in [
            (
                watcher::Error::InitialListFailed(answer(404)),
                "listing the networks: no (404 Reason); install the definition",
            ),
            (
                watcher::Error::WatchStartFailed(answer(403)),
                "watching the networks: no (403 Reason); RBAC has to permit Braid to list and watch the networks",
            ),
            (watcher::Error::WatchFailed(answer(500)), "watching the networks: no (500 Reason)"),
        ] {
            assert_eq!(explain(&error, SUBJECT), expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn errors_are_counted_told_once_and_never_end_the_watch() {
        let fail = || Err(watcher::Error::WatchStartFailed(answer(500)));
        let items = || -> Vec<watcher::Result<Event<u8>>> {
            vec![Ok(Event::Init), fail(), fail(), Ok(Event::Apply(1)), Ok(Event::Apply(2))]
        };
        let (metrics, registry) = Metrics::new();
        let mut told = Vec::new();
        let seen =
            events(|| stream::iter(items()), SUBJECT, Arc::clone(&metrics), |text| told.push(text.is_some()));
        let seen: Vec<_> = seen.collect().await;
        assert!(matches!(seen[..], [Event::Init, Event::Apply(1), Event::Apply(2)]), "{seen:?}");
        assert_eq!(told, [true, false]);
        assert_eq!(metrics.watch_errors.get(), 2);
        let mut printed = String::new();
        prometheus_client::encoding::text::encode(&mut printed, &registry).unwrap();
        assert!(
            printed.lines().any(|line| line.starts_with("braid_api_errors_total{") && line.ends_with(" 2"))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn everything_is_listed_anew_from_time_to_time_and_that_is_no_trouble() {
        let items = || {
            let list = [Ok(Event::Init), Ok(Event::InitDone)];
            stream::iter(list).chain(stream::pending::<watcher::Result<Event<u8>>>())
        };
        let (metrics, _) = Metrics::new();
        let mut told = 0;
        let mut listed = Vec::new();
        let mut seen = Box::pin(events(items, SUBJECT, Arc::clone(&metrics), |_| told += 1));
        for _ in 0..101 {
            assert!(matches!(seen.next().await, Some(Event::Init)));
            listed.push(Instant::now());
            assert!(matches!(seen.next().await, Some(Event::InitDone)));
        }
        drop(seen);
        let hours: Vec<_> =
            listed.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64() / 3600.0).collect();
        assert!(hours.iter().all(|hours| (3.6..=4.41).contains(hours)), "{hours:?}");
        // Those of many nodes do not come at once.
        assert!(hours.iter().any(|hours| *hours < 3.95), "{hours:?}");
        assert!(hours.iter().any(|hours| *hours > 4.05), "{hours:?}");
        assert_eq!((metrics.watch_errors.get(), told), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_was_resumed_in_silence_is_well_after_a_while() {
        let items = || {
            let failed = Err(watcher::Error::WatchStartFailed(answer(500)));
            stream::iter([failed]).chain(stream::pending::<watcher::Result<Event<u8>>>())
        };
        let (metrics, _) = Metrics::new();
        let (sender, mut told) = tokio::sync::mpsc::unbounded_channel();
        let mut events = Box::pin(events(items, SUBJECT, metrics, move |text| {
            let _ = sender.send(text.is_some());
        }));
        let begun = Instant::now();
        tokio::select! {
            _ = events.next() => unreachable!(),
            () = async { while told.recv().await == Some(true) {} } => {}
        }
        assert!(begun.elapsed() >= QUIET);
    }
}
