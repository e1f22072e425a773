//! Network namespaces of a test's own, each with a host or a pod in it.
//!
//! Their names begin with `braid-e2e-` and the process id of the test. Those of tests that were killed are
//! removed when the next test makes its first one.

use std::collections::BTreeSet;
use std::fs::File;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use cni::result::Family;
use ipnet::IpNet;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;

use crate::leftovers::is_orphan;
use crate::program::{output, report};
use crate::wait;

/// How everything begins that a test has outside of itself; the id of its process follows.
pub(crate) const PREFIX: &str = "braid-e2e-";

/// Where `ip netns` keeps namespaces.
const NAMESPACES: &str = "/run/netns";

/// How long something that is to answer may take.
const PATIENCE: &str = "10";

/// A network namespace. Dropping it removes it, with the interfaces that are in it.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes a namespace whose loopback is up. `role` is for people.
    pub fn new(role: &str) -> Result<Self> {
        static FIRST: Once = Once::new();
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        FIRST.call_once(clear_orphans);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}.{number}.{role}", std::process::id());
        output(Command::new("ip").args(["netns", "add", &name])).context("making a network namespace")?;
        let this = Self { name };
        // Duplicate address detection would make each IPv6 address wait for seconds.
        this.sysctl("ipv6/conf/default/accept_dad", "0")?;
        this.ip("link set lo up")?;
        Ok(this)
    }

    /// The file of the namespace.
    pub fn path(&self) -> PathBuf {
        Path::new(NAMESPACES).join(&self.name)
    }

    /// Does something in the namespace. Sockets and processes that it makes are of the namespace, whoever uses
    /// them.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let file = File::open(self.path()).with_context(|| format!("opening {}", self.path().display()))?;
        thread::scope(|scope| {
            // A thread that enters a namespace does not come back; this one ends.
            let inside = scope.spawn(|| -> Result<T> {
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                    .with_context(|| format!("entering {}", self.path().display()))?;
                Ok(work())
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Runs a program in the namespace and returns what it printed.
    pub fn run(&self, program: &str, args: &[&str]) -> Result<String> {
        self.within(|| output(Command::new(program).args(args)))?
            .with_context(|| format!("running {program} {} in {}", args.join(" "), self.name))
    }

    /// Runs `ip` with words in the namespace.
    pub fn ip(&self, words: &str) -> Result<String> {
        let words: Vec<&str> = words.split_whitespace().collect();
        self.run("ip", &words)
    }

    /// What `ip -json` prints.
    pub fn ip_json(&self, words: &str) -> Result<Vec<Value>> {
        let text = self.ip(&format!("-json {words}"))?;
        if text.is_empty() {
            return Ok(Vec::new());
        }
        serde_json::from_str(&text).with_context(|| format!("reading what ip {words} printed"))
    }

    /// Sets a sysctl of the namespace, by its path below `/proc/sys/net`.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        self.within(|| std::fs::write(format!("/proc/sys/net/{key}"), value))?
            .with_context(|| format!("setting {key} in {}", self.name))
    }

    /// Reads a sysctl of the namespace.
    pub fn read_sysctl(&self, key: &str) -> Result<String> {
        let text = self.within(|| std::fs::read_to_string(format!("/proc/sys/net/{key}")))?;
        Ok(text.with_context(|| format!("reading {key} in {}", self.name))?.trim_end().to_owned())
    }

    /// The names of all interfaces.
    pub fn links(&self) -> Result<BTreeSet<String>> {
        let links = self.ip_json("link show")?;
        Ok(links.iter().filter_map(|link| Some(link["ifname"].as_str()?.to_owned())).collect())
    }

    /// An interface as `ip -json -details link` shows it.
    pub fn link(&self, name: &str) -> Result<Value> {
        let mut links = self.ip_json(&format!("-details link show dev {name}"))?;
        links.pop().with_context(|| format!("{name} is not there"))
    }

    /// The addresses of an interface, those of the link itself left out.
    pub fn addresses(&self, interface: &str) -> Result<Vec<IpNet>> {
        let links = self.ip_json(&format!("address show dev {interface}"))?;
        let all = links.iter().filter_map(|link| link["addr_info"].as_array()).flatten();
        let global = all.filter(|address| address["scope"] == "global");
        global
            .map(|one| {
                let text = format!("{}/{}", one["local"].as_str().unwrap_or_default(), one["prefixlen"]);
                text.parse().with_context(|| format!("reading address {text} of {interface}"))
            })
            .collect()
    }

    /// The default routes of a family: interface, and gateway where there is one.
    pub fn default_routes(&self, family: Family) -> Result<Vec<(String, Option<IpAddr>)>> {
        let option = if family == Family::Ipv4 { "-4" } else { "-6" };
        let routes = self.ip_json(&format!("{option} route show default"))?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Ok(routes.iter().map(|r| (text(&r["dev"]), text(&r["gateway"]).parse().ok())).collect())
    }

    /// Sends probes to an address until one is answered; how long that one took. From an interface's address if one
    /// is named.
    pub fn ping(&self, address: IpAddr, from: Option<&str>) -> Result<Duration> {
        let target = address.to_string();
        let mut args = vec!["-n", "-c", "1", "-i", "0.2", "-w", PATIENCE];
        args.extend(from.iter().flat_map(|interface| ["-I", interface]));
        args.push(&target);
        // An error that the network tells ends ping early: of IPv6, the neighbour is silent while it looks for a double
        // of its new address.
        let (mut printed, mut last) = (String::new(), Ok(()));
        let answered = wait::until(&format!("{target} answers"), || {
            last = self.run("ping", &args).map(|told| printed = told);
            Ok(last.is_ok())
        });
        answered.or_else(|waited| last.with_context(|| format!("{waited:#}")))?;
        let time = printed.split_once("time=").and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
        let milliseconds: f64 = time.with_context(|| format!("ping printed no time: {printed}"))?;
        Ok(Duration::from_secs_f64(milliseconds / 1000.0))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.name) {
            report(&error);
        }
    }
}

fn remove(name: &str) -> Result<()> {
    output(Command::new("ip").args(["netns", "delete", name])).map(drop)
}

/// Removes the namespaces of tests that were killed.
fn clear_orphans() {
    for entry in std::fs::read_dir(NAMESPACES).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if is_orphan(&name, PREFIX) {
            // Another test may be removing it too.
            let _ = remove(&name);
        }
    }
}
