//! Plugins that run, and how those are found whose caller was killed.
//!
//! A runtime that loses patience kills the process that calls plugins, not the plugins. Each plugin that runs
//! therefore has a note, and whoever works on the same thing next waits for what is noted ([`await_end`]).
//!
//! A note is made after the plugin was started and before it is given its configuration. If its caller is
//! killed in between, the plugin reads an empty or a cut-off configuration and can do nothing with it.
//!
//! A note is an empty file whose name says everything, so that it is there whole or not at all: the process,
//! in which namespace of process ids, when it was started, and when its time is over. Numbers of processes
//! are used again; number and start together are not. A directory of notes must be of one boot.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use rustix::time::{ClockId, clock_gettime};

/// How long the kernel may take to end a process that was killed.
const KILLING: Duration = Duration::from_secs(1);
/// How often the members of a process group are looked for, while some of them make more.
const ROUNDS: u32 = 16;

/// The note of a plugin that runs; dropping it takes the note away.
#[derive(Debug)]
pub(super) struct Note(Noted);

impl Note {
    /// Notes in `dir` that a child runs and may do so for `timeout`.
    pub(super) fn of_child(dir: &Path, child: u32, timeout: Duration) -> io::Result<Self> {
        let number = i32::try_from(child).ok().and_then(Pid::from_raw);
        let pid = number.ok_or_else(|| io::Error::other("a child without a number"))?;
        let started = Stat::of(pid)?.started;
        let over_ms = boot_ms().saturating_add(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
        let noted = Noted::new(dir, own_namespace()?, pid, started, over_ms);
        noted.make()?;
        Ok(Self(noted))
    }
}

impl Drop for Note {
    fn drop(&mut self) {
        self.0.remove();
    }
}

/// A plugin that still runs though its caller was killed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftRunning {
    /// Its process.
    pub process: i32,
    /// Its note.
    pub note: PathBuf,
    /// After this time it is killed by whoever waits for it.
    pub killed_after: Duration,
}

/// Waits until no plugin that is noted in `dir` runs any more; one whose time is over is killed with its
/// process group. The first one that still runs when `wait` is over is returned.
///
/// *Assumption*: the callers of these plugins are gone; the caller holds the lock that they held.
///
/// *Guarantees*: no other process is ever killed. A plugin that cannot be seen from here (of another
/// namespace of process ids, or on a kernel without pidfd) counts as running until its time is over.
pub fn await_end(dir: &Path, wait: Duration) -> io::Result<Option<LeftRunning>> {
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let until = Instant::now() + wait;
    for entry in entries {
        // What is named otherwise is no note.
        let Some(noted) = Noted::read(&entry?.path()) else { continue };
        if !noted.await_end(until)? {
            let (process, killed_after) = (noted.pid.as_raw_nonzero().get(), noted.time_left());
            return Ok(Some(LeftRunning { process, note: noted.path, killed_after }));
        }
        noted.remove();
    }
    // Who was killed before it had made its note, or after it had taken it away, left an empty directory.
    let _ = std::fs::remove_dir(dir);
    Ok(None)
}

/// Kills what a plugin has started and waits for its end. The plugin is a child of ours that has ended, or been
/// killed, and has not been waited for, so that the group's number is still its own.
pub(super) fn end_group_of(child: u32) {
    let Some(leader) = i32::try_from(child).ok().and_then(Pid::from_raw) else { return };
    for _ in 0..ROUNDS {
        // Errors mean that nothing can be seen of other processes, and nothing be done.
        let members = members(leader).unwrap_or_default();
        if members.is_empty() {
            break;
        }
        for member in &members {
            let _ = pidfd_send_signal(member, Signal::KILL);
            let _ = ends_within(member, KILLING);
        }
    }
}

/// What a note says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Noted {
    path: PathBuf,
    namespace: u64,
    pid: Pid,
    /// In the kernel's ticks since the boot.
    started: u64,
    /// In milliseconds since the boot.
    over_ms: u64,
}

/// What can be seen of a plugin that is noted.
enum Seen {
    Over,
    Runs(OwnedFd),
    /// It has ended, and these that it started have not.
    Started(Vec<OwnedFd>),
    Unseen,
}

