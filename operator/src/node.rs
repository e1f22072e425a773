//! The node role: makes the files of the node directory from what people declare.
//!
//! | to | see |
//! |---|---|
//! | make a network's file of a NetworkAttachmentDefinition | [`render`] |
//! | bring the node directory to what it should be | [`sync`] |
//! | know when a directory changes | [`changes`] |
//! | do all that for a directory of manifests, once or for ever | [`once`], [`follow`] |
//! | do it for the networks and pods of an API server | [`networks`], [`pods`] |
//! | tell the API server what pods got | [`records`], [`network_status`] |
//! | find what nobody will undo | [`abandoned`] |
//! | put the plugin on the host | [`install`] |
//! | tell the API server about the node | [`report`] |
//! | say whether the node is ready, and show what is known | [`readiness`], [`shown`] |
//! | run all of it | [`role`] |

pub mod abandoned;
pub mod changes;
pub mod follow;
pub mod install;
pub mod network_status;
pub mod networks;
pub mod pods;
pub mod readiness;
pub mod records;
pub mod render;
pub mod report;
pub mod role;
pub mod shown;
pub mod sync;

use std::fmt;
use std::io::{self, Write};
use std::path::Path;

use cni::error::chain_text;
use store::NodeDirectory;

use crate::manifests::{Manifests, ManifestsError};
use crate::permissions::Permissions;
use crate::verdict::count;
use crate::{Verdict, Wrong};
use sync::Summary;

/// What one look at a directory of manifests came to.
#[derive(Debug)]
pub struct Round {
    /// What was done to the node directory.
    pub summary: Summary,
    /// Everything that people have to mend, in the order of files and places.
    pub wrong: Vec<Wrong>,
    /// Objects of other kinds.
    pub others: usize,
}

impl Round {
    /// Reads the manifests and brings the node directory to what they say. If they cannot be read at all,
    /// nothing is changed, but that what is from before a reboot goes.
    pub fn run(
        manifests: &Path,
        dir: &NodeDirectory,
        permissions: &Permissions,
        stop: &dyn Fn() -> bool,
    ) -> Result<Self, ManifestsError> {
        sync::begin(dir);
        let manifests = Manifests::read(manifests, permissions.clone())?;
        let mut summary = sync::sync(dir, manifests.networks.into_values(), manifests.extent, stop);
        let mut wrong = manifests.wrong;
        wrong.append(&mut summary.refused);
        wrong.sort();
        Ok(Self { summary, wrong, others: manifests.others })
    }

    /// How it went.
    pub fn verdict(&self) -> Verdict {
        match (self.summary.failed.is_empty(), self.wrong.is_empty()) {
            (false, _) => Verdict::Unable,
            (true, false) => Verdict::Wrong,
            (true, true) => Verdict::Fine,
        }
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Summary { written, unchanged, removed, kept, failed, complete, .. } = &self.summary;
        write!(f, "{}: {written} written, {unchanged} unchanged", count(self.summary.wanted(), "network"))?;
        write!(f, "; {removed} removed, {} wrong", self.wrong.len())?;
        if self.others > 0 {
            write!(f, "; {} of other kinds passed over", count(self.others, "object"))?;
        }
        if *kept > 0 {
            write!(f, "; {kept} kept, because not everything could be read")?;
        }
        if !failed.is_empty() {
            write!(f, "; {} of the node directory failed", count(failed.len(), "operation"))?;
        }
        if *complete { Ok(()) } else { f.write_str("; the list is not complete") }
    }
}

/// One look at the manifests, told to people.
pub fn once(
    manifests: &Path,
    dir: &NodeDirectory,
    permissions: &Permissions,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<Verdict> {
    let round = match Round::run(manifests, dir, permissions, &|| false) {
        Ok(round) => round,
        Err(error) => {
            writeln!(err, "braid: {}", chain_text(&error))?;
            return Ok(Verdict::Unable);
        }
    };
    for wrong in &round.wrong {
        writeln!(err, "{wrong}")?;
    }
    for error in &round.summary.failed {
        writeln!(err, "braid: {}", chain_text(error))?;
    }
    writeln!(out, "{round}")?;
    Ok(round.verdict())
}
