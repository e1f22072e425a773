//! Reads the interfaces, addresses and default routes of this thread's namespace, over netlink.

use std::io;

use cni::result::Family;
use ipnet::IpNet;
use netlink_packet_core::NLM_F_DUMP;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkExtentMask, LinkMessage, Prop};

use super::Present;
use crate::netlink::Kernel;
use crate::routes;

pub(super) fn interfaces() -> io::Result<Vec<Present>> {
    let found = interfaces_by_index(&mut Kernel::connect()?)?;
    Ok(found.into_iter().map(|(_, interface)| interface).collect())
}

pub(super) fn interfaces_with_routes() -> io::Result<Vec<Present>> {
    let mut kernel = Kernel::connect()?;
    let mut found = interfaces_by_index(&mut kernel)?;
    for family in Family::BOTH {
        let through = routes::default_routes_through(&mut kernel, family)?;
        for (_, interface) in found.iter_mut().filter(|(index, _)| through.contains(index)) {
            interface.default_routes.push(family);
        }
    }
    Ok(found.into_iter().map(|(_, interface)| interface).collect())
}

fn interfaces_by_index(kernel: &mut Kernel) -> io::Result<Vec<(u32, Present)>> {
    let mut found: Vec<(u32, Present)> = Vec::new();
    let mut query = LinkMessage::default();
    query.attributes = vec![LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats])];
    kernel.ask(RouteNetlinkMessage::GetLink(query), NLM_F_DUMP, &mut |answer| {
        if let RouteNetlinkMessage::NewLink(link) = answer {
            found.push((link.header.index, interface(&link)));
        }
    })?;
    let query = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    kernel.ask(query, NLM_F_DUMP, &mut |answer| {
        let RouteNetlinkMessage::NewAddress(message) = answer else { return };
        let of = found.iter_mut().find(|(index, _)| *index == message.header.index);
        if let (Some((_, interface)), Some(address)) = (of, address(&message)) {
            interface.addresses.push(address);
        }
    })?;
    Ok(found)
}

fn interface(link: &LinkMessage) -> Present {
    let mut present = Present::default();
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfName(name) => present.names.push(name.clone()),
            LinkAttribute::PropList(all) => present.names.extend(all.iter().filter_map(|prop| match prop {
                Prop::AltIfName(name) => Some(name.clone()),
                _ => None,
            })),
            LinkAttribute::Address(bytes) => {
                let bytes: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                present.mac = bytes.join(":");
            }
            _ => {}
        }
    }
    present
}

/// The own address; on a point-to-point link `Address` is the other end's.
fn address(message: &AddressMessage) -> Option<IpNet> {
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let other = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Address(address) => Some(*address),
        _ => None,
    });
    IpNet::new(local.or(other)?, message.header.prefix_len).ok()
}
