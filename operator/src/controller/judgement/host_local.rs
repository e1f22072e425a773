//! The `ipam` of host-local: its ranges, as host-local itself checks them.

use std::net::IpAddr;
use std::path::{Component, Path, PathBuf};

use cni::config::kind_of;
use cni::keys::get;
use cni::{NetworkList, PluginConfig, SpecVersion};
use serde_json::{Map, Value};

use super::reading::{Cidr, address, array, cidr, no_cidr, text};
use super::{Scribe, routes};

/// The IPAM plugin that this is about.
pub(super) const HOST_LOCAL: &str = "host-local";

/// Where host-local keeps its accounts, one directory for each name of a network.
const DATA_DIR: &str = "/var/lib/cni/networks";

/// Addresses that are given, from the first to the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) start: IpAddr,
    pub(super) end: IpAddr,
}

impl Range {
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        self.start.is_ipv4() == other.start.is_ipv4() && self.start <= other.end && other.start <= self.end
    }
}

impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.start, self.end)
    }
}

/// Looks at the whole `ipam` object of a plugin.
pub(super) fn examine(
    ipam: &Map<String, Value>,
    plugin: &PluginConfig,
    version: SpecVersion,
    to: &mut Scribe<'_>,
) {
    let sets = sets(ipam, to);
    let complete = sets.iter().all(Option::is_some);
    let sets: Vec<_> = sets.into_iter().flatten().collect();
    // What the capability brings can stand in for ranges.
    if sets.is_empty() && complete && !plugin.declares("ipRanges") {
        to.error("ipam has neither \"subnet\" nor \"ranges\", so there is no address to give");
    }
    overlaps(&sets, to);
    if version < SpecVersion::V0_3_0 {
        let four = sets.iter().filter(|set| set[0].start.is_ipv4()).count();
        if four > 1 || sets.len() - four > 1 {
            to.error(format_args!(
                "ipam has several ranges of one family, and cniVersion {version} knows one address for each; \
                 write \"cniVersion\": \"1.0.0\""
            ));
        }
    }
    if get(ipam, "exclude").is_some() {
        to.warning(
            "host-local knows no \"exclude\", so these addresses are given too; use several \"ranges\"",
        );
    }
    for key in ["dataDir", "resolvConf"] {
        if let Err(problem) = text(ipam, key) {
            to.error(format_args!("ipam: {problem}"));
        }
    }
    routes::examine(ipam, to);
}

/// The ranges that are well formed, for comparison with other networks.
pub(super) fn ranges(ipam: &Map<String, Value>) -> Vec<Range> {
    let mut unread = super::Judgement::default();
    let mut to = Scribe { judgement: &mut unread, place: String::new(), sure: true };
    sets(ipam, &mut to).into_iter().flatten().flatten().collect()
}

