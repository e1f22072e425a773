//! The shape of the node directory: what is a directory and what a file.
//!
//! A thing of the wrong kind (somebody's `mkdir` or `touch`, a disk that was repaired) makes every write under its name
//! fail, and no program of ours would ever put another in its place. [`restore`] does. Such things are moved, not
//! removed: what is in them may be somebody's. The run and state directories themselves are left to who named them.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::{NodeDirectory, StoreError, atomic};

/// What a thing should be.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// A file that its owner may read and write.
    File,
    /// The run or state directory.
    Given,
    /// A directory whose owner may do everything there.
    Directory,
    /// The same, and everything in it is of one kind.
    DirectoryOf(&'static Kind),
}

use Kind::{Directory, DirectoryOf, File, Given};

/// Brings things of the wrong kind, and those whose mode keeps even their owner out, back to what they should be;
/// which.
///
/// *Guarantees*: goes on after a failure, and tells the first one. Nothing is removed.
///
/// *Assumption*: only the node role calls it.
pub fn restore(dir: &NodeDirectory) -> Result<Vec<PathBuf>, StoreError> {
    let (run, state) = (dir.run(), dir.state());
    let mut round = Round::new(run);
    for (path, kind) in [
        (run.to_owned(), Given),
        (dir.node(), File),
        (dir.networks(), DirectoryOf(&DirectoryOf(&File))),
        (dir.pods(), DirectoryOf(&DirectoryOf(&File))),
        (dir.locks(), Directory),
        (dir.lines(), DirectoryOf(&File)),
        (dir.places(), DirectoryOf(&DirectoryOf(&File))),
        (dir.container_locks(), DirectoryOf(&File)),
        (dir.node_lock(), File),
        (dir.unfinished_lock(), File),
        (dir.configuration_lock(), File),
        (dir.unfinished(), DirectoryOf(&File)),
        (dir.settled(), DirectoryOf(&File)),
        (dir.running_of_all_boots(), DirectoryOf(&DirectoryOf(&DirectoryOf(&File)))),
    ] {
        round.look(&path, kind);
    }
    if round.changed.iter().any(|path| path.starts_with(dir.unfinished())) {
        // What was moved away may have been a hint: all records are to be looked through again.
        if let Err(error) = atomic::remove(&dir.unfinished_looked()) {
            round.fail(error);
        }
    }
    let mut of_state = Round::new(state);
    of_state.look(state, Given);
    of_state.look(&dir.records(), DirectoryOf(&File));
    round.changed.append(&mut of_state.changed);
    round.failure.or(of_state.failure).map_or(Ok(round.changed), Err)
}

/// One look at the run directory, or at the state directory.
#[derive(Debug)]
struct Round<'a> {
    top: &'a Path,
    changed: Vec<PathBuf>,
    failure: Option<StoreError>,
}

impl<'a> Round<'a> {
    fn new(top: &'a Path) -> Self {
        Self { top, changed: Vec::new(), failure: None }
    }

    fn look(&mut self, path: &Path, kind: Kind) {
        match self.settle(path, kind) {
            Ok(None) => {}
            Ok(Some(changed)) => {
                if changed {
                    self.changed.push(path.to_owned());
                }
                if let DirectoryOf(kind) = kind {
                    self.look_into(path, *kind);
                }
            }
            Err(error) => self.fail(StoreError::write(path)(error)),
        }
    }

    fn look_into(&mut self, dir: &Path, kind: Kind) {
        match fs::read_dir(dir) {
            Ok(entries) => entries.flatten().for_each(|entry| self.look(&entry.path(), kind)),
            // It was moved away.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => self.fail(StoreError::read(dir)(error)),
        }
    }

    fn fail(&mut self, error: StoreError) {
        self.failure.get_or_insert(error);
    }

