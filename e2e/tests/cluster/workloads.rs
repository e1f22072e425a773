//! What runs pods, and how it gets on with networks: StatefulSets, Jobs, DaemonSets, static pods, pods with several
//! containers, with init containers, of the host's network, and pods that are too early.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::cluster::{Cluster, Feature};
use e2e::suite::pod::{NETWORK_STATUS, NETWORKS, Pod};
use e2e::suite::stage::Stage;
use e2e::suite::{Scenario, When};
use serde_json::{Value, json};

use crate::bridges;

pub(crate) const SCENARIOS: &[Scenario] = &[
    // It waits for the clock: so it begins early.
    together(
        "a_cronjob_runs_again_and_again_and_leaves_nothing",
        a_cronjob_runs_again_and_again_and_leaves_nothing,
    ),
    together(
        "a_pod_of_a_statefulset_comes_back_with_its_networks",
        a_pod_of_a_statefulset_comes_back_with_its_networks,
    ),
    together("jobs_come_and_go_and_leave_nothing", jobs_come_and_go_and_leave_nothing),
    together("a_daemonset_follows_its_template_to_another_network", a_daemonset_follows_its_template),
    together("all_containers_of_a_pod_share_its_networks", all_containers_of_a_pod_share_its_networks),
    together(
        "a_pod_of_the_hosts_network_gets_no_other_networks",
        a_pod_of_the_hosts_network_gets_no_other_networks,
    ),
    Scenario {
        needs: &[Feature::Nodes],
        ..together(
            "the_mirror_of_a_static_pod_tells_its_networks",
            the_mirror_of_a_static_pod_tells_its_networks,
        )
    },
    together("an_init_container_reads_the_network_status", an_init_container_reads_the_network_status),
    together(
        "a_pod_says_which_network_is_missing_and_starts_once_it_is_there",
        a_pod_says_which_network_is_missing_and_starts_once_it_is_there,
    ),
];

const fn together(name: &'static str, story: fn(&Stage<'_>) -> Result<()>) -> Scenario {
    Scenario { name, when: When::Together, needs: &[], links: &["bridge"], story }
}

/// The new pod of the old name is another pod: it gets the networks anew, and its network-status tells of itself.
fn a_pod_of_a_statefulset_comes_back_with_its_networks(stage: &Stage<'_>) -> Result<()> {
    stage.define("db", &bridges::plain(stage, "db", "10.102.10.0/24"))?;
    let (node, _) = stage.two_nodes()?;
    let pod = Pod::new("db").networks("db").with("nodeSelector", json!({ "kubernetes.io/hostname": node }));
    stage.deploy("StatefulSet", &pod, &json!({ "replicas": 2, "serviceName": "db" }))?;
    stage.wait_until_rolled_out("statefulset/db")?;
    for _ in 0..2 {
        let before = stage.pod("db-0")?["metadata"]["uid"].clone();
        stage.delete("db-0")?;
        stage.wait("db-0 is there again", || {
            let now = stage.cluster.get("pod", &stage.namespace, "db-0")?;
            Ok(now.is_some_and(|pod| pod["metadata"]["uid"] != before))
        })?;
        stage.wait_until_ready("db-0")?;
        stage.ensure_status_is_true("db-0", "eth0")?;
        stage.ensure_status_is_true("db-0", "net1")?;
        stage.ping("db-0", stage.address("db-1", "net1")?, Some("net1"))?;
    }
    stage.delete_workload("statefulset/db")?;
    stage.wait_until_nothing_is_left()
}

/// Many pods that end by themselves. Their networks go when they end, not when somebody deletes
/// them.
fn jobs_come_and_go_and_leave_nothing(stage: &Stage<'_>) -> Result<()> {
    stage.define("work", &bridges::plain(stage, "wk", "10.102.11.0/24"))?;
    let check = "ip -o address show dev net1 | grep -q 'inet 10\\.102\\.11\\.'";
    let pod = Pod::new("batch").networks("work").running(check).with("restartPolicy", json!("Never"));
    let template = pod.template(&stage.cluster.test_image());
    let jobs = ["first", "second"];
    for name in jobs {
        let job = json!({
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": { "name": name, "namespace": stage.namespace },
            "spec": { "completions": 10, "parallelism": 4, "backoffLimit": 0, "template": template },
        });
        stage.cluster.apply(&job.to_string())?;
    }
    for name in jobs {
        stage.kubectl(&["wait", "--for=condition=complete", &format!("job/{name}"), "--timeout=120s"])?;
    }
    ensure!(stage.pods_of("batch")?.len() == 20, "the pods that have ended can still be seen");
    stage.wait_until_nothing_is_left()?;
    stage.kubectl(&["delete", "job,pod", "--all", "--wait=true"]).map(drop)
}

