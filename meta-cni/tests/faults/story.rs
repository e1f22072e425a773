//! A pod's life as kubelet and containerd lead it, with faults on the way, all of it decided by one seed.
//!
//! The runtime's part: ADD; on a failure DEL, as often as it fails, then a new sandbox and another ADD; at the end DEL.
//! Now and then a sandbox is added again, deleted thrice, or collected. The node role's part: what is wrong with the
//! files that it writes, it writes anew. A person's part: a record that is damaged is moved away, as the message says.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use crate::damage;
use crate::fault::{Fault, Places, choose, tell};
use crate::harness::Run;
use crate::random::Random;
use crate::stage::{NETWORKS, Outcome, Sandbox, Stage};

/// How many faults of each kind have happened.
pub(crate) type Tally = BTreeMap<&'static str, u32>;

/// How often a runtime tries before this counts as stuck. Faults of a story are fewer.
const TRIES: usize = 12;

struct Story<'a> {
    stage: Stage,
    random: Random,
    places: &'a BTreeMap<&'static str, Places>,
    /// How many faults may still come.
    faults: usize,
    tally: &'a mut Tally,
    /// A sandbox that nothing disturbs, and that nothing may disturb.
    bystander: Sandbox,
    sandboxes: u32,
    /// Since the last call something is wrong that makes calls fail.
    disturbed: bool,
    /// What the pod asks for.
    networks: Vec<&'static str>,
    /// The container whose last disturbed call this was.
    lost_answer: String,
}

/// Tells the story of a seed.
pub(crate) fn tell_story(
    seed: u64,
    stage: Stage,
    places: &BTreeMap<&'static str, Places>,
    tally: &mut Tally,
) {
    let mut random = Random::of(seed);
    let bystander = stage.sandbox("bystander", &["a", "b"]);
    stage.done("ADD bystander", stage.add(&bystander));
    let faults = 1 + random.below(5);
    let mut story = Story {
        stage,
        random,
        places,
        faults,
        tally,
        bystander,
        sandboxes: 0,
        disturbed: false,
        networks: Vec::new(),
        lost_answer: String::new(),
    };
    let all = NETWORKS;
    let networks: Vec<_> = all.into_iter().filter(|_| story.random.percent(60)).collect();
    let sandbox = story.bring_up(&networks);
    story.interlude(&[&sandbox]);
    story.tear_down(&sandbox);
    story.interlude(&[]);
    story.finish();
}

