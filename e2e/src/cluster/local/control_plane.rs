//! The control plane of a local cluster, on a machine of its own: etcd, API server, controller manager, scheduler.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::json;

use super::machine::Machine;
use crate::control_plane as servers;
use crate::control_plane::keys::Keys;
use crate::program::output;
use crate::wait;

/// The machine's address on the cluster's network, and the API server's.
pub(super) const ADDRESS: &str = "10.222.0.1";

/// The addresses of Services, and the one of the API server among them.
const SERVICES: &str = "10.96.0.0/16";
const SERVICE: &str = "10.96.0.1";

/// The addresses of pods; each node has a part.
pub(super) const PODS: &str = "10.223.0.0/16";

/// The bridge that all machines are plugged into, and the second one, which carries what pods attach to.
pub(super) const LAN: &str = "lan0";
pub(super) const DATA: &str = "data0";

/// A control plane that runs.
#[derive(Debug)]
pub(super) struct ControlPlane {
    pub(super) machine: Machine,
    home: PathBuf,
    programs: PathBuf,
    /// How an administrator reaches it.
    pub(super) kubeconfig: PathBuf,
}

impl ControlPlane {
    /// Starts everything and waits until the API server answers. `nodes` are the names of the nodes that will come.
    pub(super) fn start(home: &Path, programs: &Path, nodes: &[&str]) -> Result<Self> {
        let keys = Keys::make(home, &[ADDRESS, SERVICE]).context("making the cluster's keys")?;
        let machine = Machine::new(home, "control-plane", &std::env::var_os("PATH").unwrap_or_default())?;
        machine.sh(&format!(
            "ip link add {LAN} type bridge
             ip address add {ADDRESS}/24 dev {LAN}
             ip link set {LAN} up
             ip link add {DATA} type bridge
             ip link set {DATA} up
             echo 1 >/proc/sys/net/ipv4/ip_forward"
        ))?;
        let tokens = write_tokens(home, nodes)?;
        for node in nodes {
            write_kubeconfig(home, node, &keys.authority)?;
        }
        let kubeconfig = write_kubeconfig(home, "admin", &keys.authority)?;
        let this = Self { machine, home: home.to_owned(), programs: programs.to_owned(), kubeconfig };
        this.machine.start("etcd", &servers::etcd(programs), &etcd(home))?;
        this.write_arguments(&keys, &tokens)?;
        this.start_api_server()?;
        let admin = format!("--kubeconfig={}", this.kubeconfig.display());
        let manager = manager(&keys, admin.clone());
        this.machine.start("kube-controller-manager", &programs.join("kube-controller-manager"), &manager)?;
        let scheduler = [admin, "--leader-elect=false".to_owned()];
        this.machine.start("kube-scheduler", &programs.join("kube-scheduler"), &scheduler)?;
        Ok(this)
    }

    /// The API server's arguments are kept: it is started again with the same.
    fn write_arguments(&self, keys: &Keys, tokens: &Path) -> Result<()> {
        let arguments = api_server(&self.home, keys, tokens).join("\n");
        fs::write(self.home.join("kube-apiserver.arguments"), arguments).context("writing arguments")
    }

    /// Starts the API server and waits until it answers.
    pub(super) fn start_api_server(&self) -> Result<()> {
        let arguments = fs::read_to_string(self.home.join("kube-apiserver.arguments"))?;
        let arguments: Vec<String> = arguments.lines().map(str::to_owned).collect();
        let program = self.programs.join("kube-apiserver");
        self.machine.start("kube-apiserver", &program, &arguments)?;
        wait::within(std::time::Duration::from_secs(90), "the API server is ready", || {
            self.machine.ensure_runs("kube-apiserver")?;
            self.machine.ensure_runs("etcd")?;
            let mut ask = self.machine.command_in_its_network("kubectl")?;
            ask.arg("--kubeconfig").arg(&self.kubeconfig).args(["get", "--raw", "/readyz"]);
            Ok(output(&mut ask).is_ok())
        })
    }

    /// Ends the API server without a word.
    pub(super) fn kill_api_server(&self) -> Result<()> {
        self.machine.kill("kube-apiserver")
    }
}

fn write_tokens(home: &Path, nodes: &[&str]) -> Result<PathBuf> {
    let file = home.join("tokens.csv");
    let mut lines = "the-token-of-admin,admin,admin,system:masters\n".to_owned();
    for node in nodes {
        lines.extend(["the-token-of-", node, ",system:node:", node, ",", node, ",system:nodes\n"]);
    }
    fs::write(&file, lines).with_context(|| format!("writing {}", file.display()))?;
    Ok(file)
}

fn write_kubeconfig(home: &Path, user: &str, authority: &Path) -> Result<PathBuf> {
    let file = home.join(format!("{user}.kubeconfig"));
    let server = format!("https://{ADDRESS}:6443");
    let content = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "local", "cluster": { "server": server, "certificate-authority": authority } }],
        "users": [{ "name": user, "user": { "token": format!("the-token-of-{user}") } }],
        "contexts": [{ "name": "local", "context": { "cluster": "local", "user": user } }],
        "current-context": "local",
    });
    fs::write(&file, content.to_string()).with_context(|| format!("writing {}", file.display()))?;
    Ok(file)
}

fn etcd(home: &Path) -> Vec<String> {
    [
        &format!("--data-dir={}/etcd", home.display()),
        "--listen-client-urls=http://127.0.0.1:2379",
        "--advertise-client-urls=http://127.0.0.1:2379",
        "--listen-peer-urls=http://127.0.0.1:2380",
        "--initial-advertise-peer-urls=http://127.0.0.1:2380",
        "--initial-cluster=default=http://127.0.0.1:2380",
        // Data that need not survive this machine.
        "--unsafe-no-fsync",
    ]
    .map(str::to_owned)
    .to_vec()
}

fn api_server(home: &Path, keys: &Keys, tokens: &Path) -> Vec<String> {
    let file = |name: &str, path: &Path| format!("--{name}={}", path.display());
    vec![
        "--etcd-servers=http://127.0.0.1:2379".to_owned(),
        "--bind-address=0.0.0.0".to_owned(),
        format!("--advertise-address={ADDRESS}"),
        "--secure-port=6443".to_owned(),
        format!("--service-cluster-ip-range={SERVICES}"),
        format!("--cert-dir={}", home.display()),
        file("tls-cert-file", &keys.certificate),
        file("tls-private-key-file", &keys.key),
        file("token-auth-file", tokens),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--allow-privileged=true".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        file("service-account-key-file", &keys.verifying),
        file("service-account-signing-key-file", &keys.signing),
        // No kube-proxy runs here: webhooks are reached at their pods.
        "--enable-aggregator-routing=true".to_owned(),
        "--kubelet-preferred-address-types=InternalIP".to_owned(),
    ]
}

fn manager(keys: &Keys, kubeconfig: String) -> Vec<String> {
    vec![
        kubeconfig,
        format!("--service-account-private-key-file={}", keys.signing.display()),
        format!("--root-ca-file={}", keys.authority.display()),
        "--allocate-node-cidrs=true".to_owned(),
        format!("--cluster-cidr={PODS}"),
        "--leader-elect=false".to_owned(),
        "--node-monitor-grace-period=20s".to_owned(),
    ]
}
