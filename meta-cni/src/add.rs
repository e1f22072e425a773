//! ADD: decide, record, attach, record, answer.

use cni::env::Target;
use cni::error::chain_text;
use cni::exec::{self, ExecError};
use cni::netns::NetnsId;
use cni::{AddResult, CniError, Code, SpecVersion, point, reference};
use store::lookup::LookupError;
use store::record::{AttachmentRecord, Phase, PodIdentity, Record, RecordKey, now_ms};

use crate::answer::answer;
use crate::attach::{AttachFailure, Site, name};
use crate::call::{Call, store_error};
use crate::plan::{Asked, Plan, Wanted, plan};
use crate::pod::{Wishes, wishes};
use crate::undo::{self, Left, Patience};
use crate::{earlier_sandboxes, hold, namespace, networks, presence, routes, settled, turn};

/// Attaches a container to its networks and returns what the runtime gets, which `version` can express.
///
/// *Guarantees*: nothing runs before the plan is whole and recorded. After a failure everything that ran is
/// undone in reverse; what could not be undone stays recorded for DEL.
pub(crate) fn add(call: &Call, target: &Target, version: SpecVersion) -> Result<AddResult, CniError> {
    let added = try_to_add(call, target, version);
    let dir = &call.settings.directory;
    let key = RecordKey { container_id: target.container_id.clone(), if_name: target.if_name.clone() };
    if added.is_err() && matches!(Record::read(dir, &key), Ok(None)) {
        // The DEL that follows has nothing to undo; above all no interface that was there before.
        settled::note(dir, &key);
        point::reached("add: refused");
    }
    added
}

fn try_to_add(call: &Call, target: &Target, version: SpecVersion) -> Result<AddResult, CniError> {
    let mut prepared = prepare(call, target)?;
    let turn = turn::to_attach(call)?;
    if turn.as_ref().is_some_and(|turn| turn.waited) {
        // What was so when it came, the pod's namespace included, need not be so now.
        prepared = prepare(call, target)?;
    }
    let Prepared { netns_id, pod, plan } = prepared;
    if let Some(pod) = &pod {
        earlier_sandboxes::are_few(call, &target.container_id, pod, &plan)?;
    }

    let _shared = hold::shared(call)?;
    let _lock = hold::container(call, &target.container_id)?;
    point::reached("add: locked");
    finish_earlier(call, target)?;
    names_are_free(call, target, &plan)?;
    let mut record = Record {
        phase: Phase::Intended,
        container_id: target.container_id.clone(),
        if_name: target.if_name.clone(),
        netns: target.netns.clone(),
        netns_id: Some(netns_id),
        boot_id: store::boot::boot_id(),
        pod,
        path: call.path.clone(),
        created_ms: now_ms(),
        attachments: Vec::new(),
        abandoned: None,
        failure: None,
    };
    run(call, &mut record, plan, version)
}

/// What is known before anything is done: where, for whom, and the whole plan.
struct Prepared {
    netns_id: NetnsId,
    pod: Option<PodIdentity>,
    plan: Plan,
}

/// Reads and decides; waits, within bounds, for what is not there yet.
fn prepare(call: &Call, target: &Target) -> Result<Prepared, CniError> {
    let netns_id = existing_namespace(target)?;
    let settings = &call.settings;
    networks::readiness(settings, settings.readiness_wait).map_err(|e| e.to_cni_error())?;
    let wishes = wishes(settings, &target.args, &call.runtime, &call.log).map_err(|e| e.to_cni_error())?;
    let pod = wishes.pod.clone();
    let wanted = load(call, wishes).map_err(|error| error.to_cni_error())?;
    let asked = Asked { if_name: &target.if_name, args: &target.args, capabilities: &call.runtime };
    let plan = plan(wanted, &asked).map_err(|error| error.to_cni_error())?;
    all_are_installed(call, &plan)?;
    Ok(Prepared { netns_id, pod, plan })
}

