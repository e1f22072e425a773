//! DEL of a container that Braid knows nothing of.
//!
//! Runtimes run DEL with the configuration of today: a pod that Multus, or its primary alone, attached before Braid was
//! installed is detached through `meta-cni`. Nobody else would free its addresses.

use cni::CniError;
use cni::env::Target;
use cni::exec::Exec;
use cni::netns::NetnsId;
use cni::skel::Request;
use store::lookup::{self, Found};
use store::record::{AttachmentRecord, Phase, Record, RecordKey, now_ms};
use store::settings::SettingsError;

use crate::call::Call;
use crate::{del, multus, pod, retired, settled};

/// Settings that say which network is the primary.
const OF_PRIMARY: &[&str] =
    &["clusterNetwork", "delegates", "multusAutoconfigDir", "confDir", "multusNamespace"];

/// Undoes what a container without a record has: what Multus wrote down, else the primary as it is now. The caller
/// holds the container's lock.
///
/// What cannot be undone is recorded from then on, so that it is tried again as anything else is.
pub(crate) fn undo(call: &Call, target: &Target, request: &Request) -> Result<(), CniError> {
    let key = RecordKey { container_id: target.container_id.clone(), if_name: target.if_name.clone() };
    if settled::is_noted(&call.settings.directory, &key) {
        call.log.info("nothing is left of the container: nothing to undo", &[]);
        return Ok(());
    }
    let retired = call.settings.retired;
    if retired && retired::multus_is_next(call) {
        return retired::del(call, target, request);
    }
    if let Some(attachments) = multus::attachments(call, target) {
        return undo_left_by_multus(call, target, attachments, &call.exec);
    }
    let primary = if retired {
        retired::del(call, target, request)?;
        None
    } else {
        primary(call).map(|primary| of_primary(call, target, request, primary))
    };
    if primary.is_none() && !multus::left_a_file(call, &target.container_id) {
        return Ok(());
    }
    // A file of Multus that cannot be read makes this fail, and is told of for as long as it is there.
    let record = record(call, target, primary.into_iter().collect());
    del::undo_record(call, record, target.netns.clone(), &call.exec)
}

/// Undoes what Multus wrote down of a container.
pub(crate) fn undo_left_by_multus(
    call: &Call,
    target: &Target,
    attachments: Vec<AttachmentRecord>,
    exec: &dyn Exec,
) -> Result<(), CniError> {
    call.log.info(
        "nothing is recorded: undoing what Multus attached",
        &[("container", &target.container_id), ("networks", &attachments.len())],
    );
    del::undo_record(call, record(call, target, attachments), target.netns.clone(), exec)
}

/// The primary of today; `None`, which is logged, where it cannot be known.
fn primary(call: &Call) -> Option<Found> {
    let is_of_primary = |error: &&SettingsError| OF_PRIMARY.iter().any(|key| error.setting.starts_with(key));
    if let Some(error) = call.unreadable.iter().find(is_of_primary) {
        // With the default for it another network would be undone.
        call.log.warn(
            "nothing is recorded, and the primary is not known: nothing is undone",
            &[("error", error)],
        );
        return None;
    }
    match lookup::primary(&call.settings) {
        Ok(found) => found.into_iter().next(),
        Err(error) => {
            let error = error.to_cni_error();
            call.log.warn(
                "nothing is recorded, and the primary cannot be found: nothing is undone",
                &[("error", &error.msg)],
            );
            None
        }
    }
}

/// What there would be, had Braid attached the container to its primary alone.
fn of_primary(call: &Call, target: &Target, request: &Request, primary: Found) -> AttachmentRecord {
    call.log.info("nothing is recorded: undoing the primary", &[("network", &primary.list.name)]);
    let Found { network, list, .. } = primary;
    AttachmentRecord {
        network: network.as_ref().map_or_else(|| list.name.to_string(), ToString::to_string),
        network_ref: network,
        if_name: target.if_name.clone(),
        list,
        args: target.args.clone(),
        capabilities: call.runtime.clone(),
        // One that cannot be read is as good as none: plugins have to do without.
        result: request.prev_result().ok().flatten(),
        default_route: Vec::new(),
        add_us: None,
    }
}

/// The record that there would be, had Braid made the attachments.
fn record(call: &Call, target: &Target, attachments: Vec<AttachmentRecord>) -> Record {
    Record {
        phase: Phase::Deleting,
        container_id: target.container_id.clone(),
        if_name: target.if_name.clone(),
        netns: target.netns.clone(),
        netns_id: target.netns.as_deref().and_then(|path| NetnsId::of(path).ok()),
        boot_id: store::boot::boot_id(),
        pod: pod::identity(&target.args),
        path: call.path.clone(),
        created_ms: now_ms(),
        attachments,
        abandoned: None,
        failure: None,
    }
}
