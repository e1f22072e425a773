//! Keeping our configuration file what it should be, against others who change or remove it. Deciding only.

use std::time::Duration;

use tokio::time::Instant;

use crate::retry::longer;

/// Who had their way with the file for so long has given up.
const PEACE: Duration = Duration::from_secs(64);

/// What to do about the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    /// It is what it should be.
    Nothing,
    /// It is not there yet, and others have to come first.
    Await,
    /// It is new, or to change: write it.
    Write,
    /// Somebody else removed or changed it: write it again.
    PutBack,
    /// The same, but not again before then.
    PutBackAt(Instant),
}

/// What is remembered of the file.
#[derive(Debug, Default)]
pub(super) struct Keeping {
    /// What it last was by our will.
    settled: Option<String>,
    /// The pause that follows the last time it was put back, and its end.
    pause: Option<(Duration, Instant)>,
}

impl Keeping {
    /// What to do about a file whose text should be `wanted` and is `found`. One that has never been there comes
    /// only if it `may_appear`.
    pub(super) fn decide(&self, wanted: &str, found: Option<&[u8]>, may_appear: bool, now: Instant) -> Act {
        if found == Some(wanted.as_bytes()) {
            return Act::Nothing;
        }
        if self.settled.as_deref() != Some(wanted) {
            return if found.is_some() || may_appear { Act::Write } else { Act::Await };
        }
        match self.pause {
            Some((_, end)) if now < end => Act::PutBackAt(end),
            _ => Act::PutBack,
        }
    }

    /// The file is `text` now; `act` is what was done.
    pub(super) fn settle(&mut self, text: &str, act: Act, now: Instant) {
        if self.settled.as_deref() != Some(text) {
            self.settled = Some(text.to_owned());
        }
        if act == Act::PutBack {
            let earlier = self.pause.filter(|(_, end)| now < *end + PEACE).map(|(pause, _)| pause);
            let pause = longer(earlier);
            self.pause = Some((pause, now + pause));
        }
    }

    /// What the file last was by our will.
    pub(super) fn last(&self) -> Option<&str> {
        self.settled.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_comes_when_it_may_and_follows_what_is_wanted() {
        let (mut keeping, now) = (Keeping::default(), Instant::now());
        assert_eq!(keeping.decide("a", None, false, now), Act::Await);
        assert_eq!(keeping.decide("a", None, true, now), Act::Write);
        assert_eq!(keeping.decide("a", Some(b"old"), false, now), Act::Write, "an earlier run put it there");
        keeping.settle("a", Act::Write, now);
        assert_eq!(keeping.decide("a", Some(b"a"), false, now), Act::Nothing);
        assert_eq!(keeping.decide("b", Some(b"a"), false, now), Act::Write);
    }

    #[test]
    fn what_others_do_to_it_is_undone_less_and_less_often_until_there_is_peace() {
        let (mut keeping, mut now) = (Keeping::default(), Instant::now());
        keeping.settle("a", Act::Nothing, now);
        let mut pauses = Vec::new();
        for found in [None, Some(&b"x"[..]), None, None] {
            assert_eq!(keeping.decide("a", found, false, now), Act::PutBack);
            keeping.settle("a", Act::PutBack, now);
            let Act::PutBackAt(end) = keeping.decide("a", None, false, now) else { panic!("no pause") };
            pauses.push((end - now).as_secs());
            now = end;
        }
        assert_eq!(pauses, [1, 2, 4, 8]);
        now += PEACE;
        keeping.settle("a", Act::PutBack, now);
        assert_eq!(keeping.decide("a", None, false, now), Act::PutBackAt(now + Duration::from_secs(1)));
    }
}
