//! Where a scenario happens: a namespace of its own on the cluster, and what people do and see there.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::pod::{NETWORK_STATUS, Pod};
use crate::cluster::{Cluster, Feature};
use crate::program::{output_of, report};
use crate::wait;

/// How long a pod may take to start or to go, on a busy machine, retries of the kubelet included.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// The same for kubectl.
const TIMEOUT: &str = "--timeout=120s";

/// The pause between two looks through kubectl, which costs a tenth of a second of processor time.
const GLANCE: Duration = Duration::from_millis(300);

/// A scenario's place.
#[derive(Debug)]
pub struct Stage<'a> {
    /// The cluster, which is everybody's.
    pub cluster: &'a Cluster,
    /// The namespace, which is the scenario's own.
    pub namespace: String,
    /// The scenario's name.
    pub scenario: &'static str,
    more_namespaces: std::sync::Mutex<Vec<String>>,
}

impl<'a> Stage<'a> {
    /// Makes the namespace.
    pub(super) fn new(cluster: &'a Cluster, scenario: &'static str) -> Result<Self> {
        // Bounded as names are, and the same in each run.
        let short: String = scenario.replace('_', "-").chars().take(40).collect();
        let namespace = format!("e2e-{}-{:04x}", short.trim_end_matches('-'), digest(scenario) & 0xffff);
        let this = Self { cluster, namespace, scenario, more_namespaces: std::sync::Mutex::default() };
        this.make_namespace(&this.namespace)?;
        Ok(this)
    }

    /// Makes a further namespace, `<the scenario's>-<suffix>`, which goes with the scenario's.
    pub fn another_namespace(&self, suffix: &str) -> Result<String> {
        let name = format!("{}-{suffix}", self.namespace);
        self.make_namespace(&name)?;
        self.more_namespaces.lock().map_err(|_| anyhow::anyhow!("a story panicked"))?.push(name.clone());
        Ok(name)
    }

