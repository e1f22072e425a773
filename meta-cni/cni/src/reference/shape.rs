//! Compares a configuration with the keys of its plugin: keys that it does not have, and values of a kind that Go's
//! decoder refuses. Whether a value makes sense is not looked at. Pure.

use std::fmt;

use serde_json::{Map, Value};

use super::tables::COMMON;
use super::{Key, Kind, Plugin, ipam_plugin, plugin, runs_ipam};
use crate::config::{PluginConfig, kind_of};
use crate::{keys, spelling};

/// A key that is not what its plugin reads.
#[derive(Debug, Clone)]
pub struct Slip<'a> {
    /// The object that it is in, such as `ipam.ranges[0][1]`; empty for the plugin's own.
    pub place: String,
    /// The key as it is written, with its index where one item of an array is meant.
    pub key: String,
    /// Whose key it would be.
    pub plugin: &'static str,
    /// What is wrong.
    pub problem: Problem<'a>,
}

/// What is wrong with a key.
#[derive(Debug, Clone)]
pub enum Problem<'a> {
    /// The plugin has no such key, so it has no effect.
    Unknown {
        /// The key that may be meant.
        meant: Option<&'static str>,
    },
    /// The plugin cannot decode it, and refuses ADD and DEL.
    WrongKind {
        /// What is there.
        found: &'a Value,
        /// What has to be there.
        expected: Kind,
        /// Whether every version of the plugin reads it.
        always: bool,
    },
}

/// Every slip of one plugin's configuration, those of its `ipam` included where both are known.
pub fn slips(config: &PluginConfig) -> Vec<Slip<'_>> {
    let known = plugin(config.plugin().as_str()).filter(|plugin| plugin.role != super::Role::Ipam);
    let mut slips = Vec::new();
    if let Some(plugin) = known {
        Comparison { plugin: plugin.name, slips: &mut slips }.object(
            config.object(),
            "",
            &[plugin.keys, COMMON],
            true,
        );
    }
    if let Some((ipam, plugin)) = ipam(config) {
        Comparison { plugin: plugin.name, slips: &mut slips }.object(
            ipam,
            "ipam",
            &[plugin.keys, TYPE],
            true,
        );
    }
    slips
}

/// The key that says which IPAM plugin an `ipam` is of; its kind is compared with the other keys of its plugin.
const TYPE: &[Key] = &[Key { name: "type", kind: Kind::Any, always: true }];

/// The `ipam` of a configuration and its plugin, if both are known. An unknown plugin may do with `ipam` what it likes.
fn ipam(config: &PluginConfig) -> Option<(&Map<String, Value>, &'static Plugin)> {
    let ipam = keys::get(config.object(), "ipam")?.as_object()?;
    let name = keys::get(ipam, "type")?.as_str()?;
    runs_ipam(config.plugin().as_str()).then(|| Some((ipam, ipam_plugin(name)?)))?
}

struct Comparison<'a, 'b> {
    plugin: &'static str,
    slips: &'b mut Vec<Slip<'a>>,
}

impl<'a> Comparison<'a, '_> {
    /// An object with the keys of these groups; the first that has a key counts. `closed`: it has no others.
    fn object(
        &mut self,
        object: &'a Map<String, Value>,
        place: &str,
        groups: &[&'static [Key]],
        closed: bool,
    ) {
        for (key, value) in object {
            let known = groups.iter().copied().flatten().find(|known| keys::same(key, known.name));
            match known {
                Some(known) => self.value(value, place, key, known.kind, known.always),
                None if closed && !is_remark(key) => {
                    let names = groups.iter().copied().flatten().map(|known| known.name);
                    let problem = Problem::Unknown { meant: spelling::nearest(key, names) };
                    self.add(place, key, problem);
                }
                None => {}
            }
        }
    }

    fn value(&mut self, value: &'a Value, place: &str, key: &str, kind: Kind, always: bool) {
        if !kind.takes(value) {
            return self.add(place, key, Problem::WrongKind { found: value, expected: kind, always });
        }
        let inside = || if place.is_empty() { key.to_owned() } else { format!("{place}.{key}") };
        match (kind, value) {
            (Kind::Object(keys), Value::Object(object)) => self.object(object, &inside(), &[keys], true),
            (Kind::Open(keys), Value::Object(object)) => self.object(object, &inside(), &[keys], false),
            (Kind::TextMap, Value::Object(object)) => {
                for (key, value) in object {
                    self.value(value, &inside(), key, Kind::Text, always);
                }
            }
            (_, Value::Array(items)) => {
                let Some(kind) = kind.item() else { return };
                for (index, item) in items.iter().enumerate() {
                    self.value(item, place, &format!("{key}[{index}]"), kind, always);
                }
            }
            _ => {}
        }
    }

    fn add(&mut self, place: &str, key: &str, problem: Problem<'a>) {
        self.slips.push(Slip { place: place.to_owned(), key: key.to_owned(), plugin: self.plugin, problem });
    }
}

