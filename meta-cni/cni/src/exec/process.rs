//! One child process, fed and read by one thread, with a deadline.
//!
//! stdin, stdout, stderr and the child's pidfd are waited on together, so that neither a plugin that reads
//! late nor one that prints much can block, and a child that a plugin leaves behind with our pipes open
//! does not hold us.

use std::ffi::OsString;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open, waitid,
};

use super::running::{self, Note};
use super::{ExecError, ProcessExec};
use crate::point;

/// A result is a few KiB; a plugin that prints this much is broken.
const STDOUT_LIMIT: usize = 16 << 20;
/// How much of stderr is kept for an error message.
const STDERR_TAIL: usize = 2 << 10;

/// What a plugin left when it ended.
pub(super) struct Output {
    pub(super) status: ExitStatus,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: String,
}

/// Runs `executable` to its end.
pub(super) fn run(
    exec: &ProcessExec,
    executable: &Path,
    environment: Vec<(OsString, OsString)>,
    stdin: &[u8],
    notes: Option<&Path>,
) -> Result<Output, ExecError> {
    let mut child = start(exec, executable, environment)?;
    point::reached("delegate: started");
    let mut talk = Talk { stdin, stdout: Vec::new(), stderr: Vec::new(), relay: exec.relay_stderr };
    // Before it is given its configuration: see `running`.
    let note = notes.map(|dir| Note::of_child(dir, child.id(), exec.timeout)).transpose();
    point::reached("delegate: noted");
    let (ended, note) = match note {
        Ok(note) => (talk.until_exit(&mut child, Instant::now() + exec.timeout), note),
        Err(error) => (Err(error), None),
    };
    let by_us = !matches!(ended, Ok(Ended::Exited));
    if by_us {
        kill(&child);
    }
    if by_us || was_killed(&child) {
        // What it had started, an IPAM plugin for one, would go on beside the undoing.
        running::end_group_of(child.id());
    }
    let status = child.wait();
    point::reached("delegate: ended");
    drop(note);
    point::reached("delegate: note removed");
    let (path, stderr) = (executable.to_owned(), talk.stderr_text());
    match ended {
        Ok(Ended::Exited) => {}
        Ok(Ended::TooLate) => return Err(ExecError::Timeout { path, after: exec.timeout, stderr }),
        Ok(Ended::TooMuch) => return Err(ExecError::TooMuch { path, limit: STDOUT_LIMIT }),
        Err(source) => return Err(ExecError::Talk { path, source }),
    }
    let status = status.map_err(|source| ExecError::Talk { path, source })?;
    Ok(Output { status, stdout: talk.stdout, stderr })
}

/// Starts the plugin as the leader of a process group of its own. "Text file busy" passes when an installer
/// has finished writing the file.
fn start(
    exec: &ProcessExec,
    executable: &Path,
    environment: Vec<(OsString, OsString)>,
) -> Result<Child, ExecError> {
    let mut command = Command::new(executable);
    command.env_clear().envs(environment).process_group(0);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let begun = Instant::now();
    let mut pause = Duration::from_millis(5);
    loop {
        match command.spawn() {
            Ok(child) => return Ok(child),
            Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => {
                if begun.elapsed() + pause > exec.busy_wait {
                    return Err(ExecError::Busy { path: executable.to_owned(), waited: exec.busy_wait });
                }
                // Nothing tells when the last writer closes the file (fanotify would ask for privileges).
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(200));
            }
            Err(source) => return Err(ExecError::Start { path: executable.to_owned(), source }),
        }
    }
}

fn kill(child: &Child) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // It may have ended by itself in the meantime.
        let _ = kill_process_group(group, Signal::KILL);
    }
}

/// Whether the plugin was ended by a signal. It keeps its number, and so its group's, until its end is taken note of.
fn was_killed(child: &Child) -> bool {
    let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) else { return false };
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    matches!(waitid(WaitId::Pid(pid), look), Ok(Some(status)) if status.killed() || status.dumped())
}

enum Ended {
    Exited,
    TooLate,
    TooMuch,
}

/// The conversation with one child.
struct Talk<'a> {
    stdin: &'a [u8],
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    relay: bool,
}

