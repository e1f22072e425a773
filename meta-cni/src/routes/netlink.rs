//! The pod's routing table, over netlink.
//!
//! Order matters: the new route replaces one of the same metric in one step, so that the pod is
//! never without, and the others are taken away after it.

use std::io;
use std::net::IpAddr;
use std::path::Path;

use cni::result::Family;
use ipnet::IpNet;
use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REPLACE};
use netlink_packet_route::address::{AddressAttribute, AddressHeader, AddressMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rustix::io::Errno;

use super::{Change, RouteError};
use crate::namespace;
use crate::netlink::Kernel;

/// Applies changes in the namespace; `interfaces` are the names per attachment, its own first. Those are returned that
/// are true now: the others change nothing.
pub(super) fn apply(
    netns: &Path,
    changes: &[Change],
    interfaces: &[Vec<String>],
) -> Result<Vec<Change>, RouteError> {
    namespace::within(netns, || in_namespace(changes, interfaces))?
}

fn in_namespace(changes: &[Change], interfaces: &[Vec<String>]) -> Result<Vec<Change>, RouteError> {
    let kernel = Kernel::connect().map_err(|source| {
        let family = changes.first().map_or(Family::Ipv4, |change| change.family);
        RouteError::Read { family, source }
    })?;
    let mut kernel = Routes { kernel };
    let mut before = Vec::new();
    for Change { family, .. } in changes {
        let family = *family;
        let routes = kernel.default_routes(family).map_err(|source| RouteError::Read { family, source })?;
        before.push((family, routes));
    }
    let mut applied = Vec::new();
    for change in changes {
        match kernel.change(change, interfaces) {
            Ok(true) => applied.push(change.clone()),
            Ok(false) => {}
            Err(error) => {
                for (family, routes) in &before {
                    // The first error is told; the attachments are undone next in any case.
                    let _ = kernel.restore(*family, routes);
                }
                return Err(error);
            }
        }
    }
    Ok(applied)
}

/// The indexes of the interfaces through which default routes lead, in whatever table.
pub(crate) fn default_routes_through(kernel: &mut Kernel, family: Family) -> io::Result<Vec<u32>> {
    Ok(default_routes_of_all_tables(kernel, family)?.iter().flat_map(ways).collect())
}

struct Routes {
    kernel: Kernel,
}

impl Routes {
    /// Whether it is true now.
    fn change(&mut self, change: &Change, interfaces: &[Vec<String>]) -> Result<bool, RouteError> {
        let family = change.family;
        let own = interfaces.get(change.owner).and_then(|names| names.first()).cloned().unwrap_or_default();
        let owner = self.index(&own)?;
        let mut losers = Vec::new();
        for (number, names) in interfaces.iter().enumerate() {
            for name in names.iter().filter(|_| number != change.owner) {
                // An interface that a plugin names but did not leave in the pod has no routes.
                losers.extend(self.index(name));
            }
        }
        let read = |source| RouteError::Read { family, source };
        let is_wanted =
            |present: &RouteMessage| outgoing(present) == Some(owner) && gateway(present) == change.gateway;
        if !self.default_routes(family).map_err(read)?.iter().any(is_wanted) {
            // The network keeps its default route where it has put it, and the others keep theirs.
            if change.is_its_own && self.has_one_only_elsewhere(family, owner).map_err(read)? {
                return Ok(false);
            }
            let target = target(change.gateway, &own);
            self.set(family, owner, change.gateway).map_err(|source| RouteError::Set {
                family,
                target,
                source,
            })?;
        }
        let after = self.default_routes(family).map_err(read)?;
        for present in after.into_iter().filter(|r| outgoing(r).is_some_and(|i| losers.contains(&i))) {
            self.remove(present).map_err(|source| RouteError::Remove { family, source })?;
        }
        Ok(true)
    }

    /// Sets the default route.
    fn set(&mut self, family: Family, interface: u32, gateway: Option<IpAddr>) -> io::Result<()> {
        let route = route(family, interface, gateway);
        let plain = self.put(route.clone(), NLM_F_REPLACE);
        match (plain, gateway) {
            // Plugins such as sbr move the routes of an interface into a table of its own, the one to its subnet too.
            // In the main table there is no way to the gateway then, though it is on the interface's link.
            (Err(error), Some(gateway)) if is_no_way(&error) && self.is_on_link(interface, gateway)? => {
                let mut route = route;
                route.header.flags |= RouteFlags::Onlink;
                self.put(route, NLM_F_REPLACE)
            }
            (plain, _) => plain,
        }
    }

    /// Whether an address is in a subnet of an address of the interface.
    fn is_on_link(&mut self, interface: u32, address: IpAddr) -> io::Result<bool> {
        let mut query = AddressMessage::default();
        query.header =
            AddressHeader { family: address_family(Family::of(address)), ..AddressHeader::default() };
        let mut found = false;
        self.kernel.ask(RouteNetlinkMessage::GetAddress(query), NLM_F_DUMP, &mut |answer| {
            if let RouteNetlinkMessage::NewAddress(own) = answer {
                found |= own.header.index == interface && subnets(&own).any(|net| net.contains(&address));
            }
        })?;
        Ok(found)
    }

    /// Whether the interface has a default route in another table than the main one, and none there.
    fn has_one_only_elsewhere(&mut self, family: Family, interface: u32) -> io::Result<bool> {
        let mut all = default_routes_of_all_tables(&mut self.kernel, family)?;
        all.retain(|route| leads_through(route, interface));
        Ok(!all.is_empty() && !all.iter().any(is_main))
    }

    /// Makes the default routes of a family what they were, as far as it can be done. What replaced a route, and
    /// which one, differs between the families; so what is there is compared with what was.
    fn restore(&mut self, family: Family, before: &[RouteMessage]) -> io::Result<()> {
        let present = self.default_routes(family)?;
        let added = present.iter().filter(|route| !before.iter().any(|old| is_same(old, route)));
        let lost = before.iter().filter(|route| !present.iter().any(|now| is_same(now, route)));
        let (added, lost): (Vec<_>, Vec<_>) = (added.cloned().collect(), lost.cloned().collect());
        let removed: Vec<_> = added.into_iter().map(|route| self.remove(route)).collect();
        let put: Vec<_> = lost.into_iter().map(|route| self.put(route, 0)).collect();
        removed.into_iter().chain(put).collect()
    }

    fn index(&mut self, name: &str) -> Result<u32, RouteError> {
        self.kernel.index(name).map_err(|source| RouteError::Interface { name: name.to_owned(), source })
    }

    /// Default routes of the main table.
    fn default_routes(&mut self, family: Family) -> io::Result<Vec<RouteMessage>> {
        let mut all = default_routes_of_all_tables(&mut self.kernel, family)?;
        all.retain(is_main);
        Ok(all)
    }

    fn put(&mut self, route: RouteMessage, how: u16) -> io::Result<()> {
        self.tell(RouteNetlinkMessage::NewRoute(route), NLM_F_CREATE | how)
    }

    fn remove(&mut self, route: RouteMessage) -> io::Result<()> {
        match self.tell(RouteNetlinkMessage::DelRoute(route), 0) {
            // ESRCH: it went by itself, for example with its interface.
            Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => Ok(()),
            other => other,
        }
    }

    fn tell(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.kernel.ask(message, NLM_F_ACK | flags, &mut |_: RouteNetlinkMessage| {})
    }
}

fn default_routes_of_all_tables(kernel: &mut Kernel, family: Family) -> io::Result<Vec<RouteMessage>> {
    let header = RouteHeader { address_family: address_family(family), ..RouteHeader::default() };
    let query = RouteNetlinkMessage::GetRoute(message(header, Vec::new()));
    let mut found = Vec::new();
    kernel.ask(query, NLM_F_DUMP, &mut |answer| {
        if let RouteNetlinkMessage::NewRoute(route) = answer {
            let header = &route.header;
            let ours = header.destination_prefix_length == 0
                && header.kind == RouteType::Unicast
                && header.address_family == address_family(family);
            found.extend(Some(route).filter(|_| ours));
        }
    })?;
    Ok(found)
}

fn target(gateway: Option<IpAddr>, interface: &str) -> String {
    gateway.map_or(format!("interface {interface}"), |gateway| format!("{gateway} through {interface}"))
}

fn address_family(family: Family) -> AddressFamily {
    match family {
        Family::Ipv4 => AddressFamily::Inet,
        Family::Ipv6 => AddressFamily::Inet6,
    }
}

fn route(family: Family, interface: u32, gateway: Option<IpAddr>) -> RouteMessage {
    let header = RouteHeader {
        address_family: address_family(family),
        table: RouteHeader::RT_TABLE_MAIN,
        protocol: RouteProtocol::Static,
        scope: if gateway.is_some() { RouteScope::Universe } else { RouteScope::Link },
        kind: RouteType::Unicast,
        ..RouteHeader::default()
    };
    let mut attributes = vec![RouteAttribute::Oif(interface)];
    attributes.extend(gateway.map(|gateway| RouteAttribute::Gateway(RouteAddress::from(gateway))));
    message(header, attributes)
}

fn message(header: RouteHeader, attributes: Vec<RouteAttribute>) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header = header;
    message.attributes = attributes;
    message
}

