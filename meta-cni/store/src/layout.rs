//! The tree of the node directory; the only code that spells its paths.
//!
//! ```text
//! /run/braid/                          rebuilt by the node role after each boot
//!   networks/<namespace>/<name>        rendered networks
//!   pods/<namespace>/<name>            facts about this node's pods
//!   node                               facts about the node; when the lists were last complete
//!   locks/container/<container id>     one lock per container
//!   locks/node                         ADD and DEL share it, GC has it alone
//!   locks/unfinished                   who takes up unfinished work
//!   locks/configuration                who writes or removes 00-braid.conflist
//!   locks/line/<attach or detach>      who is next to be attached or detached
//!   locks/place/<attach or detach>/    as many places as pods are attached or detached at once
//!   unfinished/<record>                hints: these records are not at rest
//!   unfinished/.looked                 in which boot all records were last looked through
//!   running/<boot>/<container id>/     notes: these plugins run (`@` for those that work on no container)
//!   settled/<slot>                     notes: nothing is left of these containers
//!   .aside/<name>-<number>             things of the wrong kind that were in the way
//! /var/lib/braid/                      outlives a reboot
//!   attachments/<record>               records: what was and is to be done for one container
//!   .aside/<name>-<number>             as above
//! ```
//!
//! `<record>` is the container id, followed by `@<interface>` where the runtime asked for another interface
//! than `eth0` (podman and nerdctl attach one container to several networks that way). Directories have mode
//! 0700, files 0600.

use std::path::{Path, PathBuf};

use cni::npwg::NetworkRef;
use cni::{ContainerId, IfName};

use crate::boot::boot_id;
use crate::names::{file_name, name_of};
use crate::turn::Line;

/// Where the node directory is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeDirectory {
    run: PathBuf,
    state: PathBuf,
}

impl Default for NodeDirectory {
    fn default() -> Self {
        Self::new(Self::RUN, Self::STATE)
    }
}

impl NodeDirectory {
    /// Where what does not outlive a boot is, unless told otherwise.
    pub const RUN: &str = "/run/braid";
    /// Where what outlives a boot is, unless told otherwise.
    pub const STATE: &str = "/var/lib/braid";

    /// A node directory at two other places.
    pub fn new(run: impl Into<PathBuf>, state: impl Into<PathBuf>) -> Self {
        Self { run: run.into(), state: state.into() }
    }

    /// The directory that each boot begins without.
    pub fn run(&self) -> &Path {
        &self.run
    }

    /// The directory that outlives a boot.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// All rendered networks.
    pub fn networks(&self) -> PathBuf {
        self.run.join("networks")
    }

    /// One rendered network.
    pub fn network(&self, network: &NetworkRef) -> PathBuf {
        self.networks().join(file_name(network.namespace.as_str())).join(file_name(network.name.as_str()))
    }

    /// All pods.
    pub fn pods(&self) -> PathBuf {
        self.run.join("pods")
    }

    /// One pod.
    pub fn pod(&self, namespace: &str, name: &str) -> PathBuf {
        self.pods().join(file_name(namespace)).join(file_name(name))
    }

    /// The node's facts.
    pub fn node(&self) -> PathBuf {
        self.run.join("node")
    }

    /// All locks.
    pub(crate) fn locks(&self) -> PathBuf {
        self.run.join("locks")
    }

    /// All locks of containers.
    pub fn container_locks(&self) -> PathBuf {
        self.locks().join("container")
    }

    /// The lock of one container. Its id is a plain name.
    pub(crate) fn container_lock(&self, id: &ContainerId) -> PathBuf {
        self.container_locks().join(id.as_str())
    }

    /// The lock that ADD and DEL share and GC has alone.
    pub fn node_lock(&self) -> PathBuf {
        self.locks().join("node")
    }

    /// The lock of whoever takes up unfinished work.
    pub fn unfinished_lock(&self) -> PathBuf {
        self.locks().join("unfinished")
    }

    /// The lock of whoever writes or removes the runtime's configuration.
    pub fn configuration_lock(&self) -> PathBuf {
        self.locks().join("configuration")
    }

    /// The locks of the heads of all lines.
    pub(crate) fn lines(&self) -> PathBuf {
        self.locks().join("line")
    }

    /// The lock of the head of a line.
    pub(crate) fn line(&self, line: Line) -> PathBuf {
        self.lines().join(line.as_str())
    }

    /// The places to which all lines lead.
    pub(crate) fn places(&self) -> PathBuf {
        self.locks().join("place")
    }

    /// The place to which a line leads, by its number.
    pub(crate) fn place(&self, line: Line, number: usize) -> PathBuf {
        self.places().join(line.as_str()).join(number.to_string())
    }

    /// All hints at records that are not at rest.
    pub fn unfinished(&self) -> PathBuf {
        self.run.join("unfinished")
    }

    /// The hint at one record.
    pub(crate) fn hint(&self, key: &RecordKey) -> PathBuf {
        self.unfinished().join(key.file_name())
    }

    /// Notes of containers of which nothing is left.
    pub fn settled(&self) -> PathBuf {
        self.run.join("settled")
    }

    /// One slot for such a note.
    pub fn settled_slot(&self, slot: u64) -> PathBuf {
        self.settled().join(slot.to_string())
    }

    /// Says in which boot all records were last looked through; hidden from those who list hints.
    pub(crate) fn unfinished_looked(&self) -> PathBuf {
        self.unfinished().join(".looked")
    }

    /// Notes of plugins that run, of all boots.
    pub(crate) fn running_of_all_boots(&self) -> PathBuf {
        self.run.join("running")
    }

