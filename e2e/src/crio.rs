//! A stand-in for CRI-O: what its CNI library (ocicni) does with a plugin, by the real `meta-cni`.
//!
//! It differs from containerd where plugins notice: CHECK follows each ADD and fails the sandbox; all addresses of a
//! result are the pod's, whatever their interface; a start of the runtime brings STATUS, GC, and CHECK of every sandbox;
//! DEL comes with what was cached, and after a reboot without a network namespace.
//!
//! Sources: ocicni's `SetUpPod`, `GetPodNetworkStatus`, `TearDownPod`, `GC` and `Status`; CRI-O's `getSandboxIPs`; the
//! kubelet's `podIPs`.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context, Result};
use cni::result::Family;
use serde_json::Value;

use crate::node::{Node, Pod};
use crate::runtime::Refusal;

/// A running CRI-O.
#[derive(Debug)]
pub struct Crio {
    node: Node,
}

/// What CRI-O hands to DEL as the pod's network namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Netns {
    /// The pod's.
    OfPod,
    /// Nothing: a reboot has taken it.
    None,
    /// A path where nothing is.
    Gone,
}

impl Crio {
    /// Takes a node over. Plugins see a process of CRI-O's name above them.
    pub fn new(mut node: Node) -> Result<Self> {
        // A shell by this name, which does not become the program that it runs.
        let shell = node.file("crio");
        fs::copy("/bin/sh", &shell).with_context(|| format!("making {}", shell.display()))?;
        let words = [&shell.display().to_string(), "-c", "\"$0\" \"$@\"; exit $?"];
        node.through = words.map(ToOwned::to_owned).to_vec();
        node.set("result", "auto");
        Ok(Self { node })
    }

    /// The node that it runs on.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Starts again with sandboxes that it finds on disk: the node is ready, what belongs to none of them is collected,
    /// and each is looked up.
    pub fn restart(&self, sandboxes: &[&Pod]) -> Result<(), Refusal> {
        self.node.status()?;
        self.node.gc(sandboxes)?;
        sandboxes.iter().try_for_each(|pod| self.node.check(pod))
    }

    /// Runs a pod's sandbox; the addresses that the kubelet is told of. A sandbox whose CHECK fails is ended.
    pub fn run(&self, pod: &Pod) -> Result<Vec<IpAddr>, Refusal> {
        let added = self.node.add(pod).and_then(|result| self.node.check(pod).map(|()| result));
        match added {
            Ok(result) => Ok(addresses(&result)?),
            Err(refusal) => {
                // The first error is the one that is told; a DEL that fails too leaves a record, which tests look for.
                let _ = self.node.del(pod);
                Err(refusal)
            }
        }
    }

    /// Ends a sandbox.
    pub fn stop(&self, pod: &Pod, netns: Netns) -> Result<(), Refusal> {
        match netns {
            Netns::OfPod => self.node.del(pod),
            Netns::None => self.node.del_in(pod, Path::new("")),
            Netns::Gone => self.node.del_in(pod, &self.node.file("gone")),
        }
    }
}

/// The pod's addresses as the kubelet publishes them (`status.podIPs`): the first of each family of what the runtime
/// gives it.
pub fn pod_ips(all: &[IpAddr]) -> Vec<IpAddr> {
    let first = |family| all.iter().copied().find(|ip| Family::of(*ip) == family);
    Family::BOTH.into_iter().filter_map(first).collect()
}

/// Every address of a result.
fn addresses(result: &Value) -> Result<Vec<IpAddr>> {
    let ips = result["ips"].as_array().map(Vec::as_slice).unwrap_or_default();
    let address = |ip: &Value| {
        let text = ip["address"].as_str().unwrap_or_default();
        let net: ipnet::IpNet = text.parse().with_context(|| format!("reading the address {text:?}"))?;
        Ok(net.addr())
    };
    ips.iter().map(address).collect()
}
