//! Which status is written when. Pure; time is handed in.
//!
//! Every write of a network's status reaches every node's watch of networks. So a network is written at most
//! every [`EACH`], and all together at a pace that falls with the number of nodes ([`per_second`]): counts of
//! 1,000 networks that change all the time cost a large cluster a fixed share, and only their freshness suffers.
//! What was found of a network comes before what the nodes count.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

/// One network's status is written at most so often.
pub const EACH: Duration = Duration::from_secs(5);

/// So many deliveries to nodes each second are borne; of 1.5 KB, 15 MB/s out of all API servers together.
const DELIVERIES: f64 = 10_000.0;

/// Statuses written each second, all networks together.
pub fn per_second(nodes: usize) -> f64 {
    let nodes = u32::try_from(nodes.max(1)).unwrap_or(u32::MAX);
    (DELIVERIES / f64::from(nodes)).clamp(1.0, 20.0)
}

/// When statuses were written, and how many more may be.
#[derive(Debug)]
pub struct Pace {
    written: HashMap<String, Instant>,
    allowance: f64,
    at: Instant,
}

/// A network whose status is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overdue {
    /// `namespace/name`.
    pub network: String,
    /// Whether more than the nodes' counts is out of date.
    pub urgent: bool,
}

impl Pace {
    /// Nothing has been written.
    pub fn new(now: Instant) -> Self {
        Self { written: HashMap::new(), allowance: 20.0, at: now }
    }

    /// Chooses what is written now: the urgent first, then what was written longest ago. The second value says
    /// when to ask again, if something has to wait.
    pub fn choose(
        &mut self,
        overdue: Vec<Overdue>,
        nodes: usize,
        now: Instant,
    ) -> (Vec<String>, Option<Instant>) {
        let pace = per_second(nodes);
        let more = now.saturating_duration_since(self.at).as_secs_f64() * pace;
        // What was not used for a second is lost.
        self.allowance = (self.allowance + more).min(pace.max(1.0));
        self.at = now;
        self.written.retain(|_, at| *at + EACH > now);
        let (mut ready, waiting): (Vec<_>, Vec<_>) =
            overdue.into_iter().partition(|one| !self.written.contains_key(&one.network));
        ready.sort_by_key(|one| !one.urgent);
        let mut chosen = Vec::new();
        let mut left = false;
        for one in ready {
            if self.allowance < 1.0 {
                left = true;
                break;
            }
            self.allowance -= 1.0;
            self.written.insert(one.network.clone(), now);
            chosen.push(one.network);
        }
        let next = waiting.iter().filter_map(|one| Some(*self.written.get(&one.network)? + EACH)).min();
        let refill = left.then(|| now + Duration::from_secs_f64((1.0 - self.allowance).max(0.05) / pace));
        (chosen, next.into_iter().chain(refill).min())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overdue(names: &[&str], urgent: bool) -> Vec<Overdue> {
        names.iter().map(|name| Overdue { network: (*name).to_owned(), urgent }).collect()
    }

    #[test]
    fn the_pace_falls_with_the_number_of_nodes() {
        for (nodes, pace) in [(0, 20.0), (1, 20.0), (500, 20.0), (1000, 10.0), (5000, 2.0), (50_000, 1.0)] {
            assert!((per_second(nodes) - pace).abs() < 1e-9, "{nodes}");
        }
    }

    #[test]
    fn one_network_is_written_at_once_and_then_at_most_every_five_seconds() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        assert_eq!(pace.choose(overdue(&["a"], false), 3, start).0, ["a"]);
        let (chosen, next) = pace.choose(overdue(&["a"], true), 3, start + Duration::from_secs(4));
        assert_eq!((chosen.len(), next), (0, Some(start + EACH)));
        assert_eq!(pace.choose(overdue(&["a"], false), 3, start + EACH).0, ["a"]);
    }

    #[test]
    fn what_is_urgent_comes_first_and_the_rest_waits_for_its_turn() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let mut all = overdue(&["a", "b", "c", "d"], false);
        all.extend(overdue(&["z"], true));
        let (chosen, next) = pace.choose(all.clone(), 5000, start);
        assert_eq!(chosen, ["z", "a"]);
        let next = next.unwrap();
        assert!(next > start && next <= start + Duration::from_millis(501), "{:?}", next - start);
        let left = all.into_iter().filter(|one| !chosen.contains(&one.network)).collect();
        assert_eq!(pace.choose(left, 5000, next + Duration::from_millis(1)).0, ["b"]);
    }
}
