//! A node for tests: a directory that plays the root of its files, with the configuration and the agent of
//! a primary, and a directory of plugins that are the stand-ins.

use std::fs;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use serde_json::Value;
use tempfile::TempDir;

use super::NAMES;
use crate::artefacts::REFERENCE_PLUGINS;

/// A primary as it is found on nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Primary {
    /// flannel with its bridge.
    Flannel,
    /// Calico with its own IPAM.
    Calico,
    /// The VPC CNI of AWS.
    AwsVpc,
    /// Cilium.
    Cilium,
    /// kindnet; its plugins are the reference ones.
    Kindnet,
}

impl Primary {
    /// Every one.
    pub const ALL: [Self; 5] = [Self::Flannel, Self::Calico, Self::AwsVpc, Self::Cilium, Self::Kindnet];

    /// Its directory below `testdata/primaries`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Flannel => "flannel",
            Self::Calico => "calico",
            Self::AwsVpc => "aws-vpc",
            Self::Cilium => "cilium",
            Self::Kindnet => "kindnet",
        }
    }

    /// The name of its configuration file in `/etc/cni/net.d`.
    pub fn file(self) -> &'static str {
        match self {
            Self::Flannel => "10-flannel.conflist",
            Self::Calico => "10-calico.conflist",
            Self::AwsVpc => "10-aws.conflist",
            Self::Cilium => "05-cilium.conflist",
            Self::Kindnet => "10-kindnet.conflist",
        }
    }

    /// The socket of its agent, below the root.
    pub fn socket(self) -> Option<&'static str> {
        match self {
            Self::AwsVpc => Some("var/run/aws-node/ipamd.sock"),
            Self::Cilium => Some("var/run/cilium/cilium.sock"),
            Self::Flannel | Self::Calico | Self::Kindnet => None,
        }
    }

    /// The primary's configuration as it is shipped.
    pub fn published(self) -> Result<Value> {
        let file = self.testdata().join(self.file());
        let text = fs::read(&file).with_context(|| format!("read {}", file.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("read {}", file.display()))
    }

    /// What its agent writes when it is ready: absolute paths, and what the files hold.
    pub fn agents_files(self) -> Result<Vec<(String, String)>> {
        let file = |path: &str, content: &str| (path.to_owned(), content.to_owned());
        Ok(match self {
            Self::Flannel => {
                let subnet = fs::read_to_string(self.testdata().join("subnet.env"))
                    .context("read flannel's subnet file")?;
                vec![("/run/flannel/subnet.env".to_owned(), subnet)]
            }
            Self::Calico => vec![
                file("/var/lib/calico/nodename", "node-7"),
                file(
                    "/etc/cni/net.d/calico-kubeconfig",
                    "apiVersion: v1\nkind: Config\nclusters: []\nusers:\n- user: {token: secret-token}\n",
                ),
            ],
            Self::AwsVpc | Self::Cilium | Self::Kindnet => Vec::new(),
        })
    }

    fn testdata(self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/primaries").join(self.name())
    }
}

/// A node with one primary.
pub struct Node {
    root: TempDir,
    primary: Primary,
    agent: Option<Agent>,
}

impl Node {
    /// Prepares a node. `executable` is the built `shaped-primary`.
    pub fn new(primary: Primary, executable: &Path) -> Result<Self> {
        let root = tempfile::Builder::new().prefix("shaped-").tempdir().context("make the node's root")?;
        let mut node = Self { root, primary, agent: None };
        let bin = node.below("opt/cni/bin");
        fs::create_dir_all(&bin)?;
        for name in NAMES {
            std::os::unix::fs::symlink(executable, bin.join(name)).context("install the stand-ins")?;
        }
        node.write_configuration(&node.published_configuration()?)?;
        node.start_agent()?;
        Ok(node)
    }

