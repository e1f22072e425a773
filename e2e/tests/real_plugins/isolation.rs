//! Which networks a pod may use.

use cni::npwg::DEFAULT_NETWORK;
use e2e::node::{Node, Pod};

use super::{
    addresses, assert_nothing_is_left, assert_nothing_is_left_after_del, bridge, list, node, possible,
};

/// A node that keeps pods to their namespace, with a network in each of three namespaces.
fn isolating() -> Node {
    let mut node = node();
    node.set("namespaceIsolation", true);
    let networks = [("shop/own", 1), ("default/common", 2), ("bank/vault", 3)]
        .map(|(name, n)| (name, list(&[bridge(&node, &format!("net{n}"), &[&format!("10.{n}.0.0/24")])])));
    let networks: Vec<_> = networks.iter().map(|(name, config)| (*name, config)).collect();
    node.define(&networks).unwrap();
    node
}

#[test]
fn a_pod_may_use_networks_of_its_namespace_and_of_global_ones() {
    if !possible(&[]) {
        return;
    }
    let node = isolating();
    let pod = Pod::new("one", "own,default/common").unwrap().of("shop");
    node.add(&pod).unwrap();
    assert_eq!(
        (addresses(&pod, "net1"), addresses(&pod, "net2")),
        (vec!["10.1.0.2/24".to_owned()], vec!["10.2.0.2/24".to_owned()])
    );
    assert_nothing_is_left_after_del(&node, &[&pod]);
}

#[test]
fn a_network_of_another_namespace_is_refused_before_anything_runs() {
    if !possible(&[]) {
        return;
    }
    let node = isolating();
    let pod = Pod::new("one", "own,bank/vault").unwrap().of("shop");
    let mut other = Pod::new("two", "").unwrap().of("shop");
    other.annotations.insert(DEFAULT_NETWORK.to_owned(), "bank/vault".to_owned());
    for pod in [&pod, &other] {
        let refusal = node.add(pod).unwrap_err();
        assert!(refusal.msg.contains("bank/vault"), "{refusal}");
        assert!(!node.host.netns.links().unwrap().contains("pods0"), "the primary has not run");
        assert_nothing_is_left(&node, &[pod]);
    }
}

#[test]
fn without_isolation_any_network_may_be_named_and_may_be_the_primary() {
    if !possible(&[]) {
        return;
    }
    let mut node = isolating();
    node.set("namespaceIsolation", false);
    let mut pod = Pod::new("one", "default/common").unwrap().of("shop");
    pod.annotations.insert(DEFAULT_NETWORK.to_owned(), "bank/vault".to_owned());
    node.add(&pod).unwrap();
    assert_eq!(
        (addresses(&pod, "eth0"), addresses(&pod, "net1")),
        (vec!["10.3.0.2/24".to_owned()], vec!["10.2.0.2/24".to_owned()])
    );
    assert_nothing_is_left_after_del(&node, &[&pod]);
}
