//! A node in a temporary directory: its settings, its node directory, steerable plugins, and calls of the built
//! `meta-cni` as a runtime makes them.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use cni::{CniError, ContainerId, IfName, NetworkList};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::{Map, Value, json};
use store::NodeDirectory;
use store::lock::Lock;
use store::network::{Outcome, RenderedNetwork};
use store::node::NodeFacts;
use store::record::{Record, RecordKey};
use tempfile::TempDir;

/// The executable under test.
pub(crate) const META_CNI: &str = env!("CARGO_BIN_EXE_meta-cni");
/// No condition of a test takes as long as this.
pub(crate) const LONG: Duration = Duration::from_secs(20);
/// How runtimes pass annotations.
pub(crate) const ANNOTATIONS: &str = "io.kubernetes.cri.pod-annotations";
/// What a pod asks for.
pub(crate) const NETWORKS: &str = "k8s.v1.cni.cncf.io/networks";
/// The primary that a pod asks for.
pub(crate) const DEFAULT_NETWORK: &str = "v1.multus-cni.io/default-network";

/// A plugin among the examples. `cargo test` builds examples; with `--test process` it does not, so it is built here
/// when it is missing or older than its source.
fn example(name: &str) -> PathBuf {
    static LOOKED_AT: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let target = Path::new(META_CNI).parent().unwrap();
    let built = target.join("examples").join(name);
    let mut looked_at = LOOKED_AT.lock().unwrap();
    if !looked_at.contains(name) {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("examples/{name}.rs"));
        let changed = |path: &Path| path.metadata().and_then(|meta| meta.modified()).ok();
        if changed(&built) < changed(&source) {
            let mut cargo = Command::new(env!("CARGO"));
            cargo.args(["build", "--quiet", "--package", "meta-cni", "--example", name]);
            if target.ends_with("release") {
                cargo.arg("--release");
            }
            assert!(cargo.status().unwrap().success(), "the plugin {name} cannot be built");
        }
        looked_at.insert(name.to_owned());
    }
    built
}

/// A node.
pub(crate) struct Node {
    temp: TempDir,
    /// What its configuration says besides name, type and version.
    settings: Map<String, Value>,
}

impl Node {
    /// A node whose primary network `cluster` is of one plugin, `primary`; its lists are complete.
    pub(crate) fn new() -> Self {
        Self::below(&std::env::temp_dir())
    }

    /// A node as [`Node::new`] makes it, in a directory of its own below another.
    pub(crate) fn below(dir: &Path) -> Self {
        let mut node = Self { temp: tempfile::tempdir_in(dir).unwrap(), settings: Map::new() };
        for dir in ["bin", "net.d", "named.d"] {
            fs::create_dir(node.path(dir)).unwrap();
        }
        node.make_namespace("netns");
        node.set(json!({
            "clusterNetwork": node.path("net.d/10-cluster.conflist"),
            "confDir": node.path("named.d"),
            "binDir": node.path("bin"),
            "runDir": node.path("run"),
            "stateDir": node.path("state"),
            "cniConfDir": node.path("net.d"),
            "multusCacheDir": node.path("cni/multus"),
            "networkWait": "0s",
            "readinessWait": "0s",
            // A test is no runtime that is known.
            "result": "merged",
            "lockWait": "20s",
            "delegateTimeout": "20s",
        }));
        node.install("primary");
        node.cluster(json!({"plugins": [{"type": "primary"}]}));
        NodeFacts::complete_now("test").write(&node.dir()).unwrap();
        node
    }

    /// A node with networks `default/a`, `default/b` and so on, each of a plugin of its name.
    pub(crate) fn with(networks: &[&str]) -> Self {
        let node = Self::new();
        for name in networks {
            node.install(name);
            node.network(&format!("default/{name}"), json!({"plugins": [{"type": name}]}));
        }
        node
    }

