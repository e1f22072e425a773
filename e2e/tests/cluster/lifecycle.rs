//! Braid goes and comes: the startup taint of new nodes, uninstalling it while pods have networks, back to Multus and
//! from Multus again.

use anyhow::{Context, Result, ensure};
use e2e::cluster::{Feature, NAMESPACE};
use e2e::source;
use e2e::suite::pod::Pod;
use e2e::suite::stage::Stage;
use e2e::suite::{Scenario, When};
use serde_json::json;

use crate::repair::and_then_repair;
use crate::{attached, multus};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "a_tainted_node_gets_pods_once_braid_is_ready_there",
        when: When::Alone,
        needs: &[Feature::Nodes],
        links: &[],
        story: a_tainted_node_gets_pods_once_braid_is_ready_there,
    },
    Scenario {
        name: "pods_keep_their_networks_when_braid_is_uninstalled_and_braid_comes_again",
        when: When::Last,
        needs: &[Feature::Nodes],
        links: &[],
        story: pods_keep_their_networks_when_braid_is_uninstalled_and_braid_comes_again,
    },
    Scenario {
        name: "a_cluster_goes_back_to_multus_and_comes_to_braid_again",
        when: When::Last,
        needs: &[Feature::Nodes],
        links: &[],
        story: a_cluster_goes_back_to_multus_and_comes_to_braid_again,
    },
];

/// The taint that a new node has until Braid is ready there.
const TAINT: &str = "braid.dev/not-ready";

/// Braid's configuration for the runtime.
const CONFIGURATION: &str = "/etc/cni/net.d/00-braid.conflist";

fn a_tainted_node_gets_pods_once_braid_is_ready_there(stage: &Stage<'_>) -> Result<()> {
    let cluster = stage.cluster;
    let (_, node) = stage.two_nodes()?;
    attached::define(stage, 11)?;
    let chart = source("charts/braid");
    let chart = chart.to_string_lossy();
    let upgrade = ["upgrade", "braid", &*chart, "-n", NAMESPACE, "--reuse-values", "--wait"];
    and_then_repair(
        || {
            // Nodes tell within a second, and not within half a minute, what they are.
            let values = ["--set", "startupTaint.enabled=true", "--set", "node.reportInterval=1"];
            cluster.helm(&[&upgrade[..], &values].concat())?;
            cluster.wait_for_braid()?;
            taint_while_there_is_no_primary(stage, &node)
        },
        || {
            cluster.kubectl(&["taint", "node", &node, &format!("{TAINT}-")]).ok();
            cluster.helm(&["rollback", "braid", "-n", NAMESPACE, "--wait", "--timeout", "180s"])?;
            cluster.wait_for_braid()
        },
    )?;
    attached::delete_all(stage)
}

/// A node without a primary is not ready, as a new one is: the taint keeps pods off until the primary comes.
fn taint_while_there_is_no_primary(stage: &Stage<'_>, node: &str) -> Result<()> {
    let cluster = stage.cluster;
    let aside = "cd /etc/cni/net.d; mkdir -p /var/lib/aside; mv $(ls | grep -v '^00-') /var/lib/aside";
    let back = "mv /var/lib/aside/* /etc/cni/net.d; rmdir /var/lib/aside";
    and_then_repair(
        || {
            stage.wait("the node reports that it is ready", || is_ready(stage, node))?;
            cluster.on_node(node, aside)?;
            stage.wait("the node reports that it is not ready", || Ok(!is_ready(stage, node)?))?;
            cluster.kubectl(&["taint", "node", node, &format!("{TAINT}=:NoSchedule")])?;
            stage.create(&scheduled("early", node))?;
            stage.wait("the scheduler heeds the taint", || {
                let printed = stage.describe("early")?;
                Ok(printed.contains("FailedScheduling") && printed.contains("taint"))
            })?;
            ensure!(is_tainted(stage, node)?, "the taint went while the node was not ready");
            Ok(())
        },
        || cluster.on_node(node, back).map(drop),
    )?;
    stage.wait("the taint goes", || Ok(!is_tainted(stage, node)?))?;
    stage.wait_until_ready("early")?;
    attached::address(stage, "early").map(drop)
}

/// A pod that the scheduler has to bring to a node.
fn scheduled(name: &str, node: &str) -> Pod {
    let nowhere = attached::pod(name, "");
    nowhere.with("nodeName", json!(null)).with("nodeSelector", json!({ "kubernetes.io/hostname": node }))
}

fn is_ready(stage: &Stage<'_>, node: &str) -> Result<bool> {
    let report = stage.cluster.get("nodereport", "", node)?.unwrap_or_default();
    let mut conditions = report["report"]["conditions"].as_array().into_iter().flatten();
    Ok(conditions.any(|condition| condition["type"] == "Ready" && condition["status"] == "True"))
}

fn is_tainted(stage: &Stage<'_>, node: &str) -> Result<bool> {
    let taints = stage.cluster.kubectl(&["get", "node", node, "-o", "jsonpath={.spec.taints[*].key}"])?;
    Ok(taints.contains(TAINT))
}

fn pods_keep_their_networks_when_braid_is_uninstalled_and_braid_comes_again(stage: &Stage<'_>) -> Result<()> {
    let (node, _) = stage.two_nodes()?;
    attached::define(stage, 12)?;
    for name in ["one", "two"] {
        stage.run(&attached::pod(name, &node))?;
    }
    and_then_repair(|| without_braid(stage), || stage.cluster.install_braid(&[]))?;
    stage.run(&attached::pod("again", &node))?;
    attached::address(stage, "again")?;
    attached::delete_all(stage)
}