    fn make_namespace(&self, name: &str) -> Result<()> {
        self.cluster.apply(
            &json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } }).to_string(),
        )
    }

    /// Takes everything of the scenario away, without waiting for it.
    pub(super) fn clear(&self) {
        let more = self.more_namespaces.lock().map(|names| names.clone()).unwrap_or_default();
        for name in more.iter().chain([&self.namespace]) {
            let deleted =
                self.cluster.kubectl(&["delete", "namespace", name, "--wait=false", "--ignore-not-found"]);
            let _ = deleted.inspect_err(report);
        }
    }

    /// A name of an interface on the nodes that no other scenario uses: at most 15 letters.
    pub fn interface(&self, prefix: &str) -> String {
        format!("{prefix}{:06x}", digest(&self.namespace) & 0x00ff_ffff)
    }

    /// The first and the second node.
    pub fn two_nodes(&self) -> Result<(String, String)> {
        let nodes = self.cluster.nodes();
        let [one, other, ..] = nodes.as_slice() else {
            bail!("the cluster has fewer than two nodes: {nodes:?}")
        };
        Ok((one.clone(), other.clone()))
    }

    /// Defines a network in the scenario's namespace.
    pub fn define(&self, name: &str, config: &Value) -> Result<()> {
        self.define_in(&self.namespace, name, config)
    }

    /// Defines a network in some namespace.
    pub fn define_in(&self, namespace: &str, name: &str, config: &Value) -> Result<()> {
        let network = json!({
            "apiVersion": "k8s.cni.cncf.io/v1",
            "kind": "NetworkAttachmentDefinition",
            "metadata": { "name": name, "namespace": namespace },
            "spec": { "config": config.to_string() },
        });
        self.cluster
            .apply(&network.to_string())
            .with_context(|| format!("defining the network {namespace}/{name}"))
    }

    /// kubectl in the scenario's namespace.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.cluster.kubectl(&[&["-n", &self.namespace], arguments].concat())
    }

    /// Creates a pod and waits for nothing.
    pub fn create(&self, pod: &Pod) -> Result<()> {
        let manifest = pod.manifest(&self.namespace, &self.cluster.test_image());
        self.cluster.apply(&manifest.to_string()).with_context(|| format!("creating the pod {}", pod.name))
    }

    /// Creates a pod and waits until it runs and its network-status is there.
    pub fn run(&self, pod: &Pod) -> Result<()> {
        self.create(pod)?;
        self.wait_until_ready(&pod.name)
    }

    /// Waits until a pod is ready.
    pub fn wait_until_ready(&self, pod: &str) -> Result<()> {
        self.kubectl(&["wait", "--for=condition=Ready", &format!("pod/{pod}"), TIMEOUT])
            .map(drop)
            .with_context(|| format!("waiting until pod {pod} is ready"))
    }

    /// Deletes a pod and waits until it is gone, which it is when its networks are.
    pub fn delete(&self, pod: &str) -> Result<()> {
        self.kubectl(&["delete", "pod", pod, "--wait=true", TIMEOUT]).map(drop)
    }

    /// A pod as the API server has it.
    pub fn pod(&self, name: &str) -> Result<Value> {
        let pod = self.cluster.get("pod", &self.namespace, name)?;
        pod.with_context(|| format!("there is no pod {name}"))
    }

    /// Runs a program in a pod's first container and returns what it printed.
    pub fn exec(&self, pod: &str, program: &[&str]) -> Result<String> {
        self.kubectl(&[&["exec", pod, "--"], program].concat())
    }

    /// Waits until something holds that is asked through kubectl.
    pub fn wait(&self, what: &str, holds: impl FnMut() -> Result<bool>) -> Result<()> {
        self.wait_for(PATIENCE, what, holds)
    }

    /// The same with another patience.
    pub fn wait_for(
        &self,
        patience: Duration,
        what: &str,
        holds: impl FnMut() -> Result<bool>,
    ) -> Result<()> {
        wait::at_times(GLANCE, patience, what, holds)
    }

    /// The elements of a pod's network-status; waits until it is there.
    pub fn network_status(&self, pod: &str) -> Result<Vec<Value>> {
        let mut found = Vec::new();
        self.wait(&format!("{pod} has a network-status"), || {
            let value = self.pod(pod)?;
            let Some(text) = value["metadata"]["annotations"][NETWORK_STATUS].as_str() else {
                return Ok(false);
            };
            found = serde_json::from_str(text).context("reading the network-status")?;
            Ok(true)
        })?;
        Ok(found)
    }

    /// What the network-status says of an interface.
    pub fn status_of(&self, pod: &str, interface: &str) -> Result<Value> {
        let status = self.network_status(pod)?;
        let found = status.iter().find(|element| element["interface"] == interface).cloned();
        found.with_context(|| format!("the network-status of {pod} has no {interface}: {status:?}"))
    }

    /// The addresses that the network-status gives an interface.
    pub fn addresses(&self, pod: &str, interface: &str) -> Result<Vec<IpAddr>> {
        let status = self.status_of(pod, interface)?;
        let ips = status["ips"].as_array().into_iter().flatten();
        ips.map(|ip| {
            let text = ip.as_str().unwrap_or_default();
            text.parse().with_context(|| format!("reading the address {text:?} of {pod}"))
        })
        .collect()
    }

    /// The one address that the network-status gives an interface.
    pub fn address(&self, pod: &str, interface: &str) -> Result<IpAddr> {
        let all = self.addresses(pod, interface)?;
        ensure!(all.len() == 1, "{interface} of {pod} has the addresses {all:?} instead of one");
        Ok(all[0])
    }

    /// The interfaces that a pod really has, `lo` left out.
    pub fn interfaces(&self, pod: &str) -> Result<Vec<String>> {
        let printed = self.exec(pod, &["ls", "/sys/class/net"])?;
        let names = printed.split_whitespace().filter(|name| !["lo", "bonding_masters"].contains(name));
        Ok(names.map(str::to_owned).collect())
    }

    /// Fails unless a pod reaches an address, from one of its interfaces if one is named.
    pub fn ping(&self, pod: &str, address: IpAddr, from: Option<&str>) -> Result<()> {
        let target = address.to_string();
        let mut program = vec!["ping", "-c", "1", "-W", "2"];
        program.extend(from.iter().flat_map(|interface| ["-I", interface]));
        program.push(&target);
        // The first answer of a new link may take until addresses are resolved.
        let mut last = String::new();
        let reached = self.wait_for(Duration::from_secs(20), &format!("{pod} reaches {address}"), || {
            let answer = self.exec(pod, &program);
            last = answer.as_ref().err().map(|error| format!("{error:#}")).unwrap_or_default();
            Ok(answer.is_ok())
        });
        reached.context(last)
    }

    /// What `kubectl describe` shows of a pod.
    pub fn describe(&self, pod: &str) -> Result<String> {
        self.kubectl(&["describe", "pod", pod])
    }

    /// Waits until `kubectl describe` of a pod shows a text.
    pub fn wait_until_described(&self, pod: &str, text: &str) -> Result<()> {
        let mut last = String::new();
        let described = self.wait(&format!("describe of {pod} shows {text:?}"), || {
            last = self.describe(pod)?;
            Ok(last.contains(text))
        });
        described.with_context(|| format!("it showed:\n{last}"))
    }

    /// Waits until the nodes have nothing of the scenario any more: no record, and no address of its networks. Its pods
    /// have to be deleted before.
    pub fn wait_until_nothing_is_left(&self) -> Result<()> {
        let mut left = Vec::new();
        let waited = self.wait("nothing of the scenario is left on the nodes", || {
            left = self.left()?;
            Ok(left.is_empty())
        });
        waited.with_context(|| format!("left are {left:?}"))
    }

    /// Records and reserved addresses of the scenario's pods and networks, on all nodes; none where nodes
    /// cannot be looked at.
    pub fn left(&self) -> Result<Vec<String>> {
        if !self.cluster.has(Feature::Nodes) {
            return Ok(Vec::new());
        }
        let script = format!(
            "grep -ls '\"{0}\"' /var/lib/braid/attachments/* || :
             for dir in /var/lib/cni/networks/{0}__* /var/lib/cni/networks/{0}-*__*; do
                 ls \"$dir\" 2>/dev/null | grep -v -e last_reserved -e lock | sed \"s|^|$dir/|\" || :
             done",
            self.namespace
        );
        let mut left = Vec::new();
        for node in self.cluster.nodes() {
            let printed = self.cluster.on_node(&node, &script)?;
            left.extend(printed.lines().map(|line| format!("{node}:{line}")));
        }
        Ok(left)
    }

    /// Creates pods and waits until all of them are ready.
    pub fn run_all(&self, pods: &[Pod]) -> Result<()> {
        pods.iter().try_for_each(|pod| self.create(pod))?;
        pods.iter().try_for_each(|pod| self.wait_until_ready(&pod.name))
    }

    /// Deletes pods and waits until all of them are gone.
    pub fn delete_all(&self, pods: &[&str]) -> Result<()> {
        self.kubectl(&[&["delete", "pods", "--wait=true", TIMEOUT], pods].concat()).map(drop)
    }

    /// The addresses that an interface of a pod really has, with prefix lengths; those of the link alone left out.
    pub fn real_prefixes(&self, pod: &str, interface: &str) -> Result<Vec<String>> {
        let printed = self.exec(pod, &["ip", "-o", "address", "show", "dev", interface])?;
        let lines = printed.lines().filter(|line| !line.contains("scope link"));
        let address = |line: &str| {
            let mut words = line.split_whitespace().skip_while(|word| !["inet", "inet6"].contains(word));
            words.nth(1).map(str::to_owned)
        };
        Ok(lines.filter_map(address).collect())
    }

    /// Pings every address that another pod's network-status gives an interface.
    pub fn ping_all(&self, from: &str, to: &str, interface: &str) -> Result<()> {
        let addresses = self.addresses(to, interface)?;
        ensure!(!addresses.is_empty(), "{interface} of {to} has no address");
        addresses.into_iter().try_for_each(|address| self.ping(from, address, None))
    }

    /// Creates a workload of pods like one: a `kind` of apps/v1, with further fields of its spec.
    pub fn deploy(&self, kind: &str, pod: &Pod, further: &Value) -> Result<()> {
        let mut spec = json!({
            "selector": { "matchLabels": { "app": pod.name } },
            "template": pod.template(&self.cluster.test_image()),
        });
        for (field, value) in further.as_object().into_iter().flatten() {
            spec[field] = value.clone();
        }
        let metadata = json!({ "name": pod.name, "namespace": self.namespace });
        let workload = json!({ "apiVersion": "apps/v1", "kind": kind, "metadata": metadata, "spec": spec });
        self.cluster.apply(&workload.to_string()).with_context(|| format!("creating the {kind} {}", pod.name))
    }

    /// Waits until a workload is as its template says; `workload` as kubectl spells it, `deployment/web`.
    pub fn wait_until_rolled_out(&self, workload: &str) -> Result<()> {
        self.kubectl(&["rollout", "status", workload, TIMEOUT]).map(drop)
    }

    /// Deletes a workload and waits until its pods are gone too.
    pub fn delete_workload(&self, workload: &str) -> Result<()> {
        self.kubectl(&["delete", workload, "--cascade=foreground", "--wait=true", TIMEOUT]).map(drop)
    }

    /// The names of a workload's pods, those that are being deleted left out.
    pub fn pods_of(&self, workload: &str) -> Result<Vec<String>> {
        let pods = self.cluster.list("pods", &self.namespace, &format!("app={workload}"))?;
        let stay = pods.iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
        Ok(stay.filter_map(|pod| pod["metadata"]["name"].as_str()).map(str::to_owned).collect())
    }

    /// The addresses that an interface of a pod really has, those of the link alone left out.
    pub fn real_addresses(&self, pod: &str, interface: &str) -> Result<Vec<IpAddr>> {
        let prefixes = self.real_prefixes(pod, interface)?;
        prefixes
            .iter()
            .map(|prefix| {
                let address = prefix.split('/').next().unwrap_or_default();
                address.parse().with_context(|| format!("reading the address {prefix:?} of {pod}"))
            })
            .collect()
    }

    /// Fails unless an interface has the addresses that the network-status says, and has some.
    pub fn ensure_status_is_true(&self, pod: &str, interface: &str) -> Result<()> {
        let (mut told, mut real) = (self.addresses(pod, interface)?, self.real_addresses(pod, interface)?);
        told.sort();
        real.sort();
        ensure!(!real.is_empty(), "{interface} of {pod} has no address");
        ensure!(told == real, "the network-status of {pod} says {told:?} of {interface}, which has {real:?}");
        Ok(())
    }

    /// What the API server warns of when an object is applied; stores nothing.
    pub fn warnings(&self, object: &Value) -> Result<String> {
        let script = "exec kubectl -n \"$0\" apply --dry-run=server -f - 2>&1 >/dev/null";
        let mut shell = self.cluster.command("sh")?;
        output_of(shell.args(["-c", script, &self.namespace]), &object.to_string())
    }

    /// What `kubectl apply` says when the API server refuses an object, or `None` if it would take it; stores nothing.
    pub fn refusal(&self, object: &Value) -> Option<String> {
        let arguments = ["-n", &self.namespace, "apply", "--dry-run=server", "-f", "-"];
        self.cluster.kubectl_with(&arguments, &object.to_string()).err().map(|error| format!("{error:#}"))
    }

    /// The pod's address as Kubernetes has it.
    pub fn pod_ip(&self, pod: &str) -> Result<IpAddr> {
        let value = self.pod(pod)?;
        let text = value["status"]["podIP"].as_str().with_context(|| format!("{pod} has no address"))?;
        text.parse().with_context(|| format!("reading the address {text:?} of {pod}"))
    }
}

fn digest(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}
