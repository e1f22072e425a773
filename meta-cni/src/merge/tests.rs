use cni::{CapabilityArgs, CniArgs, IfName, NetworkList, SpecVersion};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn attachment(if_name: &str, result: Value) -> AttachmentRecord {
    AttachmentRecord {
        network: format!("default/{if_name}"),
        network_ref: None,
        if_name: IfName::parse(if_name).unwrap(),
        list: NetworkList::from_json(json!({"name": "n", "type": "x"}), None).unwrap(),
        args: CniArgs::default(),
        capabilities: CapabilityArgs::new(),
        result: Some(AddResult::parse(result, SpecVersion::V1_1_0).unwrap()),
        default_route: Vec::new(),
        refused_by: None,
        add_us: None,
        seen: None,
        complaint: None,
    }
}

const NETNS: &str = "/run/netns/pod";

fn merged(attachments: &[AttachmentRecord]) -> AddResult {
    merge(attachments, Some(Path::new(NETNS)))
}

fn names(result: &AddResult) -> Vec<&str> {
    result.interfaces.iter().map(|interface| interface.name.as_str()).collect()
}

/// Each address with the name of its interface.
fn addresses(result: &AddResult) -> Vec<(String, String)> {
    let name = |ip: &IpConfig| result.interfaces[ip.interface.unwrap()].name.clone();
    result.ips.iter().map(|ip| (ip.address.to_string(), name(ip))).collect()
}

fn bridge_like(if_name: &str, veth: &str, address: &str) -> AttachmentRecord {
    attachment(
        if_name,
        json!({
            "interfaces": [{"name": "br0"}, {"name": veth}, {"name": if_name, "sandbox": NETNS}],
            "ips": [{"address": address, "interface": 2}],
            "routes": [{"dst": "0.0.0.0/0"}], "dns": {"domain": if_name},
        }),
    )
}

#[test]
fn the_primary_comes_first_and_indices_are_moved() {
    let result =
        merged(&[bridge_like("eth0", "veth1", "10.0.0.2/24"), bridge_like("net1", "veth2", "10.1.0.2/24")]);
    assert_eq!(names(&result), ["br0", "veth1", "eth0", "veth2", "net1"]);
    assert_eq!(
        addresses(&result),
        [("10.0.0.2/24".to_owned(), "eth0".to_owned()), ("10.1.0.2/24".to_owned(), "net1".to_owned())]
    );
    assert_eq!(result.routes.len(), 1, "routes are the primary's");
    assert_eq!(result.dns.domain, "eth0", "name servers too");
}

#[test]
fn no_two_interfaces_have_one_name_and_the_pods_wins() {
    let host_net1 = attachment(
        "eth0",
        json!({"interfaces": [{"name": "net1"}, {"name": "eth0", "sandbox": NETNS}],
               "ips": [{"address": "10.0.0.2/24", "interface": 1}, {"address": "10.0.0.3/24", "interface": 0}]}),
    );
    let result = merged(&[host_net1, bridge_like("net1", "veth2", "10.1.0.2/24")]);
    assert_eq!(names(&result), ["eth0", "br0", "veth2", "net1"]);
    let kept: Vec<_> = addresses(&result).into_iter().map(|(address, _)| address).collect();
    assert_eq!(kept, ["10.0.0.2/24", "10.1.0.2/24"], "the address of what was left out is left out");
}

#[test]
fn results_are_settled_first() {
    let old = attachment("eth0", json!({"cniVersion": "0.2.0", "ip4": {"ip": "10.0.0.2/24"}}));
    let aws = attachment(
        "net1",
        json!({"interfaces": [{"name": "eth0", "sandbox": "0"}, {"name": "net1", "sandbox": NETNS}],
               "ips": [{"address": "10.1.0.2/24"}]}),
    );
    let result = merged(&[old, aws]);
    assert_eq!(names(&result), ["eth0", "net1"]);
    assert_eq!(result.interfaces[0].sandbox, NETNS);
    assert_eq!(
        addresses(&result),
        [("10.0.0.2/24".to_owned(), "eth0".to_owned()), ("10.1.0.2/24".to_owned(), "net1".to_owned())]
    );
}

#[test]
fn an_attachment_that_made_nothing_still_shows_its_interface() {
    assert_eq!(names(&merged(&[attachment("eth0", json!({}))])), ["eth0"]);
}

fn any_result() -> impl Strategy<Value = Value> {
    let interface = ("[a-c][01]", any::<bool>())
        .prop_map(|(name, pod)| json!({"name": name, "sandbox": if pod { NETNS } else { "" }}));
    let ip = (0u8..255, proptest::option::of(0usize..5))
        .prop_map(|(n, index)| json!({"address": format!("10.0.0.{n}/24"), "interface": index}));
    (proptest::collection::vec(interface, 0..4), proptest::collection::vec(ip, 0..4))
        .prop_map(|(interfaces, ips)| json!({"interfaces": interfaces, "ips": ips}))
}

proptest! {
    /// What go-cni (containerd) asks of a result: unique names, every index in range.
    #[test]
    fn any_results_merge_into_one_that_runtimes_take(results in proptest::collection::vec(any_result(), 1..5)) {
        let attachments: Vec<_> = results
            .into_iter()
            .enumerate()
            .map(|(n, result)| attachment(&if n == 0 { "eth0".to_owned() } else { format!("net{n}") }, result))
            .collect();
        let result = merged(&attachments);
        let mut names = names(&result);
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        prop_assert_eq!(names.len(), count, "unique names");
        for ip in &result.ips {
            prop_assert!(ip.interface.is_some_and(|index| index < count), "{:?}", ip);
        }
        // No address changes its interface on the way.
        let before: Vec<_> = attachments
            .iter()
            .flat_map(|attachment| addresses(&settled(attachment, Some(Path::new(NETNS))).unwrap()))
            .collect();
        for pair in addresses(&result) {
            prop_assert!(before.contains(&pair), "{:?}", pair);
        }
    }

    #[test]
    fn merging_one_complete_result_changes_nothing(n in 1u8..200) {
        let one = bridge_like("eth0", "veth1", &format!("10.0.0.{n}/24"));
        prop_assert_eq!(merged(std::slice::from_ref(&one)), one.result.unwrap());
    }
}
