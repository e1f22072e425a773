//! Networks among each other: whose data directory is whose, and which give addresses on one wire.
//!
//! **Data directories.** host-local keeps the account of a network in the directory `dataDir/name`. One name
//! and one `dataDir` is one account, and that is how networks share addresses: whoever names two networks alike
//! means it. The name of a network whose author wrote none cannot be taken
//! ([`render`](crate::node::render) refuses that). And host-local looks through a directory with all that
//! lies in it, so a data directory within another is an error of the inner one: it came into what was there.
//!
//! **Wires.** Networks of different accounts on one bridge, or one parent interface, know nothing of each
//! other's addresses. Where their ranges overlap, an address may be given twice.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use cni::npwg::NetworkRef;
use cni::reference::DEFAULT_BRIDGE;
use cni::{NetworkList, PluginConfig};
use store::network::{Outcome, RenderedNetwork};

use super::Judgement;
use super::host_local::{HOST_LOCAL, Range, directory, ranges};
use super::plugins::ipam_of;
use super::reading::{flag, number, text};

/// So many other networks are named in one warning.
const NAMED: usize = 3;

/// Networks, as far as they matter to others.
#[derive(Debug, Default)]
pub struct Neighbours {
    all: BTreeMap<NetworkRef, Vec<Account>>,
    by_directory: BTreeMap<PathBuf, BTreeSet<NetworkRef>>,
    by_wire: BTreeMap<String, BTreeSet<NetworkRef>>,
}

/// One use of host-local.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Account {
    directory: PathBuf,
    /// The wire on which its addresses are, for people and for comparison.
    wire: Option<String>,
    ranges: Vec<Range>,
}

impl Neighbours {
    /// Adds a network, or takes its new form; one that cannot be used is known all the same.
    pub fn insert(&mut self, network: &RenderedNetwork) {
        let name = &network.network;
        self.remove(name);
        let accounts = match &network.outcome {
            Outcome::Ready { list } => accounts(list),
            _ => Vec::new(),
        };
        for account in &accounts {
            self.by_directory.entry(account.directory.clone()).or_default().insert(name.clone());
            if let Some(wire) = &account.wire {
                self.by_wire.entry(wire.clone()).or_default().insert(name.clone());
            }
        }
        self.all.insert(name.clone(), accounts);
    }

    /// Forgets a network.
    pub fn remove(&mut self, network: &NetworkRef) {
        for account in self.all.remove(network).unwrap_or_default() {
            forget(&mut self.by_directory, &account.directory, network);
            if let Some(wire) = &account.wire {
                forget(&mut self.by_wire, wire, network);
            }
        }
    }

    /// Forgets every network of which this is not so.
    pub fn retain(&mut self, keep: impl Fn(&NetworkRef) -> bool) {
        let gone: Vec<_> = self.all.keys().filter(|network| !keep(network)).cloned().collect();
        for network in &gone {
            self.remove(network);
        }
    }

    /// Whether there is such a network.
    pub fn contains(&self, network: &NetworkRef) -> bool {
        self.all.contains_key(network)
    }

    /// Compares a network with all others.
    pub(super) fn compare(&self, network: &NetworkRef, list: &NetworkList, judgement: &mut Judgement) {
        for account in accounts(list) {
            self.around(network, &account, judgement);
            self.same_directory(network, &account, judgement);
            self.same_wire(network, &account, judgement);
        }
    }

    /// Data directories within one another.
    fn around(&self, network: &NetworkRef, account: &Account, judgement: &mut Judgement) {
        let own = &account.directory;
        for outer in own.ancestors().skip(1) {
            if let Some(other) = self.another_in(outer, network) {
                judgement.errors.push(format!(
                    "the host-local data directory {} lies within that of network {other} ({}), which would find \
                     and release this network's addresses; choose another \"dataDir\"",
                    own.display(),
                    outer.display()
                ));
            }
        }
        let below = self.by_directory.range(own.clone()..).take_while(|(dir, _)| dir.starts_with(own));
        let inner: BTreeSet<_> = below
            .filter(|(dir, _)| *dir != own)
            .flat_map(|(_, names)| names)
            .filter(|name| *name != network)
            .collect();
        if !inner.is_empty() {
            judgement.warnings.push(format!(
                "the data directory of {} lies within this network's own ({}); its \"dataDir\" should be another",
                names(&inner),
                own.display()
            ));
        }
    }

    fn another_in(&self, directory: &Path, network: &NetworkRef) -> Option<&NetworkRef> {
        self.by_directory.get(directory)?.iter().find(|name| *name != network)
    }

