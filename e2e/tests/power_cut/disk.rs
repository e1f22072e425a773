//! A disk that loses what was not synced.
//!
//! It holds a few directories of a test and remembers every change of them. After a power cut it has all that was
//! brought to the disk in time, and any part of the rest: a change of a name may be there without an earlier one, a
//! file may be there without its bytes, with some of them, or with zeros. That is weaker than any one file system is
//! said to be; it is what POSIX leaves open. Only one thing is whole: a rename within a directory has happened or not.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::trace::Call;

type Id = usize;

#[derive(Debug, Clone)]
enum Node {
    Directory(BTreeMap<OsString, Id>),
    File { data: Vec<u8>, mode: u32 },
}

/// Something that happened to the disk.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    Enter { dir: Id, name: OsString, child: Id },
    Leave { dir: Id, name: OsString },
    Move { from: (Id, OsString), to: (Id, OsString), child: Id },
    Fill { file: Id, at: usize, data: Vec<u8> },
    Empty { file: Id },
    Mode { file: Id, mode: u32 },
    Sync { node: Id, whole: bool },
}

/// What becomes of a change that was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fate {
    /// It is on the disk.
    Kept,
    /// It is not.
    Lost,
    /// So many of its bytes are.
    Torn(usize),
    /// The file is as long as it should be, and holds zeros there.
    Zeroed,
}

/// What a power cut leaves: files by path, `None` for a directory.
pub(crate) type Tree = BTreeMap<PathBuf, Option<(u32, Vec<u8>)>>;

/// The disk.
#[derive(Debug)]
pub(crate) struct Disk {
    base: PathBuf,
    /// What every power cut finds.
    first: Vec<Node>,
    /// What programs see.
    now: Vec<Node>,
    roots: BTreeMap<PathBuf, Id>,
    positions: BTreeMap<Id, usize>,
    /// All changes, in order, each with words for people.
    pub(crate) changes: Vec<(Change, String)>,
}

impl Disk {
    /// The directories `roots` below `base`, as they are now.
    pub(crate) fn new(base: &Path, roots: &[&str]) -> Result<Self> {
        let (first, now) = (Vec::new(), Vec::new());
        let (positions, changes) = (BTreeMap::new(), Vec::new());
        let mut disk = Self { base: base.to_owned(), first, now, roots: BTreeMap::new(), positions, changes };
        for root in roots {
            let id = disk.load(&base.join(root))?;
            disk.roots.insert(PathBuf::from(root), id);
        }
        disk.first.clone_from(&disk.now);
        Ok(disk)
    }

    fn load(&mut self, path: &Path) -> Result<Id> {
        let meta = fs::metadata(path).with_context(|| format!("looking at {}", path.display()))?;
        let node = if meta.is_dir() {
            let mut names = BTreeMap::new();
            for entry in fs::read_dir(path)? {
                let entry = entry?;
                names.insert(entry.file_name(), self.load(&entry.path())?);
            }
            Node::Directory(names)
        } else {
            Node::File { data: fs::read(path)?, mode: meta.permissions().mode() & 0o7777 }
        };
        self.now.push(node);
        Ok(self.now.len() - 1)
    }

    fn find(&self, path: &Path) -> Option<Id> {
        let below = path.strip_prefix(&self.base).ok()?;
        let (root, mut id) = self.roots.iter().find(|(root, _)| below.starts_with(root))?;
        for name in below.strip_prefix(root).ok()? {
            match &self.now[*id] {
                Node::Directory(names) => id = names.get(name)?,
                Node::File { .. } => return None,
            }
        }
        Some(*id)
    }

    fn place(&self, path: &Path) -> Result<Option<(Id, OsString)>> {
        if !self.holds(path) {
            return Ok(None);
        }
        let found = path.parent().zip(path.file_name());
        let (parent, name) = found.with_context(|| format!("{} is a root", path.display()))?;
        let dir =
            self.find(parent).with_context(|| format!("{} was not seen to be made", parent.display()))?;
        Ok(Some((dir, name.to_owned())))
    }

    fn holds(&self, path: &Path) -> bool {
        let below = path.strip_prefix(&self.base);
        below.is_ok_and(|below| self.roots.keys().any(|root| below.starts_with(root) && below != root))
    }

