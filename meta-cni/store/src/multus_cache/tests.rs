//! Files as Multus 3 and 4 leave them, whole and broken.

use cni::SpecVersion;
use proptest::prelude::*;

use super::*;

fn base64(json: Value) -> String {
    BASE64.encode(json.to_string())
}

fn read(delegates: Value) -> Vec<Delegate> {
    parse(delegates.to_string().as_bytes()).unwrap()
}

fn refused(text: &str) -> String {
    cni::error::chain_text(&parse(text.as_bytes()).unwrap_err())
}

/// The primary as the thick daemon writes it: `Bytes` without what Multus does not know.
fn stripped_primary() -> Value {
    let whole =
        json!({"type": "bridge", "bridge": "cni0", "ipam": {"type": "host-local", "subnet": "10.1.0.0/24"}});
    json!({
        "Conf": {"cniVersion": "", "name": "", "type": "", "ipam": {}, "dns": {}},
        "ConfList": {"cniVersion": "1.0.0", "name": "cluster", "plugins": [{"type": "bridge", "ipam": {"type": "host-local"}}]},
        "CNINetworkConfigList": {
            "Name": "cluster", "CNIVersion": "1.0.0", "DisableCheck": true, "Bytes": null,
            "Plugins": [
                {"Network": {"type": "bridge"}, "Bytes": base64(whole)},
                {"Network": {"type": "portmap"}, "Bytes": base64(json!({"type": "portmap", "snat": true}))},
            ],
        },
        "Name": "", "ifnameRequest": "", "macRequest": "02:00:00:00:00:09", "deviceID": "",
        "Bytes": base64(json!({
            "cniVersion": "1.0.0", "name": "cluster",
            "plugins": [{"type": "bridge", "ipam": {"type": "host-local"}, "dns": {}}, {"type": "portmap"}],
        })),
    })
}

fn secondary(extra: Value) -> Value {
    let mut delegate = json!({
        "Conf": {"name": "fabric", "type": "macvlan"}, "ConfList": {"plugins": null},
        "CNINetworkConfigList": {"Name": "", "CNIVersion": "", "Plugins": null, "Bytes": null},
        "Name": "default/fabric",
        "Bytes": base64(json!({"cniVersion": "0.3.1", "name": "fabric", "type": "macvlan", "master": "eth1"})),
    });
    delegate.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    delegate
}

#[test]
fn the_whole_list_comes_before_the_one_that_multus_stripped() {
    let read = read(json!([stripped_primary()]));
    assert_eq!(read.len(), 1);
    let Delegate { network, list, if_name, capabilities } = &read[0];
    assert_eq!((network.as_str(), list.name.as_str()), ("cluster", "cluster"));
    assert_eq!((list.version, list.disable_check, if_name), (SpecVersion::V1_0_0, true, &None));
    assert_eq!(list.plugins[0].object()["bridge"], "cni0");
    assert_eq!(list.plugins[0].object()["ipam"]["subnet"], "10.1.0.0/24");
    assert_eq!(list.plugins[1].object()["snat"], true);
    assert!(capabilities.is_empty(), "the primary is asked for nothing");
}

#[test]
fn a_list_that_was_not_kept_whole_is_read_from_its_bytes() {
    for lossy in [json!(null), json!({}), json!([1]), json!([{"Bytes": null}]), json!([{"Bytes": "?"}])] {
        let mut primary = stripped_primary();
        primary["CNINetworkConfigList"]["Plugins"] = lossy.clone();
        let read = read(json!([primary]));
        let types: Vec<_> = read[0].list.plugins.iter().map(|plugin| plugin.plugin().as_str()).collect();
        assert_eq!(types, ["bridge", "portmap"], "{lossy}");
    }
}

#[test]
fn a_secondary_network_has_what_the_pod_asked_for() {
    let requests = json!({
        "ifnameRequest": "data0", "macRequest": "02:00:00:00:00:01", "ipRequest": ["10.2.0.7/24"],
        "infinibandGUIDRequest": "", "deviceID": "0000:03:02.1", "default-route": ["10.2.0.1"],
    });
    let read = read(json!([stripped_primary(), secondary(requests)]));
    let fabric = &read[1];
    assert_eq!(fabric.network, "default/fabric");
    assert_eq!(fabric.if_name.as_ref().map(IfName::as_str), Some("data0"));
    assert_eq!(fabric.list.plugins[0].object()["master"], "eth1");
    let asked = json!({"mac": "02:00:00:00:00:01", "ips": ["10.2.0.7/24"], "deviceID": "0000:03:02.1"});
    assert_eq!(Value::Object(fabric.capabilities.clone()), asked);
}

#[test]
fn a_device_that_is_in_the_bytes_alone_is_kept() {
    let list = json!({"name": "vf", "plugins": [{"type": "sriov", "deviceID": "0000:03:02.1", "dns": {}}]});
    let kept = json!({
        "CNINetworkConfigList": {"Name": "vf", "Plugins": [{"Bytes": base64(json!({"type": "sriov", "vlan": 7}))}]},
        "Bytes": base64(list),
    });
    let read = read(json!([stripped_primary(), secondary(kept)]));
    let expected = json!({"type": "sriov", "vlan": 7, "deviceID": "0000:03:02.1"});
    assert_eq!(Value::Object(read[1].list.plugins[0].object().clone()), expected);
}

#[test]
fn names_and_versions_that_are_not_there_come_from_where_multus_takes_them() {
    let bare = json!({"Bytes": base64(json!({"type": "macvlan"}))});
    let read = read(json!([stripped_primary(), secondary(bare)]));
    assert_eq!((read[1].list.name.as_str(), read[1].list.version), ("fabric", SpecVersion::V1_0_0));
}

#[test]
fn nothing_that_was_attached_is_nothing() {
    assert!(parse(b"[]").unwrap().is_empty());
    assert!(parse(b"null").unwrap().is_empty());
}

#[test]
fn a_file_that_is_cut_off_is_an_error_wherever_it_ends() {
    let text = json!([stripped_primary(), secondary(json!({}))]).to_string();
    for end in 0..text.len() {
        assert!(parse(&text.as_bytes()[..end]).is_err(), "{end}");
    }
}

#[test]
fn what_is_wrong_says_what_and_where() {
    for (text, expected) in [
        ("", "it is not JSON, or only a part of it"),
        ("{}", "it holds an object, not an array of delegates"),
        ("[1]", "its delegate 0 is a number, not an object"),
        ("[{}]", "its delegate 0 has no configuration in \"Bytes\""),
        (r#"[{"Bytes":"%%"}]"#, "its delegate 0 has no configuration in \"Bytes\""),
        (r#"[{"Bytes":"e30="}]"#, "the configuration of its delegate 0: the configuration has neither"),
    ] {
        let error = refused(text);
        assert!(error.starts_with(expected), "{text}: {error}");
    }
    let error = refused(&json!([stripped_primary(), secondary(json!({"ifnameRequest": "a/b"}))]).to_string());
    assert!(error.starts_with("\"ifnameRequest\" of its delegate 1: "), "{error}");
}

proptest! {
    #[test]
    fn a_file_with_a_few_damaged_bytes_is_read_or_refused(damage in prop::collection::vec((any::<usize>(), any::<u8>()), 1..4)) {
        let mut text = json!([stripped_primary(), secondary(json!({"ifnameRequest": "data0"}))]).to_string().into_bytes();
        for (at, byte) in damage {
            let at = at % text.len();
            text[at] = byte;
        }
        match parse(&text) {
            Ok(delegates) => prop_assert!(delegates.iter().all(|one| !one.list.plugins.is_empty())),
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }
}
