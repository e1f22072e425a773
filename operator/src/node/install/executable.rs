//! The plugin's executable on the host.
//!
//! It is put in place by a rename: the kernel refuses to write to a program that runs ("text file busy"), and a
//! plugin that runs meanwhile ends as what it was. The temporary file is made in the same directory, so on a
//! host with SELinux it gets the label that programs have there.

use std::fs::{File, Metadata};
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use store::{StoreError, atomic};

const MODE: u32 = 0o755;
/// So much of each file is in memory while they are compared, in bytes.
const PIECE: usize = 64 << 10;

/// Why the executable is not in place.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExecutableError {
    #[error("read the plugin {path}; the image holds it, or --plugin names it")]
    Source { path: PathBuf, source: io::Error },
    #[error("{dir} is no directory; mount the host's directory of CNI plugins there, or set --cni-bin-dir")]
    NoDirectory { dir: PathBuf },
    #[error("compare the plugin with {path}")]
    Compare { path: PathBuf, source: io::Error },
    #[error("put the plugin on the host")]
    Write(#[source] StoreError),
    #[error("there is no executable {path}; the host is to bring it (--install configuration)")]
    Absent { path: PathBuf },
}

/// Which files were found to be the same, so that they are not read again until one of them changes.
#[derive(Debug, Default)]
pub(super) struct Executable {
    same: Option<(Stamp, Stamp)>,
}

type Stamp = (u64, u64, u64, i64, i64, i64, i64);

fn stamp(file: &Metadata) -> Stamp {
    let (changed, status) = ((file.mtime(), file.mtime_nsec()), (file.ctime(), file.ctime_nsec()));
    (file.dev(), file.ino(), file.size(), changed.0, changed.1, status.0, status.1)
}

impl Executable {
    /// Makes `target` what `source` is; whether it had to be written.
    pub(super) fn settle(&mut self, source: &Path, target: &Path) -> Result<bool, ExecutableError> {
        let unreadable = |error| ExecutableError::Source { path: source.to_owned(), source: error };
        let file = File::open(source).map_err(unreadable)?;
        let ours = file.metadata().map_err(unreadable)?;
        let dir = target.parent().unwrap_or(Path::new("/"));
        if !dir.is_dir() {
            return Err(ExecutableError::NoDirectory { dir: dir.to_owned() });
        }
        let incomparable = |error| ExecutableError::Compare { path: target.to_owned(), source: error };
        let theirs = present(target).map_err(incomparable)?;
        if let Some(theirs) = theirs.filter(|theirs| may_be_same(&ours, theirs)) {
            let stamps = (stamp(&ours), stamp(&theirs));
            if self.same == Some(stamps) || same_bytes(&file, target).map_err(incomparable)? {
                self.same = Some(stamps);
                return Ok(false);
            }
        }
        // Comparing has moved the position of `file`.
        let mut file = File::open(source).map_err(unreadable)?;
        atomic::copy(&mut file, target, MODE).map_err(ExecutableError::Write)?;
        Ok(true)
    }
}

/// What is under the name; a link is told as itself.
fn present(path: &Path) -> io::Result<Option<Metadata>> {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn may_be_same(ours: &Metadata, theirs: &Metadata) -> bool {
    theirs.is_file() && theirs.len() == ours.len() && theirs.permissions().mode() & 0o777 == MODE
}

fn same_bytes(ours: &File, theirs: &Path) -> io::Result<bool> {
    let mut ours = BufReader::with_capacity(PIECE, ours);
    let mut theirs = BufReader::with_capacity(PIECE, File::open(theirs)?);
    loop {
        let (one, other) = (ours.fill_buf()?, theirs.fill_buf()?);
        let length = one.len().min(other.len());
        if length == 0 {
            return Ok(one.is_empty() && other.is_empty());
        }
        if one[..length] != other[..length] {
            return Ok(false);
        }
        ours.consume(length);
        theirs.consume(length);
    }
}

/// Whether there is something that can be run, ours or the host's.
pub(super) fn in_place(target: &Path) -> bool {
    std::fs::metadata(target).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o100 != 0)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn place() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let temp = tempfile::tempdir().unwrap();
        std::fs::create_dir(temp.path().join("bin")).unwrap();
        let (source, target) = (temp.path().join("plugin"), temp.path().join("bin/meta-cni"));
        std::fs::write(&source, "one").unwrap();
        (temp, source, target)
    }

    #[test]
    fn the_executable_comes_and_changes_and_stays_where_it_is_the_same() {
        let (_temp, source, target) = place();
        let mut executable = Executable::default();
        assert!(executable.settle(&source, &target).unwrap(), "it comes");
        assert!(in_place(&target));
        assert!(!executable.settle(&source, &target).unwrap(), "it is the same");
        std::fs::write(&source, "two").unwrap();
        assert!(executable.settle(&source, &target).unwrap(), "same length, other bytes");
        assert_eq!(std::fs::read(&target).unwrap(), b"two");
        assert!(!Executable::default().settle(&source, &target).unwrap(), "a new process compares bytes");
        std::fs::set_permissions(&target, PermissionsExt::from_mode(0o644)).unwrap();
        assert!(executable.settle(&source, &target).unwrap(), "others took the right to run it away");
        std::fs::remove_file(&target).unwrap();
        std::os::unix::fs::symlink(&source, &target).unwrap();
        assert!(executable.settle(&source, &target).unwrap(), "a link is replaced, not followed");
        assert!(target.symlink_metadata().unwrap().is_file());
        assert!(!executable.settle(&source, &target).unwrap());
    }

    #[test]
    fn an_executable_that_runs_is_replaced_and_runs_on() {
        let (_temp, source, target) = place();
        std::fs::copy("/bin/sleep", &target).unwrap();
        let mut running = Command::new(&target).arg("60").stdin(Stdio::null()).spawn().unwrap();
        let refused = File::options().write(true).open(&target).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ExecutableFileBusy, "it really runs");
        assert!(Executable::default().settle(&source, &target).unwrap());
        assert_eq!(std::fs::read(&target).unwrap(), b"one");
        assert!(running.try_wait().unwrap().is_none(), "it runs on");
        running.kill().unwrap();
        running.wait().unwrap();
    }

    #[test]
    fn what_is_in_the_way_is_told_and_nothing_is_left_behind() {
        let (temp, source, target) = place();
        let mut executable = Executable::default();
        let nowhere = temp.path().join("none/meta-cni");
        assert!(matches!(executable.settle(&source, &nowhere), Err(ExecutableError::NoDirectory { .. })));
        let no_source = executable.settle(&temp.path().join("none"), &target);
        assert!(matches!(no_source, Err(ExecutableError::Source { .. })));
        std::fs::create_dir_all(target.join("full")).unwrap();
        assert!(matches!(executable.settle(&source, &target), Err(ExecutableError::Write(_))));
        assert!(!in_place(&target));
        assert_eq!(std::fs::read_dir(temp.path().join("bin")).unwrap().count(), 1);
    }
}
