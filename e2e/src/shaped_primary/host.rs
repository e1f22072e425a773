//! The host as a plugin sees it: its files, the sockets of agents, other plugins.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use cni::args::CniArgs;
use cni::env::{Target, Verb};
use cni::exec::{Call, Exec, ProcessExec};
use cni::skel::Request;
use cni::{CniError, PluginType};
use serde_json::{Map, Value};

use super::failed;
use super::pool::Pool;

/// Says something on stderr.
pub(super) fn tell(text: &str) {
    // Nobody is left to tell if stderr is closed.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Paths of the host, below the directory that plays its root.
pub(super) struct Host {
    root: Option<PathBuf>,
    /// Behave like older releases of the real plugins.
    pub(super) older: bool,
}

impl Host {
    pub(super) fn of_environment() -> Self {
        Self {
            root: std::env::var_os("SHAPED_PRIMARY_ROOT").map(PathBuf::from),
            older: std::env::var_os("SHAPED_PRIMARY_RELEASE").is_some_and(|release| release == "older"),
        }
    }

    /// Where an absolute path of the real plugin is.
    pub(super) fn path(&self, absolute: &str) -> Result<PathBuf, CniError> {
        let root = self.root.as_ref();
        let root = root.ok_or_else(|| failed("SHAPED_PRIMARY_ROOT is not set; a stand-in leaves / alone"))?;
        Ok(root.join(absolute.trim_start_matches('/')))
    }

    /// Reads a file that has to be there.
    pub(super) fn read(&self, absolute: &str) -> Result<String, CniError> {
        let path = self.path(absolute)?;
        std::fs::read_to_string(&path).map_err(|error| failed(format!("read {}: {error}", path.display())))
    }

    /// Whether an agent listens at a socket.
    pub(super) fn connect(&self, socket: &str) -> Result<(), CniError> {
        let path = self.path(socket)?;
        UnixStream::connect(&path)
            .map(drop)
            .map_err(|error| failed(format!("connect to {}: {error}", path.display())))
    }

    /// The addresses that the agent of `name` has given out.
    pub(super) fn pool(&self, name: &str) -> Result<Pool, CniError> {
        Ok(Pool::at(self.path("/var/lib/shaped-primary")?.join(name)))
    }

    /// Runs another plugin with `config`, as a plugin does for its delegate or its IPAM.
    pub(super) fn call(
        &self,
        plugin: &str,
        verb: Verb,
        target: &Target,
        request: &Request,
        config: &Map<String, Value>,
    ) -> Result<Vec<u8>, CniError> {
        let plugin = PluginType::parse(plugin).map_err(|error| failed(error.to_string()))?;
        let stdin = Value::Object(self.below_root(config.clone())?).to_string();
        let call = Call {
            plugin: &plugin,
            verb,
            target: Some(target),
            path: &request.path,
            stdin: stdin.as_bytes(),
        };
        ProcessExec::default()
            .run(&call)
            .map_err(|error| error.to_cni_error().of(format_args!("{verb} of {plugin}")))
    }

    /// host-local is the real one and knows no other root: its data directory has to say so.
    fn below_root(&self, mut config: Map<String, Value>) -> Result<Map<String, Value>, CniError> {
        let Some(Value::Object(ipam)) = config.get_mut("ipam") else { return Ok(config) };
        if ipam.get("type").and_then(Value::as_str) == Some("host-local") {
            let dir = ipam.get("dataDir").and_then(Value::as_str).unwrap_or("/var/lib/cni/networks");
            let mapped = self.path(dir)?.to_string_lossy().into_owned();
            ipam.insert("dataDir".to_owned(), mapped.into());
        }
        Ok(config)
    }
}

/// A text of the configuration, empty if it is not there.
pub(super) fn text<'a>(config: &'a Map<String, Value>, key: &str) -> &'a str {
    config.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// The pod's namespace and name, if the runtime is a Kubernetes one.
pub(super) fn pod_of(args: &CniArgs) -> Option<(String, String)> {
    let get = |key| args.get(key).filter(|value| !value.is_empty()).map(str::to_owned);
    Some((get("K8S_POD_NAMESPACE")?, get("K8S_POD_NAME")?))
}

/// The reference library refuses arguments that a plugin does not know, unless `IgnoreUnknown` is set.
pub(super) fn check_args(args: &CniArgs, known: &[&str]) -> Result<(), CniError> {
    let ignores =
        args.get("IgnoreUnknown").is_some_and(|value| value == "1" || value.eq_ignore_ascii_case("true"));
    let text = args.to_string();
    let keys = text.split(';').filter_map(|pair| pair.split_once('=')).map(|(key, _)| key);
    let unknown: Vec<_> = keys.filter(|key| *key != "IgnoreUnknown" && !known.contains(key)).collect();
    if ignores || unknown.is_empty() {
        return Ok(());
    }
    Err(failed(format!("CNI_ARGS: unknown args {unknown:?}")))
}

/// The first 11 hexadecimal digits of a digest, as the real plugins put them into interface names. The
/// digest is another one than theirs; what counts is that equal input gives an equal name.
pub(super) fn digest(text: &str) -> String {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    format!("{:016x}", hasher.finish())[..11].to_owned()
}