    /// Takes what a program did, if it did it here.
    pub(crate) fn take(&mut self, call: Call) -> Result<()> {
        match call {
            Call::Open { path, create, truncate, append, mode } => {
                let Some((dir, name)) = self.place(&path)? else { return Ok(()) };
                let file = match self.find(&path) {
                    Some(file) => file,
                    None if create => {
                        let child = self.make(Node::File { data: Vec::new(), mode: mode & !0o022 });
                        self.note(Change::Enter { dir, name, child }, &path);
                        child
                    }
                    None => bail!("{} was not seen to be made", path.display()),
                };
                if truncate && self.length(file)? > 0 {
                    self.note(Change::Empty { file }, &path);
                }
                let at = if append { self.length(file)? } else { 0 };
                self.positions.insert(file, at);
            }
            Call::Write { path, data } => {
                if self.holds(&path) {
                    let file = self.find(&path).context("a write to a file that was not opened")?;
                    let at = *self.positions.get(&file).context("a write to a file that was not opened")?;
                    self.positions.insert(file, at + data.len());
                    self.note(Change::Fill { file, at, data }, &path);
                }
            }
            Call::Rename { from, to } => self.rename(&from, &to)?,
            Call::Unlink { path } | Call::RemoveDirectory { path } => {
                if let Some((dir, name)) = self.place(&path)? {
                    self.note(Change::Leave { dir, name }, &path);
                }
            }
            Call::MakeDirectory { path } => {
                if let Some((dir, name)) = self.place(&path)? {
                    let child = self.make(Node::Directory(BTreeMap::new()));
                    self.note(Change::Enter { dir, name, child }, &path);
                }
            }
            Call::Mode { path, mode } => {
                if let Some(file) = self.find(&path) {
                    self.note(Change::Mode { file, mode }, &path);
                }
            }
            Call::Sync { path, whole } => {
                if let Some(node) = self.find(&path) {
                    self.note(Change::Sync { node, whole }, &path);
                }
            }
            Call::Unknown { text, paths } => {
                let known = paths.iter().any(|path| path.is_relative() || self.holds(path));
                ensure!(!known, "the test does not know what this does: {text}");
            }
        }
        Ok(())
    }

    fn rename(&mut self, from: &Path, to: &Path) -> Result<()> {
        match (self.place(from)?, self.place(to)?) {
            (None, None) => Ok(()),
            (Some(old), Some(new)) => {
                let child = self.find(from).context("a rename of what is not there")?;
                self.note(Change::Move { from: old, to: new, child }, to);
                Ok(())
            }
            _ => bail!("a rename from {} to {}", from.display(), to.display()),
        }
    }

    fn make(&mut self, node: Node) -> Id {
        self.first.push(node.clone());
        self.now.push(node);
        self.now.len() - 1
    }

    fn length(&self, file: Id) -> Result<usize> {
        match &self.now[file] {
            Node::File { data, .. } => Ok(data.len()),
            Node::Directory(_) => bail!("a directory is opened for writing"),
        }
    }

    fn note(&mut self, change: Change, path: &Path) {
        apply(&mut self.now, &change, Fate::Kept);
        let what = match &change {
            Change::Enter { .. } => "make",
            Change::Leave { .. } => "remove",
            Change::Move { .. } => "rename to",
            Change::Fill { .. } => "write",
            Change::Empty { .. } => "empty",
            Change::Mode { .. } => "chmod",
            Change::Sync { .. } => "sync",
        };
        let below = path.strip_prefix(&self.base).unwrap_or(path).display();
        self.changes.push((change, format!("{what} {below}")));
    }

    /// The changes before `at` that may be lost when the power is cut there.
    pub(crate) fn unsynced(&self, at: usize) -> Vec<usize> {
        let (mut names, mut bytes, mut modes) = (Vec::new(), Vec::new(), Vec::new());
        let mut found = Vec::new();
        for (index, (change, _)) in self.changes[..at].iter().enumerate().rev() {
            let synced = match change {
                Change::Sync { node, whole } => {
                    names.push(*node);
                    bytes.push(*node);
                    modes.extend(whole.then_some(*node));
                    true
                }
                Change::Enter { dir, .. } | Change::Leave { dir, .. } => names.contains(dir),
                Change::Move { from, to, .. } => names.contains(&from.0) && names.contains(&to.0),
                Change::Fill { file, .. } | Change::Empty { file } => bytes.contains(file),
                Change::Mode { file, .. } => modes.contains(file),
            };
            if !synced {
                found.push(index);
            }
        }
        found.reverse();
        found
    }

    /// What there is after a power cut before change `at`: what was synced, and of the rest what `fates` say.
    pub(crate) fn after(&self, at: usize, fates: &BTreeMap<usize, Fate>) -> Tree {
        let mut nodes = self.first.clone();
        for (index, (change, _)) in self.changes[..at].iter().enumerate() {
            apply(&mut nodes, change, fates.get(&index).copied().unwrap_or(Fate::Kept));
        }
        let mut tree = Tree::new();
        for (root, id) in &self.roots {
            walk(&nodes, *id, root.clone(), &mut tree);
        }
        tree
    }

    /// How many bytes a change writes, if it does.
    pub(crate) fn bytes(&self, index: usize) -> Option<usize> {
        match &self.changes[index].0 {
            Change::Fill { data, .. } => Some(data.len()),
            _ => None,
        }
    }
}

fn walk(nodes: &[Node], id: Id, path: PathBuf, tree: &mut Tree) {
    match &nodes[id] {
        Node::File { data, mode } => drop(tree.insert(path, Some((*mode, data.clone())))),
        Node::Directory(names) => {
            for (name, child) in names {
                walk(nodes, *child, path.join(name), tree);
            }
            tree.insert(path, None);
        }
    }
}

