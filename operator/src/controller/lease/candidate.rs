//! One competitor for the Lease: what it asks next, and whether it leads. Pure; time is handed in.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

/// How often, how long. The defaults are client-go's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// The Lease may be taken when it has not been seen to change for so long.
    pub duration: Duration,
    /// Leading ends so long after the last renewal. Shorter than `duration`.
    pub deadline: Duration,
    /// The pause between attempts.
    pub retry: Duration,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            duration: Duration::from_secs(15),
            deadline: Duration::from_secs(10),
            retry: Duration::from_secs(2),
        }
    }
}

/// What matters of a Lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Who holds it; empty if it was given back.
    pub holder: String,
    /// How long its holder wants it to be respected.
    pub duration: Duration,
    /// How often it has changed hands.
    pub transitions: i32,
    /// Since when its holder has it; for people.
    pub acquired: Option<Timestamp>,
    /// Its `resourceVersion`: another one means that somebody has written.
    pub version: String,
}

/// What is written into a Lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Who takes or keeps it.
    pub holder: String,
    /// How long others are to respect it.
    pub duration: Duration,
    /// How often it has changed hands.
    pub transitions: i32,
    /// Since when the holder has it; `None` is now.
    pub acquired: Option<Timestamp>,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing until then.
    Rest(Instant),
    /// Read the Lease.
    Read,
    /// Make the Lease.
    Create(Claim),
    /// Write the Lease, provided that it still has this version.
    Update(Claim, String),
}

/// What a step came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The Lease as it is now; after a write, as we wrote it.
    Seen(Record),
    /// There is no Lease.
    Absent,
    /// Somebody else was faster.
    Conflict,
    /// Nobody knows whether it was done.
    Failed,
}

/// What is known of the Lease.
#[derive(Debug, Clone)]
enum Sight {
    /// It has to be read before anything is decided.
    Unknown,
    /// It is so.
    Present(Record),
    /// There is none.
    Absent,
}

/// One competitor.
#[derive(Debug, Clone)]
pub struct Candidate {
    me: String,
    terms: Terms,
    sight: Sight,
    /// The version that was seen last (empty: absent), how long it is to be respected, and since when it has not
    /// changed.
    last: Option<(String, Duration, Instant)>,
    holder: String,
    leads_until: Option<Instant>,
    rest_until: Option<Instant>,
}

impl Candidate {
    /// One that has not seen anything.
    pub fn new(me: String, terms: Terms) -> Self {
        Self {
            me,
            terms,
            sight: Sight::Unknown,
            last: None,
            holder: String::new(),
            leads_until: None,
            rest_until: None,
        }
    }

    /// Whether it leads.
    pub fn leads(&self, now: Instant) -> bool {
        self.leads_until(now).is_some()
    }

    /// When it stops leading unless it renews; `None` if it does not lead.
    pub fn leads_until(&self, now: Instant) -> Option<Instant> {
        self.leads_until.filter(|until| now < *until)
    }

    /// Who was last seen to hold the Lease.
    pub fn holder(&self) -> &str {
        &self.holder
    }

    /// What to do now.
    pub fn next(&self, now: Instant) -> Step {
        if let Some(until) = self.rest_until.filter(|until| now < *until) {
            return Step::Rest(until);
        }
        match &self.sight {
            Sight::Absent if self.may_take(now) => Step::Create(self.claim(0, None)),
            Sight::Present(record) if record.holder == self.me => {
                Step::Update(self.claim(record.transitions, record.acquired), record.version.clone())
            }
            Sight::Present(record) if record.holder.is_empty() || self.may_take(now) => {
                Step::Update(self.claim(record.transitions.saturating_add(1), None), record.version.clone())
            }
            // Also what was read before a rest is as old as that: it is read again before anything is taken.
            Sight::Unknown | Sight::Absent | Sight::Present(_) => Step::Read,
        }
    }

    /// Takes note of what a step came to that began at `sent` and ended at `now`.
    pub fn answered(&mut self, step: Step, sent: Instant, now: Instant, answer: Answer) {
        let wrote = matches!(step, Step::Create(_) | Step::Update(..));
        self.leads_until = self.leads_until(now);
        let rest = Some(now + self.terms.retry);
        match answer {
            Answer::Seen(record) => {
                self.see(&record.version, record.duration, now);
                self.holder.clone_from(&record.holder);
                let mine = record.holder == self.me;
                if !mine {
                    self.leads_until = None;
                } else if wrote {
                    // Counted from before it was sent: others count from when they see it, which is later.
                    self.leads_until = Some(sent + self.terms.deadline).filter(|until| now < *until);
                }
                let free = mine || record.holder.is_empty() || self.may_take(now);
                self.rest_until = if wrote || !free { rest } else { None };
                self.sight = if free { Sight::Present(record) } else { Sight::Unknown };
            }
            Answer::Absent => {
                // Somebody deleted it. Whoever held it has to learn of that before another one begins.
                self.see("", self.terms.duration, now);
                self.holder.clear();
                self.leads_until = None;
                let free = self.may_take(now);
                self.rest_until = if free { None } else { rest };
                self.sight = if free { Sight::Absent } else { Sight::Unknown };
            }
            Answer::Conflict => {
                // The holder reads at once, so that an annotation of somebody else costs it nothing.
                self.rest_until = if self.leads_until.is_some() { None } else { rest };
                self.sight = Sight::Unknown;
            }
            Answer::Failed => {
                self.rest_until = rest;
                self.sight = Sight::Unknown;
            }
        }
    }

    /// Any write at all starts the wait anew: that errs on the side of waiting.
    fn see(&mut self, version: &str, duration: Duration, now: Instant) {
        if self.last.as_ref().is_none_or(|(last, ..)| last != version) {
            // What was never there does not have to be waited for.
            let new = self.last.is_none() && version.is_empty();
            let duration = if new { Duration::ZERO } else { duration.max(self.terms.duration) };
            self.last = Some((version.to_owned(), duration, now));
        }
    }

    fn may_take(&self, now: Instant) -> bool {
        self.last.as_ref().is_some_and(|(_, duration, since)| *since + *duration <= now)
    }

    fn claim(&self, transitions: i32, acquired: Option<Timestamp>) -> Claim {
        Claim { holder: self.me.clone(), duration: self.terms.duration, transitions, acquired }
    }
}

#[cfg(test)]
mod tests;
