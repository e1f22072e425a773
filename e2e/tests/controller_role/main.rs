//! `braid controller` beside a real API server: leading, judging, summing up, and answering admission requests
//! over TLS.

// Helpers of tests fail as tests do.
#![allow(clippy::unwrap_used, clippy::panic)]

mod admission;
mod leading;
mod rights;
mod scene;
mod status;
