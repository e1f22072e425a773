//! The `ipam` of the plugins that are told their addresses: static, and whereabouts as far as it is sure.

use std::net::IpAddr;

use cni::config::kind_of;
use cni::keys::get;
use cni::{PluginConfig, SpecVersion};
use serde_json::{Map, Value};

use super::reading::{Cidr, address, array, cidr, no_cidr, text};
use super::{Scribe, routes};

/// The `ipam` of static. Where a pod may bring addresses by capability, those of the configuration are not
/// even read, so a wrong one is a warning then.
pub(super) fn examine(
    ipam: &Map<String, Value>,
    plugin: &PluginConfig,
    version: SpecVersion,
    to: &mut Scribe<'_>,
) {
    let replaced = plugin.declares("ips") || has_args(plugin);
    let Some(items) = to.take(array(ipam, "addresses").map_err(|problem| format!("ipam: {problem}"))) else {
        return;
    };
    let mut read = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let place = format!("ipam.addresses[{index}]");
        let object = match item {
            Value::Object(object) => object,
            Value::String(text) => {
                to.error(format_args!("{place} is a string, not an object; write {{\"address\": {text:?}}}"));
                continue;
            }
            other => {
                to.error(format_args!("{place} is {}, not an object", kind_of(other)));
                continue;
            }
        };
        match text(object, "address").and_then(|text| cidr(text).ok_or_else(|| no_cidr("address", text))) {
            Ok(cidr) => read.push(cidr),
            Err(problem) if replaced => to.warning(format_args!("{place}: {problem}")),
            Err(problem) => to.error(format_args!("{place}: {problem}")),
        }
        gateway(object, read.last(), &place, to);
    }
    let four = read.iter().filter(|cidr| cidr.address.is_ipv4()).count();
    if version < SpecVersion::V0_3_0 && !replaced && (four > 1 || read.len() - four > 1) {
        to.error(format_args!(
            "ipam has several addresses of one family, and cniVersion {version} knows one for each; write \
             \"cniVersion\": \"1.0.0\""
        ));
    }
    routes::examine(ipam, to);
}

fn gateway(object: &Map<String, Value>, network: Option<&Cidr>, place: &str, to: &mut Scribe<'_>) {
    match address(object, "gateway") {
        Err(problem) => to.error(format_args!("{place}: {problem}")),
        Ok(Some(gateway)) if network.is_some_and(|network| !network.contains(gateway)) => {
            to.warning(format_args!(
                "{place}: \"gateway\" {gateway} is not in the network of the address, so routes through it fail"
            ));
        }
        Ok(_) => {}
    }
}

/// `args.cni.ips` takes the place of `addresses`.
fn has_args(plugin: &PluginConfig) -> bool {
    let args = get(plugin.object(), "args").and_then(Value::as_object).and_then(|args| get(args, "cni"));
    args.and_then(Value::as_object).is_some_and(|args| get(args, "ips").is_some())
}

/// The `ipam` of whereabouts: warnings only, its releases differ.
pub(super) fn whereabouts(ipam: &Map<String, Value>, to: &mut Scribe<'_>) {
    let mut places = vec![(ipam, "ipam".to_owned())];
    if let Some(Value::Array(items)) = get(ipam, "ipRanges") {
        let objects = items.iter().enumerate();
        places.extend(
            objects.filter_map(|(at, item)| Some((item.as_object()?, format!("ipam.ipRanges[{at}]")))),
        );
    }
    for (object, place) in places {
        if let Some(problem) = whereabouts_range(object) {
            to.warning(format_args!("{place}: {problem}"));
        }
    }
}

fn whereabouts_range(object: &Map<String, Value>) -> Option<String> {
    let value = get(object, "range")?;
    let Value::String(text) = value else {
        return Some(format!("\"range\" is {}, not a string", kind_of(value)));
    };
    let (first, range) = match text.split_once('-') {
        Some((first, range)) => (Some(first), range),
        None => (None, text.as_str()),
    };
    let Some(network) = cidr(range) else { return Some(no_cidr("range", text)) };
    let bounds = [("range", first), ("range_start", None), ("range_end", None)];
    for (key, given) in bounds {
        let text = given.or_else(|| get(object, key).filter(|_| key != "range")?.as_str());
        let Some(text) = text.filter(|text| !text.is_empty()) else { continue };
        match text.parse::<IpAddr>() {
            Ok(address) if network.contains(address.to_canonical()) => {}
            Ok(_) => return Some(format!("{key:?}: {text} is not in {range}")),
            Err(_) => return Some(format!("{key:?}: {text:?} is no IP address")),
        }
    }
    None
}
