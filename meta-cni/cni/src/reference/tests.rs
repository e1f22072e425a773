use serde_json::{Value, json};

use super::shape::{Problem, slips};
use super::*;

fn config(json: Value) -> PluginConfig {
    PluginConfig::from_json(json, "the plugin").unwrap()
}

#[test]
fn every_plugin_is_there_once() {
    let mut names: Vec<_> = tables::PLUGINS.iter().map(|plugin| plugin.name).collect();
    names.sort_unstable();
    assert_eq!(
        names.join(" "),
        "bandwidth bridge dhcp dummy firewall host-device host-local ipvlan loopback macvlan portmap ptp sbr static tap \
         tuning vlan vrf whereabouts"
    );
    for plugin in tables::PLUGINS {
        for (index, key) in plugin.keys.iter().enumerate() {
            let again = plugin.keys[index + 1..].iter().any(|other| keys::same(other.name, key.name));
            assert!(!again, "{} {}", plugin.name, key.name);
        }
    }
}

#[test]
fn what_a_plugin_leaves_outside_of_the_namespace() {
    let ipam = json!({"type": "host-local"});
    for (json, expected) in [
        (json!({"type": "bridge", "ipam": ipam}), Some(Outside::Nothing)),
        (json!({"type": "bridge", "ipam": ipam, "ipMasq": true}), Some(Outside::Rules)),
        (json!({"type": "bridge", "ipam": ipam, "IPMasq": true}), Some(Outside::Rules)),
        (json!({"type": "bridge", "ipam": ipam, "ipMasq": false}), Some(Outside::Nothing)),
        (json!({"type": "bridge", "ipMasq": true}), Some(Outside::Nothing)),
        (json!({"type": "bridge", "macspoofchk": true}), Some(Outside::Rules)),
        (json!({"type": "ptp", "ipam": ipam, "ipMasq": true}), Some(Outside::Rules)),
        (json!({"type": "ptp", "ipam": ipam}), Some(Outside::Nothing)),
        (json!({"type": "portmap"}), Some(Outside::Rules)),
        (json!({"type": "firewall"}), Some(Outside::Rules)),
        (json!({"type": "bandwidth"}), Some(Outside::Rules)),
        (json!({"type": "sbr"}), Some(Outside::Nothing)),
        (json!({"type": "vrf"}), Some(Outside::Nothing)),
        (json!({"type": "tuning"}), Some(Outside::Nothing)),
        (json!({"type": "macvlan", "ipMasq": true}), Some(Outside::Nothing)),
        (json!({"type": "host-device"}), Some(Outside::Nothing)),
        (json!({"type": "host-local"}), None),
        (json!({"type": "calico"}), None),
    ] {
        assert_eq!(leaves_outside(&config(json.clone())), expected, "{json}");
    }
}

#[test]
fn which_plugins_forget_addresses_without_a_namespace() {
    let ipam = json!({"type": "host-local"});
    for (json, expected) in [
        (json!({"type": "host-device", "device": "eth1", "ipam": ipam}), true),
        (json!({"type": "host-device", "device": "eth1", "ipam": {}}), false),
        (json!({"type": "host-device", "device": "eth1"}), false),
        (json!({"type": "vlan", "master": "net1", "linkInContainer": true, "ipam": ipam}), true),
        (json!({"type": "vlan", "master": "eth1", "ipam": ipam}), false),
        (json!({"type": "bridge", "ipam": ipam}), false),
        (json!({"type": "sbr", "ipam": ipam}), false),
        (json!({"type": "calico", "ipam": ipam}), false),
    ] {
        assert_eq!(forgets_addresses_without_namespace(&config(json.clone())), expected, "{json}");
    }
}

#[test]
fn what_a_pod_asked_for_is_needed_at_del_where_a_plugin_is_not_known() {
    for (json, expected) in [
        (json!({"type": "bridge"}), false),
        (json!({"type": "bridge", "ipam": {"type": "static"}}), false),
        (json!({"type": "macvlan", "ipam": {"type": "whereabouts"}}), false),
        (json!({"type": "macvlan", "ipam": {"type": "infoblox"}}), true),
        (json!({"type": "tuning", "ipam": {"type": "infoblox"}}), false),
        (json!({"type": "sriov"}), true),
    ] {
        assert_eq!(needs_requests_at_del(&config(json.clone())), expected, "{json}");
    }
}

/// What is said of a configuration, `?` before what only some versions refuse.
fn said(json: Value) -> Vec<String> {
    let config = config(json);
    let say = |slip: &shape::Slip<'_>| match slip.problem {
        Problem::WrongKind { always: false, .. } => format!("?{slip}"),
        _ => slip.to_string(),
    };
    slips(&config).iter().map(say).collect()
}

