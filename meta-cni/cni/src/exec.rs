//! Running a plugin: find the executable, give it environment and stdin, take its answer.
//!
//! [`Exec`] is the one place where a delegate is run. [`ProcessExec`] runs an executable, as the
//! specification says; a test or a built-in plugin may put something else in its place.

pub(crate) mod output;
mod process;
pub mod running;

use std::ffi::OsString;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::env::{Target, Verb};
use crate::error::{CniError, Code};
use crate::ids::{ContainerId, PluginType};

/// One call of a plugin.
#[derive(Debug)]
pub struct Call<'a> {
    /// Which plugin.
    pub plugin: &'a PluginType,
    /// What is asked of it.
    pub verb: Verb,
    /// On what; `None` for GC, STATUS and VERSION.
    pub target: Option<&'a Target>,
    /// Where plugins are looked for, in order; the plugin gets it as CNI_PATH.
    pub path: &'a [PathBuf],
    /// The configuration, as JSON.
    pub stdin: &'a [u8],
}

/// Runs plugins.
pub trait Exec: Sync {
    /// Runs a plugin and returns what it printed on stdout when it succeeded.
    fn run(&self, call: &Call<'_>) -> Result<Vec<u8>, ExecError>;
}

/// Why a plugin did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// No directory of CNI_PATH holds the executable.
    #[error("find plugin {plugin} in {}: no such file; install the plugin there or correct the \"type\"", list(.path))]
    NotFound {
        /// The plugin.
        plugin: PluginType,
        /// Where it was looked for.
        path: Vec<PathBuf>,
    },
    /// The executable is open for writing, and stayed so.
    #[error(
        "start {path}: it was being written (\"text file busy\") for all of {waited:?}; replace plugins by renaming, never in place"
    )]
    Busy {
        /// The executable.
        path: PathBuf,
        /// How long was waited.
        waited: Duration,
    },
    /// The executable could not be started.
    #[error("start {path}")]
    Start {
        /// The executable.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Talking to the running plugin failed.
    #[error("talk to {path}")]
    Talk {
        /// The executable.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The plugin did not end in time and was killed with its process group.
    #[error("{path} did not end within {after:?} and was killed{}", tail(.stderr))]
    Timeout {
        /// The executable.
        path: PathBuf,
        /// The deadline.
        after: Duration,
        /// The last that it said on stderr.
        stderr: String,
    },
    /// The time for the whole work was over before the plugin's turn came.
    #[error("plugin {plugin} was not called: the time for the whole work was over; it is tried again")]
    NoTime {
        /// The plugin.
        plugin: PluginType,
    },
    /// The plugin printed more than a result can be.
    #[error("{path} printed more than {limit} bytes and was killed")]
    TooMuch {
        /// The executable.
        path: PathBuf,
        /// The limit.
        limit: usize,
    },
    /// The plugin failed and said why.
    #[error("{0}")]
    Plugin(CniError),
    /// The plugin failed without a CNI error.
    #[error("{path} {how} without a CNI error; on stdout: {stdout:?}{}", tail(.stderr))]
    Silent {
        /// The executable.
        path: PathBuf,
        /// Exit status or signal.
        how: String,
        /// The beginning of what it printed.
        stdout: String,
        /// The last that it said on stderr.
        stderr: String,
    },
}

fn list(path: &[PathBuf]) -> String {
    let dirs: Vec<_> = path.iter().map(|dir| dir.display().to_string()).collect();
    if dirs.is_empty() { "an empty CNI_PATH".to_owned() } else { dirs.join(", ") }
}

fn tail(stderr: &str) -> String {
    if stderr.is_empty() { String::new() } else { format!("; on stderr: {stderr:?}") }
}

impl ExecError {
    /// Whether there is no executable that could be run: nothing was attempted. A file that is damaged, or that nobody
    /// may run, is none.
    pub fn plugin_is_gone(&self) -> bool {
        match self {
            Self::NotFound { .. } => true,
            Self::Start { source, .. } => {
                let kind = source.kind();
                [std::io::ErrorKind::NotFound, std::io::ErrorKind::PermissionDenied].contains(&kind)
                    || source.raw_os_error() == Some(rustix::io::Errno::NOEXEC.raw_os_error())
            }
            _ => false,
        }
    }

    /// As a CNI error; the plugin's own stays what it is.
    pub fn to_cni_error(&self) -> CniError {
        match self {
            Self::Plugin(error) => error.clone(),
            Self::Busy { .. } | Self::NoTime { .. } => CniError::from_chain(Code::TRY_AGAIN_LATER, self),
            Self::Start { .. } | Self::Talk { .. } => CniError::from_chain(Code::IO_FAILURE, self),
            _ => CniError::from_chain(Code::INTERNAL, self),
        }
    }
}

/// Finds a plugin's executable: the first regular file of that name. As in libcni the execute bit is not
/// looked at, so that starting it gives the true reason.
pub fn find(plugin: &PluginType, path: &[PathBuf]) -> Option<PathBuf> {
    path.iter().map(|dir| dir.join(plugin.as_str())).find(|file| {
        // Symbolic links are followed: distributions install plugins that way.
        std::fs::metadata(file).is_ok_and(|meta| {
            let kind = meta.file_type();
            !kind.is_dir() && !kind.is_socket() && !kind.is_fifo()
        })
    })
}

/// Runs plugins as processes.
#[derive(Debug, Clone)]
pub struct ProcessExec {
    /// How long one call may take before the plugin and its process group are killed.
    pub timeout: Duration,
    /// When the whole work has to be over: no call goes on beyond it, and none begins after it.
    pub until: Option<Instant>,
    /// Below which directory each plugin that runs is noted, by container, so that those are found whose
    /// caller was killed: see [`running`].
    pub notes: Option<PathBuf>,
    /// How long "text file busy" is waited out.
    pub busy_wait: Duration,
    /// Whether the plugin's stderr goes to ours as it comes.
    pub relay_stderr: bool,
}

impl Default for ProcessExec {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(120),
            until: None,
            notes: None,
            busy_wait: Duration::from_secs(2),
            relay_stderr: true,
        }
    }
}

