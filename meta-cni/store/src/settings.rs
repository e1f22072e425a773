//! The settings of `meta-cni`: its part of the CNI configuration that the runtime hands it.
//!
//! The operator writes them into `00-braid.conflist`, the plugin reads them from stdin, `braid check` from a
//! file; all through [`Settings::parse`]. Names are those of Multus where the meaning is the same, in any case;
//! docs/configuration.md sets each beside it. A value that cannot be read, or that contradicts another, is an
//! error which names the setting; a setting that is not known is passed over, as CNI asks, and told in
//! [`Settings::passed_over`], unless it may be meant for one that protects.

mod below_host;
mod misspelt;
mod reader;

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use cni::keys::same;
use cni::npwg::{Isolation, Namespace};
use cni::spelling::nearest;
use cni::{NetworkList, NetworkName};
use serde_json::{Map, Value};

pub use below_host::BelowHost;
pub(crate) use below_host::hint as below_host_hint;
use reader::{LOG_OPTIONS, Reader};
pub use reader::{SettingsError, given, take_out};

/// Whether a value is as good as none: `null`, an empty text.
pub fn is_absent(value: &Value) -> bool {
    reader::is_absent(value)
}

use crate::NodeDirectory;

/// Everything that can be set.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// `clusterNetwork`, `delegates`, or `multusAutoconfigDir` with `multusMasterCNI`: where the primary comes
    /// from.
    pub primary: PrimarySource,
    /// `defaultNetworks`: networks that every pod outside the system namespaces gets.
    pub default_networks: Vec<NetworkReference>,
    /// `systemNamespaces`: their pods get no default networks.
    pub system_namespaces: BTreeSet<Namespace>,
    /// `multusNamespace`: the namespace of networks that are named without one in settings, and in a pod's
    /// default-network annotation.
    pub multus_namespace: Namespace,
    /// `namespaceIsolation` and `globalNamespaces`.
    pub isolation: Isolation,
    /// `readinessindicatorfile`: ADD waits until it is there.
    pub readiness_indicator_file: Option<PathBuf>,
    /// `confDir`: where configurations that are named, and networks without a configuration, are looked for.
    pub conf_dir: PathBuf,
    /// `binDir`: where plugins are looked for before CNI_PATH.
    pub bin_dir: PathBuf,
    /// `attachmentConcurrency`: how many secondary attachments run side by side.
    pub attachment_concurrency: NonZeroUsize,
    /// `podsAtOnce`: how many pods are attached at once on the node, and how many detached.
    pub pods_at_once: PodsAtOnce,
    /// `maxAttachments`: how many networks a pod may ask for.
    pub max_attachments: NonZeroUsize,
    /// `turnWait`: how long ADD waits for its turn among them.
    pub turn_wait: Duration,
    /// `networkWait`: how long a network or pod file that is not there yet is waited for.
    pub network_wait: Duration,
    /// `readinessWait`: how long the readiness file and the primary's configuration are waited for.
    pub readiness_wait: Duration,
    /// `lockWait`: how long another call for the same container is waited for.
    pub lock_wait: Duration,
    /// `delegateTimeout`: how long one call of one delegate may take.
    pub delegate_timeout: Duration,
    /// `missingPluginGrace`: how long DEL fails for a plugin that is gone before the pod is let go.
    pub missing_plugin_grace: Duration,
    /// `check`: what makes CHECK fail.
    pub check: CheckScope,
    /// `statusNeedsNetworks`: STATUS fails until the node's networks are complete.
    pub status_needs_networks: bool,
    /// `result`: what the runtime gets.
    pub result: ResultForm,
    /// `logLevel`, `logFile`, `logToStderr`, `logOptions`.
    pub log: LogSettings,
    /// `runDir` and `stateDir`.
    pub directory: NodeDirectory,
    /// `retired`: Braid is being taken away from this node, and only what it attached is still its business.
    pub retired: bool,
    /// `cniConfDir`: where the runtime looks for configurations, ours among them.
    pub cni_conf_dir: PathBuf,
    /// `multusCacheDir`: where Multus wrote down what it attached.
    pub multus_cache_dir: PathBuf,
    /// Settings that mean nothing to this version, each with a reason where one is known.
    pub passed_over: Vec<PassedOver>,
    /// Paths that are written as Multus sees the node, and lead nowhere here.
    pub below_host: Vec<BelowHost>,
}

/// What makes CHECK fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckScope {
    /// The primary's plugins, and what the pod has lost of its other networks.
    Present,
    /// The plugins of every network as well.
    All,
}

/// Where the primary comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum PrimarySource {
    /// `clusterNetwork`.
    Named(NetworkReference),
    /// `delegates`: the first is the primary, the others come right after it. Never empty.
    Delegates(Vec<NetworkList>),
    /// The first configuration of this directory that is not ours or Multus's.
    FirstIn(PathBuf),
    /// `multusMasterCNI`: this file of the directory.
    FileIn {
        /// `multusAutoconfigDir`.
        dir: PathBuf,
        /// The file's name.
        file: String,
    },
}

