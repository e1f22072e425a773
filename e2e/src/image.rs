//! The one container image of the end-to-end tests: a static busybox and nothing else.
//!
//! It is written as a `docker-archive` tar, which both `ctr images import` and `podman load` read. Nothing is
//! pulled from anywhere, and the same busybox always gives the same bytes.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

/// The image's name. `localhost` keeps every tool from looking for it on the network.
pub const REFERENCE: &str = "localhost/braid-e2e:1";

/// Its other name: what it is, for the examples of the documentation.
const ALIAS: &str = "busybox:latest";

/// Where the package busybox-static puts the program; some distributions keep it under `/usr` only.
const BUSYBOX: [&str; 2] = ["/bin/busybox", "/usr/bin/busybox"];

/// The directories of the image, parents first.
const DIRECTORIES: [&str; 8] = ["bin", "dev", "etc", "proc", "run", "sys", "tmp", "var"];

/// The busybox programs that the image has under their own names.
const PROGRAMS: [&str; 22] = [
    "cat", "date", "echo", "env", "false", "grep", "hostname", "httpd", "ip", "ls", "mkdir", "nc",
    "nslookup", "ping", "sed", "sh", "sleep", "test", "true", "udhcpc", "wget", "wc",
];

/// Names the package that [`write_archive`] would miss on this machine.
pub fn missing() -> Option<String> {
    static_busybox().is_none().then(|| "busybox-static".to_owned())
}

/// Writes the image, named [`REFERENCE`], as a `docker-archive` to `path`. Its command sleeps for ever.
pub fn write_archive(path: &Path) -> Result<()> {
    let busybox = static_busybox().context("looking for a static busybox: install busybox-static")?;
    let program = fs::read(&busybox).with_context(|| format!("reading {}", busybox.display()))?;
    let layer = layer(&program).context("packing the layer of the test image")?;
    let archive = archive(&layer).context("packing the test image")?;
    fs::write(path, archive).with_context(|| format!("writing the test image to {}", path.display()))
}

/// The first busybox that runs without a dynamic loader.
fn static_busybox() -> Option<PathBuf> {
    BUSYBOX.iter().map(PathBuf::from).find(|path| fs::read(path).is_ok_and(|program| is_static(&program)))
}

/// A dynamic executable names its loader (`/lib64/ld-linux-x86-64.so.2` and the like) near its start.
fn is_static(program: &[u8]) -> bool {
    let start = &program[..program.len().min(4096)];
    start.starts_with(b"\x7fELF") && !start.windows(4).any(|four| four == b"/ld-")
}

fn layer(program: &[u8]) -> Result<Vec<u8>> {
    let mut tar = Builder::new(Vec::new());
    for directory in DIRECTORIES {
        let mode = if directory == "tmp" { 0o1777 } else { 0o755 };
        entry(&mut tar, &format!("{directory}/"), EntryType::Directory, mode, &[])?;
    }
    entry(&mut tar, "bin/busybox", EntryType::Regular, 0o755, program)?;
    for name in BTreeSet::from(PROGRAMS) {
        let mut header = header(EntryType::Symlink, 0o777, 0);
        tar.append_link(&mut header, format!("bin/{name}"), "busybox")?;
    }
    Ok(tar.into_inner()?)
}

fn archive(layer: &[u8]) -> Result<Vec<u8>> {
    let mut digest = "sha256:".to_owned();
    for byte in Sha256::digest(layer) {
        write!(digest, "{byte:02x}")?;
    }
    let config = serde_json::json!({
        "architecture": architecture(),
        "os": "linux",
        // The first process of a pid namespace ignores SIGTERM unless it asks for it, and sleep does not.
        "config": { "Cmd": ["/bin/sleep", "2000000000"], "Env": ["PATH=/bin"], "StopSignal": "SIGKILL" },
        "rootfs": { "type": "layers", "diff_ids": [digest] },
        "history": [{ "created_by": "braid e2e" }],
    });
    let manifest = serde_json::json!([
        { "Config": "config.json", "RepoTags": [REFERENCE, ALIAS], "Layers": ["layer.tar"] }
    ]);
    let mut tar = Builder::new(Vec::new());
    entry(&mut tar, "config.json", EntryType::Regular, 0o644, config.to_string().as_bytes())?;
    entry(&mut tar, "manifest.json", EntryType::Regular, 0o644, manifest.to_string().as_bytes())?;
    entry(&mut tar, "layer.tar", EntryType::Regular, 0o644, layer)?;
    Ok(tar.into_inner()?)
}

/// The machine's architecture, as images spell it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn entry<W: Write>(tar: &mut Builder<W>, name: &str, kind: EntryType, mode: u32, data: &[u8]) -> Result<()> {
    let mut header = header(kind, mode, data.len());
    tar.append_data(&mut header, name, data).with_context(|| format!("adding {name}"))
}

/// A header without owner and time, so that the archive depends on its content alone.
fn header(kind: EntryType, mode: u32, size: usize) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size as u64);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_program_gives_same_layer() {
        assert_eq!(layer(b"program").unwrap(), layer(b"program").unwrap());
    }

    #[test]
    fn a_dynamic_program_and_a_script_are_not_static_ones() {
        assert!(is_static(b"\x7fELF, nothing else"));
        assert!(!is_static(b"\x7fELF /lib64/ld-linux-x86-64.so.2"));
        assert!(!is_static(b"#!/bin/sh"));
    }
}
