//! `routes` of the `ipam` of host-local and static.

use cni::config::kind_of;
use serde_json::{Map, Value};

use super::Scribe;
use super::reading::{address, array, cidr, no_cidr, text};

/// Looks at every route.
pub(super) fn examine(ipam: &Map<String, Value>, to: &mut Scribe<'_>) {
    let Some(routes) = to.take(array(ipam, "routes").map_err(|problem| format!("ipam: {problem}"))) else {
        return;
    };
    for (index, route) in routes.iter().enumerate() {
        let place = format!("ipam.routes[{index}]");
        match route {
            Value::Object(route) => one(route, &place, to),
            other => to.error(format_args!("{place} is {}, not an object", kind_of(other))),
        }
    }
}

fn one(route: &Map<String, Value>, place: &str, to: &mut Scribe<'_>) {
    let dst = text(route, "dst").and_then(|dst| cidr(dst).ok_or_else(|| no_cidr("dst", dst)));
    let dst = to.take(dst.map_err(|problem| format!("{place}: {problem}")));
    let gateway = to.take(address(route, "gw").map_err(|problem| format!("{place}: {problem}")));
    let Some(dst) = dst else { return };
    if dst.first() != dst.address && dst.address.is_ipv4() {
        to.warning(format_args!(
            "{place}: \"dst\" {}/{prefix} has host bits set, which the kernel refuses; write \"{}/{prefix}\"",
            dst.address,
            dst.first(),
            prefix = dst.prefix
        ));
    }
    if let Some(Some(gateway)) = gateway
        && gateway.is_ipv4() != dst.address.is_ipv4()
    {
        to.warning(format_args!(
            "{place}: \"gw\" {gateway} is of another family than \"dst\" {}",
            dst.address
        ));
    }
}