    /// A path below the node's directory.
    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.temp.path().join(below)
    }

    /// Makes a path that leads to a namespace, though to none of a network: plugins here do not enter it.
    pub(crate) fn make_namespace(&self, below: &str) {
        std::os::unix::fs::symlink("/proc/self/ns/uts", self.path(below)).unwrap();
    }

    /// The path of the pods' namespace leads to another one now.
    pub(crate) fn replace_namespace(&self) {
        fs::remove_file(self.path("netns")).unwrap();
        std::os::unix::fs::symlink("/proc/self/ns/ipc", self.path("netns")).unwrap();
    }

    /// Its node directory.
    pub(crate) fn dir(&self) -> NodeDirectory {
        NodeDirectory::new(self.path("run"), self.path("state"))
    }

    /// Changes settings; `null` takes one away.
    pub(crate) fn set(&mut self, settings: Value) {
        let Value::Object(settings) = settings else { panic!("settings are an object") };
        for (key, value) in settings {
            match value {
                Value::Null => drop(self.settings.remove(&key)),
                value => drop(self.settings.insert(key, value)),
            }
        }
    }

    /// The value of a setting.
    pub(crate) fn setting(&self, key: &str) -> Value {
        self.settings[key].clone()
    }

    /// Puts the steerable plugin into the directory of plugins under a name.
    pub(crate) fn install(&self, plugin: &str) {
        self.install_as(plugin, "steerable");
    }

    /// Puts a plugin among the examples into the directory of plugins under a name.
    pub(crate) fn install_as(&self, plugin: &str, of: &str) {
        std::os::unix::fs::symlink(example(of), self.path("bin").join(plugin)).unwrap();
    }

    /// Takes a plugin away.
    pub(crate) fn uninstall(&self, plugin: &str) {
        fs::remove_file(self.path("bin").join(plugin)).unwrap();
    }

    /// Tells a plugin what to do at a verb from now on.
    pub(crate) fn steer(&self, plugin: &str, verb: &str, how: Value) {
        let path = self.path("bin").join(format!("{plugin}.{verb}.json"));
        // A plugin that runs right now reads the old text or the new one.
        fs::write(path.with_extension("new"), how.to_string()).unwrap();
        fs::rename(path.with_extension("new"), path).unwrap();
    }

    /// A plugin fails at a verb from now on, with a code.
    pub(crate) fn fail(&self, plugin: &str, verb: &str, code: u32) {
        self.steer(plugin, verb, json!({"error": {"code": code, "msg": format!("{plugin} cannot {verb}")}}));
    }

    /// A plugin works as usual from now on.
    pub(crate) fn mend(&self, plugin: &str, verb: &str) {
        fs::remove_file(self.path("bin").join(format!("{plugin}.{verb}.json"))).unwrap();
    }

    /// Writes a file below the node's directory.
    pub(crate) fn write(&self, below: &str, json: &Value) {
        fs::write(self.path(below), json.to_string()).unwrap();
    }

    /// Writes the primary's configuration; name and version need not be given.
    pub(crate) fn cluster(&self, list: Value) {
        let list = completed(list, "cluster", "1.0.0");
        fs::write(self.path("net.d/10-cluster.conflist"), list.to_string()).unwrap();
    }

    /// Writes the network `namespace/name`; name and version of its list need not be given.
    pub(crate) fn network(&self, network: &str, list: Value) {
        let name = network.replace('/', "_");
        let list = NetworkList::from_json(completed(list, &name, "1.0.0"), None).unwrap();
        self.outcome(network, Outcome::Ready { list });
    }

    /// Writes what became of a network.
    pub(crate) fn outcome(&self, network: &str, outcome: Outcome) {
        let (network, origin) = (network.parse().unwrap(), "networks.yaml".to_owned());
        let rendered = RenderedNetwork { network, origin, generation: None, resource_name: None, outcome };
        rendered.write(&self.dir()).unwrap();
    }

    /// ADD for a pod without annotations, `default/web`, unless told otherwise.
    pub(crate) fn add(&self, container: &str) -> Run<'_> {
        self.on_container("ADD", container)
    }

    /// DEL for that pod.
    pub(crate) fn del(&self, container: &str) -> Run<'_> {
        self.on_container("DEL", container)
    }

    /// CHECK for that pod.
    pub(crate) fn check(&self, container: &str) -> Run<'_> {
        self.on_container("CHECK", container)
    }

    /// GC with the attachments that the runtime calls valid, as (container, interface).
    pub(crate) fn gc(&self, valid: &[(&str, &str)]) -> Run<'_> {
        let valid: Vec<_> =
            valid.iter().map(|(id, name)| json!({"containerID": id, "ifname": name})).collect();
        self.call("GC").set(json!({"cni.dev/valid-attachments": valid}))
    }

    /// STATUS.
    pub(crate) fn status(&self) -> Run<'_> {
        self.call("STATUS")
    }

    /// VERSION.
    pub(crate) fn version(&self) -> Run<'_> {
        self.call("VERSION")
    }

    fn on_container(&self, verb: &str, container: &str) -> Run<'_> {
        let pod = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;K8S_POD_UID=uid-1";
        self.call(verb)
            .env("CNI_CONTAINERID", container)
            .env("CNI_NETNS", self.path("netns"))
            .env("CNI_IFNAME", "eth0")
            .env("CNI_ARGS", format!("{pod};K8S_POD_INFRA_CONTAINER_ID={container}"))
    }

    fn call(&self, verb: &str) -> Run<'_> {
        let mut config = self.settings.clone();
        for (key, value) in [("cniVersion", "1.1.0"), ("name", "braid"), ("type", "meta-cni")] {
            config.entry(key).or_insert_with(|| value.into());
        }
        let run = Run {
            node: self,
            env: BTreeMap::new(),
            config,
            stdin: None,
            arguments: Vec::new(),
            through: Vec::new(),
        };
        run.env("CNI_COMMAND", verb).env("CNI_PATH", self.path("bin")).capability(ANNOTATIONS, json!({}))
    }

    /// `meta-cni` by hand, without a CNI variable.
    pub(crate) fn by_hand(&self, arguments: &[&str]) -> Run<'_> {
        let mut run = self.call("").arguments(arguments);
        run.env.clear();
        run
    }

    /// `meta-cni gc` by hand, on this node's directories.
    pub(crate) fn gc_by_hand(&self) -> Run<'_> {
        let dirs = [("--run-dir", "run"), ("--state-dir", "state"), ("--bin-dir", "bin")];
        let dirs = dirs.map(|(option, dir)| [option.to_owned(), self.path(dir).display().to_string()]);
        let words: Vec<String> = std::iter::once("gc".to_owned()).chain(dirs.into_iter().flatten()).collect();
        self.by_hand(&words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Every call of a plugin since the last [`Node::forget`], in the order of their beginning.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.events().into_iter().filter(|event| event.at == "begin").collect()
    }

    /// Beginnings and ends of calls.
    pub(crate) fn events(&self) -> Vec<Call> {
        let text = fs::read_to_string(self.path("bin/calls")).unwrap_or_default();
        text.split_inclusive('\n').filter(|line| line.ends_with('\n')).map(Call::read).collect()
    }

    /// Every call as `VERB plugin interface`.
    pub(crate) fn done(&self) -> Vec<String> {
        self.calls().iter().map(Call::text).collect()
    }

    /// Every call as `VERB plugin interface`, and all is forgotten.
    pub(crate) fn take_done(&self) -> Vec<String> {
        let done = self.done();
        self.forget();
        done
    }

    /// Forgets all calls.
    pub(crate) fn forget(&self) {
        let _ = fs::remove_file(self.path("bin/calls"));
    }

    /// Waits until the calls are as wanted.
    pub(crate) fn await_events(&self, what: &str, wanted: impl Fn(&[Call]) -> bool) {
        let look = || Ok::<_, std::io::Error>(wanted(&self.events()).then_some(()));
        let found = store::watch::until(&[self.path("bin/calls")], LONG, look).unwrap();
        assert!(found.is_some(), "waited in vain for {what}: {:?}", self.done());
    }

    /// Waits until a plugin has begun a verb.
    pub(crate) fn await_call(&self, call: &str) {
        self.await_events(call, |events| events.iter().any(|event| event.text() == call));
    }

    /// A container's record.
    pub(crate) fn record(&self, container: &str) -> Option<Record> {
        Record::read(&self.dir(), &key(container)).unwrap()
    }

    /// Changes a container's record as the node role does: under the container's lock.
    pub(crate) fn edit_record(&self, container: &str, edit: impl FnOnce(&mut Record)) {
        let key = key(container);
        let lock = Lock::of_container(&self.dir(), &key.container_id, LONG).unwrap();
        let mut record = self.record(container).unwrap();
        edit(&mut record);
        record.write(&self.dir()).unwrap();
        drop(lock);
    }

    /// A container's failure was longer ago.
    pub(crate) fn age(&self, container: &str, by: Duration) {
        let millis = u64::try_from(by.as_millis()).unwrap();
        self.edit_record(container, |record| {
            let failure = record.failure.as_mut().unwrap();
            failure.last_ms -= millis;
            failure.since_ms -= millis;
        });
    }

    /// Everything that a container may leave: its records, hints at them, its lock, and
    /// notes of plugins that run.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let dir = self.dir();
        let dirs = [dir.records(), dir.unfinished(), dir.container_locks(), dir.running()];
        let names =
            |dir: &PathBuf| fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
        let files = dirs.iter().flat_map(names).filter(|path| !path.ends_with(".looked"));
        files.map(|path| path.strip_prefix(self.temp.path()).unwrap().display().to_string()).collect()
    }

    /// The text of every file of the node, but for what calls of `meta-cni` print, for locks and for
    /// notes of containers of which nothing is left.
    pub(crate) fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        let mut dirs = vec![self.temp.path().to_owned()];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                let below = path.strip_prefix(self.temp.path()).unwrap().to_owned();
                let passed_over = ["run/locks", "run/settled", "run/unfinished/.looked"]
                    .iter()
                    .any(|it| below.starts_with(it));
                let printed = below.to_string_lossy().starts_with("std");
                if passed_over || printed || path.is_symlink() {
                    continue;
                }
                if path.is_dir() {
                    dirs.push(path);
                } else {
                    files.insert(below, fs::read(path).unwrap());
                }
            }
        }
        files
    }
}

