//! Versions of the CNI specification: parsing, order, negotiation and what each verb asks for.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A published version of the CNI specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(try_from = "String", into = "String")]
pub enum SpecVersion {
    /// 0.1.0; also what a configuration without `cniVersion` means.
    #[default]
    V0_1_0,
    /// 0.2.0: the VERSION verb.
    V0_2_0,
    /// 0.3.0: several addresses and interfaces, plugin lists.
    V0_3_0,
    /// 0.3.1: lists get `prevResult` in the configuration.
    V0_3_1,
    /// 0.4.0: CHECK, and `prevResult` on DEL.
    V0_4_0,
    /// 1.0.0: lists only, addresses without `version`.
    V1_0_0,
    /// 1.1.0: GC, STATUS, `cniVersions`, MTU and route attributes.
    V1_1_0,
}

/// A version that this library does not speak.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("CNI version {0:?} is not one of {list}", list = SpecVersion::list())]
pub struct UnknownVersion(pub String);

impl SpecVersion {
    /// Every version, oldest first.
    pub const ALL: [Self; 7] =
        [Self::V0_1_0, Self::V0_2_0, Self::V0_3_0, Self::V0_3_1, Self::V0_4_0, Self::V1_0_0, Self::V1_1_0];

    /// The newest version.
    pub const NEWEST: Self = Self::V1_1_0;

    /// The version as it is written in `cniVersion`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V0_1_0 => "0.1.0",
            Self::V0_2_0 => "0.2.0",
            Self::V0_3_0 => "0.3.0",
            Self::V0_3_1 => "0.3.1",
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }

    /// CHECK exists since 0.4.0.
    pub fn has_check(self) -> bool {
        self >= Self::V0_4_0
    }

    /// DEL gets `prevResult` since 0.4.0.
    pub fn has_prev_result_on_del(self) -> bool {
        self >= Self::V0_4_0
    }

    /// GC and STATUS exist since 1.1.0.
    pub fn has_gc_and_status(self) -> bool {
        self >= Self::V1_1_0
    }

    fn list() -> String {
        Self::ALL.map(Self::as_str).join(", ")
    }

    /// Chooses the version to use from `cniVersion` and the 1.1.0 array `cniVersions`.
    ///
    /// As libcni: entries of the array that are not known (a newer specification) are passed over and the
    /// highest that is left is taken, `cniVersion` included. Without an array `cniVersion` must be known;
    /// an absent or empty one means 0.1.0.
    pub fn negotiate(single: Option<&str>, offered: Option<&[String]>) -> Result<Self, UnknownVersion> {
        let single = single.filter(|text| !text.is_empty());
        let Some(offered) = offered else {
            return single.map_or(Ok(Self::V0_1_0), str::parse);
        };
        let known =
            offered.iter().map(String::as_str).chain(single).filter_map(|text| text.parse().ok()).max();
        known.ok_or_else(|| UnknownVersion(offered.join(", ")))
    }
}

impl fmt::Display for SpecVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for SpecVersion {
    type Err = UnknownVersion;

    fn from_str(text: &str) -> Result<Self, UnknownVersion> {
        Self::ALL
            .into_iter()
            .find(|version| version.as_str() == text)
            .ok_or_else(|| UnknownVersion(text.to_owned()))
    }
}

impl TryFrom<String> for SpecVersion {
    type Error = UnknownVersion;
    fn try_from(text: String) -> Result<Self, UnknownVersion> {
        text.parse()
    }
}

impl From<SpecVersion> for String {
    fn from(version: SpecVersion) -> String {
        version.as_str().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(list: &[&str]) -> Vec<String> {
        list.iter().map(|&text| text.to_owned()).collect()
    }

    #[test]
    fn versions_are_ordered_and_round_trip() {
        assert!(SpecVersion::ALL.is_sorted());
        for version in SpecVersion::ALL {
            assert_eq!(version.as_str().parse::<SpecVersion>().unwrap(), version);
        }
        for bad in ["", "1", "1.0", "1.0.0 ", "v1.0.0", "1.2.0", "0.5.0"] {
            assert!(bad.parse::<SpecVersion>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn negotiation_takes_the_highest_known_version() {
        let negotiate = |single, offered: Option<&[&str]>| {
            let offered = offered.map(strings);
            SpecVersion::negotiate(single, offered.as_deref())
        };
        assert_eq!(negotiate(None, None), Ok(SpecVersion::V0_1_0));
        assert_eq!(negotiate(Some(""), None), Ok(SpecVersion::V0_1_0));
        assert_eq!(negotiate(Some("0.4.0"), None), Ok(SpecVersion::V0_4_0));
        assert_eq!(negotiate(Some("0.4.0"), Some(&["1.0.0", "7.0.0"])), Ok(SpecVersion::V1_0_0));
        assert_eq!(negotiate(Some("1.1.0"), Some(&["0.3.1"])), Ok(SpecVersion::V1_1_0));
        assert!(negotiate(Some("2.0.0"), None).is_err());
        assert!(negotiate(None, Some(&["2.0.0"])).is_err());
    }
}
