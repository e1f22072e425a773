//! The chart, with the real Helm engine: what it renders, what it refuses, what is made from it, and what an API server
//! makes of it.

// Helpers of tests fail as tests do.
#![allow(clippy::unwrap_used, clippy::panic)]

mod copies;
mod deprecated;
mod helm;
mod installing;
mod match_conditions;
mod objects;
mod pod_security;
mod rendering;
mod rights;
mod values;
