//! What CRI-O asks of a plugin, by its stand-in.

use std::net::IpAddr;

use cni::result::Family;
use e2e::crio::{Crio, Netns, pod_ips};
use e2e::netns::Namespace;
use e2e::node::{Node, Pod};
use serde_json::json;

use super::{assert_nothing_is_left, list, possible, tuning};

const AT_ONCE: usize = 40;

/// A node with a primary of IPv4 alone, and networks whose plugins are wrong at CHECK: `plain`, a bridge without a
/// gateway, whose hardware address every port changes, of IPv6 alone; `moved`, whose routes sbr moves away; `tuned`.
fn crio() -> Crio {
    let node = Node::new().unwrap();
    let bridge = |name: &str, gateway: bool, subnet: &str| json!({ "type": "bridge", "bridge": name, "isGateway": gateway, "ipam": node.host_local(&[subnet]) });
    let mut primary = list(&[bridge("pods0", true, "10.244.0.0/16")]);
    primary["name"] = "primary".into();
    node.configure("10-primary.conflist", &primary).unwrap();
    let mut tuned = tuning(&node);
    tuned["sysctl"] = json!({ "net.ipv4.conf.IFNAME.arp_filter": "1" });
    node.define(&[
        ("default/plain", &list(&[bridge("plain0", false, "fd00:245::/64")])),
        ("default/moved", &list(&[bridge("moved0", true, "10.246.0.0/16"), json!({ "type": "sbr" })])),
        ("default/tuned", &list(&[bridge("tuned0", true, "10.247.0.0/16"), tuned])),
    ])
    .unwrap();
    Crio::new(node).unwrap()
}

#[test]
fn forty_pods_at_once_keep_their_sandboxes_and_have_the_primarys_address_alone() {
    if !possible(&[]) {
        return;
    }
    let crio = crio();
    let pod = |number: usize| Pod::new(&format!("pod{number}"), "plain,moved,tuned").unwrap();
    let mut pods: Vec<_> = (0..AT_ONCE).map(pod).collect();
    let run = |pod: &Pod| crio.run(pod);
    let told: Vec<_> = std::thread::scope(|scope| {
        let all: Vec<_> = pods.iter().map(|pod| scope.spawn(move || run(pod))).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    for (pod, told) in pods.iter().zip(told) {
        let told = told.unwrap_or_else(|refusal| panic!("{}: {refusal}", pod.name));
        // With the merged result the pod would have an IPv6 address, of a network that no Service knows.
        let primary: IpAddr = pod.address("eth0", Family::Ipv4).unwrap();
        assert_eq!(pod_ips(&told), [primary], "{}", pod.name);
        assert!(pod.address("net1", Family::Ipv6).is_ok() && pod.address("net3", Family::Ipv4).is_ok());
        let record = crio.node().record(pod).unwrap().unwrap();
        assert_eq!(record.attachments.iter().filter(|it| it.result.is_some()).count(), 4, "network-status");
    }
    crio.restart(&pods.iter().collect::<Vec<_>>()).unwrap();
    // What GC does not know of, it takes away.
    let (collected, kept) = pods.split_at_mut(AT_ONCE / 4);
    crio.restart(&kept.iter().collect::<Vec<_>>()).unwrap();
    for pod in collected {
        assert!(crio.node().record(pod).unwrap().is_none(), "{}", pod.name);
        crio.stop(pod, Netns::OfPod).unwrap();
    }
    for (index, pod) in kept.iter_mut().enumerate() {
        // A reboot ends namespaces; the path may be that of another one since.
        let lives = index % 4 == 0;
        if !lives {
            pod.netns = Namespace::new(&pod.name).unwrap();
        }
        let netns = [Netns::OfPod, Netns::None, Netns::Gone, Netns::OfPod][index % 4];
        crio.stop(pod, netns).unwrap();
        crio.stop(pod, Netns::None).unwrap();
    }
    assert_nothing_is_left(crio.node(), &pods.iter().collect::<Vec<_>>());
}

/// CRI-O looks them up with today's configuration, which is Braid's.
#[test]
fn pods_from_before_braid_outlive_a_restart() {
    if !possible(&[]) {
        return;
    }
    let crio = crio();
    let pod = Pod::new("before", "").unwrap();
    let mut bridge = json!({
        "cniVersion": "1.0.0", "name": "primary", "type": "bridge", "bridge": "pods0", "isGateway": true,
    });
    bridge["ipam"] = crio.node().host_local(&["10.244.0.0/16"]);
    crio.node().add_by(&crio.node().file("bin/bridge"), &bridge, &pod).unwrap();
    crio.restart(&[&pod]).unwrap();
    crio.stop(&pod, Netns::OfPod).unwrap();
    assert_eq!(crio.restart(&[&pod]).unwrap_err().code, 3, "it has no network any more");
    assert_nothing_is_left(crio.node(), &[&pod]);
}

/// Devices of DPDK have no interface in the pod, and the members of a bond get its hardware address.
#[test]
fn what_never_was_in_the_pod_fails_no_sandbox() {
    if !possible(&[]) {
        return;
    }
    let crio = crio();
    let script = "#!/bin/sh\n[ \"$CNI_COMMAND\" = CHECK ] && sleep 60\ncat >/dev/null\n[ \"$CNI_COMMAND\" = ADD ] && \
                  echo '{\"cniVersion\":\"1.0.0\",\"interfaces\":[{\"name\":\"net1\",\"sandbox\":\"'$CNI_NETNS'\"}]}'\nexit 0\n";
    let plugin = crio.node().file("bin/dpdk");
    std::fs::write(&plugin, script).unwrap();
    std::fs::set_permissions(&plugin, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    crio.node().define(&[("default/dpdk", &list(&[json!({ "type": "dpdk" })]))]).unwrap();
    let pod = Pod::new("fast", "dpdk").unwrap();
    // Its plugin hangs at CHECK besides, which holds up no sandbox for long.
    crio.run(&pod).unwrap();
    let complaint = crio.node().record(&pod).unwrap().unwrap().attachments[1].complaint.clone();
    assert!(complaint.is_some(), "what hung is told of");
    crio.stop(&pod, Netns::OfPod).unwrap();
    assert_nothing_is_left(crio.node(), &[&pod]);
}

#[test]
fn a_sandbox_that_has_lost_its_network_is_told_of_and_status_needs_a_primary_alone() {
    if !possible(&[]) {
        return;
    }
    let crio = crio();
    let pods = ["one", "two"].map(|name| Pod::new(name, "plain,moved").unwrap());
    for pod in &pods {
        crio.run(pod).unwrap();
    }
    pods[0].netns.ip("link delete net1").unwrap();
    let refusal = crio.restart(&[&pods[1], &pods[0]]).unwrap_err();
    assert!(refusal.msg.contains("default/plain, interface net1: interface net1 is gone"), "{refusal}");
    crio.restart(&[&pods[1]]).unwrap();
    // Before the node role has run after a reboot.
    std::fs::remove_file(crio.node().file("run/node")).unwrap();
    crio.restart(&[&pods[1]]).unwrap();
    std::fs::remove_file(crio.node().file("net.d/10-primary.conflist")).unwrap();
    assert_eq!(crio.restart(&[&pods[1]]).unwrap_err().code, 50);
    for pod in &pods {
        crio.stop(pod, Netns::OfPod).unwrap();
    }
    assert_nothing_is_left(crio.node(), &pods.iter().collect::<Vec<_>>());
}
