//! Waiting for files, with inotify: never polling, always bounded.

use std::io;
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cni::Code;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};
use rustix::io::Errno;

/// Waits until `look` finds something, and looks again after each change in the directories of `paths`.
///
/// A directory that is not there is waited for too. `None` when `wait` is over; `look` has then been called
/// once more at the end. The first error of `look` ends the waiting.
pub fn until<T, E: From<io::Error>>(
    paths: &[PathBuf],
    wait: Duration,
    mut look: impl FnMut() -> Result<Option<T>, E>,
) -> Result<Option<T>, E> {
    if let Some(found) = look()? {
        return Ok(Some(found));
    }
    let deadline = Instant::now() + wait;
    let events = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).map_err(io::Error::from)?;
    loop {
        // Watch first, look then: a file that comes in between is seen by one of the two. The directory
        // nearest to each path may be another one now.
        for path in paths {
            watch_nearest_directory(&events, path)?;
        }
        if let Some(found) = look()? {
            return Ok(Some(found));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        let timeout = Timespec::try_from(left).unwrap_or(Timespec { tv_sec: 3600, tv_nsec: 0 });
        match poll(&mut [PollFd::new(&events, PollFlags::IN)], Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(io::Error::from(error).into()),
        }
        drain(&events);
    }
}

/// The CNI code of an error of [`until`]: 11 where the node has run out of what waiting takes.
pub fn code(error: &io::Error) -> Code {
    if is_exhausted(error) { Code::TRY_AGAIN_LATER } else { Code::IO_FAILURE }
}

/// What to do about an error of [`until`]; follows what could not be waited for.
pub fn advice(error: &io::Error) -> &'static str {
    if is_exhausted(error) {
        " (the node has run out of inotify instances or watches: raise the sysctls \
         fs.inotify.max_user_instances and fs.inotify.max_user_watches, or see who uses so many)"
    } else {
        ""
    }
}

fn is_exhausted(error: &io::Error) -> bool {
    // EMFILE: no instance. ENOSPC: no watch.
    [Errno::MFILE, Errno::NOSPC].iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

fn watch_nearest_directory(events: &std::os::fd::OwnedFd, path: &Path) -> io::Result<()> {
    let interesting = WatchFlags::CREATE
        | WatchFlags::MOVED_TO
        | WatchFlags::CLOSE_WRITE
        | WatchFlags::DELETE_SELF
        | WatchFlags::MOVE_SELF
        | WatchFlags::ONLYDIR;
    for dir in path.ancestors().skip(1) {
        let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        match inotify::add_watch(events, dir, interesting) {
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn drain(events: &std::os::fd::OwnedFd) {
    let mut buffer = [const { MaybeUninit::uninit() }; 4096];
    let mut reader = Reader::new(events, &mut buffer);
    // What happened does not matter, only that something did.
    while reader.next().is_ok() {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::atomic;

    const LONG: Duration = Duration::from_secs(20);

    fn read(path: &Path) -> io::Result<Option<String>> {
        match std::fs::read_to_string(path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    #[test]
    fn a_file_that_comes_later_in_a_directory_that_comes_later_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/file");
        let (looked, has_looked) = std::sync::mpsc::channel();
        let writer_path = path.clone();
        let writer = std::thread::spawn(move || {
            has_looked.recv().unwrap();
            atomic::write(&writer_path, b"here").unwrap();
        });
        let found = until(std::slice::from_ref(&path), LONG, || {
            let _ = looked.send(());
            read(&path)
        });
        assert_eq!(found.unwrap().as_deref(), Some("here"));
        writer.join().unwrap();
    }

    #[test]
    fn waiting_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let found = until(std::slice::from_ref(&path), Duration::from_millis(30), || read(&path)).unwrap();
        assert_eq!(found, None);
    }

    #[test]
    fn an_error_ends_the_waiting() {
        let result: io::Result<Option<()>> = until(&[], LONG, || Err(io::Error::other("no")));
        assert!(result.is_err());
    }
}