fn outgoing(route: &RouteMessage) -> Option<u32> {
    route.attributes.iter().find_map(|a| if let RouteAttribute::Oif(index) = a { Some(*index) } else { None })
}

/// Whether a route, or one of the ways of a route that has several, leads through an interface.
fn leads_through(route: &RouteMessage, interface: u32) -> bool {
    ways(route).contains(&interface)
}

/// The interfaces through which a route leads; several if it has several ways.
fn ways(route: &RouteMessage) -> Vec<u32> {
    let all = route.attributes.iter().flat_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => vec![*index],
        RouteAttribute::MultiPath(ways) => ways.iter().map(|way| way.interface_index).collect(),
        _ => Vec::new(),
    });
    all.collect()
}

/// Whether two routes of one destination lead the same way.
fn is_same(one: &RouteMessage, other: &RouteMessage) -> bool {
    let way = |route: &RouteMessage| {
        let several = |a: &&RouteAttribute| matches!(a, RouteAttribute::MultiPath(_));
        let several = route.attributes.iter().find(several).cloned();
        (route.header.tos, priority(route), outgoing(route), gateway(route), several)
    };
    way(one) == way(other)
}

fn priority(route: &RouteMessage) -> u32 {
    let mut attributes = route.attributes.iter();
    attributes.find_map(|a| if let RouteAttribute::Priority(p) = a { Some(*p) } else { None }).unwrap_or(0)
}