/// A network that a setting names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetworkReference {
    /// A NetworkAttachmentDefinition of the `multusNamespace`, or a configuration of `confDir`.
    Name(NetworkName),
    /// A file, or a directory whose first configuration is meant.
    Path(PathBuf),
}

impl std::fmt::Display for NetworkReference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Path(path) => path.display().fmt(f),
        }
    }
}

/// How many pods are attached at once on a node, and how many detached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PodsAtOnce {
    /// Nothing is said: as many as suit the node's processors.
    ByProcessors,
    /// So many.
    Most(NonZeroUsize),
    /// `0`: all that come.
    All,
}

impl PodsAtOnce {
    /// The bound on a node of so many processors; `None` where there is none.
    pub fn on(self, processors: usize) -> Option<NonZeroUsize> {
        match self {
            Self::ByProcessors => {
                NonZeroUsize::new(processors.saturating_mul(Self::PER_PROCESSOR).max(Self::FEWEST))
            }
            Self::Most(most) => Some(most),
            Self::All => None,
        }
    }

    /// docs/benchmarks.md has the figures that led to these two.
    const PER_PROCESSOR: usize = 4;
    const FEWEST: usize = 8;
}

/// What the runtime gets as the result of ADD.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResultForm {
    /// `"auto"`: what the runtime that calls can do with.
    Auto,
    /// `"merged"`: all interfaces and addresses, the primary's first.
    Merged,
    /// `"primary"`: the primary's alone, as Multus does.
    Primary,
}

/// A level of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Nothing.
    Off,
    /// What failed.
    Error,
    /// What will be tried again, or is odd.
    Warn,
    /// What was changed.
    Info,
    /// What was decided.
    Debug,
}

/// Where the log goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// The least level that is told.
    pub level: LogLevel,
    /// To stderr.
    pub to_stderr: bool,
    /// To this file too.
    pub file: Option<PathBuf>,
    /// The size at which the file is put aside, in bytes.
    pub max_bytes: u64,
    /// How many files that were put aside are kept.
    pub max_backups: u32,
}

/// A setting that means nothing to this version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassedOver {
    /// Its name.
    pub setting: String,
    /// Why, for those of Multus.
    pub reason: Option<&'static str>,
    /// The setting that is nearest, if one is near.
    pub meant: Option<&'static str>,
}

impl std::fmt::Display for PassedOver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(reason) = self.reason {
            return write!(f, "setting {:?} has no effect: {reason}", self.setting);
        }
        write!(f, "setting {:?} is not known to this version of Braid", self.setting)?;
        self.meant.map_or(Ok(()), |meant| write!(f, "; did you mean {meant:?}?"))
    }
}

/// Keys of a configuration that are CNI's, not settings.
pub const OF_CNI: &[&str] = &[
    "args",
    "capabilities",
    "cniVersion",
    "cniVersions",
    "disableCheck",
    "disableGC",
    "dns",
    "ipam",
    "loadOnlyInlinedPlugins",
    "name",
    "prevResult",
    "runtimeConfig",
    "type",
];

/// Settings of Multus that have nothing to set here.
const OF_MULTUS: &[(&str, &str)] = &[
    ("auxiliaryCNIChainName", "put the chain's plugins into the primary's subdirectory"),
    ("cniDir", "records are kept under stateDir; what Multus left is looked for in multusCacheDir"),
    ("daemonSocketDir", "there is no daemon to talk to"),
    ("kubeconfig", "nothing is asked of the API server here"),
    ("retryDeleteOnError", "what could not be undone always stays recorded"),
];

impl Settings {
    /// Where runtimes look for configurations, unless told otherwise.
    pub const CNI_CONF_DIR: &str = "/etc/cni/net.d";

    /// How many networks a pod may ask for, unless told otherwise: as many as a virtual machine has slots for devices,
    /// and more than the pods of network functions have.
    pub const MAX_ATTACHMENTS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(31);