impl Story<'_> {
    /// A fault for a call of this verb, or none.
    fn fault(&mut self, verb: &'static str) -> Fault {
        if self.faults == 0 || self.random.percent(25) {
            return Fault::None;
        }
        choose(&mut self.random, verb, &self.places[verb])
    }

    fn count(&mut self, kind: &'static str) {
        *self.tally.entry(kind).or_default() += 1;
        self.faults = self.faults.saturating_sub(1);
    }

    /// Runs a call, perhaps with a fault. `None` for a failure that something has caused.
    fn call(
        &mut self,
        verb: &'static str,
        who: &str,
        run: impl for<'s> Fn(&'s Stage) -> Run<'s>,
    ) -> Option<serde_json::Value> {
        let fault = self.fault(verb);
        let what = format!("{verb} {who}");
        let (outcome, happened) = self.stage.run(&what, run(&self.stage), &fault);
        if happened {
            self.count(fault.kind());
        }
        let disturbed = std::mem::take(&mut self.disturbed);
        if disturbed {
            self.put_right();
        }
        if happened {
            who.clone_into(&mut self.lost_answer);
        }
        match outcome {
            Outcome::Done(value) => Some(value),
            Outcome::Killed if happened => None,
            Outcome::Refused(error) if self.is_about_damage(&error) => None,
            Outcome::Refused(_) if happened || disturbed => None,
            Outcome::Refused(error) if self.lost_answer == who && error.contains("is attached already") => {
                None
            }
            other => panic!("{what} failed though nothing disturbed it: {other:?}"),
        }
    }

    /// What the node role does, whatever became of its files.
    fn put_right(&self) {
        self.stage.publish_networks();
        self.stage.publish_pod(&self.networks);
    }

    /// A record that is damaged is moved away by somebody, once an error asks for that.
    fn is_about_damage(&self, error: &str) -> bool {
        let records = self.stage.node.dir().records().display().to_string();
        let Some((_, rest)) = error.split_once(&records) else { return false };
        let Some((name, _)) = rest.trim_start_matches('/').split_once(' ') else { return false };
        if !error.contains(&format!("{records}/{name} is damaged")) || !error.contains("move it away") {
            return false;
        }
        let record = PathBuf::from(records).join(name);
        fs::rename(&record, self.stage.node.path("world").join(format!("moved-{name}"))).unwrap();
        self.stage.say(format!("a person moves {name} away"));
        true
    }

    /// Until a sandbox has its networks.
    fn bring_up(&mut self, networks: &[&'static str]) -> Sandbox {
        let by_annotation = self.random.percent(80);
        self.networks = networks.to_vec();
        self.put_right();
        for _ in 0..TRIES {
            self.sandboxes += 1;
            let sandbox = self.stage.sandbox(&format!("s{}", self.sandboxes), networks);
            let sandbox = Sandbox { by_annotation, ..sandbox };
            self.disturb(&sandbox);
            if self.faults > 0 && self.random.percent(12) {
                self.overlap_add(&sandbox);
            } else if self.is_up(&sandbox) || (self.random.percent(25) && self.is_up(&sandbox)) {
                // The second ADD is that of a runtime that keeps its sandbox. It is refused if only the answer of the
                // first one was lost.
                if self.random.percent(20) {
                    self.add_again(&sandbox);
                }
                return sandbox;
            }
            self.tear_down(&sandbox);
        }
        panic!("the pod never came up");
    }

    /// One ADD; whether the sandbox can be used.
    fn is_up(&mut self, sandbox: &Sandbox) -> bool {
        if !self.stage.netns(sandbox).exists() {
            return false;
        }
        let added = self.call("ADD", &sandbox.id, |stage| stage.add(sandbox));
        let Some(answer) = added else { return false };
        if !self.stage.netns(sandbox).exists() {
            return false;
        }
        self.stage.is_attached(sandbox);
        Stage::is_told(sandbox, &answer);
        true
    }

    /// A second ADD is refused and changes nothing.
    fn add_again(&mut self, sandbox: &Sandbox) {
        let (outcome, _) = self.stage.run("ADD again", self.stage.add(sandbox), &Fault::None);
        let refused = matches!(&outcome, Outcome::Refused(error) if error.contains("is attached already"));
        assert!(refused, "{outcome:?}");
        self.count("ADD twice");
        self.stage.is_attached(sandbox);
    }

    /// The runtime loses patience, or its order, while an ADD is at work.
    fn overlap_add(&mut self, sandbox: &Sandbox) {
        let plugin = *self.random.pick(&crate::stage::PLUGINS);
        tell(&self.stage.node, plugin, "ADD", "slow");
        let add = || ("ADD", self.stage.add(sandbox));
        let (kind, outcomes) = match self.random.below(3) {
            0 => (
                "DEL before ADD has ended",
                self.stage.at_once(vec![add(), ("DEL", self.stage.del(sandbox))]),
            ),
            1 => ("ADD twice at once", self.stage.at_once(vec![add(), add()])),
            _ => ("GC while ADD runs", self.stage.collect_while_adding(sandbox, &[&self.bystander])),
        };
        let succeeded = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Done(_))).count();
        // What is disturbed besides is put right.
        let disturbed = std::mem::take(&mut self.disturbed);
        self.put_right();
        self.count(kind);
        for plugin in [plugin, "primary"] {
            let _ = fs::remove_file(self.stage.node.path(&format!("world/faults/{plugin} ADD")));
        }
        if disturbed {
            return;
        }
        match kind {
            "ADD twice at once" => {
                assert_eq!(succeeded, 1, "{outcomes:?}");
                self.stage.is_attached(sandbox);
            }
            "GC while ADD runs" => {
                assert_eq!(succeeded, 2, "{outcomes:?}");
                self.stage.is_attached(sandbox);
            }
            _ => assert!(matches!(outcomes[1], Outcome::Done(_)), "{outcomes:?}"),
        }
    }

    /// Until the sandbox has ended.
    fn tear_down(&mut self, sandbox: &Sandbox) {
        self.disturb(sandbox);
        if self.random.percent(25) {
            self.stage.remove_netns(sandbox);
        }
        if self.faults > 0 && self.random.percent(10) {
            let del = || ("DEL", self.stage.del(sandbox));
            self.stage.at_once(vec![del(), del(), del()]);
            self.count("DEL thrice at once");
            self.disturbed = false;
            self.put_right();
        }
        let mut tries = 0;
        while self.call("DEL", &sandbox.id, |stage| stage.del(sandbox)).is_none() {
            tries += 1;
            assert!(tries < TRIES, "the pod never ends");
        }
        let owed = self.stage.node.path(&format!("state/attachments/{}", sandbox.id)).exists();
        let lost = self.stage.node.path(&format!("world/moved-{}", sandbox.id)).exists();
        if !owed && !lost {
            self.stage.is_undone(sandbox);
        }
        self.stage.remove_netns(sandbox);
        while self.random.percent(20) {
            self.call("DEL", &sandbox.id, |stage| stage.del(sandbox));
        }
    }

    /// Something happens to the node between two calls.
    fn disturb(&mut self, sandbox: &Sandbox) {
        if self.faults == 0 || !self.random.percent(15) {
            return;
        }
        match self.random.below(10) {
            0..3 => {
                let longest = *self.random.pick(&[1_000, 60_000, 86_400_000, 40_000_000_000_i64]);
                let by = i64::try_from(self.random.below(usize::try_from(longest).unwrap())).unwrap();
                let by = if self.random.percent(50) { -by } else { by };
                self.stage.jump(by);
                self.stage.say(format!("the clock jumps by {by} ms"));
                self.count("clock jumps");
            }
            3 if !self.stage.netns(sandbox).exists() => {}
            3 => {
                self.stage.remove_netns(sandbox);
                self.stage.say("the namespace vanishes");
                self.count("namespace vanishes");
                self.disturbed = true;
            }
            _ => {
                if let Some(what) = damage::one_file(&mut self.random, &self.stage.node, &sandbox.id) {
                    self.stage.say(what);
                    self.count("file damaged");
                    self.disturbed = true;
                }
            }
        }
    }

    /// Other calls come while the sandbox, or nothing, is there.
    fn interlude(&mut self, up: &[&Sandbox]) {
        for _ in 0..self.random.below(3) {
            if self.random.percent(25) {
                self.collect_by_hand();
            } else if self.random.percent(50) {
                self.call("STATUS", "", |stage| stage.node.status());
            } else {
                let bystander = self.bystander.clone();
                self.call("GC", "", |stage| {
                    let valid: Vec<&Sandbox> = up.iter().copied().chain([&bystander]).collect();
                    stage.gc(&valid)
                });
            }
            for sandbox in up {
                self.stage.is_attached(sandbox);
            }
        }
    }

    /// A person has unfinished work done at once. Something may well be left: then the exit status is 1.
    fn collect_by_hand(&mut self) {
        let fault = self.fault("gc");
        let (_, happened) = self.stage.run("gc by hand", self.stage.node.gc_by_hand(), &fault);
        if happened {
            self.count(fault.kind());
        }
    }

    /// No fault comes any more: after the usual calls nothing is left, and the node works.
    fn finish(mut self) {
        self.faults = 0;
        let bystander = self.bystander.clone();
        // One that is damaged is moved away at the first, if nothing asked for that before.
        let mut tries = 0;
        while self.call("GC", "", |stage| stage.gc(&[&bystander])).is_none() {
            tries += 1;
            assert!(tries < TRIES, "GC never succeeds");
        }
        self.stage.settle();
        self.stage.is_attached(&bystander);
        let next = self.stage.sandbox("next", &["b", "c"]);
        let answer = self.stage.done("ADD next", self.stage.add(&next));
        self.stage.is_attached(&next);
        Stage::is_told(&next, &answer);
        for sandbox in [&next, &bystander] {
            self.stage.done("DEL", self.stage.del(sandbox));
            self.stage.remove_netns(sandbox);
        }
        self.stage.is_empty(true);
    }
}