fn is_main(route: &RouteMessage) -> bool {
    table(route) == u32::from(RouteHeader::RT_TABLE_MAIN)
}

/// Whether the kernel says that there is no way to the gateway; of IPv6 it says so otherwise than of IPv4.
fn is_no_way(error: &io::Error) -> bool {
    let errors = [Errno::NETUNREACH, Errno::HOSTUNREACH].map(Errno::raw_os_error);
    error.raw_os_error().is_some_and(|error| errors.contains(&error))
}

/// The subnets that an address of an interface is in: its own, and that of the other end of a point-to-point link.
fn subnets(address: &AddressMessage) -> impl Iterator<Item = IpNet> {
    let length = address.header.prefix_len;
    address.attributes.iter().filter_map(move |attribute| match attribute {
        AddressAttribute::Address(own) | AddressAttribute::Local(own) => IpNet::new(*own, length).ok(),
        _ => None,
    })
}

fn table(route: &RouteMessage) -> u32 {
    let mut attributes = route.attributes.iter();
    attributes
        .find_map(|a| if let RouteAttribute::Table(t) = a { Some(*t) } else { None })
        .unwrap_or_else(|| u32::from(route.header.table))
}

fn gateway(route: &RouteMessage) -> Option<IpAddr> {
    route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(RouteAddress::Inet(address)) => Some(IpAddr::V4(*address)),
        RouteAttribute::Gateway(RouteAddress::Inet6(address)) => Some(IpAddr::V6(*address)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::tests::Namespace;

    fn defaults(namespace: &Namespace) -> [String; 2] {
        ["-4 route show default", "-6 route show default"].map(|words| namespace.ip(words))
    }

    fn interfaces() -> [Vec<String>; 2] {
        ["eth0", "net1"].map(|name| vec![name.to_owned()])
    }

    /// What a pod asks for that names a gateway for `net1`.
    fn named(gateway: &str) -> Change {
        let gateway: IpAddr = gateway.parse().unwrap();
        Change { family: Family::of(gateway), owner: 1, gateway: Some(gateway), is_its_own: false }
    }

    /// What sbr does: the routes of `net1` are in a table of its own.
    fn move_routes_away(namespace: &Namespace) {
        for (family, subnet, gateway) in
            [("-4", "10.0.2.0/24", "10.0.2.1"), ("-6", "fd00:2::/64", "fd00:2::1")]
        {
            namespace.ip(&format!("{family} route add {subnet} dev net1 table 100"));
            namespace.ip(&format!("{family} route add default via {gateway} dev net1 table 100"));
            namespace.ip(&format!("{family} route del {subnet} dev net1"));
        }
    }

    #[test]
    fn a_gateway_in_the_subnet_is_taken_though_the_routes_are_in_another_table() {
        let Some(namespace) = Namespace::new() else { return };
        namespace.ip("-4 route add default via 10.0.1.1 dev eth0");
        namespace.ip("-6 route add default via fd00:1::1 dev eth0");
        move_routes_away(&namespace);
        let elsewhere = ["-4", "-6"].map(|family| namespace.ip(&format!("{family} route show table 100")));
        let before = defaults(&namespace);
        for outside in ["10.0.3.1", "fd00:3::1"] {
            let error = apply(&namespace.path(), &[named(outside)], &interfaces()).unwrap_err();
            assert!(matches!(error, RouteError::Set { .. }), "{error}");
        }
        assert_eq!(defaults(&namespace), before);
        // After a failure the routes that can be set are taken back, too.
        apply(&namespace.path(), &["10.0.2.1", "fd00:3::1"].map(named), &interfaces()).unwrap_err();
        assert_eq!(defaults(&namespace), before);
        let changes = ["10.0.2.1", "fd00:2::1"].map(named);
        for round in 0..2 {
            let applied = apply(&namespace.path(), &changes, &interfaces()).unwrap();
            assert_eq!(applied, changes, "round {round}");
            let [ipv4, ipv6] = defaults(&namespace);
            assert!(ipv4.starts_with("default via 10.0.2.1 dev net1") && ipv4.lines().count() == 1, "{ipv4}");
            assert!(
                ipv6.starts_with("default via fd00:2::1 dev net1") && ipv6.lines().count() == 1,
                "{ipv6}"
            );
        }
        let still = ["-4", "-6"].map(|family| namespace.ip(&format!("{family} route show table 100")));
        assert_eq!(still, elsewhere);
    }

    #[test]
    fn a_networks_own_default_route_in_another_table_stays_there_and_changes_nothing() {
        let Some(namespace) = Namespace::new() else { return };
        namespace.ip("-4 route add default via 10.0.1.1 dev eth0");
        namespace.ip("-6 route add default via fd00:1::1 dev eth0");
        let own = ["10.0.2.1", "fd00:2::1"].map(named).map(|change| Change { is_its_own: true, ..change });
        move_routes_away(&namespace);
        let before = namespace.ip("route show table all");
        assert_eq!(apply(&namespace.path(), &own, &interfaces()).unwrap(), []);
        assert_eq!(namespace.ip("route show table all"), before);
        namespace.ip("-4 route del default via 10.0.2.1 dev net1 table 100");
        // Nowhere: another network's was there first, and the plugin has left it so.
        assert_eq!(apply(&namespace.path(), &own, &interfaces()).unwrap(), own[..1]);
        assert!(defaults(&namespace)[0].starts_with("default via 10.0.2.1 dev net1"));
        // In both tables: of two IPv6 routes the kernel has made one, which sbr does not take apart.
        namespace.ip("-6 route append default via fd00:2::1 dev net1 onlink");
        assert_eq!(apply(&namespace.path(), &own, &interfaces()).unwrap(), own);
        let [_, ipv6] = defaults(&namespace);
        assert!(ipv6.starts_with("default via fd00:2::1 dev net1") && ipv6.lines().count() == 1, "{ipv6}");
    }

    #[test]
    fn after_a_failure_the_default_routes_of_both_families_are_what_they_were() {
        let Some(namespace) = Namespace::new() else { return };
        namespace.ip("-4 route add default via 10.0.1.1 dev eth0");
        namespace.ip("-6 route add default via fd00:1::1 dev eth0");
        let (path, interfaces) = (namespace.path(), interfaces());
        let before = defaults(&namespace);
        for changes in [["fd00:2::1", "198.51.100.1"], ["10.0.2.1", "2001:db8:77::1"]] {
            let error = apply(&path, &changes.map(named), &interfaces).unwrap_err();
            assert!(matches!(error, RouteError::Set { .. }), "{error}");
            assert_eq!(defaults(&namespace), before, "{changes:?}");
        }
        // The kernel makes one route of two.
        namespace.ip("-6 route append default via fd00:2::9 dev net1");
        let before = defaults(&namespace);
        apply(&path, &["fd00:2::1", "198.51.100.1"].map(named), &interfaces).unwrap_err();
        assert_eq!(defaults(&namespace), before);
        apply(&path, &["fd00:2::1", "10.0.2.1"].map(named), &interfaces).unwrap();
        let [ipv4, ipv6] = defaults(&namespace);
        assert!(ipv4.starts_with("default via 10.0.2.1 dev net1") && ipv4.lines().count() == 1, "{ipv4}");
        assert!(ipv6.starts_with("default via fd00:2::1 dev net1") && ipv6.lines().count() == 1, "{ipv6}");
    }
}
