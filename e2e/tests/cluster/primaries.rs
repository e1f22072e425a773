//! The primary is somebody else's: whose it is, what becomes of pods when it is replaced, and what a node without one
//! does.

use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use e2e::cluster::{Feature, NAMESPACE};
use e2e::shaped_primary::node::Primary;
use e2e::suite::node_change::NodeChange;
use e2e::suite::pod::Pod;
use e2e::suite::primary::{CONFIGURATIONS, OtherPrimary, of_node, reported};
use e2e::suite::stage::Stage;
use e2e::suite::{Scenario, When};
use serde_json::{Value, json};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "pods_of_a_node_with_flannel_have_its_address_and_their_networks",
        when: When::Alone,
        needs: &[Feature::Nodes],
        links: &["bridge"],
        story: pods_of_a_node_with_flannel_have_its_address_and_their_networks,
    },
    Scenario {
        name: "pods_of_a_node_with_calico_have_its_address_and_their_networks",
        when: When::Alone,
        needs: &[Feature::Nodes],
        links: &["bridge"],
        story: pods_of_a_node_with_calico_have_its_address_and_their_networks,
    },
    Scenario {
        name: "pods_of_a_node_with_the_aws_vpc_cni_have_its_address_and_their_networks",
        when: When::Alone,
        needs: &[Feature::Nodes],
        links: &["bridge"],
        story: pods_of_a_node_with_the_aws_vpc_cni_have_its_address_and_their_networks,
    },
    Scenario {
        name: "pods_of_a_primary_that_was_replaced_go_on_and_are_detached_as_they_were_attached",
        when: When::Alone,
        needs: &[Feature::Nodes],
        links: &["bridge"],
        story: pods_of_a_primary_that_was_replaced_go_on_and_are_detached_as_they_were_attached,
    },
    Scenario {
        name: "pods_wait_for_a_primary_that_is_gone_and_start_by_themselves_when_it_is_back",
        when: When::Alone,
        needs: &[Feature::Nodes],
        links: &["bridge"],
        story: pods_wait_for_a_primary_that_is_gone_and_start_by_themselves_when_it_is_back,
    },
    Scenario {
        name: "a_node_without_any_configuration_is_not_ready_until_its_primary_comes",
        when: When::Alone,
        needs: &[Feature::Nodes],
        links: &["bridge"],
        story: a_node_without_any_configuration_is_not_ready_until_its_primary_comes,
    },
];

/// The stand-in for every primary; which one it is follows from its name.
const EXECUTABLE: &str = env!("CARGO_BIN_EXE_shaped-primary");

/// Braid's own configuration on a node.
const BRAIDS: &str = "/etc/cni/net.d/00-braid.conflist";

fn pods_of_a_node_with_flannel_have_its_address_and_their_networks(stage: &Stage<'_>) -> Result<()> {
    pods_have_the_primarys_address(stage, Primary::Flannel, "10.244.3.", 11)
}

fn pods_of_a_node_with_calico_have_its_address_and_their_networks(stage: &Stage<'_>) -> Result<()> {
    pods_have_the_primarys_address(stage, Primary::Calico, "192.168.", 12)
}

fn pods_of_a_node_with_the_aws_vpc_cni_have_its_address_and_their_networks(stage: &Stage<'_>) -> Result<()> {
    pods_have_the_primarys_address(stage, Primary::AwsVpc, "172.31.", 13)
}

/// A bridge of the scenario's own on each node, with addresses 10.104.`number`.0/24.
fn define_bridge(stage: &Stage<'_>, number: u8) -> Result<()> {
    let ipam = json!({ "type": "host-local", "ranges": [[{ "subnet": format!("10.104.{number}.0/24") }]] });
    stage.define(
        "lab",
        &json!({ "cniVersion": "0.4.0", "type": "bridge", "bridge": stage.interface("br"), "ipam": ipam }),
    )
}

/// The pod's address is one of its primary (its addresses begin with `begins`), wherever one looks.
fn ensure_primary(stage: &Stage<'_>, pod: &str, begins: &str) -> Result<()> {
    let ip = stage.pod_ip(pod)?;
    ensure!(ip.to_string().starts_with(begins), "{pod} has {ip}, which does not begin with {begins}");
    let told = stage.addresses(pod, "eth0")?;
    ensure!(told.contains(&ip), "network-status of {pod} tells {told:?} for eth0 instead of {ip}");
    ensure!(stage.status_of(pod, "eth0")?["default"] == true, "eth0 of {pod} is not told as the default");
    let real = stage.real_addresses(pod, "eth0")?;
    ensure!(real.contains(&ip), "{pod} has {real:?} on eth0 instead of {ip}");
    Ok(())
}

