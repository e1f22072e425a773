//! What programs did to the disk of a node, step by step, and what of it was promised when each step had ended.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

use crate::disk::{self, Disk, Tree};
use crate::trace;

/// The boot after the power cut is this one: what was written before it says it was another.
const EARLIER_BOOT: &str = "0000000e-0000-4000-8000-000000000000";
const EARLIER_BOOT_NUMBER: u32 = 14;

/// Steps of one scenario on one node.
#[derive(Debug)]
pub(crate) struct Recording<Step> {
    pub(crate) disk: Disk,
    base: PathBuf,
    /// Each step, and how many changes there were when it began and when it had ended.
    pub(crate) steps: Vec<(Step, usize, usize)>,
}

impl<Step> Recording<Step> {
    /// Begins with what is in the directories `roots` below `base`.
    pub(crate) fn new(base: &Path, roots: &[&str]) -> Result<Self> {
        Ok(Self { disk: Disk::new(base, roots)?, base: base.to_owned(), steps: Vec::new() })
    }

    /// Does a step: `run` is given a command of `program` to complete, which leaves a trace.
    pub(crate) fn step(
        &mut self,
        step: Step,
        program: &Path,
        run: impl FnOnce(Command) -> Result<()>,
    ) -> Result<()> {
        let file = self.base.join(format!("trace-{}", self.steps.len()));
        let begun = self.disk.changes.len();
        run(trace::traced(program, &file))?;
        for call in trace::read(&file)? {
            self.disk.take(call)?;
        }
        self.steps.push((step, begun, self.disk.changes.len()));
        Ok(())
    }

    /// Where something has become true.
    pub(crate) fn marks(&self) -> Vec<usize> {
        self.steps.iter().map(|(_, _, ended)| *ended).collect()
    }

    /// Steps that had ended at a power cut, and the one that was not over.
    pub(crate) fn at(&self, cut: usize) -> (impl Iterator<Item = &Step>, Option<&Step>) {
        let ended = self.steps.iter().filter(move |(_, _, ended)| *ended <= cut).map(|(step, _, _)| step);
        let open = self.steps.iter().find(|(_, begun, ended)| *begun < cut && cut < *ended);
        (ended, open.map(|(step, _, _)| step))
    }

    /// Puts what a power cut left where the next boot finds it, in the directory `base`.
    pub(crate) fn put(&self, tree: &Tree, base: &Path) -> Result<()> {
        ensure!(self.base.as_os_str().len() == base.as_os_str().len(), "bytes of files would move");
        let boot = store::boot::boot_id();
        let number = u32::from_str_radix(boot.get(..8).unwrap_or_default(), 16)?;
        let temporary = (format!(".new-{number}-"), format!(".new-{EARLIER_BOOT_NUMBER}-"));
        let renamed = |path: &PathBuf| {
            let path = replaced(path.as_os_str().as_bytes(), temporary.0.as_bytes(), temporary.1.as_bytes());
            PathBuf::from(OsString::from_vec(path))
        };
        let tree: Tree = tree.iter().map(|(path, file)| (renamed(path), file.clone())).collect();
        disk::put(&tree, base, &|data| {
            self.translated(&replaced(data, boot.as_bytes(), EARLIER_BOOT.as_bytes()), base)
        })
    }

    /// A text that names the recorded node's directory, as it is on a node in `base`.
    pub(crate) fn translated(&self, text: &[u8], base: &Path) -> Vec<u8> {
        replaced(text, self.base.as_os_str().as_bytes(), base.as_os_str().as_bytes())
    }
}

fn replaced(text: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.first() {
        if let Some(after) = rest.strip_prefix(from) {
            out.extend(to);
            rest = after;
        } else {
            out.push(*first);
            rest = &rest[1..];
        }
    }
    out
}

/// Every file below a directory that a writer has not finished.
pub(crate) fn temporary_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten() {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                dirs.push(entry.path());
            } else if entry.file_name().to_string_lossy().starts_with(".new-") {
                found.push(entry.path());
            }
        }
    }
    Ok(found)
}
