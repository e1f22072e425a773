//! Which boot of the machine this is.

use std::sync::OnceLock;

/// The kernel's id of this boot; empty where it tells none. What was noted under another id is from before
/// a reboot: its network namespaces and processes are gone.
pub fn boot_id() -> String {
    static ID: OnceLock<String> = OnceLock::new();
    let read = || {
        std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .map(|text| text.trim().to_owned())
            .unwrap_or_default()
    };
    ID.get_or_init(read).clone()
}

/// The beginning of [`boot_id`] as a number, for names; 0 where the kernel tells none.
pub(crate) fn boot_number() -> u32 {
    boot_id().get(..8).and_then(|digits| u32::from_str_radix(digits, 16).ok()).unwrap_or(0)
}
