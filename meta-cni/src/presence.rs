//! Does the pod still have what it had of an attachment when ADD ended?
//!
//! Asked of the kernel, and of no plugin: some plugins compare with what other pods change (the address of a bridge),
//! or look for what a later plugin of their list has moved (`sbr`, `vrf`), and CRI-O ends a sandbox whose CHECK fails
//! right after its ADD. Nor are results taken at their word: plugins name interfaces that never were in the pod (devices
//! of DPDK), and later attachments change those of earlier ones (a bond its members). So ADD notes what of the results
//! the kernel really had ([`seen`]), and CHECK looks for that ([`difference`]); both are pure. `kernel` reads the
//! namespace.
//!
//! Interfaces are found by name: KubeVirt takes a pod's interface for its virtual machine and leaves another one under
//! the same name, with the same addresses.

mod kernel;

use std::path::Path;

use cni::result::Family;
use ipnet::IpNet;
use store::record::{AttachmentRecord, SeenInterface};

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
    /// The families of which a default route leads through it, in whatever table; empty where nobody asked.
    default_routes: Vec<Family>,
}

/// How an attachment differs from what it was when ADD ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Difference {
    /// The pod has lost something of it.
    Lost(String),
    /// Something is another than it was, and the pod still has its network: a hardware address that changed with that of
    /// the host's interface below it, for example.
    Changed(String),
}

/// The interfaces of a namespace, with their addresses.
pub(crate) fn interfaces(netns: &Path) -> Result<Vec<Present>, NamespaceError> {
    namespace::within(netns, kernel::interfaces)?.map_err(NamespaceError::Look)
}

/// The same with their default routes, which cost two questions more.
pub(crate) fn interfaces_with_routes(netns: &Path) -> Result<Vec<Present>, NamespaceError> {
    namespace::within(netns, kernel::interfaces_with_routes)?.map_err(NamespaceError::Look)
}

/// Whether an interface is among those that are present.
pub(crate) fn has(present: &[Present], name: &str) -> bool {
    find(present, name).is_some()
}

fn find<'a>(present: &'a [Present], name: &str) -> Option<&'a Present> {
    present.iter().find(|found| found.names.iter().any(|own| own == name))
}

/// What of an attachment's result is in its pod.
pub(crate) fn seen(attachment: &AttachmentRecord, netns: &Path, present: &[Present]) -> Vec<SeenInterface> {
    let Some(result) = &attachment.result else { return Vec::new() };
    let result = result.settled(&attachment.if_name, Some(netns));
    let in_pod = result.interfaces.iter().enumerate().filter(|(_, interface)| interface.is_in_pod());
    in_pod
        .filter_map(|(index, interface)| {
            let found = find(present, &interface.name)?;
            let own = result.ips.iter().filter(|ip| ip.interface == Some(index));
            // Some plugins tell another prefix length than the one that they set.
            let there = |ip: &cni::result::IpConfig| {
                found.addresses.iter().copied().find(|net| net.addr() == ip.address.addr())
            };
            let addresses = own.filter_map(there).collect();
            Some(SeenInterface { name: interface.name.clone(), mac: found.mac.clone(), addresses })
        })
        .collect()
}

/// How an attachment differs from what was seen of it; `None` if it does not, or if nobody looked at ADD.
pub(crate) fn difference(attachment: &AttachmentRecord, present: &[Present]) -> Option<Difference> {
    let seen = attachment.seen.as_ref()?;
    if let Some(lost) = seen.iter().find_map(|interface| lost(interface, present)) {
        return Some(Difference::Lost(lost));
    }
    let own = find(present, attachment.if_name.as_str());
    let is_lost = |family: &&Family| !own.is_some_and(|found| found.default_routes.contains(family));
    if let Some(lost) = attachment.default_route.iter().find(is_lost) {
        let name = &attachment.if_name;
        return Some(Difference::Lost(format!(
            "the pod's {lost} default route no longer leads through interface {name}"
        )));
    }
    seen.iter().find_map(|interface| changed(interface, present)).map(Difference::Changed)
}

fn lost(seen: &SeenInterface, present: &[Present]) -> Option<String> {
    let Some(found) = find(present, &seen.name) else {
        return Some(format!("interface {} is gone", seen.name));
    };
    let address = seen.addresses.iter().find(|address| !found.addresses.contains(address))?;
    Some(format!("interface {} has lost the address {address}", seen.name))
}