    /// The directory that plays `/`.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    fn below(&self, path: &str) -> PathBuf {
        self.root().join(path)
    }

    /// What every plugin has to find in its environment.
    pub fn environment(&self) -> Vec<(&'static str, PathBuf)> {
        vec![("SHAPED_PRIMARY_ROOT", self.root().to_owned())]
    }

    /// CNI_PATH: the stand-ins, then the reference plugins.
    pub fn path(&self) -> Vec<PathBuf> {
        let reference = REFERENCE_PLUGINS.iter().map(PathBuf::from).filter(|dir| dir.is_dir());
        std::iter::once(self.below("opt/cni/bin")).chain(reference).collect()
    }

    /// The directory of network configurations.
    pub fn configurations(&self) -> PathBuf {
        self.below("etc/cni/net.d")
    }

    /// The primary's configuration as it is shipped. Only paths that plugins other than the stand-ins read
    /// are moved below the root.
    pub fn published_configuration(&self) -> Result<Value> {
        let mut list = self.primary.published()?;
        if self.primary == Primary::Kindnet {
            let dir = list.pointer_mut("/plugins/0/ipam/dataDir").context("kindnet's list has no dataDir")?;
            let moved = self.below(dir.as_str().unwrap_or_default().trim_start_matches('/'));
            *dir = moved.to_string_lossy().into();
        }
        Ok(list)
    }

    /// Puts another configuration in the place of the published one.
    pub fn write_configuration(&self, list: &Value) -> Result<()> {
        self.write(&format!("etc/cni/net.d/{}", self.primary.file()), &serde_json::to_string_pretty(list)?)
    }

    /// Writes a file below the root.
    pub fn write(&self, path: &str, text: &str) -> Result<()> {
        let file = self.below(path.trim_start_matches('/'));
        let dir = file.parent().context("a file without a directory")?;
        fs::create_dir_all(dir)?;
        fs::write(&file, text).with_context(|| format!("write {}", file.display()))
    }

    /// What the primary's agent writes when it is ready: the files and the socket that its plugin needs.
    pub fn start_agent(&mut self) -> Result<()> {
        for (file, content) in self.primary.agents_files()? {
            self.write(&file, &content)?;
        }
        if let Some(socket) = self.primary.socket() {
            self.agent = Some(Agent::listen(self.below(socket))?);
        }
        Ok(())
    }

    /// As before the agent was ever ready: its files and its socket are gone.
    pub fn stop_agent(&mut self) {
        self.agent = None;
        for file in ["run/flannel/subnet.env", "var/lib/calico/nodename", "etc/cni/net.d/calico-kubeconfig"] {
            // It is another primary's, then it is not there.
            let _ = fs::remove_file(self.below(file));
        }
    }

    /// Everything that plugins have left in files: reserved addresses, endpoints, kept configurations.
    /// Empty after the DEL of every container.
    pub fn leftovers(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for dir in ["var/lib/shaped-primary", "var/lib/cni", "run/cni", "run/cni-ipam-state"] {
            collect(&self.below(dir), &mut found);
        }
        found.sort();
        found
    }
}

/// Files below `dir`, without those that host-local keeps for ever.
fn collect(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        if path.is_dir() {
            collect(&path, found);
        } else if name != "lock" && !name.to_string_lossy().starts_with("last_reserved_ip.") {
            found.push(path);
        }
    }
}

/// Something that accepts connections, as an agent does.
struct Agent {
    socket: PathBuf,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Agent {
    fn listen(socket: PathBuf) -> Result<Self> {
        fs::create_dir_all(socket.parent().context("a socket without a directory")?)?;
        let listener =
            UnixListener::bind(&socket).with_context(|| format!("listen at {}", socket.display()))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let accept = move || {
            for connection in listener.incoming() {
                drop(connection);
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
            }
        };
        Ok(Self { socket, stop, thread: Some(std::thread::spawn(accept)) })
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the thread; it ends after this connection.
        let woken = UnixStream::connect(&self.socket).is_ok();
        if let Some(thread) = self.thread.take().filter(|_| woken) {
            let _ = thread.join();
        }
        let _ = fs::remove_file(&self.socket);
    }
}
