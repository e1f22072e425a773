//! Records: what was and is to be done for one container.
//!
//! A record is written before the first delegate runs and outlives a reboot, so that DEL can undo with the
//! configuration, arguments and results of ADD whatever became of the NetworkAttachmentDefinition, the pod or
//! the machine. A *hint* under the run directory says that a record is not at rest; it is made before the
//! record and removed after the record has come to rest, so that unfinished work is found without reading
//! every record. Hints are lost at a reboot: the first look after it reads every record.

use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cni::netns::NetnsId;
use cni::npwg::NetworkRef;
use cni::result::Family;
use cni::{AddResult, CapabilityArgs, CniArgs, IfName, NetworkList, point};
use ipnet::IpNet;
use serde::de::Error as _;
use serde::{Deserialize, Serialize};

use crate::document::{self, Document};
pub use crate::layout::RecordKey;
use crate::{NodeDirectory, StoreError, atomic};

/// Everything about one container's attachments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// How far things have come.
    pub phase: Phase,
    /// CNI_CONTAINERID.
    pub container_id: cni::ContainerId,
    /// CNI_IFNAME: the runtime's name for the primary's interface.
    pub if_name: IfName,
    /// CNI_NETNS.
    pub netns: Option<PathBuf>,
    /// Which namespace that was; paths are used again.
    pub netns_id: Option<NetnsId>,
    /// The boot in which ADD ran.
    pub boot_id: String,
    /// The pod, where the runtime named one.
    pub pod: Option<PodIdentity>,
    /// Where plugins were looked for.
    pub path: Vec<PathBuf>,
    /// When ADD began, in milliseconds since 1970.
    pub created_ms: u64,
    /// The plan, primary first; what DEL has undone is taken out.
    pub attachments: Vec<AttachmentRecord>,
    /// Why the operator gave the container up: its pod is gone for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abandoned: Option<String>,
    /// What the last DEL could not undo.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<DelFailure>,
}

/// How far a container has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// ADD is running, or was killed: any delegate may have run.
    Intended,
    /// ADD has succeeded.
    Attached,
    /// A DEL could not undo everything, or an ADD that failed could not: what is left of the attachments is to
    /// be undone. A DEL that was killed leaves the record as it was.
    Deleting,
}

/// Who a container belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodIdentity {
    /// K8S_POD_NAMESPACE.
    pub namespace: String,
    /// K8S_POD_NAME.
    pub name: String,
    /// K8S_POD_UID, where the runtime gives it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
}

/// One attachment, with everything that running its plugins needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttachmentRecord {
    /// What people call the network: `namespace/name` of its NetworkAttachmentDefinition, or the
    /// configuration's name.
    pub network: String,
    /// The NetworkAttachmentDefinition, if it comes from one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_ref: Option<NetworkRef>,
    /// Its interface.
    pub if_name: IfName,
    /// The configuration that ran.
    pub list: NetworkList,
    /// CNI_ARGS as the plugins got them.
    pub args: CniArgs,
    /// What was asked of plugins that declare it.
    pub capabilities: CapabilityArgs,
    /// The plugin that refused ADD, by its place in the list: those behind it never ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused_by: Option<usize>,
    /// What ADD returned, with default routes as they are in the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<AddResult>,
    /// The families whose default route it has because the pod asked for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub default_route: Vec<Family>,
    /// How long its ADD took, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub add_us: Option<u64>,
    /// What the kernel had of a secondary network in the pod when ADD ended: what CHECK looks for. `None` if nobody
    /// looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<Vec<SeenInterface>>,
    /// What a plugin of a secondary network said at the last CHECK though the pod has what ADD gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub complaint: Option<String>,
}

/// An interface that an attachment had in the pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenInterface {
    /// Its name, as the plugin's result has it.
    pub name: String,
    /// Its hardware address, in lower case with colons; empty where it has none.
    pub mac: String,
    /// Those of the result's addresses that it had, with the kernel's prefix lengths.
    pub addresses: Vec<IpNet>,
}

