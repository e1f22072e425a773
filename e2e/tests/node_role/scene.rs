//! A control plane, a node, and the node role between them.

use std::path::PathBuf;

use anyhow::{Context, Result};
use cni::npwg::{NETWORK_STATUS, NETWORKS, NetworkRef};
use crds::NetworkAttachmentDefinition;
use e2e::control_plane::{ControlPlane, User};
use e2e::node::{Node, Pod};
use e2e::operator::Operator;
use e2e::requirement::{Need, met};
use e2e::{artefacts, wait};
use k8s_openapi::api::core::v1::Pod as ApiPod;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use store::network::{Outcome, RenderedNetwork};

/// The node's name for the API server.
pub(crate) const NODE: &str = "node-1";

/// Dropped in the order of the fields: the role ends before what it talks to.
pub(crate) struct Scene {
    pub(crate) role: Option<Operator>,
    pub(crate) plane: ControlPlane,
    pub(crate) node: Node,
}

/// Whether the machine has what a scene needs.
pub(crate) fn possible() -> bool {
    met(&[Need::Root, Need::Plugins, Need::Program("ip", "iproute2"), Need::ControlPlane])
}

impl Scene {
    /// Everything but the role: definitions installed, a primary on the node.
    pub(crate) fn without_role() -> Result<Self> {
        let (plane, node) = (ControlPlane::start()?, Node::new()?);
        plane.install_definitions()?;
        let this = Self { role: None, plane, node };
        this.give_primary()?;
        Ok(this)
    }

    /// Everything, ready.
    pub(crate) fn start() -> Result<Self> {
        let mut this = Self::without_role()?;
        this.start_role(&User::admin(), &[])?;
        this.role.as_mut().context("no role")?.wait_until_ready()?;
        Ok(this)
    }

    pub(crate) fn give_primary(&self) -> Result<()> {
        let mut bridge = json!({"type": "bridge", "bridge": "pods0", "isDefaultGateway": true});
        bridge["ipam"] = self.node.host_local(&["10.244.0.0/24"]);
        let list = json!({"cniVersion": "1.0.0", "name": "primary", "plugins": [bridge]});
        self.node.configure("10-primary.conflist", &list)
    }

