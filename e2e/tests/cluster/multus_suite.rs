//! What Multus's own suite tells, told of Braid: a pod without networks, macvlan between nodes, a static pod, a default
//! route, many pods at once, plugins that other files chain after the primary's.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use e2e::cluster::{Cluster, Feature};
use e2e::suite::node_change::NodeChange;
use e2e::suite::pod::{NETWORKS, Pod};
use e2e::suite::primary::{self, CONFIGURATIONS};
use e2e::suite::stage::Stage;
use e2e::suite::{Scenario, When};
use serde_json::{Value, json};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "a_pod_that_asks_for_nothing_has_the_primary_network_alone",
        when: When::Together,
        needs: &[],
        links: &[],
        story: a_pod_that_asks_for_nothing_has_the_primary_network_alone,
    },
    Scenario {
        name: "two_pods_on_two_nodes_have_the_macvlan_addresses_that_they_asked_for",
        when: When::Together,
        needs: &[Feature::DataLink],
        links: &["macvlan"],
        story: two_pods_on_two_nodes_have_the_macvlan_addresses_that_they_asked_for,
    },
    Scenario {
        name: "a_static_pod_has_its_network_and_leaves_nothing",
        when: When::Together,
        needs: &[Feature::Nodes],
        links: &["bridge"],
        story: a_static_pod_has_its_network_and_leaves_nothing,
    },
    Scenario {
        name: "the_pod_that_names_a_gateway_has_it_and_the_other_keeps_the_primarys",
        when: When::Together,
        needs: &[Feature::DataLink],
        links: &["macvlan"],
        story: the_pod_that_names_a_gateway_has_it_and_the_other_keeps_the_primarys,
    },
    Scenario {
        name: "six_replicas_with_a_network_become_ready_at_once",
        when: When::Together,
        needs: &[],
        links: &["bridge"],
        story: six_replicas_with_a_network_become_ready_at_once,
    },
    Scenario {
        name: "a_plugin_in_the_primarys_subdirectory_is_applied_to_new_pods_and_to_no_others",
        when: When::Alone,
        needs: &[Feature::Nodes],
        links: &[],
        story: a_plugin_in_the_primarys_subdirectory_is_applied_to_new_pods_and_to_no_others,
    },
    Scenario {
        name: "plugins_of_a_vendors_chain_are_applied_from_the_primarys_subdirectory_in_order",
        when: When::Alone,
        needs: &[Feature::Nodes],
        links: &[],
        story: plugins_of_a_vendors_chain_are_applied_from_the_primarys_subdirectory_in_order,
    },
];

fn a_pod_that_asks_for_nothing_has_the_primary_network_alone(stage: &Stage<'_>) -> Result<()> {
    stage.run(&Pod::new("simple"))?;
    let status = stage.network_status("simple")?;
    ensure!(status.len() == 1 && status[0]["default"] == true, "the network-status is {status:?}");
    ensure!(stage.interfaces("simple")? == ["eth0"], "eth0 is the only interface");
    let ip = stage.pod_ip("simple")?;
    ensure!(stage.addresses("simple", "eth0")?.contains(&ip), "{ip} is not the one of network-status");
    ensure!(stage.real_addresses("simple", "eth0")?.contains(&ip), "{ip} is not on eth0");
    stage.delete("simple")?;
    stage.wait_until_nothing_is_left()
}

/// Macvlan on the link between the nodes, and tuning, which takes part without doing anything.
fn macvlan() -> Value {
    json!({
        "cniVersion": "0.4.0",
        "plugins": [
            {
                "type": "macvlan",
                "master": "data0",
                "mode": "bridge",
                "capabilities": { "ips": true },
                "ipam": { "type": "static" },
            },
            { "type": "tuning" },
        ],
    })
}

fn two_pods_on_two_nodes_have_the_macvlan_addresses_that_they_asked_for(stage: &Stage<'_>) -> Result<()> {
    let (one, other) = stage.two_nodes()?;
    stage.define("macvlan1", &macvlan())?;
    let asked = [("first", one, "10.104.1.11"), ("second", other, "10.104.1.12")];
    for (name, node, address) in &asked {
        let selection = json!([{ "name": "macvlan1", "ips": [format!("{address}/24")] }]);
        stage.create(&Pod::new(name).on(node).networks(&selection.to_string()))?;
    }
    for (name, _, address) in &asked {
        let address: IpAddr = address.parse()?;
        stage.wait_until_ready(name)?;
        let told = stage.addresses(name, "net1")?;
        ensure!(told == [address], "network-status of {name} tells {told:?} instead of {address}");
        let real = stage.real_addresses(name, "net1")?;
        ensure!(real == [address], "{name} has {real:?} on net1 instead of {address}");
    }
    stage.ping("first", "10.104.1.12".parse()?, Some("net1"))?;
    stage.ping("second", "10.104.1.11".parse()?, Some("net1"))?;
    stage.delete("first")?;
    stage.delete("second")?;
    stage.wait_until_nothing_is_left()
}