fn without_braid(stage: &Stage<'_>) -> Result<()> {
    let cluster = stage.cluster;
    let (node, other) = stage.two_nodes()?;
    let before = (attached::address(stage, "one")?, attached::address(stage, "two")?);
    uninstall(stage)?;
    let after = (attached::address(stage, "one")?, attached::address(stage, "two")?);
    ensure!(before == after, "the pods had {before:?} and have {after:?}");
    stage.ping("one", after.1, Some("net1"))?;
    let network = cluster.get("network-attachment-definitions", &stage.namespace, "net")?;
    ensure!(network.is_some(), "the network went with Braid");
    wait_until_left(stage, &other)?;
    ensure!(configuration(stage, &node)?.contains(r#""retired": true"#), "it is not retired");

    // New pods get the primary, with Braid's configuration still there and after it.
    run_with_the_primary_alone(stage, "between", &node)?;
    run_with_the_primary_alone(stage, "elsewhere", &other)?;
    stage.delete("one")?;
    stage.ping("between", primary_address(stage, "two")?, None)?;
    stage.delete("two")?;
    stage.wait_until_nothing_is_left()?;
    wait_until_left(stage, &node)?;
    run_with_the_primary_alone(stage, "after", &node)?;
    stage.delete("between")?;
    attached::wait_until_the_primary_is_exact(stage, &node)
}

/// Takes Braid away, as the documentation says, and waits until none of it runs.
fn uninstall(stage: &Stage<'_>) -> Result<()> {
    stage.cluster.helm(&["uninstall", "braid", "-n", NAMESPACE, "--wait", "--timeout", "180s"])?;
    stage.wait("no pod of Braid is left", || Ok(stage.cluster.list("pods", NAMESPACE, "")?.is_empty()))
}

/// Braid's configuration on a node; empty if there is none.
fn configuration(stage: &Stage<'_>, node: &str) -> Result<String> {
    stage.cluster.on_node(node, &format!("cat {CONFIGURATION} 2>/dev/null || :"))
}

fn wait_until_left(stage: &Stage<'_>, node: &str) -> Result<()> {
    stage.wait(&format!("Braid has left {node}"), || Ok(configuration(stage, node)?.is_empty()))
}

/// Runs a pod that asks for a network that nobody gives it.
fn run_with_the_primary_alone(stage: &Stage<'_>, name: &str, node: &str) -> Result<()> {
    stage.run(&Pod::new(name).networks("net").on(node))?;
    let interfaces = stage.interfaces(name)?;
    ensure!(interfaces == ["eth0"], "{name} has {interfaces:?} without Braid");
    Ok(())
}

fn primary_address(stage: &Stage<'_>, pod: &str) -> Result<std::net::IpAddr> {
    let value = stage.pod(pod)?;
    let address = value["status"]["podIP"].as_str().unwrap_or_default();
    address.parse().with_context(|| format!("reading the address {address:?} of {pod}"))
}

fn a_cluster_goes_back_to_multus_and_comes_to_braid_again(stage: &Stage<'_>) -> Result<()> {
    let (node, _) = stage.two_nodes()?;
    attached::define(stage, 13)?;
    and_then_repair(
        || {
            multus::install(stage, &node, 14)?;
            stage.run(&attached::pod("of-braid", &node))?;
            attached::address(stage, "of-braid")?;
            ensure!(multus::calls(stage, &node, "ADD")? == 0, "Multus was called while Braid was there");
            and_then_repair(|| back_to_multus(stage, &node), || stage.cluster.install_braid(&[]))?;
            from_multus(stage, &node)
        },
        || multus::remove(stage, &node),
    )
}

/// Pods of Multus come beside one of Braid, which then goes.
fn back_to_multus(stage: &Stage<'_>, node: &str) -> Result<()> {
    let before = attached::address(stage, "of-braid")?;
    uninstall(stage)?;
    ensure!(attached::address(stage, "of-braid")? == before, "a pod of Braid lost its network");
    for name in ["first", "second"] {
        stage.run(&attached::pod(name, node))?;
    }
    ensure!(multus::calls(stage, node, "ADD")? == 2, "new pods do not go through Multus");
    stage.ping("first", multus::address(stage, "second")?, Some("net1"))?;
    // What Multus attached is undone by Multus, though Braid's configuration comes first.
    ensure!(!configuration(stage, node)?.is_empty(), "Braid left while it had a pod");
    let undone = multus::calls(stage, node, "DEL")?;
    stage.delete("first")?;
    stage.wait("Multus undoes its pod", || {
        Ok(multus::calls(stage, node, "DEL")? > undone && multus::notes(stage, node)? == 1)
    })?;
    stage.delete("of-braid")?;
    wait_until_left(stage, node)?;
    stage.run(&attached::pod("third", node))?;
    // The addresses of the two pods of Multus that run.
    let mut left = Vec::new();
    let waited = stage.wait("nothing of other pods is left", || {
        left = stage.left()?;
        Ok(left.len() == 2 && left.iter().all(|one| one.contains("__multus/")))
    });
    waited.with_context(|| format!("left are {left:?}"))
}

/// Braid is there again: it undoes what Multus attached, and new pods are its own.
fn from_multus(stage: &Stage<'_>, node: &str) -> Result<()> {
    let (added, undone) = (multus::calls(stage, node, "ADD")?, multus::calls(stage, node, "DEL")?);
    stage.run(&attached::pod("of-braid-again", node))?;
    attached::address(stage, "of-braid-again")?;
    stage.ping("second", multus::address(stage, "third")?, Some("net1"))?;
    attached::delete_all(stage)?;
    let now = (multus::calls(stage, node, "ADD")?, multus::calls(stage, node, "DEL")?);
    ensure!(now == (added, undone), "Multus was called: {added} ADD and {undone} DEL became {now:?}");
    stage.wait("no note of Multus is left", || Ok(multus::notes(stage, node)? == 0))
}