/// What a CronJob makes at two minutes comes and goes like that, too.
fn a_cronjob_runs_again_and_again_and_leaves_nothing(stage: &Stage<'_>) -> Result<()> {
    stage.define("tick", &bridges::plain(stage, "tk", "10.102.15.0/24"))?;
    let check = "ip -o address show dev net1 | grep -q 'inet 10\\.102\\.15\\.'";
    let pod = Pod::new("tick").networks("tick").running(check).with("restartPolicy", json!("Never"));
    let job = json!({ "spec": {
        "completions": 4, "parallelism": 4, "backoffLimit": 0,
        "template": pod.template(&stage.cluster.test_image()),
    } });
    // Since Kubernetes 1.21.
    let is_stable = stage.cluster.kubectl(&["get", "--raw", "/apis/batch/v1"])?.contains("\"cronjobs\"");
    let cronjob = json!({
        "apiVersion": if is_stable { "batch/v1" } else { "batch/v1beta1" },
        "kind": "CronJob",
        "metadata": { "name": "tick", "namespace": stage.namespace },
        "spec": { "schedule": "* * * * *", "concurrencyPolicy": "Forbid", "jobTemplate": job },
    });
    stage.cluster.apply(&cronjob.to_string())?;
    stage.wait_for(Duration::from_secs(180), "the CronJob has run twice", || {
        let jobs = stage.cluster.list("jobs", &stage.namespace, "")?;
        ensure!(jobs.iter().all(|job| job["status"]["failed"].is_null()), "a pod ran without its network");
        Ok(jobs.iter().filter(|job| job["status"]["succeeded"] == 4).count() == 2)
    })?;
    stage.kubectl(&["delete", "cronjob,job,pod", "--all", "--wait=true"])?;
    stage.wait_until_nothing_is_left()
}

/// One pod on each node; the pods of a new template have its networks.
fn a_daemonset_follows_its_template(stage: &Stage<'_>) -> Result<()> {
    stage.define("old", &bridges::plain(stage, "old", "10.102.12.0/24"))?;
    stage.define("new", &bridges::plain(stage, "new", "10.102.13.0/24"))?;
    stage.deploy("DaemonSet", &Pod::new("agent").networks("old"), &json!({}))?;
    agents_are_in(stage, "10.102.12.", &["eth0", "net1"])?;
    stage.deploy("DaemonSet", &Pod::new("agent").networks("new, old"), &json!({}))?;
    agents_are_in(stage, "10.102.13.", &["eth0", "net1", "net2"])?;
    stage.delete_workload("daemonset/agent")?;
    stage.wait_until_nothing_is_left()
}

/// Each node has a pod with these interfaces, whose `net1` is in a subnet.
fn agents_are_in(stage: &Stage<'_>, subnet: &str, interfaces: &[&str]) -> Result<()> {
    stage.wait_until_rolled_out("daemonset/agent")?;
    let pods = stage.pods_of("agent")?;
    ensure!(pods.len() == stage.cluster.nodes().len(), "the pods are {pods:?}, not one for each node");
    for pod in &pods {
        let address = stage.address(pod, "net1")?;
        ensure!(address.to_string().starts_with(subnet), "net1 of {pod} has {address}, not of {subnet}");
        let has = stage.interfaces(pod)?;
        ensure!(has == interfaces, "{pod} has the interfaces {has:?} instead of {interfaces:?}");
        for interface in interfaces {
            stage.ensure_status_is_true(pod, interface)?;
        }
    }
    Ok(())
}

