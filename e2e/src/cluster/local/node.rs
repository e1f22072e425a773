//! A node of a local cluster: a machine with containerd, kubelet and kube-proxy, and a primary network.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::cgroups;
use super::control_plane::{ADDRESS, ControlPlane, DATA, LAN, PODS};
use super::machine::Machine;
use crate::cluster::Service;
use crate::program::output;
use crate::{artefacts, containerd, image, wait};

/// The file of the primary's configuration on a node.
pub(super) const PRIMARY: &str = "/etc/cni/net.d/10-pods.conflist";

/// The places of a node's containerd: what it keeps, what ends with a boot, its socket.
const CONTAINERD: [&str; 3] = ["/var/lib/containerd", "/run/containerd", "/run/containerd/containerd.sock"];

/// How long a node may take to come up.
const PATIENCE: Duration = Duration::from_secs(90);

/// A node that runs or is off.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) machine: Machine,
    /// Its place among the nodes, from 1.
    number: usize,
    programs: PathBuf,
    home: PathBuf,
    /// Its part of the pods' addresses, once the controller manager has given it one.
    cidr: String,
}

impl Node {
    /// Starts a node and everything on it, but does not wait until it is ready.
    pub(super) fn start(
        home: &Path,
        programs: &Path,
        plane: &ControlPlane,
        number: usize,
        name: &str,
    ) -> Result<Self> {
        cgroups::make(&group(home, name)?)?;
        let machine = Machine::new(home, name)?;
        let plugins = artefacts::reference_plugins().context("the reference plugins are not installed")?;
        machine.sh(&format!("cp -a {}/. /opt/cni/bin/", plugins.display()))?;
        let (programs, home) = (programs.to_owned(), home.to_owned());
        let this = Self { machine, number, programs, home, cidr: format!("10.223.{number}.0/24") };
        this.write_configuration()?;
        this.plug(plane)?;
        this.start_runtime()?;
        this.import_test_image()?;
        this.machine.sh(&format!("cat >{PRIMARY} <<'END'\n{}\nEND", this.primary()))?;
        this.start_kubelet()?;
        this.start_proxy()?;
        Ok(this)
    }

    /// Turns the node off and on again.
    pub(super) fn reboot(&self, plane: &ControlPlane) -> Result<()> {
        self.machine.cut_power();
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
        let archive = archive.display();
        self.machine
            .sh(&format!("ctr --namespace k8s.io images import --snapshotter native {archive} >/dev/null"))
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
        let kubelet = kubelet(&group(&self.home, name)?);
        let proxy = proxy(&self.home.join("admin.kubeconfig"), name);
        for (file, content) in [
            (
                "containerd.toml",
                containerd::configuration(CONTAINERD, "stream_server_address = \"127.0.0.1\"\n"),
            ),
            ("kubelet.json", kubelet),
            ("proxy.json", proxy),
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
        let arguments = [
            format!("--config={}", dir.join("kubelet.json").display()),
            format!("--kubeconfig={}", self.home.join(format!("{name}.kubeconfig")).display()),
            format!("--hostname-override={name}"),
            format!("--node-ip={}", self.address()),
            "--container-runtime=remote".to_owned(),
            "--container-runtime-endpoint=unix:///run/containerd/containerd.sock".to_owned(),
        ];
        self.machine.start("kubelet", &self.programs.join("kubelet"), &arguments)
    }

    fn start_proxy(&self) -> Result<()> {
        let config = format!("--config={}", self.machine.dir.join("proxy.json").display());
        self.machine.start("kube-proxy", &self.programs.join("kube-proxy"), &[config])
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

fn kubelet(group: &str) -> String {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": { "anonymous": { "enabled": true }, "webhook": { "enabled": false } },
        "authorization": { "mode": "AlwaysAllow" },
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{group}"),
        "clusterDNS": ["10.96.0.10"],
        "clusterDomain": "cluster.local",
        "enforceNodeAllocatable": [],
        // A machine that is short of disk is to fail scenarios for what they show, not for that.
        "evictionHard": { "memory.available": "1Mi", "nodefs.available": "1Mi", "imagefs.available": "1Mi" },
        "failSwapOn": false,
        "fileCheckFrequency": "1s",
        "imageGCHighThresholdPercent": 100,
        "maxPods": 250,
        "nodeStatusUpdateFrequency": "4s",
        "staticPodPath": "/var/lib/kubelet/manifests",
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
    })
    .to_string()
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
