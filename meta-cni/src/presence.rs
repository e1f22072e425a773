//! Does the pod still have what an attachment's record says?
//!
//! Asked of the kernel, and of no plugin: some plugins compare with what other pods change (the address of a bridge),
//! or look for what a later plugin of their list has moved (`sbr`, `vrf`), and CRI-O ends a sandbox whose CHECK fails
//! right after its ADD. [`difference`] is pure; `kernel` reads the namespace.

mod kernel;

use std::path::Path;

use cni::result::Family;
use ipnet::IpNet;
use store::record::AttachmentRecord;

use crate::namespace::{self, NamespaceError};

/// An interface that is in the pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Present {
    /// Its name and its alternative names.
    names: Vec<String>,
    /// Its hardware address, in lower case with colons; empty where it has none.
    mac: String,
    /// Its addresses.
    addresses: Vec<IpNet>,
    /// The families of which a default route leads through it, in whatever table.
    default_routes: Vec<Family>,
}

/// The interfaces of a namespace.
pub(crate) fn interfaces(netns: &Path) -> Result<Vec<Present>, NamespaceError> {
    namespace::within(netns, kernel::interfaces)?.map_err(NamespaceError::Look)
}

/// What is missing of an attachment among the interfaces of its pod, or is another than ADD said; `None` if nothing is.
pub(crate) fn difference(attachment: &AttachmentRecord, netns: &Path, present: &[Present]) -> Option<String> {
    let result = attachment.result.as_ref()?.settled(&attachment.if_name, Some(netns));
    let find = |name: &str| present.iter().find(|found| found.names.iter().any(|own| own == name));
    for interface in result.interfaces.iter().filter(|interface| interface.is_in_pod()) {
        let Some(found) = find(&interface.name) else {
            return Some(format!("interface {} is gone", interface.name));
        };
        let expected = interface.mac.to_ascii_lowercase();
        if !expected.is_empty() && !found.mac.is_empty() && expected != found.mac {
            return Some(format!(
                "interface {} has the hardware address {}, and had {expected} at ADD",
                interface.name, found.mac
            ));
        }
    }
    for ip in &result.ips {
        let of_pod = ip.interface.and_then(|index| result.interfaces.get(index)).filter(|of| of.is_in_pod());
        let Some(interface) = of_pod else { continue };
        let has_it = |found: &Present| found.addresses.contains(&ip.address);
        if !find(&interface.name).is_some_and(has_it) {
            return Some(format!("interface {} has lost the address {}", interface.name, ip.address));
        }
    }
    let own = find(attachment.if_name.as_str());
    let is_lost = |family: &&Family| !own.is_some_and(|found| found.default_routes.contains(family));
    let lost = attachment.default_route.iter().find(is_lost)?;
    Some(format!("the pod's {lost} default route no longer leads through interface {}", attachment.if_name))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NETNS: &str = "/run/netns/x";

    fn attachment(result: Value) -> AttachmentRecord {
        let list = json!({"cniVersion": "1.0.0", "name": "a", "plugins": [{"type": "macvlan"}]});
        AttachmentRecord {
            network: "default/a".to_owned(),
            network_ref: None,
            if_name: cni::IfName::parse("net1").unwrap(),
            list: cni::NetworkList::from_json(list, None).unwrap(),
            args: cni::CniArgs::default(),
            capabilities: cni::CapabilityArgs::new(),
            refused_by: None,
            result: Some(cni::AddResult::parse(result, cni::SpecVersion::NEWEST).unwrap()),
            default_route: Vec::new(),
            add_us: None,
            complaint: None,
        }
    }

    fn present(name: &str, mac: &str, addresses: &[&str]) -> Present {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        let default_routes = Vec::new();
        Present { names: vec![name.to_owned()], mac: mac.to_owned(), addresses, default_routes }
    }

    #[test]
    fn what_the_record_says_is_compared_with_what_the_pod_has() {
        let result = json!({"cniVersion": "1.1.0",
            "interfaces": [
                {"name": "br0", "mac": "02:00:00:00:00:01"},
                {"name": "net1", "mac": "02:00:00:00:00:0A", "sandbox": NETNS},
            ],
            "ips": [{"address": "10.0.0.2/24", "interface": 1}, {"address": "fd00::2/64", "interface": 1}]});
        let it = attachment(result);
        let addresses = ["10.0.0.2/24", "fd00::2/64", "fe80::1/64"];
        let mac = "02:00:00:00:00:0a";
        for (interfaces, expected) in [
            (vec![present("net1", mac, &addresses), present("eth0", "x", &[])], None),
            (vec![present("net1", "", &addresses)], None),
            (vec![present("eth0", mac, &addresses)], Some("interface net1 is gone")),
            (
                vec![present("net1", "02:00:00:00:00:0b", &addresses)],
                Some(
                    "interface net1 has the hardware address 02:00:00:00:00:0b, and had 02:00:00:00:00:0a at ADD",
                ),
            ),
            (
                vec![present("net1", mac, &addresses[..1])],
                Some("interface net1 has lost the address fd00::2/64"),
            ),
        ] {
            assert_eq!(difference(&it, Path::new(NETNS), &interfaces).as_deref(), expected);
        }
    }

    #[test]
    fn a_default_route_that_the_pod_asked_for_is_missed() {
        let mut it = attachment(json!({"cniVersion": "1.1.0", "ips": [{"address": "10.0.0.2/24"}]}));
        let mut interface = present("net1", "", &["10.0.0.2/24"]);
        let netns = Path::new(NETNS);
        it.default_route = vec![Family::Ipv4];
        let lost = "the pod's IPv4 default route no longer leads through interface net1";
        assert_eq!(difference(&it, netns, &[interface.clone()]).as_deref(), Some(lost));
        interface.default_routes = vec![Family::Ipv6];
        assert!(difference(&it, netns, &[interface.clone()]).is_some());
        interface.default_routes.push(Family::Ipv4);
        assert_eq!(difference(&it, netns, &[interface]), None);
    }

    #[test]
    fn a_result_without_interfaces_is_of_the_one_that_was_asked_for() {
        let it = attachment(json!({"cniVersion": "1.1.0", "ips": [{"address": "10.0.0.2/24"}]}));
        let netns = Path::new(NETNS);
        assert_eq!(difference(&it, netns, &[present("net1", "", &["10.0.0.2/24"])]), None);
        assert!(difference(&it, netns, &[present("net1", "", &[])]).is_some());
        assert!(difference(&it, netns, &[]).is_some());
    }
}