fn changed(seen: &SeenInterface, present: &[Present]) -> Option<String> {
    let found = find(present, &seen.name)?;
    let (now, then) = (&found.mac, &seen.mac);
    (now != then)
        .then(|| format!("interface {} has the hardware address {now}, and had {then} at ADD", seen.name))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NETNS: &str = "/run/netns/x";

    fn attachment(result: Value, present: &[Present]) -> AttachmentRecord {
        let list = json!({"cniVersion": "1.0.0", "name": "a", "plugins": [{"type": "macvlan"}]});
        let mut attachment = AttachmentRecord {
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
            seen: None,
            complaint: None,
        };
        attachment.seen = Some(seen(&attachment, Path::new(NETNS), present));
        attachment
    }

    fn present(name: &str, mac: &str, addresses: &[&str]) -> Present {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        let default_routes = Vec::new();
        Present { names: vec![name.to_owned()], mac: mac.to_owned(), addresses, default_routes }
    }

    fn lost(text: &str) -> Difference {
        Difference::Lost(text.to_owned())
    }

    #[test]
    fn what_the_pod_had_is_compared_with_what_it_has() {
        let result = json!({"cniVersion": "1.1.0",
            "interfaces": [
                {"name": "br0", "mac": "02:00:00:00:00:01"},
                {"name": "net1", "mac": "02:00:00:00:00:0A", "sandbox": NETNS},
            ],
            "ips": [{"address": "10.0.0.2/24", "interface": 1}, {"address": "fd00::2/64", "interface": 1}]});
        let (mac, addresses) = ("02:00:00:00:00:0a", ["10.0.0.2/24", "fd00::2/64", "fe80::1/64"]);
        let whole = present("net1", mac, &addresses);
        let it = attachment(result, std::slice::from_ref(&whole));
        let other = present("net1", "02:00:00:00:00:0b", &addresses);
        let changed =
            "interface net1 has the hardware address 02:00:00:00:00:0b, and had 02:00:00:00:00:0a at ADD";
        for (interfaces, expected) in [
            (vec![whole, present("eth0", "x", &[])], None),
            (vec![present("eth0", mac, &addresses)], Some(lost("interface net1 is gone"))),
            (vec![other], Some(Difference::Changed(changed.to_owned()))),
            (
                vec![present("net1", mac, &addresses[..1])],
                Some(lost("interface net1 has lost the address fd00::2/64")),
            ),
        ] {
            assert_eq!(difference(&it, &interfaces), expected);
        }
    }

    /// A device of DPDK, a plugin that returns nothing, one that names what is not there; a bond that has changed the
    /// address of its member; another prefix length.
    #[test]
    fn what_never_was_in_the_pod_cannot_be_lost() {
        let named = json!({"cniVersion": "1.1.0",
            "interfaces": [{"name": "net1", "mac": "02:00:00:00:00:0a", "sandbox": NETNS}],
            "ips": [{"address": "10.0.0.2/32", "interface": 0}]});
        for (result, there) in [
            (json!({"cniVersion": "1.1.0"}), vec![]),
            (json!({"cniVersion": "1.1.0", "ips": [{"address": "10.0.0.2/24"}]}), vec![]),
            (named.clone(), vec![]),
            (named.clone(), vec![present("net1", "02:00:00:00:00:0b", &[])]),
            (named, vec![present("net1", "02:00:00:00:00:0a", &["10.0.0.2/24"])]),
        ] {
            let it = attachment(result, &there);
            assert_eq!(difference(&it, &there), None, "{there:?}");
        }
    }

    #[test]
    fn a_result_without_interfaces_is_of_the_one_that_was_asked_for() {
        let result = json!({"cniVersion": "1.1.0", "ips": [{"address": "10.0.0.2/24"}]});
        let it = attachment(result, &[present("net1", "", &["10.0.0.2/24"])]);
        assert_eq!(difference(&it, &[present("net1", "", &["10.0.0.2/24"])]), None);
        assert!(difference(&it, &[present("net1", "", &[])]).is_some());
        assert!(difference(&it, &[]).is_some());
    }

    #[test]
    fn a_default_route_that_the_pod_asked_for_is_missed() {
        let mut interface = present("net1", "", &["10.0.0.2/24"]);
        let result = json!({"cniVersion": "1.1.0", "ips": [{"address": "10.0.0.2/24"}]});
        let mut it = attachment(result, std::slice::from_ref(&interface));
        it.default_route = vec![Family::Ipv4];
        let expected = Some(lost("the pod's IPv4 default route no longer leads through interface net1"));
        assert_eq!(difference(&it, &[interface.clone()]), expected);
        interface.default_routes = vec![Family::Ipv6];
        assert_eq!(difference(&it, &[interface.clone()]), expected);
        interface.default_routes.push(Family::Ipv4);
        assert_eq!(difference(&it, &[interface]), None);
    }

    #[test]
    fn where_nobody_looked_at_add_nothing_is_missed() {
        let mut it = attachment(json!({"cniVersion": "1.1.0", "ips": [{"address": "10.0.0.2/24"}]}), &[]);
        it.seen = None;
        it.default_route = vec![Family::Ipv4];
        assert_eq!(difference(&it, &[]), None);
    }
}
