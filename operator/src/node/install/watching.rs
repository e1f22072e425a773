//! Changes of several directories, awaited with one inotify instance (a node has 128 for each user).
//!
//! A directory that is not there yet is awaited through the nearest one above it, and one behind a link through
//! the link. Every change wakes; who is woken looks at everything again.

use std::collections::BTreeSet;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, timeout, timeout_at};

/// A burst is over when nothing has happened for so long.
const QUIET: Duration = Duration::from_millis(50);
/// Who writes without end does not keep a change from being seen.
const MOST: Duration = Duration::from_secs(1);

const CHANGES: WatchFlags = WatchFlags::ATTRIB
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);

/// The directories that are watched.
#[derive(Debug)]
pub(super) struct Watching {
    events: AsyncFd<OwnedFd>,
    watched: BTreeSet<i32>,
}

impl Watching {
    /// Nothing is watched before [`Watching::follow`]. Needs a tokio runtime.
    pub(super) fn new() -> io::Result<Self> {
        let events = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        #[expect(
            deprecated,
            reason = "unsound only where the descriptor may change or close; its successor is unsafe to call"
        )]
        let events = AsyncFd::with_interest(events, Interest::READABLE)?;
        Ok(Self { events, watched: BTreeSet::new() })
    }

    /// Watches what is under these names now, and nothing else. Look at them after this: what changes in between
    /// is then seen by one of the two.
    pub(super) fn follow(&mut self, dirs: &BTreeSet<PathBuf>) -> io::Result<()> {
        let mut watched = BTreeSet::new();
        for dir in dirs {
            // Links first: one that changes after its directory was watched would leave us with the old directory.
            for link in dir.ancestors().filter(|path| path.is_symlink()) {
                watched.extend(link.parent().map(|above| self.watch_nearest(above)).transpose()?);
            }
            watched.insert(self.watch_nearest(dir)?);
        }
        for old in std::mem::replace(&mut self.watched, watched) {
            if !self.watched.contains(&old) {
                // The kernel may have dropped it together with the directory.
                let _ = inotify::remove_watch(self.events.get_ref(), old);
            }
        }
        Ok(())
    }

    fn watch_nearest(&self, dir: &Path) -> io::Result<i32> {
        let mut last = Errno::NOENT;
        for dir in dir.ancestors() {
            let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
            match inotify::add_watch(self.events.get_ref(), dir, CHANGES) {
                Ok(descriptor) => return Ok(descriptor),
                Err(error @ (Errno::NOENT | Errno::NOTDIR)) => last = error,
                Err(error) => return Err(error.into()),
            }
        }
        Err(last.into())
    }

    /// Waits for a change, and then until the burst that it belongs to is over. Who drops it early has to look.
    pub(super) async fn changed(&self) -> io::Result<()> {
        self.drain().await?;
        let latest = Instant::now() + MOST;
        while let Ok(Ok(more)) = timeout_at(latest, timeout(QUIET, self.drain())).await {
            more?;
        }
        Ok(())
    }

    /// Waits for events and takes all that are there; what happened does not matter, only that something did.
    async fn drain(&self) -> io::Result<()> {
        let mut ready = self.events.readable().await?;
        let mut buffer = [const { MaybeUninit::uninit() }; 4096];
        let mut reader = Reader::new(self.events.get_ref(), &mut buffer);
        while reader.next().is_ok() {}
        ready.clear_ready();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(20);
    const SHORT: Duration = Duration::from_millis(30);

    fn following(dirs: &[&Path]) -> Watching {
        let mut watching = Watching::new().unwrap();
        watching.follow(&dirs.iter().map(|dir| (*dir).to_owned()).collect()).unwrap();
        watching
    }

    async fn changes(watching: &Watching) -> bool {
        timeout(LONG, watching.changed()).await.is_ok_and(|changed| changed.is_ok())
    }

    async fn is_quiet(watching: &Watching) -> bool {
        timeout(SHORT, watching.changed()).await.is_err()
    }

    #[tokio::test]
    async fn a_burst_in_several_directories_is_one_change() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let watching = following(&[one.path(), other.path()]);
        assert!(is_quiet(&watching).await);
        for number in 0..100 {
            std::fs::write(one.path().join(number.to_string()), "x").unwrap();
            std::fs::write(other.path().join(number.to_string()), "x").unwrap();
        }
        assert!(changes(&watching).await);
        assert!(is_quiet(&watching).await);
    }

    #[tokio::test]
    async fn a_directory_that_comes_later_is_followed_and_one_that_is_dropped_is_not() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("a/b");
        let mut watching = following(&[&dir]);
        std::fs::create_dir_all(&dir).unwrap();
        assert!(changes(&watching).await);
        watching.follow(&BTreeSet::from([dir.clone()])).unwrap();
        std::fs::write(dir.join("x"), "x").unwrap();
        assert!(changes(&watching).await);
        watching.follow(&BTreeSet::new()).unwrap();
        // That a watch ends is an event of its own.
        assert!(changes(&watching).await);
        std::fs::write(dir.join("x"), "y").unwrap();
        assert!(is_quiet(&watching).await);
    }

    #[tokio::test]
    async fn a_link_on_the_way_that_leads_elsewhere_now_is_a_change() {
        let temp = tempfile::tempdir().unwrap();
        let path = |name: &str| temp.path().join(name);
        std::fs::create_dir_all(path("v1/d")).unwrap();
        std::fs::create_dir_all(path("v2/d")).unwrap();
        std::os::unix::fs::symlink("v1", path("now")).unwrap();
        let watching = following(&[&path("now/d")]);
        std::os::unix::fs::symlink("v2", path("next")).unwrap();
        std::fs::rename(path("next"), path("now")).unwrap();
        assert!(changes(&watching).await);
    }
}
