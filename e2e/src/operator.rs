//! The operator's executable as a process of a test's own.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use store::NodeDirectory;

use crate::{artefacts, wait};

/// How long a start may take: beside other tests, with networks that are large or many, some ten seconds.
const READY_WITHIN: Duration = Duration::from_secs(120);

/// A running `braid node` or `braid controller`. Dropping it kills it.
#[derive(Debug)]
pub struct Operator {
    child: Child,
    log: PathBuf,
    /// Where it serves `/livez` and the rest.
    pub admin: SocketAddr,
}

impl Operator {
    /// Starts `braid <role>`; its log goes to a file in `dir`. The role's admin server gets a free port.
    pub fn start(role: &str, dir: &Path, kubeconfig: &Path, arguments: &[&str]) -> Result<Self> {
        let kubeconfig = kubeconfig.to_string_lossy();
        let arguments: Vec<&str> =
            ["--kubeconfig", &kubeconfig].into_iter().chain(arguments.iter().copied()).collect();
        Self::spawn(Command::new(artefacts::braid()?), role, dir, &arguments)
    }

    /// Starts `braid node` on a directory of manifests, without an API server; its log goes to a file in `dir`.
    pub fn start_on_manifests(dir: &Path, manifests: &Path, directory: &NodeDirectory) -> Result<Self> {
        let paths = [manifests, directory.run(), directory.state()].map(Path::to_string_lossy);
        let [manifests, run, state] = &paths;
        let arguments = ["--manifests", manifests, "--run-dir", run, "--state-dir", state];
        Self::spawn(Command::new(artefacts::braid()?), "node", dir, &arguments)
    }

    /// The same as in a pod: with the mounts of a service account, and the API server's address in the environment.
    /// `account` has what is mounted.
    pub fn start_in_pod(
        role: &str,
        dir: &Path,
        account: &Path,
        api: SocketAddr,
        arguments: &[&str],
    ) -> Result<Self> {
        const MOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
        // In a mount namespace of its own: nothing of it is left on the machine.
        let script = format!(
            "mount -t tmpfs tmpfs /run && mkdir -p {MOUNT} && mount --bind \"$0\" {MOUNT} && exec \"$@\""
        );
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", &script]).arg(account);
        command.arg(artefacts::braid()?);
        command.env("KUBERNETES_SERVICE_HOST", api.ip().to_string());
        command.env("KUBERNETES_SERVICE_PORT", api.port().to_string());
        Self::spawn(command, role, dir, arguments)
    }

    fn spawn(mut command: Command, role: &str, dir: &Path, arguments: &[&str]) -> Result<Self> {
        let admin = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let admin = admin.context("finding a free port")?;
        let log = dir.join(format!("{role}-{}.log", admin.port()));
        let child = command
            .arg(role)
            .args(["--admin-address", &admin.to_string(), "--log-level", "debug"])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).context("creating the operator's log")?)
            .spawn()
            .context("starting braid")?;
        Ok(Self { child, log, admin })
    }

    /// Waits until `/readyz` says so.
    pub fn wait_until_ready(&mut self) -> Result<()> {
        let ready = wait::within(READY_WITHIN, "the operator is ready", || {
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended with {status}");
            }
            Ok(self.get("/readyz").is_ok_and(|(code, _)| code == 200))
        });
        ready.with_context(|| {
            let reasons = self.get("/readyz").map(|(_, body)| body).unwrap_or_default();
            format!("it is not ready: {reasons}; it logged:\n{}", self.log())
        })
    }

    /// Asks the admin server: code and body.
    pub fn get(&self, path: &str) -> Result<(u16, String)> {
        let mut stream = TcpStream::connect_timeout(&self.admin, Duration::from_secs(5))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: braid\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("the answer has no body")?;
        let code =
            head.split(' ').nth(1).and_then(|code| code.parse().ok()).context("an answer without code")?;
        Ok((code, body.to_owned()))
    }

    /// One value of `/metrics`; `None` where there is none.
    pub fn metric(&self, name: &str) -> Result<Option<f64>> {
        let (_, text) = self.get("/metrics")?;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map(|value| value.trim().parse().with_context(|| format!("reading {name} {value}"))).transpose()
    }

    /// Tells it to stop, and waits for its end.
    pub fn stop(mut self) -> Result<ExitStatus> {
        self.send(Signal::TERM)?;
        self.child.wait().context("waiting for the operator's end")
    }

    /// Ends it as a power cut would.
    pub fn kill(mut self) -> Result<()> {
        self.send(Signal::KILL)?;
        self.child.wait().map(drop).context("waiting for the operator's end")
    }

    /// Sends a signal.
    pub fn send(&self, signal: Signal) -> Result<()> {
        let id = i32::try_from(self.id()).ok().and_then(Pid::from_raw).context("a process without id")?;
        kill_process(id, signal).context("sending a signal to the operator")
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Everything that it has logged.
    pub fn whole_log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// What it logged last.
    pub fn log(&self) -> String {
        let log = self.whole_log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
