//! GC: remove what belongs to no container that the runtime still has.
//!
//! The runtime says which (container, interface) pairs are valid; it knows only the primary's interface. They
//! are mapped to containers: records of others are undone, side by side with ADDs and DELs. Then, while nothing
//! else runs, every network's plugins are told what is valid, all attachments of valid containers included, so
//! that they free what no record knows of.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, UNIX_EPOCH};

use cni::chain::{self, ValidAttachment};
use cni::env::Target;
use cni::exec::ProcessExec;
use cni::skel::Request;
use cni::{CniArgs, CniError, Code, ContainerId, IfName, NetworkList, NetworkName, point};
use store::NodeDirectory;
use store::lookup;
use store::network::RenderedNetwork;
use store::node::NodeFacts;
use store::record::{Record, RecordKey};

use crate::call::{Call, store_error};
use crate::undo::{self, Left};
use crate::{foreign, hold, multus};

/// No delegate may hold up a GC, and with it the node, for long.
const DELEGATE_BOUND: Duration = Duration::from_secs(10);

/// Collects what is left over. Goes on after an error and reports all of them.
pub(crate) fn gc(call: &Call, request: &Request) -> Result<(), CniError> {
    let valid = valid_attachments(request)?;
    let exec = ProcessExec { timeout: DELEGATE_BOUND.min(call.exec.timeout), ..call.exec.clone() };
    let mut errors = Vec::new();
    let stale = undo_all_stale(call, &exec, &valid, &mut errors)?;
    point::reached("gc: stale records undone");
    // Once we are retired Multus may be in service again, and these are its own to collect.
    if !call.settings.retired {
        errors.extend(undo_all_left_by_multus(call, &exec, &valid)?);
    }
    match tell_all(call, &exec, &valid, &stale) {
        Ok(failed) => errors.extend(failed),
        Err(error) => errors.push(error),
    }
    CniError::of_all(&errors).map_or(Ok(()), Err)
}

/// Undoes the records of containers that are not valid, beside ADDs and DELs of others; returns which.
fn undo_all_stale(
    call: &Call,
    exec: &ProcessExec,
    valid: &[ValidAttachment],
    errors: &mut Vec<CniError>,
) -> Result<BTreeSet<RecordKey>, CniError> {
    let dir = &call.settings.directory;
    let _shared = hold::shared(call)?;
    let containers: BTreeSet<&ContainerId> =
        valid.iter().map(|attachment| &attachment.container_id).collect();
    let mut stale = BTreeSet::new();
    for key in Record::list(dir).map_err(|error| store_error(&error))? {
        if containers.contains(&key.container_id) {
            continue;
        }
        match undo_stale(call, exec, &key) {
            Ok(false) => continue,
            Ok(true) => {}
            Err(error) => errors.push(error),
        }
        stale.insert(key);
    }
    Ok(stale)
}

/// Undoes one record; false if it is not stale after all: somebody is at it, or it was written after the runtime
/// had made its list.
fn undo_stale(call: &Call, exec: &ProcessExec, key: &RecordKey) -> Result<bool, CniError> {
    let dir = &call.settings.directory;
    let lock = hold::container_if_free(call, &key.container_id).map_err(|error| store_error(&error))?;
    let Some(lock) = lock else { return Ok(false) };
    let Some(record) = Record::read(dir, key).map_err(|error| store_error(&error))? else { return Ok(true) };
    if record.created_ms.max(written_ms(dir, key)) >= call.begun_ms {
        return Ok(false);
    }
    call.log.info("undoing a container that the runtime no longer has", &[("container", &key.container_id)]);
    let netns = record.netns.clone();
    let left = undo::undo_record(call, record, netns.as_deref(), exec)?;
    point::reached("gc: one stale record undone");
    if left == Left::Nothing {
        lock.remove();
    }
    Ok(true)
}

/// Undoes containers that Multus attached and that are not valid.
fn undo_all_left_by_multus(
    call: &Call,
    exec: &ProcessExec,
    valid: &[ValidAttachment],
) -> Result<Vec<CniError>, CniError> {
    let left = multus::containers(call);
    if left.is_empty() {
        return Ok(Vec::new());
    }
    let _shared = hold::shared(call)?;
    let stale = left.into_iter().filter(|id| valid.iter().all(|attachment| attachment.container_id != *id));
    Ok(stale.filter_map(|id| undo_left_by_multus(call, exec, id).err()).collect())
}

/// Undoes one container that Multus attached, unless somebody is at it or it has a record by now.
fn undo_left_by_multus(call: &Call, exec: &ProcessExec, id: ContainerId) -> Result<(), CniError> {
    let lock = hold::container_if_free(call, &id).map_err(|error| store_error(&error))?;
    let (Some(lock), Ok(if_name)) = (lock, IfName::parse("eth0")) else { return Ok(()) };
    let key = RecordKey { container_id: id.clone(), if_name: if_name.clone() };
    if Record::read(&call.settings.directory, &key).map_err(|error| store_error(&error))?.is_some() {
        return Ok(());
    }
    // Its namespace is gone, or nobody says where it is.
    let target = Target { container_id: id, netns: None, if_name, args: CniArgs::default() };
    if let Some(attachments) = multus::attachments(call, &target)
        && foreign::undo_left_by_multus(call, &target, attachments, exec)? == Left::Nothing
    {
        lock.remove();
    }
    Ok(())
}

