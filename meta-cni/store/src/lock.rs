//! Locks between processes: `flock` on files under the run directory.
//!
//! A lock ends with the process that holds it, however that ends. Within a process it is given back in so many
//! words: a child that is between fork and exec has a copy of every open file, and closing ours would leave the
//! lock to it. A container's lock file is removed by the DEL that ends the container, so taking a lock makes
//! sure that the file which was locked is still the one under the name.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::mem::ManuallyDrop;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use cni::{ContainerId, point};

use crate::{NodeDirectory, StoreError, atomic};

/// Held while something touches what the lock is about; released by dropping it.
#[derive(Debug)]
#[must_use = "a lock is held only as long as its guard lives"]
pub struct Lock {
    held: Held,
    path: PathBuf,
}

/// A file that is locked. Dropping it unlocks it, whoever else has a copy of it.
#[derive(Debug)]
pub(crate) struct Held(pub(crate) File);

impl Drop for Held {
    fn drop(&mut self) {
        // It can only fail for a file that is no file.
        let _ = self.0.unlock();
    }
}

/// How a lock is shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Shared,
    Exclusive,
}

impl Lock {
    /// The lock of one container: whatever touches its record holds it.
    pub fn of_container(dir: &NodeDirectory, id: &ContainerId, wait: Duration) -> Result<Self, StoreError> {
        take(&dir.container_lock(id), Mode::Exclusive, wait)
    }

    /// As [`Lock::of_container`], without waiting; `None` if somebody holds it.
    pub fn of_container_if_free(dir: &NodeDirectory, id: &ContainerId) -> Result<Option<Self>, StoreError> {
        take_if_free(&dir.container_lock(id), Mode::Exclusive)
    }

    /// What ADD and DEL hold, side by side, so that GC cannot run while they do.
    pub fn shared_with_attachments(dir: &NodeDirectory, wait: Duration) -> Result<Self, StoreError> {
        take(&dir.node_lock(), Mode::Shared, wait)
    }

    /// As [`Lock::shared_with_attachments`], without waiting; `None` while GC runs.
    pub fn shared_with_attachments_if_free(dir: &NodeDirectory) -> Result<Option<Self>, StoreError> {
        take_if_free(&dir.node_lock(), Mode::Shared)
    }

    /// What GC holds, alone.
    pub fn against_attachments(dir: &NodeDirectory, wait: Duration) -> Result<Self, StoreError> {
        take(&dir.node_lock(), Mode::Exclusive, wait)
    }

    /// As [`Lock::against_attachments`], without waiting; `None` while any of them runs.
    pub fn against_attachments_if_free(dir: &NodeDirectory) -> Result<Option<Self>, StoreError> {
        take_if_free(&dir.node_lock(), Mode::Exclusive)
    }

    /// Held by whoever writes or removes the runtime's configuration.
    pub fn of_configuration(dir: &NodeDirectory, wait: Duration) -> Result<Self, StoreError> {
        take(&dir.configuration_lock(), Mode::Exclusive, wait)
    }

    /// As [`Lock::of_configuration`], without waiting; `None` if somebody holds it.
    pub fn of_configuration_if_free(dir: &NodeDirectory) -> Result<Option<Self>, StoreError> {
        take_if_free(&dir.configuration_lock(), Mode::Exclusive)
    }

    /// What the one process holds that takes up unfinished work.
    pub fn of_unfinished_work(dir: &NodeDirectory, wait: Duration) -> Result<Self, StoreError> {
        take(&dir.unfinished_lock(), Mode::Exclusive, wait)
    }

    /// As [`Lock::of_unfinished_work`], without waiting; `None` if there is one already.
    pub fn of_unfinished_work_if_free(dir: &NodeDirectory) -> Result<Option<Self>, StoreError> {
        take_if_free(&dir.unfinished_lock(), Mode::Exclusive)
    }

    /// The locked file, for another process: the lock is released when everybody who has the file open has closed it.
    /// This process must not take the lock again.
    pub fn hand_over(self) -> io::Result<File> {
        let held = ManuallyDrop::new(self.held);
        held.0.try_clone()
    }

    /// Removes the lock's file, then releases the lock: the container is gone.
    pub fn remove(self) {
        // Whoever gets the lock of a file without a name opens the name anew. A file that stays costs an inode until the next boot; the next one to lock it takes it as it is.
        let Self { held, path } = self;
        let _ = std::fs::remove_file(path);
        point::reached("lock: file removed");
        drop(held);
    }
}

