//! Undoes one record: the last attachment first, whatever fails.
//!
//! [`detach`] runs the plugins, `owed` decides what a plugin that failed leaves to do, and what is left stays recorded:
//! it is tried again by the runtime, and by later runs of any verb on this node.

mod detach;
mod owed;
mod reservations;

use std::path::Path;
use std::time::Duration;

use cni::exec::Exec;
use cni::{CniError, point};
use store::NodeDirectory;
use store::record::{DelFailure, Phase, Record, now_ms};

use crate::attach::Site;
use crate::call::{Call, store_error};
use crate::{multus, settled};
pub(crate) use detach::{Patience, Undone, detach_all};

/// What is left of a record whose pod is not held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Left {
    /// Nothing; the record is gone.
    Nothing,
    /// Something is owed, stays recorded and is tried again; why, for people.
    Owed(String),
}

/// Undoes a record and settles it, in the namespace that `path` leads to if it is still that of the record. The caller
/// holds the container's lock.
///
/// *Errors*: something is owed, and the pod is held for it.
pub(crate) fn undo_record(
    call: &Call,
    record: Record,
    path: Option<&Path>,
    exec: &dyn Exec,
) -> Result<Left, CniError> {
    undo_record_from(call, record, path, exec, 0)
}

/// As [`undo_record`], for work whose time is bounded: an attachment whose plugin hangs may take all of it, so each of
/// `attempts` begins with another one.
pub(crate) fn undo_record_from(
    call: &Call,
    mut record: Record,
    path: Option<&Path>,
    exec: &dyn Exec,
    attempts: u32,
) -> Result<Left, CniError> {
    let netns = record.netns_for_undo(path).map_err(|error| store_error(&error))?;
    let dir = &call.settings.directory;
    let container_id = record.container_id.clone();
    let path = call.path_with(&record.path);
    let site = Site { exec, container_id: &container_id, netns, path };
    let grace = call.settings.missing_plugin_grace;
    let failing_for = record.failure.as_ref().map(|failure| failing_for(failure, now_ms()));
    let patience = Patience { attempts, failing_for, grace };
    let mut failures = detach_all(&site, &mut record.attachments, &patience, &call.log);
    let of_multus = multus::settle(call, &container_id, &record.if_name, failures.is_empty());
    failures.extend(of_multus.map(|error| Undone { error, can_wait: true }));
    settle(dir, &mut record, &failures)?;
    for failure in &failures {
        call.log.warn("could not undo", &[("error", &failure.error.msg), ("container", &container_id)]);
    }
    if let Some(error) = verdict(&record, &failures, grace, &dir.record(&record.key())) {
        return Err(error);
    }
    if failures.is_empty() {
        call.log.info("detached", &[("container", &container_id)]);
        return Ok(Left::Nothing);
    }
    let text = text(&failures);
    call.log.warn(
        "the pod is let go; what is owed stays recorded",
        &[("container", &container_id), ("error", &text)],
    );
    Ok(Left::Owed(text))
}

/// Whether a record is of a pod that is not held for it any more: its namespace is gone, and the grace is over.
pub(crate) fn is_let_go(call: &Call, record: &Record) -> bool {
    let grace_is_over = |failure| failing_for(failure, now_ms()) >= call.settings.missing_plugin_grace;
    let is_gone = || matches!(record.netns_for_undo(record.netns.as_deref()), Ok(None));
    record.failure.as_ref().is_some_and(grace_is_over) && is_gone()
}

fn failing_for(failure: &DelFailure, now_ms: u64) -> Duration {
    Duration::from_millis(now_ms.saturating_sub(failure.since_ms))
}

/// Writes what is left to be done, or removes the record when nothing is.
pub(crate) fn settle(dir: &NodeDirectory, record: &mut Record, failures: &[Undone]) -> Result<(), CniError> {
    if failures.is_empty() {
        Record::remove(dir, &record.key()).map_err(|error| store_error(&error))?;
        point::reached("del: record removed");
        settled::note(dir, &record.key());
        point::reached("del: settled");
        return Ok(());
    }
    let now = now_ms();
    let earlier = record.failure.take();
    record.phase = Phase::Deleting;
    record.failure = Some(DelFailure {
        since_ms: since(earlier.as_ref(), now),
        last_ms: now,
        attempts: earlier.map_or(0, |failure| failure.attempts).saturating_add(1),
        message: text(failures),
    });
    record.write(dir).map_err(|error| store_error(&error))?;
    point::reached("del: failure recorded");
    Ok(())
}

/// Since when it fails. A clock that was ahead and has been set back must not begin the grace years from now.
fn since(earlier: Option<&DelFailure>, now_ms: u64) -> u64 {
    earlier.map_or(now_ms, |failure| failure.since_ms.min(now_ms))
}

