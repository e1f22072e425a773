//! A containerd of a test's own, spoken to as the kubelet does.
//!
//! Every directory and socket lies in one directory under `/tmp` that carries the owner's process id. What a
//! containerd leaves when its test is killed is cleared away by the next start, processes and mounts included.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::program::{on_path, output, report};
use crate::{image, leftovers, wait};

mod cri;
mod grpc;

/// How the directory of a containerd begins; the owner's process id follows.
const DIRECTORY: &str = "braid-containerd.";

/// The socket's name in that directory.
const SOCKET: &str = "containerd.sock";

/// A pod as the kubelet hands it to the runtime.
#[derive(Clone, Debug, Default)]
pub struct Pod {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
    /// The pod's uid.
    pub uid: String,
    /// All annotations of the pod.
    pub annotations: BTreeMap<String, String>,
    /// TCP ports of the node that lead to the pod: the node's, then the pod's.
    pub ports: Vec<(u16, u16)>,
}

/// What the runtime says of a running sandbox.
#[derive(Clone, Debug)]
pub struct Sandbox {
    /// Whether the sandbox runs.
    pub ready: bool,
    /// The pod's addresses, the one that Kubernetes calls the pod IP first.
    pub ips: Vec<IpAddr>,
    /// The sandbox's network namespace.
    pub netns: PathBuf,
    /// The result of the CNI plugins as containerd understood it: addresses by interface name.
    pub interfaces: Value,
}

/// A running containerd. Dropping it removes its sandboxes, its processes, its mounts and its files.
pub struct Containerd {
    /// Holds everything that this containerd has.
    dir: PathBuf,
    process: Child,
    client: cri::Client,
}

/// Names a package that [`Containerd::start`] needs and that is not on this machine.
pub fn missing() -> Option<String> {
    let packages = [("containerd", "containerd"), ("ctr", "containerd"), ("runc", "runc")];
    packages
        .iter()
        .find(|(program, _)| !on_path(program))
        .map(|(_, package)| (*package).to_owned())
        .or(image::missing())
}

impl Containerd {
    /// Starts containerd with the test image, and CNI plugins and configurations from two directories of the
    /// caller's. The configurations may be written later.
    pub fn start(bin_dir: &Path, conf_dir: &Path) -> Result<Self> {
        for orphan in leftovers::orphans(DIRECTORY)? {
            // Another test may be clearing it too.
            leftovers::clear(&orphan).unwrap_or_else(|error| report(&error));
        }
        let dir = leftovers::directory(DIRECTORY)?;
        let client = cri::Client::new(grpc::Channel::new(&dir.join(SOCKET))?);
        let process = spawn(&dir, bin_dir, conf_dir).inspect_err(|_| {
            let _ = fs::remove_dir_all(&dir);
        })?;
        let mut this = Self { dir, process, client };
        this.get_ready().with_context(|| format!("starting containerd; it logged:\n{}", this.log()))?;
        Ok(this)
    }

    /// The socket on which this containerd serves the container runtime interface.
    pub fn socket(&self) -> PathBuf {
        self.dir.join(SOCKET)
    }

