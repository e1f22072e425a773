//! The built `meta-cni`, called as a runtime calls it, with plugins that do as they are told and write down
//! every call. No test needs privileges: of a network namespace only its identity is looked at, so one of another kind
//! serves.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test may fail loudly.

mod add;
mod alone;
mod bad_input;
mod bounds;
mod by_hand;
mod check;
mod del;
mod gc;
mod harness;
mod isolation;
mod left_running;
mod locks;
mod logs;
mod merged_result;
mod misbehaviour;
mod multus;
mod owed;
mod retired;
mod side_by_side;
mod turns;
mod undo;
mod unfinished;
mod waiting;
