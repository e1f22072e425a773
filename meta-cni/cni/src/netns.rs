//! Which network namespace a path or process is in.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags, fstatfs, open};
use serde::{Deserialize, Serialize};

/// Filesystems on which the kernel keeps namespaces: `nsfs`, and `proc` before Linux 3.19 (include/uapi/linux/magic.h).
const NAMESPACE_FILESYSTEMS: [u64; 2] = [0x6e73_6673, 0x9fa0];

/// The identity of a network namespace: the device and inode of its file. Unlike a path, two namespaces
/// never share it at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetnsId {
    device: u64,
    inode: u64,
}

impl NetnsId {
    /// The namespace that a path leads to.
    ///
    /// *Errors*: the path leads nowhere, or to something that is no namespace. A runtime that crashes while it removes
    /// a sandbox leaves an empty file in the place of the mount.
    pub fn of(path: &Path) -> io::Result<Self> {
        let file = open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        if !is_namespace(&file)? {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is a file, not a namespace"));
        }
        let meta = std::fs::File::from(file).metadata()?;
        Ok(Self { device: meta.dev(), inode: meta.ino() })
    }

    /// Whether an error of [`NetnsId::of`] says that there is no namespace at the path, and not that nobody could look.
    pub fn is_none(error: &io::Error) -> bool {
        use io::ErrorKind::{InvalidInput, NotADirectory, NotFound};
        [NotFound, NotADirectory, InvalidInput].contains(&error.kind())
    }

    /// The namespace of this process.
    pub fn own() -> io::Result<Self> {
        Self::of(Path::new("/proc/self/ns/net"))
    }
}

fn is_namespace(file: &impl AsFd) -> io::Result<bool> {
    // The width of the number differs between architectures.
    let kind = u64::try_from(fstatfs(file)?.f_type).unwrap_or_default();
    Ok(NAMESPACE_FILESYSTEMS.contains(&kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_has_an_identity_and_other_files_have_none() {
        let own = NetnsId::own().unwrap();
        assert_eq!(NetnsId::of(Path::new("/proc/thread-self/ns/net")).unwrap(), own);
        assert_ne!(NetnsId::of(Path::new("/proc/self/ns/mnt")).unwrap(), own);
        let temp = tempfile::tempdir().unwrap();
        let (file, link) = (temp.path().join("file"), temp.path().join("link"));
        std::fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink("/proc/self/ns/net", &link).unwrap();
        assert_eq!(NetnsId::of(&link).unwrap(), own);
        for path in [&file, temp.path(), Path::new("/dev/null")] {
            let error = NetnsId::of(path).unwrap_err();
            assert!(
                error.to_string().contains("not a namespace") && NetnsId::is_none(&error),
                "{}",
                path.display()
            );
        }
        // The second one: below a plain file.
        for path in [temp.path().join("gone"), file.join("gone")] {
            assert!(NetnsId::is_none(&NetnsId::of(&path).unwrap_err()), "{}", path.display());
        }
        assert!(!NetnsId::is_none(&io::Error::from(rustix::io::Errno::MFILE)));
    }
}
