//! Reads settings one by one, each into a type that cannot be wrong, and remembers which were read.
//!
//! A key is taken in any case, as Go takes it: a file that somebody wrote for Multus means there what it means here.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use cni::config::kind_of;
use cni::keys::same;
use cni::npwg::Namespace;
use cni::{NetworkList, NetworkName};
use serde_json::{Map, Value};

use super::below_host::BelowHost;
use super::{NetworkReference, PodsAtOnce};

/// A setting that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("setting {setting:?} {problem}")]
pub struct SettingsError {
    /// Which, for example `logOptions.maxSize`.
    pub setting: String,
    problem: String,
}

impl SettingsError {
    pub(super) fn new(setting: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { setting: setting.into(), problem: problem.into() }
    }

    fn wrong_kind(setting: &str, expected: &str, found: &Value) -> Self {
        // Values may be secrets of a setting that was put in the wrong place: only small ones are shown.
        let shown = match found {
            Value::String(text) if text.len() <= 60 => format!("{text:?}"),
            Value::Bool(_) | Value::Number(_) => found.to_string(),
            other => kind_of(other).to_owned(),
        };
        Self::new(setting, format!("is {shown}; it has to be {expected}"))
    }
}

/// More is no bound: no node has so many pods.
const MOST_AT_ONCE: usize = 1000;
/// More interfaces no pod has.
const MOST_ATTACHMENTS: usize = 1000;

/// The value of a setting in whatever case its key is written; `null` and empty texts are none. Two spellings with one
/// value are one setting, with two they are a contradiction: which of them counts, readers of JSON decide differently.
pub fn given<'a>(object: &'a Map<String, Value>, setting: &str) -> Result<Option<&'a Value>, SettingsError> {
    let mut spellings = object.iter().filter(|(key, value)| same(key, setting) && !is_absent(value));
    let Some((first, value)) = spellings.next() else { return Ok(None) };
    match spellings.find(|(_, other)| *other != value) {
        None => Ok(Some(value)),
        Some((second, _)) => {
            let problem = format!("is given twice, as {first:?} and {second:?}, with two values; remove one");
            Err(SettingsError::new(setting, problem))
        }
    }
}

/// Takes a setting away in every spelling; whether there was one.
pub fn take_out(object: &mut Map<String, Value>, setting: &str) -> bool {
    let before = object.len();
    object.retain(|key, _| !same(key, setting));
    object.len() < before
}

pub(super) struct Reader<'a> {
    object: &'a Map<String, Value>,
    read: BTreeSet<&'static str>,
    below_host: Vec<BelowHost>,
}

type Read<T> = Result<T, SettingsError>;

impl<'a> Reader<'a> {
    pub(super) fn new(object: &'a Map<String, Value>) -> Self {
        Self { object, read: BTreeSet::new(), below_host: Vec::new() }
    }

    /// Keys that nothing has asked for, in any case, with their values.
    pub(super) fn unread(&self) -> impl Iterator<Item = (&'a str, &'a Value)> {
        let is_read = |key: &str| self.read.iter().any(|read| same(read, key));
        let keys = self.object.iter().map(|(key, value)| (key.as_str(), value));
        keys.filter(move |(key, _)| !is_read(key))
    }

    /// Paths that are Multus's view of the node.
    pub(super) fn take_below_host(&mut self) -> Vec<BelowHost> {
        std::mem::take(&mut self.below_host)
    }

