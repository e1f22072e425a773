//! Asking the kernel about interfaces, addresses and routes, over netlink, in the network namespace of this thread.

#[cfg(test)]
pub(crate) mod tests;

use std::io;

use netlink_packet_core::{
    DecodeError, DefaultNla, NLM_F_ACK, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkExtentMask, LinkHeader, LinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use rustix::io::Errno;

/// The longest name that an interface is made with. Alternative names may be longer.
const LONGEST_NAME: usize = 15;
/// The longest alternative name.
const LONGEST_ALTERNATIVE: usize = 127;
/// The attribute that holds an alternative name in a request.
const IFLA_ALT_IFNAME: u16 = 53;

/// A conversation with the kernel.
pub(crate) struct Kernel {
    socket: Socket,
    sequence: u32,
}

impl Kernel {
    pub(crate) fn connect() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// The index of the interface that has this name, or this alternative name. `ENODEV` if there is none.
    pub(crate) fn index(&mut self, name: &str) -> io::Result<u32> {
        if name.len() > LONGEST_ALTERNATIVE || name.contains('\0') {
            return Err(Errno::NODEV.into());
        }
        // The kernel looks a name up among both kinds, whichever attribute it is in.
        let attribute = if name.len() <= LONGEST_NAME {
            LinkAttribute::IfName(name.to_owned())
        } else {
            LinkAttribute::Other(DefaultNla::new(IFLA_ALT_IFNAME, [name.as_bytes(), b"\0"].concat()))
        };
        let mut query = LinkMessage::default();
        query.attributes = vec![attribute, LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats])];
        let mut found = None;
        self.ask(RouteNetlinkMessage::GetLink(query), NLM_F_ACK, &mut |Index(index)| found = Some(index))?;
        found.ok_or_else(|| io::Error::other("the kernel gave no answer"))
    }

    /// Sends one request and reads its answers to the end.
    pub(crate) fn ask<A: NetlinkDeserializable>(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
        take: &mut dyn FnMut(A),
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
    fn read<A: NetlinkDeserializable>(&self, mut bytes: &[u8], take: &mut dyn FnMut(A)) -> io::Result<bool> {
        while !bytes.is_empty() {
            let answer = NetlinkMessage::<A>::deserialize(bytes).map_err(io::Error::other)?;
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

/// Whether an error says that there is no such interface. Any other may be passing, or a matter of this kernel.
pub(crate) fn is_no_interface(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::NODEV.raw_os_error())
}

/// What is read of an interface. The attributes, of which each kernel has more, are left unread.
struct Index(u32);

impl NetlinkDeserializable for Index {
    type Error = DecodeError;

    fn deserialize(_: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        LinkHeader::parse(payload).map(|header| Self(header.index))
    }
}
