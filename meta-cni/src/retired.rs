//! Braid is being taken away from this node, and its configuration is still the first.
//!
//! A container that Braid attached is undone from its record, as always. Any other call is handed on to the
//! configuration that comes next, as the runtime would make it: that of the primary, or of Multus. After the last
//! record our configuration goes ([`store::leaving`]), and the runtime takes the next one by itself.

use cni::chain::{self, Attachment, ChainError};
use cni::env::Target;
use cni::skel::Request;
use cni::{AddResult, CniError, Code, NetworkList, point};
use store::leaving;
use store::lookup::{self, Found};
use store::record::RecordKey;

use crate::call::{Call, store_error};
use crate::{add, hold, settled, turn};

/// Attaches a container to what comes after us; nothing is recorded. What an earlier ADD of ours left of it is undone
/// first.
pub(crate) fn add(call: &Call, target: &Target) -> Result<AddResult, CniError> {
    add::existing_namespace(target)?;
    let _turn = turn::to_attach(call)?;
    let _shared = hold::shared(call)?;
    let _lock = hold::container(call, &target.container_id)?;
    add::finish_earlier(call, target)?;
    // The DEL that will come is not ours any more.
    let key = RecordKey { container_id: target.container_id.clone(), if_name: target.if_name.clone() };
    settled::forget(&call.settings.directory, &key);
    point::reached("retired: note forgotten");
    let list = next(call)?;
    let added = on(call, target, |at| chain::add(&call.exec, &list, at, None));
    point::reached("retired: ADD handed on");
    added.map_err(|error| told(&list, &error))
}

/// Detaches a container without a record from what comes after us. The caller holds the container's lock.
pub(crate) fn del(call: &Call, target: &Target, request: &Request) -> Result<(), CniError> {
    let list = match lookup::next(&call.settings) {
        Ok(found) => handed_on(call, found),
        Err(lookup::LookupError::NoNext { dir }) => {
            let dir = dir.display();
            call.log.warn("nothing is recorded, and nothing comes after Braid", &[("directory", &dir)]);
            return Ok(());
        }
        Err(error) => return Err(error.to_cni_error()),
    };
    // One that cannot be read is as good as none: plugins have to do without.
    let result = request.prev_result().ok().flatten();
    let errors = on(call, target, |at| chain::del(&call.exec, &list, at, result.as_ref()));
    point::reached("retired: DEL handed on");
    let errors: Vec<_> = errors.iter().map(|error| told(&list, error)).collect();
    CniError::of_all(&errors).map_or(Ok(()), Err)
}

/// Checks a container without a record against what the runtime says that its ADD returned.
pub(crate) fn check(call: &Call, target: &Target, request: &Request) -> Result<(), CniError> {
    let list = next(call)?;
    let Some(result) = request.prev_result()? else {
        let msg =
            format!("container {} has no record, and CHECK came without \"prevResult\"", target.container_id);
        return Err(CniError::new(Code::UNKNOWN_CONTAINER, msg));
    };
    let checked = on(call, target, |at| chain::check(&call.exec, &list, at, &result));
    checked.map(drop).map_err(|error| told(&list, &error))
}

/// Whether what comes after us can attach pods.
pub(crate) fn status(call: &Call) -> Result<(), CniError> {
    let list = next(call).map_err(|error| CniError { code: Code::NOT_AVAILABLE, ..error })?;
    chain::status(&call.exec, &list, &call.path).map_err(|error| told(&list, &error))
}

/// Whether Multus comes after us: then it undoes what it attached.
pub(crate) fn multus_is_next(call: &Call) -> bool {
    lookup::next(&call.settings).is_ok_and(|found| lookup::calls_multus(&found.list))
}

/// Takes our configuration away if it is retired and nothing is left to undo.
///
/// The file says whether it is retired, not the call: CRI-O calls DEL with the configuration of ADD.
pub(crate) fn leave(call: &Call) -> Result<(), CniError> {
    let settings = &call.settings;
    let removed = leaving::remove_when_done(&settings.directory, &settings.cni_conf_dir);
    if removed.map_err(|error| store_error(&error))? {
        point::reached("retired: configuration removed");
        let path = settings.cni_conf_dir.join(leaving::FILE);
        call.log.info(
            "nothing of Braid is left to undo: removed its configuration",
            &[("path", &path.display())],
        );
    }
    Ok(())
}

fn next(call: &Call) -> Result<NetworkList, CniError> {
    lookup::next(&call.settings).map(|found| handed_on(call, found)).map_err(|error| error.to_cni_error())
}

fn handed_on(call: &Call, found: Found) -> NetworkList {
    let file = found.file.as_deref().unwrap_or(std::path::Path::new("")).display();
    call.log.info("Braid is being taken away: handed on to the next configuration", &[("path", &file)]);
    found.list
}

fn on<R>(call: &Call, target: &Target, run: impl FnOnce(&Attachment<'_>) -> R) -> R {
    run(&Attachment { target, path: &call.path, capabilities: &call.runtime })
}

fn told(list: &NetworkList, error: &ChainError) -> CniError {
    error.to_cni_error().of(format_args!("network {}", list.name))
}
