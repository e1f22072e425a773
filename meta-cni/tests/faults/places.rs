//! Where faults may happen: every situation of `meta-cni` is run through once, and its points and system calls are
//! written down.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::json;

use crate::fault::{CALLS, Fault, Places, strace, tell};
use crate::harness::Run;
use crate::stage::{History, Outcome, Sandbox, Stage};

/// A situation: what is there before a call, and the call.
pub(crate) struct Situation {
    pub(crate) name: &'static str,
    /// The verb whose faults these are; [`APART`] where no story leads there.
    pub(crate) verb: &'static str,
    /// Brings the stage there; returns the sandboxes whose DEL the runtime owes afterwards.
    pub(crate) prepare: fn(&Stage) -> Vec<Sandbox>,
    /// The call, on the first of them.
    pub(crate) call: for<'a> fn(&'a Stage, &Sandbox) -> Run<'a>,
}

/// Situations that Multus or the end of Braid brings about, which stories do not have.
const APART: &str = "apart";

fn fresh(stage: &Stage) -> Vec<Sandbox> {
    vec![stage.sandbox("s1", &["a", "b"])]
}

fn attached(stage: &Stage) -> Vec<Sandbox> {
    let sandboxes = fresh(stage);
    stage.done("ADD s1", stage.add(&sandboxes[0]));
    sandboxes
}

fn intended(stage: &Stage) -> Vec<Sandbox> {
    let sandboxes = fresh(stage);
    let fault = Fault::Point("attach: one made#2".to_owned());
    let (outcome, _) = stage.run("ADD s1", stage.add(&sandboxes[0]), &fault);
    assert!(matches!(outcome, Outcome::Killed), "{outcome:?}");
    sandboxes
}

fn with_failing_add(stage: &Stage) -> Vec<Sandbox> {
    tell(&stage.node, "b", "ADD", "error 1");
    fresh(stage)
}

fn with_failing_del(stage: &Stage) -> Vec<Sandbox> {
    let sandboxes = attached(stage);
    tell(&stage.node, "a", "DEL", "error 0");
    sandboxes
}

fn with_unfinished_work(stage: &Stage) -> Vec<Sandbox> {
    let sandboxes = with_failing_del(stage);
    stage.run("DEL s1", stage.del(&sandboxes[0]), &Fault::None);
    assert!(stage.node.record("s1").is_some_and(|record| record.failure.is_some()));
    sandboxes
}

fn attached_by_multus(stage: &Stage) -> Vec<Sandbox> {
    let sandboxes = attached(stage);
    stage.leave_to_multus(&sandboxes[0]);
    sandboxes
}

/// Its namespace is gone, as that of most containers that GC finds.
fn left_by_multus(stage: &Stage) -> Vec<Sandbox> {
    let sandboxes = attached_by_multus(stage);
    stage.remove_netns(&sandboxes[0]);
    sandboxes
}

fn leaving(stage: &Stage) -> Vec<Sandbox> {
    let sandboxes = fresh(stage);
    stage.retire();
    sandboxes
}

fn handed_on(stage: &Stage) -> Vec<Sandbox> {
    let sandboxes = leaving(stage);
    stage.done("ADD s1", retired(stage.add(&sandboxes[0])));
    sandboxes
}

fn attached_and_leaving(stage: &Stage) -> Vec<Sandbox> {
    let sandboxes = attached(stage);
    stage.retire();
    sandboxes
}

