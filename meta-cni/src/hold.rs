//! Taking locks, and waiting for plugins that a killed run left running under them.
//!
//! The kernel gives a killed run's lock to the next one at once; the plugin that it had called runs on. No
//! plugin is called before that one is over, or killed when its time is.

use std::time::{Duration, Instant};

use cni::exec::running::{self, LeftRunning};
use cni::{CniError, Code, ContainerId};
use store::StoreError;
use store::lock::Lock;

use crate::call::{Call, store_error};

/// The container's lock, with nothing running on the container.
pub(crate) fn container(call: &Call, id: &ContainerId) -> Result<Lock, CniError> {
    held(call, Some(id), |wait| Lock::of_container(&call.settings.directory, id, wait))
}

/// As [`container`], without waiting; `None` if somebody holds it or something still runs.
pub(crate) fn container_if_free(call: &Call, id: &ContainerId) -> Result<Option<Lock>, StoreError> {
    let Some(lock) = Lock::of_container_if_free(&call.settings.directory, id)? else { return Ok(None) };
    let runs = left_running(call, Some(id), Duration::ZERO)?;
    Ok(runs.is_none().then_some(lock))
}

/// What ADD and DEL share, with no GC running.
pub(crate) fn shared(call: &Call) -> Result<Lock, CniError> {
    held(call, None, |wait| Lock::shared_with_attachments(&call.settings.directory, wait))
}

/// As [`shared`], without waiting; `None` while GC runs, or a plugin that it called.
pub(crate) fn shared_if_free(call: &Call) -> Result<Option<Lock>, StoreError> {
    let Some(lock) = Lock::shared_with_attachments_if_free(&call.settings.directory)? else {
        return Ok(None);
    };
    let runs = left_running(call, None, Duration::ZERO)?;
    Ok(runs.is_none().then_some(lock))
}

/// What GC holds alone.
pub(crate) fn alone(call: &Call) -> Result<Lock, CniError> {
    held(call, None, |wait| Lock::against_attachments(&call.settings.directory, wait))
}

fn held(
    call: &Call,
    container: Option<&ContainerId>,
    take: impl FnOnce(Duration) -> Result<Lock, StoreError>,
) -> Result<Lock, CniError> {
    let (begun, wait) = (Instant::now(), call.settings.lock_wait);
    let lock = take(wait).map_err(|error| store_error(&error))?;
    let left = wait.saturating_sub(begun.elapsed());
    match left_running(call, container, left).map_err(|error| store_error(&error))? {
        None => Ok(lock),
        Some(LeftRunning { process, note, killed_after }) => {
            let msg = format!(
                "a plugin that was called by a killed meta-cni still runs as process {process} ({}); the next \
                 call waits for it, and kills it once its time is over, in {} s",
                note.display(),
                killed_after.as_secs()
            );
            Err(CniError::new(Code::TRY_AGAIN_LATER, msg))
        }
    }
}

fn left_running(
    call: &Call,
    container: Option<&ContainerId>,
    wait: Duration,
) -> Result<Option<LeftRunning>, StoreError> {
    let Some(notes) = call.exec.notes_of(container) else { return Ok(None) };
    running::await_end(&notes, wait).map_err(|source| StoreError::Read { path: notes, source })
}
