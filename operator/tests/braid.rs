//! The executable itself: exit codes, what it prints, following a directory, and being killed.

// Helpers of tests fail as tests do.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use cni::npwg::NetworkRef;
use rustix::process::{Pid, Signal, kill_process};
use store::network::{Outcome, RenderedNetwork};
use store::node::NodeFacts;
use store::{NodeDirectory, StoreError, watch};

const LONG: Duration = Duration::from_secs(30);

/// A directory of manifests and a node directory of its own.
struct Place {
    temp: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { temp: tempfile::tempdir().unwrap() };
        std::fs::create_dir(place.manifests()).unwrap();
        place
    }

    fn manifests(&self) -> PathBuf {
        self.temp.path().join("manifests")
    }

    fn node(&self) -> NodeDirectory {
        NodeDirectory::new(self.temp.path().join("run"), self.temp.path().join("state"))
    }

    fn write(&self, file: &str, text: &str) {
        std::fs::write(self.manifests().join(file), text).unwrap();
    }

    fn braid(&self, more: &[&str]) -> Command {
        let mut command = braid();
        command
            .arg("node")
            .env("BRAID_RUN_DIR", self.node().run())
            .env("BRAID_STATE_DIR", self.node().state());
        command.arg("--manifests").arg(self.manifests()).args(more);
        command
    }

    fn once(&self) -> Output {
        self.braid(&["--once"]).output().unwrap()
    }

    fn follow(&self) -> Following<'_> {
        let mut child = self.braid(&["--log-level", "debug"]).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, log) = mpsc::channel();
        std::thread::spawn(move || stderr.lines().try_for_each(|line| sender.send(line.unwrap())));
        Following { child, log, told: Vec::new(), place: self }
    }

    fn network(&self, name: &str) -> Result<Option<RenderedNetwork>, StoreError> {
        RenderedNetwork::read(&self.node(), &NetworkRef::parse("default", name).unwrap())
    }
}

/// `braid node`, killed at the end if it is still there.
struct Following<'a> {
    child: Child,
    log: Receiver<String>,
    /// The lines of the log that were taken so far.
    told: Vec<serde_json::Value>,
    place: &'a Place,
}

impl Following<'_> {
    /// Waits until the network's file is as `good` says.
    fn until(&self, what: &str, name: &str, good: impl Fn(Option<&RenderedNetwork>) -> bool) {
        let path = self.place.node().network(&NetworkRef::parse("default", name).unwrap());
        // A file that goes is seen by the node's facts, which are written after it.
        let found = watch::until(&[path, self.place.node().node()], LONG, || -> Result<_, io::Error> {
            let network = self.place.network(name).map_err(io::Error::other)?;
            Ok(good(network.as_ref()).then_some(()))
        });
        assert!(found.unwrap().is_some(), "{what}");
    }

    /// Reads on in the log until a line says this. What a round changed is told after it, and a process that
    /// is stopped in between does not tell.
    fn tells(&mut self, message: &str) {
        while self.next_message().unwrap_or_else(|| panic!("{message}: not told in {:?}", self.told))
            != message
        {}
    }

    /// The message of the next line of the log; `None` after its end or a long silence.
    fn next_message(&mut self) -> Option<String> {
        let line = self.log.recv_timeout(LONG).ok()?;
        let line: serde_json::Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"));
        let message = line["message"].as_str().unwrap().to_owned();
        self.told.push(line);
        Some(message)
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Ends it by a signal; how it ended, how long that took, and what it has logged.
    fn end(mut self, signal: Signal) -> (ExitStatus, Duration, Vec<serde_json::Value>) {
        let start = Instant::now();
        self.signal(signal);
        while self.next_message().is_some() {}
        let status = self.child.wait().unwrap();
        (status, start.elapsed(), std::mem::take(&mut self.told))
    }
}

impl Drop for Following<'_> {
    fn drop(&mut self) {
        // Only if the test has failed is it still there.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn braid() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_braid"));
    command.env_clear();
    command
}