/// Networks are the pod's: its containers have the same addresses, talk over localhost, and keep both when one ends and
/// is started again.
fn all_containers_of_a_pod_share_its_networks(stage: &Stage<'_>) -> Result<()> {
    stage.define("shared", &bridges::plain(stage, "sh", "10.102.14.0/24"))?;
    let serve = "echo hello >/tmp/greeting; exec httpd -f -p 127.0.0.1:8080 -h /tmp";
    let until_told = "until [ -e /tmp/end ]; do sleep 0.1; done";
    let containers = json!([
        { "name": "main", "command": ["sh", "-c", serve] },
        { "name": "side", "command": ["sh", "-c", until_told] },
    ]);
    stage.run(&Pod::new("pair").networks("shared").with("containers", containers))?;
    let side = |program: &[&str]| stage.kubectl(&[&["exec", "pair", "-c", "side", "--"], program].concat());
    // Not IPv6: an address of the link is tentative at first, and told so.
    let show = ["ip", "-o", "-4", "address", "show"];
    let before = stage.exec("pair", &show)?;
    ensure!(side(&show)? == before, "the containers have different addresses");
    stage.wait("the other container is heard on localhost", || {
        Ok(side(&["wget", "-qO-", "http://127.0.0.1:8080/greeting"])
            .is_ok_and(|greeting| greeting == "hello"))
    })?;

    side(&["sh", "-c", ">/tmp/end"])?;
    stage.wait("the container was started again", || {
        let pod = stage.pod("pair")?;
        let all = pod["status"]["containerStatuses"].as_array().into_iter().flatten();
        let mut side = all.filter(|container| container["name"] == "side");
        Ok(side.any(|side| side["restartCount"] == 1 && side["ready"] == true))
    })?;
    ensure!(side(&show)? == before, "the pod has other addresses since a container was started again");
    stage.ensure_status_is_true("pair", "net1")?;
    stage.delete("pair")?;
    stage.wait_until_nothing_is_left()
}

/// No plugin is asked about such a pod, so its annotation cannot be followed, and kubectl says so.
fn a_pod_of_the_hosts_network_gets_no_other_networks(stage: &Stage<'_>) -> Result<()> {
    stage.define("lan", &bridges::plain(stage, "hn", "10.102.15.0/24"))?;
    let pod = Pod::new("host").networks("lan").with("hostNetwork", json!(true));
    let manifest = pod.manifest(&stage.namespace, &stage.cluster.test_image());
    stage.wait("kubectl warns of it", || {
        let warnings = stage.warnings(&manifest)?;
        Ok(warnings.contains("a pod of the host's network gets no other networks")
            && warnings.contains(NETWORKS))
    })?;
    stage.run(&pod)?;
    let status = &stage.pod("host")?["metadata"]["annotations"][NETWORK_STATUS];
    ensure!(status.is_null(), "the pod has the network-status {status}");
    let left = stage.left()?;
    ensure!(left.is_empty(), "there are {left:?} of a pod that was never attached");
    stage.delete("host")
}

/// The kubelet runs it from a file, also without an API server, and shows it there as a mirror.
fn the_mirror_of_a_static_pod_tells_its_networks(stage: &Stage<'_>) -> Result<()> {
    stage.define("lan", &bridges::plain(stage, "st", "10.102.16.0/24"))?;
    let (node, _) = stage.two_nodes()?;
    let pod = Pod::new("static").networks("lan").with("terminationGracePeriodSeconds", json!(1));
    let pod = pod.manifest(&stage.namespace, &stage.cluster.test_image());
    let manifest = StaticPod::new(stage, &node, &pod)?;
    let mirror = format!("static-{node}");
    stage
        .wait("the mirror is there", || Ok(stage.cluster.get("pod", &stage.namespace, &mirror)?.is_some()))?;
    stage.wait_until_ready(&mirror)?;
    stage.ensure_status_is_true(&mirror, "net1")?;
    let has = stage.interfaces(&mirror)?;
    ensure!(has == ["eth0", "net1"], "{mirror} has the interfaces {has:?}");

    drop(manifest);
    stage
        .wait("the mirror is gone", || Ok(stage.cluster.get("pod", &stage.namespace, &mirror)?.is_none()))?;
    stage.wait_until_nothing_is_left()
}