/// Opens a lock's file; makes it, and its directory, if there is none.
pub(crate) fn open(path: &Path) -> io::Result<File> {
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

pub(crate) fn take_if_free(path: &Path, mode: Mode) -> Result<Option<Lock>, StoreError> {
    loop {
        let file = open(path).map_err(StoreError::write(path))?;
        let Some(held) = try_lock(file, mode).map_err(StoreError::write(path))?.ok() else {
            return Ok(None);
        };
        if is_current(&held.0, path) {
            point::reached("lock: taken");
            return Ok(Some(Lock { held, path: path.to_owned() }));
        }
    }
}

pub(crate) fn take(path: &Path, mode: Mode, wait: Duration) -> Result<Lock, StoreError> {
    let begun = Instant::now();
    loop {
        let file = open(path).map_err(StoreError::write(path))?;
        let left = wait.saturating_sub(begun.elapsed());
        let Some(held) = wait_for(file, mode, left).map_err(StoreError::write(path))? else {
            return Err(StoreError::Locked { path: path.to_owned(), waited: wait });
        };
        if is_current(&held.0, path) {
            point::reached("lock: taken");
            return Ok(Lock { held, path: path.to_owned() });
        }
    }
}

/// Locks a file, or gives it back if somebody else has it locked.
fn try_lock(file: File, mode: Mode) -> io::Result<Result<Held, File>> {
    Ok(if lock_if_free(&file, mode)? { Ok(Held(file)) } else { Err(file) })
}

/// Whether a file could be locked at once.
pub(crate) fn lock_if_free(file: &File, mode: Mode) -> io::Result<bool> {
    let tried = match mode {
        Mode::Shared => file.try_lock_shared(),
        Mode::Exclusive => file.try_lock(),
    };
    match tried {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Locks a file; `None` if it takes too long.
fn wait_for(file: File, mode: Mode, wait: Duration) -> io::Result<Option<Held>> {
    let file = match try_lock(file, mode)? {
        Ok(held) => return Ok(Some(held)),
        Err(file) => file,
    };
    // flock knows no deadline. A thread waits; if it comes too late its file is unlocked with its message.
    let (sender, receiver) = channel();
    std::thread::Builder::new().name("lock".to_owned()).spawn(move || {
        let locked = match mode {
            Mode::Shared => file.lock_shared(),
            Mode::Exclusive => file.lock(),
        };
        // Nobody listens any more when the wait was over.
        let _ = sender.send(locked.map(|()| Held(file)));
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

    /// Waits until a thread waits for the lock of a file.
    fn await_waiter<T>(file: &File, thread: &std::thread::ScopedJoinHandle<'_, T>) {
        let (inode, begun) = (format!(":{} ", file.metadata().unwrap().ino()), Instant::now());
        let waits = |line: &str| line.contains("->") && line.contains(&inode);
        while !std::fs::read_to_string("/proc/locks").unwrap().lines().any(waits) {
            assert!(!thread.is_finished(), "it did not wait");
            assert!(begun.elapsed() < LONG, "it does not wait");
            std::thread::yield_now();
        }
    }

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
            await_waiter(&held.held.0, &waiting);
            drop(held);
            waiting.join().unwrap().unwrap();
        });
    }

    #[test]
    fn a_lock_is_given_back_though_a_child_before_its_exec_has_a_copy_of_the_file() {
        let (_temp, dir, id) = directory();
        let lock = Lock::of_container(&dir, &id, SHORT).unwrap();
        let copy = lock.held.0.try_clone().unwrap();
        drop(lock);
        let lock = Lock::of_container_if_free(&dir, &id).unwrap().expect("the lock was given back");
        let (second_copy, path) = (lock.held.0.try_clone().unwrap(), lock.path.clone());
        // Somebody who waits for it while it is removed.
        let waiting = File::open(&path).unwrap();
        lock.remove();
        assert!(!path.exists());
        waiting.try_lock().expect("the lock of a removed file is given back too");
        drop((copy, second_copy));
    }

    #[test]
    fn who_waited_for_a_lock_whose_file_was_replaced_waits_for_the_new_one() {
        let (_temp, dir, id) = directory();
        let old = Lock::of_container(&dir, &id, SHORT).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| Lock::of_container(&dir, &id, LONG));
            await_waiter(&old.held.0, &waiting);
            std::fs::remove_file(&old.path).unwrap();
            let new = Lock::of_container_if_free(&dir, &id).unwrap().expect("nobody has the new one");
            drop(old);
            await_waiter(&new.held.0, &waiting);
            drop(new);
            drop(waiting.join().unwrap().unwrap());
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
                        // Time for another one to come in.
                        (0..20).for_each(|_| std::thread::yield_now());
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
        drop(Lock::shared_with_attachments_if_free(&dir).unwrap().expect("it is shared"));
        drop((one, two));
        let gc = Lock::against_attachments(&dir, LONG).unwrap();
        assert!(Lock::shared_with_attachments(&dir, SHORT).is_err());
        assert!(Lock::shared_with_attachments_if_free(&dir).unwrap().is_none());
        drop(gc);
    }
}