fn apply(nodes: &mut [Node], change: &Change, fate: Fate) {
    if fate == Fate::Lost {
        return;
    }
    let mut names = |dir: Id, act: &mut dyn FnMut(&mut BTreeMap<OsString, Id>)| {
        if let Node::Directory(names) = &mut nodes[dir] {
            act(names);
        }
    };
    match change {
        Change::Enter { dir, name, child } => {
            names(*dir, &mut |names| _ = names.insert(name.clone(), *child));
        }
        Change::Leave { dir, name } => names(*dir, &mut |names| _ = names.remove(name)),
        Change::Move { from, to, child } => {
            names(from.0, &mut |names| {
                if names.get(&from.1) == Some(child) {
                    names.remove(&from.1);
                }
            });
            names(to.0, &mut |names| _ = names.insert(to.1.clone(), *child));
        }
        Change::Sync { .. } => {}
        Change::Fill { file, at, data: new } => {
            if let Node::File { data, .. } = &mut nodes[*file] {
                let length = if let Fate::Torn(length) = fate { length } else { new.len() };
                if data.len() < at + length {
                    data.resize(at + length, 0);
                }
                if fate != Fate::Zeroed {
                    data[*at..at + length].copy_from_slice(&new[..length]);
                }
            }
        }
        Change::Empty { file } => {
            if let Node::File { data, .. } = &mut nodes[*file] {
                data.clear();
            }
        }
        Change::Mode { file, mode: new } => {
            if let Node::File { mode, .. } = &mut nodes[*file] {
                *mode = *new;
            }
        }
    }
}

/// Puts what a power cut left below another directory.
pub(crate) fn put(tree: &Tree, base: &Path, edit: &dyn Fn(&[u8]) -> Vec<u8>) -> Result<()> {
    for (path, file) in tree {
        let path = base.join(path);
        let what = || format!("making {}", path.display());
        match file {
            None => fs::create_dir_all(&path).with_context(what)?,
            Some((mode, data)) => {
                fs::create_dir_all(path.parent().context("a file without directory")?).with_context(what)?;
                fs::write(&path, edit(data)).with_context(what)?;
                fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).with_context(what)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk with a directory `d`, on which a file is replaced as it is usual.
    fn replaced(with: &[&str]) -> Disk {
        let base = tempfile::tempdir().unwrap();
        fs::create_dir(base.path().join("d")).unwrap();
        fs::write(base.path().join("d/f"), "old").unwrap();
        let at = |name: &str| base.path().join(name);
        let mut disk = Disk::new(base.path(), &["d"]).unwrap();
        let open = Call::Open { path: at("d/n"), create: true, truncate: false, append: false, mode: 0o600 };
        let calls = [
            ("open", open),
            ("write", Call::Write { path: at("d/n"), data: b"newer".to_vec() }),
            ("sync", Call::Sync { path: at("d/n"), whole: false }),
            ("rename", Call::Rename { from: at("d/n"), to: at("d/f") }),
            ("sync names", Call::Sync { path: at("d"), whole: false }),
        ];
        for (what, call) in calls {
            if with.contains(&what) {
                disk.take(call).unwrap();
            }
        }
        disk
    }

    fn text(tree: &Tree) -> String {
        let file = tree.get(Path::new("d/f")).and_then(Option::as_ref);
        file.map_or("none".to_owned(), |(_, data)| String::from_utf8_lossy(data).into_owned())
    }

    #[test]
    fn what_was_synced_is_there_and_what_was_not_may_be_lost_torn_or_zero() {
        let all = ["open", "write", "sync", "rename", "sync names"];
        let safe = replaced(&all);
        assert!(safe.unsynced(5).is_empty());
        assert_eq!(text(&safe.after(5, &BTreeMap::new())), "newer");
        assert_eq!(safe.unsynced(4), [0, 3], "names");
        let lost = BTreeMap::from([(0, Fate::Lost), (3, Fate::Lost)]);
        assert_eq!(text(&safe.after(4, &lost)), "old");
        assert_eq!(text(&safe.after(4, &BTreeMap::from([(0, Fate::Lost)]))), "newer");
        let hasty = replaced(&["open", "write", "rename", "sync names"]);
        assert_eq!(hasty.unsynced(4), [1], "bytes");
        for (fate, left) in [(Fate::Lost, ""), (Fate::Torn(2), "ne"), (Fate::Zeroed, "\0\0\0\0\0")] {
            assert_eq!(text(&hasty.after(4, &BTreeMap::from([(1, fate)]))), left);
        }
    }

    #[test]
    fn a_call_that_is_not_known_is_an_error_where_it_matters() {
        let mut disk = replaced(&[]);
        let unknown = |path: &Path| Call::Unknown { text: "splice".to_owned(), paths: vec![path.to_owned()] };
        disk.take(unknown(Path::new("/elsewhere"))).unwrap();
        let here = disk.base.join("d/f");
        assert!(disk.take(unknown(&here)).is_err());
    }
}
