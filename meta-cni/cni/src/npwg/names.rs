//! Names of Kubernetes objects that cannot be wrong once parsed: they are used as file names.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a text is not the name it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {text:?} {reason}")]
pub struct NameError {
    kind: &'static str,
    text: String,
    reason: &'static str,
}

impl NameError {
    fn new(kind: &'static str, text: &str, reason: &'static str) -> Self {
        Self { kind, text: excerpt(text).to_owned(), reason }
    }
}

/// The beginning of a text, for error texts: annotations may be long, events may not.
pub(crate) fn excerpt(text: &str) -> &str {
    let end = text.char_indices().nth(80).map_or(text.len(), |(at, _)| at);
    text.get(..end).unwrap_or(text)
}

/// A DNS-1123 label without its limit of length.
fn is_label(text: &str) -> bool {
    let alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.first().is_some_and(alphanumeric)
        && bytes.last().is_some_and(alphanumeric)
        && bytes.iter().all(|b| alphanumeric(b) || *b == b'-')
}

/// A namespace is a DNS-1123 label.
fn check_namespace(text: &str) -> Result<(), &'static str> {
    match text {
        "" => Err("is empty"),
        _ if text.len() > 63 => Err("is longer than 63 bytes"),
        _ if is_label(text) => Ok(()),
        _ => Err("must hold only a-z, 0-9 and '-', and start and end with a letter or digit"),
    }
}

/// A name is a DNS-1123 subdomain: the standard asks for a label, the API server takes dots too.
fn check_object(text: &str) -> Result<(), &'static str> {
    match text {
        "" => Err("is empty"),
        _ if text.len() > 253 => Err("is longer than 253 bytes"),
        _ if text.split('.').all(is_label) => Ok(()),
        _ => {
            Err("must hold only a-z, 0-9, '-' and '.', and each part between dots must start and end with a \
                  letter or digit")
        }
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $check:path) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks `text` and keeps it.
            pub fn parse(text: impl Into<String>) -> Result<Self, NameError> {
                let text = text.into();
                match $check(&text) {
                    Ok(()) => Ok(Self(text)),
                    Err(reason) => Err(NameError::new($kind, &text, reason)),
                }
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                Self::parse(text)
            }
        }

        impl std::str::FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::parse(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// The name of a Kubernetes namespace.
    Namespace, "namespace", check_namespace
);
name!(
    /// The name of a Kubernetes object: of a NetworkAttachmentDefinition or a pod.
    ObjectName, "name", check_object
);

/// Which NetworkAttachmentDefinition: its namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NetworkRef {
    /// Its namespace.
    pub namespace: Namespace,
    /// Its name.
    pub name: ObjectName,
}

impl NetworkRef {
    /// The network `namespace/name`.
    pub fn new(namespace: Namespace, name: ObjectName) -> Self {
        Self { namespace, name }
    }

    /// Checks a namespace and a name and keeps them.
    pub fn parse(namespace: &str, name: &str) -> Result<Self, NameError> {
        Ok(Self { namespace: Namespace::parse(namespace)?, name: ObjectName::parse(name)? })
    }
}

impl std::str::FromStr for NetworkRef {
    type Err = NameError;

    /// Reads `namespace/name`, the form that [`NetworkRef`] is displayed in.
    fn from_str(text: &str) -> Result<Self, NameError> {
        let no_slash = || NameError::new("network", text, "must be of the form namespace/name");
        let (namespace, name) = text.split_once('/').ok_or_else(no_slash)?;
        Self::parse(namespace, name)
    }
}

impl fmt::Display for NetworkRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_are_labels_and_names_are_subdomains() {
        for good in ["a", "9", "a-b", "kube-system", "0a", &"a".repeat(63)] {
            assert_eq!(Namespace::parse(good).unwrap().as_str(), good);
            assert_eq!(ObjectName::parse(good).unwrap().as_str(), good);
        }
        for good in ["a.b", "macvlan.conf.d", "a-b.c-d", &"a".repeat(64), &"a".repeat(253)] {
            ObjectName::parse(good).unwrap();
            Namespace::parse(good).unwrap_err();
        }
        for bad in [
            "", ".", "..", "a..b", ".a", "a.", "-a", "a-", "a.-b", "a/b", "../a", "a_b", "A", "ä", "a b",
            " a", "a\0", "a\n", "a@b", "a\\b", "a:b",
        ] {
            assert!(Namespace::parse(bad).is_err(), "{bad:?}");
            assert!(ObjectName::parse(bad).is_err(), "{bad:?}");
        }
        assert!(ObjectName::parse("a".repeat(254)).is_err());
    }

    #[test]
    fn references_round_trip_as_text_and_as_json() {
        let network: NetworkRef = "default/macvlan.1".parse().unwrap();
        assert_eq!(network.to_string(), "default/macvlan.1");
        let json = serde_json::to_string(&network).unwrap();
        assert_eq!(json, r#"{"namespace":"default","name":"macvlan.1"}"#);
        assert_eq!(serde_json::from_str::<NetworkRef>(&json).unwrap(), network);
        assert!(serde_json::from_str::<NetworkRef>(r#"{"namespace":"..","name":"a"}"#).is_err());
        for bad in ["", "a", "/", "a/", "/a", "a/b/c", "../a"] {
            assert!(bad.parse::<NetworkRef>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_error_names_what_came_in_a_bounded_text() {
        let error = Namespace::parse("a_b").unwrap_err().to_string();
        assert!(error.starts_with("namespace \"a_b\" must hold only a-z"), "{error}");
        let long = ObjectName::parse("ä".repeat(100_000)).unwrap_err().to_string();
        assert!(long.len() < 300, "{}", long.len());
    }
}