impl Talk<'_> {
    fn until_exit(&mut self, child: &mut Child, deadline: Instant) -> io::Result<Ended> {
        let mut stdin = child.stdin.take();
        let mut stdout = child.stdout.take();
        let mut stderr = child.stderr.take();
        nonblocking(stdin.as_ref())?;
        nonblocking(stdout.as_ref())?;
        nonblocking(stderr.as_ref())?;
        // Kernels before 5.3 have no pidfd: there the end of both outputs is the end of the plugin.
        let exit = pidfd(child);
        self.feed(&mut stdin)?;
        point::reached("delegate: configuration given");
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Ended::TooLate);
            }
            let exited = wait(stdin.as_ref(), stdout.as_ref(), stderr.as_ref(), exit.as_ref(), left)?;
            self.feed(&mut stdin)?;
            drain(&mut stdout, &mut |bytes| self.stdout.extend_from_slice(bytes))?;
            let relay = self.relay;
            drain(&mut stderr, &mut |bytes| keep_tail(&mut self.stderr, bytes, relay))?;
            if self.stdout.len() > STDOUT_LIMIT {
                return Ok(Ended::TooMuch);
            }
            if exited || (exit.is_none() && stdout.is_none() && stderr.is_none()) {
                return Ok(Ended::Exited);
            }
        }
    }

    /// Writes what the pipe takes and closes it at the end. A plugin need not read its stdin.
    fn feed(&mut self, stdin: &mut Option<ChildStdin>) -> io::Result<()> {
        while let Some(pipe) = stdin {
            if self.stdin.is_empty() {
                *stdin = None;
                break;
            }
            match pipe.write(self.stdin) {
                Ok(written) => self.stdin = self.stdin.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::BrokenPipe => *stdin = None,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn stderr_text(&self) -> String {
        String::from_utf8_lossy(&self.stderr).trim().to_owned()
    }
}

fn pidfd(child: &Child) -> Option<OwnedFd> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw)?;
    pidfd_open(pid, PidfdFlags::empty()).ok()
}

fn nonblocking(pipe: Option<&impl AsFd>) -> io::Result<()> {
    if let Some(pipe) = pipe {
        let flags = fcntl_getfl(pipe)?;
        fcntl_setfl(pipe, flags | OFlags::NONBLOCK)?;
    }
    Ok(())
}

/// Waits until something can be done; whether the child has exited.
fn wait(
    stdin: Option<&impl AsFd>,
    stdout: Option<&impl AsFd>,
    stderr: Option<&impl AsFd>,
    exit: Option<&OwnedFd>,
    left: Duration,
) -> io::Result<bool> {
    let mut fds = Vec::with_capacity(4);
    fds.extend(exit.map(|fd| PollFd::new(fd, PollFlags::IN)));
    fds.extend(stdin.map(|fd| PollFd::new(fd, PollFlags::OUT)));
    fds.extend(stdout.map(|fd| PollFd::new(fd, PollFlags::IN)));
    fds.extend(stderr.map(|fd| PollFd::new(fd, PollFlags::IN)));
    let timeout = Timespec::try_from(left).unwrap_or(Timespec { tv_sec: i64::from(i32::MAX), tv_nsec: 0 });
    match poll(&mut fds, Some(&timeout)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(exit.is_some() && fds.first().is_some_and(|fd| !fd.revents().is_empty()))
}

/// Reads what there is; drops the pipe at its end.
fn drain(pipe: &mut Option<impl Read>, take: &mut dyn FnMut(&[u8])) -> io::Result<()> {
    let mut buffer = [0; 8 << 10];
    while let Some(open) = pipe {
        match open.read(&mut buffer) {
            Ok(0) => *pipe = None,
            Ok(read) => take(buffer.get(..read).unwrap_or_default()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn keep_tail(tail: &mut Vec<u8>, bytes: &[u8], relay: bool) {
    if relay {
        // A runtime may have closed our stderr; the plugin's words are in the error all the same.
        let _ = io::stderr().write_all(bytes);
    }
    tail.extend_from_slice(bytes);
    if tail.len() > STDERR_TAIL {
        tail.drain(..tail.len() - STDERR_TAIL);
    }
}
