//! Finds the configuration of a network on this node: a NetworkAttachmentDefinition's, one that a setting
//! names, the primary's.
//!
//! It looks once and never waits. `meta-cni` looks again while an error may pass
//! ([`LookupError::may_pass`]), the operator after each change; both find the same network.

mod multus;

use std::path::{Path, PathBuf};

use cni::config::directory::{self, LoadError};
use cni::npwg::{NetworkRef, ObjectName};
use cni::reference::{NoInterface, makes_no_interface};
use cni::{CniError, Code, NetworkList, NetworkName};

use crate::StoreError;
use crate::network::{Outcome, RenderedNetwork};
use crate::node::NodeFacts;
use crate::settings::{NetworkReference, PrimarySource, Settings, below_host_hint};
use multus::{FILES as MULTUS_FILES, hint as multus_hint};
pub use multus::{calls_multus, of_multus};

/// The type of our plugin in configurations.
const OURSELVES: &str = "meta-cni";

/// How the names of our configuration files begin.
const OUR_FILES: &str = "00-braid";

/// A network, and where its configuration was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The NetworkAttachmentDefinition, if it comes from one.
    pub network: Option<NetworkRef>,
    /// Its configuration.
    pub list: NetworkList,
    /// The file that it was read from; `None` for one that stands in the settings.
    pub file: Option<PathBuf>,
    /// The device that a pod needs for it.
    pub device: Option<Device>,
}

/// A device of a device plugin's resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// The resource, as the network's annotation names it.
    pub resource: String,
    /// Where the annotation was read.
    pub origin: String,
}

/// Why a network cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// The operator has not written it.
    #[error("network {network} is not on this node: {path} does not exist{hint}")]
    Absent {
        /// Which.
        network: NetworkRef,
        /// Its file.
        path: PathBuf,
        /// What to do.
        hint: &'static str,
    },
    /// What the operator has written is from before a reboot.
    #[error(
        "network {network} is not known in this boot: {path} was written before this machine was started; Braid's node role has not yet written this node's networks since: see that it runs on this node and reaches the API server"
    )]
    OfEarlierBoot {
        /// Which.
        network: NetworkRef,
        /// Its file.
        path: PathBuf,
    },
    /// The operator says that it cannot be used.
    #[error("network {network} cannot be used: {reason} (from {origin})")]
    Refused {
        /// Which.
        network: NetworkRef,
        /// Why.
        reason: String,
        /// Where it was read.
        origin: String,
    },
    /// Its configuration is to be on the node, and is not.
    #[error(
        "network {network} has no configuration of its own, and {dir} holds none with \"name\": \"{name}\""
    )]
    NotOnNode {
        /// Which.
        network: NetworkRef,
        /// Where it was looked for.
        dir: PathBuf,
        /// Under which name.
        name: NetworkName,
    },
    /// The node directory cannot be read.
    #[error("read network {network}")]
    Store {
        /// Which.
        network: NetworkRef,
        /// Why.
        source: StoreError,
    },
    /// A configuration cannot be loaded.
    #[error("load network {network}{}", hint_for_absent_file(.source))]
    Load {
        /// Which; a name or a path.
        network: String,
        /// Why.
        source: LoadError,
    },
    /// A setting names nothing that is there.
    #[error(
        "setting {setting} names network {name}: there is no NetworkAttachmentDefinition {network} on this node, and {dir} holds no configuration with that name"
    )]
    Unknown {
        /// Which setting.
        setting: &'static str,
        /// What it says.
        name: NetworkName,
        /// The NetworkAttachmentDefinition that it may mean.
        network: String,
        /// Where a configuration of that name was looked for.
        dir: PathBuf,
    },
    /// Nothing can be the primary.
    #[error(
        "there is no primary network: {dir} holds no CNI configuration besides those of Braid and Multus{}{}{}; install the cluster's network (flannel, calico …) or set \"clusterNetwork\"",
        multus_hint(.of_multus),
        hint_for_passed_over(.without_interface),
        below_host_hint(.dir)
    )]
    NoPrimary {
        /// Where it was looked for.
        dir: PathBuf,
        /// Those of Multus that are there.
        of_multus: Vec<PathBuf>,
        /// Those that make no interface.
        without_interface: Vec<(PathBuf, NoInterface)>,
    },
    /// What is named as the primary makes no interface.
    #[error("network {name} cannot be the primary: {why}; name the network that makes the pod's eth0")]
    NoInterface {
        /// Which network.
        name: NetworkName,
        /// Why.
        why: NoInterface,
    },
    /// Braid is being taken away, and nothing comes after it.
    #[error(
        "Braid is being taken away from this node, and {dir} holds no other CNI configuration that could attach pods; install the cluster's network (flannel, calico, Multus …) there"
    )]
    NoNext {
        /// Where it was looked for.
        dir: PathBuf,
    },
    /// The primary would call us.
    #[error(
        "the primary network {name} calls plugin {plugin}, which would call it again; set \"clusterNetwork\" to another network"
    )]
    Recursive {
        /// Which network.
        name: NetworkName,
        /// Which of its plugins.
        plugin: String,
    },
    /// The primary's agent is not up.
    #[error(
        "the primary network is not ready: {path}, which \"readinessindicatorfile\" names, does not exist; its agent on this node makes that file when it is up{}",
        below_host_hint(.path)
    )]
    NotReady {
        /// The file.
        path: PathBuf,
    },
    /// Changes cannot be waited for.
    #[error("wait for a network{}", crate::watch::advice(.0))]
    Wait(#[from] std::io::Error),
}

