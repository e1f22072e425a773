//! A call's turn: no more pods at once than the node bears (`podsAtOnce`).
//!
//! ADD and DEL run plugins and take a turn, each in a line of its own; GC runs one plugin at a time, CHECK and STATUS
//! must not wait, and unfinished work is taken up by one process alone. A turn is taken before any lock: who holds a
//! container's lock never waits for a turn, and who waits for one holds nothing that others need.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use cni::error::chain_text;
use cni::{CniError, Code};
use store::StoreError;
use store::turn::{self, Line, Turn};

use crate::call::Call;

/// A DEL that has waited for so long does its work all the same: it frees what others wait for, and runtimes lose
/// patience with it sooner than with ADD.
const PATIENCE_OF_DEL: Duration = Duration::from_secs(30);

/// Waits until it is an ADD's turn; `None` where there is no bound.
pub(crate) fn to_attach(call: &Call) -> Result<Option<Turn>, CniError> {
    let Some(at_once) = bound(call) else { return Ok(None) };
    let wait = call.settings.turn_wait;
    match take(call, Line::Attach, at_once, wait) {
        Ok(Some(turn)) => Ok(Some(turn)),
        Ok(None) => {
            let msg = format!(
                "the node was busy: its turn did not come within {wait:?}, while as many other pods as \"podsAtOnce\" \
                 allows ({at_once}) were being attached; the runtime tries again; see which plugins are slow (\"us\" \
                 in the log of level info), or raise \"podsAtOnce\""
            );
            Err(CniError::new(Code::TRY_AGAIN_LATER, msg))
        }
        Err(error) => Ok(without(call, &error)),
    }
}

/// Waits until it is a DEL's turn, within a bound; `None` if it does without.
pub(crate) fn to_detach(call: &Call) -> Option<Turn> {
    let at_once = bound(call)?;
    let wait = patience_of_del(call.settings.turn_wait);
    match take(call, Line::Detach, at_once, wait) {
        Ok(Some(turn)) => Some(turn),
        Ok(None) => {
            call.log.warn("the node is busy: detaching out of turn", &[("waited", &format!("{wait:?}"))]);
            None
        }
        Err(error) => without(call, &error),
    }
}

fn patience_of_del(turn_wait: Duration) -> Duration {
    turn_wait.min(PATIENCE_OF_DEL)
}

fn take(call: &Call, line: Line, at_once: NonZeroUsize, wait: Duration) -> Result<Option<Turn>, StoreError> {
    let begun = Instant::now();
    let taken = turn::take_turn(&call.settings.directory, line, at_once, wait)?;
    if taken.as_ref().is_some_and(|turn| turn.waited) {
        call.log.info("waited for its turn", &[("ms", &begun.elapsed().as_millis())]);
    }
    Ok(taken)
}

/// A node that cannot keep count works as one without a bound: pods come first.
fn without(call: &Call, error: &StoreError) -> Option<Turn> {
    call.log.warn("turns cannot be taken: going on without a bound", &[("error", &chain_text(error))]);
    None
}

fn bound(call: &Call) -> Option<NonZeroUsize> {
    // The processors that the runtime may use; what else limits it (a quota) would cost reading files.
    let usable = rustix::thread::sched_getaffinity(None).map_or(1, |set| set.count());
    call.settings.pods_at_once.on(usize::try_from(usable).unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_del_waits_for_half_a_minute_at_most_whatever_an_add_is_given() {
        for (turn_wait, expected) in [(0, 0), (5, 5), (30, 30), (31, 30), (600, 30)] {
            let waits = patience_of_del(Duration::from_secs(turn_wait));
            assert_eq!(waits, Duration::from_secs(expected));
        }
    }
}
