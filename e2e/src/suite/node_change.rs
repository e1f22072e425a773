//! Changes of a node that last as long as their scenario: a file that is put there, one that is out of sight.

use anyhow::Result;

use crate::cluster::Cluster;
use crate::program::report;

/// Where hidden files are meanwhile; outlives a reboot.
const ASIDE: &str = "/var/lib/braid-e2e";

/// Something of a node that is changed. Dropping it changes it back.
#[must_use]
#[derive(Debug)]
pub struct NodeChange<'a> {
    cluster: &'a Cluster,
    node: String,
    undo: Option<String>,
}

impl<'a> NodeChange<'a> {
    /// Runs a shell script, and `undo` in the end, also if the script fails half way.
    pub fn make(cluster: &'a Cluster, node: &str, script: &str, undo: &str) -> Result<Self> {
        let this = Self { cluster, node: node.to_owned(), undo: Some(undo.to_owned()) };
        cluster.on_node(node, script)?;
        Ok(this)
    }

    /// Writes a file that was not there before. It goes again, and so does its directory if that is empty then.
    pub fn write(cluster: &'a Cluster, node: &str, file: &str, content: &str) -> Result<Self> {
        let undo = format!("rm -f {file}; rmdir \"$(dirname {file})\" 2>/dev/null || :");
        // Before anything is to be undone: somebody else's file stays.
        cluster.on_node(node, &format!("test ! -e {file}"))?;
        let this = Self { cluster, node: node.to_owned(), undo: Some(undo) };
        cluster.write_on_node(node, file, content)?;
        Ok(this)
    }

    /// Moves a file to where nobody looks for it. It comes back, whatever took its place.
    pub fn hide(cluster: &'a Cluster, node: &str, file: &str) -> Result<Self> {
        let aside = format!("{ASIDE}{file}");
        let hide = format!("mkdir -p \"$(dirname {aside})\"; mv {file} {aside}");
        // It may come from another file system: who looks at the directory is to see all of it at once.
        let undo =
            format!("test ! -e {aside} || {{ cp {aside} {file}.new; mv {file}.new {file}; rm {aside}; }}");
        Self::make(cluster, node, &hide, &undo)
    }

    /// Undoes it now, and tells if that fails.
    pub fn undo(mut self) -> Result<()> {
        self.undo.take().map_or(Ok(()), |undo| self.cluster.on_node(&self.node, &undo).map(drop))
    }
}

impl Drop for NodeChange<'_> {
    fn drop(&mut self) {
        if let Some(undo) = &self.undo {
            let _ = self.cluster.on_node(&self.node, undo).inspect_err(report);
        }
    }
}
