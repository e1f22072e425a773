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
    let mut undo = Vec::new();
    for change in changes {
        let done = kernel.change(change, interfaces, &mut undo);
        if done.is_err() {
            for step in undo.into_iter().rev() {
                // The first error is told; the attachments are undone next in any case.
                let _ = kernel.revert(step);
            }
            return done;
        }
    }
    Ok(())
}

/// How to take one step back.
enum Step {
    Added(RouteMessage),
    Removed(RouteMessage),
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

    fn change(
        &mut self,
        change: &Change,
        interfaces: &[Vec<String>],
        undo: &mut Vec<Step>,
    ) -> Result<(), RouteError> {
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
        let before = self.default_routes(family).map_err(|source| RouteError::Read { family, source })?;
        let wanted = route(family, owner, change.gateway);
        if !before
            .iter()
            .any(|present| outgoing(present) == Some(owner) && gateway(present) == change.gateway)
        {
            let replaced = before.iter().find(|present| priority(present) == 0 && present.header.tos == 0);
            let target = target(change.gateway, &own);
            self.put(wanted.clone(), NLM_F_REPLACE).map_err(|source| RouteError::Set {
                family,
                target,
                source,
            })?;
            undo.push(Step::Added(wanted));
            undo.extend(replaced.filter(|_| family == Family::Ipv4).cloned().map(Step::Removed));
        }
        let after = self.default_routes(family).map_err(|source| RouteError::Read { family, source })?;
        for present in after.into_iter().filter(|r| outgoing(r).is_some_and(|i| losers.contains(&i))) {
            self.remove(present.clone()).map_err(|source| RouteError::Remove { family, source })?;
            undo.push(Step::Removed(present));
        }
        Ok(())
    }

    fn revert(&mut self, step: Step) -> io::Result<()> {
        match step {
            Step::Added(route) => self.remove(route),
            Step::Removed(route) => self.put(route, 0),
        }
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
