//! DEL of a container that Braid knows nothing of.
//!
//! Runtimes run DEL with the configuration of today: a pod that Multus, or its primary alone, attached before Braid was
//! installed is detached through `meta-cni`. Nobody else would free its addresses.

use std::io;

use cni::config::directory::LoadError;
use cni::env::Target;
use cni::exec::Exec;
use cni::netns::NetnsId;
use cni::skel::Request;
use cni::{CniError, Code};
use store::lookup::{self, Found, LookupError};
use store::record::{AttachmentRecord, Phase, Record, RecordKey, now_ms};
use store::settings::{PrimarySource, SettingsError};

use crate::call::Call;
use crate::undo::{self, Left};
use crate::{multus, pod, retired, settled};

/// Settings that say which network is the primary.
const OF_PRIMARY: &[&str] =
    &["clusterNetwork", "delegates", "multusAutoconfigDir", "confDir", "multusNamespace"];

/// Undoes what a container without a record has: what Multus wrote down, else the primary as it is now. The caller
/// holds the container's lock.
///
/// What cannot be undone is recorded from then on, so that it is tried again as anything else is.
pub(crate) fn undo(call: &Call, target: &Target, request: &Request) -> Result<Left, CniError> {
    let key = RecordKey { container_id: target.container_id.clone(), if_name: target.if_name.clone() };
    if settled::is_noted(&call.settings.directory, &key) {
        call.log.info("nothing is left of the container: nothing to undo", &[]);
        return Ok(Left::Nothing);
    }
    let retired = call.settings.retired;
    if retired && retired::multus_is_next(call) {
        return retired::del(call, target, request).map(|()| Left::Nothing);
    }
    if let Some(attachments) = multus::attachments(call, target) {
        return undo_left_by_multus(call, target, attachments, &call.exec);
    }
    let primary = if retired {
        retired::del(call, target, request)?;
        None
    } else {
        primary(call)?.map(|primary| of_primary(call, target, request, primary))
    };
    if primary.is_none() && !multus::left_a_file(call, &target.container_id) {
        return Ok(Left::Nothing);
    }
    // A file of Multus that cannot be read makes this fail, and is told of for as long as it is there.
    let record = record(call, target, primary.into_iter().collect());
    undo::undo_record(call, record, target.netns.as_deref(), &call.exec)
}

/// Undoes what Multus wrote down of a container.
pub(crate) fn undo_left_by_multus(
    call: &Call,
    target: &Target,
    attachments: Vec<AttachmentRecord>,
    exec: &dyn Exec,
) -> Result<Left, CniError> {
    call.log.info(
        "nothing is recorded: undoing what Multus attached",
        &[("container", &target.container_id), ("networks", &attachments.len())],
    );
    undo::undo_record(call, record(call, target, attachments), target.netns.as_deref(), exec)
}

/// The primary of today; `None`, which is logged, where there is none.
///
/// *Errors*: there may be one, and it is not known which: code 11. DEL must not succeed then, since nobody would undo
/// the primary later.
fn primary(call: &Call) -> Result<Option<Found>, CniError> {
    let unknown = |error: CniError| {
        let code = Code::TRY_AGAIN_LATER;
        CniError { code, ..error }.of("undo the primary network of a container that has no record")
    };
    let is_of_primary = |error: &&SettingsError| OF_PRIMARY.iter().any(|key| error.setting.starts_with(key));
    if let Some(error) = call.unreadable.iter().find(is_of_primary) {
        // With the default for it another network would be undone.
        return Err(unknown(CniError::from_chain(Code::INVALID_CONFIG, error)));
    }
    match lookup::primary(&call.settings) {
        Ok(found) => Ok(found.into_iter().next()),
        Err(error) if is_absence(&error, &call.settings.primary) => {
            let error = error.to_cni_error();
            call.log.warn(
                "nothing is recorded, and there is no primary network: nothing is undone",
                &[("error", &error.msg)],
            );
            Ok(None)
        }
        Err(error) => Err(unknown(error.to_cni_error())),
    }
}

/// Whether an error says that there is no primary, and not that it cannot be read at this moment. A file that vanishes
/// after its directory was listed is being replaced.
fn is_absence(error: &LookupError, source: &PrimarySource) -> bool {
    match error {
        LookupError::NoPrimary { .. } | LookupError::Unknown { .. } => true,
        LookupError::Load { source: LoadError::Read { source: cause, .. }, .. } => {
            cause.kind() == io::ErrorKind::NotFound && !matches!(source, PrimarySource::FirstIn(_))
        }
        _ => false,
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
        refused_by: None,
        add_us: None,
        seen: None,
        complaint: None,
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