/// The key of a container's record.
pub(crate) fn key(container: &str) -> RecordKey {
    RecordKey {
        container_id: ContainerId::parse(container).unwrap(),
        if_name: IfName::parse("eth0").unwrap(),
    }
}

fn completed(mut list: Value, name: &str, version: &str) -> Value {
    let object = list.as_object_mut().unwrap();
    object.entry("name").or_insert_with(|| name.into());
    object.entry("cniVersion").or_insert_with(|| version.into());
    list
}

/// One call of a plugin, or the end of one.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) at: String,
    pub(crate) plugin: String,
    pub(crate) verb: String,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) stdin: Value,
    pub(crate) process: i32,
}

impl Call {
    fn read(line: &str) -> Self {
        let json: Value = serde_json::from_str(line).unwrap();
        let text = |key: &str| json[key].as_str().unwrap().to_owned();
        Self {
            at: text("at"),
            plugin: text("plugin"),
            verb: text("verb"),
            env: serde_json::from_value(json["env"].clone()).unwrap_or_default(),
            stdin: json["stdin"].clone(),
            process: i32::try_from(json["pid"].as_i64().unwrap()).unwrap(),
        }
    }

    /// `VERB plugin interface`, as far as there is an interface.
    pub(crate) fn text(&self) -> String {
        let words = [Some(&self.verb), Some(&self.plugin), self.env.get("CNI_IFNAME")];
        words.into_iter().flatten().map(String::as_str).collect::<Vec<_>>().join(" ")
    }
}

