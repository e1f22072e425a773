//! Running a configuration list: the verbs of libcni over the plugins of one network.
//!
//! ADD and CHECK go forward and stop at the first failure; DEL goes backward and does not stop; GC asks
//! every plugin; STATUS stops at the first failure so that its code survives.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::config::{CapabilityArgs, NetworkList, PluginConfig};
use crate::env::{Target, Verb};
use crate::error::{CniError, Code};
use crate::exec::{Call, Exec, ExecError, excerpt, output};
use crate::ids::{ContainerId, IfName, PluginType};
use crate::result::{AddResult, ResultError};

/// Everything that ADD, DEL and CHECK of one attachment need besides the list.
#[derive(Debug, Clone)]
pub struct Attachment<'a> {
    /// On what.
    pub target: &'a Target,
    /// Where plugins are looked for.
    pub path: &'a [PathBuf],
    /// What is asked of plugins that declare it.
    pub capabilities: &'a CapabilityArgs,
}

/// An attachment that GC has to leave alone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ValidAttachment {
    /// The container.
    #[serde(rename = "containerID")]
    pub container_id: ContainerId,
    /// Its interface.
    pub ifname: IfName,
}

/// Which plugin of a list failed, at what and why.
#[derive(Debug, thiserror::Error)]
#[error("plugin {plugin} failed at {verb}")]
pub struct ChainError {
    /// The plugin.
    pub plugin: PluginType,
    /// Its place in the list, from 0.
    pub place: usize,
    /// The verb.
    pub verb: Verb,
    /// Why.
    #[source]
    pub source: Box<Cause>,
}

/// Why a plugin of a list failed.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// Running it failed, or it said so.
    #[error(transparent)]
    Exec(ExecError),
    /// It succeeded but printed no JSON.
    #[error("it succeeded but printed no JSON ({source}): {printed:?}")]
    NotJson {
        /// The beginning of what it printed.
        printed: String,
        /// What JSON says.
        source: serde_json::Error,
    },
    /// It succeeded but printed more than a result.
    #[error("{}: {printed}", besides(what))]
    Surplus {
        /// What.
        what: &'static str,
        /// The beginnings of the parts.
        printed: String,
    },
    /// It succeeded but its result is malformed, or a result cannot be given to it in its version.
    #[error(transparent)]
    Result(ResultError),
}

fn besides(what: &str) -> String {
    format!("it printed {what}; a plugin has to print its result alone on stdout, and its log on stderr")
}

impl ChainError {
    /// Whether the plugin's executable is not there: nothing was attempted.
    pub fn plugin_is_gone(&self) -> bool {
        matches!(&*self.source, Cause::Exec(error) if error.plugin_is_gone())
    }

    /// Whether the plugin was run and failed by itself, or was killed because it did not end.
    pub fn is_answer(&self) -> bool {
        use ExecError::{Plugin, Silent, Timeout, TooMuch};
        matches!(&*self.source, Cause::Exec(Plugin(_) | Silent { .. } | Timeout { .. } | TooMuch { .. }))
    }

    /// Whether the plugin was run and gave an error of CNI, or was not there: it says itself that it did not succeed.
    pub fn is_refusal(&self) -> bool {
        matches!(&*self.source, Cause::Exec(ExecError::Plugin(_))) || self.plugin_is_gone()
    }

    /// Whether the plugin was killed because it did not end in time.
    pub fn timed_out(&self) -> bool {
        matches!(&*self.source, Cause::Exec(ExecError::Timeout { .. }))
    }

