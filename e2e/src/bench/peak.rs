//! The peak of a process's memory, its children's not counted.
//!
//! The kernel keeps the peak while the process lives, so a run of this program stands in the process's place, starts
//! it and looks until it has ended. What getrusage tells is no use: it is the greatest of the process and its children.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

/// The argument that asks for it.
pub(super) const WORD: &str = "peak-rss";

/// `bench peak-rss FILE PROGRAM`: runs the program in its own place and writes its peak to the file, in KiB.
pub(super) fn main(file: &OsStr, program: &OsStr) -> ExitCode {
    run(file, program).unwrap_or(ExitCode::FAILURE)
}

fn run(file: &OsStr, program: &OsStr) -> Result<ExitCode> {
    let mut child = Command::new(program).spawn()?;
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    let ended = loop {
        // The peak never falls: only what comes after the last look is missed, which is far less than a millisecond.
        peak = std::fs::read_to_string(&status).ok().and_then(|text| peak_of(&text)).unwrap_or(peak);
        if let Some(ended) = child.try_wait()? {
            break ended;
        }
    };
    std::fs::write(file, peak.to_string())?;
    Ok(if ended.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The peak of resident memory in `/proc/<pid>/status`, in KiB; none once the process has ended.
fn peak_of(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

/// A script that can stand where a plugin is looked for: it runs the program as [`main`] does.
pub(super) fn script(program: &Path, file: &Path) -> Result<String> {
    let own = std::env::current_exe().context("finding the running program")?;
    Ok(format!("#!/bin/sh\nexec '{}' {WORD} '{}' '{}'\n", own.display(), file.display(), program.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_read_while_there_is_one() {
        assert_eq!(peak_of("Name:\tx\nVmHWM:\t    1464 kB\nVmRSS:\t    1200 kB\n"), Some(1464));
        assert_eq!(peak_of("Name:\tx\nState:\tZ (zombie)\n"), None);
    }
}
