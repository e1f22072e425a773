//! Containers of ours of which nothing is left, remembered for a while.
//!
//! Runtimes repeat DEL, and call it after an ADD that failed. Without a note such a DEL would look like one for a
//! container that was attached before Braid was there, whose primary has to be undone. A note is a cheap
//! hint: without it the primary's plugins are asked once more than need be. There is one file for each of a fixed
//! number of slots, so that notes never grow; a later container takes an earlier one's slot.

use std::fs::{DirBuilder, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::Duration;

use store::NodeDirectory;
use store::record::RecordKey;

const SLOTS: u64 = 1024;
/// podman uses a container's id again when it starts the container again, then perhaps without Braid.
const VALID: Duration = Duration::from_secs(3600);

/// Notes that nothing is left of a container. A note that cannot be written is done without.
pub(crate) fn note(dir: &NodeDirectory, key: &RecordKey) {
    let path = slot(dir, key);
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&path)?;
        file.write_all(key.file_name().as_bytes())
    };
    if write().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(dir.settled());
        let _ = made.and_then(|()| write());
    }
}

/// Forgets the note: the container is there again, and somebody else's.
pub(crate) fn forget(dir: &NodeDirectory, key: &RecordKey) {
    if is_noted(dir, key) {
        // Without its file there is no note; that it cannot be removed happens to no directory that took it.
        let _ = std::fs::remove_file(slot(dir, key));
    }
}

/// Whether nothing is known to be left of a container.
pub(crate) fn is_noted(dir: &NodeDirectory, key: &RecordKey) -> bool {
    let path = slot(dir, key);
    let written = std::fs::metadata(&path).and_then(|meta| meta.modified());
    // A clock that was set back makes a note invalid.
    let is_recent = written.is_ok_and(|at| at.elapsed().is_ok_and(|age| age < VALID));
    is_recent && std::fs::read_to_string(&path).is_ok_and(|text| text == key.file_name())
}

fn slot(dir: &NodeDirectory, key: &RecordKey) -> PathBuf {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    dir.settled().join((hasher.finish() % SLOTS).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_about_one_container_for_an_hour_and_notes_do_not_grow() {
        let temp = tempfile::tempdir().unwrap();
        let dir = NodeDirectory::new(temp.path().join("run"), temp.path().join("state"));
        let key = |number: u32| RecordKey::of_file(&format!("c{number}")).unwrap();
        assert!(!is_noted(&dir, &key(1)));
        note(&dir, &key(1));
        assert!(is_noted(&dir, &key(1)));
        forget(&dir, &key(1));
        assert!(!is_noted(&dir, &key(1)));
        note(&dir, &key(1));
        assert!(!is_noted(&dir, &RecordKey::of_file("c1@net1").unwrap()));
        let long_ago = std::time::SystemTime::now() - VALID;
        std::fs::File::options()
            .write(true)
            .open(slot(&dir, &key(1)))
            .unwrap()
            .set_modified(long_ago)
            .unwrap();
        assert!(!is_noted(&dir, &key(1)));
        for number in 0..3000 {
            note(&dir, &key(number));
            assert!(is_noted(&dir, &key(number)));
        }
        assert!(std::fs::read_dir(dir.settled()).unwrap().count() <= 1024);
    }
}
