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
/// The plugins of other networks are asked too, and what they say is logged and noted in the record; it fails the call
/// only with `"check": "all"`. Networks of a version without CHECK, or that say `disableCheck`, are passed over.
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
    let complaints = ask_plugins(call, &site, &record.attachments)?;
    note(call, record.clone(), complaints);
    let secondary = record.attachments.get(1..).unwrap_or_default();
    all_are_present(call, secondary, target.netns.as_deref())
}

/// What the plugins of each attachment complain of, which does not fail CHECK.
fn ask_plugins(
    call: &Call,
    site: &Site<'_>,
    attachments: &[AttachmentRecord],
) -> Result<Vec<Option<String>>, CniError> {
    let mut complaints = vec![None; attachments.len()];
    for (index, (attachment, complaint)) in attachments.iter().zip(&mut complaints).enumerate() {
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
                *complaint = Some(error.msg);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(complaints)
}

/// Writes complaints into the record, from where the node role tells of them, if they are others than before.
fn note(call: &Call, mut record: Record, complaints: Vec<Option<String>>) {
    let mut is_new = false;
    for (attachment, complaint) in record.attachments.iter_mut().zip(complaints) {
        is_new |= attachment.complaint != complaint;
        attachment.complaint = complaint;
    }
    if is_new && let Err(error) = record.write(&call.settings.directory) {
        // No reason to end a sandbox.
        call.log.warn("could not note what a plugin complained of", &[("error", &chain_text(&error))]);
    }
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
