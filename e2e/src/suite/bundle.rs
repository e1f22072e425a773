//! What a failed scenario leaves for people: pods, events, networks, records, node files and logs, as files.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Error, Result};

use super::stage::Stage;
use crate::cluster::{Feature, NAMESPACE};
use crate::program::report;
use crate::source;

/// How much of a log is kept, in bytes.
const TAIL: usize = 1 << 20;

/// Writes everything that can be had to `target/e2e/<scenario>` and returns that place. What cannot be had is a file
/// that says why.
pub(super) fn write(stage: &Stage<'_>, error: &Error) -> PathBuf {
    let dir = source("target/e2e").join(stage.scenario);
    let _ = fs::remove_dir_all(&dir);
    if let Err(problem) = fs::create_dir_all(&dir) {
        report(&Error::new(problem).context(format!("making {}", dir.display())));
        return dir;
    }
    keep(&dir, "error.txt", Ok(format!("{error:?}\n")));
    objects(stage, &dir);
    if stage.cluster.has(Feature::Nodes) {
        for node in stage.cluster.nodes() {
            on_node(stage, &dir, &node);
        }
    }
    for log in stage.cluster.logs() {
        let machine =
            log.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
        let name = log.file_name().unwrap_or_default().to_string_lossy().into_owned();
        keep(&dir, &format!("{machine}.{name}"), fs::read(&log).map(tail).map_err(Error::new));
    }
    dir.canonicalize().unwrap_or(dir)
}

fn objects(stage: &Stage<'_>, dir: &Path) {
    let namespace = stage.namespace.as_str();
    let networks = "network-attachment-definitions";
    for (file, arguments) in [
        ("pods.yaml", &["get", "pods", "-n", namespace, "-o", "yaml"][..]),
        ("pods.txt", &["describe", "pods", "-n", namespace]),
        ("events.txt", &["get", "events", "-n", namespace, "--sort-by=.lastTimestamp"]),
        ("networks.yaml", &["get", networks, "-n", namespace, "-o", "yaml"]),
        ("everything.txt", &["get", "all", "-A", "-o", "wide"]),
        ("nodes.yaml", &["get", "nodes,nodereports", "-o", "yaml"]),
        ("braid.txt", &["describe", "pods", "-n", NAMESPACE]),
    ] {
        keep(dir, file, stage.cluster.kubectl(arguments));
    }
    let pods = stage.cluster.list("pods", NAMESPACE, "").unwrap_or_default();
    for name in pods.iter().filter_map(|pod| pod["metadata"]["name"].as_str()) {
        for (end, more) in [("log", &["--tail=3000"][..]), ("previous.log", &["--previous"])] {
            let log =
                stage.cluster.kubectl(&[&["logs", "-n", NAMESPACE, name, "--all-containers"], more].concat());
            if end == "log" || log.is_ok() {
                keep(dir, &format!("{name}.{end}"), log);
            }
        }
    }
}

fn on_node(stage: &Stage<'_>, dir: &Path, node: &str) {
    for (file, script) in [
        (
            "files.txt",
            "find /run/braid /var/lib/braid /etc/cni/net.d /opt/cni/bin /var/lib/cni -ls 2>&1 || :",
        ),
        ("configuration.txt", "head -c 4000 /etc/cni/net.d/* 2>&1 || :"),
        ("records.txt", "head -c 20000 /var/lib/braid/attachments/* 2>&1 || :"),
        ("links.txt", "ip address; ip route; ip -6 route"),
    ] {
        keep(dir, &format!("{node}.{file}"), stage.cluster.on_node(node, script));
    }
}

fn tail(mut log: Vec<u8>) -> String {
    let log = log.split_off(log.len().saturating_sub(TAIL));
    String::from_utf8_lossy(&log).into_owned()
}

fn keep(dir: &Path, file: &str, content: Result<String>) {
    let content = content.unwrap_or_else(|error| format!("not to be had: {error:#}\n"));
    if let Err(problem) = fs::write(dir.join(file), content) {
        report(&Error::new(problem).context(format!("writing {file}")));
    }
}
