//! One child process, fed and read by one thread, with a deadline.
//!
//! stdin, stdout, stderr and the child's pidfd are waited on together, so that neither a plugin that reads
//! late nor one that prints much can block, and a child that a plugin leaves behind with our pipes open
//! does not hold us.

use std::ffi::OsString;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::ioctl_fionread;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open, waitid,
};

use super::running::{self, Note};
use super::{ExecError, ProcessExec};
use crate::point;

/// A result is a few KiB, and a log that people read is not much longer; a plugin that writes this much to stdout or
/// to stderr is broken. What goes to stderr is held by runtimes, too.
const OUTPUT_LIMIT: usize = 16 << 20;
/// How much of one output is read before the deadline, the limit and the other pipes are looked at again: a pipe's
/// usual size.
const ROUND: usize = 64 << 10;
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
    let mut talk = Talk { stdin, stdout: Vec::new(), stderr: Vec::new(), said: 0, relay: exec.relay_stderr };
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
        Ok(Ended::TooMuch) => return Err(ExecError::TooMuch { path, limit: OUTPUT_LIMIT }),
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
    /// The end of what came on stderr, and how much that was in all.
    stderr: Vec<u8>,
    said: usize,
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
            // What the plugin wrote before its end is in the pipes by now. What comes later is of somebody whom it
            // left behind with them, perhaps without end.
            let most = |pipe: Option<BorrowedFd<'_>>| if exited { waiting(pipe) } else { ROUND };
            let (of_stdout, of_stderr) =
                (most(stdout.as_ref().map(AsFd::as_fd)), most(stderr.as_ref().map(AsFd::as_fd)));
            drain(&mut stdout, of_stdout, &mut |bytes| self.stdout.extend_from_slice(bytes))?;
            drain(&mut stderr, of_stderr, &mut |bytes| self.hear(bytes))?;
            if self.stdout.len() > OUTPUT_LIMIT || self.said > OUTPUT_LIMIT {
                return Ok(Ended::TooMuch);
            }
            if exited || (exit.is_none() && stdout.is_none() && stderr.is_none()) {
                return Ok(Ended::Exited);
            }
        }
    }

    /// Takes bytes of stderr.
    fn hear(&mut self, bytes: &[u8]) {
        self.said = self.said.saturating_add(bytes.len());
        keep_tail(&mut self.stderr, bytes, self.relay);
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

/// How many bytes are in a pipe at this moment.
fn waiting(pipe: Option<BorrowedFd<'_>>) -> usize {
    let held = pipe.and_then(|pipe| ioctl_fionread(pipe).ok());
    held.and_then(|held| held.try_into().ok()).unwrap_or_default()
}

/// Reads what there is, but no more than `most`: who writes without pause would hold us here. Drops the pipe at its
/// end.
fn drain(pipe: &mut Option<impl Read>, most: usize, take: &mut dyn FnMut(&[u8])) -> io::Result<()> {
    let mut buffer = [0; 8 << 10];
    let mut left = most;
    while let Some(open) = pipe
        && left > 0
    {
        let part = left.min(buffer.len());
        match open.read(buffer.get_mut(..part).unwrap_or_default()) {
            Ok(0) => *pipe = None,
            Ok(read) => {
                take(buffer.get(..read).unwrap_or_default());
                left = left.saturating_sub(read);
            }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_that_is_never_empty_is_left_after_a_round() {
        let mut pipe = Some(io::repeat(b'x'));
        let mut taken = 0;
        let mut take = |bytes: &[u8]| {
            taken += bytes.len();
            assert!(taken <= ROUND, "neither the limit nor the deadline is looked at");
        };
        drain(&mut pipe, ROUND, &mut take).unwrap();
        assert_eq!(taken, ROUND);
        assert!(pipe.is_some());
    }

    #[test]
    fn a_pipe_is_dropped_at_its_end() {
        let mut pipe = Some(&b"abc"[..]);
        let mut taken = Vec::new();
        drain(&mut pipe, ROUND, &mut |bytes| taken.extend_from_slice(bytes)).unwrap();
        assert_eq!((taken.as_slice(), pipe), (&b"abc"[..], None));
    }

    #[test]
    fn what_is_in_a_pipe_at_a_moment_is_all_that_is_read_after_the_end() {
        let (reader, mut writer) = io::pipe().unwrap();
        writer.write_all(&[b'x'; 10_000]).unwrap();
        assert_eq!((waiting(Some(reader.as_fd())), waiting(None)), (10_000, 0));
        let mut pipe = Some(reader);
        let mut taken = 0;
        // Somebody else writes on as we read.
        let mut take = |bytes: &[u8]| {
            taken += bytes.len();
            writer.write_all(b"x").unwrap();
        };
        drain(&mut pipe, 10_000, &mut take).unwrap();
        assert_eq!(taken, 10_000);
    }
}
