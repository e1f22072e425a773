//! Giving up a container that cannot be undone: says what stays behind, and forgets it.
//!
//! The last resort of a person, for a DEL that can never succeed: a device that cannot be found, a plugin whose own
//! state is lost, a record that cannot be read. Nothing is run.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use cni::reference::{self, Outside};
use cni::{CniError, Code};
use store::record::{AttachmentRecord, Phase, Record, RecordKey};
use store::{NodeDirectory, StoreError};

use crate::call::{Call, store_error};
use crate::{hold, settled};

/// Forgets a container's record; returns what stays behind, for people.
///
/// *Errors*: there is no such record, it is in use, or it is of a container that is attached and that nobody has tried
/// to undo.
pub(crate) fn give_up(call: &Call, key: &RecordKey) -> Result<String, CniError> {
    let dir = &call.settings.directory;
    let lock = hold::container(call, &key.container_id)?;
    let text = match Record::read(dir, key) {
        Ok(None) => {
            lock.remove();
            let msg = format!("no record {}: there is nothing to give up", dir.record(key).display());
            return Err(CniError::new(Code::UNKNOWN_CONTAINER, msg));
        }
        Ok(Some(record)) if record.phase == Phase::Attached => {
            let msg = format!(
                "container {} is attached, and no DEL of it has failed: delete its pod; the runtime calls DEL",
                key.container_id
            );
            return Err(CniError::new(Code::INVALID_ENVIRONMENT, msg));
        }
        Ok(Some(record)) => {
            Record::remove(dir, key).map_err(|error| store_error(&error))?;
            left_behind(&record)
        }
        Err(error @ (StoreError::Damaged { .. } | StoreError::Schema { .. })) => {
            let kept = set_aside(dir, key).map_err(|error| store_error(&error))?;
            format!(
                "what it held is not known, since its record cannot be read: {}\nits record was moved to {}\n",
                cni::error::chain_text(&error),
                kept.display()
            )
        }
        Err(error) => return Err(store_error(&error)),
    };
    settled::note(dir, key);
    lock.remove();
    call.log.warn("a container was given up", &[("container", &key.container_id), ("left", &text)]);
    Ok(text)
}

/// Moves a record that cannot be read to where the node role puts what it finds in the wrong place.
fn set_aside(dir: &NodeDirectory, key: &RecordKey) -> Result<PathBuf, StoreError> {
    store::shape::move_aside(dir.state(), &dir.record(key))
        .map_err(StoreError::write(&dir.record(key)))
        .and_then(|kept| Record::remove(dir, key).map(|_| kept))
}

/// What a record that is given up leaves, a line for each attachment.
fn left_behind(record: &Record) -> String {
    let netns = record.netns_for_undo(record.netns.as_deref()).ok().flatten();
    let mut text = String::new();
    for attachment in &record.attachments {
        // Writing to a text does not fail.
        let _ = writeln!(
            text,
            "network {}, interface {}: {}",
            attachment.network,
            attachment.if_name,
            of_attachment(attachment, netns.as_deref()).join("; ")
        );
    }
    if let Some(failure) = &record.failure {
        let _ = writeln!(
            text,
            "its DEL failed {} times, the last time with: {}",
            failure.attempts, failure.message
        );
    }
    text
}

fn of_attachment(attachment: &AttachmentRecord, netns: Option<&Path>) -> Vec<String> {
    let mut left = Vec::new();
    if let Some(netns) = netns {
        left.push(format!("the interface, in namespace {}, until that ends", netns.display()));
    }
    let ipam = attachment.list.plugins.iter().find_map(|plugin| plugin.ipam_type());
    if let Some(ipam) = ipam.filter(|ipam| *ipam != "static") {
        let ips = attachment.result.iter().flat_map(|result| &result.ips);
        let ips: Vec<_> = ips.map(|ip| ip.address.to_string()).collect();
        let which = if ips.is_empty() { "addresses, if any".to_owned() } else { ips.join(", ") };
        left.push(format!("{which}, which {ipam} may hold under \"{}\"", attachment.list.name));
    }
    for plugin in &attachment.list.plugins {
        let kind = plugin.plugin();
        match reference::leaves_outside(plugin) {
            Some(Outside::Nothing) => {}
            Some(Outside::Rules) => left.push(format!("packet filter rules of plugin {kind}")),
            None => left.push(format!("whatever plugin {kind} keeps outside of the namespace")),
        }
    }
    if left.is_empty() {
        left.push("nothing".to_owned());
    }
    left
}