    /// Every setting that was asked for.
    pub(super) fn known(&self) -> impl Iterator<Item = &'static str> {
        self.read.iter().copied()
    }

    fn value(&mut self, setting: &'static str) -> Read<Option<&'a Value>> {
        self.read.insert(setting);
        given(self.object, setting)
    }

    fn text(&mut self, setting: &'static str) -> Read<Option<&'a str>> {
        match self.value(setting)? {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.trim())),
            Some(other) => Err(SettingsError::wrong_kind(setting, "a text", other)),
        }
    }

    pub(super) fn flag(&mut self, setting: &'static str, absent: bool) -> Read<bool> {
        match self.value(setting)? {
            None => Ok(absent),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(SettingsError::wrong_kind(setting, "true or false", other)),
        }
    }

    pub(super) fn choice<T: Copy>(
        &mut self,
        setting: &'static str,
        choices: &[(&str, T)],
        absent: T,
    ) -> Read<T> {
        let Some(text) = self.text(setting)? else { return Ok(absent) };
        let known = choices.iter().find(|(name, _)| text.eq_ignore_ascii_case(name));
        known.map(|(_, choice)| *choice).ok_or_else(|| {
            let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
            SettingsError::new(setting, format!("is {text:?}, not one of {}", names.join(", ")))
        })
    }

    pub(super) fn path(&mut self, setting: &'static str) -> Read<Option<PathBuf>> {
        let Some(text) = self.text(setting)? else { return Ok(None) };
        let path = PathBuf::from(text);
        if path.is_absolute() {
            self.below_host.extend(BelowHost::of(setting, &path));
            return Ok(Some(path));
        }
        // The runtime's working directory is nothing to rely on.
        Err(SettingsError::new(setting, format!("is {text:?}; it has to be an absolute path")))
    }

    pub(super) fn path_or(&mut self, setting: &'static str, absent: &str) -> Read<PathBuf> {
        Ok(self.path(setting)?.unwrap_or_else(|| absent.into()))
    }

    /// The name of a file in a directory that another setting names.
    pub(super) fn file_name(&mut self, setting: &'static str) -> Read<Option<&'a str>> {
        let Some(text) = self.text(setting)? else { return Ok(None) };
        if text.contains('/') || matches!(text, "." | "..") {
            let problem = format!("is {text:?}; it has to be the name of a file, without its directory");
            return Err(SettingsError::new(setting, problem));
        }
        Ok(Some(text))
    }

    pub(super) fn count(&mut self, setting: &'static str) -> Read<NonZeroUsize> {
        let Some(value) = self.value(setting)? else { return Ok(NonZeroUsize::MIN) };
        let count = value.as_u64().and_then(|n| usize::try_from(n).ok()).filter(|&n| n <= 64);
        count
            .and_then(NonZeroUsize::new)
            .ok_or_else(|| SettingsError::wrong_kind(setting, "a whole number from 1 to 64", value))
    }

    /// How many attachments a pod may ask for. There is no word for no bound: whoever may make pods could then let a
    /// node work without end.
    pub(super) fn max_attachments(
        &mut self,
        setting: &'static str,
        absent: NonZeroUsize,
    ) -> Read<NonZeroUsize> {
        let Some(value) = self.value(setting)? else { return Ok(absent) };
        let count = value.as_u64().and_then(|n| usize::try_from(n).ok()).filter(|&n| n <= MOST_ATTACHMENTS);
        count.and_then(NonZeroUsize::new).ok_or_else(|| {
            let expected = format!("a whole number from 1 to {MOST_ATTACHMENTS}");
            SettingsError::wrong_kind(setting, &expected, value)
        })
    }

    /// How many pods at once; `0` is no bound.
    pub(super) fn pods_at_once(&mut self, setting: &'static str) -> Read<PodsAtOnce> {
        let Some(value) = self.value(setting)? else { return Ok(PodsAtOnce::ByProcessors) };
        let count = value.as_u64().and_then(|n| usize::try_from(n).ok()).filter(|&n| n <= MOST_AT_ONCE);
        let count = count.ok_or_else(|| {
            let expected = format!("a whole number from 0 (no bound) to {MOST_AT_ONCE}");
            SettingsError::wrong_kind(setting, &expected, value)
        })?;
        Ok(NonZeroUsize::new(count).map_or(PodsAtOnce::All, PodsAtOnce::Most))
    }

    /// A duration with its unit: `250ms`, `5s`, `2m`, `1h`. A bare number would leave the unit to guess.
    pub(super) fn duration(&mut self, setting: &'static str, absent: Duration) -> Read<Duration> {
        let Some(value) = self.value(setting)? else { return Ok(absent) };
        value.as_str().and_then(parse_duration).ok_or_else(|| {
            SettingsError::wrong_kind(
                setting,
                "a text like \"250ms\", \"5s\" or \"2m\", at most an hour",
                value,
            )
        })
    }

    pub(super) fn namespace(&mut self, setting: &'static str, absent: &str) -> Read<Namespace> {
        let text = self.text(setting)?.unwrap_or(absent);
        Namespace::parse(text).map_err(|error| SettingsError::new(setting, format!("is not valid: {error}")))
    }

    /// Namespaces as an array, or as one text with commas between them (Multus's `globalNamespaces`). Given
    /// ones replace the default ones.
    pub(super) fn namespaces(&mut self, setting: &'static str, absent: &[&str]) -> Read<BTreeSet<Namespace>> {
        let names: Vec<&str> = match self.value(setting)? {
            None => absent.to_vec(),
            Some(Value::String(text)) => text.split(',').map(str::trim).filter(|t| !t.is_empty()).collect(),
            Some(list) => texts(setting, list)?,
        };
        let parse = |name: &str| {
            Namespace::parse(name).map_err(|e| SettingsError::new(setting, format!("is not valid: {e}")))
        };
        names.into_iter().map(parse).collect()
    }

    pub(super) fn reference(&mut self, setting: &'static str) -> Read<Option<NetworkReference>> {
        let Some(text) = self.text(setting)? else { return Ok(None) };
        self.parse_reference(setting, text).map(Some)
    }

    pub(super) fn references(&mut self, setting: &'static str) -> Read<Vec<NetworkReference>> {
        let Some(list) = self.value(setting)? else { return Ok(Vec::new()) };
        texts(setting, list)?.into_iter().map(|text| self.parse_reference(setting, text.trim())).collect()
    }

    fn parse_reference(&mut self, setting: &'static str, text: &str) -> Read<NetworkReference> {
        let reference = parse_reference(setting, text)?;
        if let NetworkReference::Path(path) = &reference {
            self.below_host.extend(BelowHost::of(setting, path));
        }
        Ok(reference)
    }

    pub(super) fn delegates(&mut self, setting: &'static str) -> Read<Option<Vec<NetworkList>>> {
        let Some(value) = self.value(setting)? else { return Ok(None) };
        let list = value
            .as_array()
            .ok_or_else(|| SettingsError::wrong_kind(setting, "an array of CNI configurations", value))?;
        let parse = |(index, json): (usize, &Value)| {
            NetworkList::from_json(json.clone(), None).map_err(|error| {
                SettingsError::new(
                    format!("{setting}[{index}]"),
                    format!("is not a CNI configuration: {}", cni::error::chain_text(&error)),
                )
            })
        };
        let delegates = list.iter().enumerate().map(parse).collect::<Read<Vec<_>>>()?;
        Ok(Some(delegates).filter(|delegates| !delegates.is_empty()))
    }

    /// `maxSize` in MiB and `maxBackups` of Multus's `logOptions`; `maxAge` and `compress` are accepted and
    /// mean nothing, the size being bounded anyway.
    pub(super) fn log_options(&mut self, setting: &'static str) -> Read<(u32, u32)> {
        let empty = Map::new();
        let options = match self.value(setting)? {
            None => &empty,
            Some(Value::Object(options)) => options,
            Some(other) => return Err(SettingsError::wrong_kind(setting, "an object", other)),
        };
        let number = |key: &str, absent: u32, least: u32, most: u32| {
            let name = format!("{setting}.{key}");
            let found =
                given(options, key).map_err(|error| SettingsError { setting: name.clone(), ..error })?;
            let Some(value) = found else { return Ok(absent) };
            let number = value.as_u64().and_then(|n| u32::try_from(n).ok());
            number.filter(|n| (least..=most).contains(n)).ok_or_else(|| {
                let expected = format!("a whole number from {least} to {most}");
                SettingsError::wrong_kind(&name, &expected, value)
            })
        };
        Ok((number("maxSize", 10, 1, 10_000)?, number("maxBackups", 1, 0, 100)?))
    }

    /// Keys of the log's options that mean nothing to anybody.
    pub(super) fn unread_log_options(&self, setting: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        let options = given(self.object, setting).ok().flatten().and_then(Value::as_object);
        let keys = options.into_iter().flatten().map(|(key, _)| key.as_str());
        keys.filter(|key| !LOG_OPTIONS.iter().any(|known| same(known, key)))
    }
}

