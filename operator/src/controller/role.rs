//! The controller role as a whole.
//!
//! Every replica competes for the Lease. What only the leader does runs while it leads and is dropped, wherever it
//! waits, at the moment when it does not any more; it begins anew with complete lists. At the end the Lease is
//! given back, so that another replica takes over at once.

use std::convert::Infallible;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::{info, warn};

use super::known::State;
use super::lease::candidate::Terms;
use super::webhook::{self, Desk, Networks, networks};
use super::{certificate, conditions, lease, readiness, reports, shown, startup_taint};
use crate::admin::{self, Source};
use crate::args::ControllerArgs;
use crate::cluster::{self, ClusterError};
use crate::known::Known;
use crate::metrics::Metrics;
use crate::permissions::{Permissions, PermissionsError};
use crate::pod_rules::{PodRules, PodRulesError};
use crate::tasks::{self, TaskError, Tasks};
use crate::{Verdict, logs};

/// What cannot be done while the webhook's certificate is nobody's to make.
const SERVE_WEBHOOK: &str = "serve the webhook";
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
    /// A task cannot go on.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// The settings cannot be used.
    #[error(transparent)]
    Settings(#[from] PodRulesError),
    /// The rules for networks cannot be had.
    #[error(transparent)]
    Permissions(#[from] PermissionsError),
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
    let logs = logs::start(args.log_level);
    tasks::block_on(Box::pin(serve(args, logs)))??;
    Ok(Verdict::Fine)
}

async fn serve(args: &ControllerArgs, logs: logs::Handle) -> Result<(), RoleError> {
    let client = cluster::connect(args.kubeconfig.as_deref()).await?.client;
    let config = lease::Config {
        namespace: args.namespace.clone(),
        name: args.lease.clone(),
        identity: identity(args.identity.as_deref())?,
        terms: Terms::default(),
    };
    let (known, (metrics, mut registry)): (Arc<Known<State>>, _) = (Arc::default(), Metrics::new());
    metrics.register_controller(&mut registry);
    let rules = PodRules::read(args.settings.as_deref())?;
    let permissions = Permissions::read(args.permissions.as_deref())?;
    let networks = Arc::new(Networks::new(permissions.clone()));
    let desk = Arc::new(Desk { networks, rules, metrics: Arc::clone(&metrics) });
    let webhook = args.webhook_address.port() != 0;
    let source = {
        let (checked, shown_of, desk) = (Arc::clone(&known), Arc::clone(&known), Arc::clone(&desk));
        let checks = move || readiness::checks(&checked.look(), webhook.then_some(&*desk));
        Source::new(checks, move || shown::shown(&shown_of.look()), registry, logs)
    };
    let mut tasks = Tasks::new().add_lasting("admin server", admin::run(args.admin_address, source));
    if webhook {
        tasks = answer(tasks, args, &client, &desk, Arc::clone(&known));
    }
    let competes = {
        let (client, config, known) = (client.clone(), config.clone(), Arc::clone(&known));
        let duties = Duties { taint: args.startup_taint.clone(), permissions };
        async move { Ok::<_, Infallible>(compete(client, config, &duties, &known, &metrics).await) }
    };
    let leave = async {
        known.tell(|state| !std::mem::replace(&mut state.stopping, true));
        release(client, &config, &known).await;
    };
    Ok(Box::pin(tasks.add("leader election", competes).run(leave)).await?)
}

/// The tasks by which admission requests are answered.
fn answer(
    tasks: Tasks,
    args: &ControllerArgs,
    client: &Client,
    desk: &Arc<Desk>,
    known: Arc<Known<State>>,
) -> Tasks {
    let certificate = certificate::Config {
        namespace: args.namespace.clone(),
        secret: args.webhook_secret.clone(),
        service: args.webhook_service.clone(),
        configuration: args.webhook_configuration.clone(),
    };
    let (sender, tls) = watch::channel(None);
    let (client_of_it, metrics) = (client.clone(), Arc::clone(&desk.metrics));
    let keeps = async move {
        certificate::run(client_of_it, certificate, sender, metrics, known.watch(SERVE_WEBHOOK)).await
    };
    let follows = networks::follow(client.clone(), Arc::clone(&desk.networks), Arc::clone(&desk.metrics));
    tasks
        .add_lasting("webhook", webhook::run(args.webhook_address, tls, Arc::clone(desk)))
        .add("certificate", async move { Ok::<_, Infallible>(keeps.await) })
        .add("networks", async move { Ok::<_, Infallible>(follows.await) })
}

/// What a leader's work goes by.
#[derive(Debug, Default)]
struct Duties {
    /// The key of the taint that is taken off nodes; empty: of none.
    taint: String,
    /// What networks may use.
    permissions: Permissions,
}

/// Competes for the Lease, and leads while it is held.
async fn compete(
    client: Client,
    config: lease::Config,
    duties: &Duties,
    known: &Known<State>,
    metrics: &Metrics,
) -> Infallible {
    let (leads, leading) = watch::channel(false);
    info!(identity = config.identity, "competes for the Lease {}/{}", config.namespace, config.name);
    let identity = config.identity.clone();
    let leader = Box::pin(lead(&client, &identity, duties, leading, known, metrics));
    tokio::select! {
        never = lease::run(client.clone(), config, leads, known) => never,
        never = leader => never,
    }
}

/// Gives the Lease back. Nothing of a leader may run any more. Also one that is not known to hold the Lease
/// tries: its last request may have been taken.
async fn release(client: Client, config: &lease::Config, known: &Known<State>) {
    let held = known.look().leader == config.identity;
    match timeout(RELEASE, lease::release(client, config)).await {
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
    duties: &Duties,
    mut leading: watch::Receiver<bool>,
    known: &Known<State>,
    metrics: &Metrics,
) -> Infallible {
    loop {
        metrics.leader.set(0);
        if leading.wait_for(|leads| *leads).await.is_err() {
            // The competition has been dropped: so are we, in a moment.
            return std::future::pending().await;
        }
        metrics.leader.set(1);
        tokio::select! {
            // The loss is looked at first: nothing is written after it.
            biased;
            _ = leading.wait_for(|leads| !*leads) => {}
            never = reports::run(client.clone(), known, metrics) => match never {},
            never = conditions::run(client.clone(), identity, &duties.permissions, known, metrics) => match never {},
            never = startup_taint::run(client.clone(), &duties.taint, known, metrics) => match never {},
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

#[cfg(test)]
mod tests;
