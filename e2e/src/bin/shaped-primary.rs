//! Stand-ins for the plugins of well-known primaries; which one it is follows from the name under which
//! it is executed.

use std::process::ExitCode;

fn main() -> ExitCode {
    e2e::shaped_primary::main()
}
