//! Changes of a directory, with inotify: no polling, and one wake for a burst.
//!
//! A directory that is not there yet, or is taken away, is waited for. A file that is being written is not a
//! change until its writer closes it. Links are watched, in the directory (a mounted ConfigMap changes by
//! one) and on the way to it (a git checkout is put in place by one); the files that they lead to are not.

use std::ffi::{OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, Event, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{self, timeout_at};

/// A burst is over when nothing has happened for so long.
const QUIET: Duration = Duration::from_millis(50);
/// Who writes without end does not keep a change from being seen.
const MOST: Duration = Duration::from_secs(1);

/// The end of a directory, or of its name.
const OF_ITSELF: WatchFlags = WatchFlags::DELETE_SELF.union(WatchFlags::MOVE_SELF).union(WatchFlags::ONLYDIR);

/// Why waiting ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// Something has changed.
    Changed,
    /// The time is over.
    TimeOver,
    /// It is to stop.
    Stop,
}

/// A directory that is watched, for one name in it or for all.
#[derive(Debug)]
struct Watched {
    descriptor: i32,
    awaited: Option<OsString>,
}

/// The changes of one directory.
#[derive(Debug)]
pub struct Changes {
    events: OwnedFd,
    dir: PathBuf,
    watched: Vec<Watched>,
}

enum Ready {
    Events,
    Nothing,
    Stop,
}

impl Changes {
    /// Of `dir`; nothing is watched before [`Changes::arm`].
    pub fn of(dir: &Path) -> io::Result<Self> {
        let events = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        Ok(Self { events, dir: std::path::absolute(dir)?, watched: Vec::new() })
    }

    /// Watches what is under the directory's name now. Read the directory after this: what changes in between
    /// is then seen by one of the two.
    pub fn arm(&mut self) -> io::Result<()> {
        // Links first: one that changes after its directory was watched would leave us with the old directory.
        let mut watched = Vec::new();
        for link in self.dir.ancestors().filter(|path| path.is_symlink()) {
            if let (Some(above), Some(name)) = (link.parent(), link.file_name()) {
                let descriptor = self.watch_for_names(above)?;
                watched.push(Watched { descriptor, awaited: Some(name.to_owned()) });
            }
        }
        watched.push(self.watch_directory()?);
        for old in std::mem::replace(&mut self.watched, watched) {
            if self.watched.iter().all(|watched| watched.descriptor != old.descriptor) {
                // The kernel may have dropped it together with the directory.
                let _ = inotify::remove_watch(&self.events, old.descriptor);
            }
        }
        Ok(())
    }

    fn watch_for_names(&self, dir: &Path) -> Result<i32, Errno> {
        let flags = OF_ITSELF | WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::MASK_ADD;
        inotify::add_watch(&self.events, dir, flags)
    }

    /// The directory, or while it is not there the nearest one above it, for the name that leads to it.
    fn watch_directory(&self) -> io::Result<Watched> {
        let all = OF_ITSELF
            | WatchFlags::ATTRIB
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::MASK_ADD;
        let mut missing = match inotify::add_watch(&self.events, &self.dir, all) {
            Ok(descriptor) => return Ok(Watched { descriptor, awaited: None }),
            Err(Errno::NOENT | Errno::NOTDIR) => self.dir.as_path(),
            Err(error) => return Err(error.into()),
        };
        while let (Some(above), Some(name)) = (missing.parent(), missing.file_name()) {
            match self.watch_for_names(above) {
                // It has come before it could be awaited.
                Ok(descriptor) if missing.is_dir() => {
                    let _ = inotify::remove_watch(&self.events, descriptor);
                    return self.watch_directory();
                }
                Ok(descriptor) => return Ok(Watched { descriptor, awaited: Some(name.to_owned()) }),
                Err(Errno::NOENT | Errno::NOTDIR) => missing = above,
                Err(error) => return Err(error.into()),
            }
        }
        Err(Errno::NOENT.into())
    }

