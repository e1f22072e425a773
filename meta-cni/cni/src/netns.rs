//! Which network namespace a path or process is in.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// The identity of a network namespace: the device and inode of its file. Unlike a path, two namespaces
/// never share it at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetnsId {
    device: u64,
    inode: u64,
}

impl NetnsId {
    /// The namespace that a path leads to, or why it leads to none.
    pub fn of(path: &Path) -> std::io::Result<Self> {
        std::fs::metadata(path).map(|meta| Self { device: meta.dev(), inode: meta.ino() })
    }

    /// The namespace of this process.
    pub fn own() -> std::io::Result<Self> {
        Self::of(Path::new("/proc/self/ns/net"))
    }
}