/// The pod's second interface is what its network-status tells.
fn ensure_secondary(stage: &Stage<'_>, pod: &str) -> Result<IpAddr> {
    let address = stage.address(pod, "net1")?;
    let real = stage.real_addresses(pod, "net1")?;
    ensure!(real == [address], "{pod} has {real:?} on net1 instead of {address}");
    Ok(address)
}

fn pods_have_the_primarys_address(
    stage: &Stage<'_>,
    primary: Primary,
    begins: &str,
    number: u8,
) -> Result<()> {
    let (node, _) = stage.two_nodes()?;
    define_bridge(stage, number)?;
    let other = OtherPrimary::on(stage, &node, primary, Path::new(EXECUTABLE))?;
    for pod in ["left", "right"] {
        stage.create(&Pod::new(pod).networks("lab").on(&node))?;
    }
    for pod in ["left", "right"] {
        stage.wait_until_ready(pod)?;
        ensure_primary(stage, pod, begins)?;
    }
    ensure_secondary(stage, "left")?;
    stage.ping("left", ensure_secondary(stage, "right")?, Some("net1"))?;
    stage.ping("left", stage.pod_ip("right")?, None)?;

    stage.delete("left")?;
    stage.delete("right")?;
    stage.wait_until_nothing_is_left()?;
    other.wait_until_nothing_is_left()?;
    other.undo()?;
    // The cluster's own primary serves again.
    stage.run(&Pod::new("after").networks("lab").on(&node))?;
    let ip = stage.pod_ip("after")?;
    ensure!(!ip.to_string().starts_with(begins), "{ip} is still the other primary's");
    stage.delete("after")?;
    stage.wait_until_nothing_is_left()
}

/// The files by which `host-local` remembers that somebody has an address.
fn reservations(stage: &Stage<'_>, node: &str, address: IpAddr) -> Result<String> {
    stage.cluster.on_node(node, &format!("find /run /var/lib/cni -type f -name '{address}' 2>/dev/null || :"))
}

fn pods_of_a_primary_that_was_replaced_go_on_and_are_detached_as_they_were_attached(
    stage: &Stage<'_>,
) -> Result<()> {
    let (node, _) = stage.two_nodes()?;
    define_bridge(stage, 14)?;
    stage.run(&Pod::new("old").networks("lab").on(&node))?;
    let (old, of_old) = (stage.pod_ip("old")?, ensure_secondary(stage, "old")?);
    let mut other = OtherPrimary::on(stage, &node, Primary::Flannel, Path::new(EXECUTABLE))?;

    // The new primary serves new pods; the old one's goes on, and both meet on their network.
    stage.run(&Pod::new("new").networks("lab").on(&node))?;
    ensure_primary(stage, "new", "10.244.3.")?;
    stage.ping("new", of_old, Some("net1"))?;
    stage.ping("new", old, None)?;
    ensure!(stage.pod_ip("old")? == old, "the old pod keeps its address");

    // Deleted while another primary rules: its own gives the address back.
    ensure!(!reservations(stage, &node, old)?.is_empty(), "{old} is reserved while its pod is there");
    stage.delete("old")?;
    stage.wait("the old primary has its address back", || Ok(reservations(stage, &node, old)?.is_empty()))?;

    // And the same the other way round.
    other.put_back()?;
    stage.run(&Pod::new("last").networks("lab").on(&node))?;
    let last = stage.pod_ip("last")?;
    ensure!(!last.to_string().starts_with("10.244."), "{last} is the replaced primary's");
    stage.ping("last", ensure_secondary(stage, "new")?, Some("net1"))?;
    ensure_primary(stage, "new", "10.244.3.")?;
    stage.delete("new")?;
    other.wait_until_nothing_is_left()?;
    stage.delete("last")?;
    stage.wait_until_nothing_is_left()?;
    other.undo()
}

/// Deletes the node role's pod on a node and waits until another one runs there. It need not become ready.
fn restart_node_role(stage: &Stage<'_>, node: &str) -> Result<()> {
    let old = stage.cluster.braid_pod(node)?;
    stage.cluster.kubectl(&["-n", NAMESPACE, "delete", "pod", &old, "--timeout=60s"])?;
    stage.wait("another pod of the node role runs", || {
        let pods = stage.cluster.list("pods", NAMESPACE, "app.kubernetes.io/component=node")?;
        Ok(pods.iter().any(|pod| {
            pod["spec"]["nodeName"] == node
                && pod["metadata"]["name"] != old.as_str()
                && pod["status"]["phase"] == "Running"
        }))
    })
}