/// Where the kubelet of a node looks for static pods.
fn manifests(cluster: &Cluster) -> &'static str {
    if cluster.provider() == "local" { "/var/lib/kubelet/manifests" } else { "/etc/kubernetes/manifests" }
}

fn a_static_pod_has_its_network_and_leaves_nothing(stage: &Stage<'_>) -> Result<()> {
    let (node, _) = stage.two_nodes()?;
    let bridge = stage.interface("br");
    let ipam = json!({ "type": "host-local", "ranges": [[{ "subnet": "10.104.2.0/24" }]] });
    stage.define(
        "bridge-nad",
        &json!({ "cniVersion": "0.4.0", "type": "bridge", "bridge": bridge, "isGateway": true, "ipam": ipam }),
    )?;
    let pod = Pod::new("static").networks("bridge-nad");
    let manifest = pod.manifest(&stage.namespace, &stage.cluster.test_image());
    let file = format!("{}/{}.json", manifests(stage.cluster), stage.namespace);
    let written = NodeChange::write(stage.cluster, &node, &file, &manifest.to_string())?;

    // The API server knows a static pod by its mirror, whose name tells the node.
    let mirror = format!("static-{node}");
    stage.wait("the kubelet has made the mirror of the static pod", || {
        Ok(stage.cluster.get("pod", &stage.namespace, &mirror)?.is_some())
    })?;
    stage.wait_until_ready(&mirror)?;
    let address = stage.address(&mirror, "net1")?;
    ensure!(stage.real_addresses(&mirror, "net1")? == [address], "net1 has {address}");
    stage.ping(&mirror, "10.104.2.1".parse()?, Some("net1"))?;

    written.undo()?;
    stage.wait("the static pod is gone", || {
        Ok(stage.cluster.get("pod", &stage.namespace, &mirror)?.is_none())
    })?;
    stage.wait_until_nothing_is_left()
}

/// The default routes of a pod: gateway, interface.
fn default_routes(stage: &Stage<'_>, pod: &str) -> Result<Vec<(String, String)>> {
    let printed = stage.exec(pod, &["ip", "-4", "route"])?;
    let mut routes = Vec::new();
    for line in printed.lines().filter(|line| line.starts_with("default")) {
        let mut words = line.split_whitespace();
        let after = |word: &str| line.split_whitespace().skip_while(|one| *one != word).nth(1);
        let gateway = after("via").with_context(|| format!("{pod} has the route {line:?}"))?;
        let interface = words.find(|word| *word == "dev").and_then(|_| words.next()).unwrap_or_default();
        routes.push((gateway.to_owned(), interface.to_owned()));
    }
    Ok(routes)
}

fn the_pod_that_names_a_gateway_has_it_and_the_other_keeps_the_primarys(stage: &Stage<'_>) -> Result<()> {
    stage.define("fabric", &macvlan())?;
    let selection = |ip: &str, gateway: &[&str]| {
        let mut selection = json!({ "name": "fabric", "ips": [ip] });
        if !gateway.is_empty() {
            selection["default-route"] = json!(gateway);
        }
        json!([selection]).to_string()
    };
    // The gateway is a pod: what is sent to addresses beyond arrives there.
    let node = stage.two_nodes()?.1;
    stage.create(&Pod::new("gateway").on(&node).networks(&selection("10.104.3.1/24", &[])))?;
    stage.create(&Pod::new("outward").networks(&selection("10.104.3.11/24", &["10.104.3.1"])))?;
    stage.create(&Pod::new("inward").networks(&selection("10.104.3.12/24", &[])))?;
    for pod in ["gateway", "outward", "inward"] {
        stage.wait_until_ready(pod)?;
    }

    let outward = default_routes(stage, "outward")?;
    ensure!(outward == [("10.104.3.1".into(), "net1".into())], "outward has the default routes {outward:?}");
    let inward = default_routes(stage, "inward")?;
    let [(primary, interface)] = inward.as_slice() else {
        anyhow::bail!("inward has the default routes {inward:?}");
    };
    ensure!(interface == "eth0" && primary != "10.104.3.1", "inward has the default routes {inward:?}");
    let told = stage.status_of("outward", "net1")?;
    ensure!(told["gateway"] == json!(["10.104.3.1"]), "network-status tells the gateway: {told}");
    stage.ping("outward", "10.104.3.1".parse()?, None)?;
    // An address that only the gateway has, in no network of the pod's: the default route leads there.
    stage.ping("outward", stage.pod_ip("gateway")?, None)?;

    for pod in ["outward", "inward", "gateway"] {
        stage.delete(pod)?;
    }
    stage.wait_until_nothing_is_left()
}

