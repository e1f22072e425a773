//! Running attachments: do them in order, undo them in reverse.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cni::chain::{self, Attachment, ChainError};
use cni::env::Target;
use cni::exec::{self, Exec};
use cni::{AddResult, CniError, ContainerId, point, reference};
use store::record::AttachmentRecord;

use crate::uplink;

/// What all attachments of one container have in common.
#[derive(Clone)]
pub(crate) struct Site<'a> {
    /// Runs delegates.
    pub(crate) exec: &'a dyn Exec,
    /// CNI_CONTAINERID.
    pub(crate) container_id: &'a ContainerId,
    /// The pod's namespace; none if it is gone.
    pub(crate) netns: Option<PathBuf>,
    /// Where delegates are looked for.
    pub(crate) path: Vec<PathBuf>,
}

/// An attachment that could not be made.
pub(crate) struct AttachFailure {
    /// How many attachments may have left something: this many from the first.
    pub(crate) begun: usize,
    /// The error to tell.
    pub(crate) error: CniError,
}

impl Site<'_> {
    fn with<R>(&self, attachment: &AttachmentRecord, run: impl FnOnce(&Attachment<'_>) -> R) -> R {
        let target = Target {
            container_id: self.container_id.clone(),
            netns: self.netns.clone(),
            if_name: attachment.if_name.clone(),
            args: attachment.args.clone(),
        };
        run(&Attachment { target: &target, path: &self.path, capabilities: &attachment.capabilities })
    }

    /// Makes all attachments: the primary alone, then the others in order, at most `concurrency` side by side.
    ///
    /// *Guarantees*: results are in the plan's order whatever ran first. The error that is told is that of the
    /// first attachment in the plan's order that failed; no attachment behind a failed one is begun once the
    /// failure is known.
    pub(crate) fn attach_all(
        &self,
        attachments: &mut [AttachmentRecord],
        concurrency: usize,
    ) -> Result<(), AttachFailure> {
        let (primary, others) = attachments.split_at_mut(attachments.len().min(1));
        self.attach_some(primary, 1)?;
        self.attach_some(others, concurrency)
            .map_err(|failure| AttachFailure { begun: failure.begun + 1, ..failure })
    }

    fn attach_some(&self, attachments: &mut [AttachmentRecord], workers: usize) -> Result<(), AttachFailure> {
        let workers = workers.min(attachments.len());
        let next = AtomicUsize::new(0);
        let slots: Vec<Mutex<(&mut AttachmentRecord, Option<CniError>)>> =
            attachments.iter_mut().map(|attachment| Mutex::new((attachment, None))).collect();
        let work = || {
            while let Some(slot) = slots.get(next.fetch_add(1, Ordering::SeqCst)) {
                // Nobody else takes this slot: each number is given out once.
                let mut slot = slot.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                if let Err(error) = self.attach(slot.0) {
                    slot.1 = Some(error);
                    next.store(usize::MAX / 2, Ordering::SeqCst);
                }
            }
        };
        if workers <= 1 {
            work();
        } else {
            std::thread::scope(|scope| (0..workers).for_each(|_| drop(scope.spawn(work))));
        }
        let mut outcome = slots.into_iter().map(|slot| {
            let (attachment, error) = slot.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
            (attachment.add_us.is_some(), error)
        });
        let mut begun = 0;
        let mut first = None;
        for (index, (ran, error)) in outcome.by_ref().enumerate() {
            if ran {
                begun = index + 1;
            }
            first = first.or(error);
        }
        first.map_or(Ok(()), |error| Err(AttachFailure { begun, error }))
    }

    fn attach(&self, attachment: &mut AttachmentRecord) -> Result<(), CniError> {
        if let Some(error) = uplink::missing(&attachment.list) {
            // Without a time it counts as not begun: nothing is to be undone.
            return Err(error.of(name(attachment)));
        }
        let begun = Instant::now();
        let added = self.with(attachment, |at| chain::add(self.exec, &attachment.list, at, None));
        attachment.add_us = Some(micros(begun.elapsed()));
        match added {
            Ok(result) => {
                attachment.result = Some(result);
                point::reached("attach: one made");
                Ok(())
            }
            Err(error) => Err(told(&error).of(name(attachment))),
        }
    }

    /// Undoes one attachment; every error.
    pub(crate) fn detach(&self, attachment: &AttachmentRecord) -> Vec<ChainError> {
        self.with(attachment, |at| chain::del(self.exec, &attachment.list, at, attachment.result.as_ref()))
    }

    /// Undoes attachments in reverse and takes out those that are undone. Goes on after an error.
    ///
    /// Where time is bounded, the first one may take all of it: after each of `attempts` another one is the first.
    pub(crate) fn detach_all(&self, attachments: &mut Vec<AttachmentRecord>, attempts: usize) -> Vec<Undone> {
        let mut failures = Vec::new();
        let mut is_undone = vec![false; attachments.len()];
        for index in order(attachments.len(), attempts) {
            let (Some(attachment), Some(is_undone)) = (attachments.get(index), is_undone.get_mut(index))
            else {
                continue;
            };
            let errors = self.detach(attachment);
            point::reached("attach: one undone or not");
            *is_undone = errors.is_empty();
            failures.extend(errors.into_iter().map(|error| Undone {
                can_wait: attachment.result.is_none()
                    || error.plugin_is_gone()
                    || self.ipam_is_gone(attachment, &error),
                error: told(&error).of(name(attachment)),
            }));
        }
        let mut is_undone = is_undone.into_iter();
        attachments.retain(|_| !is_undone.next().unwrap_or_default());
        failures
    }

    /// Whether a plugin failed that is known to run an IPAM plugin whose executable is not there.
    fn ipam_is_gone(&self, attachment: &AttachmentRecord, failed: &ChainError) -> bool {
        let configs = attachment.list.plugins.iter().filter(|config| *config.plugin() == failed.plugin);
        configs.filter_map(reference::ipam_run_by).any(|ipam| exec::find(&ipam, &self.path).is_none())
    }

    /// Compares one attachment with its recorded result.
    pub(crate) fn check(&self, attachment: &AttachmentRecord, result: &AddResult) -> Result<bool, CniError> {
        self.with(attachment, |at| chain::check(self.exec, &attachment.list, at, result))
            .map_err(|error| error.to_cni_error().of(name(attachment)))
    }
}

