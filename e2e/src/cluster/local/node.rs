//! A node of a local cluster: a machine with containerd, kubelet and kube-proxy, and a primary network.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::control_plane::{ADDRESS, ControlPlane, DATA, LAN, PODS};
use super::machine::Machine;
use super::{cgroups, kubelet};
use crate::cluster::Service;
use crate::containerd::{Programs, configuration};
use crate::program::output;
use crate::version::Version;
use crate::{artefacts, image, wait};

/// The file of the primary's configuration on a node.
pub(super) const PRIMARY: &str = "/etc/cni/net.d/10-pods.conflist";

/// What a node's containerd is told.
const CONTAINERD: configuration::Settings<'_> = configuration::Settings {
    root: "/var/lib/containerd",
    state: "/run/containerd",
    socket: "/run/containerd/containerd.sock",
    bin_dir: "/opt/cni/bin",
    conf_dir: "/etc/cni/net.d",
    runtime: "",
    server: "stream_server_address = \"127.0.0.1\"",
};

/// The programs that a node runs.
#[derive(Debug, Clone)]
pub(super) struct Software {
    /// The directory of kubelet and kube-proxy.
    pub(super) servers: PathBuf,
    /// The kubelet's version.
    pub(super) kubelet: Version,
    pub(super) containerd: Programs,
}

impl Software {
    /// The kubelet of a directory, and a containerd that serves it.
    pub(super) fn of(servers: &Path) -> Result<Self> {
        let kubelet = Version::of(&servers.join("kubelet"), Some("--version"))?;
        Ok(Self { servers: servers.to_owned(), kubelet, containerd: Programs::for_kubelet(kubelet)? })
    }
}

/// How long a node may take to come up.
const PATIENCE: Duration = Duration::from_secs(90);

/// A node that runs or is off.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) machine: Machine,
    /// Its place among the nodes, from 1.
    number: usize,
    software: Software,
    home: PathBuf,
    /// Its part of the pods' addresses, once the controller manager has given it one.
    cidr: String,
}

impl Node {
    /// Starts a node and everything on it, but does not wait until it is ready.
    pub(super) fn start(
        home: &Path,
        software: &Software,
        plane: &ControlPlane,
        number: usize,
        name: &str,
    ) -> Result<Self> {
        cgroups::make(&group(home, name)?)?;
        let machine = Machine::new(home, name, &software.containerd.search_path())?;
        let plugins = artefacts::reference_plugins().context("the reference plugins are not installed")?;
        machine.sh(&format!("cp -a {}/. /opt/cni/bin/", plugins.display()))?;
        let (software, home) = (software.clone(), home.to_owned());
        let this = Self { machine, number, software, home, cidr: format!("10.223.{number}.0/24") };
        this.write_configuration()?;
        this.plug(plane)?;
        this.start_runtime()?;
        this.import_test_image()?;
        this.machine.sh(&format!("cat >{PRIMARY} <<'END'\n{}\nEND", this.primary()))?;
        this.start_kubelet()?;
        this.start_proxy()?;
        Ok(this)
    }

    /// Turns the node off and on again. Control groups are the kernel's, so they outlive the machine; a kubelet that
    /// finds those of the boot before fails for a minute.
    pub(super) fn reboot(&self, plane: &ControlPlane) -> Result<()> {
        self.machine.cut_power();
        let group = group(&self.home, &self.machine.name)?;
        cgroups::remove(&group)?;
        cgroups::make(&group)?;
        self.machine.boot()?;
        self.plug(plane)?;
        self.start_runtime()?;
        self.start_kubelet()?;
        self.start_proxy()
    }

    pub(super) fn restart(&self, service: Service) -> Result<()> {
        match service {
            Service::Kubelet => self.machine.kill("kubelet").and_then(|()| self.start_kubelet()),
            Service::Runtime => self.machine.kill("containerd").and_then(|()| self.start_runtime()),
        }
    }

    pub(super) fn address(&self) -> String {
        format!("10.222.0.{}", 10 + self.number)
    }

    /// Makes images of an archive known to the kubelet.
    pub(super) fn import(&self, archive: &Path) -> Result<String> {
        let import = configuration::import(self.software.containerd.version()).join(" ");
        self.machine.sh(&format!("ctr --namespace k8s.io {import} {} >/dev/null", archive.display()))
    }

