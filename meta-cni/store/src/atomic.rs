//! Files that are there whole or not at all.
//!
//! [`write()`] makes a temporary file beside the target, syncs it, renames it over the target and syncs the
//! directory. Whoever reads sees the old text or the new one; after a power cut too. A temporary file that a
//! kill left behind has a name that no reader looks at, and [`sweep`] removes it.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use cni::point;
use rustix::time::{ClockId, clock_gettime};

use crate::StoreError;
use crate::boot::boot_number;

const TEMPORARY: &str = ".new-";
/// The mode of a file, unless told otherwise: nobody else's business.
const PRIVATE: u32 = 0o600;

/// A step of a write, in order; what a test stops at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The directory is made.
    MakeDirectory,
    /// The temporary file is made.
    Create,
    /// Its text is written.
    Fill,
    /// Its text is brought to the disk.
    SyncFile,
    /// It takes the target's name.
    Rename,
    /// The new name is brought to the disk.
    SyncDirectory,
}

impl Step {
    /// Every step.
    pub const ALL: [Self; 6] =
        [Self::MakeDirectory, Self::Create, Self::Fill, Self::SyncFile, Self::Rename, Self::SyncDirectory];
}

/// A step of a removal, in order; what a test stops at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// The name is taken away.
    Unlink,
    /// That is brought to the disk.
    SyncDirectory,
}

/// Puts `text` at `path`, whole or not at all.
///
/// *Guarantees*: after success the text survives a power cut. After a failure the old text is still there,
/// or the new one whole.
///
/// *Caveat*: two writers of one path do not mix their texts, but the later one wins.
pub fn write(path: &Path, text: &[u8]) -> Result<(), StoreError> {
    write_stepwise(path, text, &mut |_| Ok(()))
}

/// As [`write()`]; `before` is called before each step and may fail in its place.
pub fn write_stepwise(
    path: &Path,
    text: &[u8],
    before: &mut dyn FnMut(Step) -> io::Result<()>,
) -> Result<(), StoreError> {
    copy_stepwise(&mut &*text, path, PRIVATE, before)
}

/// Puts what `source` gives at `path`, whole or not at all, with this mode; it is never in memory as a whole.
///
/// *Guarantees*: those of [`write()`]. A program of that name may run meanwhile, and goes on with its old text.
///
/// *Errors*: one of `source` is told as one of writing.
pub fn copy(source: &mut dyn Read, path: &Path, mode: u32) -> Result<(), StoreError> {
    copy_stepwise(source, path, mode, &mut |_| Ok(()))
}

/// As [`copy`]; `before` is called before each step and may fail in its place.
pub fn copy_stepwise(
    source: &mut dyn Read,
    path: &Path,
    mode: u32,
    before: &mut dyn FnMut(Step) -> io::Result<()>,
) -> Result<(), StoreError> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    let created = before(Step::MakeDirectory)
        .and_then(|()| before(Step::Create))
        .and_then(|()| create_in(dir, &mut temporary_name));
    let (file, temporary) = created.map_err(StoreError::write(path))?;
    point::reached("file: temporary made");
    let outcome = replace(path, dir, (file, &temporary), source, mode, before);
    if outcome.is_err() {
        // The first error is the one to tell; a leftover is harmless.
        let _ = std::fs::remove_file(&temporary);
    }
    outcome.map_err(StoreError::write(path))
}

fn replace(
    path: &Path,
    dir: &Path,
    (mut file, temporary): (File, &Path),
    source: &mut dyn Read,
    mode: u32,
    before: &mut dyn FnMut(Step) -> io::Result<()>,
) -> io::Result<()> {
    before(Step::Fill)?;
    io::copy(source, &mut file)?;
    point::reached("file: filled");
    before(Step::SyncFile)?;
    if mode == PRIVATE {
        file.sync_data()?;
    } else {
        // Not when it is made: the process's mask would take bits away.
        file.set_permissions(Permissions::from_mode(mode))?;
        file.sync_all()?;
    }
    point::reached("file: synced");
    before(Step::Rename)?;
    std::fs::rename(temporary, path)?;
    point::reached("file: renamed");
    before(Step::SyncDirectory)?;
    File::open(dir)?.sync_data()?;
    point::reached("file: name synced");
    Ok(())
}