    /// As a CNI error; a plugin's own code stays what it is. What a plugin printed that is no error of CNI is in the
    /// details: it may hold anything, secrets too, and whoever writes logs leaves details out.
    pub fn to_cni_error(&self) -> CniError {
        let error = match &*self.source {
            Cause::Exec(error) => without_excerpts(error),
            Cause::NotJson { source, printed } => {
                let msg = format!("it succeeded but printed no JSON ({source})");
                CniError::new(Code::DECODING_FAILURE, msg).with_details(format!("on stdout: {printed:?}"))
            }
            Cause::Surplus { what, printed } => CniError::new(Code::DECODING_FAILURE, besides(what))
                .with_details(format!("on stdout: {printed}")),
            Cause::Result(error) => CniError::from_chain(Code::DECODING_FAILURE, error),
        };
        error.of(format_args!("plugin {}", self.plugin))
    }
}

/// The error of a run, whose excerpts of stdout and stderr are in the details.
fn without_excerpts(error: &ExecError) -> CniError {
    let told =
        |stderr: &str| if stderr.is_empty() { String::new() } else { format!("on stderr: {stderr:?}") };
    match error {
        ExecError::Silent { path, how, stdout, stderr } => {
            let msg = format!("{} {how} without a CNI error", path.display());
            let all = [format!("on stdout: {stdout:?}"), told(stderr)].join("; ");
            CniError::new(Code::INTERNAL, msg).with_details(all.trim_end_matches("; "))
        }
        ExecError::Timeout { path, after, stderr } => {
            let msg = format!("{} did not end within {after:?} and was killed", path.display());
            CniError::new(Code::INTERNAL, msg).with_details(told(stderr))
        }
        other => other.to_cni_error(),
    }
}

/// Runs one plugin and returns its stdout.
fn call(
    exec: &dyn Exec,
    plugin: &PluginConfig,
    verb: Verb,
    target: Option<&Target>,
    path: &[PathBuf],
    request: Map<String, Value>,
) -> Result<Vec<u8>, ChainError> {
    let stdin = Value::Object(request).to_string();
    exec.run(&Call { plugin: plugin.plugin(), verb, target, path, stdin: stdin.as_bytes() })
        .map_err(|error| failed(plugin, verb, Cause::Exec(error)))
}

fn failed(plugin: &PluginConfig, verb: Verb, source: Cause) -> ChainError {
    ChainError { plugin: plugin.plugin().clone(), place: 0, verb, source: Box::new(source) }
}

/// Why an output cannot be read as one JSON value.
fn not_one_value(printed: &[u8], source: serde_json::Error) -> Cause {
    match output::surplus(printed) {
        Some((what, printed)) => Cause::Surplus { what, printed },
        None => Cause::NotJson { printed: excerpt(printed), source },
    }
}

/// ADD: each plugin gets the result of the one before; the last one's result is returned. Undoing what the
/// plugins before a failing one did is the caller's: [`del`] of the whole list without a result.
///
/// `prev_result` is what the first plugin gets; a network usually begins without.
pub fn add(
    exec: &dyn Exec,
    list: &NetworkList,
    at: &Attachment<'_>,
    prev_result: Option<AddResult>,
) -> Result<AddResult, ChainError> {
    let mut result = prev_result;
    for (place, plugin) in list.plugins.iter().enumerate() {
        let added = add_one(exec, list, plugin, at, result.as_ref());
        result = Some(added.map_err(|error| ChainError { place, ..error })?);
    }
    Ok(result.unwrap_or_default())
}

fn add_one(
    exec: &dyn Exec,
    list: &NetworkList,
    plugin: &PluginConfig,
    at: &Attachment<'_>,
    result: Option<&AddResult>,
) -> Result<AddResult, ChainError> {
    let request = plugin.request(list, result, at.capabilities);
    let request = request.map_err(|error| failed(plugin, Verb::Add, Cause::Result(error)))?;
    let printed = call(exec, plugin, Verb::Add, Some(at.target), at.path, request)?;
    let json = serde_json::from_slice(&printed)
        .map_err(|source| failed(plugin, Verb::Add, not_one_value(&printed, source)))?;
    AddResult::parse(json, list.version).map_err(|error| failed(plugin, Verb::Add, Cause::Result(error)))
}