    fn plug(&self, plane: &ControlPlane) -> Result<()> {
        self.machine.plug("eth0", &plane.machine, LAN)?;
        self.machine.plug("data0", &plane.machine, DATA)?;
        self.machine.sh(&format!(
            "ip address add {}/24 dev eth0
             ip route add default via {ADDRESS}
             echo 1 >/proc/sys/net/ipv4/ip_forward",
            self.address()
        ))?;
        let route = format!("ip route replace {} via {}", self.cidr, self.address());
        plane.machine.sh(&route).map(drop)
    }

    fn write_configuration(&self) -> Result<()> {
        let (dir, name) = (&self.machine.dir, &self.machine.name);
        fs::create_dir_all(dir.join("var/lib/kubelet/manifests"))
            .context("making the kubelet's directory")?;
        let kubelet = kubelet::configuration(self.software.kubelet, &group(&self.home, name)?);
        for (file, content) in [
            ("containerd.toml", configuration::text(self.software.containerd.version(), &CONTAINERD)),
            ("kubelet.json", kubelet.to_string()),
            ("proxy.json", proxy(&self.home.join("admin.kubeconfig"), name)),
        ] {
            fs::write(dir.join(file), content).with_context(|| format!("writing {file} of {name}"))?;
        }
        Ok(())
    }

    fn start_runtime(&self) -> Result<()> {
        let config = format!("--config={}", self.machine.dir.join("containerd.toml").display());
        self.machine.start("containerd", Path::new("containerd"), &[config])?;
        wait::within(PATIENCE, "containerd answers", || {
            self.machine.ensure_runs("containerd")?;
            Ok(output(self.machine.command("ctr")?.arg("version")).is_ok())
        })
    }

    /// containerd tells its parts of a new image by events: a sandbox that comes before them would try to pull it.
    fn import_test_image(&self) -> Result<()> {
        let archive = self.home.join("test-image.tar");
        if !archive.exists() {
            image::write_archive(&archive)?;
        }
        self.import(&archive).map(drop)
    }

    fn start_kubelet(&self) -> Result<()> {
        let (dir, name) = (&self.machine.dir, &self.machine.name);
        let (configuration, kubeconfig) =
            (dir.join("kubelet.json"), self.home.join(format!("{name}.kubeconfig")));
        let version = self.software.kubelet;
        let arguments = kubelet::arguments(version, &configuration, &kubeconfig, name, &self.address());
        self.machine.start("kubelet", &self.software.servers.join("kubelet"), &arguments)
    }

    fn start_proxy(&self) -> Result<()> {
        let config = format!("--config={}", self.machine.dir.join("proxy.json").display());
        self.machine.start("kube-proxy", &self.software.servers.join("kube-proxy"), &[config])
    }

    /// What a routed primary such as kindnet gives: an address of the node's part, host ports, bandwidth.
    fn primary(&self) -> Value {
        json!({
            "cniVersion": "0.4.0",
            "name": "pods",
            "plugins": [
                { "type": "ptp", "ipMasq": false, "ipam": {
                    "type": "host-local",
                    "dataDir": "/run/pods",
                    "ranges": [[{ "subnet": self.cidr }]],
                    "routes": [{ "dst": "0.0.0.0/0" }],
                } },
                { "type": "portmap", "capabilities": { "portMappings": true } },
                { "type": "bandwidth", "capabilities": { "bandwidth": true } },
            ],
        })
    }

    /// Fails if something of the node has ended.
    pub(super) fn ensure_runs(&self) -> Result<()> {
        for service in ["containerd", "kubelet", "kube-proxy"] {
            self.machine.ensure_runs(service)?;
        }
        Ok(())
    }
}

/// The control group of a node: below the cluster's, which bears the name of its directory.
fn group(home: &Path, node: &str) -> Result<String> {
    let Some(cluster) = home.file_name().and_then(|name| name.to_str()) else {
        bail!("{} is no directory of a cluster", home.display());
    };
    Ok(format!("{cluster}/{node}"))
}

fn proxy(kubeconfig: &Path, node: &str) -> String {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": { "kubeconfig": kubeconfig },
        "clusterCIDR": PODS,
        // These are the machine's, not a namespace's.
        "conntrack": { "maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s" },
        "healthzBindAddress": "127.0.0.1:10256",
        "hostnameOverride": node,
        "mode": "iptables",
    })
    .to_string()
}
