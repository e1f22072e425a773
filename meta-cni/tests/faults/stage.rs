//! A node whose plugins leave something, its sandboxes, and calls that a fault may meet.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use store::leaving;
use store::record::{AttachmentRecord, Phase, Record};

use crate::fault::{Fault, tell};
use crate::harness::{Answer, Node, Run, Running, eventually};

/// What happened, for whoever reads of a failure.
pub(crate) type History = Rc<RefCell<Vec<String>>>;

/// A sandbox of a pod: one container id, one network namespace.
#[derive(Debug, Clone)]
pub(crate) struct Sandbox {
    pub(crate) id: String,
    /// The networks that its pod asks for.
    pub(crate) networks: Vec<&'static str>,
    /// Whether the runtime hands annotations to plugins; else they are in the pod's file.
    pub(crate) by_annotation: bool,
}

/// The end of a call, as its runtime sees it.
#[derive(Debug)]
pub(crate) enum Outcome {
    Done(Value),
    Refused(String),
    Killed,
}

impl Outcome {
    fn of(answer: &Answer) -> Self {
        let value = serde_json::from_str(&answer.stdout).unwrap_or_default();
        match answer.status.code() {
            None => Self::Killed,
            Some(0) => Self::Done(value),
            Some(status) => {
                Self::Refused(format!("exit status {status}: {}{}", answer.stdout, last(&answer.stderr)))
            }
        }
    }
}

fn last(stderr: &str) -> String {
    stderr.lines().last().map(|line| format!("; on stderr: {line}")).unwrap_or_default()
}

pub(crate) struct Stage {
    pub(crate) node: Node,
    history: History,
}

/// The networks there are besides the primary. Those in `RULED` have a second plugin.
pub(crate) const NETWORKS: [&str; 3] = ["a", "b", "c"];
const RULED: [&str; 2] = ["cluster", "b"];
/// Every plugin.
pub(crate) const PLUGINS: [&str; 5] = ["primary", "a", "b", "c", "rules"];

impl Stage {
    pub(crate) fn new(history: History) -> Self {
        // Thousands of small files that are synced: in memory, where there is such a place.
        let memory = Path::new("/dev/shm");
        let node = Node::below(if memory.is_dir() { memory } else { Path::new("/tmp") });
        node.uninstall("primary");
        for plugin in PLUGINS {
            node.install_as(plugin, "stateful");
        }
        for dir in ["interfaces", "addresses", "rules", "faults", "acted"] {
            fs::create_dir_all(node.path("world").join(dir)).unwrap();
        }
        let stage = Self { node, history };
        stage.node.cluster(stage.list("cluster"));
        stage.publish_networks();
        stage
    }

    fn list(&self, network: &str) -> Value {
        let world = self.node.path("world");
        let own = if network == "cluster" { "primary" } else { network };
        let mut plugins = vec![json!({"type": own, "world": world})];
        if RULED.contains(&network) {
            plugins.push(json!({"type": "rules", "world": world, "rules": true}));
        }
        json!({"cniVersion": "1.1.0", "plugins": plugins})
    }

    /// What the node role does when it starts: it writes what is missing or differs.
    pub(crate) fn publish_networks(&self) {
        for network in NETWORKS {
            self.node.network(&format!("default/{network}"), self.list(network));
        }
        store::node::NodeFacts::complete_now("test").write(&self.node.dir()).unwrap();
    }

    /// Writes the pod's file, as the node role does.
    pub(crate) fn publish_pod(&self, networks: &[&str]) {
        let annotations = [(crate::harness::NETWORKS.to_owned(), networks.join(","))];
        let (namespace, name, uid) = ("default".to_owned(), "web".to_owned(), "uid-1".to_owned());
        let facts = store::pod::PodFacts { namespace, name, uid, annotations: annotations.into() };
        facts.write(&self.node.dir()).unwrap();
    }

    pub(crate) fn say(&self, what: impl Into<String>) {
        self.history.borrow_mut().push(what.into());
    }

    /// Plugins that have not yet done what they were told to do wrong will not do it.
    pub(crate) fn calm(&self) {
        for file in fs::read_dir(self.node.path("world/faults")).unwrap().flatten() {
            let _ = fs::remove_file(file.path());
        }
    }

