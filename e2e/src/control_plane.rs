//! A control plane of a test's own: a real etcd and a real kube-apiserver on loopback.
//!
//! Everything lies in one directory under `/tmp` that carries the owner's process id; what a killed test left is
//! cleared away by the next start. The executables come from `KUBEBUILDER_ASSETS`, else `BRAID_KUBERNETES_BIN`,
//! else from the cache that `scripts/kubernetes` fills.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use kube::config::{KubeConfigOptions, Kubeconfig};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::program::{output, report};
use crate::{leftovers, wait};

mod audit;
mod executables;

pub use audit::Request;
pub use executables::{executables, missing};

/// How the directory of a control plane begins; the owner's process id follows.
const DIRECTORY: &str = "braid-control-plane.";

/// The token of the one who may do everything.
pub const ADMIN: &str = "admin-token";
/// The token of somebody who is known and may do nothing.
pub const NOBODY: &str = "nobody-token";

const TOKENS: &str = "admin-token,admin,1,system:masters\nnobody-token,nobody,2\n";

/// What the audit log keeps: who did what to which object, once the answer is out.
const AUDIT: &str = "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived, ResponseStarted]\n\
                     rules:\n- level: Metadata\n";

/// A running control plane. Dropping it ends its processes and removes its files.
#[derive(Debug)]
pub struct ControlPlane {
    dir: PathBuf,
    bin: PathBuf,
    etcd_port: u16,
    port: u16,
    etcd: Child,
    api_server: Option<Child>,
}

impl ControlPlane {
    /// Starts etcd and the API server, and waits until it serves.
    pub fn start() -> Result<Self> {
        for orphan in leftovers::orphans(DIRECTORY)? {
            // Another test may be clearing it too.
            leftovers::clear(&orphan).unwrap_or_else(|error| report(&error));
        }
        let bin = executables().context("there is no kube-apiserver: scripts/kubernetes makes one")?;
        let dir = leftovers::directory(DIRECTORY)?;
        let [etcd_port, peer_port, port] = free_ports()?;
        let etcd = spawn_etcd(&bin, &dir, etcd_port, peer_port).inspect_err(|_| {
            let _ = fs::remove_dir_all(&dir);
        })?;
        let mut this = Self { dir, bin, etcd_port, port, etcd, api_server: None };
        this.prepare()?;
        this.start_api_server()?;
        Ok(this)
    }

    fn prepare(&self) -> Result<()> {
        let key = rcgen::KeyPair::generate().context("making the key for service accounts")?;
        let write = |name: &str, text: &str| {
            fs::write(self.file(name), text).with_context(|| format!("writing {name}"))
        };
        write("service-accounts.key", &key.serialize_pem())?;
        write("service-accounts.pub", &key.public_key_pem())?;
        write("tokens", TOKENS)?;
        write("audit-policy.yaml", AUDIT)
    }

