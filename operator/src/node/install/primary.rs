//! The primary, found as `meta-cni` finds it, and where a change may bring another.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use cni::error::chain_text;
use store::lookup::{self, Found};
use store::settings::{PrimarySource, Settings};

use crate::known::Primary;

/// The primary's configuration, or why there is none, for people.
pub(super) type Look = Result<Found, String>;

/// Looks for the primary.
pub(super) fn look(settings: &Settings) -> Look {
    let mut all = lookup::primary(settings).map_err(|error| chain_text(&error))?;
    if all.is_empty() {
        return Err("there is no primary network: the settings name none".to_owned());
    }
    Ok(all.swap_remove(0))
}

/// What a look says to the rest of the node role. `of_multus` are files that were passed over, being Multus's own.
pub(super) fn told(look: &Look, of_multus: Vec<PathBuf>) -> Primary {
    match look {
        Err(reason) => Primary::Missing(reason.clone()),
        Ok(found) => Primary::Found {
            name: found.list.name.to_string(),
            file: file_text(found),
            plugins: found.list.plugins.iter().map(|plugin| plugin.plugin().to_string()).collect(),
            of_multus: of_multus.iter().map(|file| file.display().to_string()).collect(),
        },
    }
}

/// Files that were passed over, being Multus's own, where the primary is looked for in a directory.
pub(super) fn passed_over(settings: &Settings) -> Vec<PathBuf> {
    match &settings.primary {
        PrimarySource::FirstIn(dir) => lookup::of_multus(dir),
        _ => Vec::new(),
    }
}

fn file_text(found: &Found) -> String {
    found
        .file
        .as_ref()
        .map_or_else(|| "delegates of the settings".to_owned(), |file| file.display().to_string())
}

/// The directories in which a change may bring another primary: where it is looked for, and where the plugin
/// files are that are appended to the one that was found.
pub(super) fn directories(settings: &Settings, look: &Look) -> BTreeSet<PathBuf> {
    let mut directories = BTreeSet::new();
    for path in lookup::places_of_primary(settings) {
        directories.extend(path.parent().map(Path::to_owned));
        if path.is_dir() {
            directories.insert(path);
        }
    }
    if let Ok(Found { list, file: Some(file), .. }) = look
        && !list.load_only_inlined_plugins
    {
        directories.extend(file.parent().map(|dir| dir.join(list.name.as_str())));
    }
    directories
}
