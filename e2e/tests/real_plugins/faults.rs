//! Faults at real plugins: `meta-cni` or a plugin is killed, or a system call of `meta-cni` fails, wherever that is; the
//! runtime calls DEL as usual, and no interface, address, rule or file is left. meta-cni/tests/faults has many more,
//! without real plugins.
//!
//! `BRAID_FAULTS_SEED` tells the faults of one seed alone.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use e2e::node::{Node, Pod};
use e2e::requirement::Need;
use e2e::runtime::Refusal;
use e2e::wait;
use serde_json::Value;

use super::{bridge, list, node, possible, tuning};

/// So many faults are to meet a call.
const FAULTS: u32 = 60;

/// System calls at which something happens, and what. Those of the second half are the plugins': only they talk
/// netlink here.
const PLACES: [(&str, &str); 14] = [
    ("openat", "error=EMFILE"),
    ("openat", "error=EIO"),
    ("openat", "signal=KILL"),
    ("write", "error=ENOSPC"),
    ("write", "signal=KILL"),
    ("fdatasync", "error=EIO"),
    ("fdatasync", "signal=KILL"),
    ("rename", "error=EROFS"),
    ("rename", "signal=KILL"),
    ("unlink", "error=EIO"),
    ("unlink", "signal=KILL"),
    ("poll", "signal=KILL"),
    ("sendto", "error=ENOMEM"),
    ("sendto", "signal=KILL"),
];

/// A fault of a seed: the words that start `meta-cni` with it.
fn through(node: &Node, seed: u64) -> Vec<String> {
    // splitmix64, once: neighbours are nothing alike.
    let mixed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = mixed ^ (mixed >> 27);
    let (name, effect) = PLACES[usize::try_from(mixed % 14).unwrap()];
    let number = 1 + (mixed >> 32) % if name == "openat" { 40 } else { 8 };
    // portmap (1.1.1) reports success at DEL and leaves its chains where the third message of its iptables fails; by hand
    // as well as through Braid. No caller can know of that.
    let number = if (name, effect, number) == ("sendto", "error=ENOMEM", 3) { 4 } else { number };
    let told = node.file("strace").to_string_lossy().into_owned();
    let words = ["strace", "-o", &told, "-e", &format!("trace={name}"), "-e"].map(str::to_owned);
    let mut words = [words.to_vec(), vec![format!("inject={name}:{effect}:when={number}")]].concat();
    if name == "sendto" {
        words.insert(1, "-f".to_owned());
    }
    words
}

/// Whether the last call has met its fault.
fn has_happened(node: &Node) -> bool {
    fs::read_to_string(node.file("strace"))
        .is_ok_and(|text| text.contains("INJECTED") || text.contains("killed by SIGKILL"))
}

/// What the bridge plugin (1.1.1) says, once for each address family, of a bridge that another one made and was killed before it had fixed the
/// bridge's address: without ports it is zero, the plugin reads it before it adds its own, and wants to set it again.
const WITHOUT_ADDRESS: &str = "could not set bridge's mac: invalid argument";

/// ADD as a runtime calls it: again after a DEL, once for each address family of such a bridge.
fn add(node: &Node, pod: &Pod) -> Result<Value, Refusal> {
    let mut added = node.add(pod);
    for _ in 0..2 {
        if added.as_ref().is_err_and(|refusal| refusal.msg.contains(WITHOUT_ADDRESS)) {
            node.del(pod)?;
            added = node.add(pod);
        }
    }
    added
}

/// One pod comes and goes, with a fault of this seed at its ADD or its DEL; whether it was met.
fn story(node: &mut Node, seed: u64) -> bool {
    let pod = Pod::new("one", "storage,fabric").unwrap().with_port(8080, 80);
    let fault = through(node, seed);
    let mut met = false;
    let is_at_add = seed.is_multiple_of(2);
    if is_at_add {
        node.through.clone_from(&fault);
    }
    let mut added = node.add(&pod);
    node.through.clear();
    if is_at_add {
        met = has_happened(node);
    }
    if !met && added.as_ref().is_err_and(|refusal| refusal.msg.contains(WITHOUT_ADDRESS)) {
        node.del(&pod).unwrap_or_else(|refusal| panic!("seed {seed}: DEL: {refusal}"));
        added = add(node, &pod);
    }
    match added {
        Ok(_) => {
            let expected = ["eth0", "lo", "net1", "net2"].map(str::to_owned);
            assert_eq!(pod.netns.links().unwrap(), expected.into(), "seed {seed}: {fault:?}");
        }
        Err(refusal) => assert!(met, "seed {seed}: without a fault: {refusal}"),
    }
    if !is_at_add {
        node.through.clone_from(&fault);
        let deleted = node.del(&pod);
        node.through.clear();
        met = has_happened(node);
        assert!(met || deleted.is_ok(), "seed {seed}: without a fault: {deleted:?}");
    }
    node.del(&pod).unwrap_or_else(|refusal| panic!("seed {seed}: {fault:?}: DEL: {refusal}"));
    // Of other runs' work nothing may be left either.
    node.gc_by_hand().unwrap_or_else(|error| panic!("seed {seed}: {fault:?}: {error:#}"));
    // The kernel takes a removed interface's peer away a little later.
    let nothing = wait::until("nothing is left", || Ok(node.leftovers()?.is_empty()));
    let links = pod.netns.links().unwrap();
    let left = node.leftovers().unwrap();
    assert!(nothing.is_ok() && links.len() == 1, "seed {seed}: {fault:?}: {left:?} {links:?}");
    met
}

#[test]
fn a_fault_anywhere_leaves_no_interface_address_or_rule() {
    if !possible(&[Need::Program("strace", "strace")]) {
        return;
    }
    let mut node = node();
    let storage = list(&[bridge(&node, "storage0", &["10.1.0.0/24"]), tuning(&node)]);
    let fabric = list(&[bridge(&node, "fabric0", &["10.2.0.0/24", "fd00:2::/64"])]);
    node.define(&[("default/storage", &storage), ("default/fabric", &fabric)]).unwrap();
    if let Ok(seed) = std::env::var("BRAID_FAULTS_SEED") {
        story(&mut node, seed.parse().unwrap());
        return;
    }
    let first = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() * 1000;
    let (mut faults, mut stories) = (0, 0);
    while faults < FAULTS {
        assert!(stories < 8 * u64::from(FAULTS), "too few calls meet a fault: {faults}");
        faults += u32::from(story(&mut node, first + stories));
        stories += 1;
    }
}

#[test]
fn a_bridge_that_a_killed_plugin_left_without_an_address_is_usable_again_after_a_runtimes_retries() {
    if !possible(&[]) {
        return;
    }
    let node = node();
    let host = &node.host.netns;
    for command in [
        "link add pods0 type bridge",
        "link set pods0 up",
        "link add port type veth peer name other",
        "link set port master pods0",
        "link del port",
    ] {
        host.ip(command).unwrap();
    }
    let pod = Pod::new("one", "").unwrap();
    add(&node, &pod).unwrap();
    node.del(&pod).unwrap();
    // The kernel takes a removed interface's peer away a little later.
    wait::until("nothing is left", || Ok(node.leftovers()?.is_empty())).unwrap();
}
