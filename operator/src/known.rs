//! What a role knows, in one place: its tasks tell it here, and whoever decides reads it. [`State`] is the node
//! role's; the controller role has its own.
//!
//! It is level-triggered: a reader that is woken looks at the present state and compares; nothing has to be
//! counted or kept in order, and a wake that is missed is made up for by the next.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use cni::npwg::NetworkRef;
use store::record::{Phase, PodIdentity, RecordKey};
use tokio::sync::watch;

/// What is known, and who waits for news.
#[derive(Debug)]
pub struct Known<S = State> {
    state: Mutex<S>,
    news: watch::Sender<()>,
}

impl<S: Default> Default for Known<S> {
    fn default() -> Self {
        Self { state: Mutex::default(), news: watch::Sender::new(()) }
    }
}

impl<S> Known<S> {
    /// The present state; held briefly, never over an await.
    pub fn look(&self) -> MutexGuard<'_, S> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, and wakes those who wait if `change` says that it did.
    pub fn tell(&self, change: impl FnOnce(&mut S) -> bool) {
        if change(&mut self.look()) {
            self.news.send_replace(());
        }
    }

    /// Wakes after each change from now on; several changes may be one wake.
    pub fn news(&self) -> watch::Receiver<()> {
        self.news.subscribe()
    }
}

/// What the node role knows.
#[derive(Debug, Default)]
pub struct State {
    /// The networks of the API server, and what became of them here.
    pub networks: Networks,
    /// The pods of this node.
    pub pods: Pods,
    /// The records that meta-cni has written.
    pub records: Records,
    /// The network behind `eth0`.
    pub primary: Primary,
    /// The plugin's executable and configuration on the host.
    pub installed: Installed,
    /// The boot of the kernel that all this is about; empty if nobody knows.
    pub boot_id: String,
    /// Whether the process has been told to stop.
    pub stopping: bool,
}

/// The networks.
#[derive(Debug, Default)]
pub struct Networks {
    /// Each with what became of it.
    pub all: BTreeMap<NetworkRef, Network>,
    /// When the node directory was last compared in full and took everything.
    pub complete: Option<SystemTime>,
    /// What keeps the lists from being complete, for people.
    pub problem: Option<String>,
}

/// One network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// The generation that was rendered.
    pub generation: Option<i64>,
    /// What became of it.
    pub fate: Fate,
}

/// What became of a network on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// Pods can use it.
    Usable,
    /// Its configuration cannot be used, with the reason.
    Invalid(String),
    /// The object could not be read at all, with the reason.
    Undecodable(String),
}

/// The pods of this node.
#[derive(Debug, Default)]
pub struct Pods {
    /// Each by namespace and name.
    pub all: BTreeMap<(String, String), Pod>,
    /// Whether all of them are known.
    pub complete: bool,
    /// What keeps them from being known, for people.
    pub problem: Option<String>,
}

/// One pod, as far as it matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Its uid.
    pub uid: String,
    /// For the mirror of a static pod: the uid that the kubelet gives to the runtime
    /// (`kubernetes.io/config.mirror`).
    pub mirrors: Option<String>,
    /// Its `network-status` annotation, as a hash ([`text_hash`]); `None` where it has none.
    pub network_status: Option<u64>,
    /// When it was made, in milliseconds since 1970 by the API server's clock.
    pub created_ms: Option<u64>,
}

impl Pod {
    /// Whether a runtime means this pod by `uid`.
    pub fn is(&self, uid: &str) -> bool {
        self.uid == uid || self.mirrors.as_deref() == Some(uid)
    }
}

/// A hash of a text that is only compared within this process.
pub fn text_hash(text: &str) -> u64 {
    use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
    BuildHasherDefault::<DefaultHasher>::default().hash_one(text)
}

/// The records.
#[derive(Debug, Default)]
pub struct Records {
    /// Each as far as it matters.
    pub all: BTreeMap<RecordKey, Record>,
    /// Whether all of them have been read once.
    pub complete: bool,
    /// Records that cannot be read, with the reason.
    pub unreadable: BTreeMap<RecordKey, String>,
}

/// One record, as far as it matters.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// How far it has come.
    pub phase: Phase,
    /// The pod, where the runtime named one.
    pub pod: Option<PodIdentity>,
    /// When ADD began, in milliseconds since 1970.
    pub created_ms: u64,
    /// The attachments, primary first.
    pub attachments: Vec<Attachment>,
    /// The text of the `network-status` annotation that says what the container got: of a pod's container that
    /// is attached.
    pub network_status: Option<String>,
    /// What the last DEL could not undo.
    pub failure: Option<DetachFailure>,
    /// Why the container was given up.
    pub abandoned: Option<String>,
}

/// A DEL that does not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetachFailure {
    /// What the last attempt could not undo, for people.
    pub message: String,
    /// How often it has been tried.
    pub attempts: u32,
    /// When it failed first, in milliseconds since 1970.
    pub since_ms: u64,
}

/// One attachment, as far as it matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// The NetworkAttachmentDefinition, or the configuration's name.
    pub network: String,
    /// Its interface.
    pub interface: String,
    /// The type of its first plugin.
    pub delegate: String,
    /// Its addresses, with prefix lengths.
    pub addresses: Vec<String>,
    /// How long its ADD took, in microseconds.
    pub add_us: Option<u64>,
    /// What one of its plugins said at the last CHECK though the pod has what ADD gave it.
    pub complaint: Option<String>,
}

/// The network behind `eth0`, as meta-cni would find it now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Primary {
    /// Nobody has looked yet.
    #[default]
    Unknown,
    /// There is none that can be used; why, for people.
    Missing(String),
    /// It is there.
    Found {
        /// Its name.
        name: String,
        /// The file of its configuration.
        file: String,
        /// Its plugins, in their order.
        plugins: Vec<String>,
        /// Files beside it that are Multus's own, and so no primary.
        of_multus: Vec<String>,
    },
}

/// What is on the host for the runtime.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Installed {
    /// Whether the plugin's executable is in place and the one that belongs to this version.
    pub executable: bool,
    /// Whether the plugin's configuration is in place and up to date.
    pub configuration: bool,
    /// What keeps either from being in place, for people.
    pub problem: Option<String>,
}
