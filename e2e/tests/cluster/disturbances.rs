//! The node role, the runtime, the kubelet, the API server and whole nodes fail or are replaced while pods come and
//! go: no pod runs without its networks, and nothing is left of those that are gone.

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use e2e::cluster::{Cluster, Feature, NAMESPACE, NEXT_TAG, Service};
use e2e::source;
use e2e::suite::stage::Stage;
use e2e::suite::{Scenario, When};
use serde_json::{Value, json};

use crate::repair::and_then_repair;
use crate::{attached, churn, sandboxes};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "pods_get_their_networks_while_the_node_role_is_killed_and_its_pod_deleted",
        when: When::Alone,
        needs: &[Feature::Nodes],
        links: &[],
        story: pods_get_their_networks_while_the_node_role_is_killed_and_its_pod_deleted,
    },
    Scenario {
        name: "pods_get_their_networks_while_braid_is_rolled_upgraded_and_rolled_back",
        when: When::Alone,
        needs: &[Feature::Nodes],
        links: &[],
        story: pods_get_their_networks_while_braid_is_rolled_upgraded_and_rolled_back,
    },
    Scenario {
        name: "pods_get_their_networks_while_the_node_role_is_killed_for_memory",
        when: When::Alone,
        needs: &[Feature::Nodes],
        links: &[],
        story: pods_get_their_networks_while_the_node_role_is_killed_for_memory,
    },
    Scenario {
        name: "pods_restart_with_their_networks_while_the_api_server_is_down",
        when: When::Alone,
        needs: &[Feature::Nodes, Feature::ControlPlane],
        links: &[],
        story: pods_restart_with_their_networks_while_the_api_server_is_down,
    },
    Scenario {
        name: "pods_keep_their_networks_while_containerd_and_the_kubelet_restart",
        when: When::Alone,
        needs: &[Feature::Nodes, Feature::Power],
        links: &[],
        story: pods_keep_their_networks_while_containerd_and_the_kubelet_restart,
    },
    Scenario {
        name: "pods_come_back_with_their_networks_after_a_reboot",
        when: When::Alone,
        needs: &[Feature::Nodes, Feature::Power],
        links: &[],
        story: pods_come_back_with_their_networks_after_a_reboot,
    },
];

/// Ends the node role without a word. It is found by its command, since the controller role may be on the node, too.
const KILL: &str = "kill -9 $(pgrep -f '^/braid node')";

/// A limit that the node role keeps with a few networks.
const LITTLE: &str = "8Mi";

/// Networks that are more than fits: their files count, too, since `/run` is in memory.
const MANY: usize = 60;
const LARGE: usize = 100_000;

fn pods_get_their_networks_while_the_node_role_is_killed_and_its_pod_deleted(
    stage: &Stage<'_>,
) -> Result<()> {
    let (node, _) = stage.two_nodes()?;
    attached::define(stage, 1)?;
    churn::during(stage, std::slice::from_ref(&node), |churn| {
        let first = stage.cluster.braid_pod(&node)?;
        let before = restarts(stage.cluster, &first)?;
        stage.cluster.on_node(&node, KILL).context("killing the node role")?;
        stage.wait("the killed node role is ready again", || {
            Ok(restarts(stage.cluster, &first)? > before && is_ready(stage.cluster, &first)?)
        })?;
        churn.wait_for_more()?;
        stage.cluster.kubectl(&["-n", NAMESPACE, "delete", "pod", &first])?;
        stage.wait("another node role is ready", || {
            let Ok(next) = stage.cluster.braid_pod(&node) else { return Ok(false) };
            Ok(next != first && is_ready(stage.cluster, &next)?)
        })
    })?;
    churn::ensure_no_start_failed(stage)?;
    attached::delete_all(stage)
}