impl LookupError {
    /// The CNI code: 11 where waiting may help, 7 for what people have to mend.
    pub fn code(&self) -> Code {
        match self {
            Self::Absent { .. }
            | Self::OfEarlierBoot { .. }
            | Self::NotOnNode { .. }
            | Self::Unknown { .. }
            | Self::NoPrimary { .. }
            | Self::NoNext { .. }
            | Self::NotReady { .. } => Code::TRY_AGAIN_LATER,
            Self::Refused { .. } | Self::Recursive { .. } | Self::NoInterface { .. } => Code::INVALID_CONFIG,
            Self::Store { source, .. } => source.code(),
            Self::Load { source, .. } => source.code(),
            Self::Wait(error) => crate::watch::code(error),
        }
    }

    /// As the plugin tells it to the runtime.
    pub fn to_cni_error(&self) -> CniError {
        CniError::from_chain(self.code(), self)
    }

    /// Whether waiting may help.
    pub fn may_pass(&self) -> bool {
        self.code() == Code::TRY_AGAIN_LATER
    }
}

/// The primary, and the other static delegates that come right after it. Never empty.
pub fn primary(settings: &Settings) -> Result<Vec<Found>, LookupError> {
    let all = match &settings.primary {
        PrimarySource::Named(reference) => vec![configured(settings, "clusterNetwork", reference)?],
        PrimarySource::Delegates(delegates) => delegates
            .iter()
            .map(|list| Found { network: None, list: list.clone(), file: None, device: None })
            .collect(),
        PrimarySource::FirstIn(dir) => vec![first_in(dir)?],
        PrimarySource::FileIn { dir, file } => vec![load(&dir.join(file))?],
    };
    for found in &all {
        refuse_recursion(&found.list)?;
    }
    match all.first().and_then(|found| Some((&found.list.name, makes_no_interface(&found.list)?))) {
        Some((name, why)) => Err(LookupError::NoInterface { name: name.clone(), why }),
        None => Ok(all),
    }
}

/// Paths in whose directories a change may bring another primary.
pub fn places_of_primary(settings: &Settings) -> Vec<PathBuf> {
    match &settings.primary {
        PrimarySource::Named(reference) => places(settings, reference),
        PrimarySource::Delegates(_) => Vec::new(),
        PrimarySource::FirstIn(dir) => vec![dir.join("any")],
        PrimarySource::FileIn { dir, file } => vec![dir.join(file)],
    }
}