    /// The last lines that containerd logged.
    pub fn log(&self) -> String {
        let log = fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Waits until the pod network is configured, as the kubelet does before it runs pods.
    pub fn wait_for_network(&self) -> Result<()> {
        wait::until("the pod network is ready", || self.holds("NetworkReady"))
    }

    /// Runs a pod's sandbox and returns its id.
    pub fn run(&self, pod: &Pod) -> Result<String> {
        self.wait_for_network()?;
        self.client
            .run(config(pod))
            .with_context(|| format!("running the sandbox of {}/{}", pod.namespace, pod.name))
    }

    /// What the runtime knows of a sandbox.
    pub fn status(&self, id: &str) -> Result<Sandbox> {
        let answer = self.client.status(id).with_context(|| format!("asking for sandbox {id}"))?;
        let info: Value =
            answer.info.get("info").map_or(Ok(Value::Null), |text| serde_json::from_str(text))?;
        let status = answer.status.context("the answer holds no status")?;
        let network = status.network.unwrap_or_default();
        let mut ips = Vec::new();
        for ip in std::iter::once(network.ip).chain(network.additional_ips.into_iter().map(|more| more.ip)) {
            if !ip.is_empty() {
                ips.push(ip.parse().with_context(|| format!("reading the pod IP {ip:?}"))?);
            }
        }
        let netns = netns(&info).unwrap_or_default();
        let interfaces = info["cniResult"]["Interfaces"].clone();
        Ok(Sandbox { ready: status.state == 0, ips, netns, interfaces })
    }

    /// Ends a sandbox, which takes down its network.
    pub fn stop(&self, id: &str) -> Result<()> {
        self.client.stop(id).with_context(|| format!("stopping sandbox {id}"))
    }

    /// Removes a sandbox that was stopped.
    pub fn remove(&self, id: &str) -> Result<()> {
        self.client.remove(id).with_context(|| format!("removing sandbox {id}"))
    }

    /// Waits for the runtime, imports the image, and waits until the CRI part has seen it: containerd tells its
    /// parts of a new image by events, and a sandbox that comes before them would try to pull it.
    fn get_ready(&mut self) -> Result<()> {
        wait::until("the container runtime is ready", || {
            ensure_running(&mut self.process)?;
            Ok(self.socket().exists() && self.holds("RuntimeReady").unwrap_or(false))
        })?;
        let archive = self.dir.join("image.tar");
        image::write_archive(&archive)?;
        let mut import = Command::new("ctr");
        import.arg("--address").arg(self.socket()).args(["--namespace", "k8s.io", "images", "import"]);
        output(import.args(["--snapshotter", "native"]).arg(&archive)).context("importing the test image")?;
        wait::until("the test image is known", || self.client.has_image(image::REFERENCE))
    }

    fn holds(&self, kind: &str) -> Result<bool> {
        let conditions = self.client.conditions().context("asking containerd for its conditions")?;
        Ok(conditions.iter().any(|condition| condition.kind == kind && condition.holds))
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        for id in self.client.list().unwrap_or_default() {
            // What fails here is taken away below, by force.
            let _ = self.stop(&id).and_then(|()| self.remove(&id));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
        if let Err(error) = leftovers::clear(&self.dir) {
            report(&error);
        }
    }
}

fn spawn(dir: &Path, bin_dir: &Path, conf_dir: &Path) -> Result<Child> {
    let configuration = dir.join("config.toml");
    fs::write(&configuration, settings(dir, bin_dir, conf_dir))
        .context("writing containerd's configuration")?;
    let log = File::create(dir.join("log")).context("creating containerd's log")?;
    Command::new("containerd")
        .arg("--config")
        .arg(&configuration)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .context("starting containerd")
}

fn settings(dir: &Path, bin_dir: &Path, conf_dir: &Path) -> String {
    let (dir, bin_dir, conf_dir) = (dir.display(), bin_dir.display(), conf_dir.display());
    let places = [format!("{dir}/root"), format!("{dir}/state"), format!("{dir}/{SOCKET}")];
    let more = format!(
        r#"disable_tcp_service = true
# Below "state", where they are found again if containerd is killed.
netns_mounts_under_state_dir = true

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{bin_dir}"
conf_dir = "{conf_dir}"
"#
    );
    configuration(places.each_ref().map(String::as_str), &more)
}

/// The configuration of a containerd with its root, its state and its socket, and with more of its CRI part. The native
/// snapshotter copies instead of mounting overlays: with images this small that costs nothing, and it works inside
/// containers too.
pub(crate) fn configuration([root, state, socket]: [&str; 3], more: &str) -> String {
    let image = image::REFERENCE;
    format!(
        r#"version = 2
root = "{root}"
state = "{state}"
disabled_plugins = ["io.containerd.internal.v1.opt"]

[grpc]
address = "{socket}"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{image}"
# Machines without CAP_SYS_RESOURCE cannot lower the score of the pause process.
restrict_oom_score_adj = true
{more}
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "native"
"#
    )
}

fn config(pod: &Pod) -> cri::SandboxConfig {
    let ports = pod.ports.iter().map(|(host, container)| cri::PortMapping {
        protocol: 0,
        container_port: i32::from(*container),
        host_port: i32::from(*host),
    });
    cri::SandboxConfig {
        metadata: Some(cri::Metadata {
            name: pod.name.clone(),
            uid: pod.uid.clone(),
            namespace: pod.namespace.clone(),
        }),
        hostname: pod.name.clone(),
        port_mappings: ports.collect(),
        annotations: pod.annotations.clone().into_iter().collect(),
        linux: Some(cri::LinuxConfig {}),
    }
}

/// The network namespace in the runtime specification that containerd shows in its verbose status.
fn netns(info: &Value) -> Option<PathBuf> {
    let namespaces = info["runtimeSpec"]["linux"]["namespaces"].as_array()?;
    let network = namespaces.iter().find(|namespace| namespace["type"] == "network")?;
    network["path"].as_str().map(PathBuf::from)
}

fn ensure_running(process: &mut Child) -> Result<()> {
    match process.try_wait().context("looking after containerd")? {
        Some(status) => bail!("containerd ended with {status}"),
        None => Ok(()),
    }
}
