//! What newer versions of Kubernetes do with pods: sidecars, resizing, user namespaces.

use anyhow::{Result, ensure};
use e2e::cluster::Feature;
use e2e::suite::pod::Pod;
use e2e::suite::stage::Stage;
use e2e::suite::{Scenario, When};
use serde_json::json;

use crate::bridges;

pub(crate) const SCENARIOS: &[Scenario] = &[
    since(
        &[Feature::Since(29)],
        "a_sidecar_has_the_networks_of_its_pod_before_the_main_container_starts",
        a_sidecar_has_the_networks_of_its_pod,
    ),
    since(
        &[Feature::Since(33)],
        "a_pod_that_is_resized_keeps_its_sandbox_and_its_networks",
        a_pod_that_is_resized_keeps_its_networks,
    ),
    since(
        &[Feature::Since(33), Feature::UserNamespaces],
        "a_pod_with_a_user_namespace_gets_its_networks",
        a_pod_with_a_user_namespace_gets_its_networks,
    ),
];

const fn since(
    needs: &'static [Feature],
    name: &'static str,
    story: fn(&Stage<'_>) -> Result<()>,
) -> Scenario {
    Scenario { name, when: When::Together, needs, links: &["bridge"], story }
}

/// The main container starts when the sidecar has, which looks for `net1` first.
fn a_sidecar_has_the_networks_of_its_pod(stage: &Stage<'_>) -> Result<()> {
    stage.define("lan", &bridges::plain(stage, "sc", "10.102.40.0/24"))?;
    let look =
        "ip -o address show dev net1 | grep -o 'inet 10\\.102\\.40\\.[0-9]*' >/shared/seen; sleep 86400";
    let mounts = json!([{ "name": "shared", "mountPath": "/shared" }]);
    let probe = json!({ "exec": { "command": ["test", "-s", "/shared/seen"] }, "periodSeconds": 1 });
    let sidecar = json!([{
        "name": "sidecar", "restartPolicy": "Always", "command": ["sh", "-c", look], "volumeMounts": mounts,
        "startupProbe": probe,
    }]);
    let pod = Pod::new("mesh")
        .networks("lan")
        .with("volumes", json!([{ "name": "shared", "emptyDir": {} }]))
        .with("initContainers", sidecar)
        .with_container("volumeMounts", mounts);
    stage.run(&pod)?;
    let seen = stage.exec("mesh", &["cat", "/shared/seen"])?;
    let address = stage.address("mesh", "net1")?;
    ensure!(seen.trim() == format!("inet {address}"), "the sidecar saw {seen:?}, the pod has {address}");
    stage.delete("mesh")?;
    stage.wait_until_nothing_is_left()
}

/// Neither the sandbox nor the container is another one afterwards.
fn a_pod_that_is_resized_keeps_its_networks(stage: &Stage<'_>) -> Result<()> {
    stage.define("lan", &bridges::plain(stage, "rs", "10.102.41.0/24"))?;
    let resources = |cpu: &str| json!({ "requests": { "cpu": cpu }, "limits": { "cpu": cpu } });
    stage.run(&Pod::new("grows").networks("lan").with_container("resources", resources("50m")))?;
    let before = (stage.real_prefixes("grows", "eth0")?, stage.real_prefixes("grows", "net1")?);
    let container = |stage: &Stage<'_>| Ok(stage.pod("grows")?["status"]["containerStatuses"][0].clone());
    let id = |status: &serde_json::Value| status["containerID"].clone();
    let first = id(&container(stage)?);
    // As kubectl before 1.32 can do it.
    let mut pod = stage.pod("grows")?;
    pod["spec"]["containers"][0]["resources"] = resources("80m");
    let resize = format!("/api/v1/namespaces/{}/pods/grows/resize", stage.namespace);
    stage.cluster.kubectl_with(&["replace", "--raw", &resize, "-f", "-"], &pod.to_string())?;
    stage.wait("the pod has been resized", || {
        let status: Result<serde_json::Value> = container(stage);
        Ok(status?["resources"]["limits"]["cpu"] == "80m")
    })?;
    let after = (stage.real_prefixes("grows", "eth0")?, stage.real_prefixes("grows", "net1")?);
    ensure!(before == after, "the pod had the addresses {before:?}, and has {after:?}");
    ensure!(id(&container(stage)?) == first, "the container was replaced");
    stage.ensure_status_is_true("grows", "net1")?;
    stage.delete("grows")?;
    stage.wait_until_nothing_is_left()
}

/// Its root is nobody on the node, and its network namespace belongs to the pod's user namespace.
fn a_pod_with_a_user_namespace_gets_its_networks(stage: &Stage<'_>) -> Result<()> {
    stage.define("lan", &bridges::plain(stage, "un", "10.102.42.0/24"))?;
    // The bridge joins pods of one node.
    let (node, _) = stage.two_nodes()?;
    let pod = |name| Pod::new(name).networks("lan").on(&node).with("hostUsers", json!(false));
    let pods = ["one", "two"].map(pod);
    stage.run_all(&pods)?;
    let ids = stage.exec("one", &["cat", "/proc/self/uid_map"])?;
    ensure!(ids.split_whitespace().nth(1) != Some("0"), "root of the pod is root of the node: {ids}");
    for pod in ["one", "two"] {
        stage.ensure_status_is_true(pod, "eth0")?;
        stage.ensure_status_is_true(pod, "net1")?;
    }
    stage.ping_all("one", "two", "net1")?;
    stage.delete_all(&["one", "two"])?;
    stage.wait_until_nothing_is_left()
}