impl Noted {
    fn new(dir: &Path, namespace: u64, pid: Pid, started: u64, over_ms: u64) -> Self {
        let path = dir.join(format!("{namespace}-{}-{started}-{over_ms}", pid.as_raw_nonzero()));
        Self { path, namespace, pid, started, over_ms }
    }

    fn read(path: &Path) -> Option<Self> {
        let mut numbers = path.file_name()?.to_str()?.split('-').map(|number| number.parse::<u64>().ok());
        let mut next = || numbers.next().flatten();
        let (namespace, pid, started, over_ms) = (next()?, next()?, next()?, next()?);
        let pid = Pid::from_raw(i32::try_from(pid).ok()?)?;
        let noted = Self::new(path.parent()?, namespace, pid, started, over_ms);
        (noted.path == path).then_some(noted)
    }

    fn make(&self) -> io::Result<()> {
        let dir = self.path.parent().unwrap_or(Path::new("/"));
        let create =
            || OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.path).map(drop);
        let mut made = create();
        // Beside us another note may be taken away, and the directory with it.
        for _ in 0..ROUNDS {
            if !made.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
                break;
            }
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
            made = create();
        }
        made
    }

    fn remove(&self) {
        // A note that stays is taken away by the next who finds that its process is gone; a directory with
        // other notes stays.
        let _ = std::fs::remove_file(&self.path);
        let _ = std::fs::remove_dir(self.path.parent().unwrap_or(Path::new("/")));
    }

    fn time_left(&self) -> Duration {
        Duration::from_millis(self.over_ms.saturating_sub(boot_ms()))
    }

    fn look(&self) -> io::Result<Seen> {
        if self.namespace != own_namespace()? {
            return Ok(Seen::Unseen);
        }
        // Opened before its start is compared: what was started then is what was opened.
        let process = match pidfd_open(self.pid, PidfdFlags::empty()) {
            Ok(process) => process,
            Err(Errno::SRCH) => return self.look_at_group(),
            Err(_) => return Ok(Seen::Unseen),
        };
        if !self.has_its_number() {
            return Ok(Seen::Over);
        }
        if ends_within(&process, Duration::ZERO)? { self.look_at_group() } else { Ok(Seen::Runs(process)) }
    }

    /// What is left of the group when the plugin has ended. A number is not given to another process as long as a
    /// group has it.
    fn look_at_group(&self) -> io::Result<Seen> {
        let members = members(self.pid)?;
        Ok(if members.is_empty() { Seen::Over } else { Seen::Started(members) })
    }

    /// Whether the number is still the plugin's; so until somebody has taken note of its end.
    fn has_its_number(&self) -> bool {
        Stat::of(self.pid).is_ok_and(|stat| stat.started == self.started)
    }

    /// Whether the plugin has ended by `until`, by itself or because its time was over.
    fn await_end(&self, until: Instant) -> io::Result<bool> {
        let process = match self.look()? {
            Seen::Over => return Ok(true),
            Seen::Unseen => return Ok(self.time_left().is_zero()),
            Seen::Runs(process) => process,
            Seen::Started(members) => return self.await_members(&members, until),
        };
        let wait = until.saturating_duration_since(Instant::now());
        if ends_within(&process, self.time_left().min(wait))? {
            return match self.look_at_group()? {
                Seen::Started(members) => self.await_members(&members, until),
                _ => Ok(true),
            };
        }
        if !self.time_left().is_zero() {
            return Ok(false);
        }
        self.kill_group(&process)?;
        ends_within(&process, KILLING)
    }

    /// Whether those that a plugin had started have ended by `until`. They are not killed: whether the group is not
    /// another one's by now cannot be told for certain. Once the plugin's time is over they are let go.
    fn await_members(&self, members: &[OwnedFd], until: Instant) -> io::Result<bool> {
        for member in members {
            let wait = until.saturating_duration_since(Instant::now());
            if !ends_within(member, self.time_left().min(wait))? && !self.time_left().is_zero() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Kills the plugin and what it has started, each through a descriptor of the very process. That the
    /// group is still the plugin's is known as long as the plugin is there; it is held, and ends last.
    fn kill_group(&self, leader: &OwnedFd) -> io::Result<()> {
        // Errors mean that a process has ended by itself.
        let _ = pidfd_send_signal(leader, Signal::STOP);
        for _ in 0..ROUNDS {
            let members = members(self.pid)?;
            if members.is_empty() || !self.has_its_number() {
                break;
            }
            for member in &members {
                let _ = pidfd_send_signal(member, Signal::KILL);
            }
            for member in &members {
                ends_within(member, KILLING)?;
            }
        }
        let _ = pidfd_send_signal(leader, Signal::KILL);
        Ok(())
    }
}

/// The living processes of a group, but for its leader.
fn members(leader: Pid) -> io::Result<Vec<OwnedFd>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let pid = name.to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
        let Some(pid) = pid.filter(|&pid| pid != leader) else { continue };
        let is_member = || Stat::of(pid).is_ok_and(|stat| stat.group == leader.as_raw_nonzero().get());
        if !is_member() {
            continue;
        }
        let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
        // Once more: the number may have become another one's before it was opened.
        if is_member() && !ends_within(&process, Duration::ZERO)? {
            found.push(process);
        }
    }
    Ok(found)
}