    /// Waits for a change, and then until the burst that it belongs to is over.
    ///
    /// Ends early when `stop` can be read, or when nothing has changed for `patience`.
    pub fn wait(&self, stop: &impl AsFd, patience: Option<Duration>) -> io::Result<Wake> {
        let deadline = patience.map(|patience| Instant::now() + patience);
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            match self.ready(stop, left)? {
                Ready::Stop => return Ok(Wake::Stop),
                Ready::Nothing => return Ok(Wake::TimeOver),
                Ready::Events if self.drain() => break,
                Ready::Events => {}
            }
        }
        let latest = Instant::now() + MOST;
        loop {
            let left = latest.saturating_duration_since(Instant::now());
            match self.ready(stop, Some(left.min(QUIET)))? {
                Ready::Stop => return Ok(Wake::Stop),
                Ready::Nothing => return Ok(Wake::Changed),
                Ready::Events => drop(self.drain()),
            }
        }
    }

    /// As [`Changes::wait`], for a task: until a change, and until its burst is over.
    ///
    /// Safe to drop at any time: what was not told is told by the next look at the directory.
    pub async fn changed(&self) -> io::Result<()> {
        let events = awaitable(self.events.as_fd())?;
        loop {
            let mut ready = events.readable().await?;
            let matters = self.drain();
            ready.clear_ready();
            if matters {
                break;
            }
        }
        let latest = time::Instant::now() + MOST;
        loop {
            let quiet = (time::Instant::now() + QUIET).min(latest);
            let Ok(ready) = timeout_at(quiet, events.readable()).await else { return Ok(()) };
            let mut ready = ready?;
            self.drain();
            ready.clear_ready();
        }
    }

    fn ready(&self, stop: &impl AsFd, wait: Option<Duration>) -> io::Result<Ready> {
        let timeout = wait.and_then(|wait| Timespec::try_from(wait).ok());
        let mut waited = [PollFd::new(stop, PollFlags::IN), PollFd::new(&self.events, PollFlags::IN)];
        match poll(&mut waited, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let [stop, events] = &waited;
        match (stop.revents().is_empty(), events.revents().is_empty()) {
            (false, _) => Ok(Ready::Stop),
            (true, false) => Ok(Ready::Events),
            // A signal without a message in `stop` ends the round too; the next one waits on.
            (true, true) => Ok(Ready::Nothing),
        }
    }

    /// Takes all events; whether one of them matters.
    fn drain(&self) -> bool {
        let mut buffer = [const { MaybeUninit::uninit() }; 4096];
        let mut reader = Reader::new(&self.events, &mut buffer);
        let mut matters = false;
        while let Ok(event) = reader.next() {
            matters |= self.matters(&event);
        }
        matters
    }

    fn matters(&self, event: &Event<'_>) -> bool {
        let what = event.events();
        if what.contains(ReadFlags::QUEUE_OVERFLOW) {
            return true;
        }
        let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()));
        let mut watched = self.watched.iter().filter(|watched| watched.descriptor == event.wd());
        watched.any(|watched| match (&watched.awaited, name) {
            (_, None) => true,
            (Some(awaited), Some(name)) => awaited == name,
            (None, Some(name)) => !(what.contains(ReadFlags::CREATE) && being_written(&self.dir.join(name))),
        })
    }
}

