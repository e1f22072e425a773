//! Pods that come and go, several at a time, hundreds in a row: at the end the node is as it was.
//!
//! `BRAID_CHURN_PODS` says how many pods come and go, 300 unless it is set. With 5,000 it takes a quarter of an hour.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use e2e::node::{Node, Pod, write_manifest};
use e2e::operator::Operator;
use e2e::requirement::Need;
use e2e::wait;
use serde_json::{Value, json};

use super::{assert_nothing_is_left, bridge, list, node, possible};

/// How many pods come and go at a time, besides those that run.
const AT_ONCE: usize = 6;
/// How many pods each of them has running at any time.
const RUNNING: usize = 2;
/// How much more memory the operator may have at the end. What its allocator keeps differs by some pages: 44 KiB were
/// measured after 300 pods.
const MORE_KIB: u64 = 256;

/// So many containers of which nothing is left are remembered, and no more.
const NOTES: usize = 1024;

fn pods_of_this_run() -> usize {
    let asked = std::env::var("BRAID_CHURN_PODS");
    asked.map_or(300, |text| text.parse().unwrap())
}

/// Everything that must not grow, by what it is.
#[derive(Debug, PartialEq)]
struct Extent {
    /// Files of Braid and of plugins. Notes of containers of which nothing is left are counted apart.
    files: BTreeSet<String>,
    links: BTreeSet<String>,
    rules: BTreeSet<String>,
    reservations: usize,
    /// Network namespaces of this test's pods; tests beside it have some, too.
    namespaces: usize,
    descriptors: usize,
    threads: u64,
}

impl Extent {
    fn of(node: &Node, operator: &Operator) -> Self {
        let mut files = BTreeSet::new();
        for dir in ["run", "state", "ipam", "tuning"] {
            collect(&node.file(dir), Path::new(dir), &mut files);
        }
        files.retain(|file| !file.starts_with("run/settled/"));
        let own = format!("braid-e2e-{}.", std::process::id());
        let namespaces = fs::read_dir("/run/netns").unwrap().flatten();
        let namespaces = namespaces.map(|entry| entry.file_name().to_string_lossy().into_owned());
        Self {
            files,
            links: node.host.netns.links().unwrap(),
            // Counters of packets are in brackets.
            rules: node.host.rules().unwrap().into_iter().filter(|rule| rule.contains("-A ")).collect(),
            reservations: node.reservations().unwrap().len(),
            namespaces: namespaces.filter(|name| name.starts_with(&own) && name.contains(".churn-")).count(),
            descriptors: fs::read_dir(format!("/proc/{}/fd", operator.id())).unwrap().count(),
            threads: of_process(operator, "Threads"),
        }
    }
}

fn collect(dir: &Path, below: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let below = below.join(entry.file_name());
        if entry.path().is_dir() {
            collect(&entry.path(), &below, found);
        } else {
            found.insert(below.display().to_string());
        }
    }
}

/// A number of `/proc/<operator>/status`.
fn of_process(operator: &Operator, key: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", operator.id())).unwrap();
    let value = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    value.and_then(|value| value.split_whitespace().next()?.parse().ok()).unwrap()
}

/// A network of this test, in its form of this round: people edit networks while pods run.
fn redefine(node: &Node, round: usize) {
    let mut storage = list(&[bridge(node, "storage0", &["10.1.0.0/16"])]);
    storage["args"] = json!({ "round": round });
    write_manifest(&node.file("manifests"), "default/storage", &storage).unwrap();
}

/// Notes of earlier containers in every place that there is for notes, as after thousands of pods.
fn note_earlier_containers(node: &Node) {
    for number in 0..NOTES {
        fs::write(node.file("run/settled").join(number.to_string()), "of an earlier one").unwrap();
    }
}

