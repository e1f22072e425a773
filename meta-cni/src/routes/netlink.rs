//! The pod's routing table, over netlink.
//!
//! Order matters: the new route replaces one of the same metric in one step, so that the pod is
//! never without, and the others are taken away after it.

use std::io;
use std::net::IpAddr;
use std::path::Path;

use cni::result::Family;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use super::{Change, RouteError};
use crate::namespace;

/// Applies changes in the namespace; `interfaces` are the names per attachment, its own first.
pub(super) fn apply(netns: &Path, changes: &[Change], interfaces: &[Vec<String>]) -> Result<(), RouteError> {
    namespace::within(netns, || in_namespace(changes, interfaces))?
}

fn in_namespace(changes: &[Change], interfaces: &[Vec<String>]) -> Result<(), RouteError> {
    let mut kernel = Kernel::connect().map_err(|source| {
        let family = changes.first().map_or(Family::Ipv4, |change| change.family);
        RouteError::Read { family, source }
    })?;
    let mut before = Vec::new();
    for Change { family, .. } in changes {
        let family = *family;
        let routes = kernel.default_routes(family).map_err(|source| RouteError::Read { family, source })?;
        before.push((family, routes));
    }
    for change in changes {
        let done = kernel.change(change, interfaces);
        if done.is_err() {
            for (family, routes) in &before {
                // The first error is told; the attachments are undone next in any case.
                let _ = kernel.restore(*family, routes);
            }
            return done;
        }
    }
    Ok(())
}

struct Kernel {
    socket: Socket,
    sequence: u32,
}

