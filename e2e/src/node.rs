//! A node on which Braid runs: a throw-away host, Braid's directories below one temporary directory, networks that
//! the real operator renders, and the real `meta-cni`, called as a container runtime calls it.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use cni::npwg;
use serde_json::{Map, Value, json};
use store::NodeDirectory;
use store::record::{Record, RecordKey};

use crate::host::Host;
use crate::netns::{Namespace, PREFIX};
use crate::program::{output, report};
use crate::runtime::{self, Refusal};
use crate::{artefacts, leftovers};

/// A node. Dropping it removes everything that belongs to it.
#[derive(Debug)]
pub struct Node {
    /// The host, in whose namespace all plugins run.
    pub host: Host,
    /// The settings of `meta-cni`.
    pub settings: Map<String, Value>,
    /// What plugins find in their environment besides the CNI variables.
    pub environment: Vec<(&'static str, String)>,
    /// CNI_PATH.
    pub path: Vec<PathBuf>,
    /// A program that starts `meta-cni`, with its words; none without.
    pub through: Vec<String>,
    dir: PathBuf,
    /// What the runtime keeps of each container until DEL: the configuration and the result.
    kept: Mutex<BTreeMap<String, Value>>,
}

/// A pod as a runtime knows it, and the namespace that is made for it.
#[derive(Debug)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// All its annotations.
    pub annotations: BTreeMap<String, String>,
    /// TCP ports of the host that lead to the pod: the host's, then the pod's.
    pub ports: Vec<(u16, u16)>,
    /// The sandbox's id.
    pub container_id: String,
    /// What the runtime calls its interface.
    pub interface: String,
    /// Its network namespace.
    pub netns: Namespace,
}

impl Pod {
    /// A pod of the namespace `default` that asks for networks.
    pub fn new(name: &str, networks: &str) -> Result<Self> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut annotations = BTreeMap::new();
        if !networks.is_empty() {
            annotations.insert(npwg::NETWORKS.to_owned(), networks.to_owned());
        }
        Ok(Self {
            namespace: "default".to_owned(),
            name: name.to_owned(),
            uid: format!("uid-of-{name}"),
            annotations,
            ports: Vec::new(),
            // As long as real ones, and of one test run only.
            container_id: format!("{:024x}{:016x}{number:024x}", 0xb7a1d, std::process::id()),
            interface: "eth0".to_owned(),
            netns: Namespace::new(name)?,
        })
    }

    /// The same pod in another namespace of the cluster.
    #[must_use]
    pub fn of(self, namespace: &str) -> Self {
        Self { namespace: namespace.to_owned(), ..self }
    }

    /// The same pod with a port of the host.
    #[must_use]
    pub fn with_port(mut self, host: u16, pod: u16) -> Self {
        self.ports.push((host, pod));
        self
    }

    /// The first address of an interface in one family.
    pub fn address(&self, interface: &str, family: cni::result::Family) -> Result<IpAddr> {
        let all = self.netns.addresses(interface)?.into_iter().map(|net| net.addr());
        all.into_iter()
            .find(|address| cni::result::Family::of(*address) == family)
            .with_context(|| format!("{interface} of pod {} has no {family} address", self.name))
    }
}

impl Node {
    /// A node without networks.
    pub fn new() -> Result<Self> {
        for orphan in leftovers::orphans(PREFIX)? {
            // Another test may be removing it too.
            leftovers::clear(&orphan).unwrap_or_else(|error| report(&error));
        }
        let (meta_cni, host) = (artefacts::meta_cni()?, Host::new()?);
        let plugins = artefacts::reference_plugins().context("install containernetworking-plugins")?;
        let dir = leftovers::directory(PREFIX)?;
        let bin = dir.join("bin");
        let path = |name: &str| Value::from(dir.join(name).to_string_lossy());
        let settings = json!({
            "type": "meta-cni",
            "capabilities": { "portMappings": true, "io.kubernetes.cri.pod-annotations": true },
            "multusAutoconfigDir": path("net.d"),
            "confDir": path("net.d"),
            "binDir": path("bin"),
            "runDir": path("run"),
            "stateDir": path("state"),
        });
        let settings = settings.as_object().cloned().unwrap_or_default();
        let (environment, kept) = (Vec::new(), Mutex::default());
        let this = Self { host, settings, environment, path: vec![bin], through: Vec::new(), dir, kept };
        for name in ["bin", "net.d", "manifests"] {
            fs::create_dir(this.dir.join(name)).context("making the node's directories")?;
        }
        this.install(&meta_cni)?;
        for plugin in files(&plugins)? {
            this.install(&plugins.join(plugin))?;
        }
        Ok(this)
    }