fn pods_get_their_networks_while_braid_is_rolled_upgraded_and_rolled_back(stage: &Stage<'_>) -> Result<()> {
    let cluster = stage.cluster;
    attached::define(stage, 2)?;
    let first = image(cluster)?;
    churn::during(stage, &cluster.nodes(), |_| {
        cluster.kubectl(&["-n", NAMESPACE, "rollout", "restart", "daemonset/braid-node"])?;
        cluster.wait_for_braid()?;
        let upgrade = || cluster.install_braid(&["--set", &format!("image.tag={NEXT_TAG}")]);
        let roll_back = || {
            cluster.helm(&["rollback", "braid", "-n", NAMESPACE, "--wait", "--timeout", "180s"])?;
            cluster.wait_for_braid()
        };
        and_then_repair(
            || {
                upgrade()?;
                let next = image(cluster)?;
                ensure!(next.ends_with(NEXT_TAG), "after the upgrade the nodes run {next}");
                Ok(())
            },
            roll_back,
        )
    })?;
    let last = image(cluster)?;
    ensure!(last == first, "before the upgrade the nodes ran {first}, after the rollback {last}");
    churn::ensure_no_start_failed(stage)?;
    attached::delete_all(stage)
}

fn pods_get_their_networks_while_the_node_role_is_killed_for_memory(stage: &Stage<'_>) -> Result<()> {
    let cluster = stage.cluster;
    attached::define(stage, 3)?;
    churn::during(stage, &cluster.nodes(), |churn| {
        and_then_repair(
            || {
                lower_the_limit(cluster)?;
                define_many_large(stage)?;
                let mut starved = None;
                stage.wait("the kernel kills a node role for memory", || {
                    starved = node_of_a_starved_role(cluster)?;
                    Ok(starved.is_some())
                })?;
                starved.map_or(Ok(()), |node| churn.wait_for_more_on(&node))
            },
            || {
                let delete = ["delete", "network-attachment-definitions", "--wait=false"];
                let kept = "--field-selector=metadata.name!=net";
                let deleted = stage.kubectl(&[&delete[..], &[kept]].concat());
                cluster.helm(&["rollback", "braid", "-n", NAMESPACE, "--wait", "--timeout", "180s"])?;
                deleted?;
                cluster.wait_for_braid()
            },
        )
    })?;
    churn::ensure_no_start_failed(stage)?;
    attached::delete_all(stage)
}

/// Gives the node role less memory. The nodes need not get it in turn before the story goes on.
fn lower_the_limit(cluster: &Cluster) -> Result<()> {
    let chart = source("charts/braid");
    let request = format!("node.resources.requests.memory={LITTLE}");
    let limit = format!("node.resources.limits.memory={LITTLE}");
    let chart = chart.to_string_lossy();
    let upgrade = ["upgrade", "braid", &*chart, "-n", NAMESPACE, "--reuse-values", "--set", &request];
    cluster.helm(&[&upgrade[..], &["--set", &limit]].concat()).map(drop).context("lowering the limit")
}

/// Defines more than the node role can keep. They are created and not applied, which would double them.
fn define_many_large(stage: &Stage<'_>) -> Result<()> {
    let config = json!({ "cniVersion": "0.4.0", "type": "bridge", "comment": "x".repeat(LARGE) }).to_string();
    let networks = (0..MANY).map(|number| {
        json!({
            "apiVersion": "k8s.cni.cncf.io/v1",
            "kind": "NetworkAttachmentDefinition",
            "metadata": { "name": format!("large-{number}"), "namespace": stage.namespace },
            "spec": { "config": config },
        })
    });
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": networks.collect::<Vec<_>>() });
    stage.cluster.kubectl_with(&["create", "-f", "-"], &list.to_string()).map(drop)
}

/// What a killed role has written to `/run` still counts for its pod, so the next start may fail, too; then the state
/// says OOMKilled for a moment only, and the number of starts is what stays.
fn node_of_a_starved_role(cluster: &Cluster) -> Result<Option<String>> {
    let pods = cluster.list("pods", NAMESPACE, "app.kubernetes.io/component=node")?;
    let starved = pods.iter().find(|pod| {
        let status = &pod["status"]["containerStatuses"][0];
        let has_little = pod["spec"]["containers"][0]["resources"]["limits"]["memory"] == LITTLE;
        let killed = |state| status[state]["terminated"]["reason"] == "OOMKilled";
        has_little && (killed("state") || killed("lastState") || status["restartCount"].as_u64() > Some(0))
    });
    Ok(starved.and_then(|pod| pod["spec"]["nodeName"].as_str()).map(str::to_owned))
}

