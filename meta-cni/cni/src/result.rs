//! The result of ADD: one model for all versions, converted where it enters and leaves.
//!
//! The model is the newest form (1.1.0). [`AddResult::parse`] reads any version, [`AddResult::to_json`]
//! writes any version. Fields that this library does not know survive, at every level; what a version
//! cannot express is left out when going down (specification, section "Result types").

mod settle;
mod wire;

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::version::{SpecVersion, UnknownVersion};

/// What ADD made: interfaces, addresses, routes and name servers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AddResult {
    /// Every interface that plugins made or took, in the pod and on the host.
    #[serde(default, deserialize_with = "wire::null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<Interface>,
    /// Every address, with the index of its interface.
    #[serde(default, deserialize_with = "wire::null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub ips: Vec<IpConfig>,
    /// Routes that plugins set in the pod.
    #[serde(default, deserialize_with = "wire::null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// Name servers of the network.
    #[serde(default, deserialize_with = "wire::null_is_default", skip_serializing_if = "Dns::is_empty")]
    pub dns: Dns,
    /// Fields that are not the specification's.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// One interface of a result.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Interface {
    /// Its name in the namespace where it is.
    pub name: String,
    /// Its hardware address; empty when it has none.
    #[serde(default, deserialize_with = "wire::null_is_default", skip_serializing_if = "String::is_empty")]
    pub mac: String,
    /// Its MTU in bytes; 1.x only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// The path of the network namespace, or empty for an interface on the host.
    #[serde(default, deserialize_with = "wire::null_is_default", skip_serializing_if = "String::is_empty")]
    pub sandbox: String,
    /// Fields that are not the specification's, and `socketPath` and `pciID` (1.x only).
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Interface {
    /// Whether the interface is inside the pod.
    pub fn is_in_pod(&self) -> bool {
        !self.sandbox.is_empty()
    }
}

/// One address of a result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IpConfig {
    /// The address with its prefix length.
    pub address: IpNet,
    /// The gateway of its subnet.
    #[serde(default, deserialize_with = "wire::address_or_none", skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// Index into [`AddResult::interfaces`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<usize>,
    /// Fields that are not the specification's.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl IpConfig {
    /// An address without gateway and interface.
    pub fn new(address: IpNet) -> Self {
        Self { address, gateway: None, interface: None, extra: Map::new() }
    }
}

/// One route of a result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Route {
    /// The destination.
    pub dst: IpNet,
    /// The next hop; without it the gateway of the address is meant.
    #[serde(default, deserialize_with = "wire::address_or_none", skip_serializing_if = "Option::is_none")]
    pub gw: Option<IpAddr>,
    /// 1.1.0 attributes (`mtu`, `advmss`, `priority`, `table`, `scope`) and fields of others.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Route {
    /// The default route of a family, through `gw`.
    pub fn default_through(gw: IpAddr) -> Self {
        Self { dst: Family::of(gw).default_destination(), gw: Some(gw), extra: Map::new() }
    }

    /// Whether the route is the default route of its family: every bit of the mask counts, so 0.0.0.0/1 is
    /// none, and a route of another table than the main one (254) is none either.
    pub fn is_default(&self) -> bool {
        let main_table = self.extra.get("table").and_then(Value::as_u64).is_none_or(|t| t == 254 || t == 0);
        self.dst.prefix_len() == 0 && main_table
    }
}

/// Name servers of a network.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Dns {
    /// Addresses of name servers, by priority.
    #[serde(default, deserialize_with = "wire::null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub nameservers: Vec<String>,
    /// The local domain.
    #[serde(default, deserialize_with = "wire::null_is_default", skip_serializing_if = "String::is_empty")]
    pub domain: String,
    /// Search domains.
    #[serde(default, deserialize_with = "wire::null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
    /// Options of the resolver.
    #[serde(default, deserialize_with = "wire::null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    /// Fields that are not the specification's.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Dns {
    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

impl Family {
    /// Both families.
    pub const BOTH: [Self; 2] = [Self::Ipv4, Self::Ipv6];

    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::Ipv4 } else { Self::Ipv6 }
    }

    /// The family of a subnet.
    pub fn of_net(net: IpNet) -> Self {
        Self::of(net.addr())
    }

    /// 0.0.0.0/0 or ::/0.
    pub fn default_destination(self) -> IpNet {
        match self {
            Self::Ipv4 => IpNet::V4(ipnet::Ipv4Net::default()),
            Self::Ipv6 => IpNet::V6(ipnet::Ipv6Net::default()),
        }
    }
}

impl std::fmt::Display for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Ipv4 => "IPv4",
            Self::Ipv6 => "IPv6",
        })
    }
}

/// Why a result cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ResultError {
    /// The text is not JSON, or not of the form that its version has.
    #[error("read a result of CNI version {version}")]
    Malformed {
        /// The version that it was read as.
        version: SpecVersion,
        /// What JSON says.
        #[source]
        source: serde_json::Error,
    },
    /// `cniVersion` is none that this library speaks.
    #[error("read the version of a result")]
    Version(#[source] UnknownVersion),
    /// `cniVersion` is not a string, or the result is not an object.
    #[error("read a result: {0}")]
    Shape(&'static str),
    /// 0.1.0 and 0.2.0 cannot express a result without an address.
    #[error("write a result of CNI version {0}, which needs at least one address")]
    NeedsAddress(SpecVersion),
}

impl AddResult {
    /// Reads a result of any version. Without `cniVersion` it is of version `assumed`, that of the
    /// configuration (libcni does the same).
    pub fn parse(json: Value, assumed: SpecVersion) -> Result<Self, ResultError> {
        let Value::Object(mut object) = json else {
            return Err(ResultError::Shape("it is not a JSON object"));
        };
        let version = match object.remove("cniVersion") {
            None | Some(Value::Null) => assumed,
            Some(Value::String(text)) if text.is_empty() => assumed,
            Some(Value::String(text)) => text.parse().map_err(ResultError::Version)?,
            Some(_) => return Err(ResultError::Shape("\"cniVersion\" is not a string")),
        };
        wire::read(object, version).map_err(|source| ResultError::Malformed { version, source })
    }

    /// Writes the result in the form of `version`, with `cniVersion`.
    pub fn to_json(&self, version: SpecVersion) -> Result<Value, ResultError> {
        let mut object = wire::write(self, version)?;
        object.insert("cniVersion".to_owned(), Value::String(version.to_string()));
        Ok(Value::Object(object))
    }

    /// Takes away the default routes of one family; whether there were any.
    pub fn remove_default_routes(&mut self, family: Family) -> bool {
        let before = self.routes.len();
        self.routes.retain(|route| !(route.is_default() && Family::of_net(route.dst) == family));
        self.routes.len() != before
    }
}