    /// Whether something had to be done about a thing; `None` if it is not there.
    fn settle(&self, path: &Path, kind: Kind) -> io::Result<Option<bool>> {
        let found = match fs::symlink_metadata(path) {
            Ok(found) => found,
            Err(error) if [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory].contains(&error.kind()) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let (right, needed) = match kind {
            File => (found.is_file(), 0o600),
            // Where the whole is a link, somebody has chosen its place.
            Given | Directory | DirectoryOf(_) => (found.is_dir() || path.is_dir(), 0o700),
        };
        if !right {
            // Whoever named it is told when something is to be written there.
            let ours = !matches!(kind, Given);
            if ours {
                move_aside(self.top, path)?;
            }
            return Ok(Some(ours));
        }
        let mode = found.permissions().mode() & 0o7777;
        if found.is_symlink() || mode & needed == needed {
            return Ok(Some(false));
        }
        fs::set_permissions(path, Permissions::from_mode(mode | needed))?;
        Ok(Some(true))
    }
}

/// Moves what is in the way, or cannot be used, to a place of its own below the run or state directory `top`; where to.
pub fn move_aside(top: &Path, path: &Path) -> io::Result<PathBuf> {
    let aside = NodeDirectory::aside(top);
    atomic::make_directory(&aside)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut places = (0..u32::MAX).map(|number| aside.join(format!("{name}-{number}")));
    let free = places.find(|place| fs::symlink_metadata(place).is_err());
    let place = free.ok_or(io::ErrorKind::AlreadyExists)?;
    fs::rename(path, &place)?;
    Ok(place)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn directory() -> (tempfile::TempDir, NodeDirectory) {
        let temp = tempfile::tempdir().unwrap();
        let dir = NodeDirectory::new(temp.path().join("run"), temp.path().join("state"));
        (temp, dir)
    }

    fn put(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn what_is_right_stays_and_what_is_not_ours_is_not_looked_at() {
        let (_temp, dir) = directory();
        assert_eq!(restore(&dir).unwrap(), Vec::<PathBuf>::new(), "there is nothing");
        for path in [dir.networks().join("default/a"), dir.node(), dir.node_lock(), dir.records().join("c1")]
        {
            put(&path, "{");
        }
        put(&dir.run().join("running/boot/c1/1-2-3-4"), "");
        fs::create_dir_all(dir.run().join("somebody/else's")).unwrap();
        assert_eq!(restore(&dir).unwrap(), Vec::<PathBuf>::new());
        assert_eq!(fs::read(dir.records().join("c1")).unwrap(), b"{");
    }

    #[test]
    fn directories_in_the_place_of_files_and_files_in_that_of_directories_are_moved_away() {
        let (_temp, dir) = directory();
        let network = dir.networks().join("default/a");
        fs::create_dir_all(network.join("full")).unwrap();
        fs::create_dir_all(dir.node()).unwrap();
        put(&dir.pods(), "");
        put(&dir.run().join("locks"), "");
        symlink("nowhere", dir.unfinished()).unwrap();
        let changed = restore(&dir).unwrap();
        assert_eq!(changed, [dir.node(), network, dir.pods(), dir.run().join("locks"), dir.unfinished()]);
        assert!(changed.iter().all(|path| fs::symlink_metadata(path).is_err()));
        assert!(dir.run().join(".aside/a-0/full").exists());
    }

    #[test]
    fn it_goes_on_after_a_failure_and_tells_the_first_one() {
        let (_temp, dir) = directory();
        // Nothing of the run directory can be moved there.
        put(&NodeDirectory::aside(dir.run()), "somebody's");
        fs::create_dir_all(dir.node()).unwrap();
        put(&dir.pods(), "");
        let lock = dir.unfinished_lock();
        put(&lock, "");
        fs::set_permissions(&lock, Permissions::from_mode(0o000)).unwrap();
        fs::create_dir_all(dir.records().join("c1")).unwrap();
        let error = restore(&dir).unwrap_err();
        assert!(matches!(&error, StoreError::Write { path, .. } if *path == dir.node()), "{error}");
        assert!(dir.node().is_dir() && dir.pods().is_file(), "what could not be moved is where it was");
        assert_eq!(fs::metadata(lock).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(NodeDirectory::aside(dir.state()).join("c1-0").is_dir());
    }

    #[test]
    fn a_link_to_a_directory_stays_and_what_is_behind_it_is_looked_at() {
        let (temp, dir) = directory();
        let elsewhere = temp.path().join("elsewhere");
        fs::create_dir_all(dir.run()).unwrap();
        for (link, of) in
            [(dir.networks(), "networks"), (dir.run().join("locks"), "locks"), (dir.records(), "records")]
        {
            fs::create_dir_all(elsewhere.join(of)).unwrap();
            fs::create_dir_all(link.parent().unwrap()).unwrap();
            symlink(elsewhere.join(of), &link).unwrap();
        }
        put(&elsewhere.join("networks/default/a"), "{");
        put(&elsewhere.join("records/c1"), "{");
        assert_eq!(restore(&dir).unwrap(), Vec::<PathBuf>::new());
        assert_eq!(fs::read_link(dir.networks()).unwrap(), elsewhere.join("networks"));
        fs::create_dir_all(elsewhere.join("networks/default/b")).unwrap();
        assert_eq!(restore(&dir).unwrap(), [dir.networks().join("default/b")]);
        assert_eq!(fs::read(dir.networks().join("default/a")).unwrap(), b"{");
    }

    #[test]
    fn the_run_and_state_directories_are_not_ours_to_move() {
        let (_temp, dir) = directory();
        for given in [dir.run(), dir.state()] {
            put(given, "somebody's");
        }
        assert_eq!(restore(&dir).unwrap(), Vec::<PathBuf>::new());
        for given in [dir.run(), dir.state()] {
            assert_eq!(fs::read(given).unwrap(), b"somebody's");
        }
    }

    #[test]
    fn what_was_moved_away_stays_beside_what_was_moved_away_before() {
        let (_temp, dir) = directory();
        for _ in 0..2 {
            put(&dir.records().join("c1/kept"), "x");
            assert_eq!(restore(&dir).unwrap(), [dir.records().join("c1")]);
        }
        for number in 0..2 {
            assert_eq!(fs::read(dir.state().join(format!(".aside/c1-{number}/kept"))).unwrap(), b"x");
        }
        fs::remove_dir_all(dir.records()).unwrap();
        put(&dir.records(), "y");
        assert_eq!(restore(&dir).unwrap(), [dir.records()]);
        assert_eq!(fs::read(dir.state().join(".aside/attachments-0")).unwrap(), b"y");
    }

    #[test]
    fn where_a_hint_may_have_been_all_records_are_looked_through_again() {
        let (_temp, dir) = directory();
        crate::record::unfinished(&dir).unwrap();
        put(&dir.records().join("c1"), "damaged");
        assert!(crate::record::unfinished(&dir).unwrap().is_empty(), "this boot has looked already");
        fs::create_dir_all(dir.unfinished().join("c1")).unwrap();
        restore(&dir).unwrap();
        let found = crate::record::unfinished(&dir).unwrap();
        assert_eq!(found, [crate::record::RecordKey::of_file("c1").unwrap()]);
    }

    #[test]
    fn the_owner_may_read_and_write_again() {
        let (_temp, dir) = directory();
        let file = dir.networks().join("default/a");
        put(&file, "{");
        fs::set_permissions(&file, Permissions::from_mode(0o040)).unwrap();
        fs::set_permissions(dir.networks().join("default"), Permissions::from_mode(0o000)).unwrap();
        assert_eq!(restore(&dir).unwrap(), [dir.networks().join("default"), file.clone()]);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&file), mode(&dir.networks().join("default"))), (0o640, 0o700));
    }
}
