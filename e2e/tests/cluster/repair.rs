//! Putting right what a story disturbed, however the story ended.

use anyhow::Result;

/// Tells a story and then puts things right, also when the story failed. Its own error comes before that of the repair.
pub(crate) fn and_then_repair(
    story: impl FnOnce() -> Result<()>,
    repair: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let told = story();
    let repaired = repair();
    told.and(repaired)
}