    /// Where a file of the node is.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The node directory.
    pub fn directory(&self) -> NodeDirectory {
        NodeDirectory::new(self.file("run"), self.file("state"))
    }

    /// Changes a setting.
    pub fn set(&mut self, setting: &str, value: impl Into<Value>) {
        self.settings.insert(setting.to_owned(), value.into());
    }

    /// Makes a plugin available under its name.
    fn install(&self, plugin: &Path) -> Result<()> {
        let link = self.file("bin").join(plugin.file_name().context("a plugin without a name")?);
        std::os::unix::fs::symlink(plugin, &link).with_context(|| format!("making {}", link.display()))
    }

    /// Writes Braid's own CNI configuration, for runtimes that read the directory themselves.
    pub fn install_configuration(&self) -> Result<()> {
        let list = json!({ "cniVersion": "1.0.0", "name": "braid", "plugins": [self.settings] });
        self.configure("00-braid.conflist", &list)
    }

    /// Writes a CNI configuration of the node, such as the primary's.
    pub fn configure(&self, file: &str, list: &Value) -> Result<()> {
        let path = self.file("net.d").join(file);
        fs::write(&path, format!("{list:#}")).with_context(|| format!("writing {}", path.display()))
    }

    /// Writes NetworkAttachmentDefinitions, named `namespace/name`, and lets the operator render all that there are.
    pub fn define(&self, networks: &[(&str, &Value)]) -> Result<()> {
        for (network, config) in networks {
            write_manifest(&self.file("manifests"), network, config)?;
        }
        self.render(&self.file("manifests")).map(drop)
    }

    /// Removes every NetworkAttachmentDefinition.
    pub fn undefine_all(&self) -> Result<()> {
        let manifests = self.file("manifests");
        fs::remove_dir_all(&manifests).and_then(|()| fs::create_dir(&manifests))?;
        self.render(&manifests).map(drop)
    }

    /// Runs the operator once over a directory of manifests; what it printed.
    pub fn render(&self, manifests: &Path) -> Result<String> {
        render(manifests, &self.directory())
    }

    /// Attaches a pod.
    pub fn add(&self, pod: &Pod) -> Result<Value, Refusal> {
        let config = self.config(pod);
        let result = self.call("ADD", Some(pod), &config)?;
        let mut kept = config;
        kept["prevResult"] = result.clone();
        self.kept().insert(pod.container_id.clone(), kept);
        Ok(result)
    }

    /// Has another plugin attach a pod, as a runtime does whose first configuration is the other one's. DEL comes to
    /// `meta-cni` all the same.
    pub fn add_by(&self, plugin: &Path, configuration: &Value, pod: &Pod) -> Result<Value, Refusal> {
        let mut stdin = configuration.clone();
        stdin["runtimeConfig"] = self.config(pod)["runtimeConfig"].take();
        self.call_plugin(plugin, "ADD", Some((pod, &pod.netns.path())), &stdin)
    }

    /// Detaches a pod, with what the runtime kept of ADD; without it if ADD failed.
    pub fn del(&self, pod: &Pod) -> Result<(), Refusal> {
        let config = self.kept().get(&pod.container_id).cloned().unwrap_or_else(|| self.config(pod));
        self.call("DEL", Some(pod), &config)?;
        self.kept().remove(&pod.container_id);
        Ok(())
    }

