//! Pods of two nodes on one wire: the link `data0` joins the nodes at layer 2. Plugins know the addresses of their own
//! node alone, so each story has a plan by which no address is given twice.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use e2e::cluster::{Cluster, Feature};
use e2e::suite::pod::Pod;
use e2e::suite::stage::Stage;
use e2e::suite::{Scenario, When};
use serde_json::{Value, json};

/// The link that joins the nodes.
const WIRE: &str = "data0";

/// Where configurations of a node are looked for that a network names instead of bringing its own.
const ON_NODE: &str = "/etc/cni/multus/net.d";

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "two_networks_share_a_subnet_and_pods_of_two_nodes_meet",
        when: When::Together,
        needs: &[Feature::DataLink],
        links: &["macvlan"],
        story: two_networks_share_a_subnet_and_pods_of_two_nodes_meet,
    },
    Scenario {
        name: "pods_with_addresses_of_their_own_meet_across_nodes",
        when: When::Together,
        needs: &[Feature::DataLink],
        links: &["macvlan"],
        story: pods_with_addresses_of_their_own_meet_across_nodes,
    },
    Scenario {
        name: "one_network_has_a_range_of_its_own_on_each_node",
        when: When::Alone,
        needs: &[Feature::DataLink, Feature::Nodes],
        links: &["bridge"],
        story: one_network_has_a_range_of_its_own_on_each_node,
    },
];

/// A macvlan of the wire.
fn macvlan(ipam: &Value) -> Value {
    json!({ "cniVersion": "0.4.0", "type": "macvlan", "master": WIRE, "mode": "bridge", "ipam": ipam })
}

/// A network for each node, of one subnet: each has a range of its own, and each Deployment stays on its node.
fn two_networks_share_a_subnet_and_pods_of_two_nodes_meet(stage: &Stage<'_>) -> Result<()> {
    let (one, other) = stage.two_nodes()?;
    for (node, first, last) in
        [(&one, "10.102.1.10", "10.102.1.99"), (&other, "10.102.1.100", "10.102.1.199")]
    {
        let ipam = json!({
            "type": "host-local",
            "subnet": "10.102.1.0/24",
            "rangeStart": first,
            "rangeEnd": last,
        });
        let network = format!("lan-{node}");
        stage.define(&network, &macvlan(&ipam))?;
        let stays = json!({ "kubernetes.io/hostname": node });
        let pod = Pod::new(&format!("app-{node}")).networks(&network).with("nodeSelector", stays);
        stage.deploy("Deployment", &pod, &json!({ "replicas": 2 }))?;
    }
    let workloads = [format!("app-{one}"), format!("app-{other}")];
    roll_out(stage, &workloads)?;
    each_has_an_address_of_its_own(stage, &workloads, 4)?;

    // Addresses of the pods before are given back, and none of the new ones is given twice.
    for workload in &workloads {
        stage.kubectl(&["rollout", "restart", &format!("deployment/{workload}")])?;
    }
    roll_out(stage, &workloads)?;
    each_has_an_address_of_its_own(stage, &workloads, 4)?;

    for workload in &workloads {
        stage.delete_workload(&format!("deployment/{workload}"))?;
    }
    stage.wait_until_nothing_is_left()
}

fn roll_out(stage: &Stage<'_>, deployments: &[String]) -> Result<()> {
    deployments.iter().try_for_each(|name| stage.wait_until_rolled_out(&format!("deployment/{name}")))
}

/// Each of so many pods has another address at `net1`, as the network-status says, and one of them reaches all others.
fn each_has_an_address_of_its_own(stage: &Stage<'_>, workloads: &[String], pods: usize) -> Result<()> {
    let mut names = Vec::new();
    for workload in workloads {
        names.extend(stage.pods_of(workload)?);
    }
    ensure!(names.len() == pods, "the pods are {names:?} instead of {pods}");
    let mut addresses = BTreeSet::new();
    for name in &names {
        stage.ensure_status_is_true(name, "net1")?;
        addresses.insert(stage.address(name, "net1")?);
    }
    ensure!(addresses.len() == pods, "{pods} pods share the addresses {addresses:?}");
    let first = names.first().context("there are no pods")?;
    let own = stage.address(first, "net1")?;
    addresses
        .iter()
        .filter(|address| **address != own)
        .try_for_each(|far| stage.ping(first, *far, Some("net1")))
}