    /// A new sandbox with its network namespace.
    pub(crate) fn sandbox(&self, id: &str, networks: &[&'static str]) -> Sandbox {
        let sandbox = Sandbox { id: id.to_owned(), networks: networks.to_vec(), by_annotation: true };
        self.node.make_namespace(&format!("netns-{}", sandbox.id));
        fs::create_dir(self.interfaces(&sandbox)).unwrap();
        sandbox
    }

    pub(crate) fn netns(&self, sandbox: &Sandbox) -> PathBuf {
        self.node.path(&format!("netns-{}", sandbox.id))
    }

    fn interfaces(&self, sandbox: &Sandbox) -> PathBuf {
        self.node.path(&format!("world/interfaces/netns-{}", sandbox.id))
    }

    /// The namespace ends, and its interfaces with it.
    pub(crate) fn remove_netns(&self, sandbox: &Sandbox) {
        let _ = fs::remove_file(self.netns(sandbox));
        let _ = fs::remove_dir_all(self.interfaces(sandbox));
    }

    pub(crate) fn add(&self, sandbox: &Sandbox) -> Run<'_> {
        let run = self.node.add(&sandbox.id).env("CNI_NETNS", self.netns(sandbox));
        if sandbox.by_annotation {
            run.networks(&sandbox.networks.join(","))
        } else {
            run.without_annotations()
        }
    }

