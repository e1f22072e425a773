//! Locks between processes: `flock` on files under the run directory.
//!
//! A lock ends with the process that holds it, however that ends. A container's lock file is removed by the
//! DEL that ends the container, so taking a lock makes sure that the file which was locked is still the one
//! under the name.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use cni::ContainerId;

use crate::{NodeDirectory, StoreError, atomic};

/// Held while something touches what the lock is about; released by dropping it.
#[derive(Debug)]
#[must_use = "a lock is held only as long as its guard lives"]
pub struct Lock {
    _file: File,
    path: PathBuf,
}

/// How a lock is shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Shared,
    Exclusive,
}

impl Lock {
    /// The lock of one container: whatever touches its record holds it.
    pub fn of_container(dir: &NodeDirectory, id: &ContainerId, wait: Duration) -> Result<Self, StoreError> {
        take(&dir.container_locks().join(id.as_str()), Mode::Exclusive, wait)
    }

    /// As [`Lock::of_container`], without waiting; `None` if somebody holds it.
    pub fn of_container_if_free(dir: &NodeDirectory, id: &ContainerId) -> Result<Option<Self>, StoreError> {
        take_if_free(&dir.container_locks().join(id.as_str()))
    }

    /// What ADD and DEL hold, side by side, so that GC cannot run while they do.
    pub fn shared_with_attachments(dir: &NodeDirectory, wait: Duration) -> Result<Self, StoreError> {
        take(&dir.node_lock(), Mode::Shared, wait)
    }

    /// What GC holds, alone.
    pub fn against_attachments(dir: &NodeDirectory, wait: Duration) -> Result<Self, StoreError> {
        take(&dir.node_lock(), Mode::Exclusive, wait)
    }

    /// What the one process holds that takes up unfinished work; `None` if there is one already.
    pub fn of_unfinished_work(dir: &NodeDirectory) -> Result<Option<Self>, StoreError> {
        take_if_free(&dir.unfinished_lock())
    }

    /// Releases the lock and removes its file: the container is gone.
    pub fn remove(self) {
        // A file that stays costs an inode until the next boot; the next one to lock it takes it as it is.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn open(path: &Path) -> io::Result<File> {
    let open = || OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path);
    match open() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            atomic::make_directory(path.parent().unwrap_or(Path::new("/")))?;
            open()
        }
        other => other,
    }
}

/// Whether `file` is what `path` names; not so after somebody removed the file.
fn is_current(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(ours), Ok(named)) => (ours.dev(), ours.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

fn take_if_free(path: &Path) -> Result<Option<Lock>, StoreError> {
    loop {
        let file = open(path).map_err(StoreError::write(path))?;
        match file.try_lock() {
            Ok(()) if is_current(&file, path) => {
                return Ok(Some(Lock { _file: file, path: path.to_owned() }));
            }
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(StoreError::write(path)(error)),
        }
    }
}

fn take(path: &Path, mode: Mode, wait: Duration) -> Result<Lock, StoreError> {
    let begun = Instant::now();
    loop {
        let file = open(path).map_err(StoreError::write(path))?;
        let left = wait.saturating_sub(begun.elapsed());
        let Some(file) = wait_for(file, mode, left).map_err(StoreError::write(path))? else {
            return Err(StoreError::Locked { path: path.to_owned(), waited: wait });
        };
        if is_current(&file, path) {
            return Ok(Lock { _file: file, path: path.to_owned() });
        }
    }
}

/// Locks a file; `None` if it takes too long.
fn wait_for(file: File, mode: Mode, wait: Duration) -> io::Result<Option<File>> {
    let tried = match mode {
        Mode::Shared => file.try_lock_shared(),
        Mode::Exclusive => file.try_lock(),
    };
    match tried {
        Ok(()) => return Ok(Some(file)),
        Err(TryLockError::WouldBlock) => {}
        Err(TryLockError::Error(error)) => return Err(error),
    }
    // flock knows no deadline. A thread waits; if it comes too late its file is closed with its message.
    let (sender, receiver) = channel();
    std::thread::Builder::new().name("lock".to_owned()).spawn(move || {
        let locked = match mode {
            Mode::Shared => file.lock_shared(),
            Mode::Exclusive => file.lock(),
        };
        // Nobody listens any more when the wait was over.
        let _ = sender.send(locked.map(|()| file));
    })?;
    match receiver.recv_timeout(wait) {
        Ok(locked) => locked.map(Some),
        Err(RecvTimeoutError::Timeout) => Ok(None),
        Err(RecvTimeoutError::Disconnected) => Err(io::Error::other("the waiting thread ended")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(20);
    const SHORT: Duration = Duration::from_millis(50);

    fn directory() -> (tempfile::TempDir, NodeDirectory, ContainerId) {
        let temp = tempfile::tempdir().unwrap();
        let dir = NodeDirectory::new(temp.path().join("run"), temp.path().join("state"));
        (temp, dir, ContainerId::parse("c1").unwrap())
    }

    #[test]
    fn a_container_has_one_lock_and_the_next_waits_for_it() {
        let (_temp, dir, id) = directory();
        let held = Lock::of_container(&dir, &id, SHORT).unwrap();
        let error = Lock::of_container(&dir, &id, SHORT).unwrap_err();
        assert!(matches!(error, StoreError::Locked { .. }));
        assert_eq!(error.code(), cni::Code::TRY_AGAIN_LATER);
        assert!(Lock::of_container_if_free(&dir, &id).unwrap().is_none());
        let other = ContainerId::parse("c2").unwrap();
        drop(Lock::of_container(&dir, &other, SHORT).unwrap());
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| Lock::of_container(&dir, &id, LONG).map(drop));
            drop(held);
            waiting.join().unwrap().unwrap();
        });
    }

    #[test]
    fn a_removed_lock_file_never_lets_two_in() {
        let (_temp, dir, id) = directory();
        let inside = std::sync::atomic::AtomicU32::new(0);
        let (dir, id, inside) = (&dir, &id, &inside);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(move || {
                    for _ in 0..200 {
                        let lock = Lock::of_container(dir, id, LONG).unwrap();
                        let before = inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                        assert_eq!(before, 0, "two hold the lock");
                        inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                        lock.remove();
                    }
                });
            }
        });
        assert_eq!(std::fs::read_dir(dir.container_locks()).unwrap().count(), 0);
    }

    #[test]
    fn attachments_run_side_by_side_and_gc_alone() {
        let (_temp, dir, _) = directory();
        let one = Lock::shared_with_attachments(&dir, SHORT).unwrap();
        let two = Lock::shared_with_attachments(&dir, SHORT).unwrap();
        assert!(Lock::against_attachments(&dir, SHORT).is_err());
        drop((one, two));
        let gc = Lock::against_attachments(&dir, LONG).unwrap();
        assert!(Lock::shared_with_attachments(&dir, SHORT).is_err());
        drop(gc);
    }
}