/// Whether the file is there that says that the primary is ready; without such a setting it always is.
pub fn readiness(settings: &Settings) -> Result<(), LookupError> {
    match &settings.readiness_indicator_file {
        Some(path) if !path.exists() => Err(LookupError::NotReady { path: path.clone() }),
        _ => Ok(()),
    }
}

/// The network that a setting names. As Multus: a NetworkAttachmentDefinition of that name, else a
/// configuration with that name; or a file, or the first configuration of a directory.
pub fn configured(
    settings: &Settings,
    setting: &'static str,
    reference: &NetworkReference,
) -> Result<Found, LookupError> {
    match reference {
        NetworkReference::Name(name) => by_name(settings, setting, name),
        NetworkReference::Path(path) if path.is_dir() => first_in(path),
        NetworkReference::Path(path) => load(path),
    }
}

/// Paths in whose directories a change may bring another network under this reference.
pub fn places(settings: &Settings, reference: &NetworkReference) -> Vec<PathBuf> {
    match reference {
        NetworkReference::Name(name) => {
            let mut paths = vec![settings.conf_dir.join("any")];
            let network = nad_of(settings, name).map(|network| settings.directory.network(&network));
            paths.extend(network.into_iter().chain([settings.directory.node()]));
            paths
        }
        NetworkReference::Path(path) => vec![path.clone()],
    }
}

/// The NetworkAttachmentDefinition that a name in the settings means, if it can be one's name at all.
fn nad_of(settings: &Settings, name: &NetworkName) -> Option<NetworkRef> {
    let name = ObjectName::parse(name.as_str()).ok()?;
    Some(NetworkRef { namespace: settings.multus_namespace.clone(), name })
}

/// What the operator made of a NetworkAttachmentDefinition.
pub fn rendered(settings: &Settings, network: &NetworkRef) -> Result<Found, LookupError> {
    let dir = &settings.directory;
    let store = |source| LookupError::Store { network: network.clone(), source };
    let path = dir.network(network);
    let Some(rendered) = RenderedNetwork::read(dir, network).map_err(store)? else {
        let hint = hint_for_absent(NodeFacts::read(dir).map_err(store)?.as_ref());
        return Err(LookupError::Absent { network: network.clone(), path, hint });
    };
    if NodeFacts::are_of_earlier_boot(dir) {
        return Err(LookupError::OfEarlierBoot { network: network.clone(), path });
    }
    let RenderedNetwork { origin, resource_name, outcome, .. } = rendered;
    let device = resource_name.map(|resource| Device { resource, origin: origin.clone() });
    let of = |list, file| Found { network: Some(network.clone()), list, file: Some(file), device };
    match outcome {
        Outcome::Ready { list } => Ok(of(list, path)),
        Outcome::Refused { reason } => Err(LookupError::Refused { network: network.clone(), reason, origin }),
        Outcome::OnNode { name } => {
            let load = |source| LookupError::Load { network: network.to_string(), source };
            match directory::find(&settings.conf_dir, &name).map_err(load)? {
                Some((file, list)) => Ok(of(list, file)),
                None => Err(LookupError::NotOnNode {
                    network: network.clone(),
                    dir: settings.conf_dir.clone(),
                    name,
                }),
            }
        }
    }
}

/// What may be the matter with a network that has no file, and what to do.
fn hint_for_absent(facts: Option<&NodeFacts>) -> &'static str {
    match facts {
        None => {
            "; Braid's node role has not yet written this node's networks since it started: see that it runs \
             on this node and reaches the API server"
        }
        Some(facts) if facts.partial => {
            "; it may only be unseen, since Braid's node role could not read every manifest: mend what its log, \
             or `braid node --manifests DIR --once`, tells of, then check the network's name and namespace"
        }
        Some(_) => {
            "; check its name and namespace (kubectl get net-attach-def -A) and create it if it is missing"
        }
    }
}

