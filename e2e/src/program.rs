//! Programs of the machine: whether they are there, and running them.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// Whether a program is found on `PATH`.
pub fn on_path(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}

/// Runs a program and returns what it printed; its errors are part of the error.
pub fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("running {name}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name} ended with {}: {}", output.status, errors.trim());
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

/// A drop can do no more about an error than show it.
#[allow(clippy::print_stderr)]
pub(crate) fn report(error: &anyhow::Error) {
    eprintln!("cleaning up after a test: {error:#}");
}
