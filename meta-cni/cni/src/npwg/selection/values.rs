//! The values of a selection, checked where they are made.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::num::{NonZeroU16, NonZeroU64};

use serde_json::{Map, Value, json};

use crate::npwg::names::excerpt;

/// A text that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is not {expected}{}", because(*.why))]
pub struct ValueError {
    found: String,
    expected: &'static str,
    why: Option<&'static str>,
}

fn because(why: Option<&'static str>) -> String {
    why.map(|why| format!(": {why}")).unwrap_or_default()
}

impl ValueError {
    fn new(found: &str, expected: &'static str) -> Self {
        Self { found: excerpt(found).to_owned(), expected, why: None }
    }

    fn because(found: &str, expected: &'static str, why: &'static str) -> Self {
        Self { why: Some(why), ..Self::new(found, expected) }
    }
}

/// Reads the forms `00:11:22`, `00-11-22` and `0011.2233` of any length; gives the number of bytes and the
/// first form in lower case.
fn hardware_address(text: &str) -> Option<(usize, String)> {
    let separator = text.chars().find(|c| matches!(c, ':' | '-' | '.'))?;
    let group = if separator == '.' { 4 } else { 2 };
    let mut digits = String::new();
    for part in text.split(separator) {
        if part.len() != group || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        digits.push_str(&part.to_ascii_lowercase());
    }
    let mut pairs = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && index % 2 == 0 {
            pairs.push(':');
        }
        pairs.push(digit);
    }
    Some((digits.len() / 2, pairs))
}

/// Why an address is none that the kernel gives to an interface, so that every plugin would fail at it. Only Ethernet's six
/// bytes say in the first one whether a group is meant.
fn of_no_interface(pairs: &str) -> Option<&'static str> {
    if pairs.bytes().all(|letter| matches!(letter, b'0' | b':')) {
        return Some("it is all zeros");
    }
    let odd = pairs.as_bytes().get(1).is_some_and(|digit| b"13579bdf".contains(digit));
    (odd && pairs.len() == "00:00:00:00:00:00".len()).then_some(
        "its first byte is odd, which makes it a group (multicast) address; make that byte even, for example 02",
    )
}

/// A hardware address of 6, 8 or 20 bytes that an interface can have, in lower case with colons.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(String);

impl Mac {
    /// Reads an address with colons, hyphens or dots.
    pub fn parse(text: &str) -> Result<Self, ValueError> {
        match hardware_address(text) {
            Some((6 | 8 | 20, pairs)) => match of_no_interface(&pairs) {
                None => Ok(Self(pairs)),
                Some(why) => Err(ValueError::because(text, "a hardware address of an interface", why)),
            },
            _ => Err(ValueError::new(text, "a hardware address (6, 8 or 20 bytes)")),
        }
    }

    /// The address as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An InfiniBand GUID: 8 bytes, in lower case with colons.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InfinibandGuid(String);

impl InfinibandGuid {
    /// Reads a GUID with colons, hyphens or dots.
    pub fn parse(text: &str) -> Result<Self, ValueError> {
        match hardware_address(text) {
            Some((8, pairs)) => Ok(Self(pairs)),
            _ => Err(ValueError::new(text, "an InfiniBand GUID (8 bytes)")),
        }
    }

    /// The GUID as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InfinibandGuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An address, with or without prefix length, in the form that the pod's author wrote.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RequestedIp {
    text: String,
    address: IpAddr,
    prefix_len: Option<u8>,
}

impl RequestedIp {
    /// Reads `10.0.0.2`, `10.0.0.2/24`, `fd00::2` or `fd00::2/64`.
    pub fn parse(text: &str) -> Result<Self, ValueError> {
        let wrong = || ValueError::new(text, "an IP address, alone or with a prefix length");
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let prefix_len = match prefix {
            None => None,
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                Some(digits.parse().ok().filter(|&length| length <= longest).ok_or_else(wrong)?)
            }
            Some(_) => return Err(wrong()),
        };
        Ok(Self { text: text.to_owned(), address, prefix_len })
    }

    /// What the author wrote.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// The prefix length, if the author wrote one.
    pub fn prefix_len(&self) -> Option<u8> {
        self.prefix_len
    }
}

impl fmt::Display for RequestedIp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Reads an address without prefix length.
pub(super) fn address(text: &str) -> Result<IpAddr, ValueError> {
    text.parse().map_err(|_| ValueError::new(text, "an IP address without prefix length"))
}

/// Reads the address of a gateway: one that a packet can be sent to.
pub(super) fn gateway(text: &str) -> Result<IpAddr, ValueError> {
    let address = address(text)?;
    let of_no_host = match address.to_canonical() {
        canonical if canonical.is_unspecified() => "it means no address at all",
        canonical if canonical.is_multicast() => "it is a multicast address",
        canonical if canonical.is_loopback() => "it is a loopback address",
        IpAddr::V4(Ipv4Addr::BROADCAST) => "it is the broadcast address",
        _ => return Ok(address),
    };
    Err(ValueError::because(text, "the address of a gateway", of_no_host))
}

/// Limits of traffic, per direction. A direction without limit is one that the author left out or gave the
/// rate 0, as the bandwidth plugin reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bandwidth {
    /// Into the pod.
    pub ingress: Option<RateLimit>,
    /// Out of the pod.
    pub egress: Option<RateLimit>,
}

/// The limit of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// In bits per second.
    pub rate: NonZeroU64,
    /// In bits. Whether a rate needs one is for the plugin to say.
    pub burst: Option<NonZeroU64>,
}

impl Bandwidth {
    /// The value of the capability `bandwidth`.
    pub(super) fn to_json(self) -> Value {
        let rate = |limit: Option<RateLimit>| limit.map(|limit| limit.rate);
        let burst = |limit: Option<RateLimit>| limit.and_then(|limit| limit.burst);
        let members = [
            ("ingressRate", rate(self.ingress)),
            ("ingressBurst", burst(self.ingress)),
            ("egressRate", rate(self.egress)),
            ("egressBurst", burst(self.egress)),
        ];
        let member = |(key, value): (&str, Option<NonZeroU64>)| Some((key.to_owned(), value?.get().into()));
        Value::Object(members.into_iter().filter_map(member).collect::<Map<_, _>>())
    }
}

/// A protocol that ports are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Protocol {
    /// TCP; also what a mapping without protocol means, as in Kubernetes.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// Reads a protocol in upper or lower case.
    pub fn parse(text: &str) -> Result<Self, ValueError> {
        [Self::Tcp, Self::Udp, Self::Sctp]
            .into_iter()
            .find(|protocol| text.eq_ignore_ascii_case(protocol.as_str()))
            .ok_or_else(|| ValueError::new(text, "one of tcp, udp and sctp"))
    }

    /// The protocol in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

/// A port of the node that leads to a port of the pod.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PortMapping {
    /// The port of the node.
    pub host_port: NonZeroU16,
    /// The port of the pod.
    pub container_port: NonZeroU16,
    /// The protocol of both.
    pub protocol: Protocol,
    /// The address of the node; all of them when absent.
    pub host_ip: Option<IpAddr>,
}

impl PortMapping {
    /// An element of the capability `portMappings`.
    pub(super) fn to_json(&self) -> Value {
        let mut mapping = json!({
            "hostPort": self.host_port.get(),
            "containerPort": self.container_port.get(),
            "protocol": self.protocol.as_str(),
        });
        if let (Some(ip), Some(object)) = (self.host_ip, mapping.as_object_mut()) {
            object.insert("hostIP".to_owned(), ip.to_string().into());
        }
        mapping
    }
}
