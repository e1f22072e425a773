//! Which boot of the machine this is.

/// The kernel's id of this boot; empty where it tells none. What was noted under another id is from before
/// a reboot: its network namespaces and processes are gone.
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|text| text.trim().to_owned())
        .unwrap_or_default()
}
