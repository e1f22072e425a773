//! Follows the records that meta-cni writes: what is known of each is what its file says now.
//!
//! Woken by inotify, it compares the whole directory: the names, inodes, times and sizes of all files; only
//! those that differ are read. So a wake that is missed, or an overflow of the kernel's queue, costs nothing.
//! Meta-cni is the writer: nothing here is ever in its way.

mod look;
mod summary;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use cni::error::chain_text;
use store::record::{Phase, RecordKey};
use store::{NodeDirectory, StoreError};
use tokio::time::timeout;
use tracing::{error, info, warn};

use crate::known::{Attachment, Known, Records};
use crate::metrics::Metrics;
use crate::node::changes::Changes;
use crate::retry::longer;
use look::{Follower, Look};

/// What keeps records from being followed at all.
#[derive(Debug, thiserror::Error)]
#[error("watch the records with inotify (fs.inotify.max_user_instances may be too low)")]
pub struct RecordsError(#[source] io::Error);

/// Follows the records of `dir`, and tells `known` of them and `metrics` of new attachments.
///
/// A directory that is not there is awaited. One that cannot be watched or read, and files that the disk does
/// not give, are looked at again, less and less often.
pub async fn run(
    dir: NodeDirectory,
    known: Arc<Known>,
    metrics: Arc<Metrics>,
) -> Result<Infallible, RecordsError> {
    let mut changes = Changes::of(&dir.records()).map_err(RecordsError)?;
    let mut follower = Follower::default();
    let mut told = Told::default();
    let mut retry = None;
    loop {
        let armed = changes.arm();
        let looked = follower.look(&dir);
        told.watching(armed.as_ref().err());
        told.reading(looked.as_ref().err());
        let settled = armed.is_ok() && looked.as_ref().is_ok_and(|look| !look.again);
        if let Ok(look) = looked {
            told.unreadable(&look.unreadable);
            known.tell(|state| take(&mut state.records, look, &metrics));
        }
        retry = if settled { None } else { Some(longer(retry)) };
        let woken = match retry {
            None => changes.changed().await,
            Some(wait) => timeout(wait, changes.changed()).await.unwrap_or(Ok(())),
        };
        woken.map_err(RecordsError)?;
    }
}

/// Brings what is known to what was seen; whether that changed anything.
fn take(records: &mut Records, look: Look, metrics: &Metrics) -> bool {
    let mut news = !records.complete;
    for key in &look.gone {
        news |= records.all.remove(key).is_some();
    }
    for (key, record) in look.changed {
        let before = records.all.get(&key);
        // Attachments that a former process has seen already are not counted again.
        if records.complete
            && record.phase == Phase::Attached
            && before.is_none_or(|b| b.phase != Phase::Attached)
        {
            report_adds(metrics, &record.attachments);
        }
        if record.phase == Phase::Deleting && before.is_some_and(|b| b.phase == Phase::Intended) {
            report_failed_add(metrics, &record.attachments);
        }
        news |= before != Some(&record);
        records.all.insert(key, record);
    }
    news |= records.unreadable != look.unreadable;
    records.unreadable = look.unreadable;
    records.complete = true;
    news
}

fn report_adds(metrics: &Metrics, attachments: &[Attachment]) {
    for Attachment { delegate, add_us, .. } in attachments {
        if let Some(took) = add_us.map(Duration::from_micros) {
            metrics.attachment_add(delegate, took);
        }
    }
}

/// An ADD whose undo is not over: the first attachment without a duration is the one that failed. Where the undo
/// is over before anybody looks, the runtime alone knows of it.
fn report_failed_add(metrics: &Metrics, attachments: &[Attachment]) {
    if let Some(failed) = attachments.iter().find(|attachment| attachment.add_us.is_none()) {
        metrics.attachment_failed(&failed.delegate);
    }
}

/// What the log has been told already.
#[derive(Debug, Default)]
struct Told {
    watching: Option<String>,
    reading: Option<String>,
    unreadable: BTreeMap<RecordKey, String>,
}

impl Told {
    fn watching(&mut self, problem: Option<&io::Error>) {
        let problem = problem.map(ToString::to_string);
        match &problem {
            Some(error) if problem != self.watching => {
                error!(error, "the records cannot be watched; they are looked at from time to time");
            }
            None if self.watching.is_some() => info!("the records are watched again"),
            _ => {}
        }
        self.watching = problem;
    }

    fn reading(&mut self, problem: Option<&StoreError>) {
        let problem = problem.map(|error| chain_text(error));
        match &problem {
            Some(error) if problem != self.reading => {
                error!(error, "the records cannot be listed; what was known of them stays");
            }
            None if self.reading.is_some() => info!("the records can be listed again"),
            _ => {}
        }
        self.reading = problem;
    }

    fn unreadable(&mut self, all: &BTreeMap<RecordKey, String>) {
        for (key, error) in all.iter().filter(|(key, error)| self.unreadable.get(key) != Some(error)) {
            warn!(container = %key.container_id, error, "a record cannot be read");
        }
        for key in self.unreadable.keys().filter(|key| !all.contains_key(key)) {
            info!(container = %key.container_id, "a record that could not be read is readable now, or gone");
        }
        self.unreadable.clone_from(all);
    }
}

#[cfg(test)]
mod tests;
