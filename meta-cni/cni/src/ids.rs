//! Identifiers that cannot be wrong once parsed: container id, interface name, network name, plugin type.
//!
//! Each is checked where it enters the program, so that everything behind it may use it as a file name or
//! as part of an environment variable. The rules are those of the CNI specification (section 2) and libcni.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::npwg::names::excerpt;

/// Why a text is not the identifier it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {text:?} {reason}")]
pub struct IdError {
    kind: &'static str,
    text: String,
    reason: &'static str,
}

const NAME_RULE: &str = "must start with a letter or digit and hold only letters, digits, '_', '.' and '-'";

/// `^[a-zA-Z0-9][a-zA-Z0-9_.\-]*$`, the specification's rule for container ids and network names.
fn check_name(text: &str) -> Result<(), &'static str> {
    let mut bytes = text.bytes();
    match bytes.next() {
        None => Err("is empty"),
        Some(first) if !first.is_ascii_alphanumeric() => Err(NAME_RULE),
        Some(_) if bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-')) => Ok(()),
        Some(_) => Err(NAME_RULE),
    }
}

/// Plugins use a network's name as a file name (host-local: a directory of addresses).
fn check_network(text: &str) -> Result<(), &'static str> {
    check_name(text)?;
    if text.len() > 255 {
        return Err("is longer than the 255 bytes that a file name can have, and plugins use it as one");
    }
    Ok(())
}

/// A container id is used as a file name; the longest that file systems take is 255 bytes, and the store
/// appends an interface name.
fn check_container_id(text: &str) -> Result<(), &'static str> {
    check_name(text)?;
    if text.len() > 200 { Err("is longer than 200 bytes") } else { Ok(()) }
}

/// The kernel's own rule (`dev_valid_name`): at most 15 bytes, not a path, no blanks.
fn check_interface(text: &str) -> Result<(), &'static str> {
    match text {
        "" => Err("is empty"),
        "." | ".." => Err("must not be '.' or '..'"),
        _ if text.len() > 15 => Err("is longer than the 15 bytes that the kernel takes"),
        _ if text.chars().any(|c| c == '/' || c == ':') => Err("must not contain '/' or ':'"),
        _ if text.chars().any(|c| c.is_whitespace() || c.is_control()) => {
            Err("must not contain blanks or control characters")
        }
        _ => Ok(()),
    }
}

/// A plugin type names a file in one of the directories of CNI_PATH, never a path.
fn check_plugin(text: &str) -> Result<(), &'static str> {
    match text {
        "" => Err("is empty"),
        "." | ".." => Err("must not be '.' or '..'"),
        _ if text.contains(['/', '\\']) => Err("must be a file name, not a path"),
        _ if text.chars().any(char::is_control) => Err("must not contain control characters"),
        _ if text.len() > 200 => Err("is longer than 200 bytes"),
        _ => Ok(()),
    }
}

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $check:path) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks `text` and keeps it.
            pub fn parse(text: impl Into<String>) -> Result<Self, IdError> {
                let text = text.into();
                match $check(&text) {
                    Ok(()) => Ok(Self(text)),
                    Err(reason) => Err(IdError { kind: $kind, text: excerpt(&text).to_owned(), reason }),
                }
            }

            /// The identifier as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                Self::parse(text)
            }
        }

        impl std::str::FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::parse(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
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

identifier!(
    /// CNI_CONTAINERID: what the runtime calls a container or pod sandbox.
    ContainerId, "container id", check_container_id
);
identifier!(
    /// CNI_IFNAME: the name of an interface in a pod.
    IfName, "interface name", check_interface
);
identifier!(
    /// The `name` of a network configuration; plugins key their data by it.
    NetworkName, "network name", check_network
);
identifier!(
    /// The `type` of a plugin: the file name of its executable.
    PluginType, "plugin type", check_plugin
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rule_of_the_specification() {
        for good in ["a", "9", "cni-net", "a_b.c-d", "0123abcd", "A"] {
            assert_eq!(NetworkName::parse(good).unwrap().as_str(), good);
            assert_eq!(ContainerId::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "-a", ".a", "_a", "a/b", "a b", "ä", "a\0", "../x", "a@b"] {
            assert!(NetworkName::parse(bad).is_err(), "{bad:?}");
            assert!(ContainerId::parse(bad).is_err(), "{bad:?}");
        }
        assert!(ContainerId::parse("a".repeat(201)).is_err());
    }

    #[test]
    fn a_network_name_is_no_longer_than_a_file_name_can_be() {
        NetworkName::parse("a".repeat(255)).unwrap();
        let error = NetworkName::parse("a".repeat(100_000)).unwrap_err().to_string();
        assert!(error.contains("is longer than the 255 bytes"), "{error}");
        assert!(error.len() < 300, "what was given is shown in part: {}", error.len());
    }

    #[test]
    fn interface_names_follow_the_kernels_rule() {
        for good in ["eth0", "net1", "a", "Some_Name-15bit", "eth0.100"] {
            IfName::parse(good).unwrap();
        }
        for bad in ["", ".", "..", "sixteen-bytes-xx", "a/b", "a:b", "a b", "a\tb", "a\n", "a\0b"] {
            assert!(IfName::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn plugin_types_are_never_paths() {
        PluginType::parse("host-local").unwrap();
        PluginType::parse("bridge.real").unwrap();
        for bad in ["", ".", "..", "/bin/sh", "../bridge", "a/b", "a\\b", "a\nb"] {
            assert!(PluginType::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_error_names_what_was_expected_and_what_came() {
        let error = IfName::parse("much-too-long-a-name").unwrap_err().to_string();
        assert_eq!(
            error,
            "interface name \"much-too-long-a-name\" is longer than the 15 bytes that the kernel takes"
        );
    }

    #[test]
    fn deserialising_checks_too() {
        assert!(serde_json::from_str::<ContainerId>("\"../etc\"").is_err());
    }
}