/// When a record was last written: at the end of ADD. An ADD that the runtime's list does not know of yet may have
/// begun long before.
fn written_ms(dir: &NodeDirectory, key: &RecordKey) -> u64 {
    let written = std::fs::metadata(dir.record(key)).and_then(|meta| meta.modified()).ok();
    let since = written.and_then(|at| at.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Tells every network what is valid, while no ADD is half-way: the runtime's attachments, and whatever is recorded
/// and was not found stale.
fn tell_all(
    call: &Call,
    exec: &ProcessExec,
    valid: &[ValidAttachment],
    stale: &BTreeSet<RecordKey>,
) -> Result<Vec<CniError>, CniError> {
    let dir = &call.settings.directory;
    let _alone = hold::alone(call)?;
    point::reached("gc: alone");
    let mut known = Vec::new();
    for key in Record::list(dir).map_err(|error| store_error(&error))? {
        if !stale.contains(&key) {
            // Telling plugins less than everything that is valid would free addresses that are in use.
            known.extend(Record::read(dir, &key).map_err(|error| store_error(&error))?);
        }
    }
    Ok(pass_on(call, exec, valid, &known))
}

/// What the runtime says is valid, under either key. libcni writes both, and an empty list as null; a caller that
/// fills one of them may leave the other null.
fn valid_attachments(request: &Request) -> Result<Vec<ValidAttachment>, CniError> {
    const KEYS: [&str; 2] = ["cni.dev/valid-attachments", "cni.dev/attachments"];
    let given: Vec<_> = KEYS.iter().filter_map(|key| Some((key, request.config.get(*key)?))).collect();
    let Some((key, json)) = given.iter().find(|(_, json)| !json.is_null()).or(given.first()) else {
        // Without the list everything would be stale.
        let msg = format!("GC without {:?}: the runtime has to say which attachments are valid", KEYS[0]);
        return Err(CniError::new(Code::INVALID_CONFIG, msg));
    };
    let valid: Result<Option<_>, _> = serde_json::from_value((*json).clone());
    valid
        .map(Option::unwrap_or_default)
        .map_err(|error| CniError::new(Code::INVALID_CONFIG, format!("{key:?} cannot be read: {error}")))
}

/// Tells each network's plugins what is valid, once per configuration: two of one name may keep their data in two
/// places.
///
/// A valid container without a record was attached by somebody else (before Braid was installed, or by
/// Multus): which interfaces it has on secondary networks is not known, so only the primary, whose pairs come
/// from the runtime, is collected then. Once we are retired, what comes after us takes the primary's place.
fn pass_on(call: &Call, exec: &ProcessExec, valid: &[ValidAttachment], known: &[Record]) -> Vec<CniError> {
    let recorded: BTreeSet<&ContainerId> = known.iter().map(|record| &record.container_id).collect();
    let all_known = valid.iter().all(|attachment| recorded.contains(&attachment.container_id));
    let mut lists: BTreeMap<NetworkName, Vec<NetworkList>> = BTreeMap::new();
    let mut insert = |list: NetworkList| {
        let alike = lists.entry(list.name.clone()).or_default();
        if !alike.contains(&list) {
            alike.push(list);
        }
    };
    let mut errors = Vec::new();
    let retired = call.settings.retired;
    let first = if retired {
        lookup::next(&call.settings).map(|next| vec![next])
    } else {
        lookup::primary(&call.settings)
    };
    match first {
        Ok(first) => first.into_iter().for_each(|found| insert(found.list)),
        Err(error) => errors.push(error.to_cni_error()),
    }
    if all_known {
        if !retired {
            others(call).into_iter().for_each(&mut insert);
        }
        let recorded = known.iter().flat_map(|record| &record.attachments);
        recorded.for_each(|attachment| insert(attachment.list.clone()));
    } else {
        call.log.info("containers of others are on this node: only the primary network is collected", &[]);
    }
    for (name, alike) in lists {
        let of_network = valid_on(&name, valid, known);
        for list in alike {
            let failed = chain::gc(exec, &list, &call.path, &of_network);
            point::reached("gc: one network told");
            errors.extend(failed.iter().map(|error| error.to_cni_error().of(format_args!("network {name}"))));
        }
    }
    errors
}

/// Every network that is to be had on this node besides the primary: what the operator rendered in this boot,
/// configurations on the node included, and default networks. One that cannot be had has nothing to collect.
fn others(call: &Call) -> Vec<NetworkList> {
    let settings = &call.settings;
    let networks = if NodeFacts::are_of_earlier_boot(&settings.directory) {
        Vec::new()
    } else {
        RenderedNetwork::list(&settings.directory).unwrap_or_default()
    };
    let rendered = networks.iter().filter_map(|network| lookup::rendered(settings, network).ok());
    let references = settings.default_networks.iter();
    let default = references.filter_map(|it| lookup::configured(settings, "defaultNetworks", it).ok());
    rendered.chain(default).map(|found| found.list).collect()
}

/// The runtime's pairs, and every recorded attachment of a network.
fn valid_on(name: &NetworkName, valid: &[ValidAttachment], known: &[Record]) -> Vec<ValidAttachment> {
    let recorded = known.iter().flat_map(|record| {
        let of_network = record.attachments.iter().filter(|attachment| attachment.list.name == *name);
        of_network.map(|attachment| ValidAttachment {
            container_id: record.container_id.clone(),
            ifname: attachment.if_name.clone(),
        })
    });
    let all: BTreeSet<_> = recorded.chain(valid.iter().cloned()).collect();
    all.into_iter().collect()
}
