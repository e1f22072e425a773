//! The directory of servers that a test starts, and the guardian that outlives the test.
//!
//! What all tests of a process share is never dropped, and a killed test drops nothing. So a small shell process waits
//! for the end of this one, and then kills the servers, removes their control groups and removes the directory.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

use crate::leftovers;
use crate::program::report;

/// Reads until its input is closed, which the kernel does when the owner ends, however it ends. A process whose id
/// has been given to another program does not name the directory. A control group goes when its processes are gone,
/// which takes a moment. The second `rm` is for what a server wrote last.
const GUARDIAN: &str = r#"trap '' INT TERM HUP
read -r _
for pid in $(cat "$1"/*.pid 2>/dev/null); do
    grep -qF "$1/" "/proc/$pid/cmdline" 2>/dev/null && kill -9 "$pid"
done
for group in $(find /sys/fs/cgroup -depth -type d -path "*/${1##*/}*" 2>/dev/null); do
    rmdir "$group" 2>/dev/null || { sleep 1; rmdir "$group"; }
done
rm -rf "$1" || rm -rf "$1""#;

/// A directory, and its guardian.
#[derive(Debug)]
pub(crate) struct Home {
    dir: PathBuf,
    guardian: Child,
}

impl Home {
    /// A new directory, whose name is `prefix` and the owner's process id. What tests have left that were killed
    /// together with their guardian is taken away.
    pub(crate) fn new(prefix: &str) -> Result<Self> {
        for orphan in leftovers::orphans(prefix)? {
            // Another test may be clearing it too.
            leftovers::clear(&orphan).unwrap_or_else(|error| report(&error));
        }
        let dir = leftovers::directory(prefix)?;
        let guardian = Command::new("sh")
            .args(["-c", GUARDIAN, "guardian"])
            .arg(&dir)
            .stdin(Stdio::piped())
            // Whoever reads what the test prints is not to wait for the guardian.
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C in a terminal is for the test.
            .process_group(0)
            .spawn()
            .context("starting the guardian of the servers")?;
        Ok(Self { dir, guardian })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Home {
    /// The servers have been dropped before.
    fn drop(&mut self) {
        drop(self.guardian.stdin.take());
        let _ = self.guardian.wait();
        if self.dir.exists()
            && let Err(error) = leftovers::clear(&self.dir)
        {
            report(&error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control_plane::Server;

    #[test]
    fn the_guardian_ends_the_servers_and_removes_the_directory_when_the_owner_is_gone() {
        let mut home = Home::new("braid-home.").unwrap();
        let mut servers = ["one", "two"].map(|name| {
            let log = home.path().join(format!("{name}.log")).display().to_string();
            Server::start(home.path(), name, Path::new("tail"), &["-f".to_owned(), log]).unwrap()
        });
        let mut somebody =
            Command::new("sh").args(["-c", "read -r _"]).stdin(Stdio::piped()).spawn().unwrap();
        std::fs::write(home.path().join("ended.pid"), format!("{}\n", somebody.id())).unwrap();
        // As the kernel does for a process that ends.
        drop(home.guardian.stdin.take());
        home.guardian.wait().unwrap();
        assert!(!home.path().exists());
        for server in &mut servers {
            let mut end = String::new();
            crate::wait::until("the server is killed", || {
                end = server.ensure_running().err().map(|error| error.to_string()).unwrap_or_default();
                Ok(!end.is_empty())
            })
            .unwrap();
            assert!(end.contains("signal: 9"), "{end}");
        }
        assert!(somebody.try_wait().unwrap().is_none(), "whoever has the id of a server now goes on");
        somebody.kill().unwrap();
        somebody.wait().unwrap();
    }
}