    /// Notes of plugins that run, by container. Their numbers mean something in one boot only.
    pub fn running(&self) -> PathBuf {
        self.running_of_all_boots().join(file_name(&boot_id()))
    }

    /// All records.
    pub fn records(&self) -> PathBuf {
        self.state.join("attachments")
    }

    /// One record.
    pub fn record(&self, key: &RecordKey) -> PathBuf {
        self.records().join(key.file_name())
    }

    /// Where things that are in the way are moved to, in the run or state directory that they were in.
    pub(crate) fn aside(top: &Path) -> PathBuf {
        top.join(".aside")
    }
}

/// What a record is about: a container, and the interface that the runtime asked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordKey {
    /// CNI_CONTAINERID.
    pub container_id: ContainerId,
    /// CNI_IFNAME.
    pub if_name: IfName,
}

impl RecordKey {
    const USUAL: &str = "eth0";

    /// The name of the record's file. Container ids hold no `@`, so it is injective.
    pub fn file_name(&self) -> String {
        match self.if_name.as_str() {
            Self::USUAL => self.container_id.to_string(),
            other => format!("{}@{}", self.container_id, file_name(other)),
        }
    }

    /// The key of a record's file; `None` for a file that is no record.
    pub fn of_file(file: &str) -> Option<Self> {
        let (id, if_name) = match file.split_once('@') {
            Some((id, encoded)) => (id, name_of(encoded).filter(|name| name != Self::USUAL)?),
            None => (file, Self::USUAL.to_owned()),
        };
        Some(Self { container_id: ContainerId::parse(id).ok()?, if_name: IfName::parse(if_name).ok()? })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Component;

    use cni::exec::ProcessExec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn record_files_lead_back_to_their_container_and_interface() {
        for (id, if_name, file) in [("0a1b", "eth0", "0a1b"), ("c.d_e", "Net1", "c.d_e@%4eet1")] {
            let key = RecordKey {
                container_id: ContainerId::parse(id).unwrap(),
                if_name: IfName::parse(if_name).unwrap(),
            };
            assert_eq!(key.file_name(), file);
            assert_eq!(RecordKey::of_file(file), Some(key));
        }
    }

    #[test]
    fn other_files_are_no_records() {
        for file in ["", ".new-1", "a@eth0", "a@", "a@b@c", "a b", "a@%zz"] {
            assert_eq!(RecordKey::of_file(file), None, "{file:?}");
        }
    }

    #[test]
    fn no_other_file_of_this_package_spells_a_path_of_the_node_directory() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut directories = vec![source.clone()];
        let mut files = Vec::new();
        while let Some(directory) = directories.pop() {
            for entry in std::fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { directories.push(path) } else { files.push(path) }
            }
        }
        assert!(files.len() > 10, "{files:?}");
        let names =
            ["networks", "pods", "node", "locks", "line", "place", "unfinished", "settled", "running"];
        for file in files.iter().filter(|file| **file != source.join("layout.rs")) {
            let text = std::fs::read_to_string(file).unwrap();
            let code = text.split("#[cfg(test)]").next().unwrap();
            for name in names.iter().chain(&["attachments", ".aside", ".looked"]) {
                let spelt = [format!("\"{name}\""), format!("\"{name}/")];
                assert!(
                    !spelt.iter().any(|spelt| code.contains(spelt)),
                    "{} spells {name:?}",
                    file.display()
                );
            }
        }
    }

    /// Names as tenants would like to have them.
    fn any_name() -> impl Strategy<Value = String> {
        prop_oneof![
            "[a-z0-9]{1,8}",
            "[./%@a-z2ef\\\\\\x00 -]{0,16}",
            "(\\.\\./){1,6}[a-z]{0,4}",
            "/[a-z/]{0,12}",
            ".{0,20}"
        ]
    }

    /// Whether a path is so many plain steps below a directory, and not hidden there.
    fn is_below(path: &Path, dir: &Path, steps: usize) -> bool {
        let Ok(below) = path.strip_prefix(dir) else { return false };
        let plain = |part: Component<'_>| matches!(part, Component::Normal(name) if !name.as_encoded_bytes().starts_with(b"."));
        // What is read of a path may be less than what is written in it.
        below.as_os_str().len()
            == below.components().map(|part| part.as_os_str().len() + 1).sum::<usize>() - 1
            && below.components().count() == steps
            && below.components().all(plain)
    }

    proptest! {
        #[test]
        fn no_name_of_a_pod_network_container_or_interface_leads_out_of_the_node_directory(
            one in any_name(),
            other in any_name(),
        ) {
            let dir = NodeDirectory::default();
            if !one.is_empty() && !other.is_empty() {
                prop_assert!(is_below(&dir.pod(&one, &other), &dir.pods(), 2), "{}", dir.pod(&one, &other).display());
            }
            if let Ok(network) = NetworkRef::parse(&one, &other) {
                prop_assert!(is_below(&dir.network(&network), &dir.networks(), 2));
            }
            if let Ok(id) = ContainerId::parse(&one) {
                prop_assert!(is_below(&dir.container_lock(&id), &dir.container_locks(), 1), "{id}");
                let exec = ProcessExec { notes: Some(dir.running()), ..ProcessExec::default() };
                prop_assert!(is_below(&exec.notes_of(Some(&id)).unwrap(), &dir.running(), 1), "{id}");
                prop_assert!(is_below(&dir.running(), dir.run(), 2));
            }
            if let (Ok(container_id), Ok(if_name)) = (ContainerId::parse(&one), IfName::parse(&other)) {
                let path = dir.record(&RecordKey { container_id, if_name });
                prop_assert!(is_below(&path, &dir.records(), 1), "{}", path.display());
            }
        }
    }
}
