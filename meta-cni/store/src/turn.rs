//! Turns: how many calls do their work on the node at once, first come first served.
//!
//! There are as many places as calls may work at once, each a file that its holder has locked: however a holder ends,
//! the kernel gives its place back. Who comes locks the line's file first. The kernel serves those who wait for it in
//! the order in which they came; who has it is the head of the line, takes a free place or waits for one with inotify,
//! and then lets the next one become the head. So of a hundred that wait, one watches, and one is woken.
//!
//! A place that was held for [`LONGEST`] no longer counts: what takes so long waits for something else than this
//! node's processors, and a plugin that hangs must not stop the pods of other networks. Its file is replaced by the
//! head of the line; the one who held it goes on.

use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use crate::lock::{Held, Mode, lock_if_free, open, take, take_if_free};
use crate::{NodeDirectory, StoreError, watch};

/// How long a place counts as held.
pub const LONGEST: Duration = Duration::from_secs(10);
/// How often the head of the line looks at places of which inotify tells nothing: those held for too long, and that of
/// a holder that was killed, since the kernel tells of the end of a file before it gives its lock back.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Who stands in line together. Each line has places of its own: who detaches never waits for those who attach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// ADD.
    Attach,
    /// DEL.
    Detach,
}

impl Line {
    /// What its files are called.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Attach => "attach",
            Self::Detach => "detach",
        }
    }
}

/// Held while a call works; given back by dropping it.
#[derive(Debug)]
#[must_use = "a turn lasts only as long as its guard lives"]
pub struct Turn {
    _place: Held,
    /// Whether others were first.
    pub waited: bool,
}

/// Waits for a call's turn among those of its line; `None` if it does not come within `wait`.
pub fn take_turn(
    dir: &NodeDirectory,
    line: Line,
    at_once: NonZeroUsize,
    wait: Duration,
) -> Result<Option<Turn>, StoreError> {
    let begun = Instant::now();
    let file = dir.line(line);
    let head = take_if_free(&file, Mode::Exclusive)?;
    let mut waited = head.is_none();
    let head = match head.map_or_else(|| take(&file, Mode::Exclusive, wait), Ok) {
        Ok(head) => head,
        Err(StoreError::Locked { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut places = Places { dir, line, count: at_once.get(), seen: Vec::new() };
    let mut place = places.take()?;
    while place.is_none() {
        waited = true;
        let left = wait.saturating_sub(begun.elapsed());
        let near = dir.place(line, 0);
        let look = || Ok::<_, io::Error>(places.take().transpose());
        let found = watch::until(std::slice::from_ref(&near), left.min(LOOK_AGAIN), look);
        place = found.map_err(StoreError::read(&near))?.transpose()?;
        if left.is_zero() {
            break;
        }
    }
    // Ours are closed before another one watches: it would be woken by that.
    drop(places);
    drop(head);
    Ok(place.map(|place| Turn { _place: place, waited }))
}

/// The places of a line, as the head of it sees them. Those that it has looked at stay open: closing one would look like
/// giving it back.
struct Places<'a> {
    dir: &'a NodeDirectory,
    line: Line,
    count: usize,
    seen: Vec<(PathBuf, File)>,
}

impl Places<'_> {
    /// Takes a place that is free, or one that is held for too long.
    fn take(&mut self) -> Result<Option<Held>, StoreError> {
        for number in 0..self.count {
            if number == self.seen.len() {
                let path = self.dir.place(self.line, number);
                let file = open(&path).map_err(StoreError::write(&path))?;
                self.seen.push((path, file));
            }
            let Some((path, file)) = self.seen.get(number) else { continue };
            if lock_if_free(file, Mode::Exclusive).map_err(StoreError::write(path))? {
                let (path, file) = self.seen.swap_remove(number);
                return begin(file).map(Some).map_err(StoreError::write(&path));
            }
        }
        let held_too_long = self.seen.iter().find(|(_, file)| is_held_too_long(file));
        held_too_long.map_or(Ok(None), |(path, _)| replace(path).map_err(StoreError::write(path)))
    }
}

/// A place whose file was just locked is held from now on.
fn begin(file: File) -> io::Result<Held> {
    let held = Held(file);
    held.0.set_modified(SystemTime::now())?;
    Ok(held)
}

/// Whether a place was taken long ago. A clock that was set back must not make it last for ever.
fn is_held_too_long(file: &File) -> bool {
    let taken = file.metadata().and_then(|meta| meta.modified());
    let age = taken.map(|at| at.elapsed().unwrap_or_else(|ahead| ahead.duration()));
    age.is_ok_and(|age| age >= LONGEST)
}

/// Puts a new file in the place of one that stays with its holder.
fn replace(path: &Path) -> io::Result<Option<Held>> {
    std::fs::remove_file(path)?;
    let file = open(path)?;
    if lock_if_free(&file, Mode::Exclusive)? { begin(file).map(Some) } else { Ok(None) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The one place of a line, if it is free.
    fn taken(dir: &NodeDirectory) -> Option<Turn> {
        take_turn(dir, Line::Attach, NonZeroUsize::MIN, Duration::from_millis(50)).unwrap()
    }

    #[test]
    fn a_place_is_held_since_it_was_taken_however_long_ago_it_was_used_first() {
        let temp = tempfile::tempdir().unwrap();
        let dir = NodeDirectory::new(temp.path().join("run"), temp.path().join("state"));
        let long_ago = SystemTime::now() - LONGEST;
        let age =
            || File::options().write(true).open(dir.place(Line::Attach, 0)).unwrap().set_modified(long_ago);
        drop(taken(&dir).expect("nobody has it"));
        age().unwrap();
        let second = taken(&dir).expect("it was given back");
        assert!(taken(&dir).is_none(), "it was given to two");
        // Held for too long: another file is in its place, which is held since now.
        age().unwrap();
        let third = taken(&dir).expect("it no longer counts");
        assert!(taken(&dir).is_none(), "it was given to two");
        drop((second, third));
        drop(taken(&dir).expect("it was given back"));
    }
}
