//! One call by the runtime: its settings, its log, and how delegates are run during it.

use std::path::PathBuf;

use cni::config::kind_of;
use cni::env::{Target, Verb};
use cni::exec::ProcessExec;
use cni::skel::Request;
use cni::{CapabilityArgs, CniError, Code};
use serde_json::{Map, Value};
use store::StoreError;
use store::record::now_ms;
use store::settings::{Settings, SettingsError, take_out};

use crate::attach::search_path;
use crate::log::Log;

/// Everything that a verb needs besides its target.
pub(crate) struct Call {
    pub(crate) settings: Settings,
    /// What they were read from, for a process that goes on after this one.
    pub(crate) config: Map<String, Value>,
    /// What DEL could not read of the settings.
    pub(crate) unreadable: Vec<SettingsError>,
    /// `runtimeConfig`: what the runtime asks of plugins that declare it.
    pub(crate) runtime: CapabilityArgs,
    pub(crate) log: Log,
    pub(crate) exec: ProcessExec,
    /// `binDir`, then CNI_PATH.
    pub(crate) path: Vec<PathBuf>,
    /// When it came, in milliseconds since 1970.
    pub(crate) begun_ms: u64,
}

impl Call {
    /// Reads the settings; the first thing that every verb does.
    pub(crate) fn read(verb: &str, target: Option<&Target>, request: &Request) -> Result<Self, CniError> {
        // Without it every namespace and every plugin that runs would look like one from before a reboot.
        store::boot::known_boot_id().map_err(|error| store_error(&error))?;
        let is_del = verb == Verb::Del.as_str();
        let (config, settings, unreadable) = if is_del {
            readable(of_settings(&request.config))
        } else {
            let config = of_settings(&request.config);
            Settings::parse(&config).map(|settings| (config, settings, Vec::new()))
        }
        .map_err(|error| CniError::from_chain(Code::INVALID_CONFIG, &error))?;
        let mut log = Log::new(settings.log.clone()).about("verb", &verb);
        if let Some(target) = target {
            log = log.about("container", &target.container_id);
            if let Some(pod) = crate::pod::identity(&target.args) {
                log = log.about("pod", &format!("{}/{}", pod.namespace, pod.name));
            }
        }
        tell_passed_over(&settings, verb, &log);
        for error in &unreadable {
            log.warn("a setting cannot be read; DEL goes on with its default", &[("error", error)]);
        }
        let exec = delegates_of(&settings);
        let dirs =
            std::iter::once(settings.bin_dir.as_path()).chain(request.path.iter().map(PathBuf::as_path));
        let path = search_path(dirs);
        let runtime = match runtime_config(request) {
            Err(error) if is_del => {
                log.warn("DEL goes on without runtimeConfig", &[("error", &error)]);
                CapabilityArgs::new()
            }
            other => other?,
        };
        Ok(Self { runtime, settings, config, unreadable, log, exec, path, begun_ms: now_ms() })
    }

    /// Where delegates of a record are looked for: where they were, then where they are now.
    pub(crate) fn path_with(&self, recorded: &[PathBuf]) -> Vec<PathBuf> {
        search_path(recorded.iter().chain(&self.path).map(PathBuf::as_path))
    }
}

/// What is not known may be a slip of the pen, with which pods would run otherwise than meant: ADD warns of it.
/// Other verbs come too often for that, and Multus's settings that have nothing to set are no slip.
fn tell_passed_over(settings: &Settings, verb: &str, log: &Log) {
    for path in settings.below_host.iter().filter(|_| verb == "ADD") {
        log.warn("a setting names a path that is not of this node", &[("setting", path)]);
    }
    for setting in &settings.passed_over {
        let message = "a setting is passed over";
        if verb == "ADD" && setting.reason.is_none() {
            log.warn(message, &[("setting", &setting)]);
        } else {
            log.info(message, &[("setting", &setting)]);
        }
    }
}

/// How delegates are run.
pub(crate) fn delegates_of(settings: &Settings) -> ProcessExec {
    let notes = Some(settings.directory.running());
    ProcessExec { timeout: settings.delegate_timeout, notes, ..ProcessExec::default() }
}

/// The configuration without what it says of one call.
fn of_settings(config: &Map<String, Value>) -> Map<String, Value> {
    let of_call = |key: &str| ["runtimeConfig", "prevResult"].contains(&key) || key.starts_with("cni.dev/");
    config.iter().filter(|(key, _)| !of_call(key)).map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// What of a configuration can be read: it, its settings, and what else was wrong.
type Readable = (Map<String, Value>, Settings, Vec<SettingsError>);

/// The settings for DEL: those that cannot be read have their defaults, since one bad edit must not hold every
/// pod that ends. But for the directories: elsewhere there is no record, and DEL would forget the pod.
fn readable(mut config: Map<String, Value>) -> Result<Readable, SettingsError> {
    let mut unreadable = Vec::new();
    loop {
        match Settings::parse(&config) {
            Ok(settings) => return Ok((config, settings, unreadable)),
            Err(error) => {
                // An element is named with its place: `delegates[0]`, `logOptions.maxSize`. A key that nobody knows may
                // hold such letters itself.
                let key = error.setting.split(['.', '[']).next().unwrap_or_default();
                if ["runDir", "stateDir", "binDir"].contains(&key)
                    || !(take_out(&mut config, &error.setting) || take_out(&mut config, key))
                {
                    return Err(error);
                }
                unreadable.push(error);
            }
        }
    }
}

fn runtime_config(request: &Request) -> Result<CapabilityArgs, CniError> {
    match request.config.get("runtimeConfig") {
        None | Some(Value::Null) => Ok(CapabilityArgs::new()),
        Some(Value::Object(config)) => Ok(config.clone()),
        Some(other) => {
            let msg = format!("\"runtimeConfig\" is {}, not an object", kind_of(other));
            Err(CniError::new(Code::INVALID_CONFIG, msg))
        }
    }
}

/// A failure of the node directory as a CNI error.
pub(crate) fn store_error(error: &StoreError) -> CniError {
    CniError::from_chain(error.code(), error)
}
