//! The status of networks: what the controller finds and the nodes report.
//!
//! One loop looks at everything that is known, compares what each network shows with what it should show
//! ([`desired`]), and writes what differs at a bearable pace ([`pace`]). It is level-triggered: what could not be
//! written, was changed meanwhile, or was missed is found again with the next look.
//!
//! Where somebody else has installed the definition of networks without `status`, or without our fields, one network is tried every
//! [`PROBE`], and events are all that tells of networks that are not valid.

pub mod desired;
pub mod pace;
mod watching;
mod write;

use std::collections::{BTreeMap, HashSet};
use std::convert::Infallible;
use std::time::Duration;

use crds::NetworkAttachmentDefinitionStatus;
use futures::{StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Client;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::warn;

use super::known::{Content, Network, State};
use crate::known::Known;
use crate::metrics::{ByOutcome, Metrics, Outcome};
use crate::permissions::Permissions;
use desired::Finding;
use pace::{Overdue, Pace};
use write::{Told, Written};

/// After so long it is tried again whether networks have a status.
pub const PROBE: Duration = Duration::from_secs(600);
/// News within this time are one look.
const SETTLE: Duration = Duration::from_millis(500);
/// The nodes' reports are waited for so long before the first status is written without them.
const FIRST: Duration = Duration::from_secs(10);
/// Writes under way at a time.
const WRITES: usize = 4;
/// One write.
const LONGEST_WRITE: Duration = Duration::from_secs(15);
/// After writes that failed.
const PAUSE: Duration = Duration::from_secs(10);

const WRITE_STATUS: &str = "write the status of networks";
const WRITE_EVENT: &str = "write events of networks";

/// Keeps the status of all networks right for ever. `reporter` is this process, for events.
pub async fn run(
    client: Client,
    reporter: &str,
    permissions: &Permissions,
    known: &Known<State>,
    metrics: &Metrics,
) -> Infallible {
    tokio::select! {
        never = watching::run(client.clone(), permissions, known, metrics) => never,
        never = Writer::new(client, reporter, known, metrics).run() => never,
    }
}

struct Writer<'a> {
    client: Client,
    reporter: &'a str,
    known: &'a Known<State>,
    metrics: &'a Metrics,
    pace: Pace,
    told: Told,
    /// Statuses of networks that show nothing that can be read: written once, or there would be no end to it.
    blind: Told,
    begun: Instant,
    /// What was found when the networks had this revision.
    findings: Option<(u64, BTreeMap<String, Finding>)>,
    /// Until then it is taken for granted that networks have no status.
    without_status: Option<Instant>,
}

/// What one look found to be done.
struct Work {
    statuses: Vec<(Network, NetworkAttachmentDefinitionStatus)>,
    events: Vec<(Network, String)>,
    /// When to look again, whatever comes.
    again: Option<Instant>,
}

impl<'a> Writer<'a> {
    fn new(client: Client, reporter: &'a str, known: &'a Known<State>, metrics: &'a Metrics) -> Self {
        Self {
            client,
            reporter,
            known,
            metrics,
            pace: Pace::new(Instant::now()),
            told: Told::default(),
            blind: Told::default(),
            begun: Instant::now(),
            findings: None,
            without_status: None,
        }
    }

