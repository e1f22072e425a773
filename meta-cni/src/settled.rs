//! Containers of ours of which nothing is left, remembered for a while.
//!
//! Runtimes repeat DEL, and call it after an ADD that failed. Without a note such a DEL would look like one for a
//! container that was attached before Braid was there, whose primary has to be undone. A note is a cheap
//! hint: without it the primary's plugins are asked once more than need be. There is one file for each of a fixed
//! number of slots, so that notes never grow; a later container takes an earlier one's slot.

use std::fs::{DirBuilder, OpenOptions};
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
    dir.settled_slot(hash(key.file_name().as_bytes()) % SLOTS)
}

/// FNV-1a. Notes are read by other builds of this program, so the hash must not change with the compiler, as that of
/// the standard library may.
fn hash(bytes: &[u8]) -> u64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    bytes.iter().fold(OFFSET, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_a_note_is_the_same_for_every_build() {
        // The published values of FNV-1a, and of keys as records are called.
        assert_eq!(hash(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(hash(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(hash(b"foobar"), 0x8594_4171_f739_67e8);
        let dir = NodeDirectory::new("/r", "/s");
        for (file, path) in [("c1", "/r/settled/89"), ("c1@net1", "/r/settled/1021")] {
            let key = RecordKey::of_file(file).unwrap();
            assert_eq!(slot(&dir, &key), PathBuf::from(path), "{file}");
        }
    }

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
