use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::version::SpecVersion;

fn result(json: Value) -> AddResult {
    AddResult::parse(json, SpecVersion::V1_1_0).unwrap()
}

fn of(json: Value, primary: bool) -> Value {
    let list = statuses("ns/net", &result(json), &IfName::parse("net1").unwrap(), None, primary);
    serde_json::to_value(list).unwrap()
}

#[test]
fn one_interface_gives_one_entry_with_bare_addresses() {
    let status = of(
        json!({
            "interfaces": [{"name": "net1", "mac": "00:11:22:33:44:55", "mtu": 1450, "sandbox": "/run/netns/a"}],
            "ips": [{"address": "10.0.0.2/24", "gateway": "10.0.0.1", "interface": 0}, {"address": "fd00::2/64"}],
            "dns": {"nameservers": ["10.0.0.10"], "vendor": 1},
        }),
        false,
    );
    assert_eq!(
        status,
        json!([{
            "name": "ns/net", "interface": "net1", "ips": ["10.0.0.2", "fd00::2"],
            "mac": "00:11:22:33:44:55", "mtu": 1450, "dns": {"nameservers": ["10.0.0.10"]},
        }])
    );
}

#[test]
fn what_is_empty_is_left_out_except_dns() {
    let status = of(json!({"interfaces": [{"name": "net1", "mtu": 0, "sandbox": "/a"}]}), false);
    assert_eq!(status, json!([{"name": "ns/net", "interface": "net1", "dns": {}}]));
}

#[test]
fn a_result_without_interfaces_in_the_pod_gives_a_minimal_entry_with_its_addresses() {
    for (interfaces, ips) in [
        (json!([]), json!([{"address": "10.0.0.2/24"}])),
        (json!([{"name": "veth0"}]), json!([{"address": "10.0.0.2/24", "interface": 0}])),
    ] {
        assert_eq!(
            of(json!({"interfaces": interfaces, "ips": ips}), true),
            json!([{"name": "ns/net", "interface": "net1", "ips": ["10.0.0.2"], "default": true, "dns": {}}])
        );
    }
    assert_eq!(of(json!({}), false), json!([{"name": "ns/net", "interface": "net1", "dns": {}}]));
    let old = json!({"cniVersion": "0.2.0", "ip4": {"ip": "10.0.0.2/24"}});
    assert_eq!(of(old, false)[0]["ips"], json!(["10.0.0.2"]));
}

/// The interfaces of a result with two in the pod, and one on the host before them.
fn three(first: &str, second: &str) -> Value {
    json!([{"name": "veth0"}, {"name": first, "sandbox": "/a"}, {"name": second, "sandbox": "/a"}])
}

fn addresses_of(status: &Value) -> Vec<Value> {
    status.as_array().unwrap().iter().map(|entry| entry.get("ips").cloned().unwrap_or(json!([]))).collect()
}

#[test]
fn addresses_go_to_the_interface_of_their_index() {
    let ips = json!([
        {"address": "10.0.0.1/24", "interface": 0},
        {"address": "10.0.0.2/24", "interface": 1},
        {"address": "10.0.0.3/24", "interface": 2},
        {"address": "10.0.0.4/24"},
        {"address": "10.0.0.5/24", "interface": 7},
    ]);
    let named = of(json!({"interfaces": three("net1", "x"), "ips": ips}), false);
    assert_eq!(addresses_of(&named), [json!(["10.0.0.2", "10.0.0.4", "10.0.0.5"]), json!(["10.0.0.3"])]);
    let others = of(json!({"interfaces": three("x", "y"), "ips": ips}), false);
    assert_eq!(
        addresses_of(&others),
        [json!(["10.0.0.2"]), json!(["10.0.0.3"]), json!(["10.0.0.4", "10.0.0.5"])],
        "those without an index are the interface's that was asked for"
    );
}

#[test]
fn the_default_entry_is_the_first_with_a_gateway_and_only_of_the_primary() {
    let flags = |ips: Value, primary| {
        let status = of(json!({"interfaces": three("x", "y"), "ips": ips}), primary);
        let flag = |entry: &Value| entry.get("default") == Some(&json!(true));
        status.as_array().unwrap().iter().map(flag).collect::<Vec<_>>()
    };
    let second = json!([
        {"address": "10.0.0.1/24", "gateway": "10.0.0.254", "interface": 0},
        {"address": "10.0.0.2/24", "interface": 1},
        {"address": "10.0.0.3/24", "gateway": "10.0.0.254", "interface": 2},
    ]);
    assert_eq!(flags(second.clone(), true), [false, true]);
    assert_eq!(flags(second, false), [false, false]);
    assert_eq!(flags(json!([]), true), [true, false]);
}

