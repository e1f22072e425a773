//! Which configurations are Multus's own: they call the primary and are none.

use std::path::{Path, PathBuf};

use cni::config::directory;
use cni::{NetworkList, PluginConfig};
use serde_json::Value;

/// How the name of the file begins that Multus writes.
pub(super) const FILES: &str = "00-multus";

/// Whether a plugin is one of Multus's.
pub(super) fn is_multus(plugin: &str) -> bool {
    plugin == "multus" || plugin.starts_with("multus-")
}

/// Whether a list is Multus's own.
pub fn calls_multus(list: &NetworkList) -> bool {
    list.plugins.iter().any(|plugin| is_multus(plugin.plugin().as_str()))
}

/// The configurations of a directory that are Multus's own.
pub fn of_multus(dir: &Path) -> Vec<PathBuf> {
    let all = directory::files(dir, directory::CONFIGURATIONS).unwrap_or_default();
    let is_its = |path: &PathBuf| {
        super::file_name(path).starts_with(FILES)
            || directory::load(path).is_ok_and(|list| calls_multus(&list))
    };
    all.into_iter().filter(is_its).collect()
}

/// Whether a plugin of Multus has for its primary the plugin `kind`, or a file whose name begins with `file`, or the
/// network `network`. Its daemon may see the file under another path than we do.
pub(super) fn delegates_to(plugin: &PluginConfig, kind: &str, file: &str, network: &str) -> bool {
    let named = plugin
        .object()
        .get("clusterNetwork")
        .and_then(Value::as_str)
        .is_some_and(|named| named == network || super::file_name(Path::new(named)).starts_with(file));
    let is_it = |config: &Value| config.get("type").and_then(Value::as_str) == Some(kind);
    let delegates = plugin.object().get("delegates").and_then(Value::as_array);
    let embedded = delegates.into_iter().flatten().any(|delegate| {
        let plugins = delegate.get("plugins").and_then(Value::as_array);
        is_it(delegate) || plugins.into_iter().flatten().any(is_it)
    });
    named || embedded
}

/// What to do where Multus's configurations are all that there is.
pub(super) fn hint(files: &[PathBuf]) -> String {
    if files.is_empty() {
        return String::new();
    }
    let names: Vec<_> = files.iter().map(|file| super::file_name(file)).collect();
    format!(
        " ({} {} Multus's own, and no primary: put the primary's own file back, which Multus may have renamed or moved \
         away)",
        names.join(", "),
        if names.len() == 1 { "is" } else { "are" }
    )
}
