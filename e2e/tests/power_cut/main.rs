//! Power cuts: what the real programs write and sync on a node is recorded, and the node starts anew from what a file
//! system may have kept of it at any moment.
//!
//! | to | see |
//! |---|---|
//! | know what a program does to files (strace) | `trace` |
//! | know what a disk may keep of it | `disk` |
//! | choose power cuts | `cuts` |
//! | record a scenario, and put what is left on another node | `recording` |
//! | attach and detach containers, and start from what is left | `attachments` |
//! | put the plugin on the host, upgrade it and take it away | `host` |
//!
//! `/run` is in memory: the next boot begins without it. `BRAID_POWER_CUTS` and `BRAID_SEED` are those of
//! [`e2e::chance`].

// Helpers of tests fail as tests do.
#![allow(clippy::unwrap_used, clippy::panic)]

mod attachments;
mod cuts;
mod disk;
mod host;
mod recording;
mod trace;

use e2e::chance::Chance;
use e2e::plain_node;
use e2e::requirement::{Need, met};

const NEEDS: [Need; 1] = [Need::Program("strace", "strace")];
/// So many power cuts of each scenario, at most.
const VARIABLE: &str = "BRAID_POWER_CUTS";

#[test]
fn a_power_cut_at_any_moment_loses_no_attachment_and_leaves_nothing_of_it() {
    if !met(&NEEDS) {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let plugin = plain_node::plugin(temp.path()).unwrap();
    let base = tempfile::tempdir().unwrap();
    let scene = attachments::Scene::record(base.path(), &plugin).unwrap();
    let mut chance = Chance::new(VARIABLE, 300).unwrap();
    let recording = &scene.recording;
    let cuts = cuts::cuts(&recording.disk, &recording.marks(), &scene.owed(), &mut chance);
    assert!(cuts.len() >= chance.count.min(200), "{} power cuts", cuts.len());
    chance.try_all(&cuts, |cut| cut.told.clone(), |cut| scene.check(cut)).unwrap();
}

#[test]
fn a_power_cut_at_any_moment_leaves_the_plugin_whole_and_there_before_its_configuration() {
    if !met(&NEEDS) {
        return;
    }
    let base = tempfile::tempdir().unwrap();
    let scene = host::Scene::record(base.path()).unwrap();
    let mut chance = Chance::new(VARIABLE, 200).unwrap();
    let recording = &scene.recording;
    let cuts = cuts::cuts(&recording.disk, &recording.marks(), &[], &mut chance);
    assert!(cuts.len() >= chance.count.min(60), "{} power cuts", cuts.len());
    chance.try_all(&cuts, |cut| cut.told.clone(), |cut| scene.check(cut)).unwrap();
}

#[test]
fn what_a_role_left_that_was_killed_while_it_installed_is_whole_and_completed_by_the_next() {
    if !met(&NEEDS) {
        return;
    }
    let base = tempfile::tempdir().unwrap();
    let scene = host::Scene::record(base.path()).unwrap();
    let points: Vec<String> = scene.points().unwrap().into_iter().collect();
    let installs = points.iter().filter(|point| point.starts_with("install: ")).count();
    assert_eq!(installs, 3, "{points:?}");
    let chance = Chance::new(VARIABLE, points.len()).unwrap();
    chance.try_all(&points, Clone::clone, |point| scene.killed_at(point)).unwrap();
}