/// What the last DEL could not undo, and since when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DelFailure {
    /// When DEL failed first, in milliseconds since 1970.
    pub since_ms: u64,
    /// When it failed last.
    pub last_ms: u64,
    /// How often it has failed.
    pub attempts: u32,
    /// Every error of the last time, for people.
    pub message: String,
}

/// A step of what happens to a record and its hint; what a test stops at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The hint is made.
    MakeHint,
    /// The record is written.
    Write(atomic::Step),
    /// The record is removed.
    Remove(atomic::Removal),
    /// The hint is removed.
    RemoveHint,
    /// That all records were looked through is written down.
    Looked(atomic::Step),
}

/// Called before each step; may fail in its place.
pub type Before<'a> = &'a mut dyn FnMut(Step) -> io::Result<()>;

impl Document for Record {
    const SCHEMA: u64 = 1;
}

/// Now, in milliseconds since 1970.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl Record {
    /// What the record is about.
    pub fn key(&self) -> RecordKey {
        RecordKey { container_id: self.container_id.clone(), if_name: self.if_name.clone() }
    }

    /// Reads a record; `None` if there is none.
    pub fn read(dir: &NodeDirectory, key: &RecordKey) -> Result<Option<Self>, StoreError> {
        let path = dir.record(key);
        let record: Option<Self> = document::read(&path)?;
        match &record {
            // It would be undone under another name, and this file would stay for ever.
            Some(record) if record.key() != *key => {
                let other = record.key().file_name();
                let source = serde_json::Error::custom(format_args!("it is the record {other}"));
                Err(StoreError::Damaged { path, source })
            }
            _ => Ok(record),
        }
    }

    /// Writes the record and keeps its hint in step.
    ///
    /// *Assumption*: the caller holds the container's lock.
    pub fn write(&self, dir: &NodeDirectory) -> Result<(), StoreError> {
        self.write_stepwise(dir, &mut |_| Ok(()))
    }

    /// As [`Record::write`]; `before` is called before each step and may fail in its place.
    pub fn write_stepwise(&self, dir: &NodeDirectory, before: Before<'_>) -> Result<(), StoreError> {
        let key = self.key();
        let path = dir.record(&key);
        let text = document::text(&path, self)?;
        if self.is_at_rest() {
            atomic::write_stepwise(&path, &text, &mut |step| before(Step::Write(step)))?;
            before(Step::RemoveHint).map_err(StoreError::write(&path))?;
            return remove_hint(dir, &key);
        }
        before(Step::MakeHint).map_err(StoreError::write(&path))?;
        make_hint(dir, &key)?;
        point::reached("record: hint made");
        atomic::write_stepwise(&path, &text, &mut |step| before(Step::Write(step)))
    }

    /// Removes a record and its hint; the container is gone.
    pub fn remove(dir: &NodeDirectory, key: &RecordKey) -> Result<bool, StoreError> {
        Self::remove_stepwise(dir, key, &mut |_| Ok(()))
    }

    /// As [`Record::remove`]; `before` is called before each step and may fail in its place.
    pub fn remove_stepwise(
        dir: &NodeDirectory,
        key: &RecordKey,
        before: Before<'_>,
    ) -> Result<bool, StoreError> {
        let path = dir.record(key);
        let removed = atomic::remove_stepwise(&path, &mut |step| before(Step::Remove(step)))?;
        before(Step::RemoveHint).map_err(StoreError::write(&path))?;
        remove_hint(dir, key)?;
        Ok(removed)
    }

    /// The key of every record.
    pub fn list(dir: &NodeDirectory) -> Result<Vec<RecordKey>, StoreError> {
        let files = atomic::files(&dir.records())?;
        Ok(files.iter().filter_map(|file| RecordKey::of_file(file)).collect())
    }

    /// Whether nothing is left to do: ADD succeeded, no DEL has begun, nobody gave the container up.
    pub fn is_at_rest(&self) -> bool {
        self.phase == Phase::Attached && self.abandoned.is_none()
    }

    /// The namespace to give to plugins that undo, of a path that the runtime or this record names: none if the path
    /// leads nowhere, to no namespace, or to another one than that of ADD. After a reboot, or when a process id in the
    /// path is used again, it may be somebody else's, whose interfaces plugins would take away. A plugin that gets a
    /// path that leads nowhere may fail on it for ever, or make a file there.
    ///
    /// *Errors*: the path cannot be looked at, so that nobody knows whether the namespace is gone.
    pub fn netns_for_undo(&self, path: Option<&Path>) -> Result<Option<PathBuf>, StoreError> {
        let Some(path) = path.filter(|_| self.boot_id == crate::boot::boot_id()) else { return Ok(None) };
        match NetnsId::of(path) {
            Ok(now) => Ok(Some(path.to_owned()).filter(|_| self.netns_id.is_none_or(|then| then == now))),
            Err(error) if NetnsId::is_none(&error) => Ok(None),
            Err(source) => Err(StoreError::Read { path: path.to_owned(), source }),
        }
    }
}