    /// One account for several networks.
    fn same_directory(&self, network: &NetworkRef, account: &Account, judgement: &mut Judgement) {
        let sharing = self.accounts_in(self.by_directory.get(&account.directory), network);
        let sharing: Vec<_> = sharing
            .filter(|(name, other)| {
                name.namespace != network.namespace && other.directory == account.directory
            })
            .collect();
        let directory = account.directory.display();
        let other_ranges: BTreeSet<_> = sharing
            .iter()
            .filter(|(_, other)| other.ranges != account.ranges)
            .map(|(name, _)| *name)
            .collect();
        if !other_ranges.is_empty() {
            judgement.warnings.push(format!(
                "shares its \"name\", so also the account of addresses ({directory}), with {}, whose ranges are \
                 others; if that is not meant, choose another name",
                names(&other_ranges)
            ));
        }
    }

    /// Addresses that are given twice.
    fn same_wire(&self, network: &NetworkRef, account: &Account, judgement: &mut Judgement) {
        let Some(wire) = &account.wire else { return };
        let twice: BTreeSet<_> = self
            .accounts_in(self.by_wire.get(wire), network)
            .filter(|(_, other)| {
                other.wire == account.wire
                    && other.directory != account.directory
                    && other.ranges.iter().any(|range| account.ranges.iter().any(|own| own.overlaps(range)))
            })
            .map(|(name, _)| name)
            .collect();
        if !twice.is_empty() {
            judgement.warnings.push(format!(
                "its host-local ranges overlap with those of {} on {wire}, and each network keeps an account of \
                 its own: an address may be given twice; use ranges apart, or one \"name\" to share addresses",
                names(&twice)
            ));
        }
    }

    fn accounts_in<'a>(
        &'a self,
        networks: Option<&'a BTreeSet<NetworkRef>>,
        except: &'a NetworkRef,
    ) -> impl Iterator<Item = (&'a NetworkRef, &'a Account)> {
        let others = networks.into_iter().flatten().filter(move |name| *name != except);
        others.flat_map(|name| self.all.get(name).into_iter().flatten().map(move |account| (name, account)))
    }
}

fn forget<K, Q>(index: &mut BTreeMap<K, BTreeSet<NetworkRef>>, key: &Q, network: &NetworkRef)
where
    K: std::borrow::Borrow<Q> + Ord,
    Q: ?Sized + Ord,
{
    if let Some(names) = index.get_mut(key) {
        names.remove(network);
        if names.is_empty() {
            index.remove(key);
        }
    }
}

/// The first few names, and how many more.
fn names(networks: &BTreeSet<&NetworkRef>) -> String {
    let first: Vec<_> = networks.iter().take(NAMED).map(ToString::to_string).collect();
    match networks.len().saturating_sub(NAMED) {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

fn accounts(list: &NetworkList) -> Vec<Account> {
    let account = |plugin: &PluginConfig| {
        let (ipam, _) = ipam_of(plugin).filter(|(_, kind)| *kind == HOST_LOCAL)?;
        Some(Account { directory: directory(ipam, list), wire: wire(plugin), ranges: ranges(ipam) })
    };
    list.plugins.iter().filter_map(account).collect()
}

/// Where the addresses of a plugin meet those of others; `None` where that cannot be said.
fn wire(plugin: &PluginConfig) -> Option<String> {
    let object = plugin.object();
    let kind = plugin.plugin().as_str();
    // A parent interface within the pod is another one for each pod.
    if kind != "bridge" && flag(object, "linkInContainer").unwrap_or(true) {
        return None;
    }
    let parent = || match text(object, "master").ok()? {
        "" => Some("the interface of the default route".to_owned()),
        master => Some(format!("interface {master:?}")),
    };
    match kind {
        "bridge" => {
            let bridge =
                text(object, "bridge").ok().filter(|name| !name.is_empty()).unwrap_or(DEFAULT_BRIDGE);
            match number(object, "vlan").ok()?.unwrap_or(0) {
                0 => Some(format!("bridge {bridge:?}")),
                vlan => Some(format!("bridge {bridge:?}, VLAN {vlan}")),
            }
        }
        "macvlan" => parent(),
        "ipvlan" if matches!(text(object, "mode").ok()?, "" | "l2") => parent(),
        "ipvlan" => Some(format!("{} (ipvlan, routed)", parent()?)),
        "vlan" => Some(format!("{}, VLAN {}", parent()?, number(object, "vlanId").ok()?.unwrap_or(0))),
        _ => None,
    }
}
