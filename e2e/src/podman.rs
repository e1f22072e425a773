//! Podman with its CNI backend, on storage and settings of a test's own.
//!
//! Like a containerd of a test, it lives in one directory under `/tmp` that the next start clears away if the
//! test was killed.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::program::{on_path, output, report};
use crate::{image, leftovers};

/// How the directory of a podman begins; the owner's process id follows.
const DIRECTORY: &str = "braid-podman.";

/// A podman whose containers get their network from CNI. Dropping it removes its containers and its files.
pub struct Podman {
    dir: PathBuf,
}

/// What podman tells of a running container.
#[derive(Clone, Debug)]
pub struct Container {
    /// The container's id, which CNI plugins get as theirs.
    pub id: String,
    /// The addresses that podman understood from the CNI result, IPv4 before IPv6.
    pub ips: Vec<IpAddr>,
    /// The hardware address that podman understood from the CNI result.
    pub mac: String,
    /// The container's network namespace.
    pub netns: PathBuf,
}

/// Names the package that [`Podman::new`] would miss on this machine.
pub fn missing() -> Option<String> {
    ["podman", "conmon", "runc"]
        .iter()
        .find(|program| !on_path(program))
        .map(|name| (*name).to_owned())
        .or(image::missing())
}

impl Podman {
    /// Prepares podman with the test image. CNI plugins are sought in `plugin_dirs`, configurations in
    /// `conf_dir`; podman reads the latter at each command and keeps a lock file there.
    pub fn new(plugin_dirs: &[&Path], conf_dir: &Path) -> Result<Self> {
        for dir in leftovers::orphans(DIRECTORY)? {
            drop(Self { dir });
        }
        let this = Self { dir: leftovers::directory(DIRECTORY)? };
        let settings = settings(&this.dir, plugin_dirs, conf_dir)?;
        fs::write(this.dir.join("containers.conf"), settings).context("writing podman's settings")?;
        let archive = this.dir.join("image.tar");
        image::write_archive(&archive)?;
        output(this.podman().args(["load", "--quiet", "--input"]).arg(&archive))
            .context("loading the test image")?;
        Ok(this)
    }

    /// Runs a container of the test image on one CNI network and returns its id. `options` are further ones of
    /// `podman run`, such as `--publish`.
    pub fn run(&self, name: &str, network: &str, options: &[&str]) -> Result<String> {
        let mut command = self.podman();
        command
            .args(["run", "--detach", "--pull", "never", "--name", name, "--network", network])
            .args(options);
        output(command.arg(image::REFERENCE))
            .with_context(|| format!("running container {name} on network {network}"))
    }

    /// Takes in a further image.
    pub fn load(&self, archive: &Path) -> Result<()> {
        output(self.podman().args(["load", "--quiet", "--input"]).arg(archive))
            .map(drop)
            .with_context(|| format!("loading the image {}", archive.display()))
    }

    /// Runs a container of an image until it ends, and returns what it printed. `options` are those of `podman run`.
    pub fn run_to_the_end(&self, image: &str, options: &[&str], arguments: &[&str]) -> Result<String> {
        let mut command = self.podman();
        command.args(["run", "--rm", "--pull", "never"]).args(options).arg(image).args(arguments);
        output(&mut command).with_context(|| format!("running a container of {image}"))
    }

    /// Runs a program in a container and returns what it printed.
    pub fn exec(&self, container: &str, program: &[&str]) -> Result<String> {
        output(self.podman().args(["exec", container]).args(program))
            .with_context(|| format!("running {program:?} in container {container}"))
    }

    /// What podman knows of a container on the given network.
    pub fn inspect(&self, container: &str, network: &str) -> Result<Container> {
        let text = output(self.podman().args(["container", "inspect", container]))
            .with_context(|| format!("inspecting container {container}"))?;
        let list: Value = serde_json::from_str(&text).context("reading what podman inspect printed")?;
        let settings = &list[0]["NetworkSettings"];
        let network = &settings["Networks"][network];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut ips = Vec::new();
        for ip in [text(&network["IPAddress"]), text(&network["GlobalIPv6Address"])] {
            if !ip.is_empty() {
                ips.push(ip.parse().with_context(|| format!("reading the address {ip:?} of {container}"))?);
            }
        }
        let netns = PathBuf::from(text(&settings["SandboxKey"]));
        Ok(Container { id: text(&list[0]["Id"]), ips, mac: text(&network["MacAddress"]), netns })
    }

    /// Ends and removes a container, which takes down its network.
    pub fn remove(&self, container: &str) -> Result<()> {
        output(self.podman().args(["rm", "--force", "--time", "0", container]))
            .map(drop)
            .with_context(|| format!("removing container {container}"))
    }

    /// The command with everything that keeps it apart from other podmans of the machine.
    fn podman(&self) -> Command {
        let mut command = Command::new("podman");
        command.env("CONTAINERS_CONF", self.dir.join("containers.conf")).args(["--storage-driver", "vfs"]);
        command.arg("--root").arg(self.dir.join("root")).arg("--runroot").arg(self.dir.join("run"));
        command.arg("--tmpdir").arg(self.dir.join("tmp"));
        command
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let removed = output(self.podman().args(["rm", "--force", "--time", "0", "--all"]));
        if let Err(error) = removed.and_then(|_| leftovers::clear(&self.dir)) {
            report(&error);
        }
    }
}

/// Podman's settings. Its limits of old are above what an ordinary machine may set, crun does not know every
/// cgroup layout that runc does, and the usual locks are shared with other podmans.
fn settings(dir: &Path, plugin_dirs: &[&Path], conf_dir: &Path) -> Result<String> {
    // An array of strings is the same in JSON and in TOML.
    let plugin_dirs = serde_json::to_string(plugin_dirs).context("writing the plugin directories")?;
    let (dir, conf_dir) = (dir.display(), conf_dir.display());
    Ok(format!(
        r#"[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]

[network]
network_backend = "cni"
cni_plugin_dirs = {plugin_dirs}
network_config_dir = "{conf_dir}"

[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "none"
lock_type = "file"
volume_path = "{dir}/volumes"
"#
    ))
}
