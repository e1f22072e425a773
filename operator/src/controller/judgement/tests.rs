use std::path::Path;

use crds::{NetworkAttachmentDefinition, NetworkAttachmentDefinitionSpec};
use serde_json::json;

use super::*;
use crate::node::render;
use crate::permissions::Permissions;

fn rendered(name: &str, config: &Value) -> RenderedNetwork {
    let network: NetworkRef = name.parse().unwrap();
    let mut nad = NetworkAttachmentDefinition::default();
    nad.metadata.namespace = Some(network.namespace.to_string());
    nad.metadata.name = Some(network.name.to_string());
    nad.spec.spec = Some(NetworkAttachmentDefinitionSpec { config: Some(config.to_string()) });
    render::render(&nad, "test", &Permissions::default()).unwrap()
}

fn alone(config: &Value) -> Judgement {
    judge_one(&rendered("app/net", config), &Neighbours::default())
}

/// A bridge with an `ipam` of this type and these keys.
fn with_ipam(kind: &str, keys: &Value) -> Value {
    let mut ipam = keys.clone();
    ipam["type"] = kind.into();
    json!({"cniVersion": "1.0.0", "type": "bridge", "bridge": "br0", "ipam": ipam})
}

fn host_local(keys: Value) -> Value {
    with_ipam("host-local", &keys)
}

/// `errors` and `warnings` are beginnings of what is said, after the plugin's place.
#[track_caller]
fn assert_said(config: &Value, errors: &[&str], warnings: &[&str]) {
    let judgement = alone(config);
    if let Some(refuses) = real_plugin_refuses(config)
        && !config["capabilities"].is_object()
        && judgement.errors.iter().all(|error| error.starts_with("plugin"))
    {
        assert_eq!(!judgement.errors.is_empty(), refuses, "the real plugin differs: {config}: {judgement:?}");
    }
    for (said, expected) in [(&judgement.errors, errors), (&judgement.warnings, warnings)] {
        assert_eq!(said.len(), expected.len(), "{config}: {judgement:?}");
        for (line, expected) in said.iter().zip(expected) {
            let text =
                line.strip_prefix("plugin").map_or(line.as_str(), |rest| rest.split_once(": ").unwrap().1);
            assert!(text.starts_with(expected), "{config}: {line:?} does not start with {expected:?}");
        }
    }
}

/// Where Debian puts the reference plugins.
const REAL: &str = "/usr/lib/cni";

