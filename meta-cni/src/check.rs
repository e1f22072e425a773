//! CHECK: does the sandbox still have its networks?

use std::path::Path;
use std::time::{Duration, Instant};

use cni::env::Target;
use cni::error::chain_text;
use cni::exec::ProcessExec;
use cni::skel::Request;
use cni::{CniError, Code};
use store::record::{AttachmentRecord, Phase, Record, RecordKey};
use store::settings::CheckScope;

use crate::attach::{Site, name};
use crate::call::{Call, store_error};
use crate::presence::Difference;
use crate::{hold, presence, retired};

/// How long all plugins of secondary networks have together, where what they say fails nothing.
const FOR_COMPLAINTS: Duration = Duration::from_secs(5);

/// What is wrong with each attachment and fails nothing.
type Complaints = Vec<Option<String>>;

/// Fails if the primary's plugins say so, or if the pod has lost what another network gave it.
///
/// The plugins of other networks are asked too, and what they say is logged and noted in the record; it fails the call
/// only with `"check": "all"`. Networks of a version without CHECK, or that say `disableCheck`, are passed over.
pub(crate) fn check(call: &Call, target: &Target, request: &Request) -> Result<(), CniError> {
    let dir = &call.settings.directory;
    let lock = hold::container(call, &target.container_id)?;
    let key = RecordKey { container_id: target.container_id.clone(), if_name: target.if_name.clone() };
    let Some(record) = Record::read(dir, &key).map_err(|error| store_error(&error))? else {
        let checked = if call.settings.retired {
            retired::check(call, target, request)
        } else {
            attached_by_others(call, target)
        };
        // Nothing of ours is left to be locked.
        lock.remove();
        return checked;
    };
    if record.phase != Phase::Attached {
        return Err(not_attached(target));
    }
    let site = Site {
        exec: &call.exec,
        container_id: &target.container_id,
        netns: target.netns.clone(),
        path: call.path_with(&record.path),
    };
    if let Some((primary, result)) = record.attachments.first().and_then(|it| Some((it, it.result.as_ref()?)))
    {
        tell_passed_over(call, primary, site.check(primary, result)?);
    }
    let mut complaints = vec![None; record.attachments.len()];
    if let Some(netns) = target.netns.as_deref() {
        compare(call, &record.attachments, netns, &mut complaints)?;
    }
    ask_secondaries(call, &site, &record.attachments, &mut complaints)?;
    note(call, record, complaints);
    Ok(())
}

/// A container without a record was attached before Braid was there. CRI-O looks every sandbox up when it starts, with
/// today's configuration: the pods of a node must not end because Braid has come to it.
fn attached_by_others(call: &Call, target: &Target) -> Result<(), CniError> {
    let present = target.netns.as_deref().map(presence::interfaces);
    if let Some(Ok(present)) = present
        && presence::has(&present, target.if_name.as_str())
    {
        call.log.info("no record of a container that has its interface: others attached it", &[]);
        return Ok(());
    }
    Err(not_attached(target))
}

fn not_attached(target: &Target) -> CniError {
    let msg = format!("container {} is not attached with interface {}", target.container_id, target.if_name);
    CniError::new(Code::UNKNOWN_CONTAINER, msg)
}

fn tell_passed_over(call: &Call, attachment: &AttachmentRecord, was_asked: bool) {
    if !was_asked {
        call.log.debug("a network without CHECK is passed over", &[("network", &attachment.network)]);
    }
}

/// Fails on the first secondary network of which the pod has lost something; what is only another than at ADD is a
/// complaint.
fn compare(
    call: &Call,
    attachments: &[AttachmentRecord],
    netns: &Path,
    complaints: &mut Complaints,
) -> Result<(), CniError> {
    if attachments.len() < 2 {
        return Ok(());
    }
    let present = match presence::interfaces_with_routes(netns) {
        Ok(present) => present,
        Err(error) => {
            // Nobody knows then, and a sandbox must not end for that.
            call.log.warn("the pod's interfaces cannot be seen", &[("error", &chain_text(&error))]);
            return Ok(());
        }
    };
    for (attachment, complaint) in attachments.iter().zip(complaints).skip(1) {
        if attachment.list.disable_check {
            continue;
        }
        match presence::difference(attachment, &present) {
            None => {}
            Some(Difference::Changed(what)) if call.settings.check == CheckScope::Present => {
                call.log.warn(
                    "a network is not as it was at ADD",
                    &[("network", &attachment.network), ("what", &what)],
                );
                *complaint = Some(what);
            }
            Some(Difference::Lost(what) | Difference::Changed(what)) => {
                return Err(CniError::new(Code::INTERNAL, what).of(name(attachment)));
            }
        }
    }
    Ok(())
}

/// Asks the plugins of secondary networks. Where what they say is only a complaint, they have a bounded time together: one
/// that hangs holds up no sandbox.
fn ask_secondaries(
    call: &Call,
    site: &Site<'_>,
    attachments: &[AttachmentRecord],
    complaints: &mut Complaints,
) -> Result<(), CniError> {
    let fails = call.settings.check == CheckScope::All;
    let bounded = ProcessExec { until: Some(Instant::now() + FOR_COMPLAINTS), ..call.exec.clone() };
    let exec = if fails { &call.exec } else { &bounded };
    let site = Site { exec, netns: site.netns.clone(), path: site.path.clone(), ..*site };
    for (attachment, complaint) in attachments.iter().zip(complaints).skip(1) {
        let Some(result) = &attachment.result else { continue };
        match site.check(attachment, result) {
            Ok(was_asked) => tell_passed_over(call, attachment, was_asked),
            Err(error) if fails => return Err(error),
            Err(error) => {
                call.log.warn(
                    "a plugin is not content with its network; only what the pod has lost fails CHECK",
                    &[("network", &attachment.network), ("error", &error.msg)],
                );
                *complaint = Some(error.msg);
            }
        }
    }
    Ok(())
}

/// Writes complaints into the record, from where the node role tells of them, if they are others than before.
fn note(call: &Call, mut record: Record, complaints: Complaints) {
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
