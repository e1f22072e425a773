//! `braid node` beside a real API server, with pods whose runtime is simulated and calls the real `meta-cni` in
//! real network namespaces.

// Helpers of tests fail as tests do.
#![allow(clippy::unwrap_used, clippy::panic)]

mod faults;
mod hosts;
mod leaving;
mod networks;
mod outages;
mod pods;
mod rights;
mod scene;
mod secrets;
