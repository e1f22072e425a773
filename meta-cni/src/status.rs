//! STATUS: can ADD be served? Never waits.

use std::time::Duration;

use cni::chain;
use cni::{CniError, Code};
use store::node::NodeFacts;

use crate::call::{Call, store_error};
use crate::{networks, retired};

/// Fails with code 50 while the primary is not usable or the node directory has not been complete in this
/// boot. The primary's own STATUS keeps its code.
pub(crate) fn status(call: &Call) -> Result<(), CniError> {
    let settings = &call.settings;
    if settings.retired {
        return retired::status(call);
    }
    let unavailable = |error: CniError| CniError { code: Code::NOT_AVAILABLE, ..error };
    networks::readiness(settings, Duration::ZERO).map_err(|error| unavailable(error.to_cni_error()))?;
    let facts = NodeFacts::read(&settings.directory).map_err(|error| unavailable(store_error(&error)))?;
    if facts.is_none() {
        let msg = format!(
            "{} does not say that this node's networks are complete since it started; Braid's node role writes \
             it: see that it runs on this node and reaches the API server",
            settings.directory.node().display()
        );
        return Err(CniError::new(Code::NOT_AVAILABLE, msg));
    }
    let impatient = store::settings::Settings { readiness_wait: Duration::ZERO, ..settings.clone() };
    let primary = networks::primary(&impatient).map_err(|error| unavailable(error.to_cni_error()))?;
    let Some(primary) = primary.first() else { return Ok(()) };
    chain::status(&call.exec, &primary.list, &call.path)
        .map_err(|error| error.to_cni_error().of(format_args!("network {}", primary.network)))
}