    /// Starts the role as somebody.
    pub(crate) fn start_role(&mut self, user: &User, more: &[&str]) -> Result<()> {
        let arguments = self.arguments()?;
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).chain(more.iter().copied()).collect();
        let kubeconfig = self.plane.kubeconfig(user)?;
        self.role = Some(Operator::start("node", &self.node.file(""), &kubeconfig, &arguments)?);
        Ok(())
    }

    fn arguments(&self) -> Result<Vec<String>> {
        let path = |name: &str| self.node.file(name).display().to_string();
        let pairs = [
            ("--node-name", NODE.to_owned()),
            ("--report-interval", "1".to_owned()),
            ("--plugin", artefacts::meta_cni()?.display().to_string()),
            ("--run-dir", path("run")),
            ("--state-dir", path("state")),
            ("--cni-conf-dir", path("net.d")),
            ("--cni-bin-dir", self.host_bin()?.display().to_string()),
        ];
        Ok(pairs.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect())
    }

    /// Starts the role as a pod's container is started.
    pub(crate) fn start_role_in_pod(&mut self, user: &User) -> Result<()> {
        let account = self.node.file("account");
        std::fs::create_dir_all(&account)?;
        std::fs::write(account.join("token"), user.token())?;
        std::fs::write(account.join("namespace"), "braid-system")?;
        std::fs::copy(self.plane.authority(), account.join("ca.crt"))?;
        let arguments = self.arguments()?;
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let api = self.plane.url().trim_start_matches("https://").parse()?;
        self.role = Some(Operator::start_in_pod("node", &self.node.file(""), &account, api, &arguments)?);
        Ok(())
    }

    /// Replaces a file of the pod's service account at once, as the kubelet does.
    pub(crate) fn mount(&self, name: &str, content: &str) -> Result<()> {
        let account = self.node.file("account");
        let new = account.join(".new");
        std::fs::write(&new, content).with_context(|| format!("writing {}", new.display()))?;
        std::fs::rename(&new, account.join(name)).with_context(|| format!("replacing {name}"))
    }

    /// Where the role installs the plugin; not where the simulated runtime's links are.
    pub(crate) fn host_bin(&self) -> Result<PathBuf> {
        let dir = self.node.file("opt-cni-bin");
        std::fs::create_dir_all(&dir)?;
        Ok(dir)
    }

    pub(crate) fn role(&self) -> &Operator {
        self.role.as_ref().unwrap()
    }

    /// Runs what is asynchronous with a client of the one who may do everything.
    pub(crate) fn ask<T, F: Future<Output = Result<T, kube::Error>>>(
        &self,
        what: impl FnOnce(Client) -> F,
    ) -> Result<T> {
        let client = self.plane.client(&User::admin())?;
        Ok(self.plane.block_on(what(client))?)
    }

    pub(crate) fn put_network(&self, name: &str, config: &str) -> Result<()> {
        let object = json!({
            "apiVersion": crds::nad::API_VERSION, "kind": crds::nad::KIND,
            "metadata": {"name": name, "namespace": "default"}, "spec": {"config": config},
        });
        let params = PatchParams::apply("test").force();
        self.ask(|client| async move {
            let api: Api<NetworkAttachmentDefinition> = Api::default_namespaced(client);
            api.patch(name, &params, &Patch::Apply(&object)).await
        })
        .map(drop)
    }

    pub(crate) fn delete_network(&self, name: &str) -> Result<()> {
        self.ask(|client| async move {
            let api: Api<NetworkAttachmentDefinition> = Api::default_namespaced(client);
            api.delete(name, &DeleteParams::default()).await
        })
        .map(drop)
    }

    /// A bridge with addresses of `10.9.<number>.0/24`.
    pub(crate) fn put_bridge(&self, name: &str, number: u8) -> Result<()> {
        let ipam = self.node.host_local(&[&format!("10.9.{number}.0/24")]);
        let config =
            json!({"cniVersion": "1.0.0", "type": "bridge", "bridge": format!("br{number}"), "ipam": ipam});
        self.put_network(name, &config.to_string())
    }

    /// What the node has of a network.
    pub(crate) fn rendered(&self, name: &str) -> Option<RenderedNetwork> {
        let network = NetworkRef::parse("default", name).unwrap();
        RenderedNetwork::read(&self.node.directory(), &network).unwrap()
    }

    pub(crate) fn wait_for_network(&self, name: &str) -> Result<()> {
        let ready =
            || self.rendered(name).is_some_and(|network| matches!(network.outcome, Outcome::Ready { .. }));
        wait::until(&format!("network {name} is on the node"), || Ok(ready()))
    }

    /// Makes a pod of the API server that is bound to the node, and what its runtime will run.
    pub(crate) fn put_pod(&self, name: &str, networks: &str) -> Result<Pod> {
        let object: ApiPod = serde_json::from_value(json!({
            "metadata": {"name": name, "annotations": {NETWORKS: networks}},
            "spec": {"nodeName": NODE, "containers": [{"name": "c", "image": "none"}]},
        }))?;
        let made = self.ask(|client| async move {
            Api::<ApiPod>::default_namespaced(client).create(&PostParams::default(), &object).await
        })?;
        let mut pod = Pod::new(name, networks)?;
        pod.uid = made.metadata.uid.context("a pod without uid")?;
        Ok(pod)
    }

    /// Deletes a pod as the kubelet does when it is gone.
    pub(crate) fn delete_pod(&self, name: &str) -> Result<()> {
        let params = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
        self.ask(
            |client| async move { Api::<ApiPod>::default_namespaced(client).delete(name, &params).await },
        )
        .map(drop)
    }

    /// What the API server says a pod got.
    pub(crate) fn network_status(&self, name: &str) -> Result<Option<Value>> {
        let pod =
            self.ask(|client| async move { Api::<ApiPod>::default_namespaced(client).get(name).await })?;
        let text = pod.metadata.annotations.and_then(|mut annotations| annotations.remove(NETWORK_STATUS));
        text.map(|text| serde_json::from_str(&text).context("reading the annotation")).transpose()
    }

    /// Waits until the API server says of a pod what it really has: interfaces and their addresses.
    pub(crate) fn wait_for_status(&self, pod: &Pod, interfaces: &[&str]) -> Result<Value> {
        let mut wanted = Vec::new();
        for interface in interfaces {
            let addresses = pod.netns.addresses(interface)?;
            let ips: Vec<_> = addresses.iter().map(|net| net.addr().to_string()).collect();
            wanted.push(json!({"interface": interface, "ips": ips}));
        }
        let told = |status: &Value| -> Vec<Value> {
            let all = status.as_array().into_iter().flatten();
            all.map(|one| json!({"interface": one["interface"], "ips": one["ips"]})).collect()
        };
        let mut last = None;
        let name = &pod.name;
        wait::until(&format!("the status of {name} says {wanted:?}"), || {
            last = self.network_status(name)?;
            Ok(last.as_ref().is_some_and(|status| told(status) == wanted))
        })
        .with_context(|| format!("it says {last:?}; the role logged:\n{}", self.role().log()))?;
        last.context("no status")
    }
}
impl Scene {
    /// Makes networks `n-0`, `n-1` …
    pub(crate) fn fill(&self, count: usize) -> Result<()> {
        let api: Api<NetworkAttachmentDefinition> =
            Api::default_namespaced(self.plane.client(&User::admin())?);
        self.plane.block_on(async {
            for number in 0..count {
                let object = serde_json::from_value(json!({
                    "metadata": {"name": format!("n-{number}")}, "spec": {"config": r#"{"type":"bridge"}"#},
                }))?;
                api.create(&PostParams::default(), &object).await?;
            }
            Ok(())
        })
    }
}
