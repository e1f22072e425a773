//! The start after a fault, and that nothing of the fault is left.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use cni::npwg::NetworkRef;
use e2e::plain_node::{Node, good};
use store::atomic;
use store::network::{Outcome, RenderedNetwork};
use store::node::NodeFacts;
use store::record::Record;

/// The role starts once more, with the rights that it has in a pod, and containers come and go. The record of `c1` may
/// be one that was damaged.
pub(crate) fn recovers(node: &Node, braid: &Path, meta_cni: &Path, record_is_damaged: bool) -> Result<()> {
    // As root has them without capabilities: modes count.
    let mut role = Command::new("setpriv");
    role.args(["--bounding-set=-all", "--inh-caps=-all"]).arg(braid);
    let said = node.sync(role).context("the next start")?;
    ensure!(said.starts_with("2 networks: "), "the next start: {said}");
    networks_are_right(node)?;
    let said = node.sync(Command::new(braid))?;
    ensure!(said.starts_with("2 networks: 0 written, 2 unchanged; 0 removed"), "the start after it: {said}");
    node.succeed("ADD", "n1", true)?;
    let of_new = node.held()?.iter().filter(|held| held.contains(".n1.")).count();
    ensure!(of_new == 3, "a new container has {of_new} attachments of 3");
    for id in ["n1", "c1", "c2"] {
        detach(node, meta_cni, id, record_is_damaged && id == "c1")?;
    }
    // What a lost record knew of.
    good(&node.gc(Command::new(meta_cni), &[])?).context("GC")?;
    ensure!(node.held()?.is_empty(), "plugins hold {:?}", node.held()?);
    let (records, hints) = (Record::list(&node.directory())?, atomic::files(&node.directory().unfinished())?);
    ensure!(records.is_empty() && hints.is_empty(), "records {records:?} and hints {hints:?} are left");
    Ok(())
}

fn networks_are_right(node: &Node) -> Result<()> {
    let dir = node.directory();
    let names = ["a", "b"].map(|name| NetworkRef::parse("default", name));
    let names: Vec<NetworkRef> = names.into_iter().collect::<Result<_, _>>()?;
    ensure!(RenderedNetwork::list(&dir)? == names, "the networks are {:?}", RenderedNetwork::list(&dir)?);
    for name in &names {
        let network = RenderedNetwork::read(&dir, name)?.context("it was listed")?;
        let Outcome::Ready { list } = &network.outcome else { anyhow::bail!("{network:?}") };
        ensure!(list.plugins[0].plugin().as_str() == name.name.as_str(), "{network:?}");
    }
    ensure!(NodeFacts::read(&dir)?.is_some_and(|facts| !facts.partial), "the list is not complete");
    let left = fs::read_dir(dir.networks().join("default"))?.count();
    ensure!(left == names.len(), "there are {left} files of networks");
    Ok(())
}

/// DEL succeeds; only a record that was damaged, so that it cannot be read or says something else now, has to be moved
/// away by people first.
fn detach(node: &Node, meta_cni: &Path, id: &str, record_is_damaged: bool) -> Result<()> {
    let output = node.call(Command::new(meta_cni), "DEL", id, true)?;
    let record = node.directory().records().join(id);
    if !output.status.success() {
        ensure!(record_is_damaged && record.exists(), "DEL of {id}: {output:?}");
        fs::rename(&record, node.path("moved-away"))?;
        node.succeed("DEL", id, true)?;
    }
    ensure!(!record.exists(), "the record of {id} is left");
    Ok(())
}