/// A manifest in the kubelet's directory. Dropping it removes it.
struct StaticPod<'a> {
    cluster: &'a Cluster,
    node: String,
    file: String,
}

impl<'a> StaticPod<'a> {
    fn new(stage: &Stage<'a>, node: &str, manifest: &Value) -> Result<Self> {
        let cluster = stage.cluster;
        let settings = cluster.kubectl(&["get", "--raw", &format!("/api/v1/nodes/{node}/proxy/configz")])?;
        let settings: Value = serde_json::from_str(&settings).context("reading the kubelet's settings")?;
        let directory = settings["kubeletconfig"]["staticPodPath"].as_str().unwrap_or_default();
        ensure!(!directory.is_empty(), "the kubelet of {node} has no directory for static pods");
        let file = format!("{directory}/{}.json", stage.namespace);
        // The kubelet would take a file that is being written there for another pod.
        let outside = format!("/run/{}.json", stage.namespace);
        cluster.write_on_node(node, &outside, &manifest.to_string())?;
        let this = Self { cluster, node: node.to_owned(), file };
        cluster
            .on_node(node, &format!("cp {outside} {directory}/.new; mv {directory}/.new {}", this.file))?;
        Ok(this)
    }
}

impl Drop for StaticPod<'_> {
    fn drop(&mut self) {
        // A scenario that fails has said why.
        let _ = self.cluster.on_node(&self.node, &format!("rm -f {}", self.file));
    }
}

/// The network-status is written while the first container starts; who needs it waits for the file of the downward API.
fn an_init_container_reads_the_network_status(stage: &Stage<'_>) -> Result<()> {
    stage.define("lan", &bridges::plain(stage, "in", "10.102.17.0/24"))?;
    let volume = json!([
        { "name": "pod", "downwardAPI": { "items": [{
            "path": "networks",
            "fieldRef": { "fieldPath": format!("metadata.annotations['{NETWORK_STATUS}']") },
        }] } },
        { "name": "shared", "emptyDir": {} },
    ]);
    let mounts =
        json!([{ "name": "pod", "mountPath": "/pod" }, { "name": "shared", "mountPath": "/shared" }]);
    let read = "until grep -q net1 /pod/networks; do sleep 0.1; done; cat /pod/networks >/shared/seen";
    let init = json!([{ "name": "reader", "command": ["sh", "-c", read], "volumeMounts": mounts }]);
    let pod = Pod::new("reader")
        .networks("lan")
        .with("volumes", volume)
        .with("initContainers", init)
        .with_container("volumeMounts", mounts);
    stage.run(&pod)?;
    let seen = stage.exec("reader", &["cat", "/shared/seen"])?;
    let seen: Vec<Value> = serde_json::from_str(&seen).context("reading what the init container saw")?;
    let told = stage.network_status("reader")?;
    ensure!(seen == told, "the init container saw {seen:?}, the network-status is {told:?}");
    stage.ensure_status_is_true("reader", "net1")?;
    stage.delete("reader")?;
    stage.wait_until_nothing_is_left()
}

/// Tools apply objects in any order: a pod that comes before its network waits for it.
fn a_pod_says_which_network_is_missing_and_starts_once_it_is_there(stage: &Stage<'_>) -> Result<()> {
    let pod = Pod::new("early").networks("lan").with("terminationGracePeriodSeconds", json!(1));
    let manifest = pod.manifest(&stage.namespace, &stage.cluster.test_image());
    let network = format!("network {}/lan", stage.namespace);
    stage.wait("kubectl warns of the network that is missing", || {
        Ok(stage.warnings(&manifest)?.contains(&format!("{network} does not exist")))
    })?;
    stage.create(&pod)?;
    stage.wait_until_described("early", &format!("{network} is not on this node"))?;
    let shown = stage.describe("early")?;
    ensure!(shown.contains("create it if it is missing"), "it is not said what to do:\n{shown}");

    stage.define("lan", &bridges::plain(stage, "ea", "10.102.18.0/24"))?;
    stage.wait_until_ready("early")?;
    stage.ensure_status_is_true("early", "net1")?;
    stage.delete("early")?;
    stage.wait_until_nothing_is_left()
}
