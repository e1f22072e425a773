//! What only the newest containerd does (2.1): it asks for STATUS whenever the kubelet looks at the runtime, which is
//! every 5 s, and makes a DEL of each stop and of the removal of a sandbox.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use e2e::containerd::{Containerd, Programs};
use e2e::node::Node;
use e2e::requirement::Need;
use e2e::{artefacts, wait};
use serde_json::json;

use crate::sandboxes::{pod, start};
use crate::{SECOND, THIRD, addresses, assert_interfaces, assert_nothing_left, node, possible};

/// A node with the newest containerd.
fn containerd_on(node: &Node) -> Containerd {
    start(&Programs::newest().unwrap(), node)
}

/// Puts a script in the place of `meta-cni` that notes each call before it makes it: the verb, and whether there is a
/// network namespace.
fn note_calls(node: &Node) {
    let (plugin, log) = (node.file("bin/meta-cni"), node.file("calls"));
    let script = format!(
        "#!/bin/sh\necho \"$CNI_CONTAINERID $CNI_COMMAND${{CNI_NETNS:+ in a namespace}}\" >>{}\nexec {} \"$@\"\n",
        log.display(),
        artefacts::meta_cni().unwrap().display(),
    );
    fs::remove_file(&plugin).unwrap();
    fs::write(&plugin, script).unwrap();
    fs::set_permissions(&plugin, fs::Permissions::from_mode(0o755)).unwrap();
}

/// The calls so far, by container; those about none under the empty name.
fn calls(node: &Node) -> BTreeMap<String, Vec<String>> {
    let mut calls: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in fs::read_to_string(node.file("calls")).unwrap_or_default().lines() {
        let (container, call) = line.split_once(' ').unwrap();
        calls.entry(container.to_owned()).or_default().push(call.to_owned());
    }
    calls
}

#[test]
fn a_sandbox_is_added_once_and_may_be_deleted_three_times() {
    if !possible(Need::NewestContainerd) {
        return;
    }
    let node = node(&json!({}));
    note_calls(&node);
    let containerd = containerd_on(&node);
    let id = containerd.run(&pod("web", "second,third")).unwrap();
    let sandbox = containerd.status(&id).unwrap();
    assert_interfaces(&sandbox.netns, &sandbox.ips, &[("net1", &SECOND), ("net2", &THIRD)]);

    // The kubelet stops a sandbox once more before it removes it.
    for _ in 0..2 {
        containerd.stop(&id).unwrap();
    }
    containerd.remove(&id).unwrap();
    assert_nothing_left(&node, &id, &sandbox.netns);
    // How often, and with what, is containerd's choice: 2.1.9 does it each time, the later times without a namespace.
    let of_it = calls(&node).remove(&id).unwrap();
    let (adds, dels): (Vec<_>, Vec<_>) = of_it.iter().partition(|call| call.starts_with("ADD"));
    assert_eq!(adds, ["ADD in a namespace"]);
    assert!((1..=3).contains(&dels.len()) && dels[0] == "DEL in a namespace", "{dels:?}");
    assert!(dels.iter().all(|call| call.starts_with("DEL")), "neither CHECK nor GC: {dels:?}");
}

#[test]
fn each_look_at_the_runtime_is_a_status_and_the_node_stays_ready() {
    if !possible(Need::NewestContainerd) {
        return;
    }
    let node = node(&json!({}));
    note_calls(&node);
    let containerd = containerd_on(&node);
    containerd.wait_for_network().unwrap();
    let asked = |node: &Node| calls(node).remove("").unwrap_or_default().len();
    let before = asked(&node);
    for _ in 0..5 {
        assert!(containerd.network_is_ready().unwrap());
    }
    assert_eq!(asked(&node) - before, 5, "{:?}", calls(&node));
    assert_eq!(calls(&node)[""].iter().filter(|call| *call != "STATUS").count(), 0, "{:?}", calls(&node));
}

#[test]
fn sandboxes_keep_their_networks_while_containerd_restarts() {
    if !possible(Need::NewestContainerd) {
        return;
    }
    let node = node(&json!({}));
    note_calls(&node);
    let mut containerd = containerd_on(&node);
    let id = containerd.run(&pod("web", "second")).unwrap();
    let before = containerd.status(&id).unwrap();
    let net1 = addresses(&before.netns, "net1");

    node.host.netns.within(|| containerd.restart()).unwrap().unwrap();
    containerd.wait_for_network().unwrap();
    let after = containerd.status(&id).unwrap();
    assert!(after.ready);
    assert_eq!((&after.ips, &after.netns), (&before.ips, &before.netns));
    assert_eq!(addresses(&after.netns, "net1"), net1);
    assert_interfaces(&after.netns, &after.ips, &[("net1", &SECOND)]);
    assert_eq!(calls(&node)[&id], ["ADD in a namespace"], "the restart asks nothing of it");

    let another = containerd.run(&pod("db", "second")).unwrap();
    let netns = containerd.status(&another).unwrap().netns;
    for (id, netns) in [(&id, &before.netns), (&another, &netns)] {
        containerd.stop(id).unwrap();
        containerd.remove(id).unwrap();
        assert!(!netns.exists());
    }
    assert_nothing_left(&node, &id, &before.netns);
}

#[test]
fn without_its_primary_the_node_is_not_ready_until_it_is_back() {
    if !possible(Need::NewestContainerd) {
        return;
    }
    let node = node(&json!({}));
    let containerd = containerd_on(&node);
    containerd.wait_for_network().unwrap();
    let (primary, aside) = (node.file("net.d/10-primary.conflist"), node.file("aside"));
    fs::rename(&primary, &aside).unwrap();
    wait::until("the network is not ready", || Ok(!containerd.network_is_ready()?)).unwrap();
    fs::rename(&aside, &primary).unwrap();
    containerd.wait_for_network().unwrap();
    let id = containerd.run(&pod("web", "second")).unwrap();
    let sandbox = containerd.status(&id).unwrap();
    assert_interfaces(&sandbox.netns, &sandbox.ips, &[("net1", &SECOND)]);
}
