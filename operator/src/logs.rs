//! The log: JSON lines on stderr.

use std::io;

use tracing_subscriber::filter::LevelFilter;

/// Sends what is told from now on, down to `level`, to stderr. A second call has no effect.
pub fn start(level: LevelFilter) {
    let lines = tracing_subscriber::fmt().json().flatten_event(true).with_target(false);
    // Fails only if somebody listens already.
    let _ = lines.with_max_level(level).with_writer(io::stderr).try_init();
}