/// A call with the configuration that the node role leaves behind.
fn retired(run: Run<'_>) -> Run<'_> {
    run.set(json!({"retired": true}))
}

/// Every situation in which `meta-cni` comes to points of its own.
pub(crate) static SITUATIONS: [Situation; 16] = [
    Situation { name: "ADD", verb: "ADD", prepare: fresh, call: |stage, it| stage.add(it) },
    Situation {
        name: "ADD that fails",
        verb: "ADD",
        prepare: with_failing_add,
        call: |stage, it| stage.add(it),
    },
    Situation {
        name: "ADD after a killed ADD",
        verb: "ADD",
        prepare: intended,
        call: |stage, it| stage.add(it),
    },
    Situation {
        name: "ADD of a network that is not there",
        verb: "ADD",
        prepare: |stage| vec![stage.sandbox("s1", &["nowhere"])],
        call: |stage, it| stage.add(it),
    },
    Situation { name: "DEL", verb: "DEL", prepare: attached, call: |stage, it| stage.del(it) },
    Situation {
        name: "DEL that fails",
        verb: "DEL",
        prepare: with_failing_del,
        call: |stage, it| stage.del(it),
    },
    Situation {
        name: "DEL of an unknown container",
        verb: "DEL",
        prepare: fresh,
        call: |stage, it| stage.del(it),
    },
    Situation { name: "GC", verb: "GC", prepare: attached, call: |stage, _| stage.gc(&[]) },
    Situation {
        name: "CHECK that takes up unfinished work",
        verb: "CHECK",
        prepare: with_unfinished_work,
        call: |stage, it| stage.node.check(&it.id),
    },
    Situation {
        name: "STATUS that takes up unfinished work",
        verb: "STATUS",
        prepare: with_unfinished_work,
        call: |stage, _| stage.node.status(),
    },
    // The same work as that of the process after the answer, whose system calls nothing else disturbs.
    Situation {
        name: "unfinished work by hand",
        verb: "gc",
        prepare: with_unfinished_work,
        call: |stage, _| stage.node.gc_by_hand(),
    },
    Situation {
        name: "DEL of a container that Multus attached",
        verb: APART,
        prepare: attached_by_multus,
        call: |stage, it| stage.del(it),
    },
    Situation {
        name: "GC of a container that Multus attached",
        verb: APART,
        prepare: left_by_multus,
        call: |stage, _| stage.gc(&[]),
    },
    Situation {
        name: "ADD while Braid leaves",
        verb: APART,
        prepare: leaving,
        call: |stage, it| retired(stage.add(it)),
    },
    Situation {
        name: "DEL of a container that was handed on",
        verb: APART,
        prepare: handed_on,
        call: |stage, it| retired(stage.del(it)),
    },
    Situation {
        name: "DEL of the last container while Braid leaves",
        verb: APART,
        prepare: attached_and_leaving,
        call: |stage, it| retired(stage.del(it)),
    },
];

impl Situation {
    /// The points that its call comes to, in order, as `name#occurrence`.
    pub(crate) fn points(&self) -> Vec<String> {
        let stage = Stage::new(History::default());
        let sandboxes = (self.prepare)(&stage);
        let log = stage.node.path("points");
        (self.call)(&stage, &sandboxes[0]).env("BRAID_POINTS", &log).answer();
        let mut counts: BTreeMap<String, u32> = BTreeMap::new();
        let text = fs::read_to_string(&log).unwrap_or_else(|_| panic!("{} comes to no point", self.name));
        let mut numbered = |name: &str| {
            let count = counts.entry(name.to_owned()).or_default();
            *count += 1;
            format!("{name}#{count}")
        };
        text.lines().map(&mut numbered).collect()
    }

    /// The system calls of its call, after its configuration was read.
    fn calls(&self) -> Vec<(String, usize, usize)> {
        let Some(strace) = strace() else { return Vec::new() };
        let stage = Stage::new(History::default());
        let sandboxes = (self.prepare)(&stage);
        let (log, names) = (stage.node.path("calls"), CALLS.map(|(name, _)| name).join(","));
        let (told, trace) = (log.display().to_string(), format!("trace={names}"));
        (self.call)(&stage, &sandboxes[0]).through(&[strace, "-o", &told, "-e", &trace]).answer();
        let text = fs::read_to_string(log).unwrap();
        let mut counts: BTreeMap<String, (usize, usize)> = BTreeMap::new();
        let mut has_read = false;
        for line in text.lines() {
            let Some((name, arguments)) = line.split_once('(') else { continue };
            has_read = has_read || (name == "read" && arguments.starts_with("0,"));
            let (before, all) = counts.entry(name.to_owned()).or_default();
            *all += 1;
            *before += usize::from(!has_read);
        }
        let places = counts.into_iter().map(|(name, (before, all))| (name, before + 1, all));
        places.filter(|(_, from, to)| from <= to).collect()
    }
}

/// The places of each verb.
pub(crate) fn by_verb() -> BTreeMap<&'static str, Places> {
    let mut all: BTreeMap<&'static str, Places> = BTreeMap::new();
    for situation in SITUATIONS.iter().filter(|situation| situation.verb != APART) {
        let places = all.entry(situation.verb).or_default();
        places.points.extend(situation.points());
        places.calls.extend(situation.calls());
    }
    for places in all.values_mut() {
        places.points.sort();
        places.points.dedup();
    }
    all
}

/// Every point that the sources of the plugin name, with the file.
pub(crate) fn of_sources() -> BTreeMap<String, String> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = BTreeMap::new();
    let mut dirs = ["src", "cni/src", "store/src"].map(|dir| package.join(dir)).to_vec();
    while let Some(dir) = dirs.pop() {
        for path in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                dirs.push(path);
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            let names = text.split("point::reached(\"").skip(1).filter_map(|rest| rest.split('"').next());
            // Comments show how it is done.
            let is_comment = |name: &str| {
                text.contains(&format!("//! A point is a line of the code: `point::reached(\"{name}\")`"))
            };
            for name in names.filter(|name| !is_comment(name)) {
                let earlier = found.insert(name.to_owned(), path.display().to_string());
                let same = earlier.as_deref().is_none_or(|earlier| path == Path::new(earlier));
                assert!(same, "{name} is a point of {} and of another file", path.display());
            }
        }
    }
    found
}

/// Names without their occurrence.
pub(crate) fn names<'a>(points: impl IntoIterator<Item = &'a String>) -> BTreeSet<String> {
    points.into_iter().map(|point| point.rsplit_once('#').unwrap().0.to_owned()).collect()
}
