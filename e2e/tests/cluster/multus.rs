//! A stand-in for Multus: a plugin and a configuration as Multus leaves them on a node, and the same notes of what it
//! attached. It calls real delegates, the primary's first plugin and a bridge, and writes down each call.

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use e2e::suite::stage::Stage;
use serde_json::{Value, json};

use crate::attached;

const CONFIGURATION: &str = "/etc/cni/net.d/00-multus.conf";
const PLUGIN: &str = "/opt/cni/bin/multus";
const LOG: &str = "/var/log/multus-stand-in.log";

/// Where Multus writes down what it attached.
const CACHE: &str = "/var/lib/cni/multus";

/// What the plugin does. Pods of other namespaces than the scenario's get the primary alone.
const SCRIPT: &str = r#"#!/bin/sh
set -eu
cat >/dev/null
echo "$CNI_COMMAND ${CNI_ARGS:-}" >>@log@
primary='@primary@'
second='@second@'
cache=@cache@/${CNI_CONTAINERID:-}
bin=${0%/*}
call() { printf '%s' "$2" | CNI_IFNAME=$3 "$bin/$1"; }
delegate() {
    printf '{"Name":"%s","CNINetworkConfigList":{"Plugins":null},"ifnameRequest":"","Bytes":"%s"}' "$1" \
        "$(printf '%s' "$2" | base64 -w0)"
}
case $CNI_COMMAND in
ADD)
    mkdir -p @cache@
    case $CNI_ARGS in
    *K8S_POD_NAMESPACE=@namespace@*)
        echo "[$(delegate '' "$primary"),$(delegate @namespace@/net "$second")]" >"$cache"
        result=$(call @type@ "$primary" "$CNI_IFNAME")
        call bridge "$second" net1 >/dev/null;;
    *)
        echo "[$(delegate '' "$primary")]" >"$cache"
        result=$(call @type@ "$primary" "$CNI_IFNAME");;
    esac
    echo "$result";;
DEL)
    if grep -qs @namespace@ "$cache"; then call bridge "$second" net1; fi
    call @type@ "$primary" "$CNI_IFNAME"
    rm -f "$cache";;
VERSION) echo '{"cniVersion":"0.4.0","supportedVersions":["0.3.0","0.3.1","0.4.0"]}';;
esac
"#;

/// Puts the stand-in on a node. Its second network has the addresses 10.103.`number`.0/24.
pub(crate) fn install(stage: &Stage<'_>, node: &str, number: u8) -> Result<()> {
    let cluster = stage.cluster;
    let primary = primary(stage, node)?;
    let second = json!({
        "cniVersion": "0.4.0",
        "name": format!("{}__multus", stage.namespace),
        "type": "bridge",
        "bridge": stage.interface("mu"),
        "ipam": { "type": "host-local", "subnet": format!("10.103.{number}.0/24") },
    });
    let kind = primary["type"].as_str().unwrap_or_default();
    let script = SCRIPT
        .replace("@type@", kind)
        .replace("@primary@", &primary.to_string())
        .replace("@second@", &second.to_string())
        .replace("@cache@", CACHE)
        .replace("@log@", LOG)
        .replace("@namespace@", &stage.namespace);
    cluster.write_on_node(node, PLUGIN, &script)?;
    cluster.on_node(node, &format!("chmod 755 {PLUGIN}"))?;
    let configuration = json!({ "cniVersion": "0.4.0", "name": "multus-cni-network", "type": "multus" });
    cluster.write_on_node(node, CONFIGURATION, &configuration.to_string())
}

/// The first plugin of the primary's configuration, as a network of its own.
fn primary(stage: &Stage<'_>, node: &str) -> Result<Value> {
    let list = stage.cluster.on_node(node, "cd /etc/cni/net.d; cat $(ls | grep -v '^00-' | head -n 1)")?;
    let list: Value = serde_json::from_str(&list).context("reading the primary's configuration")?;
    let mut plugin = list["plugins"][0].clone();
    ensure!(plugin.is_object(), "the primary of {node} has no plugins: {list}");
    plugin["name"] = list["name"].clone();
    plugin["cniVersion"] = "0.4.0".into();
    Ok(plugin)
}

/// Takes the stand-in off a node.
pub(crate) fn remove(stage: &Stage<'_>, node: &str) -> Result<()> {
    stage.cluster.on_node(node, &format!("rm -rf {CONFIGURATION} {PLUGIN} {LOG} {CACHE}")).map(drop)
}

/// How often it was called with a verb for pods of the scenario.
pub(crate) fn calls(stage: &Stage<'_>, node: &str, verb: &str) -> Result<usize> {
    let log = stage.cluster.on_node(node, &format!("cat {LOG} 2>/dev/null || :"))?;
    let own = format!("K8S_POD_NAMESPACE={}", stage.namespace);
    Ok(log.lines().filter(|line| line.starts_with(verb) && line.contains(&own)).count())
}

/// How many containers of the scenario it has notes of.
pub(crate) fn notes(stage: &Stage<'_>, node: &str) -> Result<usize> {
    let script = format!("grep -ls {} {CACHE}/* || :", stage.namespace);
    Ok(stage.cluster.on_node(node, &script)?.lines().count())
}

/// The address that it gave a pod on its second network.
pub(crate) fn address(stage: &Stage<'_>, pod: &str) -> Result<IpAddr> {
    attached::in_listing(&stage.exec(pod, &["ip", "-o", "-4", "address", "show", "dev", "net1"])?)
}