/// From the last one to the first, beginning `attempts` places later, and around.
fn order(count: usize, attempts: usize) -> impl Iterator<Item = usize> {
    (0..count).rev().cycle().skip(attempts.checked_rem(count).unwrap_or_default()).take(count)
}

/// A plugin that did not undo its part.
pub(crate) struct Undone {
    /// Why.
    pub(crate) error: CniError,
    /// Whether the pod need not be held for it for ever: the executable is not there, or that of its IPAM plugin,
    /// so that it cannot succeed; or ADD never succeeded, and a plugin may fail at undoing what it has not done.
    pub(crate) can_wait: bool,
}

/// A delegate's error, and what to do about it where only Braid's settings can help.
fn told(error: &ChainError) -> CniError {
    let mut told = error.to_cni_error();
    if error.timed_out() {
        told.msg.push_str("; see what it waits for, or raise \"delegateTimeout\"");
    }
    told
}

/// What an attachment is called in errors.
pub(crate) fn name(attachment: &AttachmentRecord) -> String {
    format!("network {}, interface {}", attachment.network, attachment.if_name)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Directories in order, each once.
pub(crate) fn search_path<'a>(dirs: impl IntoIterator<Item = &'a Path>) -> Vec<PathBuf> {
    let mut path: Vec<PathBuf> = Vec::new();
    for dir in dirs {
        if !path.iter().any(|known| known == dir) {
            path.push(dir.to_owned());
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_attachment_is_the_first_once() {
        let order = |count, attempts| order(count, attempts).collect::<Vec<_>>();
        assert_eq!(order(3, 0), [2, 1, 0]);
        assert_eq!(order(3, 1), [1, 0, 2]);
        assert_eq!(order(3, 2), [0, 2, 1]);
        assert_eq!(order(3, 3), [2, 1, 0]);
        assert_eq!(order(1, 7), [0]);
        assert_eq!(order(0, 7), [0; 0]);
    }
}
