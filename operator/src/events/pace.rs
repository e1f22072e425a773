//! A bounded rate: a burst at once, then so many a second. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// One in so long, in the long run: 20 a second.
const INTERVAL: Duration = Duration::from_millis(50);
/// So many at once after a pause.
const BURST: u32 = 100;

/// What has been let through, as the time at which it would be paid for.
#[derive(Debug, Default)]
pub(super) struct Pace {
    paid: Option<Instant>,
}

impl Pace {
    /// Lets one through; how long it has to wait before.
    pub(super) fn take(&mut self, now: Instant) -> Duration {
        let paid = self.paid.map_or(now, |paid| paid.max(now));
        self.paid = Some(paid + INTERVAL);
        paid.duration_since(now).saturating_sub(INTERVAL * (BURST - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_goes_at_once_and_then_twenty_a_second() {
        let (mut pace, begun) = (Pace::default(), Instant::now());
        for _ in 0..BURST {
            assert_eq!(pace.take(begun), Duration::ZERO);
        }
        let mut now = begun;
        for _ in 0..20 {
            let wait = pace.take(now);
            assert_eq!(wait, INTERVAL);
            now += wait;
        }
        assert_eq!(now - begun, Duration::from_secs(1));
        // After a pause, a burst again.
        now += INTERVAL * (BURST + 5);
        let waits: Vec<_> = (0..=BURST).map(|_| pace.take(now)).collect();
        assert_eq!(waits.iter().filter(|wait| wait.is_zero()).count(), 100);
    }
}