/// What the real IPAM plugin says of a bridge's configuration. `None` where it is not installed, or where this is
/// not about one.
fn real_plugin_refuses(config: &Value) -> Option<bool> {
    let kind = config["ipam"]["type"].as_str().filter(|kind| ["host-local", "static"].contains(kind))?;
    let plugin = Path::new(REAL).join(kind);
    if config["type"] != "bridge" || !plugin.exists() {
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut config = config.clone();
    config["name"] = "n".into();
    if config["ipam"]["dataDir"].as_str().is_some() || config["ipam"].get("dataDir").is_none() {
        config["ipam"]["dataDir"] = dir.path().to_str().into();
    }
    let stdin = dir.path().join("stdin");
    std::fs::write(&stdin, config.to_string()).unwrap();
    let output = std::process::Command::new(plugin)
        .env_clear()
        .envs([("CNI_COMMAND", "ADD"), ("CNI_CONTAINERID", "c"), ("CNI_NETNS", "/n"), ("CNI_IFNAME", "eth0")])
        .env("CNI_PATH", REAL)
        .stdin(std::fs::File::open(stdin).unwrap())
        .output()
        .unwrap();
    // A route to "<nil>" (Go escapes it) is what the plugin that called it stumbles over.
    Some(!output.status.success() || String::from_utf8_lossy(&output.stdout).contains(r"\u003cnil"))
}

#[test]
fn what_the_plugins_take_is_taken() {
    let plugin = |config: Value| {
        let mut config = config;
        config["cniVersion"] = "1.0.0".into();
        config
    };
    for config in [
        host_local(json!({"subnet": "10.1.0.0/24"})),
        host_local(json!({"Subnet": "10.1.0.0/024", "RANGESTART": "10.1.0.0", "rangeEnd": "10.1.0.255"})),
        host_local(json!({"subnet": "10.1.0.0/24", "gateway": "", "rangeStart": null, "_remark": {"x": 1}})),
        host_local(json!({"subnet": "10.1.0.0/30", "rangeStart": "10.1.0.2", "rangeEnd": "10.1.0.2"})),
        host_local(json!({"subnet": "fd00::/126", "gateway": "fd00::1"})),
        host_local(json!({"ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd00::/64"}]]})),
        host_local(json!({"ranges": [[{"subnet": "10.1.0.0/25"}, {"subnet": "10.1.0.128/25"}]]})),
        host_local(json!({"subnet": "10.1.0.0/24", "ranges": [[{"subnet": "10.2.0.0/24"}]]})),
        host_local(
            json!({"subnet": "10.1.0.0/24", "routes": [{"dst": "10.9.0.0/16"}, {"dst": "fd01::/64", "gw": "fd00::1"}]}),
        ),
        host_local(json!({"subnet": "10.1.0.0/24", "routes": null, "ranges": null, "dataDir": "/run/x"})),
        json!({"cniVersion": "1.0.0", "type": "bridge", "capabilities": {"ipRanges": true}, "ipam": {"type": "host-local"}}),
        json!({"cniVersion": "0.2.0", "type": "bridge", "ipam": {"type": "host-local",
            "ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd00::/64"}]]}}),
        with_ipam("static", &json!({"addresses": [{"address": "10.1.0.5/24", "gateway": "10.1.0.1"}]})),
        with_ipam("static", &json!({})),
        with_ipam("whereabouts", &json!({"range": "10.1.0.0/24", "range_start": "10.1.0.5"})),
        with_ipam("whereabouts", &json!({"range": "10.1.0.5-10.1.0.9/24"})),
        with_ipam("whereabouts", &json!({"ipRanges": [{"range": "fd00::/64"}]})),
        with_ipam("dhcp", &json!({})),
        with_ipam("calico-ipam", &json!({"subnet": 7, "ranges": "x"})),
        plugin(json!({"type": "bridge", "vlan": 0, "mtu": 9000, "isGateway": true})),
        plugin(json!({"type": "bridge", "vlan": 4094, "bridge": "fifteen-letters"})),
        plugin(json!({"type": "macvlan", "master": "eth1", "mode": "passthru", "mtu": 0})),
        plugin(json!({"type": "macvlan", "mode": ""})),
        plugin(json!({"type": "ipvlan", "mode": "l3s", "ipam": {"type": "dhcp"}})),
        plugin(json!({"type": "vlan", "master": "eth1", "vlanId": 5, "IPAM": {"type": "dhcp"}})),
        plugin(json!({"plugins": [{"type": "macvlan", "master": "a"}, {"type": "ipvlan"}]})),
        plugin(json!({"type": "ptp", "ipam": {"type": "host-local", "subnet": "10.1.0.0/24"}})),
        plugin(json!({"type": "ovs", "vlan": 9999, "mtu": "large"})),
        plugin(json!({"type": "sriov", "vlan": "5"})),
    ] {
        assert_said(&config, &[], &[]);
    }
}