/// A namespace that is not there is refused before anything is planned.
pub(crate) fn existing_namespace(target: &Target) -> Result<NetnsId, CniError> {
    let path = target.netns.clone().unwrap_or_default();
    NetnsId::of(&path).map_err(|error| {
        let msg = format!("CNI_NETNS {} leads to no network namespace: {error}", path.display());
        CniError::new(Code::INVALID_NETNS, msg)
    })
}

/// Every network in order: the primary, other static delegates, default networks, the pod's selections.
fn load(call: &Call, wishes: Wishes) -> Result<Vec<Wanted>, LookupError> {
    let settings = &call.settings;
    let mut wanted = networks::primary(settings)?;
    if let Some(selection) = wishes.default_network {
        let chosen = networks::selected(settings, selection)?;
        match wanted.first_mut() {
            Some(primary) => *primary = chosen,
            None => wanted.push(chosen),
        }
    }
    if wishes.namespace.is_none_or(|namespace| !settings.system_namespaces.contains(&namespace)) {
        for reference in &settings.default_networks {
            wanted.push(networks::configured(settings, "defaultNetworks", reference)?);
        }
    }
    for selection in wishes.networks {
        wanted.push(networks::selected(settings, selection)?);
    }
    Ok(wanted)
}

/// A plugin that is not there is refused before anything runs: otherwise its part would stay recorded, to be
/// undone by a plugin that never was. So is an IPAM plugin that one of them is known to run.
fn all_are_installed(call: &Call, plan: &Plan) -> Result<(), CniError> {
    for attachment in &plan.attachments {
        for config in &attachment.list.plugins {
            let all = std::iter::once(config.plugin().clone()).chain(reference::ipam_run_by(config));
            if let Some(plugin) = all.into_iter().find(|plugin| exec::find(plugin, &call.path).is_none()) {
                let is_ipam = plugin != *config.plugin();
                let error = ExecError::NotFound { plugin, path: call.path.clone() }.to_cni_error();
                let error = if is_ipam {
                    error.of(format_args!("ipam of plugin {}", config.plugin()))
                } else {
                    error
                };
                return Err(error.of(name(attachment)));
            }
        }
    }
    Ok(())
}

const UNDO_EARLIER: &str = "undo what an earlier ADD of this container left";

/// What an earlier ADD of this container left. One that succeeded stands; the runtime has to DEL first. One
/// that was killed or failed is undone.
pub(crate) fn finish_earlier(call: &Call, target: &Target) -> Result<(), CniError> {
    let dir = &call.settings.directory;
    let key = RecordKey { container_id: target.container_id.clone(), if_name: target.if_name.clone() };
    let Some(earlier) = Record::read(dir, &key).map_err(|error| store_error(&error))? else { return Ok(()) };
    if earlier.phase == Phase::Attached {
        let msg = format!(
            "container {} is attached already with interface {}; the runtime has to call DEL before ADD",
            key.container_id, key.if_name
        );
        return Err(CniError::new(Code::INVALID_ENVIRONMENT, msg));
    }
    call.log.info("undoing what an earlier ADD left", &[]);
    let undone = undo::undo_record(call, earlier, target.netns.as_deref(), &call.exec);
    match undone.map_err(|error| error.of(UNDO_EARLIER))? {
        Left::Nothing => Ok(()),
        // A new record would hide what is still owed.
        Left::Owed(why) => Err(CniError::new(Code::TRY_AGAIN_LATER, why).of(UNDO_EARLIER)),
    }
}