    /// Detaches a pod as [`Node::del`] does, with another path to its namespace; empty: with none.
    pub fn del_in(&self, pod: &Pod, netns: &Path) -> Result<(), Refusal> {
        let config = self.kept().get(&pod.container_id).cloned().unwrap_or_else(|| self.config(pod));
        let plugin = self.file("bin/meta-cni");
        self.call_plugin(&plugin, "DEL", Some((pod, netns)), &config)?;
        self.kept().remove(&pod.container_id);
        Ok(())
    }

    /// Asks whether pods can be attached.
    pub fn status(&self) -> Result<(), Refusal> {
        self.call("STATUS", None, &self.list_settings("1.1.0")).map(drop)
    }

    /// Checks a pod, with what the runtime kept of ADD.
    pub fn check(&self, pod: &Pod) -> Result<(), Refusal> {
        let config = self.kept().get(&pod.container_id).cloned().unwrap_or_else(|| self.config(pod));
        self.call("CHECK", Some(pod), &config).map(drop)
    }

    /// Collects what belongs to none of the given pods.
    pub fn gc(&self, valid: &[&Pod]) -> Result<(), Refusal> {
        let mut config = self.list_settings("1.1.0");
        let pair = |pod: &&Pod| json!({ "containerID": pod.container_id, "ifname": "eth0" });
        config["cni.dev/valid-attachments"] = valid.iter().map(pair).collect();
        self.call("GC", None, &config).map(drop)
    }

    /// Runs `meta-cni gc` by hand, which takes up unfinished work at once; what it printed.
    pub fn gc_by_hand(&self) -> Result<String> {
        let bin = self.settings.get("binDir").and_then(Value::as_str).unwrap_or_default();
        let mut command = Command::new(self.file("bin/meta-cni"));
        command.args(["gc", "--bin-dir", bin, "--run-dir"]).arg(self.file("run"));
        command.arg("--state-dir").arg(self.file("state"));
        self.host.netns.within(|| output(&mut command))?
    }

    /// What the record says of a pod, if there is one.
    pub fn record(&self, pod: &Pod) -> Result<Option<Record>> {
        let key = RecordKey::of_file(&pod.container_id).context("a container id that is none")?;
        Ok(Record::read(&self.directory(), &key)?)
    }

    /// Everything that pods have left on this node; empty when all are detached.
    pub fn leftovers(&self) -> Result<Vec<String>> {
        let mut found = self.host.leftovers()?;
        found.extend(
            self.reservations()?.into_iter().map(|(network, ip)| format!("address {ip} of {network}")),
        );
        let directory = self.directory();
        for (what, dir) in [
            ("record", directory.records()),
            ("hint", directory.unfinished()),
            ("lock", directory.container_locks()),
            ("tuning's backup", self.file("tuning")),
        ] {
            found.extend(files(&dir)?.into_iter().map(|file| format!("{what} {file}")));
        }
        Ok(found)
    }

    /// The addresses that host-local has reserved, with the network's name.
    pub fn reservations(&self) -> Result<Vec<(String, IpAddr)>> {
        reservations_in(&self.file("ipam"))
    }

    /// The configuration of an IPAM by host-local, one range for each subnet.
    pub fn host_local(&self, subnets: &[&str]) -> Value {
        let ranges: Vec<_> = subnets.iter().map(|subnet| json!([{ "subnet": subnet }])).collect();
        json!({ "type": "host-local", "dataDir": self.file("ipam").to_string_lossy(), "ranges": ranges })
    }

    fn kept(&self) -> MutexGuard<'_, BTreeMap<String, Value>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The stdin that a runtime makes of the settings.
    fn list_settings(&self, version: &str) -> Value {
        let mut config = Value::Object(self.settings.clone());
        config["name"] = "braid".into();
        config["cniVersion"] = version.into();
        if config.get("result").is_none() {
            // A test is no runtime that is known.
            config["result"] = "merged".into();
        }
        config
    }