#[test]
fn a_value_of_the_wrong_kind_is_found_wherever_it_is() {
    let local =
        |key: &str, value: Value| json!({"type": "bridge", "ipam": {"type": "host-local", key: value}});
    for (json, expected) in [
        (
            json!({"type": "bridge", "isGateway": "true"}),
            "\"isGateway\" is a string, not true or false without quotation marks",
        ),
        (
            json!({"type": "bridge", "MTU": "1400"}),
            "\"MTU\" is a string, not a whole number; write it without quotation marks",
        ),
        (json!({"type": "bridge", "mtu": 1400.5}), "\"mtu\" is 1400.5, not a whole number"),
        (
            json!({"type": "bridge", "bridge": 5}),
            "\"bridge\" is 5, not a string; write it in quotation marks",
        ),
        (
            json!({"type": "bridge", "vlanTrunk": {"id": 5}}),
            "?\"vlanTrunk\" is an object, not an array of objects; write it in [ ]",
        ),
        (
            json!({"type": "bridge", "vlanTrunk": [{"id": "5"}]}),
            "?vlanTrunk[0]: \"id\" is a string, not a whole number; write it without quotation marks",
        ),
        (
            json!({"type": "tuning", "sysctl": {"net.core.somaxconn": 500}}),
            "sysctl: \"net.core.somaxconn\" is 500, not a string; write it in quotation marks",
        ),
        (json!({"type": "tap", "owner": -1}), "\"owner\" is -1, not a whole number from 0 to 4294967295"),
        (
            json!({"type": "tap", "owner": 4_294_967_296_u64}),
            "\"owner\" is 4294967296, not a whole number from 0 to 4294967295",
        ),
        (
            json!({"type": "portmap", "conditionsV4": ["-s", 5]}),
            "\"conditionsV4[1]\" is 5, not a string; write it in quotation marks",
        ),
        (
            json!({"type": "macvlan", "dns": {"nameservers": "10.0.0.1"}}),
            "dns: \"nameservers\" is a string, not an array of strings; write it in [ ]",
        ),
        (local("subnet", json!(5)), "ipam: \"subnet\" is 5, not a string; write it in quotation marks"),
        (
            local("ranges", json!([{"subnet": "10.1.0.0/24"}])),
            "ipam: \"ranges[0]\" is an object, not an array of objects; write it in [ ]",
        ),
        (
            local("ranges", json!([[{"subnet": 5}]])),
            "ipam.ranges[0][0]: \"subnet\" is 5, not a string; write it in quotation marks",
        ),
        (
            local("routes", json!([{"dst": true}])),
            "ipam.routes[0]: \"dst\" is a boolean, not a string; write it in quotation marks",
        ),
        (local("routes", json!(["10.0.0.0/8"])), "ipam: \"routes[0]\" is a string, not an object"),
    ] {
        assert_eq!(said(json.clone()), [expected], "{json}");
    }
}

#[test]
fn a_key_that_the_plugin_does_not_have_is_found_and_a_near_one_named() {
    for (json, expected) in [
        (
            json!({"type": "bridge", "isDefaultGatway": true}),
            "bridge has no key \"isDefaultGatway\", so it has no effect; did you mean \"isDefaultGateway\"?",
        ),
        (
            json!({"type": "macvlan", "isGateway": true}),
            "macvlan has no key \"isGateway\", so it has no effect; remove it, or correct its spelling",
        ),
        (
            json!({"type": "bridge", "ipma": {}}),
            "bridge has no key \"ipma\", so it has no effect; did you mean \"ipam\"?",
        ),
        (
            json!({"type": "bridge", "ipam": {"type": "host-local", "rangestar": "10.1.0.2"}}),
            "ipam: host-local has no key \"rangestar\", so it has no effect; did you mean \"rangeStart\"?",
        ),
        (
            json!({"type": "bridge", "ipam": {"type": "static", "routes": [{"dest": "0.0.0.0/0"}]}}),
            "ipam.routes[0]: static has no key \"dest\", so it has no effect; did you mean \"dst\"?",
        ),
    ] {
        assert_eq!(said(json.clone()), [expected], "{json}");
    }
}

#[test]
fn what_some_version_takes_or_nobody_can_know_is_passed() {
    for json in [
        json!({"type": "bridge", "cniVersion": "1.0.0", "name": "n", "capabilities": {"mac": true}, "DNS": {}, "ISGATEWAY": true}),
        json!({"type": "bridge", "bridge": null, "mtu": null, "ipam": {"type": "host-local", "ranges": null, "routes": [null]}}),
        json!({"type": "bridge", "_comment": 5, "//": "a remark", "cni.dev/attachments": [], "args": {"cni": {"mac": "", "x": 5}}}),
        json!({"type": "bridge", "ipam": {"type": "infoblox", "subnet": 5}}),
        json!({"type": "bridge", "ipam": {}}),
        json!({"type": "calico", "mtu": "1400", "ipam": {"type": "host-local", "subnet": 5}}),
        json!({"type": "macvlan", "ipMasq": true}),
        json!({"type": "tap", "owner": 4_294_967_295_u64}),
        json!({"type": "bandwidth", "ingressRate": 18_446_744_073_709_551_615_u64}),
        json!({"type": "bridge", "mtu": -5}),
    ] {
        assert_eq!(said(json.clone()), [""; 0], "{json}");
    }
}

#[test]
fn keys_that_lead_to_interfaces_and_paths_are_known_wherever_they_are() {
    for key in ["bridge", "MASTER", "device", "hwaddr", "kernelPath", "pciBusID"] {
        assert!(names_interface(key), "{key}");
    }
    for key in ["dataDir", "daemonSocketPath", "kubeconfig"] {
        assert!(names_path(key), "{key}");
    }
    assert!(!names_interface("mode") && !names_interface("vrfname") && !names_path("subnet"));
}