fn by_name(settings: &Settings, setting: &'static str, name: &NetworkName) -> Result<Found, LookupError> {
    let network = nad_of(settings, name);
    if let Some(network) = &network {
        match rendered(settings, network) {
            Err(LookupError::Absent { .. } | LookupError::OfEarlierBoot { .. }) => {}
            other => return other,
        }
    }
    let load = |source| LookupError::Load { network: name.to_string(), source };
    match directory::find(&settings.conf_dir, name).map_err(load)? {
        Some((file, list)) => Ok(Found { network: None, list, file: Some(file), device: None }),
        None => Err(LookupError::Unknown {
            setting,
            name: name.clone(),
            network: network.map(|network| network.to_string()).unwrap_or_default(),
            dir: settings.conf_dir.clone(),
        }),
    }
}

fn load(path: &Path) -> Result<Found, LookupError> {
    let failed = |source| LookupError::Load { network: path.display().to_string(), source };
    let list = directory::load(path).map_err(failed)?;
    Ok(Found { network: None, list, file: Some(path.to_owned()), device: None })
}

/// The first configuration of a directory by file name that can be a primary: those of Braid and Multus, and those
/// that make no interface, are left out.
///
/// A file that cannot be loaded is an error and not passed over: it may be the primary's, half written, and
/// the next one would give pods another network.
fn first_in(dir: &Path) -> Result<Found, LookupError> {
    let mut without_interface = Vec::new();
    for path in configurations(dir)? {
        let name = file_name(&path);
        if name.starts_with(MULTUS_FILES) || name.starts_with(OUR_FILES) {
            continue;
        }
        let found = load(&path)?;
        if meta_plugin(&found.list).is_some() {
            continue;
        }
        match makes_no_interface(&found.list) {
            None => return Ok(found),
            Some(why) => without_interface.push((path, why)),
        }
    }
    Err(LookupError::NoPrimary { dir: dir.to_owned(), of_multus: of_multus(dir), without_interface })
}

/// Which files were passed over, and why.
fn hint_for_passed_over(files: &[(PathBuf, NoInterface)]) -> String {
    let texts = files.iter().map(|(path, why)| format!("{} was passed over: {why}", path.display()));
    let texts = texts.collect::<Vec<_>>().join("; ");
    if texts.is_empty() { texts } else { format!(" ({texts})") }
}

/// What to write for a path that leads nowhere here.
fn hint_for_absent_file(error: &LoadError) -> String {
    match error {
        LoadError::Read { path, source } if source.kind() == std::io::ErrorKind::NotFound => {
            below_host_hint(path)
        }
        _ => String::new(),
    }
}

/// What the runtime takes once our configuration is gone: the next one of its directory. Multus's counts; one that
/// would lead back to us does not, nor one that makes no interface.
///
/// As for the primary, a file that cannot be loaded is an error and not passed over.
pub fn next(settings: &Settings) -> Result<Found, LookupError> {
    let dir = &settings.cni_conf_dir;
    for path in configurations(dir)? {
        if file_name(&path).starts_with(OUR_FILES) {
            continue;
        }
        let found = load(&path)?;
        if !leads_to_us(&found.list) && makes_no_interface(&found.list).is_none() {
            return Ok(found);
        }
    }
    Err(LookupError::NoNext { dir: dir.clone() })
}

