//! Addresses that many share: pods at once, networks of one name.

use std::collections::BTreeSet;
use std::fs;

use e2e::node::{Node, Pod};

use super::{addresses, assert_nothing_is_left_after_del, assert_reachable, bridge, list, node, possible};

/// The names of host-local's directories.
fn pools(node: &Node) -> BTreeSet<String> {
    let entries = fs::read_dir(node.file("ipam")).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn networks_of_one_name_in_two_namespaces_share_nothing() {
    if !possible(&[]) {
        return;
    }
    let node = node();
    let (shop, bank) = (bridge(&node, "shop0", &["10.1.0.0/24"]), bridge(&node, "bank0", &["10.1.0.0/24"]));
    node.define(&[("shop/storage", &list(&[shop])), ("bank/storage", &list(&[bank]))]).unwrap();
    let one = Pod::new("one", "storage").unwrap().of("shop");
    let other = Pod::new("two", "storage").unwrap().of("bank");
    for pod in [&one, &other] {
        node.add(pod).unwrap();
        // The first free address of a pool of its own.
        assert_eq!(addresses(pod, "net1"), ["10.1.0.2/24"]);
    }
    assert_eq!(pools(&node), ["primary", "shop__storage", "bank__storage"].map(str::to_owned).into());
    node.del(&one).unwrap();
    node.check(&other).unwrap();
    assert_nothing_is_left_after_del(&node, &[&one, &other]);
}

#[test]
fn networks_that_are_named_alike_on_purpose_share_one_pool_without_duplicates() {
    if !possible(&[]) {
        return;
    }
    let node = node();
    let mut shared = list(&[bridge(&node, "shared0", &["10.1.0.0/24"])]);
    shared["name"] = "everybodys".into();
    node.define(&[("shop/storage", &shared), ("bank/storage", &shared)]).unwrap();
    let one = Pod::new("one", "storage,storage").unwrap().of("shop");
    let other = Pod::new("two", "storage").unwrap().of("bank");
    node.add(&one).unwrap();
    node.add(&other).unwrap();
    let all: BTreeSet<_> =
        [addresses(&one, "net1"), addresses(&one, "net2"), addresses(&other, "net1")].into();
    assert_eq!(all.len(), 3, "{all:?}");
    assert_eq!(pools(&node), ["primary", "everybodys"].map(str::to_owned).into());
    assert_reachable(&one, &other, "net1");
    assert_nothing_is_left_after_del(&node, &[&one, &other]);
}

#[test]
fn twelve_pods_at_once_get_addresses_of_their_own() {
    if !possible(&[]) {
        return;
    }
    let mut node = node();
    node.set("attachmentConcurrency", 2);
    let storage = list(&[bridge(&node, "storage0", &["10.1.0.0/24"])]);
    let fabric = list(&[bridge(&node, "fabric0", &["10.2.0.0/24", "fd00:2::/64"])]);
    node.define(&[("default/storage", &storage), ("default/fabric", &fabric)]).unwrap();
    let pods: Vec<Pod> = (0..12).map(|n| Pod::new(&format!("pod-{n}"), "storage,fabric").unwrap()).collect();
    std::thread::scope(|scope| {
        let adding: Vec<_> = pods.iter().map(|pod| scope.spawn(|| node.add(pod))).collect();
        for (adding, pod) in adding.into_iter().zip(&pods) {
            adding.join().unwrap().unwrap_or_else(|refusal| panic!("{}: {refusal}", pod.name));
        }
    });
    for (interface, families) in [("eth0", 2), ("net1", 1), ("net2", 2)] {
        let all: Vec<String> = pods.iter().flat_map(|pod| addresses(pod, interface)).collect();
        assert_eq!(all.len(), 12 * families, "{interface}: {all:?}");
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len(), "{interface}: {all:?}");
    }
    assert_reachable(&pods[0], &pods[11], "net2");
    std::thread::scope(|scope| {
        for pod in &pods {
            scope.spawn(|| node.del(pod).unwrap());
        }
    });
    assert_nothing_is_left_after_del(&node, &pods.iter().collect::<Vec<_>>());
}
