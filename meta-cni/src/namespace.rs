//! Looking and working inside a pod's network namespace.
//!
//! A thread that enters a namespace cannot be trusted to come back when something fails half-way; the one that
//! enters here ends instead.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Why nothing could be done in a namespace.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NamespaceError {
    #[error("enter network namespace {path}")]
    Enter { path: PathBuf, source: io::Error },
    #[error("start a thread for the pod's namespace")]
    Thread(#[source] io::Error),
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

/// The index of an interface in this thread's namespace.
pub(crate) fn index(name: &str) -> io::Result<u32> {
    index_through(&UnixDatagram::unbound()?, name)
}

/// The index of an interface in the namespace in which a socket was made.
fn index_through(socket: &UnixDatagram, name: &str) -> io::Result<u32> {
    Ok(rustix::net::netdevice::name_to_index(socket, name)?)
}

/// Those of `names` that some interface of the namespace has.
pub(crate) fn taken(netns: &Path, names: &[&str]) -> Result<Vec<String>, NamespaceError> {
    within(netns, || {
        let socket = UnixDatagram::unbound();
        let is_there = |name: &&&str| {
            // Any other failure is the plugins' to meet: they see more than a name.
            let index = socket.as_ref().map(|socket| index_through(socket, name));
            !matches!(index, Ok(Err(error)) if error.raw_os_error() == Some(Errno::NODEV.raw_os_error()))
        };
        names.iter().filter(is_there).map(|name| (*name).to_owned()).collect()
    })
}
