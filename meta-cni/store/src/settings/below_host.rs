//! Paths that lead nowhere on a node, since they are written as Multus sees the node from inside its pod: below `/host`.

use std::fmt;
use std::path::{Path, PathBuf};

/// Where the pod of Multus has the node's root.
const MOUNT: &str = "/host";

/// A setting with such a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BelowHost {
    /// Which.
    pub setting: &'static str,
    /// What it says.
    pub path: PathBuf,
}

impl BelowHost {
    pub(super) fn of(setting: &'static str, path: &Path) -> Option<Self> {
        on_the_node(path).map(|_| Self { setting, path: path.to_owned() })
    }
}

impl fmt::Display for BelowHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "setting {:?} is \"{}\"{}", self.setting, self.path.display(), hint(&self.path))
    }
}

/// The path on the node.
fn on_the_node(path: &Path) -> Option<PathBuf> {
    let rest = path.strip_prefix(MOUNT).ok()?;
    (!rest.as_os_str().is_empty()).then(|| Path::new("/").join(rest))
}

/// What to write in place of a path, where it is such a one.
pub(crate) fn hint(path: &Path) -> String {
    on_the_node(path).map_or_else(String::new, |path| {
        format!(
            "; a path below /host is how Multus sees the node from inside its pod, and meta-cni runs on the node itself: \
             write \"{}\"",
            path.display()
        )
    })
}
