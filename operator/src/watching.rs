//! Watches of the API server: their errors are counted, told once, and never end them.
//!
//! kube's watcher resumes, lists anew and backs off by itself. What is left to do is to let nobody overlook
//! that it has to.

use std::convert::Infallible;
use std::fmt::Debug;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use cni::error::chain_text;
use futures::{Stream, StreamExt, future, stream};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use store::StoreError;
use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::cluster::{Meaning, meaning};
use crate::metrics::Metrics;

const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(64);

/// What is watched, for people.
#[derive(Debug, Clone, Copy)]
pub struct Subject {
    /// What: "networks".
    pub what: &'static str,
    /// What to do where the API server does not know the kind.
    pub missing: &'static str,
}

/// kube's watcher asks for a version that is too old for ever where the API server answers so with a status and
/// not with an event, as it does where a definition was removed and came back; a new watcher lists first.
fn lasting<K, S>(stream: impl Fn() -> S) -> impl Stream<Item = watcher::Result<Event<K>>>
where
    S: Stream<Item = watcher::Result<Event<K>>> + Send,
{
    stream::unfold((stream, None), |(stream, current)| async move {
        let mut current = current.unwrap_or_else(|| Box::pin(stream()));
        let item = current.next().await?;
        let refused = |error: &kube::Error| meaning(error) == Meaning::Gone;
        let ended = matches!(&item, Err(watcher::Error::WatchStartFailed(error)) if refused(error));
        Some((item, (stream, (!ended).then_some(current))))
    })
}

/// The events of a watch. `trouble` is told what is wrong, in words for people, and `None` once it is over.
pub fn events<K, S>(
    stream: impl Fn() -> S,
    subject: Subject,
    metrics: Arc<Metrics>,
    mut trouble: impl FnMut(Option<String>),
) -> impl Stream<Item = Event<K>>
where
    K: Debug + Send + 'static,
    S: Stream<Item = watcher::Result<Event<K>>> + Send,
{
    let mut last = None;
    lasting(stream).default_backoff().filter_map(move |item| {
        let (event, text) = match item {
            // A list begins before the API server has answered anything.
            Ok(Event::Init) => return future::ready(Some(Event::Init)),
            Ok(event) => (Some(event), None),
            Err(error) => {
                metrics.watch_errors.inc();
                (None, Some(explain(&error, subject)))
            }
        };
        if text != last {
            if let Some(text) = &text {
                warn!(error = text, "the {} cannot be watched; trying again", subject.what);
            } else {
                info!("the {} are watched again", subject.what);
            }
            trouble(text.clone());
            last = text;
        }
        future::ready(event)
    })
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
    K: Debug + Send + 'static,
    S: Stream<Item = watcher::Result<Event<K>>> + Send,
{
    let mut trouble = keeper.trouble();
    let mut retry = FIRST_RETRY;
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
        if begun.elapsed() > 2 * LAST_RETRY {
            retry = FIRST_RETRY;
        }
        tokio::time::sleep(retry).await;
        retry = (retry * 2).min(LAST_RETRY);
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
        Meaning::Gone => format!("; {}", subject.missing),
        Meaning::Forbidden => format!("; RBAC has to permit Braid to list and watch the {what}"),
        _ => String::new(),
    };
    format!("{doing} the {what}: {}{advice}", cause_text(cause))
}

/// The error's own words, without the debug print that kube adds to those of the API server.
pub(crate) fn cause_text(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => format!("{} ({} {})", status.message, status.code, status.reason),
        other => chain_text(other),
    }
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
        let (metrics, _) = Metrics::new();
        let mut told = Vec::new();
        let seen =
            events(|| stream::iter(items()), SUBJECT, Arc::clone(&metrics), |text| told.push(text.is_some()));
        let seen: Vec<_> = seen.collect().await;
        assert!(matches!(seen[..], [Event::Init, Event::Apply(1), Event::Apply(2)]), "{seen:?}");
        assert_eq!(told, [true, false]);
        assert_eq!(metrics.watch_errors.get(), 2);
    }
}