#[test]
fn subnets_and_bounds_that_host_local_refuses_are_errors() {
    for (ipam, error) in [
        (json!({}), "ipam has neither \"subnet\" nor \"ranges\""),
        (
            json!({"subnet": "10.1.0.0"}),
            "ipam: \"subnet\" is \"10.1.0.0\", without prefix length; write for example \"10.1.0.0/24\"",
        ),
        (json!({"subnet": "10.1.0/24"}), "ipam: \"subnet\" is \"10.1.0/24\", which is no address"),
        (json!({"subnet": 5}), "ipam: \"subnet\" is a number, not a string"),
        (
            json!({"subnet": "10.1.0.7/24"}),
            "ipam: \"subnet\" 10.1.0.7/24 has host bits set; write \"10.1.0.0/24\"",
        ),
        (
            json!({"subnet": "10.1.0.4/31"}),
            "ipam: \"subnet\" 10.1.0.4/31 has no address to give; the prefix length may be 30",
        ),
        (
            json!({"subnet": "fd00::/127"}),
            "ipam: \"subnet\" fd00::/127 has no address to give; the prefix length may be 126",
        ),
        (json!({"subnet": "::ffff:10.1.0.0/120"}), "ipam: \"subnet\" is an IPv4 network in IPv6 form"),
        (
            json!({"subnet": "10.1.0.0/24", "rangeStart": "10.2.0.1"}),
            "ipam: \"rangeStart\" 10.2.0.1 is not in the subnet 10.1.0.0/24",
        ),
        (
            json!({"subnet": "10.1.0.0/24", "rangeEnd": "fd00::1"}),
            "ipam: \"rangeEnd\" fd00::1 is not in the subnet",
        ),
        (
            json!({"subnet": "10.1.0.0/24", "rangeEnd": "10.1.0.9/24"}),
            "ipam: \"rangeEnd\" is \"10.1.0.9/24\"; an address is meant",
        ),
        (
            json!({"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.9", "rangeEnd": "10.1.0.8"}),
            "ipam: \"rangeStart\" 10.1.0.9 is behind",
        ),
        (
            json!({"subnet": "10.1.0.0/24", "gateway": "10.1.0.256"}),
            "ipam: \"gateway\" is \"10.1.0.256\", which is no IP address",
        ),
    ] {
        assert_said(&host_local(ipam), &[error], &[]);
    }
}

