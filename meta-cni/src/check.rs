//! CHECK: does the sandbox still have its networks?

use std::path::Path;

use cni::env::Target;
use cni::error::chain_text;
use cni::skel::Request;
use cni::{CniError, Code};
use store::record::{AttachmentRecord, Phase, Record, RecordKey};
use store::settings::CheckScope;

use crate::attach::{Site, name};
use crate::call::{Call, store_error};
use crate::{hold, presence, retired};

/// Fails if the primary's plugins say so, or if the pod has lost what another network gave it.
///
/// The plugins of other networks are asked too, and what they say is logged; it fails the call only with
/// `"check": "all"`. Networks of a version without CHECK, or that say `disableCheck`, are passed over.
pub(crate) fn check(call: &Call, target: &Target, request: &Request) -> Result<(), CniError> {
    let dir = &call.settings.directory;
    let _lock = hold::container(call, &target.container_id)?;
    let key = RecordKey { container_id: target.container_id.clone(), if_name: target.if_name.clone() };
    let record = Record::read(dir, &key).map_err(|error| store_error(&error))?;
    if record.is_none() && call.settings.retired {
        return retired::check(call, target, request);
    }
    let Some(record) = record.filter(|record| record.phase == Phase::Attached) else {
        let msg = format!("container {} is not attached with interface {}", key.container_id, key.if_name);
        return Err(CniError::new(Code::UNKNOWN_CONTAINER, msg));
    };
    let site = Site {
        exec: &call.exec,
        container_id: &target.container_id,
        netns: target.netns.clone(),
        path: call.path_with(&record.path),
    };
    for (index, attachment) in record.attachments.iter().enumerate() {
        let Some(result) = &attachment.result else { continue };
        match site.check(attachment, result) {
            Ok(true) => {}
            Ok(false) => {
                call.log.debug("a network without CHECK is passed over", &[("network", &attachment.network)]);
            }
            Err(error) if index > 0 && call.settings.check == CheckScope::Present => {
                call.log.warn(
                    "a plugin is not content with its network; only what the pod has lost fails CHECK",
                    &[("network", &attachment.network), ("error", &error.msg)],
                );
            }
            Err(error) => return Err(error),
        }
    }
    let secondary = record.attachments.get(1..).unwrap_or_default();
    all_are_present(call, secondary, target.netns.as_deref())
}

/// Fails on the first attachment of which the pod has lost something.
fn all_are_present(
    call: &Call,
    attachments: &[AttachmentRecord],
    netns: Option<&Path>,
) -> Result<(), CniError> {
    let Some(netns) = netns.filter(|_| !attachments.is_empty()) else { return Ok(()) };
    let present = match presence::interfaces(netns) {
        Ok(present) => present,
        Err(error) => {
            // Nobody knows then, and a sandbox must not end for that.
            call.log.warn("the pod's interfaces cannot be seen", &[("error", &chain_text(&error))]);
            return Ok(());
        }
    };
    for attachment in attachments.iter().filter(|attachment| !attachment.list.disable_check) {
        if let Some(difference) = presence::difference(attachment, netns, &present) {
            return Err(CniError::new(Code::INTERNAL, difference).of(name(attachment)));
        }
    }
    Ok(())
}
