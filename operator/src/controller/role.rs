//! The controller role as a whole.
//!
//! Every replica competes for the Lease. What only the leader does runs while it leads and is dropped, wherever it
//! waits, at the moment when it does not any more; it begins anew with complete lists. At the end the Lease is
//! given back, so that another replica takes over at once.

use std::convert::Infallible;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use kube::Client;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::{info, warn};

use super::known::State;
use super::lease::candidate::Terms;
use super::{conditions, lease, reports};
use crate::args::ControllerArgs;
use crate::cluster::{self, ClusterError};
use crate::known::Known;
use crate::metrics::Metrics;
use crate::{Verdict, logs};

/// Giving the Lease back must not hold up the end: in 15 s others take it anyway.
const RELEASE: Duration = Duration::from_millis(1500);

const HOST_NAME: &str = "/proc/sys/kernel/hostname";
const RANDOM_UUID: &str = "/proc/sys/kernel/random/uuid";

/// Why the role ended, or never began.
#[derive(Debug, thiserror::Error)]
pub enum RoleError {
    /// No client of the API server.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// No runtime, or no signals.
    #[error("start: {what}")]
    Start {
        /// What was attempted.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// This process cannot tell who it is.
    #[error("make up this replica's identity: read {path}; a name can be given with --identity", path = path.display())]
    Identity {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Runs the role until it is told to stop.
pub fn run(args: &ControllerArgs) -> Result<Verdict, RoleError> {
    logs::start(args.log_level);
    let start = |what| move |source| RoleError::Start { what, source };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(start("the runtime"))?;
    let verdict = runtime.block_on(async {
        let stop = Stop::new().map_err(start("listen to signals"))?;
        let client = cluster::client(args.kubeconfig.as_deref()).await?;
        let config = lease::Config {
            namespace: args.namespace.clone(),
            name: args.lease.clone(),
            identity: identity(args.identity.as_deref())?,
            terms: Terms::default(),
        };
        let (metrics, _) = Metrics::new();
        let known = Known::default();
        serve(client, config, &known, &metrics, stop.wait()).await;
        Ok(Verdict::Fine)
    });
    // Nothing that still waits for an answer is waited for.
    runtime.shutdown_background();
    verdict
}

/// Competes and leads until `stop`, then gives the Lease back.
pub async fn serve(
    client: Client,
    config: lease::Config,
    known: &Known<State>,
    metrics: &Metrics,
    stop: impl Future<Output = ()>,
) {
    let (leads, leading) = watch::channel(false);
    info!(identity = config.identity, "competes for the Lease {}/{}", config.namespace, config.name);
    let leader = Box::pin(lead(&client, &config.identity, leading, known, metrics));
    tokio::select! {
        never = lease::run(client.clone(), config.clone(), leads, known) => match never {},
        never = leader => match never {},
        () = stop => info!("stops"),
    }
    // Here neither a renewal nor anything of a leader runs any more. Also one that is not known to hold the Lease
    // tries: its last request may have been taken.
    let held = known.look().leader == config.identity;
    match timeout(RELEASE, lease::release(client, &config)).await {
        Ok(Ok(true)) => info!("gave the Lease back"),
        Ok(Err(error)) if held => {
            warn!(%error, "cannot give the Lease back; another replica takes it in 15 s");
        }
        Err(_) if held => warn!("cannot give the Lease back in time; another replica takes it in 15 s"),
        Ok(Ok(false) | Err(_)) | Err(_) => {}
    }
}

/// Does what only a leader does, while this replica leads.
async fn lead(
    client: &Client,
    identity: &str,
    mut leading: watch::Receiver<bool>,
    known: &Known<State>,
    metrics: &Metrics,
) -> Infallible {
    loop {
        if leading.wait_for(|leads| *leads).await.is_err() {
            // The competition has been dropped: so are we, in a moment.
            return std::future::pending().await;
        }
        tokio::select! {
            // The loss is looked at first: nothing is written after it.
            biased;
            _ = leading.wait_for(|leads| !*leads) => {}
            never = reports::run(client.clone(), known, metrics) => match never {},
            never = conditions::run(client.clone(), identity, known, metrics) => match never {},
        }
        known.tell(|state| {
            state.forget();
            true
        });
    }
}

/// This process and no other: two of one identity would both lead. So even a name that was given gets an addition.
fn identity(given: Option<&str>) -> Result<String, RoleError> {
    let read = |path: &str| {
        let text = std::fs::read_to_string(path);
        text.map_err(|source| RoleError::Identity { path: PathBuf::from(path), source })
    };
    let name = match given {
        Some(name) => name.to_owned(),
        None => read(HOST_NAME)?,
    };
    Ok(format!("{}_{}", name.trim(), read(RANDOM_UUID)?.trim()))
}

/// The signals that end the process.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn wait(mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests;