fn nad(name: &str, config: &str) -> String {
    format!(
        "apiVersion: k8s.cni.cncf.io/v1\nkind: NetworkAttachmentDefinition\nmetadata: {{name: {name}}}\nspec:\n  \
         config: '{config}'\n---\n"
    )
}

fn of_type(name: &str, plugin: &str) -> String {
    nad(name, &format!(r#"{{"cniVersion":"1.0.0","type":"{plugin}"}}"#))
}

fn plugin_of(network: Option<&RenderedNetwork>) -> Option<&str> {
    match &network?.outcome {
        Outcome::Ready { list } => Some(list.plugins.first()?.plugin().as_str()),
        _ => None,
    }
}

fn texts(output: &Output) -> (String, String) {
    (String::from_utf8_lossy(&output.stdout).into(), String::from_utf8_lossy(&output.stderr).into())
}

#[test]
fn once_writes_the_node_directory_and_says_what_it_did() {
    let place = Place::new();
    place.write("a.yaml", &(of_type("a", "bridge") + &of_type("b", "ptp")));
    let output = place.once();
    let (out, err) = texts(&output);
    assert_eq!(out, "2 networks: 2 written, 0 unchanged; 0 removed, 0 wrong\n");
    assert_eq!((err.as_str(), output.status.code()), ("", Some(0)));
    assert_eq!(plugin_of(place.network("a").unwrap().as_ref()), Some("bridge"));
    assert!(NodeFacts::read(&place.node()).unwrap().is_some());
    place.write("a.yaml", &of_type("b", "ptp"));
    let (out, _) = texts(&place.once());
    assert_eq!(out, "1 network: 0 written, 1 unchanged; 1 removed, 0 wrong\n");
}

#[test]
fn once_tells_of_each_wrong_manifest_and_goes_on() {
    let place = Place::new();
    place.write("a.yaml", &(nad("bad", "{}") + &of_type("good", "bridge")));
    place.write("b.yaml", "kind: [\n");
    place.write("c.yaml", "kind: Service\n");
    let output = place.once();
    let (out, err) = texts(&output);
    assert_eq!(output.status.code(), Some(1));
    let lines: Vec<_> = err.lines().collect();
    let dir = place.manifests();
    let expected =
        format!("{}/a.yaml: default/bad: spec.config: the configuration has neither", dir.display());
    assert!(lines.len() == 2 && lines[0].starts_with(&expected), "{err}");
    assert!(lines[1].starts_with(&format!("{}/b.yaml: is not YAML: ", dir.display())), "{err}");
    assert_eq!(
        out,
        "2 networks: 2 written, 0 unchanged; 0 removed, 2 wrong; 1 object of other kinds passed over; the list is \
         not complete\n"
    );
    assert!(place.network("good").unwrap().is_some());
    // A node that has just booted can be used with what is there.
    assert!(NodeFacts::read(&place.node()).unwrap().is_some_and(|facts| facts.partial));
    std::fs::remove_file(place.manifests().join("b.yaml")).unwrap();
    place.once();
    assert!(
        NodeFacts::read(&place.node()).unwrap().is_some_and(|facts| !facts.partial),
        "wrong, but all is seen"
    );
}

#[test]
fn once_that_cannot_do_its_work_says_why_and_changes_nothing() {
    let place = Place::new();
    place.write("a.yaml", &of_type("a", "bridge"));
    place.once();
    std::fs::rename(place.manifests(), place.temp.path().join("away")).unwrap();
    let output = place.once();
    let (out, err) = texts(&output);
    assert_eq!((out.as_str(), output.status.code()), ("", Some(2)));
    assert!(err.starts_with("braid: read the manifests in ") && err.contains("No such file"), "{err}");
    assert!(place.network("a").unwrap().is_some(), "nothing is pruned");
    // A node directory that is a file cannot be written.
    std::fs::rename(place.temp.path().join("away"), place.manifests()).unwrap();
    let blocked = place.temp.path().join("file");
    std::fs::write(&blocked, "").unwrap();
    let output = place.braid(&["--once"]).env("BRAID_RUN_DIR", &blocked).output().unwrap();
    let (out, err) = texts(&output);
    assert_eq!(output.status.code(), Some(2));
    assert!(err.contains("braid: write ") && out.contains("failed"), "{out}{err}");
}

#[test]
fn following_brings_each_change_to_the_node_and_ends_in_peace() {
    let place = Place::new();
    place.write("a.yaml", &of_type("a", "bridge"));
    let mut following = place.follow();
    following.until("the first sync", "a", |network| plugin_of(network) == Some("bridge"));
    place.write("a.yaml", &of_type("a", "macvlan"));
    following.until("a change", "a", |network| plugin_of(network) == Some("macvlan"));
    place.write("b.yaml", &of_type("b", "ptp"));
    following.until("a new file", "b", |network| plugin_of(network) == Some("ptp"));
    std::fs::write(place.temp.path().join("new"), nad("b", "{}")).unwrap();
    std::fs::rename(place.temp.path().join("new"), place.manifests().join("b.yaml")).unwrap();
    following.until("a file replaced by a wrong one", "b", |network| {
        matches!(network.map(|network| &network.outcome), Some(Outcome::Refused { .. }))
    });
    place.write("b.yaml", &of_type("c", "ptp"));
    following.until("a renamed network", "c", |network| network.is_some());
    following.until("its old name", "b", |network| network.is_none());
    following.tells("a manifest is wrong");
    following.tells("no longer wrong");
    let (status, took, log) = following.end(Signal::TERM);
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(2), "{took:?}");
    let message = |line: &serde_json::Value| line["message"].as_str().map(str::to_owned);
    let messages: Vec<_> = log.iter().filter_map(message).collect();
    assert_eq!(messages.last().unwrap(), "told to stop; the files stay in place");
    assert_eq!(plugin_of(place.network("a").unwrap().as_ref()), Some("macvlan"), "the files stay");
}

#[test]
fn following_waits_for_a_directory_that_is_not_there_yet() {
    let place = Place::new();
    std::fs::remove_dir(place.manifests()).unwrap();
    let following = place.follow();
    // Wherever the process is in its start, the directory is seen.
    std::fs::create_dir(place.manifests()).unwrap();
    place.write("a.yaml", &of_type("a", "bridge"));
    following.until("a directory that came later", "a", |network| network.is_some());
    std::fs::remove_dir_all(place.manifests()).unwrap();
    std::fs::create_dir(place.manifests()).unwrap();
    place.write("b.yaml", &of_type("b", "bridge"));
    following.until("a directory that came again", "b", |network| network.is_some());
    assert_eq!(following.end(Signal::INT).0.code(), Some(0));
}

#[test]
fn a_directory_that_is_taken_away_takes_no_network_away() {
    let place = Place::new();
    place.write("a.yaml", &of_type("a", "bridge"));
    let mut following = place.follow();
    following.until("the first sync", "a", |network| network.is_some());
    std::fs::rename(place.manifests(), place.temp.path().join("away")).unwrap();
    following.tells("the manifests cannot be read; the node keeps the networks that it has");
    assert!(place.network("a").unwrap().is_some());
    assert_eq!(following.end(Signal::TERM).0.code(), Some(0));
}

#[test]
fn killed_anywhere_it_leaves_whole_files_and_the_next_run_completes_them() {
    let manifests: String = (0..60).map(|number| of_type(&format!("n{number}"), "bridge")).collect();
    for millis in [3, 6, 10, 15, 25, 50, 100] {
        let place = Place::new();
        place.write("a.yaml", &manifests);
        let mut child = place.braid(&["--once"]).stdout(Stdio::null()).spawn().unwrap();
        // What is tried is being killed at some moment or other; none is too early or too late.
        std::thread::sleep(Duration::from_millis(millis));
        child.kill().unwrap();
        child.wait().unwrap();
        for network in RenderedNetwork::list(&place.node()).unwrap() {
            assert!(RenderedNetwork::read(&place.node(), &network).unwrap().is_some(), "{network}");
        }
        assert_eq!(place.once().status.code(), Some(0), "after {millis} ms");
        assert_eq!(RenderedNetwork::list(&place.node()).unwrap().len(), 60);
        assert!(NodeFacts::read(&place.node()).unwrap().is_some());
        let left = hidden(place.node().run()) + hidden(&place.node().networks().join("default"));
        assert_eq!(left, 0, "temporary files are swept");
    }
}

fn hidden(dir: &Path) -> usize {
    let names = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.as_encoded_bytes().starts_with(b".")).count()
}

