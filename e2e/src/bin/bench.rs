//! `make bench`: measures what Braid adds, on real plugins, and writes `target/bench/summary.json`.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    e2e::bench::main(&arguments)
}