fn six_replicas_with_a_network_become_ready_at_once(stage: &Stage<'_>) -> Result<()> {
    // One node: the pods ask for addresses of one network at one moment.
    let (node, _) = stage.two_nodes()?;
    let ipam = json!({ "type": "host-local", "ranges": [[{ "subnet": "10.104.4.0/24" }]] });
    stage.define(
        "crowd",
        &json!({ "cniVersion": "0.4.0", "type": "bridge", "bridge": stage.interface("br"), "ipam": ipam }),
    )?;
    let pod = Pod::new("crowd").networks("crowd").on(&node);
    stage.deploy("Deployment", &pod, &json!({ "replicas": 6 }))?;
    stage.wait_until_rolled_out("deployment/crowd")?;

    let names = stage.pods_of("crowd")?;
    ensure!(names.len() == 6, "the deployment has the pods {names:?}");
    let mut addresses = BTreeSet::new();
    for name in &names {
        let address = stage.address(name, "net1")?;
        ensure!(stage.real_addresses(name, "net1")? == [address], "{name} has {address} on net1");
        ensure!(addresses.insert(address), "two pods have {address}");
    }
    let last = addresses.last().copied().context("six addresses have a last one")?;
    stage.ping(&names[0], last, Some("net1"))?;

    stage.delete_workload("deployment/crowd")?;
    stage.wait_until_nothing_is_left()
}

/// The directory of plugins that are chained after a node's primary.
fn subdirectory(stage: &Stage<'_>, node: &str) -> Result<String> {
    Ok(format!("{CONFIGURATIONS}/{}", primary::of_node(stage, node)?.name))
}

fn sysctl(stage: &Stage<'_>, pod: &str, key: &str) -> Result<String> {
    stage.exec(pod, &["cat", &format!("/proc/sys/net/ipv4/conf/eth0/{key}")])
}

fn tuning(key: &str, value: &str) -> Value {
    json!({ "type": "tuning", "sysctl": { format!("net.ipv4.conf.IFNAME.{key}"): value } })
}

fn a_plugin_in_the_primarys_subdirectory_is_applied_to_new_pods_and_to_no_others(
    stage: &Stage<'_>,
) -> Result<()> {
    let (node, _) = stage.two_nodes()?;
    stage.run(&Pod::new("before").on(&node))?;
    let file = format!("{}/10-tuning.conf", subdirectory(stage, &node)?);
    let written = NodeChange::write(stage.cluster, &node, &file, &tuning("arp_filter", "1").to_string())?;
    stage.run(&Pod::new("chained").on(&node))?;
    ensure!(sysctl(stage, "chained", "arp_filter")? == "1", "the chained plugin set the sysctl");
    ensure!(sysctl(stage, "before", "arp_filter")? == "0", "a pod that runs is not touched");

    // A pod is detached by the configuration that attached it, whatever is chained today.
    written.undo()?;
    stage.run(&Pod::new("after").on(&node))?;
    ensure!(sysctl(stage, "after", "arp_filter")? == "0", "the plugin is not chained any more");
    for pod in ["before", "chained", "after"] {
        stage.delete(pod)?;
    }
    stage.wait_until_nothing_is_left()
}

/// Multus has a setting for a chain of its own, `auxiliaryCNIChainName`, and a directory of that name. With Braid the
/// chain's plugins go into the primary's subdirectory, as `docs/configuration.md` says.
fn plugins_of_a_vendors_chain_are_applied_from_the_primarys_subdirectory_in_order(
    stage: &Stage<'_>,
) -> Result<()> {
    let (node, _) = stage.two_nodes()?;
    let dir = subdirectory(stage, &node)?;
    let mut written = Vec::new();
    for (file, plugin) in [
        ("20-vendor.conf", tuning("rp_filter", "2")),
        ("30-vendor.conf", tuning("arp_ignore", "2")),
        // The last word is the one of the last file.
        ("40-vendor.conf", tuning("rp_filter", "0")),
    ] {
        written.push(NodeChange::write(stage.cluster, &node, &format!("{dir}/{file}"), &plugin.to_string())?);
    }
    stage.run(&Pod::new("chained").on(&node))?;
    ensure!(sysctl(stage, "chained", "rp_filter")? == "0", "the last plugin's value holds");
    ensure!(sysctl(stage, "chained", "arp_ignore")? == "2", "the plugin between was applied too");
    let annotations = stage.pod("chained")?["metadata"]["annotations"].clone();
    ensure!(annotations[NETWORKS].is_null(), "the pod asked for nothing");
    stage.delete("chained")?;
    stage.wait_until_nothing_is_left()
}
