//! Running attachments: ADD in order, CHECK.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::Builder;
use std::time::{Duration, Instant};

use cni::chain::{self, Attachment, ChainError};
use cni::env::Target;
use cni::exec::Exec;
use cni::{AddResult, CniError, ContainerId, point};
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
        side_by_side(workers, &work, &|| Builder::new().name("attach".to_owned()));
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
            Err(error) => {
                attachment.refused_by = error.is_refusal().then_some(error.place);
                Err(told(&error).of(name(attachment)))
            }
        }
    }

    /// Compares one attachment with its recorded result.
    pub(crate) fn check(&self, attachment: &AttachmentRecord, result: &AddResult) -> Result<bool, CniError> {
        self.with(attachment, |at| chain::check(self.exec, &attachment.list, at, result))
            .map_err(|error| error.to_cni_error().of(name(attachment)))
    }
}

/// Does `work` in so many threads at once, this one among them, and waits for all. Where the node has no more threads
/// to give, in fewer: what has begun has to be undone by this process, so that it must not end here.
fn side_by_side(workers: usize, work: &(dyn Fn() + Sync), builder: &dyn Fn() -> Builder) {
    std::thread::scope(|scope| {
        let started = (1..workers).map(|_| builder().spawn_scoped(scope, work)).take_while(Result::is_ok);
        started.for_each(drop);
        work();
    });
}

/// A delegate's error, and what to do about it where only Braid's settings can help.
pub(crate) fn told(error: &ChainError) -> CniError {
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
    fn work_is_done_by_as_many_threads_as_there_can_be() {
        let count = |workers, builder: &dyn Fn() -> Builder| {
            let by = Mutex::new(std::collections::BTreeSet::new());
            let work = || {
                by.lock().unwrap().insert(format!("{:?}", std::thread::current().id()));
            };
            side_by_side(workers, &work, builder);
            by.into_inner().unwrap().len()
        };
        // No machine has the memory for such a stack, so no such thread can be started.
        let impossible = || Builder::new().stack_size(usize::MAX >> 2);
        impossible().spawn(|| ()).unwrap_err();
        assert_eq!(count(4, &impossible), 1);
        assert_eq!((count(4, &Builder::new), count(1, &Builder::new), count(0, &Builder::new)), (4, 1, 1));
    }
}
