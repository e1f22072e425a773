//! What the nodes' reports say of each network, summed up. Pure.
//!
//! Of 5,000 reports with 1,000 networks each only numbers are kept: a network is an index, and what is on many
//! nodes alike (in a cluster at rest: everything) is kept once. Sums are kept up to date with each report, so
//! that asking for them costs nothing.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crds::ReportContent;

/// The sums over all reports.
#[derive(Debug, Default)]
pub struct Tallies {
    names: Names,
    nodes: BTreeMap<String, Node>,
    lists: HashSet<Arc<Lists>>,
    /// By the index of the network.
    sums: Vec<Sum>,
}

/// What all nodes together say of one network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Nodes that have it in its present form, or a newer one than was asked for.
    pub ready: i64,
    /// Nodes that refuse it in its present form.
    pub refused: i64,
    /// Nodes that report.
    pub total: i64,
    /// Pods that are attached to it.
    pub pods: i64,
    /// Why one of the nodes refuses it.
    pub refusal: Option<Arc<str>>,
}

/// The networks' names as numbers.
#[derive(Debug, Default)]
struct Names {
    all: HashMap<Box<str>, u32>,
}

impl Names {
    fn number(&mut self, name: &str) -> u32 {
        if let Some(number) = self.all.get(name) {
            return *number;
        }
        let number = u32::try_from(self.all.len()).unwrap_or(u32::MAX);
        self.all.insert(name.into(), number);
        number
    }
}

/// One report, as far as it matters.
#[derive(Debug)]
struct Node {
    lists: Arc<Lists>,
    /// Networks and their pods. No two nodes have the same.
    pods: Box<[(u32, u32)]>,
}

/// A network, its generation if the node could read that, and why it is refused.
type Refusal = (u32, Option<u32>, Arc<str>);

/// What many nodes have alike.
#[derive(Debug, Default, PartialEq, Eq, Hash)]
struct Lists {
    /// Networks and their generations.
    ready: Box<[(u32, u32)]>,
    /// Networks that are refused.
    refused: Box<[Refusal]>,
}

/// What is counted of one network.
#[derive(Debug, Clone, Default)]
struct Sum {
    /// By generation.
    ready: BTreeMap<u32, u32>,
    /// By generation, with one of the reasons.
    refused: BTreeMap<Option<u32>, (u32, Arc<str>)>,
    pods: i64,
}

impl Tallies {
    /// Takes a node's report in place of its earlier one; whether that changes any sum.
    pub fn put(&mut self, node: &str, report: &ReportContent) -> bool {
        let new = self.node(report);
        if self.nodes.get(node).is_some_and(|old| old.lists == new.lists && old.pods == new.pods) {
            return false;
        }
        self.remove(node);
        self.count(&new, 1);
        self.nodes.insert(node.to_owned(), new);
        true
    }

    /// Forgets a node's report; whether there was one.
    pub fn remove(&mut self, node: &str) -> bool {
        let Some(old) = self.nodes.remove(node) else { return false };
        self.count(&old, -1);
        let lists = old.lists;
        // The set's own, and this one.
        if Arc::strong_count(&lists) == 2 {
            self.lists.remove(&lists);
        }
        true
    }

    /// Forgets the reports of nodes that are not among these; whether there were any.
    pub fn keep(&mut self, nodes: &HashSet<String>) -> bool {
        let gone: Vec<_> = self.nodes.keys().filter(|node| !nodes.contains(*node)).cloned().collect();
        for node in &gone {
            self.remove(node);
        }
        !gone.is_empty()
    }

    /// What the nodes say of the network `namespace/name`, of which `generation` is the present one.
    pub fn of(&self, network: &str, generation: Option<i64>) -> Tally {
        let total = i64::try_from(self.nodes.len()).unwrap_or(i64::MAX);
        let number = self.names.all.get(network).and_then(|number| usize::try_from(*number).ok());
        let Some(sum) = number.and_then(|number| self.sums.get(number)) else {
            return Tally { total, ..Tally::default() };
        };
        let present = compact(generation.unwrap_or_default());
        let ready = sum.ready.range(present..).map(|(_, nodes)| i64::from(*nodes)).sum();
        let refusals = || {
            // Without a generation the node could not even read it: that is the present form until it says more.
            let counts = |at: &Option<u32>| at.is_none_or(|at| at >= present);
            sum.refused.iter().filter(move |(at, _)| counts(at)).map(|(_, refusal)| refusal)
        };
        Tally {
            ready,
            refused: refusals().map(|(nodes, _)| i64::from(*nodes)).sum(),
            total,
            pods: sum.pods,
            refusal: refusals().map(|(_, reason)| reason.clone()).next(),
        }
    }

    /// How many nodes report.
    pub fn nodes(&self) -> usize {
        self.nodes.len()
    }

