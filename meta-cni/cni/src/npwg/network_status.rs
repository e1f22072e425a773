//! What a pod got: its annotation `k8s.v1.cni.cncf.io/network-status`.
//!
//! Others live by it: whereabouts takes an address back that it does not find here. So addresses are bare and
//! complete, and names are `namespace/name`.

use std::net::IpAddr;
use std::path::Path;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::ids::IfName;
use crate::result::{AddResult, Dns, Family, Interface, IpConfig};

/// One interface of a pod.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct NetworkStatus {
    /// `namespace/name` of a NetworkAttachmentDefinition, else the name of the CNI configuration.
    pub name: String,
    /// The interface in the pod.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub interface: String,
    /// Its addresses, without prefix lengths.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ips: Vec<IpAddr>,
    /// Its hardware address.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub mac: String,
    /// Its MTU in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Whether it is the pod's primary interface.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub default: bool,
    /// Name servers of the network; always written, even if there are none.
    #[serde(default)]
    pub dns: Dns,
    /// The device behind the interface (device-info specification).
    #[serde(default, rename = "device-info", skip_serializing_if = "Option::is_none")]
    pub device_info: Option<Value>,
    /// Gateways of the default routes that the network set.
    #[serde(default, deserialize_with = "addresses", skip_serializing_if = "Vec::is_empty")]
    pub gateway: Vec<IpAddr>,
}

/// Multus writes `<nil>` for a default route without gateway: what is not an address is passed over.
fn addresses<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<IpAddr>, D::Error> {
    let texts = Vec::<String>::deserialize(from)?;
    Ok(texts.iter().filter_map(|text| text.parse().ok()).collect())
}

/// The annotation's text: a JSON array.
pub fn to_annotation(statuses: &[NetworkStatus]) -> String {
    // Writing to memory, with keys that are texts, does not fail.
    serde_json::to_string_pretty(statuses).unwrap_or_default()
}

/// What one attachment gave to the pod: an entry for each of its interfaces in the pod, in the order of the
/// result, with the addresses that are on it. There is always one, whatever the plugin says
/// ([`AddResult::settled`]).
///
/// `name` is the network's, `if_name` the interface name that its plugins were given, `netns` the pod's
/// namespace, `primary` whether it is the pod's primary network. `default` is the primary network's interface
/// with the first address that has a gateway, else the one that was asked for, else the first.
pub fn statuses(
    name: &str,
    result: &AddResult,
    if_name: &IfName,
    netns: Option<&Path>,
    primary: bool,
) -> Vec<NetworkStatus> {
    let result = result.settled(if_name, netns);
    let common = NetworkStatus {
        name: name.to_owned(),
        dns: dns(&result),
        gateway: gateways(&result),
        ..Default::default()
    };
    let in_pod = |index: &usize| result.interfaces.get(*index).is_some_and(Interface::is_in_pod);
    let through_gateway = result.ips.iter().filter(|ip| ip.gateway.is_some()).filter_map(|ip| ip.interface);
    let default = through_gateway
        .into_iter()
        .find(in_pod)
        .or_else(|| result.interfaces.iter().position(|i| i.is_in_pod() && i.name == if_name.as_str()))
        .or_else(|| result.interfaces.iter().position(Interface::is_in_pod));
    let status = |(index, interface): (usize, &Interface)| NetworkStatus {
        interface: interface.name.clone(),
        ips: result.ips.iter().filter(|ip| ip.interface == Some(index)).map(bare).collect(),
        mac: interface.mac.clone(),
        mtu: interface.mtu.filter(|&mtu| mtu != 0),
        default: primary && default == Some(index),
        ..common.clone()
    };
    result.interfaces.iter().enumerate().filter(|(_, interface)| interface.is_in_pod()).map(status).collect()
}

/// As Go writes it: an IPv4 address in IPv6 clothes is an IPv4 address.
fn bare(ip: &IpConfig) -> IpAddr {
    ip.address.addr().to_canonical()
}

/// The standard's fields only.
fn dns(result: &AddResult) -> Dns {
    Dns { extra: Map::new(), ..result.dns.clone() }
}

/// The gateways of the default routes. A route without one goes through that of the first address of its
/// family that has one; if there is none it goes through the link itself and is left out.
fn gateways(result: &AddResult) -> Vec<IpAddr> {
    let mut gateways = Vec::new();
    for route in result.routes.iter().filter(|route| route.is_default()) {
        let family = Family::of_net(route.dst);
        let of_address = || {
            let mut gateways = result.ips.iter().filter_map(|ip| ip.gateway);
            gateways.find(|&gateway| Family::of(gateway) == family)
        };
        if let Some(gateway) = route.gw.or_else(of_address)
            && !gateways.contains(&gateway)
        {
            gateways.push(gateway);
        }
    }
    gateways
}

#[cfg(test)]
mod tests;
