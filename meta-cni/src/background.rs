//! Unfinished work is done by a process of its own.
//!
//! A runtime waits for the end of the process that it called, and for the end of its output. So the call that finds
//! work starts a child with a session of its own and without a copy of any pipe of the runtime, and ends. The child may
//! be killed at any time: what it has not done is still on record, and the next call starts another one.
//!
//! There is one at a time. The call takes the lock of unfinished work and hands it to its child as an open file; the
//! kernel releases the lock when the child ends, however that ends.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use cni::{CapabilityArgs, point};
use rustix::fs::{MemfdFlags, memfd_create};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use store::StoreError;
use store::lock::Lock;
use store::record;
use store::settings::Settings;

use crate::call::{Call, delegates_of};
use crate::log::Log;
use crate::{retired, unfinished};

/// The argument that makes this program do unfinished work.
pub(crate) const ARGUMENT: &str = "do-unfinished-work";

/// Why the child could not be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BackgroundError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("hand over the settings")]
    Settings(#[source] io::Error),
    #[error("start a process for unfinished work")]
    Start(#[source] io::Error),
}

/// What the child is told on its stdin.
#[derive(Debug, Serialize, Deserialize)]
struct Task {
    config: Map<String, Value>,
    path: Vec<PathBuf>,
    begun_ms: u64,
}

/// Starts a child if there is something that it could do and no other one is at it; whether it did.
pub(crate) fn start(call: &Call) -> Result<bool, BackgroundError> {
    let dir = &call.settings.directory;
    let keys = record::unfinished(dir)?;
    if !keys.iter().any(|key| unfinished::may_be_due(call, key)) {
        return Ok(false);
    }
    let Some(only) = Lock::of_unfinished_work_if_free(dir)? else { return Ok(false) };
    let task = Task { config: call.config.clone(), path: call.path.clone(), begun_ms: call.begun_ms };
    let task = in_memory(&task).map_err(BackgroundError::Settings)?;
    let lock = only.hand_over().map_err(BackgroundError::Start)?;
    point::reached("unfinished: lock handed over");
    let mut child = Command::new("/proc/self/exe");
    child.arg(ARGUMENT).stdin(task).stdout(lock).stderr(Stdio::null());
    for (name, _) in std::env::vars_os().filter(|(name, _)| is_of_the_call(name)) {
        child.env_remove(name);
    }
    // Nobody waits for it: when this process ends, it becomes the child of the first one.
    child.spawn().map(|_| true).map_err(BackgroundError::Start)
}

fn is_of_the_call(name: &OsString) -> bool {
    name.to_str().is_some_and(|name| name.starts_with("CNI_") && name != "CNI_PATH")
}

/// A file without a name that holds the task. A pipe would have to be read before this process can end.
fn in_memory(task: &Task) -> io::Result<File> {
    let make = |flags| memfd_create("braid-unfinished-work", MemfdFlags::CLOEXEC | flags);
    // A node may refuse one that could be run (vm.memfd_noexec); kernels before 6.3 do not know the flag.
    let memory = make(MemfdFlags::NOEXEC_SEAL).or_else(|_| make(MemfdFlags::empty()))?;
    let mut file = File::from(memory);
    file.write_all(&serde_json::to_vec(task)?)?;
    file.rewind()?;
    Ok(file)
}

/// Does unfinished work, as the child. Its stdout is the lock, and nothing is printed.
pub(crate) fn run(stdin: &mut dyn io::Read) -> io::Result<()> {
    // The runtime may end everything that is of its session. It fails only for the first process of one.
    let _ = rustix::process::setsid();
    let Task { config, path, begun_ms } = serde_json::from_reader(stdin)?;
    let settings = Settings::parse(&config).map_err(io::Error::other)?;
    let call = Call {
        unreadable: Vec::new(),
        runtime: CapabilityArgs::new(),
        log: Log::new(settings.log.clone()).about("verb", &"unfinished work"),
        exec: delegates_of(&settings),
        path,
        settings,
        config,
        begun_ms,
    };
    if let Err(error) = unfinished::take_up(&call) {
        let error = cni::error::chain_text(&error);
        call.log.warn("could not look for unfinished work", &[("error", &error)]);
    }
    point::reached("unfinished: over");
    if let Err(error) = retired::leave(&call) {
        call.log.warn("could not remove the retired configuration", &[("error", &error.msg)]);
    }
    Ok(())
}