fn configurations(dir: &Path) -> Result<Vec<PathBuf>, LookupError> {
    let listing = |source| LookupError::Load { network: dir.display().to_string(), source };
    directory::files(dir, directory::CONFIGURATIONS).map_err(listing)
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The first plugin of a list that calls plugins, as we do: none such is a primary.
fn meta_plugin(list: &NetworkList) -> Option<String> {
    let mut types = list.plugins.iter().map(|plugin| plugin.plugin().as_str());
    types.find(|plugin| is_us(plugin) || multus::is_multus(plugin)).map(str::to_owned)
}

fn is_us(plugin: &str) -> bool {
    let own = std::env::current_exe().ok();
    plugin == OURSELVES || own.and_then(|exe| exe.file_name().map(|own| own == plugin)).unwrap_or_default()
}

/// Whether running a list runs us: directly, or through Multus that took our configuration for the primary's.
pub fn leads_to_us(list: &NetworkList) -> bool {
    list.plugins.iter().any(|plugin| {
        let kind = plugin.plugin().as_str();
        is_us(kind) || multus::is_multus(kind) && multus::delegates_to(plugin, OURSELVES, OUR_FILES, "braid")
    })
}

fn refuse_recursion(list: &NetworkList) -> Result<(), LookupError> {
    match meta_plugin(list) {
        Some(plugin) => Err(LookupError::Recursive { name: list.name.clone(), plugin }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use cni::npwg::Namespace;
    use rustix::io::Errno;
    use serde_json::{Value, json};

    use super::*;

    struct Node {
        temp: tempfile::TempDir,
    }

    impl Node {
        fn new() -> Self {
            let node = Self { temp: tempfile::tempdir().unwrap() };
            for dir in ["net.d", "conf"] {
                std::fs::create_dir(node.path(dir)).unwrap();
            }
            node
        }

        fn path(&self, name: &str) -> PathBuf {
            self.temp.path().join(name)
        }

        fn write(&self, name: &str, network: &str, plugin: &str) {
            let json = json!({"name": network, "plugins": [{"type": plugin}]});
            std::fs::write(self.path(name), json.to_string()).unwrap();
        }

        fn settings(&self, of: Value) -> Settings {
            let mut keys = json!({
                "runDir": self.path("run"), "stateDir": self.path("state"), "confDir": self.path("conf"),
            });
            keys.as_object_mut().unwrap().extend(of.as_object().unwrap().clone());
            if keys.get("clusterNetwork").or(keys.get("delegates")).is_none() {
                keys["multusAutoconfigDir"] = json!(self.path("net.d"));
            }
            Settings::parse(keys.as_object().unwrap()).unwrap()
        }

        fn rendered(&self, outcome: Outcome) {
            let network = NetworkRef {
                namespace: Namespace::parse("kube-system").unwrap(),
                name: ObjectName::parse("main").unwrap(),
            };
            let (origin, generation, resource_name) = ("test".to_owned(), None, None);
            let rendered = RenderedNetwork { network, origin, generation, resource_name, outcome };
            rendered.write(&self.settings(json!({})).directory).unwrap();
        }
    }

    fn file(found: Result<Vec<Found>, LookupError>) -> PathBuf {
        found.unwrap()[0].file.clone().unwrap()
    }

    #[test]
    fn the_first_configuration_that_calls_no_plugins_is_the_primary() {
        let node = Node::new();
        let settings = node.settings(json!({}));
        assert!(matches!(primary(&settings), Err(LookupError::NoPrimary { .. })));
        node.write("net.d/00-braid.conflist", "braid", "meta-cni");
        node.write("net.d/00-multus.conf", "multus-cni-network", "multus");
        node.write("net.d/05-renamed.conflist", "other", "multus-shim");
        node.write("net.d/20-b.conflist", "b", "bridge");
        assert_eq!(file(primary(&settings)), node.path("net.d/20-b.conflist"));
        std::fs::write(node.path("net.d/10-a.conflist"), "{\"name\":").unwrap();
        let error = primary(&settings).unwrap_err();
        assert!(error.may_pass(), "half written: the next one would be another network: {error}");
    }

    #[test]
    fn multus_is_no_primary_under_whatever_name_and_where_it_is_alone_it_is_said_what_to_do() {
        let node = Node::new();
        let settings = node.settings(json!({}));
        // Half written, as Multus leaves it when it reads the primary's file at the wrong moment.
        std::fs::write(node.path("net.d/00-multus.conf"), "").unwrap();
        node.write("net.d/10-renamed.conflist", "other", "multus-cni");
        let error = primary(&settings).unwrap_err().to_string();
        assert!(error.contains("(00-multus.conf, 10-renamed.conflist are Multus's own"), "{error}");
        assert!(error.contains("put the primary's own file back"), "{error}");
        node.write("net.d/20-b.conflist", "b", "bridge");
        assert_eq!(file(primary(&settings)), node.path("net.d/20-b.conflist"));
        let of_multus = of_multus(&node.path("net.d"));
        assert_eq!(of_multus, [node.path("net.d/00-multus.conf"), node.path("net.d/10-renamed.conflist")]);
    }

    #[test]
    fn what_comes_after_us_may_be_multus_but_nothing_that_leads_back_to_us() {
        let node = Node::new();
        let settings = node.settings(json!({"cniConfDir": node.path("net.d")}));
        node.write("net.d/00-braid.conflist", "braid", "meta-cni");
        let error = next(&settings).unwrap_err();
        assert!(matches!(error, LookupError::NoNext { .. }) && error.may_pass(), "{error}");
        node.write("net.d/20-b.conflist", "b", "bridge");
        node.write("net.d/05-again.conflist", "again", "meta-cni");
        assert_eq!(next(&settings).unwrap().file, Some(node.path("net.d/20-b.conflist")));
        let multus = node.path("net.d/00-multus.conf");
        for (keys, leads_back) in [
            (json!({"clusterNetwork": "/host/etc/cni/net.d/00-braid.conflist"}), true),
            (json!({"clusterNetwork": "braid"}), true),
            (json!({"delegates": [{"name": "x", "type": "meta-cni"}]}), true),
            (json!({"delegates": [{"name": "x", "plugins": [{"type": "a"}, {"type": "meta-cni"}]}]}), true),
            (json!({"clusterNetwork": "/host/etc/cni/net.d/20-b.conflist"}), false),
            (json!({"delegates": [{"name": "b", "type": "bridge"}]}), false),
        ] {
            let mut conf = json!({"name": "multus-cni-network", "type": "multus-shim"});
            conf.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
            std::fs::write(&multus, conf.to_string()).unwrap();
            let found = next(&settings).unwrap();
            assert_eq!(found.file.as_ref() != Some(&multus), leads_back, "{keys}");
            assert_eq!(calls_multus(&found.list), !leads_back, "{keys}");
        }
    }

    #[test]
    fn a_file_of_the_directory_that_is_named_is_the_primary_whatever_comes_first() {
        let node = Node::new();
        let settings = node.settings(json!({"multusMasterCNI": "20-b.conflist"}));
        node.write("net.d/10-a.conflist", "a", "bridge");
        let error = primary(&settings).unwrap_err();
        assert!(error.may_pass(), "it may still come: {error}");
        node.write("net.d/20-b.conflist", "b", "bridge");
        assert_eq!(file(primary(&settings)), node.path("net.d/20-b.conflist"));
        assert_eq!(places_of_primary(&settings), [node.path("net.d/20-b.conflist")]);
    }

    #[test]
    fn what_makes_no_interface_is_no_primary() {
        let node = Node::new();
        let settings = node.settings(json!({"cniConfDir": node.path("net.d")}));
        node.write("net.d/200-loopback.conf", "lo", "loopback");
        node.write("net.d/10-portmap.conf", "ports", "portmap");
        let error = primary(&settings).unwrap_err();
        assert!(error.may_pass(), "the primary's agent may still write it: {error}");
        let text = error.to_string();
        for (file, why) in [
            ("200-loopback.conf", "plugin \"loopback\" sets up \"lo\" and makes no eth0"),
            (
                "10-portmap.conf",
                "plugin \"portmap\" needs the interface of a plugin before it, and is the first",
            ),
        ] {
            let passed = format!("{} was passed over: {why}", node.path(&format!("net.d/{file}")).display());
            assert!(text.contains(&passed), "{text}");
        }
        assert!(matches!(next(&settings), Err(LookupError::NoNext { .. })), "nor what comes after us");
        node.write("net.d/20-b.conflist", "b", "bridge");
        assert_eq!(file(primary(&settings)), node.path("net.d/20-b.conflist"));
        assert_eq!(next(&settings).unwrap().file, Some(node.path("net.d/20-b.conflist")));
        for named in [
            json!({"clusterNetwork": node.path("net.d/200-loopback.conf")}),
            json!({"multusMasterCNI": "200-loopback.conf"}),
            json!({"delegates": [{"name": "lo", "type": "loopback"}]}),
        ] {
            let error = primary(&node.settings(named.clone())).unwrap_err();
            assert!(
                matches!(error, LookupError::NoInterface { .. }) && !error.may_pass(),
                "{named}: {error}"
            );
        }
    }

    #[test]
    fn a_path_below_host_that_is_not_there_is_told_to_be_multus_view() {
        let node = Node::new();
        for keys in [
            json!({"multusAutoconfigDir": "/host/etc/nowhere"}),
            json!({"clusterNetwork": "/host/etc/nowhere/a.conf"}),
            json!({"multusAutoconfigDir": "/host/etc/nowhere", "multusMasterCNI": "a.conf"}),
        ] {
            let settings = Settings::parse(keys.as_object().unwrap()).unwrap();
            let error = cni::error::chain_text(&primary(&settings).unwrap_err());
            assert!(error.contains("write \"/etc/nowhere"), "{keys}: {error}");
        }
        let settings = node.settings(json!({"readinessindicatorfile": "/host/run/nowhere"}));
        let error = readiness(&settings).unwrap_err().to_string();
        assert!(error.ends_with("write \"/run/nowhere\""), "{error}");
    }

    #[test]
    fn a_name_means_a_definition_first_and_a_configuration_else() {
        let node = Node::new();
        let settings = node.settings(json!({"clusterNetwork": "main"}));
        assert!(matches!(primary(&settings), Err(LookupError::Unknown { .. })));
        node.write("conf/10.conflist", "main", "bridge");
        assert_eq!(file(primary(&settings)), node.path("conf/10.conflist"));
        node.rendered(Outcome::Refused { reason: "no".to_owned() });
        assert!(matches!(primary(&settings), Err(LookupError::Refused { .. })));
        node.rendered(Outcome::OnNode { name: NetworkName::parse("main").unwrap() });
        assert_eq!(file(primary(&settings)), node.path("conf/10.conflist"));
        let list = NetworkList::from_json(json!({"name": "x", "type": "bridge"}), None).unwrap();
        node.rendered(Outcome::Ready { list });
        assert_eq!(file(primary(&settings)), node.path("run/networks/kube-system/main"));
    }

    #[test]
    fn a_primary_that_would_call_us_again_is_refused_wherever_it_comes_from() {
        let node = Node::new();
        node.write("net.d/loop.conf", "loop", "meta-cni");
        for settings in [
            json!({"clusterNetwork": node.path("net.d/loop.conf")}),
            json!({"delegates": [{"name": "loop", "type": "multus"}]}),
        ] {
            let error = primary(&node.settings(settings.clone())).unwrap_err();
            assert!(matches!(error, LookupError::Recursive { .. }), "{settings}: {error}");
        }
    }

    #[test]
    fn a_node_that_has_run_out_of_inotify_is_told_so_and_tried_again() {
        for (errno, code) in [(Errno::MFILE, 11), (Errno::NOSPC, 11), (Errno::ACCESS, 5)] {
            let error = LookupError::from(std::io::Error::from(errno)).to_cni_error();
            assert_eq!(error.code.0, code, "{error}");
            assert_eq!(error.msg.contains("fs.inotify.max_user_instances"), code == 11, "{error}");
        }
    }

    #[test]
    fn the_readiness_file_is_looked_for_only_where_one_is_set() {
        let node = Node::new();
        readiness(&node.settings(json!({}))).unwrap();
        let settings = node.settings(json!({"readinessindicatorfile": node.path("ready")}));
        assert!(matches!(readiness(&settings), Err(LookupError::NotReady { .. })));
        std::fs::write(node.path("ready"), "").unwrap();
        readiness(&settings).unwrap();
    }
}
