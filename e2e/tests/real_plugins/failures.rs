//! What goes wrong on the way: nothing is left, and the reason is told.

use cni::chain::{self, Attachment};
use cni::env::Target;
use cni::exec::ProcessExec;
use cni::{CniArgs, ContainerId, IfName, NetworkList};
use e2e::netns::Namespace;
use e2e::node::{Node, Pod};
use serde_json::{Value, json};

use super::{
    addresses, assert_nothing_is_left, assert_nothing_is_left_after_del, assert_reachable, bridge, list,
    node, possible, primary,
};

/// A network whose ADD fails.
fn broken() -> Value {
    list(&[json!({ "type": "bridge", "bridge": "broken0", "ipam": { "type": "static" } })])
}

fn with_networks() -> Node {
    let node = node();
    let storage = list(&[bridge(&node, "storage0", &["10.1.0.0/24"])]);
    let fabric = list(&[bridge(&node, "fabric0", &["10.2.0.0/24"])]);
    node.define(&[("default/storage", &storage), ("default/fabric", &fabric), ("default/broken", &broken())])
        .unwrap();
    node
}

#[test]
fn a_network_that_fails_takes_the_ones_before_it_along() {
    if !possible(&[]) {
        return;
    }
    let mut node = with_networks();
    for concurrency in [1, 4] {
        node.set("attachmentConcurrency", concurrency);
        let pod = Pod::new("one", "storage,broken,fabric").unwrap().with_port(8080, 80);
        let refusal = node.add(&pod).unwrap_err();
        assert!(refusal.msg.contains("network default/broken, interface net2: plugin bridge"), "{refusal}");
        assert_eq!(pod.netns.links().unwrap(), ["lo".to_owned()].into());
        assert_eq!(node.reservations().unwrap(), []);
        // The runtime calls DEL after a failed ADD.
        assert_nothing_is_left_after_del(&node, &[&pod]);
    }
}

#[test]
fn a_plugin_in_the_middle_of_a_list_that_fails_takes_the_ones_before_it_along() {
    if !possible(&[]) {
        return;
    }
    let node = node();
    let tuning = json!({ "type": "tuning", "sysctl": { "net.ipv4.no_such_sysctl": "1" } });
    node.define(&[("default/tuned", &list(&[bridge(&node, "tuned0", &["10.1.0.0/24"]), tuning]))]).unwrap();
    let pod = Pod::new("one", "tuned").unwrap();
    let refusal = node.add(&pod).unwrap_err();
    assert!(refusal.msg.contains("plugin tuning") && refusal.msg.contains("no_such_sysctl"), "{refusal}");
    assert_nothing_is_left_after_del(&node, &[&pod]);
}

/// host-device (1.1.1) fails at undoing what it has not done, for as long as the pod's namespace is there.
#[test]
fn a_plugin_that_cannot_undo_holds_up_nobody_else_and_owes_nothing_after_the_grace() {
    if !possible(&[]) {
        return;
    }
    let mut node = with_networks();
    let device = list(&[json!({ "type": "host-device", "device": "no-such-device" })]);
    node.define(&[("default/device", &device)]).unwrap();
    let pod = Pod::new("one", "storage,device,fabric").unwrap().with_port(8080, 80);
    let refusal = node.add(&pod).unwrap_err();
    assert!(refusal.msg.contains("plugin host-device"), "{refusal}");
    let refusal = node.del(&pod).unwrap_err();
    assert!(refusal.msg.contains("network default/device, interface net2: plugin host-device"), "{refusal}");
    assert_eq!(pod.netns.links().unwrap(), ["lo".to_owned()].into());
    assert_eq!(node.reservations().unwrap(), []);
    let record = node.record(&pod).unwrap().unwrap();
    assert_eq!(record.attachments.len(), 1, "only the device is still to be undone");
    // Runtimes keep the namespace until DEL succeeds; so it does when the grace is over. The plugin leaves nothing
    // outside of the namespace, so that nothing is owed then.
    node.set("missingPluginGrace", "0s");
    node.del(&pod).unwrap();
    assert!(node.record(&pod).unwrap().is_none());
    assert_nothing_is_left(&node, &[&pod]);

    // Without its namespace there is nothing to wait for.
    node.set("missingPluginGrace", "60s");
    let mut pod = Pod::new("two", "device").unwrap();
    node.add(&pod).unwrap_err();
    assert!(node.record(&pod).unwrap().is_some());
    drop(std::mem::replace(&mut pod.netns, Namespace::new("later").unwrap()));
    let printed = node.gc_by_hand().unwrap();
    assert!(printed.contains("1 undone, 0 left"), "{printed}");
    assert_nothing_is_left(&node, &[&pod]);
}

#[test]
fn an_interface_that_is_there_already_is_not_taken_from_its_owner() {
    if !possible(&[]) {
        return;
    }
    let node = with_networks();
    let pod = Pod::new("one", "storage@mine").unwrap();
    pod.netns.ip("link add mine type bridge").unwrap();
    let refusal = node.add(&pod).unwrap_err();
    assert_eq!(refusal.code, 7, "{refusal}");
    assert!(refusal.msg.contains("network default/storage, interface mine"), "{refusal}");
    assert!(!node.host.netns.links().unwrap().contains("pods0"), "nothing has run");
    assert!(node.record(&pod).unwrap().is_none());
    node.del(&pod).unwrap();
    assert_eq!(node.leftovers().unwrap(), [""; 0]);
    assert!(pod.netns.links().unwrap().contains("mine"), "{:?}", pod.netns.links());
}

