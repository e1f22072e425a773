//! DEL: undo what the record says, in reverse, whatever fails.
//!
//! The record alone says what there is to undo; a container without one may be the primary's, or Multus's
//! ([`foreign`]). What could not be undone stays recorded and is tried again: by the runtime, and by later runs of any
//! verb on this node.

use std::path::{Path, PathBuf};
use std::time::Duration;

use cni::env::Target;
use cni::exec::Exec;
use cni::netns::NetnsId;
use cni::skel::Request;
use cni::{CniError, point};
use store::NodeDirectory;
use store::record::{DelFailure, Phase, Record, RecordKey, now_ms};

use crate::attach::{Site, Undone};
use crate::call::{Call, store_error};
use crate::{foreign, hold, multus, settled, turn};

/// Undoes a container's attachments.
///
/// *Guarantees*: safe to repeat; needs neither the NetworkAttachmentDefinition nor the pod nor the namespace.
/// Success means that everything was undone, or that what is left was attempted for the whole of
/// `missingPluginGrace`, belongs to plugins that are gone or was never attached, and stays recorded.
pub(crate) fn del(call: &Call, target: &Target, request: &Request) -> Result<(), CniError> {
    let dir = &call.settings.directory;
    let _turn = turn::to_detach(call);
    let _shared = hold::shared(call)?;
    let lock = hold::container(call, &target.container_id)?;
    point::reached("del: locked");
    let key = RecordKey { container_id: target.container_id.clone(), if_name: target.if_name.clone() };
    match Record::read(dir, &key).map_err(|error| store_error(&error))? {
        Some(record) => {
            let netns = namespace_given(&record, target.netns.as_deref());
            undo_record(call, record, netns, &call.exec)?;
        }
        None => foreign::undo(call, target, request)?,
    }
    point::reached("del: done");
    lock.remove();
    Ok(())
}

/// The namespace that the runtime names, unless its path leads to another one than that of ADD: the process id
/// in `/proc/<pid>/ns/net` may be somebody else's by now, and plugins would take that one's interfaces away.
/// One that is gone is passed on; plugins know what that means.
pub(crate) fn namespace_given(record: &Record, given: Option<&Path>) -> Option<PathBuf> {
    let path = given?;
    let same = match NetnsId::of(path) {
        Err(_) => true,
        Ok(now) => record.boot_id == store::boot::boot_id() && record.netns_id.is_none_or(|then| then == now),
    };
    same.then(|| path.to_owned())
}

/// Undoes a record, the last attachment first, and settles it. The caller holds the container's lock.
pub(crate) fn undo_record(
    call: &Call,
    record: Record,
    netns: Option<PathBuf>,
    exec: &dyn Exec,
) -> Result<(), CniError> {
    undo_record_again(call, record, netns, exec, 0)
}

/// As [`undo_record`], beginning with another attachment after each of `attempts`.
pub(crate) fn undo_record_again(
    call: &Call,
    mut record: Record,
    netns: Option<PathBuf>,
    exec: &dyn Exec,
    attempts: usize,
) -> Result<(), CniError> {
    let container_id = record.container_id.clone();
    let path = call.path_with(&record.path);
    let site = Site { exec, container_id: &container_id, netns, path };
    let mut failures = site.detach_all(&mut record.attachments, attempts);
    failures.extend(multus::settle(call, &container_id, &record.if_name, failures.is_empty()));
    settle(&call.settings.directory, &mut record, &failures)?;
    for failure in &failures {
        call.log.warn("could not undo", &[("error", &failure.error.msg), ("container", &container_id)]);
    }
    if let Some(error) = verdict(&record, &failures, call.settings.missing_plugin_grace) {
        return Err(error);
    }
    call.log.info("detached", &[("container", &container_id), ("left", &record.attachments.len())]);
    Ok(())
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
fn verdict(record: &Record, failures: &[Undone], grace: Duration) -> Option<CniError> {
    let since = record.failure.as_ref().map_or(0, |failure| now_ms().saturating_sub(failure.since_ms));
    let over =
        Duration::from_millis(since) >= grace && record.failure.as_ref().is_some_and(|f| f.attempts > 1);
    if over && failures.iter().all(|failure| failure.can_wait) {
        return None;
    }
    CniError::of_all(failures.iter().map(|failure| &failure.error))
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
            let error = verdict(&record(since, attempts), &failures, GRACE);
            assert_eq!(error.is_none(), let_go, "{attempts} attempts, {} failures", failures.len());
        }
    }

    #[test]
    fn every_failure_is_told_and_the_first_ones_code_is_kept() {
        let error = verdict(&record(now_ms(), 1), &[undone(false), undone(true)], GRACE).unwrap();
        assert_eq!(error.code, Code(111));
        assert_eq!(error.msg, "no; no");
    }
}