/// A call of `meta-cni` that is being put together.
pub(crate) struct Run<'a> {
    node: &'a Node,
    env: BTreeMap<String, OsString>,
    config: Map<String, Value>,
    stdin: Option<Vec<u8>>,
    arguments: Vec<OsString>,
    through: Vec<OsString>,
}

impl Run<'_> {
    /// Another program starts it: these words stand before it.
    pub(crate) fn through(mut self, words: &[&str]) -> Self {
        self.through = words.iter().map(OsString::from).collect();
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.env.insert(name.to_owned(), value.into());
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.env.remove(name);
        self
    }

    /// Changes the configuration of this call; `null` takes a key away.
    pub(crate) fn set(mut self, config: Value) -> Self {
        for (key, value) in config.as_object().unwrap() {
            if value.is_null() {
                self.config.remove(key);
            } else {
                self.config.insert(key.clone(), value.clone());
            }
        }
        self
    }

    /// What the runtime asks of plugins.
    pub(crate) fn capability(mut self, name: &str, value: Value) -> Self {
        let runtime = self.config.entry("runtimeConfig").or_insert_with(|| json!({}));
        runtime[name] = value;
        self
    }

    /// The runtime passes no annotations.
    pub(crate) fn without_annotations(self) -> Self {
        self.set(json!({"runtimeConfig": null}))
    }

    /// The pod has an annotation.
    pub(crate) fn annotation(mut self, name: &str, value: &str) -> Self {
        self.config["runtimeConfig"][ANNOTATIONS][name] = value.into();
        self
    }

    /// The pod asks for networks.
    pub(crate) fn networks(self, annotation: &str) -> Self {
        self.annotation(NETWORKS, annotation)
    }

    /// The pod asks for networks, in JSON.
    pub(crate) fn selections(self, annotation: &Value) -> Self {
        self.networks(&annotation.to_string())
    }

    /// This on stdin in place of the configuration.
    pub(crate) fn stdin(mut self, text: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(text.into());
        self
    }

    pub(crate) fn arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments = arguments.iter().map(OsString::from).collect();
        self
    }

    pub(crate) fn raw_argument(mut self, argument: OsString) -> Self {
        self.arguments.push(argument);
        self
    }

    /// Starts it.
    pub(crate) fn start(self) -> Running {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let paths = ["stdout", "stderr"].map(|name| self.node.path(&format!("{name}-{number}")));
        let mut words = self.through;
        words.push(META_CNI.into());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args(&self.arguments).env_clear().envs(&self.env).stdin(Stdio::piped());
        command.stdout(File::create(&paths[0]).unwrap()).stderr(File::create(&paths[1]).unwrap());
        let mut child = command.spawn().unwrap();
        let stdin = self.stdin.unwrap_or_else(|| Value::Object(self.config).to_string().into_bytes());
        // It may end before it has read anything.
        let _ = child.stdin.take().unwrap().write_all(&stdin);
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        let exit = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        Running { child, exit, paths, dir: self.node.dir() }
    }

    /// Runs it to its end.
    pub(crate) fn answer(self) -> Answer {
        self.start().answer()
    }

    /// Runs it; it has to succeed and print one JSON value.
    pub(crate) fn result(self) -> Value {
        self.answer().result()
    }

    /// Runs it; it has to succeed and print nothing.
    pub(crate) fn succeed(self) {
        self.answer().succeed();
    }

    /// Runs it; it has to fail and print one error.
    pub(crate) fn error(self) -> CniError {
        self.answer().error()
    }
}

