//! Patterns: a text, in which `*` stands for any letters but `/`. `*` alone covers every text, the empty one too.

use std::fmt;

use serde::Deserialize;

/// What covers texts.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Pattern(String);

/// A pattern that could cover nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a pattern is empty; write a name, one with \"*\" in it, or \"*\" for all")]
pub struct EmptyPattern;

impl TryFrom<String> for Pattern {
    type Error = EmptyPattern;
    fn try_from(text: String) -> Result<Self, EmptyPattern> {
        if text.is_empty() { Err(EmptyPattern) } else { Ok(Self(text)) }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Pattern {
    /// Whether it covers a text. Letters are compared as they are: names of the kernel and of files are.
    pub fn covers(&self, text: &str) -> bool {
        if self.0 == "*" {
            return true;
        }
        // Whoever leads upwards leaves what the pattern was meant for.
        if text.split('/').any(|part| part == "..")
            || self.0.matches('/').count() != text.matches('/').count()
        {
            return false;
        }
        !text.is_empty()
            && self.0.split('/').zip(text.split('/')).all(|(pattern, part)| part_covers(pattern, part))
    }
}

/// One part between slashes.
fn part_covers(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(first) else { return false };
    let mut pieces: Vec<&str> = rest.split('*').collect();
    // The last piece has to be the end; each other one is taken where it comes first.
    let last = pieces.pop().unwrap_or_default();
    for piece in pieces {
        match text.split_once(piece) {
            Some((_, after)) => text = after,
            None => return false,
        }
    }
    text.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_any_letters_but_a_slash_and_alone_it_is_everything() {
        for (pattern, covered, others) in [
            ("eth1", &["eth1"][..], &["eth", "eth10", "Eth1", "", "eth*", "/eth1"][..]),
            ("*", &["eth1", "", "/etc/passwd", "../x"], &[]),
            ("eth*", &["eth", "eth1", "eth1.100"], &["et", "beth1", "eth/1", "eth1/.."]),
            ("*-data", &["a-data", "-data", "a-data-data"], &["a-data2", "a/b-data", "data"]),
            ("a*b*c", &["abc", "axbyc", "abbcc"], &["ac", "abcx", "ab", "acb"]),
            ("**", &["a", "ab"], &["", "a/b"]),
            ("/var/lib/*/x", &["/var/lib/a/x"], &["/var/lib/a/b/x", "/var/lib/../x", "/var/lib/x"]),
            ("/var/lib/pools", &["/var/lib/pools"], &["/var/lib/pools/", "/var/lib/pools/../x", "/var/lib"]),
        ] {
            let pattern = Pattern::try_from(pattern.to_owned()).unwrap();
            for text in covered {
                assert!(pattern.covers(text), "{pattern} {text}");
            }
            for text in others {
                assert!(!pattern.covers(text), "{pattern} {text}");
            }
        }
        assert_eq!(Pattern::try_from(String::new()), Err(EmptyPattern));
    }
}