    pub(crate) fn del(&self, sandbox: &Sandbox) -> Run<'_> {
        self.node.del(&sandbox.id).env("CNI_NETNS", self.netns(sandbox))
    }

    /// From now on Multus has attached the sandbox, and Braid knows nothing of it.
    pub(crate) fn leave_to_multus(&self, sandbox: &Sandbox) {
        use base64::Engine;
        let record = self.node.record(&sandbox.id).unwrap();
        let results = self.node.path("cni/multus/results");
        fs::create_dir_all(&results).unwrap();
        let delegate = |attachment: &AttachmentRecord| {
            let list = serde_json::to_vec(&attachment.list).unwrap();
            let bytes = base64::engine::general_purpose::STANDARD.encode(list);
            json!({"Name": attachment.network, "ifnameRequest": "", "Bytes": bytes})
        };
        let delegates: Vec<Value> = record.attachments.iter().map(delegate).collect();
        self.node.write(&format!("cni/multus/{}", sandbox.id), &delegates.into());
        for it in &record.attachments {
            let name = cni::cache::file_name(&it.list.name, &record.container_id, &it.if_name);
            fs::write(results.join(name), json!({"result": {"cniVersion": "1.1.0"}}).to_string()).unwrap();
        }
        Record::remove(&self.node.dir(), &record.key()).unwrap();
    }

    /// The node role leaves its configuration behind, retired: the primary's comes next.
    pub(crate) fn retire(&self) {
        let ours = json!({"cniVersion": "1.1.0", "name": "braid", "plugins": [{"type": "meta-cni"}]});
        let dir = self.node.path("net.d");
        let text = leaving::retired(ours.to_string().as_bytes(), &dir).unwrap();
        fs::write(dir.join(leaving::FILE), text).unwrap();
    }

    pub(crate) fn gc(&self, valid: &[&Sandbox]) -> Run<'_> {
        let pairs: Vec<_> = valid.iter().map(|sandbox| (sandbox.id.as_str(), "eth0")).collect();
        self.node.gc(&pairs)
    }

    /// Runs a call to its end; whether its fault has happened is told, too.
    pub(crate) fn run(&self, what: &str, run: Run<'_>, fault: &Fault) -> (Outcome, bool) {
        let outcome = Outcome::of(&fault.put_on(&self.node, run).answer());
        let happened = fault.has_happened(&self.node, &outcome);
        self.say(format!("{what}, {fault:?}{}: {outcome:?}", if happened { "" } else { " (not met)" }));
        (outcome, happened)
    }

    /// Runs a call that nothing disturbs and that has to succeed.
    pub(crate) fn done(&self, what: &str, run: Run<'_>) -> Value {
        match self.run(what, run, &Fault::None).0 {
            Outcome::Done(value) => value,
            other => panic!("{what} failed though nothing disturbed it: {other:?}"),
        }
    }

    /// Starts several calls at once and returns their ends.
    pub(crate) fn at_once(&self, calls: Vec<(&str, Run<'_>)>) -> Vec<Outcome> {
        self.ends(calls.into_iter().map(|(what, run)| (what, run.start())).collect())
    }

    /// An ADD during which a GC begins that does not know of it, and their ends. One that began after the ADD had ended
    /// would rightly collect the sandbox.
    pub(crate) fn collect_while_adding(&self, sandbox: &Sandbox, valid: &[&Sandbox]) -> Vec<Outcome> {
        let (points, go) = (self.node.path("world/points"), self.node.path("world/go"));
        tell(&self.node, "primary", "ADD", "held");
        let add = self.add(sandbox).start();
        let gc = self.gc(valid).env("BRAID_POINTS", &points).start();
        eventually("GC has begun", || points.exists() || gc.ends_within(Duration::ZERO));
        fs::write(&go, "").unwrap();
        let ends = self.ends(vec![("ADD", add), ("GC", gc)]);
        for file in [points, go] {
            let _ = fs::remove_file(file);
        }
        ends
    }

    fn ends(&self, running: Vec<(&str, Running)>) -> Vec<Outcome> {
        let end = |(what, running): (&str, Running)| {
            let outcome = Outcome::of(&running.answer());
            self.say(format!("{what}, at once with others: {outcome:?}"));
            outcome
        };
        running.into_iter().map(end).collect()
    }

    /// (network, interface) of everything that a sandbox is to have.
    fn wanted(sandbox: &Sandbox) -> Vec<(String, String)> {
        let primary = ("cluster".to_owned(), "eth0".to_owned());
        let others = sandbox.networks.iter().enumerate();
        let others = others.map(|(index, name)| (format!("default_{name}"), format!("net{}", index + 1)));
        std::iter::once(primary).chain(others).collect()
    }

    /// Everything that plugins have made and not undone: of one container, or of all.
    pub(crate) fn left(&self, of: Option<&Sandbox>) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for (kind, holder) in self.made() {
            let is_of = |sandbox: &Sandbox| {
                holder.starts_with(&format!("{} ", sandbox.id))
                    || holder.contains(&format!("netns-{}/", sandbox.id))
            };
            if of.is_none_or(is_of) {
                found.insert(format!("{kind} of {holder}"));
            }
        }
        found
    }

    /// Kind and holder of everything.
    fn made(&self) -> Vec<(String, String)> {
        let files =
            |dir: PathBuf| fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
        let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
        let mut made = Vec::new();
        for netns in files(self.node.path("world/interfaces")) {
            made.extend(
                files(netns.clone())
                    .map(|path| ("interface".to_owned(), format!("{}/{}", name(&netns), name(&path)))),
            );
        }
        for network in files(self.node.path("world/addresses")) {
            let holder = |path: PathBuf| fs::read_to_string(path).unwrap_or_default();
            made.extend(
                files(network.clone()).map(|path| (format!("address in {}", name(&network)), holder(path))),
            );
        }
        for network in files(self.node.path("world/rules")) {
            made.extend(
                files(network.clone()).map(|path| (format!("rules in {}", name(&network)), name(&path))),
            );
        }
        made
    }

    /// The sandbox has exactly the interfaces that its pod asked for, each with its address and its rules.
    pub(crate) fn is_attached(&self, sandbox: &Sandbox) {
        let mut expected = BTreeSet::new();
        for (network, interface) in Self::wanted(sandbox) {
            let holder = format!("{} {interface}", sandbox.id);
            expected.insert(format!("interface of netns-{}/{interface}", sandbox.id));
            expected.insert(format!("address in {network} of {holder}"));
            if RULED.iter().any(|ruled| network.ends_with(ruled)) {
                expected.insert(format!("rules in {network} of {holder}"));
            }
        }
        assert_eq!(self.left(Some(sandbox)), expected, "{} is to be attached", sandbox.id);
        let record = self.node.record(&sandbox.id).expect("a record");
        assert_eq!((record.phase, record.attachments.len()), (Phase::Attached, 1 + sandbox.networks.len()));
    }

    /// What ADD answered names exactly the interfaces that the pod asked for.
    pub(crate) fn is_told(sandbox: &Sandbox, answer: &Value) {
        let told = answer["interfaces"].as_array().cloned().unwrap_or_default();
        let told: Vec<_> =
            told.iter().map(|interface| interface["name"].as_str().unwrap().to_owned()).collect();
        let wanted: Vec<_> = Self::wanted(sandbox).into_iter().map(|(_, interface)| interface).collect();
        assert_eq!(told, wanted, "{answer}");
    }

    /// Nothing that plugins made for it is there.
    pub(crate) fn is_undone(&self, sandbox: &Sandbox) {
        assert_eq!(self.left(Some(sandbox)), BTreeSet::new(), "{} is to be undone", sandbox.id);
    }

    /// The clock jumps by so many milliseconds: every time that was noted is so much further away.
    pub(crate) fn jump(&self, millis: i64) {
        let by = Duration::from_millis(millis.unsigned_abs());
        let shifted = |time: SystemTime| if millis < 0 { time + by } else { time - by };
        let mut dirs = vec![self.node.path("run"), self.node.path("state")];
        while let Some(dir) = dirs.pop() {
            for path in fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()) {
                if path.is_dir() {
                    dirs.push(path);
                    continue;
                }
                let Ok(modified) = path.metadata().and_then(|meta| meta.modified()) else { continue };
                if path.parent() == Some(&self.node.dir().records()) {
                    shift_record(&path, millis);
                }
                let file = fs::File::options().append(true).open(&path);
                file.and_then(|file| file.set_modified(shifted(modified))).unwrap();
            }
        }
    }

    /// Everything that was to be done is done, and nothing is left of it.
    ///
    /// *Guarantees*: only what runtimes do is done here, time passes, and other calls come.
    pub(crate) fn settle(&self) {
        for _ in 0..5 {
            if store::record::unfinished(&self.node.dir()).unwrap().is_empty() {
                break;
            }
            self.jump(600_000);
            self.done("STATUS", self.node.status());
        }
        let left = store::record::unfinished(&self.node.dir()).unwrap();
        assert!(left.is_empty(), "unfinished work stays: {left:?}");
    }

    /// Nothing is left of anybody. Where it could not be removed, the file of a lock that nobody holds may be there
    /// until the next boot, and so may a note: neither is in anybody's way.
    pub(crate) fn is_empty(&self, removals_failed: bool) {
        assert_eq!(self.left(None), BTreeSet::new(), "nothing is to be left");
        // Of killed writers; swept after the next boot.
        let is_temporary = |path: &String| path.contains("/.new-");
        let is_harmless = |path: &String| {
            removals_failed && ["run/locks/", "run/running/"].iter().any(|dir| path.starts_with(dir))
        };
        let left = self.node.leftovers().into_iter().filter(|path| !is_temporary(path) && !is_harmless(path));
        let left: Vec<_> = left.collect();
        assert!(left.is_empty(), "nothing is to be left in the node directory: {left:?}");
        assert!(Record::list(&self.node.dir()).unwrap().is_empty());
        let files = |dir: &str| fs::read_dir(self.node.path(dir)).into_iter().flatten().flatten();
        let of_multus = ["cni/multus", "cni/multus/results"].into_iter().flat_map(files);
        let of_multus: Vec<_> = of_multus.map(|entry| entry.path()).filter(|path| path.is_file()).collect();
        assert!(of_multus.is_empty(), "nothing of Multus's is to be left: {of_multus:?}");
        assert!(!self.node.path("net.d").join(leaving::FILE).exists(), "the retired configuration is left");
    }
}

/// A record's times, so much earlier. One that cannot be read stays as it is.
fn shift_record(path: &Path, millis: i64) {
    let Ok(Value::Object(mut record)) = serde_json::from_slice(&fs::read(path).unwrap_or_default()) else {
        return;
    };
    let shift = |value: &mut Value| {
        if let Some(time) = value.as_u64() {
            *value = time.saturating_add_signed(-millis).into();
        }
    };
    if let Some(time) = record.get_mut("created_ms") {
        shift(time);
    }
    if let Some(failure) = record.get_mut("failure") {
        for key in ["since_ms", "last_ms"] {
            if let Some(time) = failure.get_mut(key) {
                shift(time);
            }
        }
    }
    fs::write(path, Value::Object(record).to_string()).unwrap();
}