#[test]
fn sets_of_ranges_and_routes_that_host_local_refuses_are_errors() {
    for (ipam, error) in [
        (json!({"ranges": [{"subnet": "10.1.0.0/24"}]}), "ipam.ranges[0] is an object, not an array"),
        (json!({"ranges": [[]]}), "ipam.ranges[0] is empty"),
        (json!({"ranges": {}}), "ipam: \"ranges\" is an object, not an array"),
        (json!({"ranges": [[{}]]}), "ipam.ranges[0][0]: \"subnet\" is missing"),
        (json!({"ranges": [["10.1.0.0/24"]]}), "ipam.ranges[0][0] is a string, not an object"),
        (
            json!({"ranges": [[{"subnet": "10.1.0.0/24"}, {"subnet": "fd00::/64"}]]}),
            "ipam.ranges[0] mixes IPv4 and IPv6",
        ),
        (
            json!({"ranges": [[{"subnet": "10.1.0.0/24"}, {"subnet": "10.1.0.0/25"}]]}),
            "ipam: ranges 10.1.0.1-10.1.0.254 and 10.1.0.1-10.1.0.126 overlap",
        ),
        (
            json!({"subnet": "10.1.0.0/24", "ranges": [[{"subnet": "10.1.0.0/16"}]]}),
            "ipam: ranges 10.1.0.1-10.1.0.254 and 10.1.0.1-10.1.255.254 overlap",
        ),
        (json!({"subnet": "10.1.0.0/24", "dataDir": 5}), "ipam: \"dataDir\" is a number"),
        (
            json!({"subnet": "10.1.0.0/24", "routes": [{"gw": "10.1.0.1"}]}),
            "ipam.routes[0]: \"dst\" is missing",
        ),
        (
            json!({"subnet": "10.1.0.0/24", "routes": [{"dst": "10.9.0.0/16", "gw": "x"}]}),
            "ipam.routes[0]: \"gw\" is \"x\", which is no",
        ),
        (
            json!({"subnet": "10.1.0.0/24", "routes": [{"dst": "default"}]}),
            "ipam.routes[0]: \"dst\" is \"default\", which is no",
        ),
        (json!({"subnet": "10.1.0.0/24", "routes": {}}), "ipam: \"routes\" is an object, not an array"),
        (json!({"subnet": "10.1.0.0/24", "routes": ["x"]}), "ipam.routes[0] is a string, not an object"),
    ] {
        assert_said(&host_local(ipam), &[error], &[]);
    }
    let old = json!({"cniVersion": "0.2.0", "type": "bridge", "ipam": {"type": "host-local",
        "ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "10.2.0.0/24"}]]}});
    assert_said(&old, &["ipam has several ranges of one family, and cniVersion 0.2.0 knows one"], &[]);
}

#[test]
fn several_errors_are_told_at_once() {
    let config = host_local(json!({"ranges": [[{"subnet": "10.1.0.0"}, {"subnet": "10.1.0.1/24"}], []]}));
    assert_eq!(alone(&config).errors.len(), 3);
}

#[test]
fn what_is_odd_but_taken_is_a_warning() {
    for (config, warning) in [
        (
            host_local(json!({"subnet": "10.1.0.0/24", "gateway": "10.2.0.1"})),
            "ipam: \"gateway\" 10.2.0.1 is not in the subnet",
        ),
        (
            host_local(json!({"subnet": "10.1.0.0/24", "exclude": ["10.1.0.5/32"]})),
            "host-local knows no \"exclude\"",
        ),
        (
            host_local(json!({"rangeStart": "10.1.0.5", "ranges": [[{"subnet": "10.1.0.0/24"}]]})),
            "ipam: \"rangeStart\" without \"subnet\"",
        ),
        (
            host_local(json!({"subnet": "10.1.0.0/24", "routes": [{"dst": "10.9.0.1/16"}]})),
            "ipam.routes[0]: \"dst\" 10.9.0.1/16 has host bits set",
        ),
        (
            host_local(json!({"subnet": "10.1.0.0/24", "routes": [{"dst": "10.9.0.0/16", "gw": "fd00::1"}]})),
            "ipam.routes[0]: \"gw\" fd00::1 is of another family",
        ),
        (
            with_ipam("static", &json!({"addresses": [{"address": "10.1.0.5/24", "gateway": "10.2.0.1"}]})),
            "ipam.addresses[0]: \"gateway\" 10.2.0.1 is not",
        ),
        (
            with_ipam("whereabouts", &json!({"range": "10.1.0.0"})),
            "ipam: \"range\" is \"10.1.0.0\", without prefix length",
        ),
        (
            with_ipam("whereabouts", &json!({"range": "10.1.0.0/24", "range_end": "10.2.0.1"})),
            "ipam: \"range_end\": 10.2.0.1 is not in",
        ),
        (
            with_ipam("whereabouts", &json!({"ipRanges": [{"range": 5}]})),
            "ipam.ipRanges[0]: \"range\" is a number",
        ),
        (json!({"cniVersion": "1.0.0", "type": "bridge", "mtu": -1}), "\"mtu\" is -1 and has no effect"),
        (json!({"cniVersion": "1.0.0", "type": "macvlan", "mtu": 70000}), "\"mtu\" is 70000, and hardly any"),
        // What others than the reference plugins do with their ipam is not known.
        (
            json!({"cniVersion": "1.0.0", "type": "vendor", "ipam": {"type": "host-local", "subnet": "10.1.0.0"}}),
            "ipam: \"subnet\" is",
        ),
        (
            json!({"cniVersion": "1.0.0", "type": "bridge", "capabilities": {"ips": true},
                "ipam": {"type": "static", "addresses": [{"address": "10.1.0.5"}]}}),
            "ipam.addresses[0]: \"address\" is \"10.1.0.5\", without prefix length",
        ),
    ] {
        assert_said(&config, &[], &[warning]);
    }
}

#[test]
fn what_plugins_refuse_before_they_do_anything_is_an_error() {
    for (config, error) in [
        (json!({"type": "bridge", "vlan": 4095}), "\"vlan\" is 4095, not between 0 and 4094"),
        (
            json!({"type": "bridge", "vlan": "5"}),
            "\"vlan\" is a string, not a whole number; write it without",
        ),
        (json!({"type": "bridge", "mtu": 1500.5}), "\"mtu\" is 1500.5, not a whole number"),
        (json!({"type": "bridge", "isGateway": "true"}), "\"isGateway\" is a string, not true or false"),
        (
            json!({"type": "bridge", "hairpinMode": true, "promiscMode": true}),
            "\"hairpinMode\" and \"promiscMode\"",
        ),
        (
            json!({"type": "macvlan", "mode": "l2"}),
            "\"mode\" is \"l2\", not one of bridge, private, vepa, passthru",
        ),
        (json!({"type": "macvlan", "mtu": -5}), "\"mtu\" is -5; leave it out"),
        (json!({"type": "macvlan", "master": 5}), "\"master\" is a number, not a string"),
        (
            json!({"type": "ipvlan", "mode": "bridge", "ipam": {"type": "dhcp"}}),
            "\"mode\" is \"bridge\", not one of l2",
        ),
        (json!({"type": "ipvlan"}), "ipvlan needs an IPAM plugin"),
        (json!({"type": "ptp"}), "ptp needs an IPAM plugin"),
        (json!({"type": "dummy"}), "dummy needs an IPAM plugin"),
        (json!({"type": "vlan", "vlanId": 5, "ipam": {"type": "dhcp"}}), "\"master\" is missing"),
        (json!({"type": "vlan", "master": "a", "vlanId": -1, "ipam": {"type": "dhcp"}}), "\"vlanId\" is -1"),
        (
            json!({"type": "bridge", "ipam": {"type": "static", "addresses": ["10.1.0.5/24"]}}),
            "ipam.addresses[0] is a string",
        ),
        (
            json!({"type": "bridge", "ipam": {"type": "static", "addresses": [{"address": "10.1.0.5"}]}}),
            "ipam.addresses[0]: \"address\" is",
        ),
        (
            json!({"type": "bridge", "ipam": {"type": "static", "addresses": [{}]}}),
            "ipam.addresses[0]: \"address\" is missing",
        ),
        (
            json!({"type": "bridge", "ipam": {"type": "static", "addresses": {}}}),
            "ipam: \"addresses\" is an object",
        ),
        // Of `render`.
        (json!({"bridge": "br0"}), "spec.config: the configuration has neither"),
        (json!({"type": "bridge", "cniVersion": "2.0.0"}), "spec.config: \"cniVersion\" is not supported"),
    ] {
        let mut config = config;
        if config.get("cniVersion").is_none() {
            config["cniVersion"] = "1.0.0".into();
        }
        assert_said(&config, &[error], &[]);
    }
}

/// A configuration in a version that is usual.
fn usual(mut config: Value) -> Value {
    config["cniVersion"] = "1.0.0".into();
    config
}

#[test]
fn names_of_interfaces_that_are_too_long_are_errors() {
    let ipam = json!({"type": "host-local", "subnet": "10.1.0.0/24"});
    for (config, error) in [
        (
            json!({"type": "bridge", "bridge": "sixteen-letters-"}),
            "\"bridge\": interface name \"sixteen-letters-\" is longer than the 15 bytes that the kernel takes; choose",
        ),
        (
            json!({"type": "bridge", "bridge": "a b"}),
            "\"bridge\": interface name \"a b\" must not contain blanks",
        ),
        (
            json!({"type": "macvlan", "master": "e".repeat(128)}),
            "\"master\" is 128 bytes long, and no interface",
        ),
        (json!({"type": "host-device", "device": "e".repeat(128)}), "\"device\" is 128 bytes long"),
        (
            json!({"type": "bridge", "bridge": "br-of-tenant", "vlan": 100, "isGateway": true, "ipam": ipam}),
            "the gateway of \"vlan\" 100 is an interface \"br-of-tenant.100\", and no interface",
        ),
        (
            json!({"plugins": [{"type": "macvlan"}, {"type": "vrf", "vrfname": "sixteen-letters-"}]}),
            "\"vrfname\": interface name \"sixteen-letters-\" is longer",
        ),
    ] {
        let said = alone(&usual(config.clone()));
        assert_eq!((said.errors.len(), said.warnings.len()), (1, 0), "{config}: {said:?}");
        assert!(said.errors[0].contains(error), "{said:?}");
    }
    for config in [
        json!({"type": "macvlan", "master": "e".repeat(127)}),
        json!({"type": "bridge", "bridge": "br-of-tenant", "vlan": 100, "ipam": ipam}),
        json!({"type": "vendor", "bridge": "sixteen-letters-"}),
    ] {
        assert_said(&usual(config), &[], &[]);
    }
}

#[test]
fn a_plugin_that_only_changes_what_others_made_is_not_the_first() {
    for plugin in ["bandwidth", "firewall", "portmap", "sbr", "tuning", "vrf"] {
        let error =
            format!("{plugin} changes what a plugin before it made, and it is the first; put a plugin");
        assert_said(&usual(json!({"type": plugin})), &[&error], &[]);
        assert_said(&usual(json!({"plugins": [{"type": "macvlan"}, {"type": plugin}]})), &[], &[]);
    }
}

#[test]
fn a_network_that_sets_a_default_route_is_warned_of() {
    let with_route = |route: Value| host_local(json!({"subnet": "10.1.0.0/24", "routes": [route]}));
    let mut gateway = host_local(json!({"subnet": "10.1.0.0/24"}));
    gateway["isDefaultGateway"] = true.into();
    for (config, reason) in [
        (with_route(json!({"dst": "0.0.0.0/0"})), "ipam.routes[0]"),
        (with_route(json!({"dst": "::/0", "table": 254, "priority": 0})), "ipam.routes[0]"),
        (
            with_ipam("static", &json!({"routes": [{"dst": "10.0.0.0/8"}, {"dst": "0.0.0.0/00"}]})),
            "ipam.routes[1]",
        ),
        (gateway.clone(), "\"isDefaultGateway\""),
    ] {
        let warning =
            format!("{reason} sets a default route, and a pod that has one by its primary network may");
        assert_said(&config, &[], &[&warning]);
    }
    let chained = json!({"cniVersion": "1.0.0", "plugins": [gateway, {"type": "sbr"}]});
    for config in [
        with_route(json!({"dst": "10.0.0.0/8"})),
        with_route(json!({"dst": "0.0.0.0/0", "table": 100})),
        with_route(json!({"dst": "0.0.0.0/0", "priority": 500})),
        json!({"cniVersion": "1.0.0", "type": "bridge", "isDefaultGateway": true}),
        chained,
    ] {
        assert_said(&config, &[], &[]);
    }
}

#[test]
fn a_key_that_a_known_plugin_does_not_have_is_a_warning() {
    for (config, warning) in [
        (
            json!({"type": "bridge", "vendor": -1}),
            "bridge has no key \"vendor\", so it has no effect; remove it",
        ),
        (
            json!({"type": "bridge", "ipMask": true}),
            "bridge has no key \"ipMask\", so it has no effect; did you mean \"ipMasq\"?",
        ),
        (
            host_local(json!({"subnet": "10.1.0.0/24", "range_start": "10.1.0.9"})),
            "ipam: host-local has no key \"range_start\", so it has no effect; did you mean \"rangeStart\"?",
        ),
    ] {
        assert_said(&usual(config), &[], &[warning]);
    }
}

#[test]
fn a_value_that_a_known_plugin_cannot_decode_is_an_error_if_every_version_reads_it() {
    let chained = |plugin: Value| usual(json!({"plugins": [{"type": "macvlan"}, plugin]}));
    for (config, error) in [
        (
            chained(json!({"type": "tuning", "sysctl": {"net.core.somaxconn": 500}})),
            "sysctl: \"net.core.somaxconn\" is a number, not a string",
        ),
        (
            chained(json!({"type": "bandwidth", "ingressRate": "1M"})),
            "\"ingressRate\" is a string, not a whole number from 0",
        ),
        (chained(json!({"type": "portmap", "snat": "false"})), "\"snat\" is a string, not true or false"),
        (
            usual(json!({"type": "dummy", "dns": {"nameservers": "10.0.0.1"}, "ipam": {"type": "static"}})),
            "dns: \"nameservers\" is a string, not an array",
        ),
    ] {
        assert_said(&config, &[error], &[]);
    }
    assert_said(
        &usual(json!({"type": "bridge", "portIsolation": 1})),
        &[],
        &["\"portIsolation\" is a number, not true"],
    );
}

#[test]
fn a_place_names_the_plugin_of_a_list() {
    let list =
        json!({"cniVersion": "1.0.0", "plugins": [{"type": "macvlan"}, {"type": "bridge", "vlan": -1}]});
    assert_eq!(alone(&list).errors, ["plugins[1] (\"bridge\"): \"vlan\" is -1, not between 0 and 4094"]);
}

/// A network of host-local on a bridge.
fn network(name: &str, bridge: &str, subnet: &str, more: &[(&str, &str)]) -> RenderedNetwork {
    let mut config = host_local(json!({"subnet": subnet}));
    config["bridge"] = bridge.into();
    for (key, value) in more {
        let object = if *key == "dataDir" { &mut config["ipam"] } else { &mut config };
        object[*key] = (*value).into();
    }
    rendered(name, &config)
}

/// What is said of the networks together, without those of which nothing is.
fn together(networks: Vec<RenderedNetwork>) -> BTreeMap<String, Judgement> {
    let all = networks.into_iter().map(|network| (network.network.clone(), network)).collect();
    let judgements = judge(&all).into_iter().map(|(name, judgement)| (name.to_string(), judgement));
    judgements.filter(|(_, judgement)| *judgement != Judgement::default()).collect()
}

#[test]
fn a_data_directory_within_anothers_is_an_error_of_the_inner_one() {
    let others = "/var/lib/cni/networks/default__b";
    for dir in [others, "/var/lib/cni/networks/default__b/", "/var/lib/cni/./x/../networks/default__b/deep"] {
        let said = together(vec![
            network("default/b", "br0", "10.1.0.0/24", &[]),
            network("app/a", "br1", "10.2.0.0/24", &[("dataDir", dir)]),
        ]);
        let inner = &said["app/a"];
        assert!(inner.errors[0].contains("lies within that of network default/b"), "{inner:?}");
        assert!(said["default/b"].errors.is_empty());
        assert!(said["default/b"].warnings[0].starts_with("the data directory of app/a lies within"));
    }
}

#[test]
fn a_data_directory_beside_anothers_is_fine() {
    for dir in ["/var/lib/cni/networks", "/var/lib/cni/networks/default__bb", "/var/lib/cni"] {
        let said = together(vec![
            network("default/b", "br0", "10.1.0.0/24", &[]),
            network("app/a", "br1", "10.2.0.0/24", &[("dataDir", dir)]),
        ]);
        assert!(said.is_empty(), "{dir}: {said:?}");
    }
}

#[test]
fn a_name_that_braid_gave_to_another_network_is_an_error() {
    let said = together(vec![
        network("default/b", "br0", "10.1.0.0/24", &[]),
        network("app/a", "br1", "10.1.0.0/24", &[("name", "default__b")]),
    ]);
    assert!(
        said["app/a"].errors[0].starts_with("\"name\" \"default__b\" is the one that network default/b has"),
        "{said:?}"
    );
    assert!(!said.contains_key("default/b"), "nothing can happen to it: {said:?}");
}

#[test]
fn networks_named_alike_share_and_are_told_if_their_ranges_differ() {
    let shared = |ranges: [&str; 2], namespaces: [&str; 2]| {
        together(vec![
            network(&format!("{}/x", namespaces[0]), "br0", ranges[0], &[("name", "shared")]),
            network(&format!("{}/y", namespaces[1]), "br0", ranges[1], &[("name", "shared")]),
        ])
    };
    assert!(shared(["10.1.0.0/24", "10.1.0.0/24"], ["a", "b"]).is_empty());
    assert!(shared(["10.1.0.0/24", "10.2.0.0/24"], ["a", "a"]).is_empty());
    let said = shared(["10.1.0.0/24", "10.2.0.0/24"], ["a", "b"]);
    for (name, other) in [("a/x", "b/y"), ("b/y", "a/x")] {
        assert!(said[name].errors.is_empty());
        assert!(said[name].warnings[0].starts_with("shares its \"name\""), "{said:?}");
        assert!(said[name].warnings[0].contains(other), "{said:?}");
    }
}

#[test]
fn overlapping_ranges_on_one_wire_are_a_warning_of_both() {
    let on = |plugin: Value, name: &str, subnet: &str| {
        let mut config = plugin;
        config["cniVersion"] = "1.0.0".into();
        config["ipam"] = json!({"type": "host-local", "subnet": subnet});
        rendered(name, &config)
    };
    for (one, other, same) in [
        (json!({"type": "bridge", "bridge": "br0"}), json!({"type": "bridge", "bridge": "br0"}), true),
        (json!({"type": "bridge"}), json!({"type": "bridge", "bridge": "cni0"}), true),
        (json!({"type": "bridge", "bridge": "br0"}), json!({"type": "bridge", "bridge": "br1"}), false),
        (json!({"type": "bridge", "vlan": 5}), json!({"type": "bridge", "vlan": 6}), false),
        (json!({"type": "macvlan", "master": "e"}), json!({"type": "ipvlan", "master": "e"}), true),
        (json!({"type": "macvlan", "master": "e"}), json!({"type": "macvlan", "master": "f"}), false),
        (
            json!({"type": "ipvlan", "mode": "l3", "master": "e"}),
            json!({"type": "ipvlan", "master": "e"}),
            false,
        ),
        (json!({"type": "macvlan", "linkInContainer": true}), json!({"type": "macvlan"}), false),
        (json!({"type": "ptp"}), json!({"type": "ptp"}), false),
    ] {
        let said =
            together(vec![on(one.clone(), "a/x", "10.1.0.0/24"), on(other.clone(), "a/y", "10.1.0.0/16")]);
        assert_eq!(said.len(), if same { 2 } else { 0 }, "{one} {other}: {said:?}");
        for judgement in said.values() {
            assert!(judgement.errors.is_empty());
            assert!(
                judgement.warnings[0].starts_with("its host-local ranges overlap with those of a/"),
                "{said:?}"
            );
        }
        let apart = together(vec![on(one, "a/x", "10.1.0.0/24"), on(other, "a/y", "10.2.0.0/16")]);
        assert!(apart.is_empty(), "{apart:?}");
    }
}

#[test]
fn a_crowd_is_named_in_one_short_warning() {
    let said = together((0..50).map(|n| network(&format!("a/n{n:02}"), "br0", "10.1.0.0/24", &[])).collect());
    assert_eq!(said["a/n07"].warnings.len(), 1);
    assert!(said["a/n07"].warnings[0].contains("a/n00, a/n01, a/n02 and 46 more on bridge"), "{said:?}");
}

#[test]
fn a_network_is_not_compared_with_its_older_form_and_a_removed_one_does_not_count() {
    let one = network("a/x", "br0", "10.1.0.0/24", &[]);
    let other = network("a/y", "br0", "10.1.0.0/24", &[]);
    let mut all = Neighbours::default();
    all.insert(&one);
    assert_eq!(judge_one(&network("a/x", "br0", "10.1.0.0/16", &[]), &all), Judgement::default());
    assert_eq!(judge_one(&other, &all).warnings.len(), 1);
    all.insert(&network("a/x", "br9", "10.1.0.0/24", &[]));
    assert_eq!(judge_one(&other, &all), Judgement::default());
    all.insert(&one);
    all.retain(|name| *name != one.network);
    assert_eq!(judge_one(&other, &all), Judgement::default());
    assert!(!all.contains(&one.network));
}

#[test]
fn our_own_examples_are_fine() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/examples/networks");
    let manifests = crate::manifests::Manifests::read(&examples, Permissions::default()).unwrap();
    assert!(manifests.networks.len() > 3, "{manifests:?}");
    for (name, judgement) in judge(&manifests.networks) {
        assert_eq!(judgement, Judgement::default(), "{name}");
    }
}

#[test]
fn hints_are_about_the_text() {
    assert_eq!(hints(r#"{"cniVersion":"1.0.0","type":"bridge"}"#), Vec::<&str>::new());
    assert_eq!(hints(r#"{"type":"bridge"}"#).len(), 1);
    assert_eq!(hints(r#"{"type":"bridge","plugins":[]}"#).len(), 2);
    assert!(hints("{").is_empty());
}