    fn node(&mut self, report: &ReportContent) -> Node {
        let names = &mut self.names;
        let ready = report.networks.iter().map(|(name, at)| (names.number(name), compact(*at))).collect();
        let refused = report.refused.iter().map(|refused| {
            let number = names.number(&refused.network);
            (number, refused.generation.map(compact), Arc::from(refused.message.as_str()))
        });
        let lists = Lists { ready, refused: refused.collect() };
        let pods =
            report.attachments.networks.iter().map(|(name, pods)| (names.number(name), compact(*pods)));
        let pods = pods.collect();
        let lists = if let Some(same) = self.lists.get(&lists) {
            same.clone()
        } else {
            let lists = Arc::new(lists);
            self.lists.insert(lists.clone());
            lists
        };
        Node { lists, pods }
    }

    /// Adds a node to the sums, or takes it away.
    fn count(&mut self, node: &Node, sign: i32) {
        self.sums.resize(self.names.all.len(), Sum::default());
        let mut sum = |number: u32, change: &mut dyn FnMut(&mut Sum)| {
            if let Some(sum) = usize::try_from(number).ok().and_then(|number| self.sums.get_mut(number)) {
                change(sum);
            }
        };
        for (network, at) in &node.lists.ready {
            sum(*network, &mut |sum| {
                let nodes = sum.ready.entry(*at).or_default();
                *nodes = nodes.saturating_add_signed(sign);
                if *nodes == 0 {
                    sum.ready.remove(at);
                }
            });
        }
        for (network, at, reason) in &node.lists.refused {
            sum(*network, &mut |sum| {
                let (nodes, _) = sum.refused.entry(*at).or_insert_with(|| (0, reason.clone()));
                *nodes = nodes.saturating_add_signed(sign);
                if *nodes == 0 {
                    sum.refused.remove(at);
                }
            });
        }
        for (network, pods) in &node.pods {
            sum(*network, &mut |sum| sum.pods += i64::from(*pods) * i64::from(sign));
        }
    }
}

/// Generations and numbers of pods are small; what is not becomes the nearest that is.
fn compact(number: i64) -> u32 {
    u32::try_from(number.max(0)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn report(value: Value) -> ReportContent {
        serde_json::from_value(value).unwrap()
    }

    fn refused(generation: Option<i64>) -> ReportContent {
        report(json!({"refused": [
            {"network": "a/x", "generation": generation, "reason": "Invalid", "message": "no type"}
        ]}))
    }

    #[test]
    fn nodes_are_counted_by_the_generation_that_they_have() {
        let mut tallies = Tallies::default();
        tallies.put("old", &report(json!({"networks": {"a/x": 1, "a/y": 9}})));
        tallies.put("new", &report(json!({"networks": {"a/x": 2}})));
        tallies.put("ahead", &report(json!({"networks": {"a/x": 3}})));
        tallies.put("refuses", &refused(Some(2)));
        tallies.put("refused-before", &refused(Some(1)));
        tallies.put("cannot-read", &refused(None));
        let tally = tallies.of("a/x", Some(2));
        assert_eq!((tally.ready, tally.refused, tally.total), (2, 2, 6));
        assert_eq!(tally.refusal.as_deref(), Some("no type"));
        assert_eq!(tallies.of("a/unknown", Some(1)), Tally { total: 6, ..Tally::default() });
    }

    #[test]
    fn pods_are_added_up_and_taken_away_with_their_node() {
        let mut tallies = Tallies::default();
        tallies.put("one", &report(json!({"attachments": {"networks": {"a/x": 3}}})));
        tallies.put("two", &report(json!({"attachments": {"networks": {"a/x": 4, "a/y": 1}}})));
        assert_eq!(tallies.of("a/x", None).pods, 7);
        assert!(tallies.put("two", &report(json!({"attachments": {"networks": {"a/x": 1}}}))));
        assert_eq!((tallies.of("a/x", None).pods, tallies.of("a/y", None).pods), (4, 0));
        assert!(tallies.keep(&HashSet::from(["two".to_owned()])));
        assert_eq!(tallies.of("a/x", None).pods, 1);
    }

    #[test]
    fn a_report_in_which_only_the_time_differs_changes_nothing() {
        let mut tallies = Tallies::default();
        assert!(tallies.put("one", &report(json!({"networks": {"a/x": 1}}))));
        let later = json!({"networks": {"a/x": 1}, "lastCompleteSync": "2026-01-01T00:00:00Z"});
        assert!(!tallies.put("one", &report(later)));
    }

    #[test]
    fn what_nodes_have_alike_is_kept_once_and_goes_with_the_last_of_them() {
        let mut tallies = Tallies::default();
        let networks: BTreeMap<_, _> = (0..1000).map(|n| (format!("a/n{n}"), 1)).collect();
        let same = ReportContent { networks, ..ReportContent::default() };
        for node in 0..50 {
            tallies.put(&format!("n{node}"), &same);
        }
        assert_eq!(tallies.lists.len(), 1);
        assert_eq!(tallies.of("a/n7", Some(1)).ready, 50);
        for node in 0..50 {
            tallies.remove(&format!("n{node}"));
        }
        assert_eq!((tallies.lists.len(), tallies.nodes()), (0, 0));
        assert_eq!(tallies.of("a/n7", Some(1)), Tally::default());
    }
}