fn pods_restart_with_their_networks_while_the_api_server_is_down(stage: &Stage<'_>) -> Result<()> {
    let (node, _) = stage.two_nodes()?;
    attached::define(stage, 4)?;
    for name in ["restarts", "stays"] {
        stage.run(&attached::pod(name, &node))?;
    }
    let (before, stays) = (attached::address(stage, "restarts")?, attached::address(stage, "stays")?);
    let mut meanwhile = None;
    stage.cluster.stop_api_server()?;
    and_then_repair(
        || restart_alone(stage, &node, "restarts").map(|address| meanwhile = Some(address)),
        || stage.cluster.start_api_server(),
    )?;
    stage.wait_until_ready("restarts")?;
    // Addresses are given in turn, so a network-status of before would show.
    let after = attached::address(stage, "restarts")?;
    ensure!(after != before && Some(after) == meanwhile, "{before}, then {meanwhile:?}, then {after}");
    stage.ping("restarts", stays, Some("net1"))?;
    stage.cluster.wait_for_braid()?;
    attached::delete_all(stage)
}

/// Kills a pod's sandbox and waits until the kubelet has made another one by itself; returns the new address.
fn restart_alone(stage: &Stage<'_>, node: &str, pod: &str) -> Result<IpAddr> {
    let old = sandboxes::kill(stage, node, pod)?;
    let mut listing = String::new();
    stage.wait(&format!("{pod} runs in another sandbox, with its network"), || {
        let Some(new) = sandboxes::find(stage, node, pod)?.filter(|new| new.id != old) else {
            return Ok(false);
        };
        listing = sandboxes::listing(stage, node, &new)?;
        Ok(true)
    })?;
    attached::in_listing(&listing)
}

fn pods_keep_their_networks_while_containerd_and_the_kubelet_restart(stage: &Stage<'_>) -> Result<()> {
    let (_, node) = stage.two_nodes()?;
    attached::define(stage, 5)?;
    stage.run(&attached::pod("stays", &node))?;
    let before = (attached::ready_container(stage, "stays")?, attached::address(stage, "stays")?);
    churn::during(stage, std::slice::from_ref(&node), |churn| {
        stage.cluster.restart(&node, Service::Runtime)?;
        churn.wait_for_more()?;
        stage.cluster.restart(&node, Service::Kubelet)
    })?;
    let after = (attached::ready_container(stage, "stays")?, attached::address(stage, "stays")?);
    ensure!(before == after, "a pod that nobody touched was {before:?} and is {after:?}");
    attached::delete_all(stage)
}

fn pods_come_back_with_their_networks_after_a_reboot(stage: &Stage<'_>) -> Result<()> {
    let (_, node) = stage.two_nodes()?;
    attached::define(stage, 6)?;
    let pods = ["one", "two", "three"];
    let mut before = Vec::new();
    for name in pods {
        stage.run(&attached::pod(name, &node))?;
        before.push(attached::ready_container(stage, name)?);
    }
    stage.cluster.reboot(&node)?;
    let mut addresses = Vec::new();
    for (name, before) in pods.iter().zip(before) {
        stage.wait(&format!("{name} is back"), || {
            let now = attached::ready_container(stage, name)?;
            Ok(now.is_some() && now != before)
        })?;
        addresses.push(attached::address(stage, name)?);
    }
    stage.ping("one", addresses[2], Some("net1"))?;
    // Each pod has one record and one address: those of the sandboxes of before are gone.
    let mut left = Vec::new();
    let waited = stage.wait("the sandboxes of before are undone", || {
        left = stage.left()?;
        Ok(left.len() == 2 * pods.len())
    });
    waited.with_context(|| format!("there are {left:?}"))?;
    stage.cluster.wait_for_braid()?;
    attached::delete_all(stage)
}

/// The image that the node role has on every node.
fn image(cluster: &Cluster) -> Result<String> {
    let set = cluster.get("daemonset", NAMESPACE, "braid-node")?.context("Braid is not installed")?;
    let image = &set["spec"]["template"]["spec"]["containers"][0]["image"];
    image.as_str().map(str::to_owned).context("the DaemonSet has no image")
}

fn status(cluster: &Cluster, pod: &str) -> Result<Value> {
    let pod = cluster.get("pod", NAMESPACE, pod)?.unwrap_or_default();
    Ok(pod["status"]["containerStatuses"][0].clone())
}

fn restarts(cluster: &Cluster, pod: &str) -> Result<u64> {
    Ok(status(cluster, pod)?["restartCount"].as_u64().unwrap_or(0))
}

fn is_ready(cluster: &Cluster, pod: &str) -> Result<bool> {
    Ok(status(cluster, pod)?["ready"] == true)
}