/// Makes a file of a name that is not there. A name that is taken is somebody else's: the next one is tried,
/// and the file stays as it is.
fn create_in(dir: &Path, name: &mut dyn FnMut() -> String) -> io::Result<(File, PathBuf)> {
    let mut create = || -> io::Result<(File, PathBuf)> {
        let path = dir.join(name());
        let file = OpenOptions::new().write(true).create_new(true).mode(PRIVATE).open(&path)?;
        Ok((file, path))
    };
    match create() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make_directory(dir)?;
            create()
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => create(),
        other => other,
    }
}

/// A name that no other writer has: boot, nanoseconds since it, process and a number within it. A process's
/// number alone is used again, and means another process in another container.
fn temporary_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let now = clock_gettime(ClockId::Boottime);
    let (boot, process) = (boot_number(), std::process::id());
    format!("{TEMPORARY}{boot}-{}{:09}-{process}-{number}", now.tv_sec, now.tv_nsec)
}

/// Which boot a temporary file of ours is of; 0 if it does not say.
fn boot_of_temporary(name: &str) -> Option<u32> {
    let numbers: Vec<&str> = name.strip_prefix(TEMPORARY)?.split('-').collect();
    let number = |text: &&str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !numbers.iter().all(number) {
        return None;
    }
    match numbers.as_slice() {
        [_, _] => Some(0),
        [boot, _, _, _] => boot.parse().ok(),
        _ => None,
    }
}

/// Makes a directory and those above it, each with mode 0700; one that is there stays as it is. What is made
/// survives a power cut.
pub fn make_directory(dir: &Path) -> io::Result<()> {
    let create = || DirBuilder::new().mode(0o700).create(dir);
    let parent =
        dir.parent().map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent });
    let made = match (create(), parent) {
        (Err(error), Some(parent)) if error.kind() == io::ErrorKind::NotFound => {
            make_directory(parent)?;
            create()
        }
        (made, _) => made,
    };
    match made {
        Ok(()) => {
            point::reached("directory: made");
            sync_names(parent.unwrap_or(Path::new("/")))
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Brings the names in a directory of others to the disk, as far as we may read it.
fn sync_names(dir: &Path) -> io::Result<()> {
    match File::open(dir) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        opened => opened?.sync_data(),
    }
}

/// Removes a file durably; whether there was one.
pub fn remove(path: &Path) -> Result<bool, StoreError> {
    remove_stepwise(path, &mut |_| Ok(()))
}

/// As [`remove`]; `before` is called before each step and may fail in its place.
pub fn remove_stepwise(
    path: &Path,
    before: &mut dyn FnMut(Removal) -> io::Result<()>,
) -> Result<bool, StoreError> {
    match before(Removal::Unlink).and_then(|()| std::fs::remove_file(path)) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(StoreError::write(path)(error)),
    }
    point::reached("file: removed");
    let dir = path.parent().unwrap_or(Path::new("/"));
    let synced =
        before(Removal::SyncDirectory).and_then(|()| File::open(dir)).and_then(|dir| dir.sync_data());
    synced.map_err(StoreError::write(path))?;
    point::reached("file: removal synced");
    Ok(true)
}

/// The files of a directory that writers have finished, by name. A directory that is not there is empty.
pub fn files(dir: &Path) -> Result<Vec<String>, StoreError> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(StoreError::read(dir)(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(StoreError::read(dir))?.file_name();
        // A name that is not UTF-8 is none of ours.
        names.extend(name.into_string().ok().filter(|name| !name.starts_with('.')));
    }
    names.sort();
    Ok(names)
}

/// Removes temporary files that killed writers left in a directory, and nothing else: it may be shared with
/// other programs. A writer of ours that is at work there would fail.
pub fn sweep(dir: &Path) -> Result<usize, StoreError> {
    sweep_if(dir, |_| true)
}

/// As [`sweep`], but only what was left before this boot: whoever is at work there is not hindered.
pub fn sweep_earlier_boots(dir: &Path) -> Result<usize, StoreError> {
    let now = boot_number();
    sweep_if(dir, |boot| boot != now && boot != 0)
}

