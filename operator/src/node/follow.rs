//! Follows a directory of manifests until SIGTERM or SIGINT, and tells the log what it did.
//!
//! Files stay in place at the end: pods go on using them, and the next start compares them with the
//! manifests. What the node directory does not take (a full disk, a read-only one) is tried again, less and
//! less often; what people have to mend is awaited.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cni::error::chain_text;
use signal_hook::consts::{SIGINT, SIGTERM};
use store::NodeDirectory;
use tracing::{debug, error, info, warn};

use super::Round;
use super::changes::{Changes, Wake};
use crate::permissions::Permissions;
use crate::retry::longer;
use crate::{Verdict, Wrong};

/// What keeps the operator from following anything.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// No signals.
    #[error("listen to signals")]
    Signals(#[source] io::Error),
    /// No inotify.
    #[error("watch the manifests")]
    Watch(#[source] io::Error),
}

/// Whether the process is to end.
struct Stop {
    asked: Arc<AtomicBool>,
    bell: UnixStream,
}

impl Stop {
    fn on_signals() -> io::Result<Self> {
        let asked = Arc::new(AtomicBool::new(false));
        let (bell, ringer) = UnixStream::pair()?;
        for signal in [SIGTERM, SIGINT] {
            signal_hook::flag::register(signal, Arc::clone(&asked))?;
            signal_hook::low_level::pipe::register(signal, ringer.try_clone()?)?;
        }
        Ok(Self { asked, bell })
    }

    fn asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }
}

/// Keeps the node directory as the manifests say, until the process is told to stop.
pub fn follow(
    manifests: &Path,
    dir: &NodeDirectory,
    permissions: &Permissions,
) -> Result<Verdict, FollowError> {
    let stop = Stop::on_signals().map_err(FollowError::Signals)?;
    let mut changes = Changes::of(manifests).map_err(FollowError::Watch)?;
    let mut told = Told::default();
    let mut retry = None;
    info!(manifests = %manifests.display(), run = %dir.run().display(), "following the manifests");
    loop {
        let armed = changes.arm();
        if let Err(error) = &armed {
            error!(error = %error, "the manifests cannot be watched");
        }
        let round = Round::run(manifests, dir, permissions, &|| stop.asked());
        if stop.asked() && round.as_ref().is_ok_and(|round| !round.summary.complete) {
            // It may have seen a part only.
            break;
        }
        let settled = match &round {
            Ok(round) => told.tell(round),
            Err(error) => {
                told.unreadable(&chain_text(error));
                // A directory that is not there is awaited; one that cannot be read is watched.
                true
            }
        };
        retry = if armed.is_ok() && settled { None } else { Some(longer(retry)) };
        if changes.wait(&stop.bell, retry).map_err(FollowError::Watch)? == Wake::Stop {
            break;
        }
    }
    info!("told to stop; the files stay in place");
    Ok(Verdict::Fine)
}

/// What the log has been told already: it gets news, not the same again after each change.
#[derive(Debug, Default)]
struct Told {
    wrong: BTreeSet<Wrong>,
    unreadable: Option<String>,
}

impl Told {
    /// Tells of a round; whether the node directory took everything.
    fn tell(&mut self, round: &Round) -> bool {
        self.unreadable = None;
        let wrong: BTreeSet<_> = round.wrong.iter().cloned().collect();
        for Wrong { origin, place, reason } in wrong.difference(&self.wrong) {
            warn!(origin, network = place, reason, "a manifest is wrong");
        }
        let still =
            |old: &Wrong| wrong.iter().any(|new| (&new.origin, &new.place) == (&old.origin, &old.place));
        for Wrong { origin, place, .. } in self.wrong.iter().filter(|old| !still(old)) {
            info!(origin, network = place, "no longer wrong");
        }
        let news = wrong != self.wrong;
        self.wrong = wrong;
        for error in &round.summary.failed {
            error!(error = chain_text(error), "the node directory did not take a change");
        }
        let summary = &round.summary;
        let counts = (summary.wanted(), summary.written, summary.removed, summary.kept);
        let (networks, written, removed, kept) = counts;
        let (wrong, complete) = (self.wrong.len(), summary.complete);
        if news || written + removed > 0 || !complete {
            info!(networks, written, removed, kept, wrong, complete, "synced");
        } else {
            debug!(networks, written, removed, kept, wrong, complete, "synced");
        }
        summary.failed.is_empty()
    }

    fn unreadable(&mut self, error: &str) {
        if self.unreadable.as_deref() != Some(error) {
            warn!(error, "the manifests cannot be read; the node keeps the networks that it has");
            self.unreadable = Some(error.to_owned());
        }
    }
}