/// For the record, which is kept: without details, which may hold what a plugin printed.
fn text(failures: &[Undone]) -> String {
    let all: Vec<_> = failures.iter().map(|failure| failure.error.msg.as_str()).collect();
    all.join("; ")
}

/// What the runtime is told. A plugin that is gone, or one that cannot undo what it has never done, must not
/// hold a pod for ever: after the grace the pod is let go, and what is owed stays recorded.
fn verdict(record: &Record, failures: &[Undone], grace: Duration, path: &Path) -> Option<CniError> {
    let mut error = CniError::of_all(failures.iter().map(|failure| &failure.error))?;
    let Some(failure) = record.failure.as_ref().filter(|failure| failure.attempts > 1) else {
        return Some(error);
    };
    let since = failing_for(failure, now_ms());
    if since < grace {
        return Some(error);
    }
    if failures.iter().all(|failure| failure.can_wait) {
        return None;
    }
    error.msg.push_str(&advice(record, failure.attempts, since, path));
    Some(error)
}

/// What a person can do about a DEL that has failed for long.
fn advice(record: &Record, attempts: u32, since: Duration, path: &Path) -> String {
    let (id, seconds) = (&record.container_id, since.as_secs());
    let interface = match record.if_name.as_str() {
        "eth0" => String::new(),
        other => format!(" --interface {other}"),
    };
    format!(
        "; DEL of this container has failed {attempts} times in {seconds} s (record {}) and is tried again; mend what \
         the plugin says, or, if it can never succeed, run `meta-cni give-up {id}{interface}` on this node: it says \
         what stays behind",
        path.display()
    )
}

#[cfg(test)]
mod tests {
    use cni::Code;

    use super::*;

    #[test]
    fn a_clock_that_was_set_back_begins_the_grace_anew_and_does_not_prolong_it() {
        let failed_since = |since_ms| {
            let message = String::new();
            since(Some(&DelFailure { since_ms, last_ms: since_ms, attempts: 1, message }), 1000)
        };
        assert_eq!(since(None, 1000), 1000);
        assert_eq!(failed_since(400), 400);
        assert_eq!(failed_since(18_000_000), 1000);
    }

    fn undone(can_wait: bool) -> Undone {
        Undone { error: CniError::new(Code(if can_wait { 999 } else { 111 }), "no"), can_wait }
    }

    fn record(since_ms: u64, attempts: u32) -> Record {
        Record {
            phase: Phase::Deleting,
            container_id: cni::ContainerId::parse("c1").unwrap(),
            if_name: cni::IfName::parse("eth0").unwrap(),
            netns: None,
            netns_id: None,
            boot_id: String::new(),
            pod: None,
            path: Vec::new(),
            created_ms: 0,
            attachments: Vec::new(),
            abandoned: None,
            failure: Some(DelFailure { since_ms, last_ms: since_ms, attempts, message: String::new() }),
        }
    }

    const GRACE: Duration = Duration::from_secs(60);

    #[test]
    fn a_pod_is_let_go_when_only_what_can_wait_is_left_for_the_whole_grace() {
        let (now, long_ago) = (now_ms(), now_ms() - 61_000);
        for (since, attempts, failures, let_go) in [
            (now, 1, vec![], true),
            (now, 1, vec![undone(true)], false),
            (now, 9, vec![undone(true)], false),
            (long_ago, 2, vec![undone(true), undone(true)], true),
            (long_ago, 1, vec![undone(true)], false),
            (long_ago, 9, vec![undone(true), undone(false)], false),
            (long_ago, 9, vec![undone(false)], false),
        ] {
            let error = verdict(&record(since, attempts), &failures, GRACE, Path::new("r"));
            assert_eq!(error.is_none(), let_go, "{attempts} attempts, {} failures", failures.len());
        }
    }

    #[test]
    fn every_failure_is_told_and_the_first_ones_code_is_kept() {
        let error =
            verdict(&record(now_ms(), 1), &[undone(false), undone(true)], GRACE, Path::new("r")).unwrap();
        assert_eq!(error.code, Code(111));
        assert_eq!(error.msg, "no; no");
        // Once it has failed for long, it says what a person can do.
        let long_ago = now_ms() - 61_000;
        let error = verdict(&record(long_ago, 9), &[undone(false)], GRACE, Path::new("/state/c1")).unwrap();
        assert!(error.msg.starts_with("no; DEL of this container has failed 9 times in 61 s"), "{error}");
        assert!(error.msg.contains("/state/c1") && error.msg.contains("`meta-cni give-up c1`"), "{error}");
    }
}
