//! Memory of other processes, from `/proc`.

use std::fs;

use anyhow::{Context, Result};

/// Resident memory of a process in KiB: its peak so far (`VmHWM`), and now (`VmRSS`).
pub fn resident(process: u32) -> Result<(u64, u64)> {
    let path = format!("/proc/{process}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    Ok((kib(&status, "VmHWM")?, kib(&status, "VmRSS")?))
}

/// KiB of a line such as `VmHWM:      1464 kB`.
pub(crate) fn kib(text: &str, field: &str) -> Result<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let number = line.and_then(|line| line.split_whitespace().next());
    let number = number.with_context(|| format!("there is no {field}"))?;
    number.parse().with_context(|| format!("reading {field}"))
}