fn sweep_if(dir: &Path, is_left_over: impl Fn(u32) -> bool) -> Result<usize, StoreError> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(StoreError::read(dir)(error)),
    };
    let mut removed = 0;
    for entry in entries.flatten() {
        if boot_of_temporary(&entry.file_name().to_string_lossy()).is_some_and(&is_left_over) {
            std::fs::remove_file(entry.path()).map_err(StoreError::write(&entry.path()))?;
            removed += 1;
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    /// Stops a write before `step` as kill -9 would: nothing after it runs, no clean-up either.
    fn killed_before(step: Step, path: &Path, text: &[u8]) {
        let killed = catch_unwind(AssertUnwindSafe(|| {
            write_stepwise(path, text, &mut |now| {
                assert_ne!(now, step, "killed");
                Ok(())
            })
        }));
        assert!(killed.is_err(), "the write was to be stopped before {step:?}");
    }

    #[test]
    fn a_writer_that_is_killed_anywhere_leaves_the_old_text_or_the_new_one() {
        for step in Step::ALL {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("file");
            write(&path, b"old").unwrap();
            killed_before(step, &path, b"new and longer");
            let text = std::fs::read(&path).unwrap();
            let expected: &[u8] = if step == Step::SyncDirectory { b"new and longer" } else { b"old" };
            assert_eq!(text, expected, "{step:?}");
            assert_eq!(files(dir.path()).unwrap(), ["file"], "{step:?}: readers see no temporary file");
            write(&path, b"next").unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), b"next", "{step:?}: the next writer is not hindered");
            sweep(dir.path()).unwrap();
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "{step:?}: nothing stays");
        }
    }

    #[test]
    fn a_first_writer_that_is_killed_leaves_nothing_or_all() {
        for step in Step::ALL {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("below/file");
            killed_before(step, &path, b"new");
            assert_eq!(path.exists(), step == Step::SyncDirectory, "{step:?}");
        }
    }

    #[test]
    fn a_step_that_fails_is_reported_and_cleaned_up_after() {
        for step in Step::ALL {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("file");
            write(&path, b"old").unwrap();
            let error = write_stepwise(&path, b"new", &mut |now| {
                if now == step { Err(io::Error::from(io::ErrorKind::StorageFull)) } else { Ok(()) }
            })
            .unwrap_err();
            assert!(matches!(&error, StoreError::Write { path: p, .. } if *p == path), "{error}");
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "{step:?}");
        }
    }

    #[test]
    fn directories_are_0700_and_files_0600() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/file");
        write(&path, b"x").unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(&dir.path().join("a/b")), 0o700);
        assert_eq!(mode(&dir.path().join("a")), 0o700);
    }

    #[test]
    fn a_copy_has_its_mode_and_all_that_its_source_gave() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let long = vec![7; 100_000];
        copy(&mut &*long, &path, 0o755).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), long);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o755);
    }

    #[test]
    fn a_source_that_breaks_off_leaves_the_old_text() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("broken"))
            }
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        write(&path, b"old").unwrap();
        copy(&mut b"new".chain(Broken), &path, 0o755).unwrap_err();
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_name_that_is_taken_is_somebody_elses_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), "another's").unwrap();
        let names = |names: &'static [&'static str]| {
            let mut names = names.iter();
            move || (*names.next().unwrap()).to_owned()
        };
        let (_, path) = create_in(dir.path(), &mut names(&["a", "b"])).unwrap();
        assert_eq!(path, dir.path().join("b"));
        let error = create_in(dir.path(), &mut names(&["a", "b"])).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(dir.path().join("a")).unwrap(), b"another's");
        let made: std::collections::BTreeSet<String> = (0..1000).map(|_| temporary_name()).collect();
        assert_eq!(made.len(), 1000);
        assert!(made.iter().all(|name| boot_of_temporary(name) == Some(boot_number())));
    }

    #[test]
    fn what_an_earlier_boot_left_is_swept_and_what_is_being_written_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (now, earlier) = (temporary_name(), format!(".new-{}-1-2-3", boot_number().wrapping_add(1)));
        for name in [&now, &earlier, "file", ".new-1-0"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        assert_eq!(sweep_earlier_boots(dir.path()).unwrap(), 1);
        assert!(dir.path().join(now).exists() && !dir.path().join(earlier).exists());
    }

    #[test]
    fn only_our_temporary_files_are_swept() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            ".new-1-0",
            ".new-23-45-6-7",
            ".new-1-2-3",
            ".new-",
            ".new-1",
            ".new-a-1",
            ".new-1-",
            "new-1-0",
            "x.new-1-0",
        ] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        assert_eq!(sweep(dir.path()).unwrap(), 2);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 7);
    }

    #[test]
    fn removing_what_is_not_there_is_no_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        assert!(!remove(&path).unwrap());
        write(&path, b"x").unwrap();
        assert!(remove(&path).unwrap());
        assert!(files(&dir.path().join("absent")).unwrap().is_empty());
    }
}
