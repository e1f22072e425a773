//! One server process: it logs to a file, can be stopped, killed and made silent, and ends when it is dropped.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::wait;

/// How long a server may take to end when it is asked to. The API server waits for its watches for a minute.
const PATIENCE: Duration = Duration::from_secs(5);

/// How many of its last lines an error shows.
const SHOWN: usize = 20;

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    name: &'static str,
    process: Child,
    log: PathBuf,
}

impl Server {
    /// Starts `program` with its log and the file of its process id, `NAME.log` and `NAME.pid`, in `dir`. A log that
    /// is there is continued.
    pub(crate) fn start(
        dir: &Path,
        name: &'static str,
        program: &Path,
        arguments: &[String],
    ) -> Result<Self> {
        let log = dir.join(format!("{name}.log"));
        let output = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("opening {}", log.display()))?;
        let errors = output.try_clone().with_context(|| format!("sharing {}", log.display()))?;
        let process = Command::new(program)
            .args(arguments)
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let this = Self { name, process, log };
        let file = dir.join(format!("{name}.pid"));
        fs::write(&file, format!("{}\n", this.process.id()))
            .with_context(|| format!("writing {}", file.display()))?;
        Ok(this)
    }

    /// Whether it runs; if it has ended, the error says so with what it logged last.
    pub(crate) fn ensure_running(&mut self) -> Result<()> {
        match self.process.try_wait().with_context(|| format!("looking after {}", self.name))? {
            Some(status) => bail!("{} ended with {status}", self.name),
            None => Ok(()),
        }
    }

    /// What it logged last.
    pub(crate) fn last_lines(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        format!("{} logged:\n{}", self.name, lines[lines.len().saturating_sub(SHOWN)..].join("\n"))
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_child(&self.process);
        kill_process(pid, signal).with_context(|| format!("sending {signal:?} to {}", self.name))
    }

    /// Asks it to end, as a service manager does, and kills it when that takes long.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.signal(Signal::TERM)?;
        let end = Instant::now() + PATIENCE;
        wait::until("the server has ended", || {
            let ended = self.process.try_wait().with_context(|| format!("waiting for {}", self.name))?;
            Ok(ended.is_some() || Instant::now() > end)
        })
    }
}

impl Drop for Server {
    /// Also one that is made silent or half stopped.
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
