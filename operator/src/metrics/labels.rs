//! Labels, each with few values.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};

/// So many types of delegates are told apart: an operator chooses them, and a typo is one more.
const DELEGATE_TYPES: usize = 50;
/// A longer one is not worth telling apart.
const LONGEST_TYPE: usize = 63;
/// What stands for all the rest.
const OTHER: &str = "other";

/// How something ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the names are those of the label's values")]
pub enum Outcome {
    /// It is done.
    ok,
    /// It was not needed any more.
    moot,
    /// It failed and will be tried again.
    retried,
    /// It failed for good.
    failed,
}

/// The label of what can end one way or another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ByOutcome {
    /// How it ended.
    pub outcome: Outcome,
}

/// What an admission request is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the names are those of the label's values")]
pub enum RequestKind {
    /// A NetworkAttachmentDefinition.
    network,
    /// A pod's network annotations.
    pod,
    /// Anything else.
    other,
}

/// How an admission request was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the names are those of the label's values")]
pub enum RequestVerdict {
    /// Nothing is wrong.
    allowed,
    /// Allowed, with a warning.
    warned,
    /// Refused.
    refused,
    /// The request itself could not be read.
    unreadable,
}

/// The labels of admission requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ByRequest {
    /// What it is about.
    pub kind: RequestKind,
    /// How it was answered.
    pub verdict: RequestVerdict,
}

/// The label of failed requests to the API server.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ByCode {
    code: Cow<'static, str>,
}

impl ByCode {
    /// The HTTP status of an answer, or in one word what kept an answer from being had.
    pub(super) fn of(error: &kube::Error) -> Self {
        use kube::Error;
        let code = match error {
            Error::Api(status) if (400..600).contains(&status.code) => status.code.to_string().into(),
            Error::Service(_) | Error::HyperError(_) | Error::ReadEvents(_) | Error::RustlsTls(_) => {
                "connection".into()
            }
            Error::Auth(_) => "auth".into(),
            Error::SerdeError(_) | Error::FromUtf8(_) => "undecodable".into(),
            _ => OTHER.into(),
        };
        Self { code }
    }
}

/// The label of attachments.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ByDelegate {
    /// From [`DelegateTypes::bounded`].
    pub(super) delegate_type: String,
}

impl ByDelegate {
    pub(super) fn ended(&self, outcome: Outcome) -> ByDelegateAndOutcome {
        ByDelegateAndOutcome { delegate_type: self.delegate_type.clone(), outcome }
    }
}

/// The labels of attachments that ended one way or another.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ByDelegateAndOutcome {
    delegate_type: String,
    outcome: Outcome,
}

/// The types of delegates that are told apart: the first that are seen.
#[derive(Debug, Default)]
pub(super) struct DelegateTypes(Mutex<BTreeSet<String>>);

impl DelegateTypes {
    /// `delegate_type`, or `other` if too many others have been seen.
    pub(super) fn bounded(&self, delegate_type: &str) -> String {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !seen.contains(delegate_type) {
            if seen.len() >= DELEGATE_TYPES || delegate_type.len() > LONGEST_TYPE {
                return OTHER.to_owned();
            }
            seen.insert(delegate_type.to_owned());
        }
        delegate_type.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delegate_types_beyond_a_bound_are_other() {
        let types = DelegateTypes::default();
        for number in 0..DELEGATE_TYPES {
            assert_eq!(types.bounded(&format!("type-{number}")), format!("type-{number}"));
        }
        assert_eq!(types.bounded("one-more"), "other");
        assert_eq!(types.bounded("type-0"), "type-0", "those that have been seen keep their own");
    }

    #[test]
    fn a_very_long_type_is_other_and_takes_no_place() {
        let types = DelegateTypes::default();
        assert_eq!(types.bounded(&"x".repeat(64)), "other");
        assert_eq!(types.0.lock().unwrap().len(), 0);
    }

    #[test]
    fn errors_of_the_api_server_are_classed_by_status_or_by_a_word() {
        let api = |code| kube::Error::Api(Box::new(kube::core::Status { code, ..Default::default() }));
        let json = serde_json::from_str::<bool>("no").unwrap_err();
        for (error, code) in [
            (api(403), "403"),
            (api(599), "599"),
            (api(0), "other"),
            (api(65_000), "other"),
            (kube::Error::Service("refused".into()), "connection"),
            (kube::Error::ReadEvents(std::io::Error::other("reset")), "connection"),
            (kube::Error::SerdeError(json), "undecodable"),
            (kube::Error::TlsRequired, "other"),
        ] {
            assert_eq!(ByCode::of(&error).code, code, "{error}");
        }
    }
}