/// A running `meta-cni`.
pub(crate) struct Running {
    child: Child,
    exit: OwnedFd,
    paths: [PathBuf; 2],
    dir: NodeDirectory,
}

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as the kernel does when memory runs out; what it started runs on.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end, and for that of the process that it may have started for unfinished work.
    pub(crate) fn answer(self) -> Answer {
        let dir = self.dir.clone();
        let answer = self.answer_alone();
        // Without a directory that can be written to there is no such process.
        drop(Lock::of_unfinished_work(&dir, LONG));
        answer
    }

    /// Waits for its end alone.
    pub(crate) fn answer_alone(mut self) -> Answer {
        if !self.ends_within(LONG + LONG) {
            self.child.kill().unwrap();
            panic!("meta-cni did not end");
        }
        let status = self.child.wait().unwrap();
        let [stdout, stderr] = self.paths.map(|path| fs::read_to_string(path).unwrap());
        Answer { status, stdout, stderr }
    }

    pub(crate) fn ends_within(&self, wait: Duration) -> bool {
        let wait = Timespec::try_from(wait).unwrap();
        poll(&mut [PollFd::new(&self.exit, PollFlags::IN)], Some(&wait)).unwrap() > 0
    }

    /// Waits until it waits for files.
    pub(crate) fn await_watch(&self) {
        let fds = format!("/proc/{}/fd", self.pid());
        eventually("meta-cni waits for a file", || {
            let links = fs::read_dir(&fds).unwrap().flatten().map(|entry| fs::read_link(entry.path()));
            let watching = links.flatten().any(|link| link.as_os_str() == "anon_inode:inotify");
            let waits = fs::read_to_string(format!("/proc/{}/wchan", self.pid()));
            watching && waits.is_ok_and(|place| place.contains("poll") || place == "0")
        });
    }

    /// Waits until it waits for the end of a process that it did not start.
    pub(crate) fn await_process(&self) {
        let fds = format!("/proc/{}/fd", self.pid());
        eventually("meta-cni waits for a process", || {
            let links = fs::read_dir(&fds).unwrap().flatten().map(|entry| fs::read_link(entry.path()));
            links.flatten().any(|link| link.to_string_lossy().starts_with("anon_inode:[pidfd"))
        });
    }

    /// Waits until it waits for a lock.
    pub(crate) fn await_lock(&self) {
        let pid = format!(" {} ", self.pid());
        eventually("meta-cni waits for a lock", || {
            let locks = fs::read_to_string("/proc/locks").unwrap();
            locks.lines().any(|line| line.contains("->") && line.contains(&pid))
        });
    }
}

