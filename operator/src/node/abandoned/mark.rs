//! Marks one record as abandoned.

use store::lock::Lock;
use store::record::{Phase, PodIdentity, Record, RecordKey};
use store::{NodeDirectory, StoreError};

/// How it went.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Marked {
    /// The mark is on the disk.
    Done,
    /// Somebody else holds the container: later.
    Busy,
    /// It is gone, not at rest any more, or another pod's.
    Moot,
}

/// Marks a record, if it still is what was known of it. Does not wait for the container's lock.
pub(super) fn mark(
    dir: &NodeDirectory,
    key: &RecordKey,
    pod: &PodIdentity,
    reason: &str,
) -> Result<Marked, StoreError> {
    let Some(lock) = Lock::of_container_if_free(dir, &key.container_id)? else { return Ok(Marked::Busy) };
    let Some(mut record) = Record::read(dir, key)? else {
        // Taking the lock has made its file anew.
        lock.remove();
        return Ok(Marked::Moot);
    };
    if record.phase != Phase::Attached || record.abandoned.is_some() || record.pod.as_ref() != Some(pod) {
        return Ok(Marked::Moot);
    }
    record.abandoned = Some(reason.to_owned());
    record.write(dir)?;
    drop(lock);
    Ok(Marked::Done)
}
