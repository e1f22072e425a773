//! Loading networks: from names to configurations. What is not there yet is waited for, within a bound.

use std::path::PathBuf;

use cni::npwg::{RESOURCE_NAME, Selection};
use store::lookup::{self, Device, Found, LookupError};
use store::settings::{NetworkReference, Settings};
use store::watch;

use crate::plan::Wanted;

/// Looks until there is something or an error that waiting cannot mend, then gives the last reason.
fn await_it<T>(
    paths: &[PathBuf],
    wait: std::time::Duration,
    mut look: impl FnMut() -> Result<T, LookupError>,
) -> Result<T, LookupError> {
    let mut last = None;
    let found = watch::until(paths, wait, || match look() {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.may_pass() => {
            last = Some(error);
            Ok(None)
        }
        Err(error) => Err(error),
    })?;
    match (found, last) {
        (Some(found), _) => Ok(found),
        (None, Some(reason)) => Err(reason),
        (None, None) => Err(LookupError::Wait(std::io::Error::other("nothing was looked for"))),
    }
}

/// A network that a pod selected, with its configuration.
pub(crate) fn selected(settings: &Settings, selection: Selection) -> Result<Wanted, LookupError> {
    let network = &selection.network;
    // The node's facts too: they say whether the network is of this boot.
    let dir = &settings.directory;
    let paths = [dir.network(network), dir.node(), settings.conf_dir.join("any")];
    let found = await_it(&paths, settings.network_wait, || lookup::rendered(settings, network))?;
    refuse_device(&found)?;
    Ok(Wanted { selection: Some(selection), ..wanted(found) })
}

/// A network that a setting names, with its configuration.
pub(crate) fn configured(
    settings: &Settings,
    setting: &'static str,
    reference: &NetworkReference,
) -> Result<Wanted, LookupError> {
    let paths = lookup::places(settings, reference);
    let look = || lookup::configured(settings, setting, reference);
    let found = await_it(&paths, settings.readiness_wait, look)?;
    refuse_device(&found)?;
    Ok(wanted(found))
}

/// The primary, and the other static delegates that come right after it.
pub(crate) fn primary(settings: &Settings) -> Result<Vec<Wanted>, LookupError> {
    let paths = lookup::places_of_primary(settings);
    let found = await_it(&paths, settings.readiness_wait, || lookup::primary(settings))?;
    found.iter().try_for_each(refuse_device)?;
    Ok(found.into_iter().map(wanted).collect())
}

/// A network whose device the pod would not get must not be attached as if it had it: its plugin would take some
/// other device, or none.
fn refuse_device(found: &Found) -> Result<(), LookupError> {
    let (Some(network), Some(Device { resource, origin })) = (&found.network, &found.device) else {
        return Ok(());
    };
    let reason = format!(
        "its annotation {RESOURCE_NAME} names {resource:?}, and this version of Braid cannot tell plugins which device \
         of it the pod has; if the network works without, take the annotation away"
    );
    Err(LookupError::Refused { network: network.clone(), reason, origin: origin.clone() })
}

/// Waits for the file that says that the primary is ready.
pub(crate) fn readiness(settings: &Settings, wait: std::time::Duration) -> Result<(), LookupError> {
    let Some(path) = &settings.readiness_indicator_file else { return Ok(()) };
    await_it(std::slice::from_ref(path), wait, || lookup::readiness(settings))
}

fn wanted(Found { network, list, .. }: Found) -> Wanted {
    let name = network.as_ref().map_or_else(|| list.name.to_string(), ToString::to_string);
    Wanted { network: name, network_ref: network, list, selection: None }
}
