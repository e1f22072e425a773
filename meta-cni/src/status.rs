//! STATUS: can ADD be served? Never waits.

use std::time::Duration;

use cni::chain;
use cni::{CniError, Code};
use store::node::NodeFacts;
use store::settings::Settings;

use crate::call::{Call, store_error};
use crate::{networks, retired};

/// Fails with code 50 while a pod without further networks could not be attached: the primary is not usable, or its
/// readiness file is missing. The primary's own STATUS keeps its code.
///
/// Runtimes make a node NotReady while STATUS fails (containerd 2), so that no pod starts there and those that run are
/// evicted in time. That the node's networks are not complete concerns pods that ask for one: their ADD says so. It
/// fails STATUS only with `statusNeedsNetworks`.
pub(crate) fn status(call: &Call) -> Result<(), CniError> {
    let settings = &call.settings;
    if settings.retired {
        return retired::status(call);
    }
    let unavailable = |error: CniError| CniError { code: Code::NOT_AVAILABLE, ..error };
    networks::readiness(settings, Duration::ZERO).map_err(|error| unavailable(error.to_cni_error()))?;
    if settings.status_needs_networks {
        networks_are_complete(settings).map_err(unavailable)?;
    }
    let impatient = Settings { readiness_wait: Duration::ZERO, ..settings.clone() };
    let primary = networks::primary(&impatient).map_err(|error| unavailable(error.to_cni_error()))?;
    let Some(primary) = primary.first() else { return Ok(()) };
    chain::status(&call.exec, &primary.list, &call.path)
        .map_err(|error| error.to_cni_error().of(format_args!("network {}", primary.network)))
}

fn networks_are_complete(settings: &Settings) -> Result<(), CniError> {
    if NodeFacts::read(&settings.directory).map_err(|error| store_error(&error))?.is_some() {
        return Ok(());
    }
    let msg = format!(
        "{} does not say that this node's networks are complete since it started; Braid's node role writes it: see that \
         it runs on this node and reaches the API server",
        settings.directory.node().display()
    );
    Err(CniError::new(Code::NOT_AVAILABLE, msg))
}
