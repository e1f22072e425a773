//! One call by the runtime: its settings, its log, and how delegates are run during it.

use std::path::PathBuf;

use cni::config::kind_of;
use cni::env::Target;
use cni::exec::ProcessExec;
use cni::skel::Request;
use cni::{CapabilityArgs, CniError, Code};
use serde_json::Value;
use store::StoreError;
use store::record::now_ms;
use store::settings::Settings;

use crate::attach::search_path;
use crate::log::Log;

/// Everything that a verb needs besides its target.
pub(crate) struct Call {
    pub(crate) settings: Settings,
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
        let settings = Settings::parse(&request.config)
            .map_err(|error| CniError::from_chain(Code::INVALID_CONFIG, &error))?;
        let mut log = Log::new(settings.log.clone()).about("verb", &verb);
        if let Some(target) = target {
            log = log.about("container", &target.container_id);
            if let Some(pod) = crate::pod::identity(&target.args) {
                log = log.about("pod", &format!("{}/{}", pod.namespace, pod.name));
            }
        }
        tell_passed_over(&settings, verb, &log);
        let exec = ProcessExec { timeout: settings.delegate_timeout, ..ProcessExec::default() };
        let dirs =
            std::iter::once(settings.bin_dir.as_path()).chain(request.path.iter().map(PathBuf::as_path));
        let path = search_path(dirs);
        let runtime = runtime_config(request)?;
        Ok(Self { runtime, settings, log, exec, path, begun_ms: now_ms() })
    }

    /// Where delegates of a record are looked for: where they were, then where they are now.
    pub(crate) fn path_with(&self, recorded: &[PathBuf]) -> Vec<PathBuf> {
        search_path(recorded.iter().chain(&self.path).map(PathBuf::as_path))
    }
}

/// What is not known may be a slip of the pen, with which pods would run otherwise than meant: ADD warns of it.
/// Other verbs come too often for that, and Multus's settings that have nothing to set are no slip.
fn tell_passed_over(settings: &Settings, verb: &str, log: &Log) {
    for setting in &settings.passed_over {
        let message = "a setting is passed over";
        if verb == "ADD" && setting.reason.is_none() {
            log.warn(message, &[("setting", &setting)]);
        } else {
            log.info(message, &[("setting", &setting)]);
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
