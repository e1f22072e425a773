//! CNI_ARGS: `KEY=VALUE` pairs, separated by `;`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The pairs of CNI_ARGS in their order; a key occurs once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CniArgs(Vec<(String, String)>);

/// A part of CNI_ARGS that is not a pair.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("CNI_ARGS holds {0:?}, which is not of the form KEY=VALUE")]
pub struct ArgsError(String);

impl CniArgs {
    /// Reads pairs. Empty parts are passed over; a value may hold `=`; of a repeated key the last value that
    /// is not empty counts.
    pub fn parse(text: &str) -> Result<Self, ArgsError> {
        let mut args = Self::default();
        for part in text.split(';').filter(|part| !part.is_empty()) {
            match part.split_once('=') {
                Some((key, value)) if !key.is_empty() => {
                    if !value.is_empty() || args.get(key).is_none() {
                        args.set(key, value);
                    }
                }
                _ => return Err(ArgsError(part.to_owned())),
            }
        }
        Ok(args)
    }

    /// As [`CniArgs::parse`], but parts that are no pairs are passed over.
    pub fn parse_readable(text: &str) -> Self {
        let is_pair = |part: &&str| part.split_once('=').is_some_and(|(key, _)| !key.is_empty());
        let readable: Vec<_> = text.split(';').filter(is_pair).collect();
        Self::parse(&readable.join(";")).unwrap_or_default()
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str())
    }

    /// Sets a key, in its old place or at the end.
    pub fn set(&mut self, key: &str, value: impl Into<String>) {
        match self.0.iter_mut().find(|(k, _)| k == key) {
            Some((_, old)) => *old = value.into(),
            None => self.0.push((key.to_owned(), value.into())),
        }
    }

    /// Takes a key away.
    pub fn remove(&mut self, key: &str) {
        self.0.retain(|(k, _)| k != key);
    }

    /// Whether there is no pair.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for CniArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (key, value)) in self.0.iter().enumerate() {
            write!(f, "{}{key}={value}", if index == 0 { "" } else { ";" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_keep_their_order_and_occur_once() {
        let args = CniArgs::parse("IgnoreUnknown=1;K8S_POD_NAME=a;K8S_POD_NAME=b;;X=a=b;Y=").unwrap();
        assert_eq!(args.to_string(), "IgnoreUnknown=1;K8S_POD_NAME=b;X=a=b;Y=");
        assert_eq!(args.get("X"), Some("a=b"));
        assert_eq!(args.get("Z"), None);
        let mut without = args;
        without.remove("K8S_POD_NAME");
        without.remove("Z");
        assert_eq!(without.to_string(), "IgnoreUnknown=1;X=a=b;Y=");
    }

    #[test]
    fn an_empty_value_does_not_hide_a_given_one() {
        assert_eq!(CniArgs::parse("A=1;A=").unwrap().get("A"), Some("1"));
    }

    #[test]
    fn parts_without_a_key_or_a_value_are_refused() {
        for bad in ["A", "=1", "A=1;B"] {
            assert!(CniArgs::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(CniArgs::parse_readable("A;=1;B=2;;C=").to_string(), "B=2;C=");
    }
}
