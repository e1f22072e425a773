//! The node role as a whole: which tasks it has, and what is done at its end.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tracing::info;

use super::install::{self, Host, InstallError};
use super::{abandoned, network_status, networks, pods, readiness, records, report, shown};
use crate::admin::{self, Source};
use crate::args::NodeArgs;
use crate::cluster::{self, ClusterError, Connection};
use crate::known::{Known, State};
use crate::metrics::Metrics;
use crate::permissions::{Permissions, PermissionsError};
use crate::tasks::{self, TaskError, Tasks};
use crate::{Verdict, events, logs};

const HOST_NAME: &str = "/proc/sys/kernel/hostname";

/// Why the role ended, or never began.
#[derive(Debug, thiserror::Error)]
pub enum RoleError {
    /// No client of the API server.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The plugin to install is not known.
    #[error(transparent)]
    Install(#[from] InstallError),
    /// The rules for networks cannot be had.
    #[error(transparent)]
    Permissions(#[from] PermissionsError),
    /// A task cannot go on.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// The node has no name.
    #[error("find this node's name: read {HOST_NAME}; --node-name names it otherwise")]
    NodeName(#[source] io::Error),
}

/// Runs the role until it is told to stop.
pub fn run(args: &NodeArgs) -> Result<Verdict, RoleError> {
    let logs = logs::start(args.log_level);
    tasks::block_on(serve(args, logs))??;
    Ok(Verdict::Fine)
}

async fn serve(args: &NodeArgs, logs: logs::Handle) -> Result<(), RoleError> {
    let node = node_name(args)?;
    let Connection { client, restored } = cluster::connect(args.kubeconfig.as_deref()).await?;
    let dir = args.directory();
    let (host, permissions) = (Host::of(args)?, Permissions::read(args.permissions.as_deref())?);
    let (known, (metrics, mut registry)): (Arc<Known>, _) = (Arc::default(), Metrics::new());
    metrics.register_node(&mut registry, Arc::clone(&known));
    known.look().boot_id = store::boot::boot_id();
    let (told, queue) = events::channel(args.pod_events, Arc::clone(&metrics));
    info!(node, version = env!("CARGO_PKG_VERSION"), run = %dir.run().display(), "the node role starts");
    let source = {
        let (checked, shown_of, started) = (Arc::clone(&known), Arc::clone(&known), SystemTime::now());
        let state = move || shown::shown(&shown_of.look(), started, SystemTime::now());
        Source::new(move || readiness::checks(&checked.look()), state, registry, logs)
    };
    let (of, counted) = (|| Arc::clone(&known), || Arc::clone(&metrics));
    let on = report::Occasions {
        interval: Duration::from_secs(args.report_interval),
        readiness: unready,
        restored,
    };
    let tasks = Tasks::new()
        .add_lasting("admin server", admin::run(args.admin_address, source))
        .add("networks", networks::run(client.clone(), dir.clone(), permissions, of(), counted()))
        .add("pods", pods::run(client.clone(), node.clone(), dir.clone(), of(), counted()))
        .add("records", records::run(dir.clone(), of(), counted()))
        .add("network-status", network_status::run(client.clone(), of(), counted(), told.clone()))
        .add("abandoned records", abandoned::run(dir.clone(), of(), told))
        .add("events", events::run(client.clone(), node.clone(), queue, counted()))
        .add("install", install::run(host.clone(), dir.clone(), of()))
        .add("report", report::run(client.clone(), node, on, of(), counted()));
    let leave = async {
        known.tell(|state| !std::mem::replace(&mut state.stopping, true));
        // What became of it is in the log.
        let _ = install::leave(&host, &dir, args.daemonset.as_deref(), client).await;
    };
    Ok(Box::pin(tasks.run(leave)).await?)
}

fn node_name(args: &NodeArgs) -> Result<String, RoleError> {
    if let Some(name) = &args.node_name {
        return Ok(name.clone());
    }
    let name = std::fs::read_to_string(HOST_NAME).map_err(RoleError::NodeName)?;
    // As the kubelet makes a node's name of the host's.
    Ok(name.trim().to_lowercase())
}

/// Why pods cannot be attached; that we are about to end does not keep them from it.
fn unready(state: &State) -> Vec<String> {
    let wrong = readiness::checks(state).into_iter().filter(|check| check.name != "process");
    wrong.filter_map(|check| Some(format!("{}: {}", check.name, check.result.err()?))).collect()
}