/// Keys of records that are not at rest, as far as hints tell.
///
/// The first look after a boot reads every record, since the hints are gone then. A hint may be out of date:
/// whoever follows it takes the container's lock and reads the record.
pub fn unfinished(dir: &NodeDirectory) -> Result<Vec<RecordKey>, StoreError> {
    unfinished_stepwise(dir, &mut |_| Ok(()))
}

/// As [`unfinished`]; `before` is called before each step of the first look and may fail in its place.
pub fn unfinished_stepwise(dir: &NodeDirectory, before: Before<'_>) -> Result<Vec<RecordKey>, StoreError> {
    let note = dir.unfinished_looked();
    let boot = crate::boot::boot_id();
    if std::fs::read_to_string(&note).is_ok_and(|noted| noted == boot) {
        return hints(dir);
    }
    // What cannot be swept costs a few kilobytes, and is no reason to leave work undone.
    let _ = atomic::sweep_earlier_boots(&dir.records());
    for key in Record::list(dir)? {
        if !matches!(Record::read(dir, &key), Ok(Some(record)) if record.is_at_rest()) {
            before(Step::MakeHint).map_err(StoreError::write(&note))?;
            make_hint(dir, &key)?;
        }
    }
    // Noted last: if this process is killed before, the next one looks again.
    atomic::write_stepwise(&note, boot.as_bytes(), &mut |step| before(Step::Looked(step)))?;
    hints(dir)
}

/// Whether any record has an attachment to undo. One that cannot be read may have.
pub fn any_to_undo(dir: &NodeDirectory) -> Result<bool, StoreError> {
    let may_have = |key: &RecordKey| match Record::read(dir, key) {
        Ok(record) => record.is_some_and(|record| !record.attachments.is_empty()),
        Err(_) => true,
    };
    Ok(Record::list(dir)?.iter().any(may_have))
}

fn hints(dir: &NodeDirectory) -> Result<Vec<RecordKey>, StoreError> {
    let files = atomic::files(&dir.unfinished())?;
    Ok(files.iter().filter_map(|file| RecordKey::of_file(file)).collect())
}

/// Whether it is told for the first time in this boot that a record cannot be read; its hint remembers.
pub fn is_news(dir: &NodeDirectory, key: &RecordKey) -> Result<bool, StoreError> {
    if is_told(dir, key) {
        return Ok(false);
    }
    let path = dir.hint(key);
    make_hint(dir, key)?;
    std::fs::write(&path, told()).map_err(StoreError::write(&path))?;
    Ok(true)
}

/// Whether it was told in this boot that a record cannot be read.
pub fn is_told(dir: &NodeDirectory, key: &RecordKey) -> bool {
    std::fs::read_to_string(dir.hint(key)).is_ok_and(|text| text == told())
}

fn told() -> String {
    format!("told in boot {}\n", crate::boot::boot_id())
}

fn make_hint(dir: &NodeDirectory, key: &RecordKey) -> Result<(), StoreError> {
    let path = dir.hint(key);
    let mut options = std::fs::OpenOptions::new();
    options.create(true).truncate(false).write(true).mode(0o600);
    let create = || options.open(&path).map(drop);
    let outcome = match create() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            atomic::make_directory(&dir.unfinished()).and_then(|()| create())
        }
        other => other,
    };
    outcome.map_err(StoreError::write(&path))
}