#[test]
fn a_second_run_for_a_container_does_not_take_the_interfaces_of_the_first() {
    if !possible(&[]) {
        return;
    }
    // podman calls once for each network of a container, with an interface of its own; both runs plan net1.
    let mut node = with_networks();
    node.set("defaultNetworks", json!(["primary"]));
    let mut pod = Pod::new("one", "").unwrap();
    node.add(&pod).unwrap();
    let before = pod.netns.ip("-oneline address show").unwrap();
    pod.interface = "eth1".to_owned();
    let refusal = node.add(&pod).unwrap_err();
    assert_eq!(refusal.code, 7, "{refusal}");
    assert!(refusal.msg.contains("interface net1: the pod has an interface of that name"), "{refusal}");
    assert_eq!(pod.netns.ip("-oneline address show").unwrap(), before);
    pod.interface = "eth0".to_owned();
    node.check(&pod).unwrap();
    assert_nothing_is_left_after_del(&node, &[&pod]);
}

#[test]
fn a_network_that_is_not_there_is_awaited_and_then_named() {
    if !possible(&[]) {
        return;
    }
    let mut node = with_networks();
    node.set("networkWait", "50ms");
    let pod = Pod::new("one", "storage,absent").unwrap();
    let refusal = node.add(&pod).unwrap_err();
    assert_eq!(refusal.code, 11, "{refusal}");
    assert!(refusal.msg.contains("default/absent") && refusal.msg.contains("kubectl"), "{refusal}");
    assert!(!node.host.netns.links().unwrap().contains("pods0"), "nothing has run");
    assert_nothing_is_left(&node, &[&pod]);
    // It comes while the pod waits.
    node.set("networkWait", "60s");
    std::thread::scope(|scope| {
        let adding = scope.spawn(|| node.add(&pod));
        node.define(&[("default/absent", &list(&[bridge(&node, "late0", &["10.3.0.0/24"])]))]).unwrap();
        adding.join().unwrap().unwrap();
    });
    assert_eq!(addresses(&pod, "net2"), ["10.3.0.2/24"]);
    assert_nothing_is_left_after_del(&node, &[&pod]);
}

#[test]
fn networks_that_changed_or_went_since_add_make_no_difference_to_del_and_check() {
    if !possible(&[]) {
        return;
    }
    let mut node = with_networks();
    let pod = Pod::new("one", "storage,fabric").unwrap().with_port(8080, 80);
    node.add(&pod).unwrap();
    node.define(&[("default/storage", &broken())]).unwrap();
    let changed =
        json!({ "cniVersion": "1.0.0", "name": "primary", "plugins": [{ "type": "no-such-plugin" }] });
    node.configure("10-primary.conflist", &changed).unwrap();
    assert_eq!(pod.netns.links().unwrap().len(), 4);
    node.undefine_all().unwrap();
    node.set("binDir", "/no/such/directory");
    assert_nothing_is_left_after_del(&node, &[&pod]);
}

#[test]
fn a_second_add_of_a_container_is_refused_and_the_first_stands() {
    if !possible(&[]) {
        return;
    }
    let node = with_networks();
    let (pod, other) = (Pod::new("one", "storage").unwrap(), Pod::new("two", "storage").unwrap());
    node.add(&pod).unwrap();
    node.add(&other).unwrap();
    let refusal = node.add(&pod).unwrap_err();
    assert!(refusal.msg.contains("attached already"), "{refusal}");
    node.check(&pod).unwrap();
    assert_reachable(&pod, &other, "net1");
    assert_nothing_is_left_after_del(&node, &[&pod, &other]);
}

#[test]
fn gc_removes_what_belongs_to_no_container_and_nothing_else() {
    if !possible(&[]) {
        return;
    }
    let node = with_networks();
    let pods = ["stays", "lost", "also-lost"].map(|name| Pod::new(name, "storage,fabric").unwrap());
    for pod in &pods {
        node.add(pod).unwrap();
    }
    node.gc(&[&pods[0]]).unwrap();
    for lost in &pods[1..] {
        assert_eq!(lost.netns.links().unwrap(), ["lo".to_owned()].into());
        assert!(node.record(lost).unwrap().is_none());
    }
    assert_eq!(
        node.reservations().unwrap().len(),
        4,
        "those of the one that stays, the primary's two families"
    );
    node.check(&pods[0]).unwrap();
    assert_nothing_is_left_after_del(&node, &[&pods[0], &pods[1], &pods[2]]);
}

#[test]
fn a_pod_that_its_primary_attached_before_braid_is_detached_through_meta_cni() {
    if !possible(&[]) {
        return;
    }
    let node = node();
    let pod = Pod::new("old", "").unwrap().with_port(8080, 80);
    let list = NetworkList::from_json(primary(&node), None).unwrap();
    let target = Target {
        container_id: ContainerId::parse(pod.container_id.clone()).unwrap(),
        netns: Some(pod.netns.path()),
        if_name: IfName::parse("eth0").unwrap(),
        args: CniArgs::default(),
    };
    let ports = json!({ "portMappings": [{ "hostPort": 8080, "containerPort": 80, "protocol": "tcp" }] });
    let at = Attachment { target: &target, path: &node.path, capabilities: ports.as_object().unwrap() };
    let attach = || chain::add(&ProcessExec::default(), &list, &at, None);
    node.host.netns.within(attach).unwrap().unwrap();
    assert_eq!(node.reservations().unwrap().len(), 2, "one of each family");
    assert_nothing_is_left_after_del(&node, &[&pod]);
}