    /// Starts the API server again after it was stopped or killed: same address, same data.
    pub fn start_api_server(&mut self) -> Result<()> {
        ensure!(self.api_server.is_none(), "the API server runs already");
        let log = File::options().create(true).append(true).open(self.file("api-server.log"));
        let child = Command::new(self.bin.join("kube-apiserver"))
            .args(self.arguments())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.context("opening the API server's log")?)
            .spawn()
            .context("starting kube-apiserver")?;
        self.api_server = Some(child);
        let ready = wait::until("the API server is ready", || {
            if let Some(status) = self.api_server.as_mut().context("no API server")?.try_wait()? {
                bail!("it ended with {status}");
            }
            Ok(self.is_ready())
        });
        ready.with_context(|| format!("the API server logged:\n{}", self.log()))
    }

    fn arguments(&self) -> Vec<String> {
        let file = |name: &str| self.file(name).display().to_string();
        vec![
            format!("--etcd-servers=http://127.0.0.1:{}", self.etcd_port),
            "--bind-address=127.0.0.1".to_owned(),
            "--advertise-address=127.0.0.1".to_owned(),
            format!("--secure-port={}", self.port),
            format!("--cert-dir={}", file("certificates")),
            format!("--token-auth-file={}", file("tokens")),
            "--authorization-mode=RBAC".to_owned(),
            "--allow-privileged=true".to_owned(),
            "--anonymous-auth=true".to_owned(),
            // Pods of tests have no service account that a controller would have to make first.
            "--disable-admission-plugins=ServiceAccount".to_owned(),
            "--service-cluster-ip-range=10.96.0.0/24".to_owned(),
            "--service-account-issuer=https://braid.test".to_owned(),
            format!("--service-account-key-file={}", file("service-accounts.pub")),
            format!("--service-account-signing-key-file={}", file("service-accounts.key")),
            format!("--audit-policy-file={}", file("audit-policy.yaml")),
            format!("--audit-log-path={}", file("audit.log")),
            "--audit-log-mode=blocking".to_owned(),
            // Tests make thousands of objects.
            "--max-requests-inflight=1000".to_owned(),
        ]
    }

    fn is_ready(&self) -> bool {
        let kubectl = || -> Result<String> {
            let kubeconfig = self.kubeconfig(ADMIN)?;
            let mut command = Command::new("kubectl");
            command.arg("--kubeconfig").arg(kubeconfig).args(["get", "--raw", "/readyz"]);
            output(command.args(["--request-timeout", "5s"]))
        };
        self.file("certificates/apiserver.crt").exists() && kubectl().is_ok_and(|answer| answer == "ok")
    }

    /// Tells the API server to end, and waits until it has.
    pub fn stop_api_server(&mut self) -> Result<()> {
        self.end_api_server(Signal::TERM)
    }

    /// Ends the API server as a power cut would.
    pub fn kill_api_server(&mut self) -> Result<()> {
        self.end_api_server(Signal::KILL)
    }

    fn end_api_server(&mut self, signal: Signal) -> Result<()> {
        let mut child = self.api_server.take().context("the API server does not run")?;
        send(&child, signal)?;
        child.wait().context("waiting for the API server's end")?;
        Ok(())
    }

    /// Makes the API server silent: connections stay, nothing is answered.
    pub fn pause_api_server(&self) -> Result<()> {
        send(self.api_server.as_ref().context("the API server does not run")?, Signal::STOP)
    }

    /// Lets a silent API server go on.
    pub fn resume_api_server(&self) -> Result<()> {
        send(self.api_server.as_ref().context("the API server does not run")?, Signal::CONT)
    }

    /// Makes etcd forget every version but the newest. What the API server itself remembers ends with it.
    pub fn compact_etcd(&self) -> Result<()> {
        let status = self.etcd_call("/v3/maintenance/status", &json!({}))?;
        let revision = status["header"]["revision"].as_str().context("etcd tells no revision")?.to_owned();
        self.etcd_call("/v3/kv/compaction", &json!({"revision": revision, "physical": true})).map(drop)
    }

    fn etcd_call(&self, path: &str, body: &Value) -> Result<Value> {
        let address = SocketAddr::from(([127, 0, 0, 1], self.etcd_port));
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let body = body.to_string();
        write!(
            stream,
            "POST {path} HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("etcd's answer has no body")?;
        ensure!(head.contains(" 200 "), "etcd: {answer}");
        serde_json::from_str(body).with_context(|| format!("reading etcd's answer {body:?}"))
    }

    /// A kubeconfig for the owner of a token.
    pub fn kubeconfig(&self, token: &str) -> Result<PathBuf> {
        let path = self.file(&format!("kubeconfig.{}", text_name(token)));
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "braid",
            "contexts": [{"name": "braid", "context": {"cluster": "braid", "user": "braid"}}],
            "clusters": [{"name": "braid", "cluster": {
                "server": format!("https://127.0.0.1:{}", self.port),
                "certificate-authority": self.file("certificates/apiserver.crt"),
            }}],
            "users": [{"name": "braid", "user": {"token": token}}],
        });
        fs::write(&path, config.to_string()).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }

    /// A client for the owner of a token. It belongs to the asynchronous runtime that this is called in.
    pub async fn client(&self, token: &str) -> Result<kube::Client> {
        let kubeconfig = Kubeconfig::read_from(self.kubeconfig(token)?)?;
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        kube::Client::try_from(config).context("making a client")
    }

    /// `kubectl` as the owner of a token.
    pub fn kubectl(&self, token: &str, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new("kubectl");
        output(command.arg("--kubeconfig").arg(self.kubeconfig(token)?).args(arguments))
    }

    /// Applies manifests of the sources, named from their top.
    pub fn apply(&self, path: &str) -> Result<()> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
        self.kubectl(ADMIN, &["apply", "-f", &path.display().to_string()]).map(drop)
    }

    /// A token of a service account, as its pods would get it.
    pub fn service_account_token(&self, namespace: &str, name: &str) -> Result<String> {
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token");
        let request = self.file("token-request.json");
        let body = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {"expirationSeconds": 3600}});
        fs::write(&request, body.to_string()).context("writing a token request")?;
        let answer =
            self.kubectl(ADMIN, &["create", "--raw", &path, "-f", &request.display().to_string()])?;
        let answer: Value = serde_json::from_str(&answer).context("reading the answer to a token request")?;
        answer["status"]["token"].as_str().map(str::to_owned).context("an answer without a token")
    }

    /// What roles permit: `group/resource verb`, for every rule of the named roles.
    pub fn permitted(&self, roles: &[&str]) -> Result<BTreeSet<String>> {
        let mut found = BTreeSet::new();
        for role in roles {
            let (namespace, name) = role.split_once('/').unwrap_or(("", role));
            let kind = if namespace.is_empty() { "clusterrole" } else { "role" };
            let mut arguments = vec!["get", kind, name, "-o", "json"];
            arguments.extend(if namespace.is_empty() { vec![] } else { vec!["-n", namespace] });
            let json: Value = serde_json::from_str(&self.kubectl(ADMIN, &arguments)?)?;
            for rule in json["rules"].as_array().into_iter().flatten() {
                let texts = |key: &str| -> Vec<String> {
                    let all = rule[key].as_array().into_iter().flatten();
                    all.filter_map(Value::as_str).map(str::to_owned).collect()
                };
                for group in texts("apiGroups") {
                    for resource in texts("resources") {
                        found.extend(texts("verbs").iter().map(|verb| format!("{group}/{resource} {verb}")));
                    }
                }
            }
        }
        Ok(found)
    }

    /// Installs Braid's definitions, and waits until they are served.
    pub fn install_definitions(&self) -> Result<()> {
        self.apply("crds/yaml")?;
        let all = ["wait", "--for=condition=Established", "--timeout=30s", "crd", "--all"];
        self.kubectl(ADMIN, &all).map(drop)
    }

    /// Every request that the API server has answered so far, in their order.
    pub fn requests(&self) -> Result<Vec<Request>> {
        audit::read(&self.file("audit.log"))
    }

    /// The last lines that the API server logged.
    pub fn log(&self) -> String {
        let log = fs::read_to_string(self.file("api-server.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        for child in self.api_server.iter_mut().chain([&mut self.etcd]) {
            let _ = child.kill();
            let _ = child.wait();
        }
        if let Err(error) = leftovers::clear(&self.dir) {
            report(&error);
        }
    }
}

/// A file name for a token, which may be long.
fn text_name(token: &str) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(token).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

fn send(child: &Child, signal: Signal) -> Result<()> {
    let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("a process without id")?;
    kill_process(id, signal).with_context(|| format!("sending {signal:?} to process {}", child.id()))
}

/// Three ports that nobody has now; whoever binds them next has them.
fn free_ports() -> Result<[u16; 3]> {
    let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0"));
    let mut ports = [0; 3];
    for (port, listener) in ports.iter_mut().zip(listeners) {
        *port = listener.and_then(|listener| listener.local_addr()).context("finding a free port")?.port();
    }
    Ok(ports)
}

fn spawn_etcd(bin: &Path, dir: &Path, port: u16, peer_port: u16) -> Result<Child> {
    let log = File::create(dir.join("etcd.log")).context("creating etcd's log")?;
    let (client, peer) = (format!("http://127.0.0.1:{port}"), format!("http://127.0.0.1:{peer_port}"));
    Command::new(bin.join("etcd"))
        .args(["--data-dir", &dir.join("etcd").display().to_string(), "--unsafe-no-fsync"])
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &format!("default={peer}")])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .context("starting etcd")
}
