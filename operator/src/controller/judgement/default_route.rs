//! Default routes that a network sets by itself, beside that of the pod's primary network.

use cni::keys::get;
use cni::{NetworkList, PluginConfig, reference};
use serde_json::Value;

use super::plugins::ipam_of;
use super::reading::cidr;
use crate::node::render;

/// The routing table that is used without a rule.
const MAIN_TABLE: i64 = 254;

/// Says that a network sets a default route, if it is sure to. Of several plugins the first is named.
pub(super) fn warning(list: &NetworkList) -> Option<String> {
    // It moves routes to a table of their own.
    if list.plugins.iter().any(|plugin| plugin.plugin().as_str() == "sbr") {
        return None;
    }
    let mut found = list.plugins.iter().enumerate();
    let (index, reason) = found.find_map(|(index, plugin)| Some((index, reason(plugin)?)))?;
    Some(format!(
        "{}: {reason} sets a default route, and a pod that has one by its primary network may use either; leave it out, \
         and write \"default-route\" in the annotation of pods that are to use this network",
        render::place(list, index)
    ))
}

/// What of a plugin sets a default route.
fn reason(plugin: &PluginConfig) -> Option<String> {
    let name = plugin.plugin().as_str();
    let (ipam, _) = ipam_of(plugin).filter(|_| reference::runs_ipam(name))?;
    let flag = get(plugin.object(), "isDefaultGateway").and_then(Value::as_bool).unwrap_or_default();
    if name == "bridge" && flag {
        return Some("\"isDefaultGateway\"".to_owned());
    }
    let routes = get(ipam, "routes")?.as_array()?;
    let index = routes.iter().position(is_default)?;
    Some(format!("ipam.routes[{index}]"))
}

/// Whether a route is a default route with the preference that routes usually have.
fn is_default(route: &Value) -> bool {
    let Some(route) = route.as_object() else { return false };
    let number = |key| get(route, key).and_then(Value::as_i64);
    let dst = get(route, "dst").and_then(Value::as_str).and_then(cidr);
    dst.is_some_and(|dst| dst.prefix == 0)
        && number("table").is_none_or(|table| table == 0 || table == MAIN_TABLE)
        && number("priority").is_none_or(|priority| priority == 0)
}
