//! One look at the directory of records: what differs from the look before.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use cni::error::chain_text;
use store::record::{self, RecordKey};
use store::{NodeDirectory, StoreError, atomic};

use super::summary::summary;
use crate::known::Record;

/// What tells one version of a file from the next: every write makes a new file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Version {
    inode: u64,
    modified: (i64, i64),
    size: u64,
}

impl Version {
    /// `None` if there is no file.
    fn of(path: &Path) -> io::Result<Option<Self>> {
        match std::fs::symlink_metadata(path) {
            Ok(it) => {
                Ok(Some(Self { inode: it.ino(), modified: (it.mtime(), it.mtime_nsec()), size: it.size() }))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// What differs from the look before.
#[derive(Debug, Default)]
pub(super) struct Look {
    /// Records that are new or other ones.
    pub(super) changed: Vec<(RecordKey, Record)>,
    /// Records that are not there any more, or can no longer be read.
    pub(super) gone: Vec<RecordKey>,
    /// All records that cannot be read, with the reason.
    pub(super) unreadable: BTreeMap<RecordKey, String>,
    /// Whether some could not be read for a reason that may pass.
    pub(super) again: bool,
}

/// What has been seen.
#[derive(Debug, Default)]
pub(super) struct Follower {
    seen: BTreeMap<RecordKey, Version>,
}

impl Follower {
    /// Looks at the directory; a directory that is not there is empty. Reads files, does not wait.
    pub(super) fn look(&mut self, dir: &NodeDirectory) -> Result<Look, StoreError> {
        let files = atomic::files(&dir.records())?;
        let keys: BTreeSet<_> = files.iter().filter_map(|file| RecordKey::of_file(file)).collect();
        let mut look = Look::default();
        self.seen.retain(|key, _| {
            let stays = keys.contains(key);
            if !stays {
                look.gone.push(key.clone());
            }
            stays
        });
        for key in keys {
            self.look_at(dir, key, &mut look);
        }
        Ok(look)
    }

    fn look_at(&mut self, dir: &NodeDirectory, key: RecordKey, look: &mut Look) {
        let path = dir.record(&key);
        // The version first: a write in between is then seen as another version by the next look.
        let version = Version::of(&path);
        if let Ok(Some(version)) = &version
            && self.seen.get(&key) == Some(version)
        {
            return;
        }
        let read = match version {
            Ok(Some(version)) => record::Record::read(dir, &key).map(|read| Some(version).zip(read)),
            Ok(None) => Ok(None),
            Err(source) => Err(StoreError::Read { path, source }),
        };
        match read {
            Ok(Some((version, record))) => {
                self.seen.insert(key.clone(), version);
                look.changed.push((key, summary(&record)));
            }
            // Removed after it was listed.
            Ok(None) => look.gone.extend(self.seen.remove(&key).map(|_| key)),
            Err(error) => {
                // Its version is not kept: the next look reads it again.
                look.gone.extend(self.seen.remove(&key).map(|_| key.clone()));
                look.again |= matches!(error, StoreError::Read { .. });
                look.unreadable.insert(key, chain_text(&error));
            }
        }
    }
}