/// What plugins are noted under that work on no container: no container id has this form.
const NO_CONTAINER: &str = "@";

impl ProcessExec {
    /// Where plugins are noted that work on a container; `None` for those that work on none.
    pub fn notes_of(&self, container: Option<&ContainerId>) -> Option<PathBuf> {
        let name = container.map_or(NO_CONTAINER, ContainerId::as_str);
        self.notes.as_ref().map(|notes| notes.join(name))
    }

    /// How long a call that begins now may take.
    fn time_left(&self) -> Duration {
        let left = self.until.map(|until| until.saturating_duration_since(Instant::now()));
        left.map_or(self.timeout, |left| left.min(self.timeout))
    }
}

impl Exec for ProcessExec {
    fn run(&self, call: &Call<'_>) -> Result<Vec<u8>, ExecError> {
        let Some(executable) = find(call.plugin, call.path) else {
            return Err(ExecError::NotFound { plugin: call.plugin.clone(), path: call.path.to_vec() });
        };
        let timeout = self.time_left();
        if timeout.is_zero() {
            return Err(ExecError::NoTime { plugin: call.plugin.clone() });
        }
        let exec = Self { timeout, busy_wait: self.busy_wait.min(timeout), ..self.clone() };
        // STATUS changes nothing: nobody has to wait for it.
        let notes = self.notes_of(call.target.map(|target| &target.container_id));
        let notes = notes.filter(|_| call.verb != Verb::Status);
        let output = process::run(
            &exec,
            &executable,
            environment(call, std::env::vars_os()),
            call.stdin,
            notes.as_deref(),
        )?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let told = output::error_in(&output.stdout);
        Err(told.map_or_else(|| silent(executable, &output), ExecError::Plugin))
    }
}

fn silent(path: PathBuf, output: &process::Output) -> ExecError {
    use std::os::unix::process::ExitStatusExt;
    let how = match (output.status.code(), output.status.signal()) {
        (Some(code), _) => format!("failed with exit status {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "failed".to_owned(),
    };
    ExecError::Silent { path, how, stdout: excerpt(&output.stdout), stderr: output.stderr.clone() }
}

/// The beginning of an output, fit for an error message.
pub(crate) fn excerpt(output: &[u8]) -> String {
    const LONGEST: usize = 200;
    let text = String::from_utf8_lossy(output);
    let text = text.trim();
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// The environment of a call: ours, which is the runtime's, with the variables of this call in place of those of ours.
/// Plugins are started so by libcni, and some rely on it.
fn environment(
    call: &Call<'_>,
    ours: impl Iterator<Item = (OsString, OsString)>,
) -> Vec<(OsString, OsString)> {
    let inherited = ours.filter(|(name, _)| {
        let replaced = ["COMMAND", "CONTAINERID", "NETNS", "IFNAME", "ARGS", "PATH"];
        !name.to_str().and_then(|name| name.strip_prefix("CNI_")).is_some_and(|rest| replaced.contains(&rest))
    });
    let mut all: Vec<_> = inherited.collect();
    let mut set = |name: &str, value: OsString| all.push((name.into(), value));
    set("CNI_COMMAND", call.verb.as_str().into());
    set("CNI_PATH", join(call.path));
    if let Some(target) = call.target {
        set("CNI_CONTAINERID", target.container_id.as_str().into());
        set("CNI_NETNS", target.netns.as_deref().unwrap_or(Path::new("")).into());
        set("CNI_IFNAME", target.if_name.as_str().into());
        set("CNI_ARGS", target.args.to_string().into());
    }
    all
}

/// CNI_PATH has no way to escape the separator, as PATH has none.
fn join(path: &[PathBuf]) -> OsString {
    let mut joined = OsString::new();
    for (index, dir) in path.iter().enumerate() {
        if index > 0 {
            joined.push(":");
        }
        joined.push(dir);
    }
    joined
}

#[cfg(test)]
mod tests;