#[expect(
    deprecated,
    reason = "the new constructor is unsafe code, because a type may give away a descriptor that it closes; a \
              `BorrowedFd` cannot: it is open as long as it lives"
)]
fn awaitable(events: BorrowedFd<'_>) -> io::Result<AsyncFd<BorrowedFd<'_>>> {
    AsyncFd::with_interest(events, Interest::READABLE)
}

/// A file that was just made will be closed; a link to a file, of either kind, is complete at once.
fn being_written(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.nlink() == 1)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    const LONG: Option<Duration> = Some(Duration::from_secs(20));
    const SHORT: Option<Duration> = Some(Duration::from_millis(30));

    struct Watching {
        _temp: tempfile::TempDir,
        dir: PathBuf,
        changes: Changes,
        stop: (UnixStream, UnixStream),
    }

    impl Watching {
        fn new(below: &str) -> Self {
            let temp = tempfile::tempdir().unwrap();
            let dir = temp.path().join(below);
            let mut changes = Changes::of(&dir).unwrap();
            changes.arm().unwrap();
            Self { _temp: temp, dir, changes, stop: UnixStream::pair().unwrap() }
        }

        fn wait(&self, patience: Option<Duration>) -> Wake {
            self.changes.wait(&self.stop.0, patience).unwrap()
        }
    }

    #[test]
    fn what_is_written_removed_moved_and_linked_is_a_change() {
        let watching = Watching::new("");
        let path = |name: &str| watching.dir.join(name);
        let steps: [(&str, &dyn Fn()); 7] = [
            ("write", &|| std::fs::write(path("a"), "x").unwrap()),
            ("write again", &|| std::fs::write(path("a"), "y").unwrap()),
            ("rename", &|| std::fs::rename(path("a"), path("b")).unwrap()),
            ("symbolic link", &|| std::os::unix::fs::symlink("b", path("c")).unwrap()),
            ("hard link", &|| std::fs::hard_link(path("b"), path("d")).unwrap()),
            ("permissions", &|| {
                std::fs::set_permissions(path("b"), std::os::unix::fs::PermissionsExt::from_mode(0o600))
                    .unwrap();
            }),
            ("remove", &|| std::fs::remove_file(path("b")).unwrap()),
        ];
        for (what, step) in steps {
            step();
            assert_eq!(watching.wait(LONG), Wake::Changed, "{what}");
        }
        assert_eq!(watching.wait(SHORT), Wake::TimeOver, "each change is told once");
    }

    #[test]
    fn a_burst_is_one_change() {
        let watching = Watching::new("");
        for number in 0..500 {
            std::fs::write(watching.dir.join(number.to_string()), "x").unwrap();
        }
        assert_eq!(watching.wait(LONG), Wake::Changed);
        assert_eq!(watching.wait(SHORT), Wake::TimeOver);
    }

    #[test]
    fn a_file_is_a_change_only_when_its_writer_is_done() {
        let watching = Watching::new("");
        let file = std::fs::File::create(watching.dir.join("a")).unwrap();
        assert_eq!(watching.wait(SHORT), Wake::TimeOver);
        drop(file);
        assert_eq!(watching.wait(LONG), Wake::Changed);
    }

    #[test]
    fn a_directory_that_comes_goes_and_comes_again_is_followed() {
        let mut watching = Watching::new("a/b");
        let dir = watching.dir.clone();
        let parent = dir.parent().unwrap().to_owned();
        std::fs::write(parent.with_file_name("noise"), "x").unwrap();
        assert_eq!(watching.wait(SHORT), Wake::TimeOver, "other names do not matter");
        for round in 0..2 {
            std::fs::create_dir(&parent).unwrap();
            assert_eq!(watching.wait(LONG), Wake::Changed, "{round}: its parent has come");
            watching.changes.arm().unwrap();
            std::fs::create_dir(&dir).unwrap();
            assert_eq!(watching.wait(LONG), Wake::Changed, "{round}: it has come");
            watching.changes.arm().unwrap();
            std::fs::write(dir.join("x"), "x").unwrap();
            assert_eq!(watching.wait(LONG), Wake::Changed, "{round}: it is followed");
            std::fs::remove_dir_all(&parent).unwrap();
            assert_eq!(watching.wait(LONG), Wake::Changed, "{round}: it has gone");
            watching.changes.arm().unwrap();
        }
    }

    #[test]
    fn a_link_that_leads_elsewhere_now_is_a_change_and_is_followed() {
        let temp = tempfile::tempdir().unwrap();
        let path = |name: &str| temp.path().join(name);
        for version in ["v1/networks", "v2/networks"] {
            std::fs::create_dir_all(path(version)).unwrap();
        }
        std::os::unix::fs::symlink("v1", path("current")).unwrap();
        let (bell, _ringer) = UnixStream::pair().unwrap();
        let mut changes = Changes::of(&path("current/networks")).unwrap();
        changes.arm().unwrap();
        std::os::unix::fs::symlink("v2", path("next")).unwrap();
        std::fs::rename(path("next"), path("current")).unwrap();
        assert_eq!(changes.wait(&bell, LONG).unwrap(), Wake::Changed);
        changes.arm().unwrap();
        std::fs::write(path("v1/networks/a"), "x").unwrap();
        assert_eq!(changes.wait(&bell, SHORT).unwrap(), Wake::TimeOver, "the old directory does not matter");
        std::fs::write(path("v2/networks/a"), "x").unwrap();
        assert_eq!(changes.wait(&bell, LONG).unwrap(), Wake::Changed);
    }

    #[tokio::test]
    async fn a_task_is_woken_once_for_a_burst_and_again_for_the_next() {
        let mut watching = Watching::new("below");
        for round in 0..2 {
            let dir = watching.dir.clone();
            let writer = tokio::spawn(async move {
                std::fs::create_dir_all(&dir).unwrap();
                std::fs::write(dir.join(round.to_string()), "x").unwrap();
            });
            let changed = timeout_at(time::Instant::now() + LONG.unwrap(), watching.changes.changed());
            changed.await.expect("waited in vain").unwrap();
            writer.await.unwrap();
            watching.changes.arm().unwrap();
        }
        let again = timeout_at(time::Instant::now() + SHORT.unwrap(), watching.changes.changed());
        assert!(again.await.is_err(), "each change is told once");
    }

    #[test]
    fn stopping_ends_the_waiting() {
        let watching = Watching::new("");
        std::io::Write::write_all(&mut &watching.stop.1, b"x").unwrap();
        assert_eq!(watching.wait(LONG), Wake::Stop);
    }
}
