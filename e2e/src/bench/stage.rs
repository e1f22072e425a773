//! A node for benchmarks: networks of `bridge` and `host-local`, the node directory that names them, and the plugin.
//!
//! What outlives a boot on a node is on the same disk here, so that syncing costs what it costs there.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cni::NetworkList;
use cni::npwg::NetworkRef;
use serde_json::{Value, json};
use store::NodeDirectory;
use store::network::{Outcome, RenderedNetwork};
use store::node::NodeFacts;
use tempfile::TempDir;

use super::lists::ANNOTATIONS;
use super::peak;
use crate::artefacts;

/// The node. Dropping it takes its files away; interfaces go with the namespace.
pub(super) struct Stage {
    /// Below `/var/lib`, on a disk.
    disk: TempDir,
    /// Where the reference plugins are.
    plugins: PathBuf,
    /// The primary, then the secondary networks.
    lists: Vec<NetworkList>,
    meta_cni: PathBuf,
}

impl Stage {
    /// A node with a primary and so many secondary networks.
    pub(super) fn new(secondaries: usize) -> Result<Self> {
        let disk = tempfile::Builder::new().prefix("braid-bench.").tempdir_in("/var/lib");
        let disk = disk.context("making a directory in /var/lib")?;
        let lists = (0..=secondaries).map(|index| list(index, disk.path())).collect::<Result<_>>()?;
        let plugins = artefacts::reference_plugins().context("looking for the reference plugins")?;
        let this = Self { disk, plugins, lists, meta_cni: artefacts::meta_cni()? };
        this.prepare().context("preparing a node")?;
        Ok(this)
    }

    fn prepare(&self) -> Result<()> {
        for dir in ["net.d", "bin", "peak-bin"] {
            fs::create_dir(self.path(dir))?;
        }
        let (primary, secondaries) = self.lists.split_first().context("there is no primary")?;
        fs::write(self.path("net.d/10-primary.conflist"), serde_json::to_vec(primary)?)?;
        for (index, list) in secondaries.iter().enumerate() {
            let network = RenderedNetwork {
                network: NetworkRef::parse("default", &format!("net{index}"))?,
                origin: "bench".to_owned(),
                generation: Some(1),
                resource_name: None,
                outcome: Outcome::Ready { list: list.clone() },
            };
            network.write(&self.directory())?;
        }
        NodeFacts::complete_now("bench").write(&self.directory())?;
        std::os::unix::fs::symlink(fs::canonicalize(&self.meta_cni)?, self.path("bin/meta-cni"))?;
        let script = self.path("peak-bin/meta-cni");
        fs::write(&script, peak::script(&fs::canonicalize(&self.meta_cni)?, &self.peak_file())?)?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.disk.path().join(name)
    }

    fn directory(&self) -> NodeDirectory {
        NodeDirectory::new("/run/braid", self.path("state"))
    }

    /// Where the peak of the last `meta-cni` is, in KiB, after a run with [`Stage::measuring_path`].
    pub(super) fn peak_file(&self) -> PathBuf {
        self.path("peak-kib")
    }

    /// CNI_PATH of delegates that are run by hand.
    pub(super) fn plugin_path(&self) -> Vec<PathBuf> {
        vec![self.plugins.clone()]
    }

    /// CNI_PATH with `meta-cni` in it.
    pub(super) fn braid_path(&self) -> Vec<PathBuf> {
        vec![self.path("bin"), self.plugins.clone()]
    }

    /// CNI_PATH with a `meta-cni` whose memory is measured.
    pub(super) fn measuring_path(&self) -> Vec<PathBuf> {
        vec![self.path("peak-bin"), self.plugins.clone()]
    }

    /// The networks, primary first, for a run by hand.
    pub(super) fn lists(&self) -> &[NetworkList] {
        &self.lists
    }

    /// What the runtime is configured with.
    pub(super) fn braid(&self) -> Result<NetworkList> {
        self.braid_with([])
    }

    /// The same with further settings.
    pub(super) fn braid_with<const N: usize>(&self, more: [(&str, Value); N]) -> Result<NetworkList> {
        let mut plugin = json!({
            "type": "meta-cni",
            "capabilities": { ANNOTATIONS: true },
            "multusAutoconfigDir": self.path("net.d"),
            "confDir": self.path("net.d"),
            "binDir": self.plugins,
            "runDir": self.directory().run(),
            "stateDir": self.directory().state(),
            // The longer of the two, which containerd gets: the benchmark is no runtime that is known.
            "result": "merged",
        });
        for (name, value) in more {
            plugin[name] = value;
        }
        let list = json!({ "cniVersion": "1.0.0", "name": "braid", "plugins": [plugin] });
        NetworkList::from_json(list, None).context("making the configuration of meta-cni")
    }

    /// The pod's annotations, which name every secondary network.
    pub(super) fn annotations(&self) -> Value {
        let names: Vec<String> = (0..self.lists.len() - 1).map(|index| format!("net{index}")).collect();
        json!({ "k8s.v1.cni.cncf.io/networks": names.join(",") })
    }
}

fn list(index: usize, disk: &Path) -> Result<NetworkList> {
    let subnet = format!("10.{}.0.0/16", 100 + index);
    let ipam = json!({
        "type": "host-local",
        "dataDir": disk.join("ipam"),
        "ranges": [[{ "subnet": subnet }]],
    });
    // The primary is its pods' gateway, as primaries are.
    let bridge: Value =
        json!({ "type": "bridge", "bridge": format!("bench{index}"), "isGateway": index == 0, "ipam": ipam });
    let list = json!({ "cniVersion": "1.0.0", "name": format!("bench{index}"), "plugins": [bridge] });
    NetworkList::from_json(list, None).context("making a network")
}
