//! `make demo`: one pod, several networks, on real plugins and without a cluster.

use std::process::ExitCode;

fn main() -> ExitCode {
    e2e::demo::main()
}
