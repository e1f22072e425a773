//! Containers that Multus attached before Braid took its place.
//!
//! Multus wrote down what it called for each container ([`store::multus_cache`]). Such a container becomes a record that
//! is to be undone, and from then on it is like any other: what fails is tried again, under the same grace. Multus's
//! file goes when everything is undone, and not before. One that cannot be read is never passed over in silence: it
//! counts as an attachment that cannot be undone, until somebody removes it.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use cni::cache::{self, Cached};
use cni::env::Target;
use cni::{CniError, Code, ContainerId, IfName, point};
use store::lookup;
use store::multus_cache::{self, Delegate};
use store::record::AttachmentRecord;

use crate::call::Call;

/// No pod has so much; a file that is longer is none of Multus's.
const LONGEST: u64 = 4 << 20;

/// Why a file of Multus is not understood.
#[derive(Debug, thiserror::Error)]
enum FileError {
    #[error("read it")]
    Read(#[source] io::Error),
    #[error("it is longer than {LONGEST} bytes")]
    TooLong,
    #[error(transparent)]
    Cache(#[from] multus_cache::CacheError),
}

/// What Multus attached a container to, to be undone, in the order of ADD; `None` where it left no file that can be
/// read, or where it called us itself, so that it is still there to undo the rest.
pub(crate) fn attachments(call: &Call, target: &Target) -> Option<Vec<AttachmentRecord>> {
    let delegates = read(call, &target.container_id).ok()?.filter(|all| !all.is_empty())?;
    Some(delegates.into_iter().enumerate().map(|(at, one)| attachment(call, target, at, one)).collect())
}

/// Settles Multus's file once a container's record has been worked on. If everything `is_undone` it goes, with what
/// libcni wrote down for Multus; one that cannot be read is told of.
pub(crate) fn settle(call: &Call, id: &ContainerId, if_name: &IfName, is_undone: bool) -> Option<CniError> {
    let file = file(call, id);
    match read(call, id) {
        Ok(None) => None,
        Ok(Some(_)) if !is_undone => None,
        Ok(Some(delegates)) => forget(call, id, if_name, &delegates).err().map(|error| {
            let msg = format!("remove {}, which Multus left of container {id}: {error}", file.display());
            CniError::new(Code::IO_FAILURE, msg)
        }),
        Err(error) => {
            let msg = format!(
                "{} says what Multus attached container {id} to, and cannot be understood: {}; the primary network is \
                 undone without it. free by hand what other networks hold for this container (addresses of host-local \
                 are under /var/lib/cni/networks), then remove that file",
                file.display(),
                cni::error::chain_text(&error)
            );
            Some(CniError::new(Code::DECODING_FAILURE, msg))
        }
    }
}

/// Whether Multus left a file of a container, whatever is in it.
pub(crate) fn left_a_file(call: &Call, id: &ContainerId) -> bool {
    file(call, id).is_file()
}

/// Containers of which Multus left a file that was last written before this call came.
pub(crate) fn containers(call: &Call) -> Vec<ContainerId> {
    let entries = std::fs::read_dir(&call.settings.multus_cache_dir).into_iter().flatten().flatten();
    let is_earlier = |meta: std::fs::Metadata| {
        let since = meta.modified().ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
        meta.is_file() && since.is_some_and(|at| at.as_millis() < u128::from(call.begun_ms))
    };
    let files = entries.filter(|entry| entry.metadata().is_ok_and(is_earlier));
    files.filter_map(|entry| ContainerId::parse(entry.file_name().to_str()?).ok()).collect()
}

fn file(call: &Call, id: &ContainerId) -> PathBuf {
    call.settings.multus_cache_dir.join(id.as_str())
}

fn read(call: &Call, id: &ContainerId) -> Result<Option<Vec<Delegate>>, FileError> {
    let Some(text) = read_file(&file(call, id))? else { return Ok(None) };
    let delegates = multus_cache::parse(&text)?;
    let called_us = delegates.iter().any(|delegate| lookup::leads_to_us(&delegate.list));
    Ok((!called_us).then_some(delegates))
}

/// The text of a file; `None` where there is none.
fn read_file(path: &Path) -> Result<Option<Vec<u8>>, FileError> {
    let opened = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(FileError::Read)?,
    };
    if !opened.metadata().map_err(FileError::Read)?.is_file() {
        return Ok(None);
    }
    let mut text = Vec::new();
    let length = opened.take(LONGEST + 1).read_to_end(&mut text).map_err(FileError::Read)?;
    if length as u64 > LONGEST { Err(FileError::TooLong) } else { Ok(Some(text)) }
}

/// One network of a container, with what its plugins had at ADD.
fn attachment(call: &Call, target: &Target, index: usize, delegate: Delegate) -> AttachmentRecord {
    let if_name = interface(index, &delegate, &target.if_name);
    let cached = cached(call, &delegate, &target.container_id, &if_name);
    // As Multus: every network is told what the runtime asks for, then what the pod does; what ADD really had wins.
    let mut capabilities = call.runtime.clone();
    capabilities.extend(delegate.capabilities);
    capabilities.extend(cached.capabilities);
    AttachmentRecord {
        network: delegate.network,
        network_ref: None,
        if_name,
        list: delegate.list,
        args: if target.args.is_empty() { cached.args } else { target.args.clone() },
        capabilities,
        result: cached.result,
        default_route: Vec::new(),
        refused_by: None,
        add_us: None,
        seen: None,
        complaint: None,
    }
}

/// As Multus: what the pod asked for, else the runtime's for the primary and `net<n>` for others.
fn interface(index: usize, delegate: &Delegate, primary: &IfName) -> IfName {
    let numbered = || IfName::parse(format!("net{index}")).ok().filter(|_| index > 0);
    delegate.if_name.clone().or_else(numbered).unwrap_or_else(|| primary.clone())
}

/// Multus's libcni writes below Multus's directory; that of a runtime, beside it.
fn results(call: &Call, delegate: &Delegate, id: &ContainerId, if_name: &IfName) -> [PathBuf; 2] {
    let own = call.settings.multus_cache_dir.as_path();
    let name = cache::file_name(&delegate.list.name, id, if_name);
    [own, own.parent().unwrap_or(own)].map(|dir| dir.join("results").join(&name))
}

fn cached(call: &Call, delegate: &Delegate, id: &ContainerId, if_name: &IfName) -> Cached {
    let readable = |path: PathBuf| cache::parse(&read_file(&path).ok()??, delegate.list.version);
    results(call, delegate, id, if_name).into_iter().find_map(readable).unwrap_or_default()
}

/// Removes Multus's file last: if this is killed before, the next DEL does it again.
fn forget(call: &Call, id: &ContainerId, if_name: &IfName, delegates: &[Delegate]) -> io::Result<()> {
    let remove = |path: &Path| match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    for (index, delegate) in delegates.iter().enumerate() {
        let if_name = interface(index, delegate, if_name);
        results(call, delegate, id, &if_name).iter().try_for_each(|path| remove(path))?;
        point::reached("multus: one result removed");
    }
    remove(&file(call, id))?;
    point::reached("multus: file removed");
    Ok(())
}
