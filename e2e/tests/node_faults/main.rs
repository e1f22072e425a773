//! Faults of the node role: it is killed, its system calls fail, and files of the node directory are not what they
//! should be. After each the next start leads to the right state, and so do the next calls of `meta-cni`; no file
//! blocks either.
//!
//! | to | see |
//! |---|---|
//! | put a fault into a node | `fault` |
//! | spoil a file or a directory | `damage` |
//! | start anew, and see that all is right | `recovery` |
//!
//! Everything is real but the API server, which a folder of manifests stands in for. `BRAID_NODE_FAULTS` and
//! `BRAID_SEED` are those of [`e2e::chance`].

// Helpers of tests fail as tests do.
#![allow(clippy::unwrap_used, clippy::panic)]

mod damage;
mod fault;
mod recovery;

use e2e::chance::Chance;
use e2e::plain_node;
use e2e::requirement::{Need, met};
use fault::{Faults, Stage};

#[test]
fn no_fault_of_the_node_role_or_of_a_file_outlives_the_next_start() {
    if !met(&[Need::Program("strace", "strace"), Need::Program("setpriv", "util-linux")]) {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let plugin = plain_node::plugin(temp.path()).unwrap();
    let stage = Stage::new(&plugin).unwrap();
    let mut chance = Chance::new("BRAID_NODE_FAULTS", 400).unwrap();
    let faults = Faults::of(&stage).unwrap().pick(&mut chance);
    assert!(faults.len() >= chance.count.min(350), "{} faults", faults.len());
    chance.try_all(&faults, |fault| format!("{fault:?}"), |fault| stage.play(fault)).unwrap();
}
