//! What a pod got: its annotation `k8s.v1.cni.cncf.io/network-status`.
//!
//! Others live by it: whereabouts takes an address back that it does not find here. So addresses are bare and
//! complete, and names are `namespace/name`.

use std::net::IpAddr;

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
/// result; one entry with the interface name that was asked for when the result tells of none.
///
/// `name` is the network's, `if_name` the interface name that its plugins were given, `primary` whether it is
/// the pod's primary network. An address belongs to the interface of its index. One without an index (or with
/// one that leads nowhere) belongs to the interface `if_name`, else to the last one. Addresses of interfaces
/// on the host are left out. `default` is the primary network's interface with the first address that has a
/// gateway, else its first one.
pub fn statuses(name: &str, result: &AddResult, if_name: &IfName, primary: bool) -> Vec<NetworkStatus> {
    let common = NetworkStatus {
        name: name.to_owned(),
        dns: dns(result),
        gateway: gateways(result),
        ..Default::default()
    };
    let in_pod: Vec<(usize, &Interface)> =
        result.interfaces.iter().enumerate().filter(|(_, interface)| interface.is_in_pod()).collect();
    let Some(&(first, _)) = in_pod.first() else {
        let ips = result.ips.iter().map(bare).collect();
        return vec![NetworkStatus { interface: if_name.to_string(), ips, default: primary, ..common }];
    };
    let owners: Vec<Option<usize>> =
        result.ips.iter().map(|ip| owner(ip, result, &in_pod, if_name)).collect();
    let owned = || result.ips.iter().zip(&owners);
    let through_gateway = owned().find_map(|(ip, owner)| ip.gateway.and(*owner));
    let default = through_gateway.unwrap_or(first);
    let status = |(index, interface): (usize, &Interface)| NetworkStatus {
        interface: interface.name.clone(),
        ips: owned().filter(|(_, owner)| **owner == Some(index)).map(|(ip, _)| bare(ip)).collect(),
        mac: interface.mac.clone(),
        mtu: interface.mtu.filter(|&mtu| mtu != 0),
        default: primary && index == default,
        ..common.clone()
    };
    in_pod.iter().copied().map(status).collect()
}

/// The index of the interface in the pod that an address belongs to, if there is one.
fn owner(
    ip: &IpConfig,
    result: &AddResult,
    in_pod: &[(usize, &Interface)],
    if_name: &IfName,
) -> Option<usize> {
    if let Some(index) = ip.interface
        && let Some(interface) = result.interfaces.get(index)
    {
        return interface.is_in_pod().then_some(index);
    }
    let named = in_pod.iter().find(|(_, interface)| interface.name == if_name.as_str());
    named.or(in_pod.last()).map(|&(index, _)| index)
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