/// Waits, within a bound, for something of which the kernel tells nobody.
pub(crate) fn eventually(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < LONG, "waited in vain: {what}");
        std::thread::yield_now();
    }
}

/// What `meta-cni` left when it ended.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Answer {
    /// The one JSON value on stdout.
    fn value(&self) -> Value {
        let values = serde_json::Deserializer::from_str(&self.stdout).into_iter::<Value>();
        let mut values: Vec<Value> = values.map(|value| value.expect("JSON on stdout")).collect();
        assert_eq!(values.len(), 1, "exactly one JSON value on stdout: {self:?}");
        values.remove(0)
    }

    pub(crate) fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| panic!("ended by signal {:?}", self.status.signal()))
    }

    pub(crate) fn result(&self) -> Value {
        assert_eq!(self.code(), 0, "{self:?}");
        self.value()
    }

    pub(crate) fn succeed(&self) {
        assert_eq!((self.code(), self.stdout.as_str()), (0, ""), "{self:?}");
    }

    pub(crate) fn error(&self) -> CniError {
        assert_eq!(self.code(), 1, "{self:?}");
        let value = self.value();
        assert!(value["cniVersion"].is_string(), "{value}");
        serde_json::from_value(value).expect("a CNI error")
    }

    /// The lines of the log.
    pub(crate) fn log(&self) -> Vec<Value> {
        self.stderr.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    }
}