/// People who keep a table of addresses write them into the pods; both families on one interface.
fn pods_with_addresses_of_their_own_meet_across_nodes(stage: &Stage<'_>) -> Result<()> {
    let (one, other) = stage.two_nodes()?;
    let mut network = macvlan(&json!({ "type": "static" }));
    network["capabilities"] = json!({ "ips": true });
    stage.define("wire", &network)?;
    let plan = [
        ("left", &one, ["10.102.2.11", "fd00:102:2::11"]),
        ("right", &other, ["10.102.2.12", "fd00:102:2::12"]),
    ];
    for (name, node, [four, six]) in plan {
        let wanted = json!([{ "name": "wire", "ips": [format!("{four}/24"), format!("{six}/64")] }]);
        stage.create(&Pod::new(name).on(node).networks(&wanted.to_string()))?;
    }
    for (name, _, addresses) in plan {
        stage.wait_until_ready(name)?;
        let wanted: BTreeSet<IpAddr> = addresses.iter().filter_map(|address| address.parse().ok()).collect();
        let told: BTreeSet<IpAddr> = stage.addresses(name, "net1")?.into_iter().collect();
        ensure!(told == wanted, "{name} has {told:?} instead of {wanted:?}");
        stage.ensure_status_is_true(name, "net1")?;
    }
    for far in stage.addresses("right", "net1")? {
        stage.ping("left", far, Some("net1"))?;
    }
    stage.delete("left")?;
    stage.delete("right")?;
    stage.wait_until_nothing_is_left()
}

/// One network for all nodes without a configuration of its own: each node keeps a file of that name, with its range.
/// A bridge of the node has the wire as a port.
fn one_network_has_a_range_of_its_own_on_each_node(stage: &Stage<'_>) -> Result<()> {
    let (one, other) = stage.two_nodes()?;
    let network = stage.interface("lan");
    let uplinks = [
        Uplink::new(stage, &one, &network, ("10.102.3.10", "10.102.3.99"))?,
        Uplink::new(stage, &other, &network, ("10.102.3.100", "10.102.3.199"))?,
    ];
    stage.cluster.apply(
        &json!({
            "apiVersion": "k8s.cni.cncf.io/v1",
            "kind": "NetworkAttachmentDefinition",
            "metadata": { "name": network, "namespace": stage.namespace },
        })
        .to_string(),
    )?;
    stage.deploy("DaemonSet", &Pod::new("agent").networks(&network), &json!({}))?;
    stage.deploy("Deployment", &Pod::new("app").networks(&network), &json!({ "replicas": 3 }))?;
    stage.wait_until_rolled_out("daemonset/agent")?;
    stage.wait_until_rolled_out("deployment/app")?;
    let pods = stage.cluster.nodes().len() + 3;
    each_has_an_address_of_its_own(stage, &["agent".to_owned(), "app".to_owned()], pods)?;

    stage.delete_workload("daemonset/agent")?;
    stage.delete_workload("deployment/app")?;
    stage.wait_until_nothing_is_left()?;
    for uplink in &uplinks {
        uplink.wait_until_all_addresses_are_free(stage)?;
    }
    Ok(())
}

/// A bridge of a node that has the wire as a port, and the node's part of the network. Dropping it takes both away.
struct Uplink<'a> {
    cluster: &'a Cluster,
    node: String,
    network: String,
}

impl<'a> Uplink<'a> {
    fn new(stage: &Stage<'a>, node: &str, network: &str, range: (&str, &str)) -> Result<Self> {
        let this = Self { cluster: stage.cluster, node: node.to_owned(), network: network.to_owned() };
        this.cluster.on_node(
            node,
            &format!(
                "ip link add {network} type bridge
                 ip link set {network} up
                 ip link set {WIRE} master {network}"
            ),
        )?;
        let config = json!({
            "cniVersion": "0.4.0",
            "name": network,
            "plugins": [{ "type": "bridge", "bridge": network, "ipam": {
                "type": "host-local",
                "subnet": "10.102.3.0/24",
                "rangeStart": range.0,
                "rangeEnd": range.1,
            } }],
        });
        this.cluster.write_on_node(node, &this.file(), &config.to_string())?;
        Ok(this)
    }

    fn file(&self) -> String {
        format!("{ON_NODE}/{}.conflist", self.network)
    }

    /// The account bears the configuration's name, which is not the scenario's.
    fn wait_until_all_addresses_are_free(&self, stage: &Stage<'_>) -> Result<()> {
        let script = format!("ls /var/lib/cni/networks/{} | grep -c '^10\\.' || :", self.network);
        stage.wait(&format!("all addresses of {} are free on {}", self.network, self.node), || {
            Ok(self.cluster.on_node(&self.node, &script)? == "0")
        })
    }
}

impl Drop for Uplink<'_> {
    fn drop(&mut self) {
        let script = format!(
            "rm -f {}; ip link set {WIRE} nomaster; ip link delete {1} || :; rm -rf /var/lib/cni/networks/{1}",
            self.file(),
            self.network
        );
        // Best effort: the scenario has told already what is wrong.
        let _ = self.cluster.on_node(&self.node, &script);
    }
}