    async fn run(mut self) -> Infallible {
        let mut news = self.known.news();
        loop {
            news.mark_unchanged();
            let work = self.look(Instant::now());
            let planned = work.again;
            let failed = !self.write_events(work.events).await | !self.write_statuses(work.statuses).await;
            sleep(if failed { PAUSE } else { SETTLE }).await;
            // What was just learned of the status asks for a look, too, though nothing else is news.
            let again = planned.into_iter().chain(self.without_status).min();
            let wake = async {
                match again {
                    _ if failed => {}
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // Never an error: `known` outlives this.
                _ = news.changed() => {}
                () = wake => {}
            }
        }
    }

    /// Compares everything; touches nothing outside.
    fn look(&mut self, now: Instant) -> Work {
        let mut work = Work { statuses: Vec::new(), events: Vec::new(), again: None };
        let state = self.known.look();
        if !state.networks.complete {
            return work;
        }
        if !state.reports.complete && now < self.begun + FIRST {
            work.again = Some(self.begun + FIRST);
            return work;
        }
        if self.findings.as_ref().is_none_or(|(revision, _)| *revision != state.networks.revision) {
            self.findings = Some((state.networks.revision, desired::findings(&state.networks.all)));
            let uids: HashSet<_> = state.networks.all.values().map(|one| one.uid.as_str()).collect();
            self.told.keep(&uids);
            self.blind.keep(&uids);
        }
        let findings = self.findings.iter().flat_map(|(_, findings)| findings);
        let time = now_in_seconds();
        let mut overdue = Vec::new();
        for (key, finding) in findings {
            let Some(network) = state.networks.all.get(key) else { continue };
            if let Finding::Invalid { message, .. } = finding
                && !self.told.has(network)
            {
                work.events.push((network.clone(), message.clone()));
            }
            let (shown, desired) = (network.shown.as_ref(), desire(&state, key, network, finding, &time));
            if shown != Some(&desired) && !self.blind.has(network) {
                overdue.push(Overdue { network: key.clone(), urgent: !desired::tells(shown, &desired) });
            }
        }
        self.without_status = self.without_status.filter(|until| now < *until);
        if self.without_status.is_some() {
            work.again = self.without_status;
            return work;
        }
        if state.status_subresource == Some(false) {
            overdue.truncate(1);
        }
        let (chosen, again) = self.pace.choose(overdue, state.reports.tallies.nodes(), now);
        work.again = again;
        work.statuses = chosen
            .iter()
            .filter_map(|key| {
                let network = state.networks.all.get(key)?;
                let (_, findings) = self.findings.as_ref()?;
                Some((network.clone(), desire(&state, key, network, findings.get(key)?, &time)))
            })
            .collect();
        work
    }

    /// Whether nothing has failed.
    async fn write_events(&mut self, due: Vec<(Network, String)>) -> bool {
        for (network, message) in due {
            let event = write::event(&network, &message, self.reporter);
            let count = |outcome| {
                self.metrics.events.get_or_create(&ByOutcome { outcome }).inc();
            };
            match timeout(LONGEST_WRITE, write::publish(&self.client, &event)).await {
                Ok(Ok(new)) => {
                    count(if new { Outcome::ok } else { Outcome::moot });
                    self.known.well(WRITE_EVENT);
                    self.told.tell(&network);
                }
                Ok(Err(error)) => {
                    count(Outcome::retried);
                    self.known.trouble(WRITE_EVENT, &error);
                    return false;
                }
                Err(elapsed) => {
                    count(Outcome::retried);
                    self.known.trouble(WRITE_EVENT, &elapsed);
                    return false;
                }
            }
        }
        true
    }

    /// Whether nothing has failed.
    async fn write_statuses(&mut self, due: Vec<(Network, NetworkAttachmentDefinitionStatus)>) -> bool {
        let client = &self.client;
        let writes = due.iter().map(|(network, desired)| async move {
            (network, timeout(LONGEST_WRITE, write::status(client, network, desired)).await)
        });
        let mut writes = stream::iter(writes).buffer_unordered(WRITES);
        while let Some((network, written)) = writes.next().await {
            count(self.metrics, &written);
            match written {
                Ok(Ok(Written::Moot)) => {}
                Ok(Ok(Written::Done)) => {
                    self.known.well(WRITE_STATUS);
                    self.without_status = None;
                    if matches!(network.content, Content::Undecodable(_)) {
                        self.blind.tell(network);
                    }
                    note_status(self.known, true);
                }
                Ok(Ok(Written::NoStatus)) => {
                    self.without_status = Some(Instant::now() + PROBE);
                    note_status(self.known, false);
                }
                Ok(Err(error)) => {
                    self.known.trouble(WRITE_STATUS, &error);
                    return false;
                }
                Err(elapsed) => {
                    self.known.trouble(WRITE_STATUS, &elapsed);
                    return false;
                }
            }
        }
        true
    }
}

fn count(metrics: &Metrics, written: &Result<Result<Written, kube::Error>, Elapsed>) {
    let outcome = match written {
        Ok(Ok(Written::Done)) => Outcome::ok,
        Ok(Ok(Written::Moot)) => Outcome::moot,
        Ok(Ok(Written::NoStatus)) => Outcome::failed,
        Ok(Err(_)) | Err(_) => Outcome::retried,
    };
    metrics.status_writes.get_or_create(&ByOutcome { outcome }).inc();
}

fn desire(
    state: &State,
    key: &str,
    network: &Network,
    finding: &Finding,
    time: &Time,
) -> NetworkAttachmentDefinitionStatus {
    let tally = state.reports.complete.then(|| state.reports.tallies.of(key, network.generation));
    desired::status(network, finding, tally.as_ref(), time.clone())
}

/// As the API server keeps it: what comes back has to be equal.
fn now_in_seconds() -> Time {
    let now = Timestamp::now();
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}

fn note_status(known: &Known<State>, there: bool) {
    known.tell(|state| {
        let news = state.status_subresource != Some(there);
        if news && !there {
            warn!(
                "the definition of NetworkAttachmentDefinitions has no status here, so none is written; install \
                 Braid's definition to have it"
            );
        }
        state.status_subresource = Some(there);
        news
    });
}

#[cfg(test)]
mod tests;