/// Removes the hint at a record that has come to rest or is gone.
pub fn remove_hint(dir: &NodeDirectory, key: &RecordKey) -> Result<(), StoreError> {
    let path = dir.hint(key);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(StoreError::write(&path)(error)),
        _ => {
            point::reached("record: hint removed");
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

    use super::*;

    fn directory() -> (tempfile::TempDir, NodeDirectory) {
        let temp = tempfile::tempdir().unwrap();
        let dir = NodeDirectory::new(temp.path().join("run"), temp.path().join("state"));
        (temp, dir)
    }

    fn record(id: &str, phase: Phase) -> Record {
        Record {
            phase,
            container_id: cni::ContainerId::parse(id).unwrap(),
            if_name: IfName::parse("eth0").unwrap(),
            netns: Some("/run/netns/x".into()),
            netns_id: None,
            boot_id: crate::boot::boot_id(),
            pod: None,
            path: vec!["/opt/cni/bin".into()],
            created_ms: now_ms(),
            attachments: Vec::new(),
            abandoned: None,
            failure: None,
        }
    }

    fn unfinished_ids(dir: &NodeDirectory) -> Vec<String> {
        unfinished(dir).unwrap().into_iter().map(|key| key.container_id.to_string()).collect()
    }

    #[test]
    fn a_record_is_hinted_at_until_it_comes_to_rest() {
        let (_temp, dir) = directory();
        let mut it = record("c1", Phase::Intended);
        it.write(&dir).unwrap();
        assert_eq!(unfinished_ids(&dir), ["c1"]);
        it.phase = Phase::Attached;
        it.write(&dir).unwrap();
        assert!(unfinished_ids(&dir).is_empty());
        assert_eq!(Record::read(&dir, &it.key()).unwrap().unwrap(), it);
        it.abandoned = Some("the pod is gone".to_owned());
        it.write(&dir).unwrap();
        assert_eq!(unfinished_ids(&dir), ["c1"]);
        assert!(Record::remove(&dir, &it.key()).unwrap());
        assert!(unfinished_ids(&dir).is_empty());
        assert!(Record::list(&dir).unwrap().is_empty());
    }

    #[test]
    fn a_record_under_the_name_of_another_is_damaged() {
        let (_temp, dir) = directory();
        let it = record("c1", Phase::Attached);
        it.write(&dir).unwrap();
        let other = RecordKey::of_file("c2").unwrap();
        std::fs::rename(dir.record(&it.key()), dir.record(&other)).unwrap();
        let error = Record::read(&dir, &other).unwrap_err();
        assert!(error.to_string().ends_with("c2 is damaged (it is the record c1); move it away"), "{error}");
    }

    #[test]
    fn after_a_reboot_unfinished_records_are_found_without_hints() {
        let (_temp, dir) = directory();
        record("killed", Phase::Intended).write(&dir).unwrap();
        record("failed", Phase::Deleting).write(&dir).unwrap();
        record("rests", Phase::Attached).write(&dir).unwrap();
        std::fs::write(dir.records().join("damaged"), "{").unwrap();
        std::fs::remove_dir_all(dir.run()).unwrap();
        // The first ADD of the new boot must not hide what is left from before.
        record("new", Phase::Intended).write(&dir).unwrap();
        assert_eq!(unfinished_ids(&dir), ["damaged", "failed", "killed", "new"]);
    }

    #[test]
    fn the_first_look_of_a_boot_sweeps_what_killed_writers_left_before_it() {
        let (_temp, dir) = directory();
        record("rests", Phase::Attached).write(&dir).unwrap();
        let left = dir.records().join(".new-1-2-3-4");
        std::fs::write(&left, "{").unwrap();
        unfinished(&dir).unwrap();
        assert!(!left.exists());
        std::fs::write(&left, "{").unwrap();
        unfinished(&dir).unwrap();
        assert!(left.exists(), "later looks have nothing to sweep");
    }

    /// Runs `work`, stopped before its step number `stop` as kill -9 would; whether it came to its end.
    fn killed_at(stop: usize, work: impl FnOnce(Before<'_>)) -> bool {
        let mut done = 0;
        let all = catch_unwind(AssertUnwindSafe(|| {
            work(&mut |_| {
                if done == stop {
                    // As a panic, but without a word.
                    resume_unwind(Box::new("killed"));
                }
                done += 1;
                Ok(())
            });
        }));
        all.is_ok()
    }

    /// A record that is on the disk and not at rest is found, in this boot and in the next one, which begins
    /// without the run directory. Otherwise it is not there or at rest.
    fn nothing_is_lost(dir: &NodeDirectory, what: &str) {
        for boot in ["this boot", "the next boot"] {
            let owed = Record::list(dir).unwrap().into_iter();
            let owed: Vec<_> =
                owed.filter(|key| !Record::read(dir, key).unwrap().expect("listed").is_at_rest()).collect();
            let found = unfinished(dir).unwrap();
            assert!(owed.iter().all(|key| found.contains(key)), "{what}, {boot}: {owed:?} of {found:?}");
            // Nothing at all may hinder whoever comes next.
            Record::list(dir).unwrap().iter().for_each(|key| drop(Record::read(dir, key).unwrap()));
            let _ = std::fs::remove_dir_all(dir.run());
        }
    }

    #[test]
    fn a_writer_of_a_record_that_is_killed_anywhere_leaves_no_work_that_nobody_finds() {
        let (intended, attached, deleting) =
            (Some(Phase::Intended), Some(Phase::Attached), Some(Phase::Deleting));
        for (before, after) in [
            (None, intended),
            (intended, attached),
            (intended, deleting),
            (intended, None),
            (attached, deleting),
            (attached, None),
            (deleting, deleting),
            (deleting, None),
        ] {
            for stop in 0.. {
                let (_temp, dir) = directory();
                unfinished(&dir).unwrap();
                let key = record("c1", Phase::Intended).key();
                if let Some(phase) = before {
                    record("c1", phase).write(&dir).unwrap();
                }
                let ended = killed_at(stop, |steps| match after {
                    Some(phase) => record("c1", phase).write_stepwise(&dir, steps).unwrap(),
                    None => drop(Record::remove_stepwise(&dir, &key, steps).unwrap()),
                });
                let now = Record::read(&dir, &key).unwrap().map(|record| record.phase);
                assert!(now == before || now == after, "{before:?} to {after:?}, step {stop}: {now:?}");
                nothing_is_lost(&dir, &format!("{before:?} to {after:?}, step {stop}"));
                if ended {
                    assert_eq!(now, after);
                    assert!(stop >= 2, "there is more than one step");
                    break;
                }
            }
        }
    }

    #[test]
    fn a_first_look_that_is_killed_anywhere_is_made_again() {
        for stop in 0.. {
            let (_temp, dir) = directory();
            record("killed", Phase::Intended).write(&dir).unwrap();
            record("failed", Phase::Deleting).write(&dir).unwrap();
            record("rests", Phase::Attached).write(&dir).unwrap();
            std::fs::remove_dir_all(dir.run()).unwrap();
            let ended = killed_at(stop, |steps| drop(unfinished_stepwise(&dir, steps).unwrap()));
            assert_eq!(unfinished_ids(&dir), ["failed", "killed"], "step {stop}");
            if ended {
                assert_eq!(stop, 2 + atomic::Step::ALL.len());
                break;
            }
        }
    }

    #[test]
    fn a_namespace_of_another_boot_or_another_identity_is_not_given_to_plugins() {
        let mut it = record("c1", Phase::Deleting);
        it.netns = Some("/proc/self/ns/net".into());
        let given = |it: &Record| it.netns_for_undo(it.netns.as_deref()).unwrap();
        assert_eq!(given(&it), it.netns);
        assert_eq!(it.netns_for_undo(None).unwrap(), None, "the runtime names none");
        it.netns_id = Some(NetnsId::of(std::path::Path::new("/proc/self/ns/mnt")).unwrap());
        assert_eq!(given(&it), None, "the path leads to another namespace");
        it.netns_id = None;
        it.boot_id = "another".to_owned();
        assert_eq!(given(&it), None, "the namespace is from before a reboot");
        it.boot_id = crate::boot::boot_id();
        it.netns = Some("/run/netns/absent".into());
        assert_eq!(given(&it), None, "the namespace is gone");
    }
}
