//! A containerd of a test's own, spoken to as the kubelet does.
//!
//! Every directory and socket lies in one directory under `/tmp` that carries the owner's process id. What a
//! containerd leaves when its test is killed is cleared away by the next start, processes and mounts included.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::program::{not_installed, output, report};
use crate::{image, leftovers, wait};
use configuration::Settings;

pub use programs::Programs;

pub(crate) mod configuration;
mod cri;
mod grpc;
mod programs;

/// How the directory of a containerd begins; the owner's process id follows.
const DIRECTORY: &str = "braid-containerd.";

/// The socket's name in that directory.
const SOCKET: &str = "containerd.sock";

/// The configuration's name in that directory.
const CONFIGURATION: &str = "config.toml";

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
    programs: Programs,
    process: Child,
    client: cri::Client,
}

/// Says what [`Containerd::start`] needs and is not on this machine.
pub fn missing() -> Option<String> {
    programs::missing().or_else(|| image::missing().map(|package| not_installed(&package)))
}

impl Containerd {
    /// Starts a containerd with the test image, and CNI plugins and configurations from two directories of the
    /// caller's. The configurations may be written later.
    pub fn start(programs: &Programs, bin_dir: &Path, conf_dir: &Path) -> Result<Self> {
        for orphan in leftovers::orphans(DIRECTORY)? {
            // Another test may be clearing it too.
            leftovers::clear(&orphan).unwrap_or_else(|error| report(&error));
        }
        let dir = leftovers::directory(DIRECTORY)?;
        let client = cri::Client::new(grpc::Channel::new(&dir.join(SOCKET))?);
        let settings = settings(programs, &dir, bin_dir, conf_dir);
        let written = fs::write(dir.join(CONFIGURATION), settings);
        let written = written.context("writing containerd's configuration");
        let process = written.and_then(|()| spawn(programs, &dir)).inspect_err(|_| {
            let _ = fs::remove_dir_all(&dir);
        })?;
        let mut this = Self { dir, programs: programs.clone(), process, client };
        let ready = this.wait_for_runtime().and_then(|()| this.import_test_image());
        ready.with_context(|| format!("starting containerd; it logged:\n{}", this.log()))?;
        Ok(this)
    }

    /// Kills containerd and nothing that it started, and starts it again.
    pub fn restart(&mut self) -> Result<()> {
        self.process.kill().context("killing containerd")?;
        self.process.wait().context("waiting for containerd's end")?;
        self.process = spawn(&self.programs, &self.dir)?;
        self.wait_for_runtime()
            .with_context(|| format!("starting containerd again; it logged:\n{}", self.log()))
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
        wait::until("the pod network is ready", || self.network_is_ready())
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

    /// Whether the runtime says that pods can have their network.
    pub fn network_is_ready(&self) -> Result<bool> {
        self.holds("NetworkReady")
    }

    fn wait_for_runtime(&mut self) -> Result<()> {
        wait::until("the container runtime is ready", || {
            ensure_running(&mut self.process)?;
            Ok(self.socket().exists() && self.holds("RuntimeReady").unwrap_or(false))
        })
    }

    /// Imports the image, and waits until the CRI part has seen it: containerd tells its parts of a new image by events,
    /// and a sandbox that comes before them would try to pull it.
    fn import_test_image(&self) -> Result<()> {
        let archive = self.dir.join("image.tar");
        image::write_archive(&archive)?;
        let mut import = self.programs.command("ctr");
        import.arg("--address").arg(self.socket()).args(["--namespace", "k8s.io"]);
        import.args(configuration::import(self.programs.version())).arg(&archive);
        output(&mut import).context("importing the test image")?;
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

fn spawn(programs: &Programs, dir: &Path) -> Result<Child> {
    let log = File::options().create(true).append(true).open(dir.join("log"));
    programs
        .command("containerd")
        .arg("--config")
        .arg(dir.join(CONFIGURATION))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log.context("opening containerd's log")?)
        .spawn()
        .context("starting containerd")
}

fn settings(programs: &Programs, dir: &Path, bin_dir: &Path, conf_dir: &Path) -> String {
    let below = |name: &str| dir.join(name).display().to_string();
    let settings = Settings {
        root: &below("root"),
        state: &below("state"),
        socket: &below(SOCKET),
        bin_dir: &bin_dir.display().to_string(),
        conf_dir: &conf_dir.display().to_string(),
        // Below "state", where they are found again if containerd is killed.
        runtime: "netns_mounts_under_state_dir = true",
        server: "disable_tcp_service = true",
    };
    configuration::text(programs.version(), &settings)
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
