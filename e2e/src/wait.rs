//! Waiting for a condition, within a bound.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// How long something may take that usually takes moments.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The pause between two looks at a condition.
const GLANCE: Duration = Duration::from_millis(10);

/// Looks at a condition until it holds, an error comes, or patience ends.
pub fn until(what: &str, holds: impl FnMut() -> Result<bool>) -> Result<()> {
    within(PATIENCE, what, holds)
}

/// The same with another patience.
pub fn within(patience: Duration, what: &str, holds: impl FnMut() -> Result<bool>) -> Result<()> {
    at_times(GLANCE, patience, what, holds)
}

/// The same with a longer pause between two looks, for conditions that cost something to look at.
pub fn at_times(
    glance: Duration,
    patience: Duration,
    what: &str,
    mut holds: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let end = Instant::now() + patience;
    while !holds().with_context(|| format!("waiting until {what}"))? {
        ensure!(Instant::now() < end, "waited {patience:?} in vain until {what}");
        thread::sleep(glance);
    }
    Ok(())
}
