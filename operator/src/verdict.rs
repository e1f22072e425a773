//! How a command ended, and what it found wrong.

use std::fmt;
use std::process::ExitCode;

/// How a command ended; its exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Nothing is wrong: 0.
    Fine,
    /// Something that was read is wrong: 1.
    Wrong,
    /// The command could not do its work: 2, as for a wrong command line.
    Unable,
}

impl From<Verdict> for ExitCode {
    fn from(verdict: Verdict) -> Self {
        Self::from(match verdict {
            Verdict::Fine => 0,
            Verdict::Wrong => 1,
            Verdict::Unable => 2,
        })
    }
}

/// Something that a person wrote and has to mend.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wrong {
    /// The file, or the object of the API server.
    pub origin: String,
    /// Where in it, or the network's name; empty where the whole is meant.
    pub place: String,
    /// What is wrong, and what to do about it.
    pub reason: String,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place.as_str() {
            "" => write!(f, "{}: {}", self.origin, self.reason),
            place => write!(f, "{}: {place}: {}", self.origin, self.reason),
        }
    }
}

/// `3 networks`, `1 network`.
pub(crate) fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}
