//! A machine of the local cluster: a first process with namespaces of its own for mounts, processes, network, name and
//! System V objects. When that process ends, everything on the machine ends, and nothing of it is left.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, bail};

use crate::program::output;
use crate::wait;

/// What the first process does: `$1` is the machine's name, `$2` its directory. `/run` is new after each boot, the
/// rest outlives it. A shell that waits for its children reaps those that lost their parents too.
const INIT: &str = r#"set -eu
mount -t proc proc /proc
for place in etc opt var/lib var/log; do
    mount --bind "$2/$place" "/$place"
    mount --make-shared "/$place"
done
mount -t tmpfs -o mode=755 tmpfs /run
mount --make-shared /run
mkdir -p /run/lock /run/netns /etc/cni/net.d /opt/cni/bin
hostname "$1"
ip link set lo up
# Duplicate address detection would make each IPv6 address wait for seconds.
echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad || :
echo up
exec >/dev/null
while sleep 1; do :; done
"#;

/// A machine that runs or is off. Dropping it turns it off.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) name: String,
    /// What outlives a boot, and the logs of the services.
    pub(super) dir: PathBuf,
    /// Where its programs are looked for.
    path: OsString,
    running: Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    /// `unshare`, which ends with the first process, and takes it along when it is killed.
    holder: Child,
    /// The first process, as this machine knows it.
    init: u32,
    services: BTreeMap<&'static str, Child>,
}

impl Machine {
    /// Makes a machine below `home` whose programs are those of a `PATH`, and boots it.
    pub(super) fn new(home: &Path, name: &str, path: &OsStr) -> Result<Self> {
        let dir = home.join(name);
        for place in ["opt", "var/lib", "var/log"] {
            fs::create_dir_all(dir.join(place))
                .with_context(|| format!("making {} for {name}", dir.display()))?;
        }
        output(Command::new("cp").args(["-a", "/etc"]).arg(&dir)).context("copying /etc for a machine")?;
        // What this host has there is another node's.
        let _ = fs::remove_dir_all(dir.join("etc/cni"));
        let this = Self { name: name.to_owned(), dir, path: path.to_owned(), running: Mutex::new(None) };
        this.boot()?;
        Ok(this)
    }

