//! Brings the networks of the node directory to what they should be.
//!
//! Files that differ are written, those of networks that are no longer wanted are removed, temporary files of
//! killed writers are swept, and then the node's facts say that the list is complete, or as complete as what
//! could be read. Each step is safe to be
//! killed in and to be done again. Attachments that run are not touched: they live by their records.

use std::collections::BTreeSet;

use cni::error::chain_text;
use cni::npwg::NetworkRef;
use cni::point;
use store::network::{Outcome, RenderedNetwork};
use store::node::NodeFacts;
use store::{NodeDirectory, StoreError, atomic, shape};
use tracing::{info, warn};

use crate::Wrong;

/// Who writes the node's facts.
const OPERATOR: &str = concat!("braid ", env!("CARGO_PKG_VERSION"));

/// Whether the networks that are known are all that there should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Extent {
    /// All: whatever else is on the node is to go.
    #[default]
    All,
    /// Some may be missing, because something could not be read: nothing is removed, and the node's facts
    /// call the list partial. The node can be used: one bad file must not hold up every pod after a boot.
    Part,
}

/// What was done.
#[derive(Debug, Default)]
pub struct Summary {
    /// Networks whose file was written.
    pub written: usize,
    /// Networks whose file said the same already.
    pub unchanged: usize,
    /// Networks whose file was removed.
    pub removed: usize,
    /// Networks that nobody names any more, kept because not everything could be read.
    pub kept: usize,
    /// Networks that cannot be used, with the reason.
    pub refused: Vec<Wrong>,
    /// What the node directory did not take.
    pub failed: Vec<StoreError>,
    /// Whether the node's facts now say that the list is complete.
    pub complete: bool,
}

impl Summary {
    /// Networks that there should be.
    pub fn wanted(&self) -> usize {
        self.written + self.unchanged
    }

    fn note<T>(&mut self, result: Result<T, StoreError>) -> Option<T> {
        result.map_err(|error| self.failed.push(error)).ok()
    }
}

/// Forgets what is from before a reboot, where the run directory is not in memory: a network that was edited
/// while the node was down must not be used in its old form. Before that, directories that are in the place of files,
/// files in the place of directories, and modes that keep us out: nothing in the node directory may block a start.
/// To be called before anything is written.
pub fn begin(dir: &NodeDirectory) {
    match shape::restore(dir) {
        Ok(changed) => {
            for path in changed {
                warn!(path = %path.display(), "no such file or directory as belongs there: moved to .aside, or its mode mended");
            }
        }
        Err(error) => warn!(error = chain_text(&error), "what is in the way could not be moved away"),
    }
    point::reached("sync: shape restored");
    match NodeFacts::forget_earlier_boot(dir) {
        Ok(false) => {}
        Ok(true) => info!("networks and pods from before a reboot are forgotten"),
        // meta-cni does not use them either, and the first complete list replaces them.
        Err(error) => warn!(error = chain_text(&error), "what is from before a reboot could not be removed"),
    }
    point::reached("sync: earlier boot forgotten");
}

/// Makes the node's networks those of `networks`. One that fails does not hinder the others.
///
/// When `stop` becomes true, the rest is left for the next time, and nothing is called complete.
pub fn sync(
    dir: &NodeDirectory,
    networks: impl IntoIterator<Item = RenderedNetwork>,
    extent: Extent,
    stop: &dyn Fn() -> bool,
) -> Summary {
    let mut sync = Sync::begin(dir);
    for network in networks {
        if stop() {
            return sync.summary;
        }
        sync.put(network);
    }
    sync.end(extent, stop)
}

/// The same step by step, where networks come one after another: what is written is not kept.
#[derive(Debug)]
pub struct Sync {
    dir: NodeDirectory,
    wanted: BTreeSet<NetworkRef>,
    summary: Summary,
}

impl Sync {
    /// Begins it.
    pub fn begin(dir: &NodeDirectory) -> Self {
        let mut summary = Summary::default();
        let swept = sweep(dir);
        summary.note(swept);
        point::reached("sync: swept");
        Self { dir: dir.clone(), wanted: BTreeSet::new(), summary }
    }