/// An interface that is in the pod already belongs to somebody else. A plugin would fail at making it, and
/// undoing that would take it from its owner; so the plan is refused before anything is recorded or run.
fn names_are_free(call: &Call, target: &Target, plan: &Plan) -> Result<(), CniError> {
    let path = target.netns.clone().unwrap_or_default();
    let names: Vec<_> = plan.attachments.iter().map(|attachment| attachment.if_name.as_str()).collect();
    let taken = match namespace::taken(&path, &names) {
        Ok(taken) => taken,
        Err(error) => {
            // Plugins have to enter it too, and say what they make of it.
            call.log.debug("the pod's interfaces cannot be seen", &[("error", &chain_text(&error))]);
            return Ok(());
        }
    };
    let is_taken =
        |attachment: &&AttachmentRecord| taken.iter().any(|name| attachment.if_name.as_str() == name);
    let Some(attachment) = plan.attachments.iter().find(is_taken) else { return Ok(()) };
    let msg = "the pod has an interface of that name already, which another network or the container itself \
               made; ask for another name with \"interface\" in the pod's annotation, or leave the network out";
    Err(CniError::new(Code::INVALID_CONFIG, msg).of(name(attachment)))
}

fn run(call: &Call, record: &mut Record, plan: Plan, version: SpecVersion) -> Result<AddResult, CniError> {
    let dir = &call.settings.directory;
    let Plan { attachments, default_routes } = plan;
    record.attachments = attachments;
    record.write(dir).map_err(|error| store_error(&error))?;
    point::reached("add: intended");
    let container_id = record.container_id.clone();
    let site = Site {
        exec: &call.exec,
        container_id: &container_id,
        netns: record.netns.clone(),
        path: call.path.clone(),
    };
    let attached = site.attach_all(&mut record.attachments, call.settings.attachment_concurrency.get());
    let count = record.attachments.len();
    let all = |error| AttachFailure { begun: count, error };
    let outcome = attached.and_then(|()| {
        if default_routes.are_asked_for() {
            routes::apply(&default_routes, &mut record.attachments, site.netns.as_deref())
                .map_err(|error| all(error.to_cni_error()))?;
        }
        point::reached("add: all made");
        see(call, record);
        let answer = answer(call, record);
        let told = answer.to_json(version);
        told.map_err(|error| all(CniError::from_chain(Code::INTERNAL, &error)))?;
        record.phase = Phase::Attached;
        record.write(dir).map_err(|error| all(store_error(&error)))?;
        point::reached("add: recorded as attached");
        Ok(answer)
    });
    let answer = match outcome {
        Ok(answer) => answer,
        Err(failure) => return Err(take_back(call, record, &site, failure)),
    };
    for attachment in &record.attachments {
        let took = attachment.add_us.unwrap_or_default();
        let (network, if_name) = (&attachment.network, &attachment.if_name);
        call.log.info("attached", &[("network", network), ("interface", if_name), ("us", &took)]);
    }
    Ok(answer)
}

/// Notes what the pod has of its secondary networks, for CHECK. It is no reason to fail if nobody can look.
fn see(call: &Call, record: &mut Record) {
    let Some(netns) = record.netns.as_deref().filter(|_| record.attachments.len() > 1) else { return };
    match presence::interfaces(netns) {
        Ok(present) => {
            for attachment in record.attachments.iter_mut().skip(1) {
                attachment.seen = Some(presence::seen(attachment, netns, &present));
            }
        }
        Err(error) => {
            call.log.debug("the pod's interfaces cannot be seen", &[("error", &chain_text(&error))]);
        }
    }
}

/// Undoes in reverse what has begun; the first error is the one to tell.
fn take_back(call: &Call, record: &mut Record, site: &Site<'_>, failure: AttachFailure) -> CniError {
    let dir = &call.settings.directory;
    record.attachments.truncate(failure.begun);
    let patience = Patience { attempts: 0, failing_for: None, grace: call.settings.missing_plugin_grace };
    let failures = undo::detach_all(site, &mut record.attachments, &patience, &call.log);
    point::reached("add: undone after a failure");
    let kept = undo::settle(dir, record, &failures);
    for failure in &failures {
        call.log.warn("could not undo after a failed ADD", &[("error", &failure.error.msg)]);
    }
    if let Err(error) = kept {
        // The record as intended is still there, and DEL completes it.
        call.log.error("could not record what is left after a failed ADD", &[("error", &error.msg)]);
    }
    failure.error
}
