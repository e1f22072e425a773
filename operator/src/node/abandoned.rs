//! Finds containers whose pod is gone for good and that nobody undoes, and marks their records.
//!
//! The node role never runs a delegate: the next run of meta-cni on the node undoes what is marked, once its
//! network namespace is gone too. A pod counts as gone when all pods of the node are known and none of them has
//! had the record's uid for a while (`decide`). Records that ADD or DEL has not finished are taken up by
//! meta-cni anyway.

mod decide;
mod mark;

use std::convert::Infallible;
use std::sync::Arc;

use cni::error::chain_text;
use futures::future::Either;
use jiff::{Timestamp, Unit};
use store::NodeDirectory;
use store::record::RecordKey;
use tokio::time::{Instant, sleep_until};
use tracing::{error, info};

use crate::events::{About, Event, Sender};
use crate::known::Known;
use decide::{Due, Missing};
use mark::Marked;

/// Marks records of `dir` of which `known` says that their pod is gone, and tells `events` of each.
pub async fn run(dir: NodeDirectory, known: Arc<Known>, events: Sender) -> Result<Infallible, Infallible> {
    let mut news = known.news();
    let mut missing = Missing::default();
    let mut told = None;
    loop {
        let due = missing.look(&known.look(), Instant::now());
        for due in &due {
            give_up(&dir, due, &mut missing, &events, &mut told);
        }
        let wait =
            missing.next().map_or(Either::Right(std::future::pending()), |at| Either::Left(sleep_until(at)));
        tokio::select! {
            // We hold its sender.
            _ = news.changed() => {}
            () = wait => {}
        }
    }
}

/// Marks one record, or puts it off; the log hears once of a disk that takes nothing.
fn give_up(
    dir: &NodeDirectory,
    due: &Due,
    missing: &mut Missing,
    events: &Sender,
    told: &mut Option<String>,
) {
    let now = Instant::now();
    let reason = reason(due, Timestamp::now());
    let container = &due.key.container_id;
    match mark::mark(dir, &due.key, &due.pod, &reason) {
        Ok(Marked::Done) => {
            *told = None;
            info!(%container, reason, "a container is given up; the next run of meta-cni undoes it");
            events.send(event(&due.key, &reason));
            missing.settle(&due.key, now);
        }
        Ok(Marked::Moot) => missing.settle(&due.key, now),
        Ok(Marked::Busy) => missing.put_off(&due.key, now),
        Err(error) => {
            let error = chain_text(&error);
            if told.as_ref() != Some(&error) {
                error!(%container, error, "a container cannot be given up; it is tried again");
            }
            *told = Some(error);
            missing.put_off(&due.key, now);
        }
    }
}

/// Why, for people and for the record.
fn reason(due: &Due, now: Timestamp) -> String {
    let since = now.checked_sub(due.missing_for).unwrap_or(now);
    // A fraction of a second would only be in the way.
    let since = since.round(Unit::Second).unwrap_or(since);
    let (namespace, name, uid) =
        (&due.pod.namespace, &due.pod.name, due.pod.uid.as_deref().unwrap_or_default());
    format!("pod {namespace}/{name} ({uid}) is gone since {since}")
}

fn event(key: &RecordKey, reason: &str) -> Event {
    let note = format!(
        "Container {}: {reason}, and its attachments were not undone; meta-cni undoes them once the container's \
         network namespace is gone",
        key.container_id
    );
    Event::warning(About::Node, "AttachmentAbandoned", "Mark", note)
}

#[cfg(test)]
mod tests;
