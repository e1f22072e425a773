//! A node whose pods all start at once, as after a reboot: through real plugins, by hand and with Braid, while the
//! node role runs on a real API server.
//!
//! | to | see |
//! |---|---|
//! | see when a pod's network-status has become right | [`super::statuses`] |
//! | show the figures | [`figures`] |

mod figures;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use cni::npwg::{NETWORKS, NetworkRef};
use cni::{AddResult, NetworkList};
use futures::{StreamExt, TryStreamExt, stream};
use kube::api::DeleteParams;
use serde_json::{Map, Value, json};
use store::network::{Outcome, RenderedNetwork};

use super::at_once::{Storm, at_once, together};
use super::lists::{Lists, Sandbox};
use super::sample::milliseconds;
use super::scene::Scene;
use super::statuses::{self, Statuses};
use crate::netns::Namespace;
use crate::wait;

pub(super) use figures::{Figures, table};
use figures::{Row, Side};

/// Pods that start at once: the kubelet's limit for a node.
const PODS: usize = 110;
/// Networks that the API server holds.
const NETWORKS_THERE: usize = 1000;
/// How many secondary networks pods have.
const SECONDARIES: [usize; 2] = [2, 8];
/// Storms by hand and with Braid, each.
const ROUNDS: usize = 2;

/// The pause between two looks at all statuses.
const GLANCE: Duration = Duration::from_millis(20);
/// How long all statuses together may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Measures storms on a node with these settings.
pub(super) fn measure(settings: &Map<String, Value>) -> Result<Figures> {
    let mut scene = Scene::new(settings)?;
    scene.fill_networks(0..NETWORKS_THERE)?;
    scene.start()?;
    let sky = Sky::new(&scene)?;
    let mut made = 0;
    let rows = SECONDARIES.iter().map(|n| {
        let row = sky.row(*n, &mut made);
        row.with_context(|| format!("{PODS} pods with {n} secondary networks each"))
    });
    let rows = rows.collect::<Result<Vec<_>>>()?;
    let (peak, _) = scene.memory()?;
    Ok(Figures::new(PODS, NETWORKS_THERE, ROUNDS, settings.clone(), rows, peak))
}

/// What storms have in common: the scene, and a namespace for each pod.
struct Sky<'a> {
    scene: &'a Scene,
    netns: Vec<Namespace>,
    primary: NetworkList,
}

/// A pod that is about to start.
struct Pod {
    name: String,
    sandbox: Sandbox,
}

impl<'a> Sky<'a> {
    fn new(scene: &'a Scene) -> Result<Self> {
        let netns = (0..PODS).map(|_| Namespace::new("storm")).collect::<Result<_>>()?;
        let text = std::fs::read(scene.node.file("net.d/10-primary.conflist"))?;
        let primary = NetworkList::from_json(serde_json::from_slice(&text)?, None)?;
        Ok(Self { scene, netns, primary })
    }

    /// Each goes first half of the time.
    fn row(&self, n: usize, made: &mut usize) -> Result<Row> {
        let (by_hand, braid) = (self.by_hand(n)?, self.scene.braid()?);
        self.make_bridges(&by_hand, made)?;
        let mut row = Row::new(n);
        for round in 0..ROUNDS {
            if round % 2 == 0 {
                self.storm(&by_hand, &self.sandboxes(made)?, &mut row.by_hand)?;
            }
            self.braids_storm(&braid, n, made, &mut row)?;
            if round % 2 == 1 {
                self.storm(&by_hand, &self.sandboxes(made)?, &mut row.by_hand)?;
            }
        }
        let pods = self.pods(n, made)?;
        let (together, storm) = together("meta-cni", || self.add(&braid, &pods))?;
        row.take_memory(together);
        // Its times are not counted: looking at memory costs some. Its failures are.
        let mut uncounted = Side::default();
        self.del(&braid, &pods, storm, &mut uncounted)?;
        row.braid.failures.append(&mut uncounted.failures);
        self.delete(&pods)?;
        row.left_behind = self.scene.node.leftovers()?;
        Ok(row)
    }

    /// The delegates of a pod's networks, as the node role has rendered them.
    fn by_hand(&self, n: usize) -> Result<Lists> {
        let mut lists = vec![self.primary.clone()];
        for number in 0..n {
            let network = NetworkRef::parse("default", &network(number))?;
            let rendered = RenderedNetwork::read(&self.scene.node.directory(), &network)?;
            match rendered.map(|rendered| rendered.outcome) {
                Some(Outcome::Ready { list }) => lists.push(list),
                other => bail!("the node role has made of {network}: {other:?}"),
            }
        }
        Ok(self.scene.lists(lists))
    }