/// The condition `Ready` among those of an object.
fn ready(conditions: &Value) -> Result<&Value> {
    let mut all = conditions.as_array().into_iter().flatten();
    all.find(|condition| condition["type"] == "Ready").with_context(|| format!("no Ready in {conditions}"))
}

/// What Kubernetes says of a node: whether it is ready, and why not.
fn kubelets_word(stage: &Stage<'_>, node: &str) -> Result<(String, String)> {
    let node = stage.cluster.get("node", "", node)?.context("the node is there")?;
    let ready = ready(&node["status"]["conditions"])?;
    let text = |key: &str| ready[key].as_str().unwrap_or_default().to_owned();
    Ok((text("status"), text("message")))
}

/// Waits until the node's report is ready, or is not for a reason that holds some words.
fn wait_for_report(stage: &Stage<'_>, node: &str, status: &str, words: &str) -> Result<()> {
    let mut last = Value::Null;
    let told = stage.wait(&format!("the report of {node} is ready: {status}, {words:?}"), || {
        last = stage.cluster.get("nodereport", "", node)?.unwrap_or_default();
        let Ok(ready) = ready(&last["report"]["conditions"]) else { return Ok(false) };
        Ok(ready["status"] == status && ready["message"].as_str().unwrap_or_default().contains(words))
    });
    told.with_context(|| format!("it is {}", last["report"]))
}

fn pods_wait_for_a_primary_that_is_gone_and_start_by_themselves_when_it_is_back(
    stage: &Stage<'_>,
) -> Result<()> {
    let (node, _) = stage.two_nodes()?;
    define_bridge(stage, 15)?;
    let hidden = NodeChange::hide(stage.cluster, &node, &of_node(stage, &node)?.file)?;
    restart_node_role(stage, &node)?;
    stage.create(&Pod::new("patient").networks("lab").on(&node))?;
    stage.wait_until_described("patient", "there is no primary network: /etc/cni/net.d holds no CNI")?;
    wait_for_report(stage, &node, "False", "there is no primary network")?;
    ensure!(reported(stage, &node)?.is_none(), "the report of {node} tells no primary");
    // Braid's configuration stays, so no pod starts without its networks, and the runtime has nothing to complain about.
    let (status, message) = kubelets_word(stage, &node)?;
    ensure!(status == "True", "{node} is not ready: {message}");
    ensure!(stage.pod("patient")?["status"]["phase"] == "Pending", "the pod waits");

    hidden.undo()?;
    stage.wait_until_ready("patient")?;
    ensure_secondary(stage, "patient")?;
    wait_for_report(stage, &node, "True", "")?;
    stage.delete("patient")?;
    stage.wait_until_nothing_is_left()?;
    stage.cluster.wait_for_braid()
}

fn a_node_without_any_configuration_is_not_ready_until_its_primary_comes(stage: &Stage<'_>) -> Result<()> {
    let (node, _) = stage.two_nodes()?;
    define_bridge(stage, 16)?;
    let primary = of_node(stage, &node)?;
    // As on a node that has just joined: the primary's agent has not been there yet, nor has Braid's.
    let hidden = NodeChange::hide(stage.cluster, &node, &primary.file)?;
    // A node role that has seen the primary would put its file back; the next one knows of none.
    restart_node_role(stage, &node)?;
    wait_for_report(stage, &node, "False", "there is no primary network")?;
    stage.cluster.on_node(&node, &format!("rm {BRAIDS}"))?;
    let mut word = (String::new(), String::new());
    let unready = stage.wait("the kubelet tells that there is no network", || {
        word = kubelets_word(stage, &node)?;
        Ok(word.0 == "False" && word.1.to_lowercase().contains("network"))
    });
    unready.with_context(|| format!("it tells {word:?}"))?;
    let files = stage.cluster.on_node(&node, &format!("ls {CONFIGURATIONS}"))?;
    ensure!(!files.contains("00-braid"), "Braid configures nothing where there is no primary: {files}");
    stage.create(&Pod::new("early").networks("lab").on(&node))?;

    hidden.undo()?;
    stage.wait("the node is ready", || Ok(kubelets_word(stage, &node)?.0 == "True"))?;
    // The primary was alone for a moment, as on every node that joins: the pod is to have its network all the same.
    stage.wait_until_ready("early")?;
    if stage.interfaces("early")? != ["eth0", "net1"] {
        bail!("early started without its network, before Braid was there");
    }
    ensure_secondary(stage, "early")?;
    wait_for_report(stage, &node, "True", "")?;
    stage.delete("early")?;
    stage.wait_until_nothing_is_left()?;
    stage.cluster.wait_for_braid()
}
