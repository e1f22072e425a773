//! What can go wrong with the node directory.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cni::Code;

/// A failure of the node directory, with the file that it happened on.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file or directory cannot be read.
    #[error("read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file or directory cannot be written or removed.
    #[error("write {path}{}", advice(.source))]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file is not what it should be: cut off, damaged, edited by hand.
    #[error("{path} is damaged ({source}); move it away")]
    Damaged {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A file comes from another version of Braid.
    #[error(
        "{path} has schema version {found}, this version of Braid reads {known}; finish the upgrade or the rollback of Braid on this node"
    )]
    Schema {
        /// Which.
        path: PathBuf,
        /// The version that it has.
        found: u64,
        /// The version that is known.
        known: u64,
    },
    /// Another process held a lock for too long.
    #[error("lock {path}: another process held it for more than {waited:?}")]
    Locked {
        /// The lock's file.
        path: PathBuf,
        /// How long was waited.
        waited: Duration,
    },
}

impl StoreError {
    pub(crate) fn read(path: &Path) -> impl FnOnce(io::Error) -> Self {
        |source| Self::Read { path: path.to_owned(), source }
    }

    /// The error of a write to `path`.
    pub fn write(path: &Path) -> impl FnOnce(io::Error) -> Self {
        |source| Self::Write { path: path.to_owned(), source }
    }

    /// The CNI code: 11 where waiting helps, 5 for the disk, 6 for what cannot be decoded.
    pub fn code(&self) -> Code {
        match self {
            Self::Read { .. } | Self::Write { .. } => Code::IO_FAILURE,
            Self::Damaged { .. } => Code::DECODING_FAILURE,
            Self::Schema { .. } | Self::Locked { .. } => Code::TRY_AGAIN_LATER,
        }
    }
}

/// What to do about a disk that takes nothing.
fn advice(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            ", whose disk is full: free some space there"
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            ", whose file system is read-only: see what the kernel says of that disk (dmesg) and mount it writable"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_takes_nothing_is_told_with_what_to_do() {
        for (kind, told) in [
            (io::ErrorKind::StorageFull, "write /a, whose disk is full: free some space there"),
            (io::ErrorKind::QuotaExceeded, "write /a, whose disk is full: free some space there"),
            (io::ErrorKind::PermissionDenied, "write /a"),
        ] {
            assert_eq!(StoreError::write(Path::new("/a"))(io::Error::from(kind)).to_string(), told);
        }
    }
}
