//! What benchmarks of the node role have in common: a control plane, a node with a primary, and the role between them.

use std::fs;
use std::ops::Range;
use std::process::Command;

use anyhow::{Context, Result};
use cni::NetworkList;
use cni::npwg::NETWORKS;
use crds::NetworkAttachmentDefinition;
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Pod as ApiPod;
use kube::Api;
use kube::api::PostParams;
use serde_json::{Map, Value, json};

use super::lists::Lists;
use crate::control_plane::{ControlPlane, User};
use crate::memory;
use crate::node::Node;
use crate::operator::Operator;
use crate::program::output;
use crate::{artefacts, source};

/// The node's name for the API server.
pub(super) const NODE: &str = "bench-node";

/// What the role may need at its peak, in KiB. The design says 25 MiB.
pub(super) const ROLE_BUDGET_KIB: u64 = 16 * 1024;

/// The bridges that all networks share. The number of bridges is not what is measured, but a pod's first networks
/// are to be on different ones.
const BRIDGES: usize = 8;

/// So many objects are made at once.
const MADE_AT_ONCE: usize = 8;

/// A control plane with Braid's definitions and rights, and the user that the node role is.
pub(super) fn control_plane() -> Result<(ControlPlane, User)> {
    output(Command::new("ip").args(["link", "set", "lo", "up"])).context("bringing up the loopback link")?;
    let plane = ControlPlane::start()?;
    plane.install_definitions()?;
    plane.apply(&source("deploy/manifests/parts/rbac-node.yaml"))?;
    let user = plane.service_account("braid-system", "braid-node")?;
    Ok((plane, user))
}

/// Dropped in the order of the fields: the role ends before what it talks to.
pub(super) struct Scene {
    pub(super) role: Option<Operator>,
    pub(super) plane: ControlPlane,
    pub(super) node: Node,
    pub(super) user: User,
    /// Settings of the node, besides those that make it one.
    settings: Map<String, Value>,
}

impl Scene {
    /// Everything but the role, without networks and pods.
    pub(super) fn new(settings: &Map<String, Value>) -> Result<Self> {
        let (plane, user) = control_plane()?;
        let mut node = Node::new()?;
        let mut bridge = json!({"type": "bridge", "bridge": "pods0", "isDefaultGateway": true});
        bridge["ipam"] = node.host_local(&["10.244.0.0/16"]);
        let primary = json!({"cniVersion": "1.0.0", "name": "primary", "plugins": [bridge]});
        node.configure("10-primary.conflist", &primary)?;
        for (name, value) in settings {
            node.set(name, value.clone());
        }
        Ok(Self { role: None, plane, node, user, settings: settings.clone() })
    }

    pub(super) fn networks(&self) -> Result<Api<NetworkAttachmentDefinition>> {
        Ok(Api::default_namespaced(self.plane.client(&User::admin())?))
    }

    pub(super) fn pods(&self) -> Result<Api<ApiPod>> {
        Ok(Api::default_namespaced(self.plane.client(&User::admin())?))
    }

    /// Makes the networks `net-<number>` of a range.
    pub(super) fn fill_networks(&self, numbers: Range<usize>) -> Result<()> {
        make_networks(&self.plane, numbers.map(|number| network(number, self.ipam(number))))
    }

    /// Makes pods that ask for networks; their uids, in the same order.
    pub(super) fn make_pods(&self, names: &[String], networks: &str) -> Result<Vec<String>> {
        let pods = &self.pods()?;
        self.plane.block_on(async {
            let made = stream::iter(names).map(|name| async move {
                let made = pods.create(&PostParams::default(), &api_pod(name, networks)?).await?;
                made.metadata.uid.context("a pod without uid")
            });
            made.buffered(MADE_AT_ONCE).try_collect().await
        })
    }

    /// The same network as `net-<number>`, under another name.
    pub(super) fn bridge(&self, name: &str, number: usize) -> Result<NetworkAttachmentDefinition> {
        let mut network = network(number, self.ipam(number))?;
        network.metadata.name = Some(name.to_owned());
        Ok(network)
    }