    /// A network that there should be.
    pub fn put(&mut self, network: RenderedNetwork) {
        let summary = &mut self.summary;
        match summary.note(network.write(&self.dir)) {
            Some(true) => summary.written += 1,
            Some(false) => summary.unchanged += 1,
            None => {}
        }
        point::reached("sync: one network written");
        if let Outcome::Refused { reason } = network.outcome {
            let place = network.network.to_string();
            summary.refused.push(Wrong { origin: network.origin, place, reason });
        }
        self.wanted.insert(network.network);
    }

    /// There are no others.
    pub fn end(self, extent: Extent, stop: &dyn Fn() -> bool) -> Summary {
        let Self { dir, wanted, mut summary } = self;
        prune(&dir, &wanted, extent, stop, &mut summary);
        point::reached("sync: pruned");
        if summary.failed.is_empty() && !stop() {
            let facts = match extent {
                Extent::All => NodeFacts::complete_now(OPERATOR),
                Extent::Part => NodeFacts::partial_now(OPERATOR),
            };
            let written = summary.note(facts.write(&dir)).is_some();
            summary.complete = written && extent == Extent::All;
            point::reached("sync: called complete");
        }
        summary
    }
}

fn prune(
    dir: &NodeDirectory,
    wanted: &BTreeSet<NetworkRef>,
    extent: Extent,
    stop: &dyn Fn() -> bool,
    summary: &mut Summary,
) {
    let Some(present) = summary.note(RenderedNetwork::list(dir)) else { return };
    for network in present.iter().filter(|network| !wanted.contains(*network)) {
        if stop() {
            return;
        }
        if extent == Extent::Part {
            summary.kept += 1;
        } else if summary.note(RenderedNetwork::remove(dir, network)) == Some(true) {
            summary.removed += 1;
            point::reached("sync: one network removed");
        }
    }
}

