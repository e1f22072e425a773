//! Conversations with an API server that a real one cannot be made to hold: expired watches, overload, answers
//! that end in their middle, silence, data that has gone back. The server is a script on loopback; client and node
//! directory are real.

// Helpers of tests fail as tests do.
#![allow(clippy::unwrap_used, clippy::panic)]

mod line;
mod networks;
mod server;
mod watches;
