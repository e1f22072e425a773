//! Unfinished work of earlier runs: DELs that failed, ADDs that were killed, records that the operator has
//! marked. Later runs have it taken up after their own work, a little at a time, by a process of its own
//! (`background`); `meta-cni gc` does it at once.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use cni::exec::ProcessExec;
use cni::skel::panic_text;
use cni::{CniError, point};
use store::StoreError;
use store::lock::Lock;
use store::record::{self, DelFailure, Phase, Record, RecordKey, now_ms};

use crate::call::{Call, store_error};
use crate::hold;
use crate::undo::{self, Left};

/// A run takes up no further record once this much time has passed; the next call begins anew.
const BOUND: Duration = Duration::from_secs(2);
/// All of it is over by then, whatever hangs and however much one record holds: others are not to wait for ever.
const HARD_BOUND: Duration = Duration::from_secs(10);

/// What became of one piece of work.
pub(crate) enum Taken {
    /// Undone.
    Done,
    /// Nothing to do after all.
    AtRest,
    /// Somebody else is at it.
    Busy,
    /// Given up, but its network namespace still lives: left to the runtime's DEL.
    InUse(InUse),
    /// Still not possible, though the pod is not held for it.
    Owed(String),
    /// Still not possible.
    Failed(CniError),
}

/// A container that was given up and that still has its network namespace. Its sandbox runs: the pod of a
/// static manifest without mirror, or one that was deleted by force. It must not lose its network; the runtime
/// will call DEL itself.
pub(crate) struct InUse {
    /// Its namespace.
    pub(crate) netns: PathBuf,
    /// Why the operator gave it up.
    pub(crate) reason: String,
}

impl InUse {
    /// Whether that is so for a record.
    fn of(record: &Record) -> Option<Self> {
        let reason = record.abandoned.clone().filter(|_| record.phase == Phase::Attached)?;
        Some(Self { netns: record.netns_for_undo(record.netns.as_deref()).ok()??, reason })
    }
}

/// Whether there may be something to do about a record: nobody is at it, and it is due. Reads, and waits for nobody.
pub(crate) fn may_be_due(call: &Call, key: &RecordKey) -> bool {
    let dir = &call.settings.directory;
    // Held by a call that is at work on the container, as many are while many pods start.
    let Ok(Some(_lock)) = Lock::of_container_if_free(dir, &key.container_id) else { return false };
    match Record::read(dir, key) {
        Ok(Some(record)) if !record.is_at_rest() => {
            let waits = |failure| waits(failure, call.begun_ms, now_ms());
            InUse::of(&record).is_none() && !record.failure.as_ref().is_some_and(waits)
        }
        // Its hint is out of date.
        Ok(_) => true,
        Err(error) => {
            tell_once(call, key, &error);
            false
        }
    }
}

/// Tells once in a boot that a record cannot be read. The call does, whose stderr somebody reads.
fn tell_once(call: &Call, key: &RecordKey, error: &StoreError) {
    if !matches!(record::is_news(&call.settings.directory, key), Ok(false)) {
        let error = cni::error::chain_text(error);
        call.log.error("a record cannot be read", &[("container", &key.container_id), ("error", &error)]);
    }
}

/// Takes up what is due, within the bound. The caller holds the lock of unfinished work.
pub(crate) fn take_up(call: &Call) -> Result<(), StoreError> {
    let dir = &call.settings.directory;
    let keys = record::unfinished(dir)?;
    point::reached("unfinished: looked");
    let begun = Instant::now();
    let exec = ProcessExec { until: Some(begun + HARD_BOUND), ..call.exec.clone() };
    for key in keys {
        if begun.elapsed() > BOUND {
            break;
        }
        // Failures are recorded, and logged where they are recorded. What the disk does not give of one
        // container is no reason to leave the others, nor is a defect that one of them shows.
        let taken = catch_unwind(AssertUnwindSafe(|| take_up_one(call, &key, &exec, false)));
        let problem = match taken {
            Ok(Ok(_)) => continue,
            Ok(Err(error)) => cni::error::chain_text(&error),
            Err(panic) => format!("a defect: it panicked: {}", panic_text(panic.as_ref())),
        };
        call.log.warn(
            "could not take up unfinished work",
            &[("container", &key.container_id), ("error", &problem)],
        );
    }
    Ok(())
}

/// Takes up one record if nobody holds it and no GC runs: it tells plugins what is valid. Unless it is `at_once`, only
/// when it is due.
pub(crate) fn take_up_one(
    call: &Call,
    key: &RecordKey,
    exec: &ProcessExec,
    at_once: bool,
) -> Result<Taken, StoreError> {
    let dir = &call.settings.directory;
    let Some(_shared) = hold::shared_if_free(call)? else { return Ok(Taken::Busy) };
    let Some(lock) = hold::container_if_free(call, &key.container_id)? else { return Ok(Taken::Busy) };
    let record = match Record::read(dir, key) {
        Ok(Some(record)) if !record.is_at_rest() => record,
        Ok(found) => {
            record::remove_hint(dir, key)?;
            if found.is_none() {
                lock.remove();
            }
            return Ok(Taken::AtRest);
        }
        Err(error) => {
            tell_once(call, key, &error);
            return Ok(Taken::Failed(store_error(&error)));
        }
    };
    // Its hint stays: once the namespace is gone, a later run undoes it.
    if let Some(in_use) = InUse::of(&record) {
        return Ok(Taken::InUse(in_use));
    }
    if !at_once && record.failure.as_ref().is_some_and(|failure| waits(failure, call.begun_ms, now_ms())) {
        return Ok(Taken::Busy);
    }
    call.log.info("taking up unfinished work", &[("container", &key.container_id)]);
    let attempts = record.failure.as_ref().map_or(0, |failure| failure.attempts);
    let netns = record.netns.clone();
    Ok(match undo::undo_record_from(call, record, netns.as_deref(), exec, attempts) {
        Ok(Left::Nothing) => {
            point::reached("unfinished: one undone");
            lock.remove();
            Taken::Done
        }
        Ok(Left::Owed(why)) => Taken::Owed(why),
        Err(error) => Taken::Failed(error),
    })
}

/// Whether an attempt is for a later run: it is not due yet, or this very run, which began at `begun_ms`, has
/// made one in vain. A time in the future is from before the clock was set back.
fn waits(failure: &DelFailure, begun_ms: u64, now_ms: u64) -> bool {
    (begun_ms..=now_ms).contains(&failure.last_ms) || !is_due(failure, now_ms)
}

/// The second attempt is due at once, later ones after 1, 3, 7 … seconds, at most five minutes.
fn is_due(failure: &DelFailure, now_ms: u64) -> bool {
    let seconds = (1_u64 << failure.attempts.saturating_sub(1).min(9)) - 1;
    // A clock that was set back must not put the attempt off for ever.
    now_ms < failure.last_ms || now_ms - failure.last_ms >= seconds.min(300) * 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_become_rarer() {
        for (attempts, seconds) in [(1, 0), (2, 1), (3, 3), (4, 7), (9, 255), (10, 300), (40, 300)] {
            let failure = DelFailure { since_ms: 0, last_ms: 1_000_000, attempts, message: String::new() };
            assert!(is_due(&failure, 1_000_000 + seconds * 1000), "{attempts}");
            assert!(seconds == 0 || !is_due(&failure, 1_000_000 + seconds * 1000 - 1), "{attempts}");
            assert!(is_due(&failure, 5), "a clock that was set back");
        }
    }
}
