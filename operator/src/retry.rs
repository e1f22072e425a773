//! How long to wait before something is tried again, and how what many do at once is spread.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
/// The longest pause.
pub const LAST: Duration = Duration::from_secs(64);

/// The pause after one of `last`: a second at first, then twice as long each time, up to [`LAST`].
pub fn longer(last: Option<Duration>) -> Duration {
    last.map_or(FIRST, |last| (last * 2).min(LAST))
}

/// Between 0 and 1, another one each time; no secret.
pub fn fraction() -> f64 {
    let random = u32::try_from(RandomState::new().hash_one(0) >> 32).unwrap_or_default();
    f64::from(random) / f64::from(u32::MAX)
}

/// Between 0.9 and 1.1: what many began at once they do not repeat at once.
pub fn about_one() -> f64 {
    0.9 + 0.2 * fraction()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_become_rarer_up_to_a_bound() {
        let mut pause = None;
        let mut seconds = Vec::new();
        for _ in 0..9 {
            pause = Some(longer(pause));
            seconds.extend(pause.map(|pause| pause.as_secs()));
        }
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 64, 64, 64]);
    }

    #[test]
    fn fractions_are_spread() {
        let fractions: Vec<_> = (0..200).map(|_| fraction()).collect();
        assert!(fractions.iter().all(|fraction| (0.0..=1.0).contains(fraction)));
        assert!(fractions.iter().any(|fraction| *fraction < 0.3));
        assert!(fractions.iter().any(|fraction| *fraction > 0.7));
    }

    #[test]
    fn what_is_repeated_is_spread_by_a_tenth_to_either_side() {
        let factors: Vec<_> = (0..200).map(|_| about_one()).collect();
        assert!(factors.iter().all(|factor| (0.9..=1.1).contains(factor)));
        assert!(factors.iter().any(|factor| *factor < 0.96));
        assert!(factors.iter().any(|factor| *factor > 1.04));
    }
}
