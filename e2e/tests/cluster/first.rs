//! Braid comes to a cluster that already runs pods: what they keep, and what new pods get.

use std::net::IpAddr;

use anyhow::{Context, Result, anyhow, ensure};
use e2e::cluster::Feature;
use e2e::suite::pod::Pod;
use e2e::suite::stage::Stage;
use e2e::suite::{Scenario, When};
use serde_json::{Value, json};

use crate::bridges::{bridge, list};

pub(crate) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "helm_installs_braid_on_a_cluster_that_runs_pods",
    when: When::First,
    needs: &[],
    links: &[],
    story: helm_installs_braid_on_a_cluster_that_runs_pods,
}];

fn helm_installs_braid_on_a_cluster_that_runs_pods(stage: &Stage<'_>) -> Result<()> {
    let old = old_pods(stage)?;
    // Nodes report every 30 s at most, for the sake of large clusters; nobody here has to wait for that.
    stage.cluster.install_braid(&["--set", "node.reportInterval=1"])?;
    ensure_they_go_on(stage, &old)?;
    wait_until_the_nodes_report(stage)?;

    stage.define("red", &list(&[bridge(stage, "red", &["10.101.1.0/24"])]))?;
    stage.define("blue", &list(&[bridge(stage, "blue", &["10.101.2.0/24"])]))?;
    let workers = deploy(stage)?;
    for network in ["net1", "net2"] {
        stage.ping_all(&workers[0], &workers[1], network)?;
        stage.ping_all(&workers[1], &workers[0], network)?;
    }
    ensure_status(stage, &workers)?;
    wait_until_kubectl_shows_the_networks(stage)?;

    stage.kubectl(&["delete", "deployment", "workers"])?;
    stage.wait("the Deployment's pods are gone", || {
        Ok(stage.cluster.list("pods", &stage.namespace, "app=workers")?.is_empty())
    })?;
    if stage.cluster.has(Feature::Nodes) {
        stage.wait_until_nothing_is_left()?;
    }
    ensure_they_go_on(stage, &old)?;
    delete_cleanly(stage, &old)
}

/// A pod from before Braid, and all that may not change.
struct Old {
    pod: String,
    node: String,
    address: IpAddr,
    container: Value,
}

/// Two pods on each node.
fn old_pods(stage: &Stage<'_>) -> Result<Vec<Old>> {
    let nodes = stage.cluster.nodes();
    let places: Vec<&String> = nodes.iter().chain(&nodes).take(4).collect();
    let pods: Vec<Pod> =
        places.iter().enumerate().map(|(n, node)| Pod::new(&format!("before-{n}")).on(node)).collect();
    stage.run_all(&pods)?;
    let old = |(pod, node): (&Pod, &&String)| {
        let found = stage.pod(&pod.name)?;
        let address = found["status"]["podIP"].as_str().unwrap_or_default();
        let address = address.parse().with_context(|| format!("{} has no address", pod.name))?;
        Ok(Old { pod: pod.name.clone(), node: (*node).clone(), address, container: container(&found) })
    };
    let old: Vec<Old> = pods.iter().zip(&places).map(old).collect::<Result<_>>()?;
    reach_each_other(stage, &old)?;
    Ok(old)
}

/// Which container runs, since when, and how often it was started.
fn container(pod: &Value) -> Value {
    let status = &pod["status"]["containerStatuses"][0];
    json!([status["containerID"], status["state"], status["restartCount"]])
}

fn reach_each_other(stage: &Stage<'_>, old: &[Old]) -> Result<()> {
    let next = old.iter().cycle().skip(1);
    old.iter().zip(next).try_for_each(|(from, to)| stage.ping(&from.pod, to.address, None))
}

fn ensure_they_go_on(stage: &Stage<'_>, old: &[Old]) -> Result<()> {
    for one in old {
        let now = stage.pod(&one.pod)?;
        let before = &one.container;
        ensure!(container(&now) == *before, "{} ran as {before}, now as {}", one.pod, container(&now));
        let told = &now["status"]["podIP"];
        ensure!(*told == one.address.to_string(), "{} had {}, now {told}", one.pod, one.address);
        let real = stage.real_prefixes(&one.pod, "eth0")?;
        let kept = real.iter().any(|net| net.starts_with(&format!("{}/", one.address)));
        ensure!(kept, "{} had {}, now {real:?}", one.pod, one.address);
    }
    reach_each_other(stage, old)
}

fn wait_until_the_nodes_report(stage: &Stage<'_>) -> Result<()> {
    let mut printed = String::new();
    let reported = stage.wait("every node reports that it is ready", || {
        printed = stage.cluster.kubectl(&["get", "nodereports"])?;
        let ready = |node: &String| row(&printed, node).is_some_and(|row| row.get("READY") == Some("True"));
        Ok(stage.cluster.nodes().iter().all(ready))
    });
    reported.with_context(|| format!("kubectl get nodereports showed:\n{printed}"))?;
    if stage.cluster.provider() == "local" {
        for node in stage.cluster.nodes() {
            let primary = row(&printed, &node).and_then(|row| row.get("PRIMARY").map(str::to_owned));
            ensure!(primary.as_deref() == Some("pods"), "the primary of {node} is {primary:?}:\n{printed}");
        }
    }
    Ok(())
}