/// CHECK with the result of ADD. A list that says `disableCheck`, or of a version without CHECK, is not
/// checked: whether it was is returned.
pub fn check(
    exec: &dyn Exec,
    list: &NetworkList,
    at: &Attachment<'_>,
    result: &AddResult,
) -> Result<bool, ChainError> {
    if list.disable_check || !list.version.has_check() {
        return Ok(false);
    }
    for plugin in &list.plugins {
        let request = plugin.request(list, Some(result), at.capabilities);
        let request = request.map_err(|error| failed(plugin, Verb::Check, Cause::Result(error)))?;
        call(exec, plugin, Verb::Check, Some(at.target), at.path, request)?;
    }
    Ok(true)
}

/// DEL in reverse, with the result of ADD if there is one. Goes on after a failure; returns all of them.
pub fn del(
    exec: &dyn Exec,
    list: &NetworkList,
    at: &Attachment<'_>,
    result: Option<&AddResult>,
) -> Vec<ChainError> {
    let del = |plugin: &PluginConfig| del_by(plugin.plugin(), exec, list, plugin, at, result).err();
    list.plugins.iter().rev().filter_map(del).collect()
}

/// DEL of one plugin of the list by the executable `called`, for a caller that gives each plugin something else or acts
/// on its failure. That is the plugin itself, or its IPAM plugin, which frees the addresses where the plugin does not get
/// so far.
pub fn del_by(
    called: &PluginType,
    exec: &dyn Exec,
    list: &NetworkList,
    plugin: &PluginConfig,
    at: &Attachment<'_>,
    result: Option<&AddResult>,
) -> Result<(), ChainError> {
    let result = result.filter(|_| list.version.has_prev_result_on_del());
    let failed =
        |source| ChainError { plugin: called.clone(), place: 0, verb: Verb::Del, source: Box::new(source) };
    let request = plugin.request(list, result, at.capabilities);
    let stdin = Value::Object(request.map_err(|error| failed(Cause::Result(error)))?).to_string();
    let target = Some(at.target);
    exec.run(&Call { plugin: called, verb: Verb::Del, target, path: at.path, stdin: stdin.as_bytes() })
        .map(drop)
        .map_err(|error| failed(Cause::Exec(error)))
}

/// GC: tells every plugin which attachments of the network are valid. Goes on after a failure. Nothing is
/// asked of a list that says `disableGC` or is older than 1.1.0.
pub fn gc(
    exec: &dyn Exec,
    list: &NetworkList,
    path: &[PathBuf],
    valid: &[ValidAttachment],
) -> Vec<ChainError> {
    if list.disable_gc || !list.version.has_gc_and_status() {
        return Vec::new();
    }
    let valid = serde_json::to_value(valid).unwrap_or_default();
    let mut errors = Vec::new();
    for plugin in &list.plugins {
        let request = plugin.request(list, None, &Map::new());
        let done = request.map_err(|error| failed(plugin, Verb::Gc, Cause::Result(error))).and_then(
            |mut request| {
                // The second key is that of plugins from before the specification was final.
                request.insert("cni.dev/valid-attachments".to_owned(), valid.clone());
                request.insert("cni.dev/attachments".to_owned(), valid.clone());
                call(exec, plugin, Verb::Gc, None, path, request).map(drop)
            },
        );
        errors.extend(done.err());
    }
    errors
}

/// STATUS; a list older than 1.1.0 is taken to be ready.
pub fn status(exec: &dyn Exec, list: &NetworkList, path: &[PathBuf]) -> Result<(), ChainError> {
    if !list.version.has_gc_and_status() {
        return Ok(());
    }
    for plugin in &list.plugins {
        let request = plugin.request(list, None, &Map::new());
        let request = request.map_err(|error| failed(plugin, Verb::Status, Cause::Result(error)))?;
        call(exec, plugin, Verb::Status, None, path, request)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