impl Kernel {
    fn connect() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, sequence: 0 })
    }

    fn change(&mut self, change: &Change, interfaces: &[Vec<String>]) -> Result<(), RouteError> {
        let family = change.family;
        let own = interfaces.get(change.owner).and_then(|names| names.first()).cloned().unwrap_or_default();
        let owner = Self::index(&own)?;
        let mut losers = Vec::new();
        for (number, names) in interfaces.iter().enumerate() {
            for name in names.iter().filter(|_| number != change.owner) {
                // An interface that a plugin names but did not leave in the pod has no routes.
                losers.extend(Self::index(name));
            }
        }
        let read = |source| RouteError::Read { family, source };
        let is_wanted =
            |present: &RouteMessage| outgoing(present) == Some(owner) && gateway(present) == change.gateway;
        if !self.default_routes(family).map_err(read)?.iter().any(is_wanted) {
            let target = target(change.gateway, &own);
            self.put(route(family, owner, change.gateway), NLM_F_REPLACE)
                .map_err(|source| RouteError::Set { family, target, source })?;
        }
        let after = self.default_routes(family).map_err(read)?;
        for present in after.into_iter().filter(|r| outgoing(r).is_some_and(|i| losers.contains(&i))) {
            self.remove(present).map_err(|source| RouteError::Remove { family, source })?;
        }
        Ok(())
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

    fn index(name: &str) -> Result<u32, RouteError> {
        namespace::index(name).map_err(|source| RouteError::Interface { name: name.to_owned(), source })
    }

    /// Default routes of the main table.
    fn default_routes(&mut self, family: Family) -> io::Result<Vec<RouteMessage>> {
        let header = RouteHeader { address_family: address_family(family), ..RouteHeader::default() };
        let query = RouteNetlinkMessage::GetRoute(message(header, Vec::new()));
        let mut found = Vec::new();
        self.ask(query, NLM_F_DUMP, &mut |answer| {
            if let RouteNetlinkMessage::NewRoute(route) = answer {
                let header = &route.header;
                let ours = header.destination_prefix_length == 0
                    && table(&route) == u32::from(RouteHeader::RT_TABLE_MAIN)
                    && header.kind == RouteType::Unicast
                    && header.address_family == address_family(family);
                found.extend(Some(route).filter(|_| ours));
            }
        })?;
        Ok(found)
    }

    fn put(&mut self, route: RouteMessage, how: u16) -> io::Result<()> {
        self.ask(RouteNetlinkMessage::NewRoute(route), NLM_F_ACK | NLM_F_CREATE | how, &mut |_| {})
    }

    fn remove(&mut self, route: RouteMessage) -> io::Result<()> {
        match self.ask(RouteNetlinkMessage::DelRoute(route), NLM_F_ACK, &mut |_| {}) {
            // ESRCH: it went by itself, for example with its interface.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => Ok(()),
            other => other,
        }
    }

    /// Sends one request and reads its answers to the end.
    fn ask(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
        take: &mut dyn FnMut(RouteNetlinkMessage),
    ) -> io::Result<()> {
        self.sequence += 1;
        let mut packet = NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::from(message));
        packet.header.flags = NLM_F_REQUEST | flags;
        packet.header.sequence_number = self.sequence;
        packet.finalize();
        let mut bytes = vec![0; packet.buffer_len()];
        packet.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        let mut buffer = Vec::with_capacity(32 << 10);
        loop {
            buffer.clear();
            self.socket.recv(&mut buffer, 0)?;
            if self.read(&buffer, take)? {
                return Ok(());
            }
        }
    }

    /// Reads one datagram; whether it was the last.
    fn read(&self, mut bytes: &[u8], take: &mut dyn FnMut(RouteNetlinkMessage)) -> io::Result<bool> {
        while !bytes.is_empty() {
            let answer =
                NetlinkMessage::<RouteNetlinkMessage>::deserialize(bytes).map_err(io::Error::other)?;
            let length = usize::try_from(answer.header.length).unwrap_or(usize::MAX).next_multiple_of(4);
            bytes = bytes.get(length.max(4)..).unwrap_or_default();
            if answer.header.sequence_number != self.sequence {
                continue;
            }
            match answer.payload {
                NetlinkPayload::Done(_) => return Ok(true),
                NetlinkPayload::Error(error) if error.code.is_none() => return Ok(true),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                NetlinkPayload::InnerMessage(message) => take(message),
                _ => {}
            }
        }
        Ok(false)
    }
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
    use std::process::Command;

    use super::*;

    /// A namespace of the test's own, with `eth0` and `net1`; none where tests may make none.
    struct Namespace(String);

    impl Namespace {
        fn new() -> Option<Self> {
            let name = format!("braid-routes-{}", std::process::id());
            let made = Command::new("ip").args(["netns", "add", &name]).output();
            if !made.is_ok_and(|made| made.status.success()) {
                eprintln!("skipped: \"ip netns add\" needs root and iproute2");
                return None;
            }
            let this = Self(name);
            this.ip("link add eth0 type veth peer name net1");
            for (link, number) in [("eth0", 1), ("net1", 2)] {
                this.ip(&format!("link set {link} up"));
                this.ip(&format!("address add 10.0.{number}.2/24 dev {link}"));
                this.ip(&format!("address add fd00:{number}::2/64 dev {link} nodad"));
            }
            Some(this)
        }

        fn ip(&self, words: &str) -> String {
            let output = Command::new("ip").args(["-n", &self.0]).args(words.split(' ')).output().unwrap();
            assert!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        }

        fn defaults(&self) -> [String; 2] {
            ["-4 route show default", "-6 route show default"].map(|words| self.ip(words))
        }
    }

    impl Drop for Namespace {
        fn drop(&mut self) {
            let _ = Command::new("ip").args(["netns", "delete", &self.0]).output();
        }
    }

    #[test]
    fn after_a_failure_the_default_routes_of_both_families_are_what_they_were() {
        let Some(namespace) = Namespace::new() else { return };
        namespace.ip("-4 route add default via 10.0.1.1 dev eth0");
        namespace.ip("-6 route add default via fd00:1::1 dev eth0");
        let path = Path::new("/run/netns").join(&namespace.0);
        let interfaces = ["eth0", "net1"].map(|name| vec![name.to_owned()]);
        let change = |gateway: &str| {
            let gateway: IpAddr = gateway.parse().unwrap();
            Change { family: Family::of(gateway), owner: 1, gateway: Some(gateway) }
        };
        let before = namespace.defaults();
        for changes in [["fd00:2::1", "198.51.100.1"], ["10.0.2.1", "2001:db8:77::1"]] {
            let error = apply(&path, &changes.map(change), &interfaces).unwrap_err();
            assert!(matches!(error, RouteError::Set { .. }), "{error}");
            assert_eq!(namespace.defaults(), before, "{changes:?}");
        }
        // The kernel makes one route of two.
        namespace.ip("-6 route append default via fd00:2::9 dev net1");
        let before = namespace.defaults();
        apply(&path, &["fd00:2::1", "198.51.100.1"].map(change), &interfaces).unwrap_err();
        assert_eq!(namespace.defaults(), before);
        apply(&path, &["fd00:2::1", "10.0.2.1"].map(change), &interfaces).unwrap();
        let [ipv4, ipv6] = namespace.defaults();
        assert!(ipv4.starts_with("default via 10.0.2.1 dev net1") && ipv4.lines().count() == 1, "{ipv4}");
        assert!(ipv6.starts_with("default via fd00:2::1 dev net1") && ipv6.lines().count() == 1, "{ipv6}");
    }
}
