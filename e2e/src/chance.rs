//! Chance that can be had again: how many cases a test tries, and the seed that picks them.
//!
//! | variable | meaning |
//! |---|---|
//! | the test's own, such as `BRAID_POWER_CUTS` | so many cases at most |
//! | `BRAID_SEED` | the seed; a failure names it |

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context, Result, ensure};

/// How many cases, and which.
#[derive(Debug)]
pub struct Chance {
    /// So many at most.
    pub count: usize,
    /// What picks them.
    pub random: fastrand::Rng,
    again: String,
}

impl Chance {
    /// `usual` cases, unless the variable says otherwise.
    pub fn new(variable: &str, usual: usize) -> Result<Self> {
        let count = asked(variable)?.map_or(Ok(usual), usize::try_from)?;
        let seed = asked("BRAID_SEED")?.unwrap_or_else(|| fastrand::u64(..));
        let again = format!("BRAID_SEED={seed} {variable}={count}");
        Ok(Self { count, random: fastrand::Rng::with_seed(seed), again })
    }

    /// Tries all cases, several at once. The error tells of some that failed, and how to have the same again.
    pub fn try_all<Case: Sync>(
        &self,
        cases: &[Case],
        told: impl Fn(&Case) -> String + Sync,
        try_one: impl Fn(&Case) -> Result<()> + Sync,
    ) -> Result<()> {
        let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        let work = || {
            while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                if let Err(error) = try_one(case) {
                    let text = format!("{}\n    {error:#}", told(case));
                    failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(text);
                }
            }
        };
        thread::scope(|scope| {
            for _ in 0..thread::available_parallelism().map_or(2, usize::from) {
                scope.spawn(work);
            }
        });
        let failed = failed.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        let some = failed.iter().take(8).map(String::as_str).collect::<Vec<_>>().join("\n");
        let (all, count) = (cases.len(), failed.len());
        ensure!(failed.is_empty(), "{count} of {all} failed; again with {}:\n{some}", self.again);
        Ok(())
    }
}

fn asked(variable: &str) -> Result<Option<u64>> {
    let Some(text) = std::env::var(variable).ok().filter(|text| !text.is_empty()) else { return Ok(None) };
    text.parse().map(Some).with_context(|| format!("{variable} is no number: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_that_fail_are_told_with_what_brings_them_again() {
        let chance =
            Chance { count: 3, random: fastrand::Rng::with_seed(7), again: "BRAID_SEED=7".to_owned() };
        let odd = |case: &u32| {
            ensure!(case.is_multiple_of(2), "it is odd");
            Ok(())
        };
        chance.try_all(&[0, 2, 4], ToString::to_string, odd).unwrap();
        let error = chance.try_all(&[0, 1, 2], ToString::to_string, odd).unwrap_err();
        assert_eq!(error.to_string(), "1 of 3 failed; again with BRAID_SEED=7:\n1\n    it is odd");
    }
}
