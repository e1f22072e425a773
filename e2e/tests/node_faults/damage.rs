//! Files and directories that are not what they should be.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use anyhow::{Context, Result};

/// What is done to a file or a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Damage {
    /// It is gone.
    Gone,
    /// It is a file without bytes.
    Empty,
    /// So many hundredths of it are there.
    Cut(usize),
    /// A bit is another one, at so many hundredths.
    Flipped(usize),
    /// It is a file of something else.
    Foreign,
    /// It is of a version that is not known.
    Schema,
    /// It is JSON, but not an object.
    OtherJson,
    /// It is a directory with something in it.
    Directory,
    /// It is a link that leads nowhere.
    Link,
    /// Nobody may read or write it.
    Mode,
}

/// What can happen to a file.
pub(crate) const OF_FILES: [Damage; 14] = [
    Damage::Gone,
    Damage::Empty,
    Damage::Cut(10),
    Damage::Cut(50),
    Damage::Cut(99),
    Damage::Flipped(5),
    Damage::Flipped(35),
    Damage::Flipped(80),
    Damage::Foreign,
    Damage::Schema,
    Damage::OtherJson,
    Damage::Directory,
    Damage::Link,
    Damage::Mode,
];

/// What can happen to a directory.
pub(crate) const OF_DIRECTORIES: [Damage; 4] = [Damage::Gone, Damage::Foreign, Damage::Link, Damage::Mode];

impl Damage {
    /// Does it; where there is nothing yet, it is put there.
    pub(crate) fn inflict(self, path: &Path) -> Result<()> {
        let text = fs::read(path).unwrap_or_else(|_| b"{\"schema\":1}\n".to_vec());
        let parent = path.parent().context("a root")?;
        fs::create_dir_all(parent)?;
        let found = fs::symlink_metadata(path);
        if self == Self::Mode {
            if found.is_err() {
                fs::write(path, &text)?;
            }
            return Ok(fs::set_permissions(path, Permissions::from_mode(0o000))?);
        }
        match found {
            Ok(found) if found.is_dir() => fs::remove_dir_all(path)?,
            Ok(_) => fs::remove_file(path)?,
            Err(_) => {}
        }
        match self {
            Self::Gone | Self::Mode => {}
            Self::Empty => fs::write(path, "")?,
            Self::Cut(hundredths) => fs::write(path, &text[..text.len() * hundredths / 100])?,
            Self::Flipped(hundredths) => {
                let mut text = text;
                let at = text.len() * hundredths / 100;
                if let Some(byte) = text.get_mut(at) {
                    *byte ^= 1;
                }
                fs::write(path, text)?;
            }
            Self::Foreign => fs::write(path, b"\x7fELF\0\xff\xfe not of Braid")?,
            Self::Schema => fs::write(path, "{\"schema\":99,\"words\":[]}\n")?,
            Self::OtherJson => fs::write(path, "[1]\n")?,
            Self::Directory => fs::create_dir_all(path.join("full"))?,
            Self::Link => symlink("no-such-file", path)?,
        }
        Ok(())
    }
}