/// The operator is the only writer of these directories.
fn sweep(dir: &NodeDirectory) -> Result<(), StoreError> {
    atomic::sweep(dir.run())?;
    RenderedNetwork::sweep(dir)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::path::Path;

    use crds::NetworkAttachmentDefinition;
    use serde_json::json;

    use super::*;
    use crate::node::render;
    use crate::permissions::Permissions;

    fn network(name: &str, config: &str) -> RenderedNetwork {
        let nad: NetworkAttachmentDefinition = serde_json::from_value(json!({
            "metadata": {"namespace": "default", "name": name}, "spec": {"config": config},
        }))
        .unwrap();
        render::render(&nad, "a.yaml", &Permissions::default()).unwrap()
    }

    fn bridge(name: &str) -> RenderedNetwork {
        network(name, r#"{"type":"bridge"}"#)
    }

    fn directory() -> (tempfile::TempDir, NodeDirectory) {
        let temp = tempfile::tempdir().unwrap();
        let dir = NodeDirectory::new(temp.path().join("run"), temp.path().join("state"));
        (temp, dir)
    }

    fn all(dir: &NodeDirectory, networks: Vec<RenderedNetwork>) -> Summary {
        sync(dir, networks, Extent::All, &|| false)
    }

    fn present(dir: &NodeDirectory) -> Vec<String> {
        RenderedNetwork::list(dir).unwrap().iter().map(|network| network.name.to_string()).collect()
    }

    fn counts(summary: &Summary) -> [usize; 4] {
        [summary.written, summary.unchanged, summary.removed, summary.kept]
    }

    #[test]
    fn the_node_gets_what_is_wanted_and_loses_the_rest() {
        let (_temp, dir) = directory();
        let summary = all(&dir, vec![bridge("a"), bridge("b")]);
        assert_eq!(counts(&summary), [2, 0, 0, 0]);
        assert!(summary.complete && NodeFacts::read(&dir).unwrap().is_some());
        let changed = network("b", r#"{"type":"macvlan"}"#);
        let summary = all(&dir, vec![changed.clone(), bridge("c")]);
        assert_eq!(counts(&summary), [2, 0, 1, 0]);
        assert_eq!(present(&dir), ["b", "c"]);
        assert_eq!(RenderedNetwork::read(&dir, &changed.network).unwrap().unwrap(), changed);
        assert_eq!(counts(&all(&dir, vec![])), [0, 0, 2, 0]);
        assert!(present(&dir).is_empty());
    }

    #[test]
    fn doing_it_again_changes_nothing() {
        let (_temp, dir) = directory();
        all(&dir, vec![bridge("a"), bridge("b")]);
        let path = dir.network(&bridge("a").network);
        let modified = |path: &Path| std::fs::metadata(path).unwrap().modified().unwrap();
        let before = modified(&path);
        assert_eq!(counts(&all(&dir, vec![bridge("a"), bridge("b")])), [0, 2, 0, 0]);
        assert_eq!(modified(&path), before);
    }

    #[test]
    fn a_refused_network_takes_the_place_of_its_old_file() {
        let (_temp, dir) = directory();
        all(&dir, vec![bridge("a")]);
        let refused = network("a", "{}");
        let summary = all(&dir, vec![refused.clone()]);
        assert_eq!(summary.refused.len(), 1);
        assert!(summary.refused[0].to_string().starts_with("a.yaml: default/a: spec.config: "));
        assert!(summary.complete, "the list is complete: what is wrong with it is known");
        let read = RenderedNetwork::read(&dir, &refused.network).unwrap().unwrap();
        assert!(matches!(read.outcome, Outcome::Refused { .. }));
    }

    #[test]
    fn what_may_only_be_unseen_is_kept_and_the_list_is_called_partial() {
        let (_temp, dir) = directory();
        all(&dir, vec![bridge("a"), bridge("b")]);
        std::fs::remove_file(dir.node()).unwrap();
        let summary = sync(&dir, [bridge("b"), bridge("c")], Extent::Part, &|| false);
        assert_eq!(counts(&summary), [1, 1, 0, 1]);
        assert!(!summary.complete);
        assert!(NodeFacts::read(&dir).unwrap().is_some_and(|facts| facts.partial));
        assert_eq!(present(&dir), ["a", "b", "c"]);
        all(&dir, vec![bridge("b")]);
        assert!(NodeFacts::read(&dir).unwrap().is_some_and(|facts| !facts.partial), "all can be read again");
    }

    #[test]
    fn leftovers_of_killed_writers_are_swept() {
        let (_temp, dir) = directory();
        all(&dir, vec![bridge("a")]);
        let leftovers = [dir.run().join(".new-1-0"), dir.networks().join("default/.new-1-1")];
        for leftover in &leftovers {
            std::fs::write(leftover, "{").unwrap();
        }
        all(&dir, vec![bridge("a")]);
        assert!(leftovers.iter().all(|leftover| !leftover.exists()));
    }

    #[test]
    fn files_of_others_and_damaged_ones_are_no_hindrance() {
        let (_temp, dir) = directory();
        all(&dir, vec![bridge("a")]);
        let path = dir.network(&bridge("a").network);
        std::fs::write(&path, "{\"schema\":99").unwrap();
        std::fs::write(dir.networks().join("default/Not-Ours"), "x").unwrap();
        let summary = all(&dir, vec![bridge("a")]);
        assert_eq!(counts(&summary), [1, 0, 0, 0]);
        assert_eq!(RenderedNetwork::read(&dir, &bridge("a").network).unwrap().unwrap(), bridge("a"));
    }

    #[test]
    fn a_file_that_cannot_be_written_is_told_and_hinders_only_completeness() {
        let (_temp, dir) = directory();
        // A directory where the network's file should be.
        std::fs::create_dir_all(dir.network(&bridge("a").network).join("x")).unwrap();
        let summary = all(&dir, vec![bridge("a"), bridge("b")]);
        assert_eq!(summary.written, 1);
        assert_eq!(summary.failed.len(), 1, "{:?}", summary.failed);
        assert!(!summary.complete && NodeFacts::read(&dir).unwrap().is_none());
        assert!(RenderedNetwork::read(&dir, &bridge("b").network).unwrap().is_some());
    }

    #[test]
    fn stopping_leaves_what_was_there() {
        let (_temp, dir) = directory();
        all(&dir, vec![bridge("old")]);
        std::fs::remove_file(dir.node()).unwrap();
        let asked = Cell::new(0);
        let stop = || asked.replace(asked.get() + 1) >= 1;
        let summary = sync(&dir, [bridge("a"), bridge("b")], Extent::All, &stop);
        assert!(!summary.complete);
        assert_eq!(present(&dir), ["a", "old"]);
    }
}