/// Starts a Deployment of two pods with two more networks, and returns the pods' names.
fn deploy(stage: &Stage<'_>) -> Result<[String; 2]> {
    let node = stage.cluster.nodes().into_iter().next().context("the cluster has no node")?;
    let pod = Pod::new("workers")
        .networks("red,blue")
        // Bridges end at the node.
        .with("nodeSelector", json!({ "kubernetes.io/hostname": node }));
    stage.deploy("Deployment", &pod, &json!({ "replicas": 2 }))?;
    stage.wait_until_rolled_out("deployment/workers")?;
    let pods = stage.pods_of("workers")?;
    let count = pods.len();
    pods.try_into().map_err(|_| anyhow!("the Deployment has {count} pods instead of two"))
}

/// The network-status says what is in the pods.
fn ensure_status(stage: &Stage<'_>, pods: &[String]) -> Result<()> {
    for pod in pods {
        let interfaces = stage.interfaces(pod)?;
        ensure!(interfaces == ["eth0", "net1", "net2"], "{pod} has the interfaces {interfaces:?}");
        let told = &stage.pod(pod)?["status"]["podIP"];
        let eth0 = stage.status_of(pod, "eth0")?;
        ensure!(eth0["default"] == true && eth0["ips"][0] == *told, "{pod} at {told} has {eth0}");
        for (network, interface) in [("red", "net1"), ("blue", "net2")] {
            let status = stage.status_of(pod, interface)?;
            let name = format!("{}/{network}", stage.namespace);
            ensure!(status["name"] == name, "{interface} of {pod} is on {name}, not: {status}");
            let address = stage.address(pod, interface)?;
            let real = stage.real_prefixes(pod, interface)?;
            ensure!(real == [format!("{address}/24")], "{interface} of {pod} has {real:?}, not: {status}");
            let mac = stage.exec(pod, &["cat", &format!("/sys/class/net/{interface}/address")])?;
            ensure!(status["mac"] == mac, "{interface} of {pod} has {mac}, not: {status}");
        }
    }
    Ok(())
}

/// By each of the short names: accepted, on every node, with both pods.
fn wait_until_kubectl_shows_the_networks(stage: &Stage<'_>) -> Result<()> {
    let nodes = stage.cluster.nodes().len();
    for kind in ["net-attach-def", "nad"] {
        let mut printed = String::new();
        let shown = stage.wait(&format!("kubectl get {kind} shows the networks"), || {
            printed = stage.kubectl(&["get", kind])?;
            Ok(["red", "blue"].iter().all(|network| {
                let Some(row) = row(&printed, network) else { return false };
                let on: usize = row.get("NODES").and_then(|on| on.parse().ok()).unwrap_or(0);
                row.get("ACCEPTED") == Some("True") && on >= nodes && row.get("PODS") == Some("2")
            }))
        });
        shown.with_context(|| format!("it showed:\n{printed}"))?;
    }
    Ok(())
}

/// Pods from before Braid leave as cleanly as if it were not there.
fn delete_cleanly(stage: &Stage<'_>, old: &[Old]) -> Result<()> {
    let before = traces(stage, old)?;
    let seen = |one: &Old| before.iter().any(|trace| trace.contains(&one.address.to_string()));
    ensure!(
        stage.cluster.provider() != "local" || old.iter().all(seen),
        "of the pods from before Braid only this is on the nodes: {before:?}"
    );
    let names: Vec<&str> = old.iter().map(|one| one.pod.as_str()).collect();
    stage.delete_all(&names)?;
    let mut left = Vec::new();
    let gone = stage.wait("nothing of the pods from before Braid is left", || {
        left = traces(stage, old)?;
        Ok(left.is_empty())
    });
    gone.with_context(|| format!("left are {left:?}"))
}

/// What a primary with host-local keeps of pods on their nodes: the address and the route to it.
fn traces(stage: &Stage<'_>, old: &[Old]) -> Result<Vec<String>> {
    if !stage.cluster.has(Feature::Nodes) {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for one in old {
        let script = format!(
            "find /run/pods /run/cni-ipam-state /var/lib/cni/networks -name '{0}' 2>/dev/null || :
             ip route show '{0}'
             grep -ls '\"{1}\"' /var/lib/braid/attachments/* || :",
            one.address, stage.namespace
        );
        let printed = stage.cluster.on_node(&one.node, &script)?;
        found.extend(printed.lines().map(|line| format!("{}: {line}", one.node)));
    }
    Ok(found)
}

/// A row of a table that kubectl printed, with the columns' titles.
struct Row<'a> {
    title: &'a str,
    line: &'a str,
}

fn row<'a>(table: &'a str, name: &str) -> Option<Row<'a>> {
    let title = table.lines().next()?;
    let line = table.lines().find(|line| line.split_whitespace().next() == Some(name))?;
    Some(Row { title, line })
}

impl<'a> Row<'a> {
    /// The cell below a title. kubectl begins both at the same place, and a cell may be empty.
    fn get(&self, title: &str) -> Option<&'a str> {
        let words = self.title.split_whitespace();
        let starts = words.map(|word| self.title.find(word).unwrap_or_default());
        let start = starts.zip(self.title.split_whitespace()).find(|(_, word)| *word == title)?.0;
        let cell = self.line.get(start..)?;
        if cell.starts_with(' ') {
            return None;
        }
        cell.split_whitespace().next()
    }
}