    fn config(&self, pod: &Pod) -> Value {
        let mut config = self.list_settings("1.0.0");
        let mut asked = json!({ "io.kubernetes.cri.pod-annotations": pod.annotations });
        if !pod.ports.is_empty() {
            let mapping = |(host, pod): &(u16, u16)| json!({ "hostPort": host, "containerPort": pod, "protocol": "tcp" });
            asked["portMappings"] = pod.ports.iter().map(mapping).collect();
        }
        config["runtimeConfig"] = asked;
        config
    }

    fn call(&self, verb: &str, pod: Option<&Pod>, stdin: &Value) -> Result<Value, Refusal> {
        let netns = pod.map(|pod| pod.netns.path()).unwrap_or_default();
        self.call_plugin(&self.file("bin/meta-cni"), verb, pod.map(|pod| (pod, netns.as_path())), stdin)
    }

    fn call_plugin(
        &self,
        plugin: &Path,
        verb: &str,
        pod: Option<(&Pod, &Path)>,
        stdin: &Value,
    ) -> Result<Value, Refusal> {
        let path = std::env::join_paths(&self.path).context("joining CNI_PATH")?;
        let mut environment = self.environment.clone();
        environment.push(("CNI_COMMAND", verb.to_owned()));
        environment.push(("CNI_PATH", path.to_string_lossy().into_owned()));
        if let Some((pod, netns)) = pod {
            let Pod { namespace, name, uid, container_id: id, .. } = pod;
            let args = format!(
                "IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name};\
                 K8S_POD_INFRA_CONTAINER_ID={id};K8S_POD_UID={uid}"
            );
            environment.push(("CNI_CONTAINERID", id.clone()));
            environment.push(("CNI_IFNAME", pod.interface.clone()));
            environment.push(("CNI_NETNS", netns.to_string_lossy().into_owned()));
            environment.push(("CNI_ARGS", args));
        }
        let printed = runtime::call_through(&self.host.netns, &self.through, plugin, &environment, stdin)?;
        if (verb == "ADD") == printed.is_null() {
            return Err(Refusal::from(anyhow::anyhow!("{verb} succeeded and printed {printed}")));
        }
        Ok(printed)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Err(error) = leftovers::clear(&self.dir) {
            report(&error);
        }
    }
}

/// Writes a NetworkAttachmentDefinition, named `namespace/name`, as people do.
pub fn write_manifest(manifests: &Path, network: &str, config: &Value) -> Result<()> {
    let (namespace, name) = network.split_once('/').context("a network is named namespace/name")?;
    let config = format!("{config:#}").replace('\n', "\n    ");
    let text = format!(
        "apiVersion: k8s.cni.cncf.io/v1\nkind: NetworkAttachmentDefinition\nmetadata:\n  name: {name}\n  \
         namespace: {namespace}\nspec:\n  config: |\n    {config}\n"
    );
    let path = manifests.join(format!("{namespace}.{name}.yaml"));
    fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
}

/// Runs the operator once over a directory of manifests; what it printed.
pub fn render(manifests: &Path, directory: &NodeDirectory) -> Result<String> {
    let mut command = Command::new(artefacts::braid()?);
    command.args(["node", "--once", "--manifests"]).arg(manifests);
    command.arg("--run-dir").arg(directory.run()).arg("--state-dir").arg(directory.state());
    output(&mut command).context("rendering the networks")
}

/// The addresses that host-local has reserved below one of its `dataDir`, with the network's name.
pub fn reservations_in(dir: &Path) -> Result<Vec<(String, IpAddr)>> {
    let mut found = Vec::new();
    for network in files(dir)? {
        let reserved = files(&dir.join(&network))?;
        found.extend(reserved.iter().filter_map(|file| Some((network.clone(), file.parse().ok()?))));
    }
    Ok(found)
}

/// The names in a directory, hidden ones apart; none if it does not exist.
pub(crate) fn files(dir: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| format!("listing {}", dir.display()))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry.context("listing")?.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') {
            found.push(name);
        }
    }
    found.sort();
    Ok(found)
}