#[test]
fn gateways_are_those_of_real_default_routes() {
    let gateways = |routes: Value| {
        let ips = json!([{"address": "10.0.0.2/24", "gateway": "10.0.0.1"}, {"address": "fd00::2/64"}]);
        let status = of(json!({"ips": ips, "routes": routes}), false);
        status[0].get("gateway").cloned()
    };
    for (routes, expected) in [
        (json!([{"dst": "0.0.0.0/0", "gw": "10.0.0.9"}]), Some(json!(["10.0.0.9"]))),
        (json!([{"dst": "0.0.0.0/0"}]), Some(json!(["10.0.0.1"]))),
        (json!([{"dst": "::/0"}]), None),
        (
            json!([{"dst": "0.0.0.0/0"}, {"dst": "::/0", "gw": "fd00::1"}]),
            Some(json!(["10.0.0.1", "fd00::1"])),
        ),
        (json!([{"dst": "0.0.0.0/0"}, {"dst": "0.0.0.0/0", "gw": "10.0.0.1"}]), Some(json!(["10.0.0.1"]))),
        (json!([{"dst": "0.0.0.0/1", "gw": "10.0.0.9"}]), None),
        (json!([{"dst": "0.0.0.0/0", "gw": "10.0.0.9", "table": 100}]), None),
        (json!([{"dst": "192.0.2.0/24", "gw": "10.0.0.9"}]), None),
        (json!([]), None),
    ] {
        assert_eq!(gateways(routes.clone()), expected, "{routes}");
    }
}

#[test]
fn addresses_are_written_as_go_writes_them() {
    let status =
        of(json!({"ips": [{"address": "::ffff:10.0.0.2/120"}, {"address": "FD00:0::0002/64"}]}), false);
    assert_eq!(status[0]["ips"], json!(["10.0.0.2", "fd00::2"]));
}

#[test]
fn annotations_of_multus_are_read() {
    let text = r#"[{
        "name": "cbr0", "interface": "eth0", "ips": ["10.244.1.4"], "mac": "4a:00:00:00:00:01",
        "default": true, "dns": {}, "gateway": ["<nil>", "10.244.1.1"], "new-field": 1
    },{
        "name": "default/sriov", "dns": {},
        "device-info": {"type": "pci", "version": "1.1.0", "pci": {"pci-address": "0000:18:02.5"}}
    }]"#;
    let list: Vec<NetworkStatus> = serde_json::from_str(text).unwrap();
    assert_eq!(list[0].gateway, ["10.244.1.1".parse::<IpAddr>().unwrap()]);
    assert!(list[0].default && !list[1].default);
    assert_eq!(list[1].device_info.as_ref().unwrap()["pci"]["pci-address"], "0000:18:02.5");
}

#[test]
fn no_status_is_an_empty_array() {
    assert_eq!(to_annotation(&[]), "[]");
}

fn any_interface() -> impl Strategy<Value = Value> {
    let sandbox = prop::sample::select(vec!["", "/run/netns/a"]);
    ("[a-z]{1,4}[0-9]", "(00:11:22:33:44:55)?", prop::option::of(any::<u32>()), sandbox).prop_map(
        |(name, mac, mtu, sandbox)| json!({"name": name, "mac": mac, "mtu": mtu, "sandbox": sandbox}),
    )
}

fn any_ip() -> impl Strategy<Value = Value> {
    (any::<IpAddr>(), prop::option::of(any::<IpAddr>()), prop::option::of(0_usize..5)).prop_map(
        |(address, gateway, interface)| {
            json!({"address": format!("{address}/24"), "gateway": gateway, "interface": interface})
        },
    )
}

fn any_result() -> impl Strategy<Value = AddResult> {
    let route =
        (prop::sample::select(vec!["0.0.0.0/0", "::/0", "10.0.0.0/8"]), prop::option::of(any::<IpAddr>()))
            .prop_map(|(dst, gw)| json!({"dst": dst, "gw": gw}));
    (
        prop::collection::vec(any_interface(), 0..4),
        prop::collection::vec(any_ip(), 0..4),
        prop::collection::vec(route, 0..3),
        prop::collection::vec("\\PC{0,8}", 0..2),
    )
        .prop_map(|(interfaces, ips, routes, search)| {
            result(json!({"interfaces": interfaces, "ips": ips, "routes": routes, "dns": {"search": search}}))
        })
}

proptest! {
    #[test]
    fn annotations_round_trip(name in "\\PC{0,12}", result in any_result(), primary in any::<bool>()) {
        let list = statuses(&name, &result, &IfName::parse("net1").unwrap(), None, primary);
        let text = to_annotation(&list);
        prop_assert_eq!(serde_json::from_str::<Vec<NetworkStatus>>(&text).unwrap(), list);
    }

    #[test]
    fn every_address_in_the_pod_is_told_once_and_one_entry_is_default(result in any_result()) {
        let list = statuses("ns/net", &result, &IfName::parse("net1").unwrap(), None, true);
        prop_assert_eq!(list.iter().filter(|status| status.default).count(), 1);
        let in_pod = result.interfaces.iter().any(Interface::is_in_pod);
        let on_host = |ip: &&IpConfig| {
            let interface = ip.interface.and_then(|index| result.interfaces.get(index));
            in_pod && interface.is_some_and(|interface| !interface.is_in_pod())
        };
        let told: usize = list.iter().map(|status| status.ips.len()).sum();
        prop_assert_eq!(told, result.ips.len() - result.ips.iter().filter(on_host).count());
    }
}
