//! `braid controller` beside a real API server: leading, judging, summing up, letting pods onto nodes, and
//! answering admission requests over TLS.

// Helpers of tests fail as tests do.
#![allow(clippy::unwrap_used, clippy::panic)]

mod admission;
mod faults;
mod leading;
mod rights;
mod scene;
mod secrets;
mod startup_taint;
mod status;