#[test]
fn check_tells_by_its_exit_code() {
    let place = Place::new();
    place.write("good.yaml", &of_type("a", "bridge"));
    place.write("bad.yaml", &nad("a", "{}"));
    for (files, code) in [
        (&["good.yaml"][..], 0),
        (&["bad.yaml"], 1),
        (&["bad.yaml", "absent.yaml"], 2),
        (&[], 2),
        (&["."], 2),
    ] {
        let output = braid().arg("check").args(files).current_dir(place.manifests()).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{files:?}: {:?}", texts(&output));
    }
    let output = braid().args(["check", "bad.yaml"]).current_dir(place.manifests()).output().unwrap();
    let (out, _) = texts(&output);
    assert!(
        out.starts_with("bad.yaml: default/a: error: spec.config: the configuration has neither"),
        "{out}"
    );
    assert!(
        out.ends_with("\nchecked 1 file: 1 network, 0 pods, 0 CNI configurations; 1 error, 0 warnings\n"),
        "{out}"
    );
}

#[test]
fn permissions_hold_for_manifests_and_for_check_and_a_wrong_file_of_them_permits_nothing() {
    let place = Place::new();
    place.write("a.yaml", &(of_type("a", "ptp") + &of_type("b", "bridge")));
    let rules = place.temp.path().join("permissions.json");
    let flag = ["--permissions", rules.to_str().unwrap()];
    std::fs::write(&rules, r#"{"rules": [{"namespaces": ["default"], "plugin": ["ptp"]}]}"#).unwrap();
    let check = || {
        let mut command = braid();
        command.arg("check").args(flag).arg(place.manifests().join("a.yaml")).output().unwrap()
    };
    for output in [place.braid(&["--once"]).args(flag).output().unwrap(), check()] {
        let (_, err) = texts(&output);
        assert_eq!(output.status.code(), Some(2));
        assert!(
            err.contains("the permissions of networks in") && err.contains("unknown field `plugin`"),
            "{err}"
        );
    }
    assert_eq!(RenderedNetwork::list(&place.node()).unwrap(), [], "nothing is written without rules");
    std::fs::write(&rules, r#"{"rules": [{"namespaces": ["default"], "plugins": ["ptp"]}]}"#).unwrap();
    let output = place.braid(&["--once"]).args(flag).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(plugin_of(place.network("a").unwrap().as_ref()), Some("ptp"));
    let refused = place.network("b").unwrap().unwrap().outcome;
    assert!(
        matches!(refused, Outcome::Refused { reason } if reason.contains("may not use plugin \"bridge\""))
    );
    let output = check();
    assert_eq!(output.status.code(), Some(1));
    assert!(texts(&output).0.contains("default/b: error: networks of namespace default may not use plugin"));
}

#[test]
fn the_examples_are_without_fault() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/examples/networks");
    let files: Vec<_> = std::fs::read_dir(&examples).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 4);
    let output = braid().arg("check").args(&files).output().unwrap();
    let expected = "checked 4 files: 4 networks, 0 pods, 0 CNI configurations; 0 errors, 0 warnings\n";
    assert_eq!(texts(&output), (expected.to_owned(), String::new()));
}

#[test]
fn help_and_version_are_there() {
    for (args, part) in [
        (&["--help"][..], "Keep this node's networks as the API server"),
        (&["--version"], concat!("braid ", env!("CARGO_PKG_VERSION"))),
        (&["node", "--help"], "[env: BRAID_RUN_DIR=]"),
        (&["check", "--help"], "Exit code: 0 no errors, 1 errors, 2"),
    ] {
        let output = braid().args(args).output().unwrap();
        let (out, _) = texts(&output);
        assert!(output.status.success() && out.contains(part), "{args:?}: {out}");
    }
    assert_eq!(braid().arg("node").output().unwrap().status.code(), Some(2));
}
