//! DEL: undo what the record says, in reverse, whatever fails.
//!
//! The record alone says what there is to undo; a container without one may be the primary's, or Multus's
//! ([`foreign`]). What could not be undone stays recorded and is tried again: by the runtime, and by later runs of any
//! verb on this node.

use cni::env::Target;
use cni::skel::Request;
use cni::{CniError, point};
use store::StoreError;
use store::record::{Record, RecordKey};

use crate::call::{Call, store_error};
use crate::undo::{self, Left};
use crate::{foreign, hold, turn};

/// Undoes a container's attachments.
///
/// *Guarantees*: safe to repeat; needs neither the NetworkAttachmentDefinition nor the pod nor the namespace.
/// Success means that everything was undone or is gone with the namespace, or that what is left was attempted for the
/// whole of `missingPluginGrace`, need not hold the pod, and stays recorded.
pub(crate) fn del(call: &Call, target: &Target, request: &Request) -> Result<(), CniError> {
    let dir = &call.settings.directory;
    let _turn = turn::to_detach(call);
    let _shared = hold::shared(call)?;
    let lock = hold::container(call, &target.container_id)?;
    point::reached("del: locked");
    let key = RecordKey { container_id: target.container_id.clone(), if_name: target.if_name.clone() };
    let left = match Record::read(dir, &key).map_err(|error| unreadable(&error, &key))? {
        Some(record) => undo::undo_record(call, record, target.netns.as_deref(), &call.exec)?,
        None => foreign::undo(call, target, request)?,
    };
    point::reached("del: done");
    if left == Left::Nothing {
        lock.remove();
    }
    Ok(())
}

/// A record that cannot be read holds its pod until somebody acts.
fn unreadable(error: &StoreError, key: &RecordKey) -> CniError {
    let mut told = store_error(error);
    if matches!(error, StoreError::Damaged { .. }) {
        let id = &key.container_id;
        told.msg =
            format!("{}; to give up what it holds, run `meta-cni give-up {id}` on this node", told.msg);
    }
    told
}
