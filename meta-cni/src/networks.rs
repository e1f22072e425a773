//! Loading networks: from names to configurations. What is not there yet is waited for, within a bound.

use std::path::{Path, PathBuf};

use cni::config::directory::{self, LoadError};
use cni::npwg::{NetworkRef, ObjectName, Selection};
use cni::{CniError, Code, NetworkList, NetworkName};
use store::network::{Outcome, RenderedNetwork};
use store::node::NodeFacts;
use store::settings::{NetworkReference, PrimarySource, Settings};
use store::{StoreError, watch};

use crate::plan::Wanted;

/// Plugins that call plugins, as we do: none of them is a primary.
const META_PLUGINS: &[&str] = &["meta-cni", "multus", "multus-shim"];

/// Why a network cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetworkError {
    #[error("network {network} is not on this node: {path} does not exist{hint}")]
    Absent { network: NetworkRef, path: PathBuf, hint: &'static str },
    #[error("network {network} cannot be used: {reason} (from {origin})")]
    Refused { network: NetworkRef, reason: String, origin: String },
    #[error(
        "network {network} has no configuration of its own, and {dir} holds none with \"name\": \"{name}\""
    )]
    NotOnNode { network: NetworkRef, dir: PathBuf, name: NetworkName },
    #[error("read network {network}")]
    Store { network: NetworkRef, source: StoreError },
    #[error("load network {network}")]
    Load { network: String, source: LoadError },
    #[error(
        "setting {setting} names network {name}: there is no NetworkAttachmentDefinition {network} on this node, and {dir} holds no configuration with that name"
    )]
    Unknown { setting: &'static str, name: NetworkName, network: String, dir: PathBuf },
    #[error(
        "there is no primary network: {dir} holds no CNI configuration besides those of Braid and Multus; install the cluster's network (flannel, calico …) or set \"clusterNetwork\""
    )]
    NoPrimary { dir: PathBuf },
    #[error(
        "the primary network {name} calls plugin {plugin}, which would call it again; set \"clusterNetwork\" to another network"
    )]
    Recursive { name: NetworkName, plugin: String },
    #[error(
        "the primary network is not ready: {path}, which \"readinessindicatorfile\" names, does not exist; its agent on this node makes that file when it is up"
    )]
    NotReady { path: PathBuf },
    #[error("wait for a network")]
    Wait(#[from] std::io::Error),
}

impl NetworkError {
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::Absent { .. }
            | Self::NotOnNode { .. }
            | Self::Unknown { .. }
            | Self::NoPrimary { .. }
            | Self::NotReady { .. } => Code::TRY_AGAIN_LATER,
            Self::Refused { .. } | Self::Recursive { .. } => Code::INVALID_CONFIG,
            Self::Store { source, .. } => source.code(),
            Self::Load { source, .. } => source.code(),
            Self::Wait(_) => Code::IO_FAILURE,
        }
    }

    pub(crate) fn to_cni_error(&self) -> CniError {
        CniError::from_chain(self.code(), self)
    }

    /// Whether waiting may help.
    fn may_pass(&self) -> bool {
        self.code() == Code::TRY_AGAIN_LATER
    }
}

/// Looks until there is something or an error that waiting cannot mend, then gives the last reason.
fn await_it<T>(
    paths: &[PathBuf],
    wait: std::time::Duration,
    mut look: impl FnMut() -> Result<T, NetworkError>,
) -> Result<T, NetworkError> {
    let mut last = None;
    let found = watch::until(paths, wait, || match look() {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.may_pass() => {
            last = Some(error);
            Ok(None)
        }
        Err(error) => Err(error),
    })?;
    match (found, last) {
        (Some(found), _) => Ok(found),
        (None, Some(reason)) => Err(reason),
        (None, None) => Err(NetworkError::Wait(std::io::Error::other("nothing was looked for"))),
    }
}

/// A network that a pod selected, with its configuration.
pub(crate) fn selected(settings: &Settings, selection: Selection) -> Result<Wanted, NetworkError> {
    let network = selection.network.clone();
    let paths = [settings.directory.network(&network), settings.conf_dir.join("any")];
    let list = await_it(&paths, settings.network_wait, || rendered(settings, &network))?;
    Ok(Wanted { network: network.to_string(), network_ref: Some(network), list, selection: Some(selection) })
}

/// A network that a setting names, with its configuration.
pub(crate) fn configured(
    settings: &Settings,
    setting: &'static str,
    reference: &NetworkReference,
) -> Result<Wanted, NetworkError> {
    match reference {
        NetworkReference::Name(name) => {
            let network = nad_of(settings, name);
            let mut paths = vec![settings.conf_dir.join("any")];
            paths.extend(network.iter().map(|network| settings.directory.network(network)));
            await_it(&paths, settings.readiness_wait, || by_name(settings, setting, name, network.as_ref()))
        }
        NetworkReference::Path(path) => {
            let list = await_it(std::slice::from_ref(path), settings.readiness_wait, || by_path(path))?;
            Ok(of_list(list))
        }
    }
}

