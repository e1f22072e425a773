//! The CNI error: what a plugin prints when it fails (specification, section 5).

use std::fmt;

use serde::{Deserialize, Serialize};

/// A CNI error code. 1 to 99 are the specification's, 100 and above a plugin's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Code(pub u32);

impl Code {
    /// Incompatible CNI version.
    pub const INCOMPATIBLE_VERSION: Self = Self(1);
    /// Unsupported field in the network configuration.
    pub const UNSUPPORTED_FIELD: Self = Self(2);
    /// Container unknown or does not exist; the runtime need not clean up.
    pub const UNKNOWN_CONTAINER: Self = Self(3);
    /// An environment variable is missing or invalid.
    pub const INVALID_ENVIRONMENT: Self = Self(4);
    /// I/O failure.
    pub const IO_FAILURE: Self = Self(5);
    /// Content could not be decoded.
    pub const DECODING_FAILURE: Self = Self(6);
    /// The network configuration is invalid.
    pub const INVALID_CONFIG: Self = Self(7);
    /// The network namespace is invalid (libcni's own code).
    pub const INVALID_NETNS: Self = Self(8);
    /// A passing condition: the runtime should try again later.
    pub const TRY_AGAIN_LATER: Self = Self(11);
    /// STATUS: the plugin cannot serve ADD requests.
    pub const NOT_AVAILABLE: Self = Self(50);
    /// STATUS: as 50, and existing containers may have limited connectivity.
    pub const LIMITED_CONNECTIVITY: Self = Self(51);
    /// Anything else.
    pub const INTERNAL: Self = Self(999);
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a plugin prints on stdout when it fails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{msg}{}{details}", if details.is_empty() { "" } else { "; " })]
pub struct CniError {
    /// The code; absent in the output of old plugins, then 0 before [`CniError::parse`] makes it 999.
    pub code: Code,
    /// One sentence for people.
    #[serde(default)]
    pub msg: String,
    /// More for people, may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub details: String,
}

impl CniError {
    /// An error without details.
    pub fn new(code: Code, msg: impl Into<String>) -> Self {
        Self { code, msg: msg.into(), details: String::new() }
    }

    /// An error from the whole chain of `error`'s sources, which our error texts do not repeat.
    pub fn from_chain(code: Code, error: &dyn std::error::Error) -> Self {
        Self::new(code, chain_text(error))
    }

    /// Several errors as one: the first one's code, since a caller acts on one only, and everybody's words. `None`
    /// of none.
    pub fn of_all<'a>(errors: impl IntoIterator<Item = &'a Self>) -> Option<Self> {
        let errors: Vec<_> = errors.into_iter().collect();
        let code = errors.first()?.code;
        let msgs: Vec<_> = errors.iter().map(|error| error.msg.as_str()).collect();
        let details = errors.iter().map(|error| error.details.as_str()).filter(|text| !text.is_empty());
        let details: Vec<_> = details.collect();
        Some(Self { code, msg: msgs.join("; "), details: details.join("; ") })
    }

    /// The same error with a longer tale.
    #[must_use]
    pub fn with_details(mut self, details: impl Into<String>) -> Self {
        self.details = details.into();
        self
    }

    /// The same error, said of something: `msg` becomes `context: msg`, the code stays.
    #[must_use]
    pub fn of(mut self, context: impl fmt::Display) -> Self {
        self.msg = format!("{context}: {}", self.msg);
        self
    }

    /// Reads what a failing plugin printed. `None` if it is not a CNI error. Texts longer than 4 KiB are cut.
    ///
    /// Code 0 and a missing code become 999: a failure must not carry a code that reads as success.
    pub fn parse(output: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Wire {
            code: Option<u64>,
            #[serde(default)]
            msg: String,
            #[serde(default)]
            details: String,
        }
        let wire: Wire = serde_json::from_slice(output).ok()?;
        if wire.code.is_none() && wire.msg.is_empty() {
            return None;
        }
        let code = wire.code.and_then(|code| u32::try_from(code).ok()).filter(|&code| code != 0);
        Some(Self {
            code: code.map_or(Code::INTERNAL, Code),
            msg: if wire.msg.is_empty() { "the plugin gave no message".to_owned() } else { cut(wire.msg) },
            details: cut(wire.details),
        })
    }
}

/// A plugin's words, cut to what fits into logs, records and events.
fn cut(mut text: String) -> String {
    const LONGEST: usize = 4 << 10;
    if text.len() > LONGEST {
        let mut end = LONGEST - '…'.len_utf8();
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
    text
}

/// `error` and its sources in one line, each said once.
pub fn chain_text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_round_trip_and_leave_out_empty_details() {
        let error = CniError::new(Code::TRY_AGAIN_LATER, "not yet");
        assert_eq!(serde_json::to_string(&error).unwrap(), r#"{"code":11,"msg":"not yet"}"#);
        assert_eq!(CniError::parse(br#"{"code":11,"msg":"not yet"}"#), Some(error));
    }

    #[test]
    fn a_failure_never_carries_code_zero() {
        assert_eq!(CniError::parse(br#"{"code":0,"msg":"x"}"#).unwrap().code, Code::INTERNAL);
        assert_eq!(CniError::parse(br#"{"msg":"x"}"#).unwrap().code, Code::INTERNAL);
        assert_eq!(CniError::parse(br#"{"code":4294967296,"msg":"x"}"#).unwrap().code, Code::INTERNAL);
    }

    #[test]
    fn a_plugins_words_are_cut_between_characters() {
        let output = serde_json::json!({"code": 100, "msg": "ä".repeat(9000), "details": "y".repeat(9000)});
        let error = CniError::parse(output.to_string().as_bytes()).unwrap();
        for text in [&error.msg, &error.details] {
            assert!(text.ends_with('…') && (4000..=4096).contains(&text.len()), "{}", text.len());
        }
    }

    #[test]
    fn other_json_is_not_an_error() {
        for output in ["", "null", "[]", "{}", "{\"ips\":[]}", "plain words", "{\"code\":\"x\"}"] {
            assert_eq!(CniError::parse(output.as_bytes()), None, "{output}");
        }
    }

    #[test]
    fn context_keeps_the_code() {
        let error = CniError::new(Code(123), "no address").of("network default/a, interface net1");
        assert_eq!(error.code, Code(123));
        assert_eq!(error.to_string(), "network default/a, interface net1: no address");
    }
}
