//! Pods that come and go all the time while something happens: each asks for a network, and none may ever run without
//! it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, ScopedJoinHandle};

use anyhow::{Result, bail, ensure};
use e2e::suite::stage::Stage;
use serde_json::json;

use crate::attached;

/// How many pods are on their way at once, on all nodes together; at least one on each.
const AT_ONCE: usize = 2;

/// Pods that come and go on some nodes.
pub(crate) struct Churn<'a> {
    stage: &'a Stage<'a>,
    nodes: &'a [String],
    over: AtomicBool,
    /// How many pods have started on a node.
    started: Mutex<BTreeMap<&'a str, usize>>,
}

/// Lets pods of the network `net` come and go on nodes while something happens. Pods have come on each node before it
/// begins, and further ones after it has ended.
pub(crate) fn during(
    stage: &Stage<'_>,
    nodes: &[String],
    happens: impl FnOnce(&Churn<'_>) -> Result<()>,
) -> Result<()> {
    let churn = &Churn { stage, nodes, over: AtomicBool::new(false), started: Mutex::default() };
    thread::scope(|scope| {
        let workers = (0..churn.on_each()).flat_map(|worker| nodes.iter().map(move |node| (worker, node)));
        let workers: Vec<_> =
            workers.map(|(worker, node)| scope.spawn(move || churn.work(node, worker))).collect();
        let happened =
            churn.wait_for_more().and_then(|()| happens(churn)).and_then(|()| churn.wait_for_more());
        churn.over.store(true, Ordering::Relaxed);
        // What a pod met tells more than what was made to happen to it.
        workers.into_iter().map(join).collect::<Result<Vec<()>>>()?;
        happened
    })
}

fn join(worker: ScopedJoinHandle<'_, Result<()>>) -> Result<()> {
    worker.join().unwrap_or_else(|_| bail!("a thread of the churn panicked; the message is above"))
}

/// Fails if a pod of the scenario was refused its networks at first, though it got them later.
pub(crate) fn ensure_no_start_failed(stage: &Stage<'_>) -> Result<()> {
    let events = ["get", "events", "--field-selector=reason=FailedCreatePodSandBox"];
    let messages = stage
        .kubectl(&[&events[..], &["-o", "jsonpath={range .items[*]}{.message}{\"\\n\"}{end}"]].concat())?;
    // The runtime has other reasons, too, on a busy machine.
    let refused: Vec<&str> = messages.lines().filter(|message| message.contains("network")).collect();
    ensure!(refused.is_empty(), "pods were refused their networks: {refused:?}");
    Ok(())
}

impl<'a> Churn<'a> {
    /// Waits until pods that are created from now on have started on every node.
    pub(crate) fn wait_for_more(&self) -> Result<()> {
        self.nodes.iter().try_for_each(|node| self.wait_for_more_on(node))
    }

    /// The same on one node.
    pub(crate) fn wait_for_more_on(&self, node: &str) -> Result<()> {
        // Each worker may have one on its way already.
        let enough = self.started_on(node) + self.on_each() + 1;
        self.stage.wait(&format!("further pods start on {node}"), || {
            ensure!(!self.over.load(Ordering::Relaxed), "a pod of the churn failed");
            Ok(self.started_on(node) >= enough)
        })
    }

    fn on_each(&self) -> usize {
        (AT_ONCE / self.nodes.len().max(1)).max(1)
    }

    fn started_on(&self, node: &str) -> usize {
        self.started.lock().unwrap_or_else(PoisonError::into_inner).get(node).copied().unwrap_or(0)
    }

    fn work(&self, node: &'a str, worker: usize) -> Result<()> {
        let pods = (1..).map(|number| format!("churn-{node}-{worker}-{number}"));
        let result = pods
            .take_while(|_| !self.over.load(Ordering::Relaxed))
            .try_for_each(|pod| self.come_and_go(node, &pod));
        self.over.fetch_or(result.is_err(), Ordering::Relaxed);
        result
    }

    fn come_and_go(&self, node: &'a str, name: &str) -> Result<()> {
        // With another policy the kubelet starts containers again while it deletes their pod.
        self.stage.create(&attached::pod(name, node).with("restartPolicy", json!("Never")))?;
        let mut runs = false;
        self.stage.wait(&format!("{name} runs"), || {
            let status = self.stage.pod(name)?["status"].take();
            let ended = &status["containerStatuses"][0]["state"]["terminated"]["exitCode"];
            ensure!(*ended != attached::WITHOUT, "{name} has run without its network");
            runs = status["phase"] == "Running";
            Ok(runs || status["phase"] == "Failed")
        })?;
        // A runtime that is killed may lose a container between its creation and its start: that pod does not count.
        if runs {
            *self.started.lock().unwrap_or_else(PoisonError::into_inner).entry(node).or_default() += 1;
        }
        self.stage.delete(name)
    }
}