/// Where the account of a network is kept; `.` and `..` resolved as the plugin does, without looking at links.
pub(super) fn directory(ipam: &Map<String, Value>, list: &NetworkList) -> PathBuf {
    let base = text(ipam, "dataDir").ok().filter(|dir| !dir.is_empty()).unwrap_or(DATA_DIR);
    let mut clean = PathBuf::from("/");
    for part in Path::new(base).join(list.name.as_str()).components() {
        match part {
            Component::Normal(part) => clean.push(part),
            Component::ParentDir => drop(clean.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    clean
}

/// Each set of ranges, first the one that is written without `ranges`; `None` for one that is wrong.
fn sets(ipam: &Map<String, Value>, to: &mut Scribe<'_>) -> Vec<Option<Vec<Range>>> {
    let mut sets = Vec::new();
    if get(ipam, "subnet").is_some() {
        sets.push(range(ipam, "ipam", to).map(|range| vec![range]));
    } else {
        // Read, and then of no effect.
        for key in ["rangeStart", "rangeEnd", "gateway"] {
            match address(ipam, key) {
                Err(problem) => to.error(format_args!("ipam: {problem}")),
                Ok(Some(_)) => {
                    to.warning(format_args!("ipam: {key:?} without \"subnet\" beside it has no effect"));
                }
                Ok(None) => {}
            }
        }
    }
    match array(ipam, "ranges") {
        Ok(items) => {
            sets.extend(items.iter().enumerate().map(|(index, item)| set(item, index, to)));
        }
        Err(problem) => {
            to.error(format_args!("ipam: {problem}"));
            sets.push(None);
        }
    }
    sets
}

fn set(item: &Value, index: usize, to: &mut Scribe<'_>) -> Option<Vec<Range>> {
    let place = format!("ipam.ranges[{index}]");
    let items = match item {
        Value::Array(items) if !items.is_empty() => items,
        Value::Array(_) | Value::Null => {
            to.error(format_args!("{place} is empty; leave it out"));
            return None;
        }
        Value::Object(_) => {
            to.error(format_args!(
                "{place} is an object, not an array: \"ranges\" holds arrays of ranges, one for each address; \
                 write [[{{\"subnet\": …}}]]"
            ));
            return None;
        }
        other => {
            to.error(format_args!("{place} is {}, not an array of ranges", kind_of(other)));
            return None;
        }
    };
    let read = items.iter().enumerate().map(|(at, item)| match item {
        Value::Object(object) => range(object, &format!("{place}[{at}]"), to),
        other => {
            to.error(format_args!("{place}[{at}] is {}, not an object", kind_of(other)));
            None
        }
    });
    // All of them are looked at, so that every error is told at once.
    let read: Vec<_> = read.collect();
    let ranges: Vec<Range> = read.into_iter().collect::<Option<_>>()?;
    if ranges.iter().any(|range| range.start.is_ipv4() != ranges[0].start.is_ipv4()) {
        to.error(format_args!("{place} mixes IPv4 and IPv6; give each family a set of its own"));
        return None;
    }
    Some(ranges)
}

/// One range.
fn range(object: &Map<String, Value>, place: &str, to: &mut Scribe<'_>) -> Option<Range> {
    let subnet =
        match text(object, "subnet").and_then(|text| cidr(text).ok_or_else(|| no_cidr("subnet", text))) {
            Ok(subnet) => subnet,
            Err(problem) => {
                to.error(format_args!("{place}: {problem}"));
                return None;
            }
        };
    if let Err(problem) = check_subnet(&subnet) {
        to.error(format_args!("{place}: {problem}"));
        return None;
    }
    let mut bound = |key| match address(object, key) {
        Ok(Some(address)) if !subnet.contains(address) => {
            to.error(format_args!("{place}: {key:?} {address} is not in the subnet {}", show(&subnet)));
            None
        }
        Ok(address) => Some(address),
        Err(problem) => {
            to.error(format_args!("{place}: {problem}"));
            None
        }
    };
    let (start, end) = (bound("rangeStart"), bound("rangeEnd"));
    gateway(object, &subnet, place, to);
    let range = Range {
        start: start?.unwrap_or_else(|| next(subnet.first())),
        end: end?.unwrap_or_else(|| last(&subnet)),
    };
    if range.start > range.end {
        to.error(format_args!(
            "{place}: \"rangeStart\" {} is behind \"rangeEnd\" {}",
            range.start, range.end
        ));
        return None;
    }
    Some(range)
}

fn show(subnet: &Cidr) -> String {
    format!("{}/{}", subnet.address, subnet.prefix)
}

fn check_subnet(subnet: &Cidr) -> Result<(), String> {
    let Cidr { prefix, bits, address } = *subnet;
    if prefix > bits - 2 {
        return Err(format!(
            "\"subnet\" {} has no address to give; the prefix length may be {} at most",
            show(subnet),
            bits - 2
        ));
    }
    if (bits == 32) != address.is_ipv4() {
        return Err("\"subnet\" is an IPv4 network in IPv6 form; write it as IPv4".to_owned());
    }
    let first = subnet.first();
    if first == address {
        return Ok(());
    }
    Err(format!("\"subnet\" {} has host bits set; write \"{first}/{prefix}\"", show(subnet)))
}

/// Host-local takes any gateway; one out of the subnet cannot be reached without a route of its own.
fn gateway(object: &Map<String, Value>, subnet: &Cidr, place: &str, to: &mut Scribe<'_>) {
    match address(object, "gateway") {
        Err(problem) => to.error(format_args!("{place}: {problem}")),
        Ok(Some(gateway)) if !subnet.contains(gateway) => to.warning(format_args!(
            "{place}: \"gateway\" {gateway} is not in the subnet {}, so routes through it fail",
            show(subnet)
        )),
        Ok(_) => {}
    }
}

fn overlaps(sets: &[Vec<Range>], to: &mut Scribe<'_>) {
    let all: Vec<_> = sets.iter().flatten().collect();
    for (index, one) in all.iter().enumerate() {
        if let Some(other) = all[index + 1..].iter().find(|other| one.overlaps(other)) {
            to.error(format_args!(
                "ipam: ranges {one} and {other} overlap; each address may be in one of them"
            ));
        }
    }
}

fn next(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) => IpAddr::V4(u32::from(address).saturating_add(1).into()),
        IpAddr::V6(address) => IpAddr::V6(u128::from(address).saturating_add(1).into()),
    }
}

/// The last address that is given: not the broadcast address of IPv4.
fn last(subnet: &Cidr) -> IpAddr {
    match subnet.last() {
        IpAddr::V4(address) => IpAddr::V4(u32::from(address).saturating_sub(1).into()),
        address @ IpAddr::V6(_) => address,
    }
}