/// Keys of `logOptions`.
pub(super) const LOG_OPTIONS: [&str; 4] = ["maxSize", "maxBackups", "maxAge", "compress"];

/// `null` and empty texts count as absent, whatever the setting's kind: templates write them for what is not set.
pub(super) fn is_absent(value: &Value) -> bool {
    value.is_null() || value.as_str().is_some_and(|text| text.trim().is_empty())
}

fn texts<'a>(setting: &str, value: &'a Value) -> Read<Vec<&'a str>> {
    let list =
        value.as_array().ok_or_else(|| SettingsError::wrong_kind(setting, "an array of texts", value))?;
    let text = |(index, item): (usize, &'a Value)| {
        item.as_str().ok_or_else(|| SettingsError::wrong_kind(&format!("{setting}[{index}]"), "a text", item))
    };
    list.iter().enumerate().map(text).collect()
}

fn parse_reference(setting: &str, text: &str) -> Read<NetworkReference> {
    if text.contains('/') {
        let path = PathBuf::from(text);
        if path.is_absolute() {
            return Ok(NetworkReference::Path(path));
        }
        let problem = format!("is {text:?}; a name has no '/', and a path has to be absolute");
        return Err(SettingsError::new(setting, problem));
    }
    NetworkName::parse(text)
        .map(NetworkReference::Name)
        .map_err(|error| SettingsError::new(setting, format!("is not valid: {error}")))
}

fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let number: u64 = number.parse().ok()?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    let duration = Duration::from_millis(number.checked_mul(millis)?);
    (duration <= Duration::from_secs(3600)).then_some(duration)
}