    /// One pod comes and goes: bridges are there on a node that has had pods.
    fn make_bridges(&self, by_hand: &Lists, made: &mut usize) -> Result<()> {
        let mut first = self.sandboxes(made)?;
        first.truncate(1);
        let mut side = Side::default();
        self.storm(by_hand, &first, &mut side)?;
        side.failures.pop().map_or(Ok(()), |failure| bail!("the first pod, by hand: {failure}"))
    }

    /// Pods that no API server knows: by hand nobody asks for them.
    fn sandboxes(&self, made: &mut usize) -> Result<Vec<Pod>> {
        let pods = self.netns.iter().map(|netns| {
            *made += 1;
            let name = format!("storm-{made}");
            Ok(Pod { sandbox: Sandbox::new(*made, netns.path(), &name, None)?, name })
        });
        pods.collect()
    }

    /// Pods that the API server has bound to the node.
    fn pods(&self, n: usize, made: &mut usize) -> Result<Vec<Pod>> {
        let asked: Vec<String> = (0..n).map(network).collect();
        let annotations = json!({ NETWORKS: asked.join(",") });
        let names: Vec<String> = (1..=PODS).map(|number| format!("storm-{}", *made + number)).collect();
        let uids = self.scene.make_pods(&names, &asked.join(","))?;
        let pods = names.into_iter().zip(uids).zip(&self.netns).map(|((name, uid), netns)| {
            *made += 1;
            let sandbox = Sandbox::new(*made, netns.path(), &name, Some(&uid))?;
            Ok(Pod { sandbox: sandbox.with_annotations(annotations.clone()), name })
        });
        pods.collect()
    }

    fn delete(&self, pods: &[Pod]) -> Result<()> {
        let api = &self.scene.pods()?;
        let params = &DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
        self.scene.plane.block_on(async {
            let gone = stream::iter(pods).map(|pod| async { api.delete(&pod.name, params).await.map(drop) });
            gone.buffer_unordered(8).try_collect::<()>().await
        })?;
        Ok(())
    }

    /// All pods start at once; when all have, all end at once.
    fn storm(&self, lists: &Lists, pods: &[Pod], side: &mut Side) -> Result<()> {
        let added = self.add(lists, pods)?;
        self.del(lists, pods, added, side)
    }

    /// The same, while statuses are looked at.
    fn braids_storm(&self, braid: &Lists, n: usize, made: &mut usize, row: &mut Row) -> Result<()> {
        let pods = self.pods(n, made)?;
        let statuses = Statuses::follow(&self.scene.plane, self.scene.pods()?)?;
        let added = self.add(braid, &pods)?;
        let right = wait_for_statuses(&statuses, &pods, &added)?;
        row.take_statuses(right.duration_since(added.begun), added.took);
        self.del(braid, &pods, added, &mut row.braid)?;
        self.delete(&pods)
    }

    fn add(&self, lists: &Lists, pods: &[Pod]) -> Result<Storm<Vec<AddResult>>> {
        self.scene.node.host.netns.within(|| at_once(pods, |pod| lists.add(&pod.sandbox)))
    }

    /// Ends what was started, whether it succeeded or not, and notes both.
    fn del(&self, lists: &Lists, pods: &[Pod], added: Storm<Vec<AddResult>>, side: &mut Side) -> Result<()> {
        side.took += added.took;
        side.pods += added.all.iter().filter(|landed| landed.done.is_ok()).count();
        let mut begun = Vec::new();
        for (pod, landed) in pods.iter().zip(added.all) {
            side.add.push(milliseconds(landed.took));
            let results = landed.done.unwrap_or_else(|error| {
                side.failures.push(format!("ADD of {}: {error:#}", pod.name));
                Vec::new()
            });
            begun.push((pod, results));
        }
        let host = &self.scene.node.host.netns;
        let gone = host.within(|| at_once(&begun, |(pod, results)| lists.del(&pod.sandbox, results)))?;
        for (pod, landed) in pods.iter().zip(gone.all) {
            side.del.push(milliseconds(landed.took));
            side.failures.extend(landed.done.err().map(|error| format!("DEL of {}: {error:#}", pod.name)));
        }
        Ok(())
    }
}

fn network(number: usize) -> String {
    format!("net-{number}")
}

/// When the status of each pod that was attached had become right.
fn wait_for_statuses(statuses: &Statuses, pods: &[Pod], added: &Storm<Vec<AddResult>>) -> Result<Instant> {
    let got = pods.iter().zip(&added.all);
    let got = got.filter_map(|(pod, landed)| Some((pod.name.as_str(), landed.done.as_ref().ok()?.first()?)));
    let expected: Vec<_> = got.map(|(name, result)| (name, statuses::attached(result))).collect();
    if expected.is_empty() {
        return Ok(added.begun);
    }
    let mut last = None;
    wait::at_times(GLANCE, PATIENCE, "every network-status is right", || {
        statuses.ensure_following()?;
        last = statuses.right_since(&expected);
        Ok(last.is_some())
    })?;
    last.context("no pod was attached at all")
}
