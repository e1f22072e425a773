//! CHECK as CRI-O calls it, right after each ADD: what plugins are wrong about ends no sandbox.

use e2e::node::Pod;
use serde_json::json;

use super::{assert_nothing_is_left_after_del, list, node, possible};

#[test]
fn a_plugins_slip_at_check_ends_no_sandbox_and_a_lost_address_does() {
    if !possible(&[]) {
        return;
    }
    let node = node();
    // The bridge gets another hardware address with each port, unless it has a gateway's; the bridge plugin compares it.
    let plain = json!({"type": "bridge", "bridge": "plain0", "ipam": node.host_local(&["10.3.0.0/24"])});
    // sbr moves the routes that the bridge plugin looks for at CHECK.
    let moved = json!({"type": "bridge", "bridge": "moved0", "isGateway": true, "ipam": node.host_local(&["10.4.0.0/24"])});
    node.define(&[
        ("default/plain", &list(&[plain])),
        ("default/moved", &list(&[moved, json!({"type": "sbr"})])),
    ])
    .unwrap();
    let pods: Vec<_> =
        (0..6).map(|number| Pod::new(&format!("pod{number}"), "plain,moved").unwrap()).collect();
    for pod in &pods {
        node.add(pod).unwrap();
    }
    for pod in &pods {
        node.check(pod).unwrap();
    }
    pods[0].netns.ip("address flush dev net1").unwrap();
    let refusal = node.check(&pods[0]).unwrap_err();
    assert!(
        refusal.msg.contains("network default/plain, interface net1: interface net1 has lost"),
        "{refusal}"
    );
    pods[1].netns.ip("link set net2 down").unwrap();
    pods[1].netns.ip("link set net2 address 02:00:00:00:00:99").unwrap();
    // The pod still has its network: that is told, and ends it only where it is to.
    node.check(&pods[1]).unwrap();
    let record = node.record(&pods[1]).unwrap().unwrap();
    let complaint = record.attachments[2].complaint.clone().unwrap_or_default();
    assert!(complaint.contains("net2"), "{complaint}");
    for pod in &pods[2..] {
        node.check(pod).unwrap();
    }
    assert_nothing_is_left_after_del(&node, &pods.iter().collect::<Vec<_>>());
}
