//! Programs of the machine: whether they are there, and running them.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, ensure};

/// Whether a program is found on `PATH`.
pub fn on_path(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}

/// Says that a program is not there whose package somebody can install.
pub(crate) fn not_installed(package: &str) -> String {
    format!("Debian's package {package} is not installed")
}

/// Runs a program and returns what it printed; its errors are part of the error.
pub fn output(command: &mut Command) -> Result<String> {
    finish(command.stdin(Stdio::null()))
}

/// The same for a program that reads a file.
pub fn output_from(command: &mut Command, file: &Path) -> Result<String> {
    let file = File::open(file).with_context(|| format!("opening {}", file.display()))?;
    finish(command.stdin(file))
}

fn finish(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    printed(&name, &command.output().with_context(|| format!("running {name}"))?)
}

/// What a program printed that ended well; its errors are part of the error.
fn printed(name: &str, output: &Output) -> Result<String> {
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name} ended with {}: {}", output.status, errors.trim());
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

/// The same for a program that reads `stdin`.
pub fn output_of(command: &mut Command, stdin: &str) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("running {name}"))?;
    if let Some(mut pipe) = child.stdin.take() {
        // A program that refuses its arguments need not read.
        let _ = pipe.write_all(stdin.as_bytes());
    }
    printed(&name, &child.wait_with_output().with_context(|| format!("waiting for {name}"))?)
}

/// A drop can do no more about an error than show it.
#[allow(clippy::print_stderr)]
pub(crate) fn report(error: &anyhow::Error) {
    eprintln!("cleaning up after a test: {error:#}");
}
