//! Values of a configuration, read as the plugins read them.
//!
//! They are written in Go: `encoding/json` takes keys in any case, `null` sets nothing, an `int` takes no
//! fraction, an empty text is no address; `net.ParseCIDR` takes leading zeros in the prefix length.

use std::net::IpAddr;

use cni::config::kind_of;
use cni::keys::get;
use serde_json::{Map, Value};

/// An address with the length of its network's prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cidr {
    /// The address as written; an IPv4 address in IPv6 form counts as IPv4.
    pub(super) address: IpAddr,
    /// The length of the prefix.
    pub(super) prefix: u8,
    /// The bits of an address in the form that was written: 32 or 128.
    pub(super) bits: u8,
}

/// A text; empty where it is absent.
pub(super) fn text<'a>(object: &'a Map<String, Value>, key: &str) -> Result<&'a str, String> {
    match get(object, key) {
        None => Ok(""),
        Some(Value::String(text)) => Ok(text),
        Some(other) => Err(format!("{key:?} is {}, not a string", kind_of(other))),
    }
}

/// A whole number.
pub(super) fn number(object: &Map<String, Value>, key: &str) -> Result<Option<i64>, String> {
    let Some(value) = get(object, key) else { return Ok(None) };
    match value.as_i64() {
        Some(number) => Ok(Some(number)),
        None if value.is_number() => Err(format!("{key:?} is {value}, not a whole number")),
        None => Err(format!("{key:?} is {}, not a number; write it without quotation marks", kind_of(value))),
    }
}

/// `true` or `false`; absent is `false`.
pub(super) fn flag(object: &Map<String, Value>, key: &str) -> Result<bool, String> {
    match get(object, key) {
        None => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(other) => {
            Err(format!("{key:?} is {}, not true or false without quotation marks", kind_of(other)))
        }
    }
}

/// An array; empty where it is absent.
pub(super) fn array<'a>(object: &'a Map<String, Value>, key: &str) -> Result<&'a [Value], String> {
    match get(object, key) {
        None => Ok(&[]),
        Some(Value::Array(items)) => Ok(items),
        Some(other) => Err(format!("{key:?} is {}, not an array", kind_of(other))),
    }
}

/// An address without prefix length; an empty text is none.
pub(super) fn address(object: &Map<String, Value>, key: &str) -> Result<Option<IpAddr>, String> {
    let text = text(object, key)?;
    if text.is_empty() {
        return Ok(None);
    }
    match text.parse::<IpAddr>() {
        Ok(address) => Ok(Some(address.to_canonical())),
        Err(_) if cidr(text).is_some() => {
            Err(format!("{key:?} is {text:?}; an address is meant, without prefix length"))
        }
        Err(_) => Err(format!("{key:?} is {text:?}, which is no IP address")),
    }
}

/// A network or an address with prefix length, as `net.ParseCIDR` takes it.
pub(super) fn cidr(text: &str) -> Option<Cidr> {
    let (address, prefix) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let bits = if address.is_ipv4() { 32 } else { 128 };
    if prefix.is_empty() || !prefix.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits = prefix.trim_start_matches('0');
    let prefix = if digits.is_empty() { 0 } else { digits.parse().ok()? };
    (prefix <= bits).then(|| Cidr { address: address.to_canonical(), prefix, bits })
}

/// What is wrong with a text that is no CIDR.
pub(super) fn no_cidr(key: &str, text: &str) -> String {
    match text.parse::<IpAddr>() {
        Ok(address) => {
            let example = if address.is_ipv4() { "24" } else { "64" };
            format!("{key:?} is {text:?}, without prefix length; write for example \"{text}/{example}\"")
        }
        Err(_) if text.is_empty() => format!("{key:?} is missing"),
        Err(_) => {
            format!("{key:?} is {text:?}, which is no address with prefix length such as \"10.1.0.0/24\"")
        }
    }
}

impl Cidr {
    /// The network's own address: all bits behind the prefix are zero.
    pub(super) fn first(&self) -> IpAddr {
        self.with_host_bits(false)
    }

    /// The highest address: all bits behind the prefix are one.
    pub(super) fn last(&self) -> IpAddr {
        self.with_host_bits(true)
    }

    /// Whether an address is of the network.
    pub(super) fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.address.is_ipv4() && (self.first()..=self.last()).contains(&address)
    }

    fn with_host_bits(&self, ones: bool) -> IpAddr {
        match self.address {
            IpAddr::V4(address) => {
                let hosts = u32::MAX.checked_shr(self.prefix.into()).unwrap_or(0);
                let address = u32::from(address);
                IpAddr::V4(if ones { address | hosts } else { address & !hosts }.into())
            }
            IpAddr::V6(address) => {
                let hosts = u128::MAX.checked_shr(self.prefix.into()).unwrap_or(0);
                let address = u128::from(address);
                IpAddr::V6(if ones { address | hosts } else { address & !hosts }.into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn networks_are_read_as_go_reads_them() {
        for (text, expected) in [
            ("10.1.0.0/24", Some(("10.1.0.0", "10.1.0.255"))),
            ("10.1.0.9/024", Some(("10.1.0.0", "10.1.0.255"))),
            ("10.1.0.9/32", Some(("10.1.0.9", "10.1.0.9"))),
            ("0.0.0.0/0", Some(("0.0.0.0", "255.255.255.255"))),
            ("fd00::/126", Some(("fd00::", "fd00::3"))),
            ("::/0", Some(("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"))),
            ("10.1.0.0", None),
            ("10.1.0.0/", None),
            ("10.1.0.0/33", None),
            ("10.1.0.0/+8", None),
            ("10.1.0.0/255.0.0.0", None),
            ("010.1.0.0/24", None),
            ("10.1.0/24", None),
            (" 10.1.0.0/24", None),
            ("fd00::/129", None),
            ("fe80::1%eth0/64", None),
            ("", None),
        ] {
            let read = cidr(text).map(|cidr| (cidr.first().to_string(), cidr.last().to_string()));
            assert_eq!(read, expected.map(|(first, last)| (first.to_owned(), last.to_owned())), "{text}");
        }
    }

    #[test]
    fn keys_are_taken_in_any_case_and_null_is_none() {
        let object = json!({"Subnet": "a", "subnet": "b", "MTU": 5, "x": null});
        let object = object.as_object().unwrap();
        assert_eq!(text(object, "subnet"), Ok("b"));
        assert_eq!(text(object, "SUBNET"), Ok("a"));
        assert_eq!(number(object, "mtu"), Ok(Some(5)));
        assert_eq!(text(object, "x"), Ok(""));
    }
}