/// Lets so many pods come and go.
fn churn(node: &Node, pods: usize) {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut running = VecDeque::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number < pods {
                running.push_back(start(node, number));
            } else if running.is_empty() {
                return;
            }
            if running.len() > RUNNING || number >= pods {
                let pod: Pod = running.pop_front().unwrap();
                node.del(&pod).unwrap_or_else(|refusal| panic!("DEL of {}: {refusal}", pod.name));
                assert_eq!(pod.netns.links().unwrap(), ["lo".to_owned()].into(), "{}", pod.name);
            }
        }
    };
    std::thread::scope(|scope| (0..AT_ONCE).for_each(|_| drop(scope.spawn(work))));
}

/// A pod of three networks. Of each ten one is refused a network after it got others, one publishes a port, and before
/// one a network is edited.
fn start(node: &Node, number: usize) -> Pod {
    let name = format!("churn-{number}");
    match number % 10 {
        3 => {
            let pod = Pod::new(&name, "storage,fabric,broken").unwrap();
            let refusal = node.add(&pod).unwrap_err();
            assert!(refusal.msg.contains("network default/broken"), "{refusal}");
            return pod;
        }
        5 => redefine(node, number),
        _ => {}
    }
    let mut pod = Pod::new(&name, "storage,fabric,direct").unwrap();
    if number % 10 == 7 {
        pod = pod.with_port(u16::try_from(20_000 + number % 10_000).unwrap(), 80);
    }
    let result = node.add(&pod).unwrap_or_else(|refusal| panic!("ADD of {name}: {refusal}"));
    assert_eq!(
        result["interfaces"].as_array().unwrap().iter().filter(|i| i["sandbox"].is_string()).count(),
        4
    );
    pod
}

fn define(node: &Node) {
    redefine(node, 0);
    let fabric = list(&[bridge(node, "fabric0", &["10.2.0.0/16", "fd00:2::/64"])]);
    let mut direct = bridge(node, "direct0", &["10.3.0.0/16"]);
    direct["ipMasq"] = true.into();
    let broken = list(&[json!({ "type": "bridge", "bridge": "broken0", "ipam": { "type": "static" } })]);
    let networks: BTreeMap<&str, Value> =
        [("default/fabric", fabric), ("default/direct", list(&[direct])), ("default/broken", broken)].into();
    for (network, config) in &networks {
        write_manifest(&node.file("manifests"), network, config).unwrap();
    }
}

#[test]
fn after_hundreds_of_pods_that_came_and_went_the_node_is_as_it_was() {
    if !possible(&[Need::Program("iptables-save", "iptables")]) {
        return;
    }
    let node = node();
    define(&node);
    let operator =
        Operator::start_on_manifests(&node.file(""), &node.file("manifests"), &node.directory()).unwrap();
    wait::until("the operator has rendered the networks", || {
        let names =
            ["storage", "fabric", "direct", "broken"].map(|name| format!("run/networks/default/{name}"));
        Ok(names.iter().all(|name| node.file(name).exists()))
    })
    .unwrap();
    // Bridges, chains and directories are made once.
    churn(&node, 4 * AT_ONCE);
    assert_nothing_is_left(&node, &[]);
    note_earlier_containers(&node);
    let (before, memory_before) = (Extent::of(&node, &operator), of_process(&operator, "VmRSS"));
    churn(&node, pods_of_this_run());
    assert_nothing_is_left(&node, &[]);
    // The last network that was edited is being written, perhaps.
    let _ = wait::until("the node is as it was", || Ok(Extent::of(&node, &operator) == before));
    assert_eq!(Extent::of(&node, &operator), before);
    let memory = of_process(&operator, "VmRSS");
    let _ = writeln!(std::io::stderr(), "{memory_before} KiB of memory before, {memory} KiB after");
    assert!(memory <= memory_before + MORE_KIB, "{memory_before} KiB before, {memory} KiB after");
    let notes: Vec<_> = fs::read_dir(node.file("run/settled")).unwrap().map(Result::unwrap).collect();
    assert_eq!(notes.len(), NOTES, "notes of containers of which nothing is left");
    let of_pods = notes.iter().filter(|note| fs::read(note.path()).unwrap() != b"of an earlier one").count();
    assert!(of_pods > 0, "no pod is remembered");
    assert!(operator.stop().unwrap().success());
}
