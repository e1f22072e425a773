//! One leader among several replicas, by a Lease of the API server; kube-runtime has no election.
//!
//! The leader writes the Lease every [`Terms::retry`]. The others read it so often, and take it when nobody has
//! written it for [`Terms::duration`] by *their own* clock since *they* saw it change: the times in the Lease
//! are for people, and clocks are never compared. A leader that could not renew stops leading after
//! [`Terms::deadline`], counted from before its last successful write was sent: earlier than anybody else may
//! begin, as long as no clock runs half again as fast as another. Every write names the version that was seen.
//!
//! Who decides is [`candidate`], pure; here are the requests.
//!
//! Not guarded: a Lease that somebody deletes while a replica starts that has never seen it. The new one leads at
//! once, the old one learns of it with its next write, 2 s later.

pub mod candidate;

use std::convert::Infallible;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{info, warn};

use super::known::State;
use crate::cluster::{Meaning, meaning};
use crate::known::Known;
use candidate::{Answer, Candidate, Claim, Record, Step, Terms};

/// Who competes for which Lease.
#[derive(Debug, Clone)]
pub struct Config {
    /// The Lease's namespace.
    pub namespace: String,
    /// The Lease's name.
    pub name: String,
    /// This process, and no other: two of one identity would both lead.
    pub identity: String,
    /// How often, how long.
    pub terms: Terms,
}

const RENEW: &str = "read or write the Lease";

/// How often giving the Lease back is tried again when somebody has written it meanwhile.
const RELEASES: u32 = 3;

/// Competes for ever; `leading` says whether this process leads, and is false no later than the deadline after
/// the last renewal. Dropped, it leaves the Lease as it is: see [`release`].
pub async fn run(
    client: Client,
    config: Config,
    leading: watch::Sender<bool>,
    known: &Known<State>,
) -> Infallible {
    let mut wire = Wire::new(client, &config);
    let mut candidate = Candidate::new(config.identity.clone(), config.terms);
    loop {
        let now = Instant::now();
        publish(&candidate, now, &leading, known);
        let expiry = expiry(candidate.leads_until(now));
        match candidate.next(now) {
            Step::Rest(until) => tokio::select! {
                () = sleep_until(until) => {}
                () = expiry => {}
            },
            step => {
                let ask = timeout(config.terms.deadline / 2, wire.ask(&step, known));
                let answer = tokio::select! {
                    answer = ask => answer.unwrap_or(Answer::Failed),
                    // Nothing may be in the way of stopping; what the request came to is read afterwards.
                    () = expiry => Answer::Failed,
                };
                candidate.answered(step, now, Instant::now(), answer);
            }
        }
    }
}

async fn expiry(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn publish(candidate: &Candidate, now: Instant, leading: &watch::Sender<bool>, known: &Known<State>) {
    let leads = candidate.leads(now);
    let leader = candidate.holder();
    known.tell(|state| {
        let news = state.leading != leads || state.leader != leader;
        if state.leader != leader {
            info!(leader, "the Lease has another holder");
        }
        state.leading = leads;
        leader.clone_into(&mut state.leader);
        news
    });
    leading.send_if_modified(|was| {
        let news = *was != leads;
        match (news, leads) {
            (false, _) => {}
            (true, true) => info!("leads now"),
            (true, false) => warn!("does not lead any more"),
        }
        *was = leads;
        news
    });
}

/// Gives the Lease back if this process holds it, so that the next takes over at once. Call it when [`run`] is
/// dropped and everything that only a leader does has stopped; whether the Lease was given back.
pub async fn release(client: Client, config: &Config) -> Result<bool, kube::Error> {
    let api: Api<Lease> = Api::namespaced(client, &config.namespace);
    for attempt in 1.. {
        let Some(mut lease) = api.get_opt(&config.name).await? else { return Ok(false) };
        if record(&lease).holder != config.identity {
            return Ok(false);
        }
        let spec = lease.spec.get_or_insert_default();
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        spec.renew_time = Some(MicroTime(Timestamp::now()));
        match api.replace(&config.name, &PostParams::default(), &lease).await {
            Ok(_) => return Ok(true),
            // A renewal that was under way has come first.
            Err(error) if meaning(&error) == Meaning::Conflict && attempt < RELEASES => {}
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

/// The Lease as it was last seen, and how to reach it.
struct Wire {
    api: Api<Lease>,
    name: String,
    namespace: String,
    metadata: ObjectMeta,
}

impl Wire {
    fn new(client: Client, config: &Config) -> Self {
        Self {
            api: Api::namespaced(client, &config.namespace),
            name: config.name.clone(),
            namespace: config.namespace.clone(),
            metadata: ObjectMeta::default(),
        }
    }

    async fn ask(&mut self, step: &Step, known: &Known<State>) -> Answer {
        let params = PostParams::default();
        let asked = match step {
            Step::Rest(_) => return Answer::Failed,
            Step::Read => self.api.get(&self.name).await,
            Step::Create(claim) => self.api.create(&params, &lease(self.fresh(), claim)).await,
            Step::Update(claim, _) => {
                self.api.replace(&self.name, &params, &lease(self.metadata.clone(), claim)).await
            }
        };
        match asked {
            Ok(lease) => {
                known.well(RENEW);
                let record = record(&lease);
                self.metadata = ObjectMeta { managed_fields: None, ..lease.metadata };
                Answer::Seen(record)
            }
            Err(error) => match (meaning(&error), step) {
                (Meaning::Gone, Step::Read | Step::Update(..)) => Answer::Absent,
                (Meaning::Conflict, _) => Answer::Conflict,
                _ => {
                    known.trouble(RENEW, &error);
                    Answer::Failed
                }
            },
        }
    }

    fn fresh(&self) -> ObjectMeta {
        ObjectMeta {
            name: Some(self.name.clone()),
            namespace: Some(self.namespace.clone()),
            ..ObjectMeta::default()
        }
    }
}

/// What matters of a Lease.
fn record(lease: &Lease) -> Record {
    let spec = lease.spec.clone().unwrap_or_default();
    let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    Record {
        holder: spec.holder_identity.unwrap_or_default(),
        duration: Duration::from_secs(seconds.unwrap_or_default()),
        transitions: spec.lease_transitions.unwrap_or_default(),
        acquired: spec.acquire_time.map(|time| time.0),
        version: lease.metadata.resource_version.clone().unwrap_or_default(),
    }
}

fn lease(metadata: ObjectMeta, claim: &Claim) -> Lease {
    let now = Timestamp::now();
    Lease {
        metadata,
        spec: Some(LeaseSpec {
            holder_identity: Some(claim.holder.clone()),
            lease_duration_seconds: i32::try_from(claim.duration.as_secs()).ok(),
            lease_transitions: Some(claim.transitions),
            acquire_time: Some(MicroTime(claim.acquired.unwrap_or(now))),
            renew_time: Some(MicroTime(now)),
            ..LeaseSpec::default()
        }),
    }
}

#[cfg(test)]
mod tests;
