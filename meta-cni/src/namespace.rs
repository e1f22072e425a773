//! Looking and working inside a pod's network namespace.
//!
//! A thread that enters a namespace cannot be trusted to come back when something fails half-way; the one that
//! enters here ends instead.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::netlink::{Kernel, is_no_interface};

/// Why nothing could be done in a namespace.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NamespaceError {
    #[error("enter network namespace {path}")]
    Enter { path: PathBuf, source: io::Error },
    #[error("start a thread for the pod's namespace")]
    Thread(#[source] io::Error),
    #[error("look for interfaces in the pod")]
    Look(#[source] io::Error),
}

/// Does something in the namespace, in a thread of its own.
pub(crate) fn within<T: Send>(netns: &Path, work: impl FnOnce() -> T + Send) -> Result<T, NamespaceError> {
    let inside = || {
        enter(netns).map_err(|source| NamespaceError::Enter { path: netns.to_owned(), source })?;
        Ok(work())
    };
    std::thread::scope(|scope| {
        let worker = std::thread::Builder::new().name("namespace".to_owned());
        let handle = worker.spawn_scoped(scope, inside).map_err(NamespaceError::Thread)?;
        // A panic of the thread goes on here, to be reported as any other.
        handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn enter(netns: &Path) -> io::Result<()> {
    let file = std::fs::File::open(netns)?;
    Ok(move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?)
}

/// Those of `names` that some interface of the namespace has, as its name or as an alternative one.
pub(crate) fn taken(netns: &Path, names: &[&str]) -> Result<Vec<String>, NamespaceError> {
    let look = || -> io::Result<Vec<String>> {
        let mut kernel = Kernel::connect()?;
        let mut taken = Vec::new();
        for name in names {
            match kernel.index(name) {
                Ok(_) => taken.push((*name).to_owned()),
                Err(error) if is_no_interface(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(taken)
    };
    within(netns, look)?.map_err(NamespaceError::Look)
}
