//! What pods really have of their networks: seen in the pod, in its network-status and on its node.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use e2e::suite::pod::Pod;
use e2e::suite::stage::Stage;
use serde_json::Value;

use crate::bridges;

/// The exit code of a container that finds itself without `net1`.
pub(crate) const WITHOUT: i64 = 77;

/// Where the primary of a local cluster keeps its addresses.
const PRIMARY: &str = "ls /run/pods/pods 2>/dev/null | grep -v -e last_reserved -e lock || :";

/// Defines the network `net` of a scenario: a bridge on each node, with the addresses 10.103.`number`.0/24.
pub(crate) fn define(stage: &Stage<'_>, number: u8) -> Result<()> {
    stage.define("net", &bridges::plain(stage, "br", &format!("10.103.{number}.0/24")))
}

/// A pod on a node that asks for `net`. Its container ends with [`WITHOUT`] when it is started without that network.
pub(crate) fn pod(name: &str, node: &str) -> Pod {
    let script = format!("[ -e /sys/class/net/net1 ] || exit {WITHOUT}; exec sleep 100000");
    Pod::new(name).networks("net").on(node).running(&script)
}

/// The address that `net1` really has in a pod; waits until the network-status says the same.
pub(crate) fn address(stage: &Stage<'_>, pod: &str) -> Result<IpAddr> {
    let real = in_listing(&stage.exec(pod, &["ip", "-o", "-4", "address", "show", "dev", "net1"])?)?;
    let mut told = Vec::new();
    let same = stage.wait(&format!("the network-status of {pod} says {real}"), || {
        told = stage.addresses(pod, "net1").unwrap_or_default();
        Ok(told == [real])
    });
    same.with_context(|| format!("it said {told:?}"))?;
    Ok(real)
}

/// The first address that `ip -o address` printed.
pub(crate) fn in_listing(printed: &str) -> Result<IpAddr> {
    let mut words = printed.split_whitespace().skip_while(|word| *word != "inet");
    let found = words.nth(1).and_then(|word| word.split('/').next());
    let found = found.with_context(|| format!("no address is in {printed:?}"))?;
    found.parse().with_context(|| format!("reading the address {found:?}"))
}

/// The id of the container that runs in a pod, if one does and is ready. Fails if it has run without its network.
pub(crate) fn ready_container(stage: &Stage<'_>, pod: &str) -> Result<Option<String>> {
    let value = stage.pod(pod)?;
    let status = &value["status"]["containerStatuses"][0];
    // Without a network it would end again and again, and never get one.
    let ended = |state: &str| status[state]["terminated"]["exitCode"] == WITHOUT;
    ensure!(!ended("state") && !ended("lastState"), "{pod} has run without its network");
    let id = status["containerID"].as_str().filter(|_| status["ready"] == true);
    Ok(id.map(str::to_owned))
}

/// Deletes all pods of the scenario, and waits until the nodes have nothing of them any more.
pub(crate) fn delete_all(stage: &Stage<'_>) -> Result<()> {
    stage.kubectl(&["delete", "pods", "--all", "--wait=true", "--timeout=120s"])?;
    stage.wait_until_nothing_is_left()?;
    stage.cluster.nodes().iter().try_for_each(|node| wait_until_the_primary_is_exact(stage, node))
}

/// Waits until the primary of a node holds no address but those of pods that are there. Only a local cluster's
/// primary is known well enough to be asked.
pub(crate) fn wait_until_the_primary_is_exact(stage: &Stage<'_>, node: &str) -> Result<()> {
    if stage.cluster.provider() != "local" {
        return Ok(());
    }
    let mut extra = Vec::new();
    let waited = stage.wait(&format!("the primary of {node} holds no address too many"), || {
        // Asked first: a pod that comes in between is known afterwards.
        let held = stage.cluster.on_node(node, PRIMARY)?;
        let known = addresses_of_pods(stage, node)?;
        extra = held.lines().filter(|address| !known.contains(*address)).map(str::to_owned).collect();
        Ok(extra.is_empty())
    });
    waited.with_context(|| format!("too many are {extra:?}"))
}

fn addresses_of_pods(stage: &Stage<'_>, node: &str) -> Result<BTreeSet<String>> {
    let selector = format!("--field-selector=spec.nodeName={node}");
    let printed = stage.cluster.kubectl(&["get", "pods", "-A", &selector, "-o", "json"])?;
    let pods: Value = serde_json::from_str(&printed).context("reading the pods of a node")?;
    let pods = pods["items"].as_array().into_iter().flatten();
    let own = pods.filter(|pod| pod["spec"]["hostNetwork"] != true);
    Ok(own.filter_map(|pod| pod["status"]["podIP"].as_str()).map(str::to_owned).collect())
}
