//! Settings whose names were misspelt. One that protects would silently be off, so it is an error; for others the
//! nearest name is named.

use cni::spelling::nearest;

use super::SettingsError;

/// Settings without which pods get, or may do, more than the administrator meant, or another primary than was meant.
pub(super) const PROTECTING: [&str; 11] = [
    "clusterNetwork",
    "delegates",
    "globalNamespaces",
    "maxAttachments",
    "multusAutoconfigDir",
    "multusMasterCNI",
    "multusNamespace",
    "namespaceIsolation",
    "podsAtOnce",
    "readinessindicatorfile",
    "systemNamespaces",
];

/// Refuses a key that is not known if it may be meant for one that protects.
pub(super) fn refuse_protecting(key: &str) -> Result<(), SettingsError> {
    match nearest(key, PROTECTING) {
        None => Ok(()),
        Some(meant) => {
            let problem = format!(
                "is not known, but may be meant for {meant:?}, which would then not hold; correct the name, or remove it"
            );
            Err(SettingsError::new(key, problem))
        }
    }
}