fn ends_within(process: &OwnedFd, wait: Duration) -> io::Result<bool> {
    let until = Instant::now() + wait;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).unwrap_or(Timespec { tv_sec: 3600, tv_nsec: 0 });
        match poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&timeout)) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Milliseconds since the boot, of suspended machines too.
fn boot_ms() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let part = |number: i64| u64::try_from(number).unwrap_or_default();
    part(now.tv_sec) * 1000 + part(now.tv_nsec) / 1_000_000
}

/// Which namespace of process ids numbers are of.
fn own_namespace() -> io::Result<u64> {
    std::fs::metadata("/proc/self/ns/pid").map(|meta| meta.ino())
}

/// What the kernel tells of a process.
struct Stat {
    group: i32,
    started: u64,
}

impl Stat {
    fn of(pid: Pid) -> io::Result<Self> {
        // The kernel says 0 for its length: read in the usual way it would take six reads.
        let mut text = String::with_capacity(1 << 10);
        File::open(format!("/proc/{}/stat", pid.as_raw_nonzero()))?.read_to_string(&mut text)?;
        Self::parse(&text).ok_or_else(|| io::Error::other(format!("/proc/*/stat reads {text:?}")))
    }

    /// The name, in parentheses, may hold anything; fields are counted behind it.
    fn parse(text: &str) -> Option<Self> {
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        Some(Self { group: fields.get(2)?.parse().ok()?, started: fields.get(19)?.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command, Stdio};

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    /// A process group that sleeps: a shell and a child of its, which has begun.
    fn group() -> Child {
        let mut command = Command::new("sh");
        command
            .args(["-c", "sleep 1000 & echo; wait"])
            .process_group(0)
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let begun = io::Read::read(child.stdout.as_mut().unwrap(), &mut [0]).unwrap();
        assert_eq!(begun, 1);
        child
    }

    fn pid(child: &Child) -> Pid {
        Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap()
    }

    /// A note that its maker did not live to take away.
    fn left(dir: &Path, child: &Child, timeout: Duration) -> PathBuf {
        let note = Note::of_child(dir, child.id(), timeout).unwrap();
        let path = note.0.path.clone();
        std::mem::forget(note);
        path
    }

    fn end(mut child: Child) {
        let _ = rustix::process::kill_process_group(pid(&child), Signal::KILL);
        child.wait().unwrap();
    }

    #[test]
    fn a_plugin_whose_time_is_over_is_killed_with_all_of_its_group() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("notes");
        let mut child = group();
        left(&dir, &child, Duration::ZERO);
        let members = members(pid(&child)).unwrap();
        assert_eq!(members.len(), 1);
        assert_eq!(await_end(&dir, Duration::ZERO).unwrap(), None);
        assert!(!child.wait().unwrap().success());
        assert!(ends_within(&members[0], LONG).unwrap());
        assert!(!dir.exists(), "note and directory are gone");
    }

    #[test]
    fn a_plugin_whose_time_is_not_over_is_waited_for_and_left_alone() {
        let temp = tempfile::tempdir().unwrap();
        let mut child = group();
        let note = left(temp.path(), &child, LONG);
        let found = await_end(temp.path(), Duration::from_millis(20)).unwrap().unwrap();
        assert_eq!((found.process, &found.note), (pid(&child).as_raw_nonzero().get(), &note));
        assert!(found.killed_after <= LONG);
        assert!(child.try_wait().unwrap().is_none());
        end(child);
        assert_eq!(await_end(temp.path(), LONG).unwrap(), None);
    }

    #[test]
    fn another_process_that_got_the_number_is_never_killed() {
        let temp = tempfile::tempdir().unwrap();
        let mut child = group();
        let started = Stat::of(pid(&child)).unwrap().started;
        Noted::new(temp.path(), own_namespace().unwrap(), pid(&child), started - 1, 0).make().unwrap();
        assert_eq!(await_end(temp.path(), LONG).unwrap(), None);
        assert!(child.try_wait().unwrap().is_none());
        // Numbers of another namespace say nothing here.
        for (over_ms, runs) in [(boot_ms() + 60_000, true), (0, false)] {
            let noted = Noted::new(&temp.path().join("b"), 1, pid(&child), started, over_ms);
            noted.make().unwrap();
            let found = await_end(&temp.path().join("b"), LONG).unwrap();
            assert_eq!(found.is_some(), runs);
            noted.remove();
        }
        assert!(child.try_wait().unwrap().is_none());
        end(child);
    }

    #[test]
    fn what_a_plugin_started_that_has_ended_is_waited_for_until_its_time_is_over() {
        let temp = tempfile::tempdir().unwrap();
        let mut child = group();
        for timeout in [Duration::from_millis(300), LONG] {
            left(&temp.path().join(timeout.as_millis().to_string()), &child, timeout);
        }
        let members = members(pid(&child)).unwrap();
        child.kill().unwrap();
        // Not yet taken note of, and then gone.
        let long = temp.path().join(LONG.as_millis().to_string());
        assert!(await_end(&long, Duration::from_millis(20)).unwrap().is_some());
        child.wait().unwrap();
        assert!(await_end(&long, Duration::from_millis(20)).unwrap().is_some());
        assert_eq!(await_end(&temp.path().join("300"), LONG).unwrap(), None, "its time is over");
        assert!(!ends_within(&members[0], Duration::ZERO).unwrap(), "it is let go, not killed");
        pidfd_send_signal(&members[0], Signal::KILL).unwrap();
        assert_eq!(await_end(&long, LONG).unwrap(), None);
    }

    #[test]
    fn what_a_plugin_started_that_ends_while_it_is_waited_for_is_waited_for_too() {
        let temp = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command
            .args(["-c", "sleep 1000 & sleep 0.2"])
            .process_group(0)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        left(temp.path(), &child, LONG);
        let short = Duration::from_secs(2);
        assert!(await_end(temp.path(), short).unwrap().is_some_and(|left| left.killed_after <= LONG));
        assert!(child.try_wait().unwrap().is_some(), "it has ended");
        let members = members(pid(&child)).unwrap();
        pidfd_send_signal(&members[0], Signal::KILL).unwrap();
        assert_eq!(await_end(temp.path(), LONG).unwrap(), None);
    }

    #[test]
    fn notes_are_told_from_other_files() {
        for (name, is_note) in [("1-2-3-4", true), ("1-0-3-4", false), ("1-2-3", false), ("1-2-3-4-5", false)]
        {
            assert_eq!(Noted::read(&Path::new("/x").join(name)).is_some(), is_note, "{name}");
        }
        let stat = Stat::parse("7 (a) b) S 1 6 5 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 777 1 2").unwrap();
        assert_eq!((stat.group, stat.started), (6, 777));
        assert!(Stat::parse("7 (a) Z").is_none());
    }
}
