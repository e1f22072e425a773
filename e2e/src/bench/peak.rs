//! The peak of a process's memory, as the kernel tells it to whoever waits for the process.
//!
//! Linux counts what a process had before it became another program, and a child of ours begins as us. So a run
//! of this program that has done nothing yet starts and waits for the one that is measured.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use wait4::Wait4;

/// The argument that asks for it.
pub(super) const WORD: &str = "peak-rss";

/// `bench peak-rss FILE PROGRAM`: runs the program in its own place and writes its peak to the file, in KiB.
pub(super) fn main(file: &OsStr, program: &OsStr) -> ExitCode {
    run(file, program).unwrap_or(ExitCode::FAILURE)
}

fn run(file: &OsStr, program: &OsStr) -> Result<ExitCode> {
    let ended = Command::new(program).spawn()?.wait4()?;
    std::fs::write(file, (ended.rusage.maxrss / 1024).to_string())?;
    Ok(if ended.status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A script that can stand where a plugin is looked for: it runs the program as [`main`] does.
pub(super) fn script(program: &Path, file: &Path) -> Result<String> {
    let own = std::env::current_exe().context("finding the running program")?;
    Ok(format!("#!/bin/sh\nexec '{}' {WORD} '{}' '{}'\n", own.display(), file.display(), program.display()))
}