/// The primary, and the other static delegates that come right after it.
pub(crate) fn primary(settings: &Settings) -> Result<Vec<Wanted>, NetworkError> {
    let all = match &settings.primary {
        PrimarySource::Named(reference) => vec![configured(settings, "clusterNetwork", reference)?],
        PrimarySource::Delegates(delegates) => delegates.iter().cloned().map(of_list).collect(),
        PrimarySource::FirstIn(dir) => {
            let paths = [dir.join("any")];
            vec![of_list(await_it(&paths, settings.readiness_wait, || first_in(dir))?)]
        }
    };
    for wanted in &all {
        refuse_recursion(&wanted.list)?;
    }
    Ok(all)
}

/// Waits for the file that says that the primary is ready.
pub(crate) fn readiness(settings: &Settings, wait: std::time::Duration) -> Result<(), NetworkError> {
    let Some(path) = &settings.readiness_indicator_file else { return Ok(()) };
    await_it(std::slice::from_ref(path), wait, || {
        if path.exists() { Ok(()) } else { Err(NetworkError::NotReady { path: path.clone() }) }
    })
}

fn of_list(list: NetworkList) -> Wanted {
    Wanted { network: list.name.to_string(), network_ref: None, list, selection: None }
}

/// The NetworkAttachmentDefinition that a name in the settings means, if it can be one's name at all.
fn nad_of(settings: &Settings, name: &NetworkName) -> Option<NetworkRef> {
    let name = ObjectName::parse(name.as_str()).ok()?;
    Some(NetworkRef { namespace: settings.multus_namespace.clone(), name })
}

/// What the operator made of a NetworkAttachmentDefinition.
fn rendered(settings: &Settings, network: &NetworkRef) -> Result<NetworkList, NetworkError> {
    let dir = &settings.directory;
    let store = |source| NetworkError::Store { network: network.clone(), source };
    let Some(found) = RenderedNetwork::read(dir, network).map_err(store)? else {
        let hint = if NodeFacts::read(dir).map_err(store)?.is_some() {
            "; check its name and namespace (kubectl get net-attach-def -A) and create it if it is missing"
        } else {
            "; Braid's node role has not yet written this node's networks since it started: see that it runs \
             on this node and reaches the API server"
        };
        return Err(NetworkError::Absent { network: network.clone(), path: dir.network(network), hint });
    };
    match found.outcome {
        Outcome::Ready { list } => Ok(list),
        Outcome::Refused { reason } => {
            Err(NetworkError::Refused { network: network.clone(), reason, origin: found.origin })
        }
        Outcome::OnNode { name } => {
            let load = |source| NetworkError::Load { network: network.to_string(), source };
            directory::find(&settings.conf_dir, &name).map_err(load)?.ok_or_else(|| NetworkError::NotOnNode {
                network: network.clone(),
                dir: settings.conf_dir.clone(),
                name,
            })
        }
    }
}

/// As Multus: a NetworkAttachmentDefinition of that name, else a configuration with that name.
fn by_name(
    settings: &Settings,
    setting: &'static str,
    name: &NetworkName,
    network: Option<&NetworkRef>,
) -> Result<Wanted, NetworkError> {
    if let Some(network) = network {
        match rendered(settings, network) {
            Ok(list) => {
                let network_ref = Some(network.clone());
                return Ok(Wanted { network: network.to_string(), network_ref, list, selection: None });
            }
            Err(NetworkError::Absent { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    let load = |source| NetworkError::Load { network: name.to_string(), source };
    match directory::find(&settings.conf_dir, name).map_err(load)? {
        Some(list) => Ok(of_list(list)),
        None => Err(NetworkError::Unknown {
            setting,
            name: name.clone(),
            network: network.map(ToString::to_string).unwrap_or_default(),
            dir: settings.conf_dir.clone(),
        }),
    }
}

/// A file, or the first configuration of a directory.
fn by_path(path: &Path) -> Result<NetworkList, NetworkError> {
    if path.is_dir() {
        return first_in(path);
    }
    load(path)
}

fn load(path: &Path) -> Result<NetworkList, NetworkError> {
    directory::load(path).map_err(|source| NetworkError::Load { network: path.display().to_string(), source })
}

/// The first configuration of a directory by file name, those of Braid and Multus left out.
///
/// A file that cannot be loaded is an error and not passed over: it may be the primary's, half written, and
/// the next one would give pods another network.
fn first_in(dir: &Path) -> Result<NetworkList, NetworkError> {
    let listing = |source| NetworkError::Load { network: dir.display().to_string(), source };
    for path in directory::files(dir, directory::CONFIGURATIONS).map_err(listing)? {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if name.starts_with("00-multus") || name.starts_with("00-braid") {
            continue;
        }
        let list = load(&path)?;
        if meta_plugin(&list).is_none() {
            return Ok(list);
        }
    }
    Err(NetworkError::NoPrimary { dir: dir.to_owned() })
}

fn meta_plugin(list: &NetworkList) -> Option<String> {
    let own = std::env::current_exe().ok().and_then(|exe| Some(exe.file_name()?.to_str()?.to_owned()));
    let types = list.plugins.iter().map(|plugin| plugin.plugin().as_str());
    types.into_iter().find(|t| META_PLUGINS.contains(t) || own.as_deref() == Some(*t)).map(str::to_owned)
}

fn refuse_recursion(list: &NetworkList) -> Result<(), NetworkError> {
    match meta_plugin(list) {
        Some(plugin) => Err(NetworkError::Recursive { name: list.name.clone(), plugin }),
        None => Ok(()),
    }
}
