use cni::{CapabilityArgs, CniArgs, IfName, NetworkList, SpecVersion};
use serde_json::{Value, json};

use super::*;

fn attachment(if_name: &str, result: Value) -> AttachmentRecord {
    AttachmentRecord {
        network: "n".to_owned(),
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

fn pod() -> Vec<AttachmentRecord> {
    vec![
        attachment(
            "eth0",
            json!({"routes": [{"dst": "0.0.0.0/0", "gw": "10.0.0.1"}, {"dst": "::/0", "gw": "fd00::1"}]}),
        ),
        attachment(
            "net1",
            json!({"ips": [{"address": "10.1.0.2/24", "gateway": "10.1.0.1"}],
                   "routes": [{"dst": "0.0.0.0/0"}, {"dst": "10.9.0.0/16"}]}),
        ),
        attachment("net2", json!({})),
    ]
}

fn gateways(attachment: &AttachmentRecord) -> Vec<String> {
    let routes = &attachment.result.as_ref().unwrap().routes;
    routes
        .iter()
        .filter(|r| r.is_default())
        .map(|r| r.gw.map_or("-".to_owned(), |gw| gw.to_string()))
        .collect()
}

#[test]
fn others_lose_the_default_route_of_the_owned_family_only() {
    let mut pod = pod();
    let change = Change {
        family: Family::Ipv4,
        owner: 2,
        gateway: Some("10.2.0.1".parse().unwrap()),
        is_its_own: false,
    };
    record(&[change], &mut pod);
    assert_eq!(gateways(&pod[0]), ["fd00::1"]);
    assert_eq!(gateways(&pod[1]), [] as [&str; 0]);
    assert_eq!(pod[1].result.as_ref().unwrap().routes.len(), 1, "other routes stay");
    assert_eq!(gateways(&pod[2]), ["10.2.0.1"]);
    assert_eq!(pod[2].default_route, [Family::Ipv4]);
    assert_eq!(owned_elsewhere(&pod), [Route::default_through("10.2.0.1".parse().unwrap())]);
}

#[test]
fn an_empty_list_owns_only_families_in_which_it_has_a_default_route() {
    let pod = pod();
    let result = pod[1].result.as_ref().unwrap();
    assert_eq!(
        own_default(result, Family::Ipv4),
        Some(OwnDefault { gateway: Some("10.1.0.1".parse().unwrap()) })
    );
    assert_eq!(own_default(result, Family::Ipv6), None);
    assert_eq!(own_default(pod[2].result.as_ref().unwrap(), Family::Ipv4), None);
}

#[test]
fn the_owner_keeps_its_route_as_it_is_when_it_is_the_one_that_was_asked_for() {
    let mut pod = pod();
    let change = Change {
        family: Family::Ipv4,
        owner: 0,
        gateway: Some("10.0.0.1".parse().unwrap()),
        is_its_own: true,
    };
    let before = pod[0].result.clone();
    record(&[change], &mut pod);
    assert_eq!(pod[0].result, before);
    assert_eq!(gateways(&pod[1]), [] as [&str; 0]);
    assert!(owned_elsewhere(&pod).is_empty(), "the primary's are in its own result");
}