    /// Starts the first process, and waits until it has mounted everything.
    pub(super) fn boot(&self) -> Result<()> {
        let script = self.dir.join("init");
        fs::write(&script, INIT).with_context(|| format!("writing {}", script.display()))?;
        let log = File::create(self.dir.join("init.log")).context("making a machine's log")?;
        let mut holder = Command::new("unshare")
            .args(["--mount", "--uts", "--pid", "--ipc", "--net", "--fork", "--kill-child=KILL"])
            .args(["--propagation", "private", "sh"])
            .arg(&script)
            .arg(&self.name)
            .arg(&self.dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .context("starting unshare")?;
        // The guardian of the directory kills what is named in such files.
        let pid = self.dir.with_extension("pid");
        fs::write(&pid, format!("{}\n", holder.id())).context("writing a machine's process id")?;
        let mut told = [0; 2];
        let up = holder.stdout.take().is_some_and(|mut pipe| pipe.read_exact(&mut told).is_ok());
        if !up {
            let _ = holder.kill();
            let _ = holder.wait();
            let log = fs::read_to_string(self.dir.join("init.log")).unwrap_or_default();
            bail!("booting {}: {}", self.name, log.trim());
        }
        let children = format!("/proc/{0}/task/{0}/children", holder.id());
        let children = fs::read_to_string(children).context("finding the first process of a machine")?;
        let init = children.trim().parse().context("reading the id of the first process")?;
        *self.running() = Some(Running { holder, init, services: BTreeMap::new() });
        Ok(())
    }

    /// Cuts the power: every process of the machine is killed, its interfaces and `/run` are gone.
    pub(super) fn cut_power(&self) {
        let Some(mut running) = self.running().take() else { return };
        let _ = running.holder.kill();
        let _ = running.holder.wait();
        for child in running.services.values_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// A command that runs on the machine.
    pub(super) fn command(&self, program: &str) -> Result<Command> {
        let mut command = self.enter(&["--mount", "--uts", "--pid", "--ipc", "--net"])?;
        command.arg(program);
        Ok(command)
    }

    /// A command that runs here, with the machine's network.
    pub(super) fn command_in_its_network(&self, program: &str) -> Result<Command> {
        let mut command = self.enter(&["--net"])?;
        command.arg(program);
        Ok(command)
    }

    /// Runs a shell script on the machine and returns what it printed.
    pub(super) fn sh(&self, script: &str) -> Result<String> {
        output(self.command("sh")?.args(["-euc", script]))
            .with_context(|| format!("running on {}", self.name))
    }

    /// Starts a program that goes on; what it tells goes to `<service>.log`.
    pub(super) fn start(&self, service: &'static str, program: &Path, arguments: &[String]) -> Result<()> {
        let log = self.dir.join(format!("{service}.log"));
        let log = File::options().create(true).append(true).open(&log).context("opening a service's log")?;
        let mut command = self.command("sh")?;
        command.args(["-c", "echo $$ >\"/run/$0.pid\"; exec \"$@\"", service]).arg(program).args(arguments);
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("sharing a service's log")?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {service} on {}", self.name))?;
        self.running().as_mut().context("the machine is off")?.services.insert(service, child);
        Ok(())
    }

    /// Kills a service, and nothing that it started.
    pub(super) fn kill(&self, service: &'static str) -> Result<()> {
        self.sh(&format!("kill -9 $(cat /run/{service}.pid)"))
            .with_context(|| format!("killing {service}"))?;
        let child = self.running().as_mut().and_then(|running| running.services.remove(service));
        child.map_or(Ok(()), |mut child| child.wait().map(drop).context("waiting for a service's end"))
    }

    /// Fails if a service has ended, with what it told last.
    pub(super) fn ensure_runs(&self, service: &'static str) -> Result<()> {
        let mut running = self.running();
        let child = running.as_mut().and_then(|running| running.services.get_mut(service));
        let child = child.with_context(|| format!("{service} of {} was not started", self.name))?;
        if let Some(status) = child.try_wait().with_context(|| format!("looking after {service}"))? {
            bail!("{service} of {} ended with {status}; it logged:\n{}", self.name, self.last_lines(service));
        }
        Ok(())
    }

    /// What a service told last.
    pub(super) fn last_lines(&self, service: &str) -> String {
        let log = fs::read_to_string(self.dir.join(format!("{service}.log"))).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Gives the machine an interface, whose other end is a port of `bridge` on `other`.
    pub(super) fn plug(&self, interface: &str, other: &Self, bridge: &str) -> Result<()> {
        let (own, others) = (self.init()?, other.init()?);
        let port = format!("{}-{interface}", self.name);
        // The port of an earlier boot goes a moment after its other end.
        wait::until("the port is free", || {
            let mut add = Command::new("ip");
            add.args(["link", "add", interface, "netns", &own.to_string(), "type", "veth"]);
            add.args(["peer", "name", &port, "netns", &others.to_string()]);
            Ok(output(&mut add).is_ok())
        })?;
        other.sh(&format!("ip link set {port} master {bridge} up"))?;
        self.sh(&format!("ip link set {interface} up")).map(drop)
    }

    fn enter(&self, namespaces: &[&str]) -> Result<Command> {
        let mut command = Command::new("nsenter");
        command.env("PATH", &self.path);
        command.arg("--target").arg(self.init()?.to_string()).args(namespaces).arg("--");
        Ok(command)
    }

    fn init(&self) -> Result<u32> {
        let running = self.running();
        running.as_ref().map(|running| running.init).with_context(|| format!("{} is off", self.name))
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.cut_power();
    }
}