    fn ipam(&self, number: usize) -> Value {
        self.node.host_local(&[&format!("10.{}.{}.0/24", 100 + number / 250, number % 250)])
    }

    /// Starts the role and waits until it is ready.
    pub(super) fn start(&mut self) -> Result<()> {
        let file = |name: &str| self.node.file(name).display().to_string();
        let mut arguments = vec!["--node-name".to_owned(), NODE.to_owned()];
        let mut give = |flag: &str, value: String| arguments.extend([flag.to_owned(), value]);
        give("--plugin", artefacts::meta_cni()?.display().to_string());
        give("--run-dir", file("run"));
        give("--state-dir", file("state"));
        give("--cni-conf-dir", file("net.d"));
        give("--cni-bin-dir", file("host-bin"));
        fs::create_dir_all(self.node.file("host-bin")).context("making a directory for the plugin")?;
        if !self.settings.is_empty() {
            let text = serde_json::to_vec(&self.settings).context("writing the node's settings")?;
            fs::write(self.node.file("settings.json"), text).context("writing the node's settings")?;
            give("--settings", file("settings.json"));
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let kubeconfig = self.plane.kubeconfig(&self.user)?;
        let mut role = Operator::start("node", &self.node.file(""), &kubeconfig, &arguments)?;
        role.wait_until_ready()?;
        self.role = Some(role);
        Ok(())
    }

    /// What the runtime runs for each pod: `meta-cni` alone.
    pub(super) fn braid(&self) -> Result<Lists> {
        let list = json!({"cniVersion": "1.0.0", "name": "braid", "plugins": [self.node.settings]});
        Ok(self.lists(vec![NetworkList::from_json(list, None)?]))
    }

    /// Lists with the node's plugins.
    pub(super) fn lists(&self, lists: Vec<NetworkList>) -> Lists {
        let mut lists = Lists::new(lists, self.node.path.clone());
        // Hundreds would talk at once; what failed is in the results.
        lists.exec.relay_stderr = false;
        lists
    }

    pub(super) fn role(&self) -> Result<&Operator> {
        self.role.as_ref().context("the role does not run")
    }

    /// Memory of the role in KiB: the peak so far, and now.
    pub(super) fn memory(&self) -> Result<(u64, u64)> {
        memory::resident(self.role()?.id())
    }

    /// Seconds of processor time that the role has had.
    pub(super) fn cpu(&self) -> Result<f64> {
        let name = "process_cpu_seconds_total";
        self.role()?.metric(name)?.with_context(|| format!("the role has no metric {name}"))
    }
}

/// The network `net-<number>`, a bridge as people write it.
pub(super) fn network(number: usize, ipam: Value) -> Result<NetworkAttachmentDefinition> {
    let bridge = format!("bench{}", number % BRIDGES);
    let config = json!({"cniVersion": "1.0.0", "type": "bridge", "bridge": bridge, "ipam": ipam});
    let name = format!("net-{number}");
    let object = json!({"metadata": {"name": name}, "spec": {"config": config.to_string()}});
    serde_json::from_value(object).context("making a network")
}

/// Makes networks, several at once.
pub(super) fn make_networks(
    plane: &ControlPlane,
    objects: impl Iterator<Item = Result<NetworkAttachmentDefinition>>,
) -> Result<()> {
    let api: &Api<NetworkAttachmentDefinition> = &Api::default_namespaced(plane.client(&User::admin())?);
    plane.block_on(async {
        let made = stream::iter(objects).map(|object| async move {
            api.create(&PostParams::default(), &object?).await.context("making a network").map(drop)
        });
        made.buffer_unordered(MADE_AT_ONCE).try_collect::<()>().await
    })
}

/// A pod of the node that asks for networks.
pub(super) fn api_pod(name: &str, networks: &str) -> Result<ApiPod> {
    let object = json!({
        "metadata": {"name": name, "annotations": {NETWORKS: networks}},
        "spec": {"nodeName": NODE, "containers": [{"name": "c", "image": "none"}]},
    });
    serde_json::from_value::<ApiPod>(object).context("making a pod")
}
