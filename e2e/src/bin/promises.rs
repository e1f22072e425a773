//! `make promises`: each guard of docs/promises.md is taken away, and its test has to fail.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    e2e::promises::main(&arguments)
}