    /// Reads the settings from a plugin's configuration.
    pub fn parse(config: &Map<String, Value>) -> Result<Self, SettingsError> {
        let mut reader = Reader::new(config);
        let settings = Self {
            primary: primary(&mut reader)?,
            default_networks: reader.references("defaultNetworks")?,
            system_namespaces: reader.namespaces("systemNamespaces", &["kube-system"])?,
            multus_namespace: reader.namespace("multusNamespace", "kube-system")?,
            isolation: Isolation {
                enabled: reader.flag("namespaceIsolation", false)?,
                global_namespaces: reader.namespaces("globalNamespaces", &["default"])?,
            },
            readiness_indicator_file: reader.path("readinessindicatorfile")?,
            conf_dir: reader.path_or("confDir", "/etc/cni/multus/net.d")?,
            bin_dir: reader.path_or("binDir", "/opt/cni/bin")?,
            attachment_concurrency: reader.count("attachmentConcurrency")?,
            pods_at_once: reader.pods_at_once("podsAtOnce")?,
            max_attachments: reader.max_attachments("maxAttachments", Self::MAX_ATTACHMENTS)?,
            turn_wait: reader.duration("turnWait", Duration::from_secs(120))?,
            network_wait: reader.duration("networkWait", Duration::from_secs(5))?,
            readiness_wait: reader.duration("readinessWait", Duration::from_secs(10))?,
            lock_wait: reader.duration("lockWait", Duration::from_secs(60))?,
            delegate_timeout: reader.duration("delegateTimeout", Duration::from_secs(120))?,
            missing_plugin_grace: reader.duration("missingPluginGrace", Duration::from_secs(60))?,
            check: reader.choice(
                "check",
                &[("present", CheckScope::Present), ("all", CheckScope::All)],
                CheckScope::Present,
            )?,
            status_needs_networks: reader.flag("statusNeedsNetworks", false)?,
            result: reader.choice(
                "result",
                &[
                    ("auto", ResultForm::Auto),
                    ("merged", ResultForm::Merged),
                    ("primary", ResultForm::Primary),
                ],
                ResultForm::Auto,
            )?,
            log: log(&mut reader)?,
            directory: NodeDirectory::new(
                reader.path_or("runDir", NodeDirectory::RUN)?,
                reader.path_or("stateDir", NodeDirectory::STATE)?,
            ),
            retired: reader.flag("retired", false)?,
            cni_conf_dir: reader.path_or("cniConfDir", Self::CNI_CONF_DIR)?,
            multus_cache_dir: reader.path_or("multusCacheDir", "/var/lib/cni/multus")?,
            passed_over: Vec::new(),
            below_host: reader.take_below_host(),
        };
        if settings.delegate_timeout.is_zero() {
            return Err(SettingsError::new("delegateTimeout", "is zero; no delegate could ever run"));
        }
        Ok(Self { passed_over: passed_over(&reader)?, ..settings })
    }
}

fn primary(reader: &mut Reader<'_>) -> Result<PrimarySource, SettingsError> {
    let named = reader.reference("clusterNetwork")?;
    let delegates = reader.delegates("delegates")?;
    let directory = reader.path("multusAutoconfigDir")?;
    let file = reader.file_name("multusMasterCNI")?;
    let ways = [
        ("clusterNetwork", named.is_some()),
        ("delegates", delegates.is_some()),
        ("multusAutoconfigDir", directory.is_some()),
        ("multusMasterCNI", file.is_some()),
    ];
    let mut given = ways.into_iter().filter(|(_, given)| *given).map(|(setting, _)| setting);
    // The last two go together: a directory and a file of it.
    if let (Some(first @ ("clusterNetwork" | "delegates")), Some(second)) = (given.next(), given.next()) {
        let problem = format!("contradicts {first:?}: both say what the primary is; leave one of them out");
        return Err(SettingsError::new(second, problem));
    }
    let dir = directory.unwrap_or_else(|| Settings::CNI_CONF_DIR.into());
    Ok(match (named, delegates, file) {
        (Some(named), ..) => PrimarySource::Named(named),
        (None, Some(delegates), _) => PrimarySource::Delegates(delegates),
        (None, None, Some(file)) => PrimarySource::FileIn { dir, file: file.to_owned() },
        (None, None, None) => PrimarySource::FirstIn(dir),
    })
}

fn log(reader: &mut Reader<'_>) -> Result<LogSettings, SettingsError> {
    // "panic" and "verbose" are Multus's words.
    let levels = [
        ("panic", LogLevel::Off),
        ("off", LogLevel::Off),
        ("error", LogLevel::Error),
        ("warn", LogLevel::Warn),
        ("warning", LogLevel::Warn),
        ("verbose", LogLevel::Info),
        ("info", LogLevel::Info),
        ("debug", LogLevel::Debug),
    ];
    let level = reader.choice("logLevel", &levels, LogLevel::Warn)?;
    let to_stderr = reader.flag("logToStderr", true)?;
    let file = reader.path("logFile")?;
    let (mebibytes, max_backups) = reader.log_options("logOptions")?;
    Ok(LogSettings { level, to_stderr, file, max_bytes: u64::from(mebibytes) << 20, max_backups })
}

fn passed_over(reader: &Reader<'_>) -> Result<Vec<PassedOver>, SettingsError> {
    let mut all = Vec::new();
    for (key, value) in reader.unread().filter(|(key, _)| !is_of_cni(key)) {
        let reason = OF_MULTUS.iter().find(|(name, _)| same(name, key)).map(|(_, reason)| *reason);
        if reason.is_none() && !is_absent(value) {
            misspelt::refuse_protecting(key)?;
        }
        all.push(PassedOver { setting: key.to_owned(), reason, meant: nearest(key, reader.known()) });
    }
    let options = reader.unread_log_options("logOptions");
    all.extend(options.map(|key| PassedOver {
        setting: format!("logOptions.{key}"),
        reason: None,
        meant: nearest(key, LOG_OPTIONS),
    }));
    Ok(all)
}

/// Whether a key of the plugin's configuration is CNI's and no setting.
pub fn is_of_cni(key: &str) -> bool {
    OF_CNI.iter().any(|name| same(name, key)) || key.starts_with("cni.dev/")
}

#[cfg(test)]
mod tests;