/// Keys that authors use for remarks, since JSON has none, and those that the specification keeps for itself.
fn is_remark(key: &str) -> bool {
    key.starts_with(['_', '#', '/', '$']) || key.starts_with("cni.dev/") || keys::same(key, "comment")
}

impl Kind {
    /// Whether Go decodes the value. Items of arrays and objects are compared by themselves.
    fn takes(self, value: &Value) -> bool {
        if value.is_null() {
            return true;
        }
        match self {
            Self::Any => true,
            Self::Text
            | Self::NewInterface
            | Self::PodInterface
            | Self::Interface
            | Self::Device
            | Self::Path => value.is_string(),
            Self::Flag => value.is_boolean(),
            Self::Whole { least, most } => match (value.as_i64(), value.as_u64()) {
                (Some(number), _) if number < 0 => number >= least,
                (_, Some(number)) => number <= most,
                _ => false,
            },
            Self::TextMap | Self::Object(_) | Self::Open(_) => value.is_object(),
            Self::Texts | Self::Objects(_) | Self::Sets(_) => value.is_array(),
        }
    }

    /// What the items of an array have to be.
    fn item(self) -> Option<Self> {
        match self {
            Self::Texts => Some(Self::Text),
            Self::Objects(keys) => Some(Self::Object(keys)),
            Self::Sets(keys) => Some(Self::Objects(keys)),
            _ => None,
        }
    }
}

/// What a value has to be.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Any => "anything",
            Self::Text
            | Self::NewInterface
            | Self::PodInterface
            | Self::Interface
            | Self::Device
            | Self::Path => "a string",
            Self::Flag => "true or false without quotation marks",
            Self::Whole { least: 0, most } => return write!(f, "a whole number from 0 to {most}"),
            Self::Whole { .. } => "a whole number",
            Self::Texts => "an array of strings",
            Self::TextMap => "an object with strings as values",
            Self::Object(_) | Self::Open(_) => "an object",
            Self::Objects(_) => "an array of objects",
            Self::Sets(_) => "an array of arrays of objects",
        })
    }
}

/// What is wrong and what to do, without the plugin.
impl fmt::Display for Slip<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.place.is_empty() {
            write!(f, "{}: ", self.place)?;
        }
        match &self.problem {
            Problem::Unknown { meant } => {
                write!(f, "{} has no key {:?}, so it has no effect; ", self.plugin, self.key)?;
                match meant {
                    Some(meant) => write!(f, "did you mean {meant:?}?"),
                    None => f.write_str("remove it, or correct its spelling"),
                }
            }
            Problem::WrongKind { found, expected, .. } => {
                write!(f, "{:?} is {}, not {expected}", self.key, described(found))?;
                hint(found, *expected).map_or(Ok(()), |hint| write!(f, "; {hint}"))
            }
        }
    }
}

/// A number is shown as it is, since it may be wrong by its fraction or size alone.
fn described(found: &Value) -> String {
    match found {
        Value::Number(number) => number.to_string(),
        other => kind_of(other).to_owned(),
    }
}

fn hint(found: &Value, expected: Kind) -> Option<&'static str> {
    match (found, expected) {
        (Value::String(_), Kind::Whole { .. }) => Some("write it without quotation marks"),
        (Value::Number(_) | Value::Bool(_), _) if expected.takes(&Value::String(String::new())) => {
            Some("write it in quotation marks")
        }
        (Value::String(_) | Value::Object(_), Kind::Texts | Kind::Objects(_) | Kind::Sets(_)) => {
            Some("write it in [ ]")
        }
        _ => None,
    }
}
