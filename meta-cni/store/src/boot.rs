//! Which boot of the machine this is.

use std::path::Path;
use std::sync::OnceLock;

use crate::StoreError;

const FILE: &str = "/proc/sys/kernel/random/boot_id";

/// The kernel's id of this boot. What was noted under another id is from before a reboot: its network namespaces and
/// processes are gone.
///
/// *Errors*: the file cannot be read, most likely because too many are open. Whoever acts on what was noted must not
/// take that for another boot.
pub fn known_boot_id() -> Result<String, StoreError> {
    static ID: OnceLock<String> = OnceLock::new();
    if let Some(id) = ID.get() {
        return Ok(id.clone());
    }
    let text = std::fs::read_to_string(FILE).map_err(StoreError::read(Path::new(FILE)))?;
    Ok(ID.get_or_init(|| text.trim().to_owned()).clone())
}

/// As [`known_boot_id`]; empty where it is not known.
pub fn boot_id() -> String {
    known_boot_id().unwrap_or_default()
}

/// The beginning of [`boot_id`] as a number, for names; 0 where it is not known.
pub(crate) fn boot_number() -> u32 {
    boot_id().get(..8).and_then(|digits| u32::from_str_radix(digits, 16).ok()).unwrap_or(0)
}
