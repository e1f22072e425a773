use std::collections::BTreeSet;

use cni::reference::{self, Key, Kind};
use crds::NetworkAttachmentDefinition;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::node::render;

/// Three tenants: one that may do much, one that may do little, one with two rules that do not mix.
fn rules() -> Permissions {
    let rules = json!({"rules": [
        {"namespaces": ["kube-system"], "plugins": ["*"], "interfaces": ["*"], "names": ["*"], "paths": ["*"],
         "onNode": ["*"]},
        {"namespaces": ["team-*"], "plugins": ["macvlan", "vlan", "host-local", "tuning", "flannel"],
         "interfaces": ["storage*"], "names": ["pool-*"], "paths": ["/var/lib/pools"], "onNode": ["lab"]},
        {"namespaces": ["two"], "plugins": ["macvlan"], "interfaces": ["eth1"]},
        {"namespaces": ["two"], "plugins": ["bridge", "host-device"], "interfaces": ["br*", "52:54:00:*"]},
    ]});
    Permissions::parse(rules.to_string().as_bytes()).unwrap()
}

/// What a network of a namespace becomes under the rules: the reason, if it is refused.
fn refused(permissions: &Permissions, namespace: &str, config: &str) -> Option<String> {
    let object = json!({"metadata": {"namespace": namespace, "name": "net"}, "spec": {"config": config}});
    let nad: NetworkAttachmentDefinition = serde_json::from_value(object).unwrap();
    match render::render(&nad, "a.yaml", permissions).unwrap().outcome {
        Outcome::Refused { reason } => Some(reason),
        Outcome::Ready { .. } | Outcome::OnNode { .. } => None,
    }
}

#[test]
fn a_network_that_one_rule_covers_is_permitted() {
    let ipam = json!({"type": "host-local", "subnet": "10.1.0.0/24", "routes": [{"dst": "fd00::/8"}],
        "ranges": [[{"subnet": "10.2.0.0/24"}]]});
    for (namespace, config) in [
        ("team-a", json!({"type": "macvlan", "master": "storage0", "ipam": ipam})),
        ("team-a", json!({"type": "macvlan", "Master": "storage0", "name": "team-a__net"})),
        ("team-a", json!({"type": "macvlan", "master": "storage0", "name": "pool-1"})),
        (
            "team-a",
            json!({"type": "vlan", "master": "storage", "vlanId": 5, "ipam": {"type": "host-local",
            "dataDir": "/var/lib/pools"}}),
        ),
        (
            "team-a",
            json!({"plugins": [{"type": "macvlan", "master": "storage0"}, {"type": "tuning",
            "sysctl": {"net/ipv4/conf/IFNAME/arp_filter": "1"}}]}),
        ),
        ("team-a", json!({"type": "flannel", "delegate": {"type": "macvlan", "master": "storage1"}})),
        ("two", json!({"type": "macvlan", "master": "eth1", "mtu": 1400, "linkInContainer": false})),
        ("two", json!({"type": "bridge", "bridge": "br7"})),
        ("two", json!({"type": "host-device", "hwaddr": "52:54:00:12:34:56"})),
        (
            "kube-system",
            json!({"name": "cbr0", "type": "calico", "policy": {"type": "k8s"}, "kubernetes":
            {"kubeconfig": "/etc/cni/net.d/calico-kubeconfig"}}),
        ),
    ] {
        assert_eq!(refused(&rules(), namespace, &config.to_string()), None, "{namespace} {config}");
    }
    assert_eq!(refused(&Permissions::default(), "anyone", r#"{"type":"bridge","name":"cbr0"}"#), None);
}

/// Each is refused under the rules of `team-*` for this reason, and not without rules.
fn assert_refused(cases: impl IntoIterator<Item = (Value, &'static str)>) {
    for (config, reason) in cases {
        let config = config.to_string();
        let found = refused(&rules(), "team-a", &config).unwrap_or_else(|| panic!("permitted: {config}"));
        let begins = found.starts_with("networks of namespace team-a may not use ");
        assert!(begins && found.contains(reason), "{config}: {found}");
        assert_eq!(refused(&Permissions::default(), "team-a", &config), None, "without rules: {config}");
    }
}

#[test]
fn plugins_that_no_rule_permits_are_found_wherever_they_stand() {
    assert_refused([
        (
            json!({"type": "bridge"}),
            "plugin \"bridge\" (plugins[0].type) (permitted: macvlan, vlan, host-local",
        ),
        (
            json!({"plugins": [{"type": "macvlan", "master": "storage0"}, {"type": "evil"}]}),
            "(plugins[1].type)",
        ),
        (
            json!({"type": "macvlan", "master": "storage0", "ipam": {"type": "evil"}}),
            "(plugins[0].ipam.type)",
        ),
        (
            json!({"type": "macvlan", "master": "storage0", "IPAM": {"Type": "evil"}}),
            "(plugins[0].IPAM.Type)",
        ),
        (
            json!({"type": "macvlan", "master": "storage0", "ipam": {"type": "host-local"}, "Ipam": {"type": "evil"}}),
            "(plugins[0].Ipam.type)",
        ),
        (json!({"type": "macvlan", "master": "storage0", "TYPE": "evil"}), "(plugins[0].TYPE)"),
        (json!({"type": "flannel", "delegate": {"type": "evil"}}), "(plugins[0].delegate.type)"),
        (
            json!({"type": "flannel", "x": [{"y": {"type": "evil"}}]}),
            "plugin \"evil\" (plugins[0].x[0].y.type)",
        ),
        (json!({"plugins": [{"type": "flannel"}], "delegates": [{"type": "evil"}]}), "(delegates[0].type)"),
    ]);
}

#[test]
fn interfaces_that_no_rule_permits_are_found_and_so_are_those_that_are_not_named() {
    assert_refused([
        (json!({"type": "macvlan", "master": "eth0"}), "interface \"eth0\" of the host (plugins[0].master)"),
        (
            json!({"type": "macvlan", "ma\u{17f}ter": "eth0"}),
            "interface \"eth0\" of the host (plugins[0].ma\u{17f}ter)",
        ),
        (json!({"type": "macvlan", "master": "storage0", "MASTER": "eth0"}), "(plugins[0].MASTER)"),
        // An alternative name of `storage0`, of any length, is another name.
        (
            json!({"type": "macvlan", "master": "enx-of-the-uplink-storage0"}),
            "interface \"enx-of-the-uplink-storage0\"",
        ),
        (json!({"type": "macvlan"}), "whichever interface of the host the plugin takes where none is named"),
        (json!({"type": "macvlan", "master": ""}), "whichever interface of the host"),
        (json!({"type": "macvlan", "master": null}), "whichever interface of the host"),
        (json!({"type": "macvlan", "Master": "storage0", "master": ""}), "whichever interface of the host"),
        (json!({"type": "flannel", "delegate": {"type": "macvlan"}}), "whichever interface of the host"),
        (json!({"type": "flannel", "delegate": {"bridge": "cbr0"}}), "interface \"cbr0\" of the host"),
        (json!({"type": "tuning", "device": "eth0"}), "interface \"eth0\" of the host"),
        (json!({"type": "tuning", "pciBusID": "0000:00:1f.6"}), "interface \"0000:00:1f.6\""),
        (
            json!({"type": "tuning", "KernelPath": "/sys/devices/x/net/eth0"}),
            "interface \"/sys/devices/x/net/eth0\"",
        ),
        (json!({"type": "tuning", "links": [{"name": "eth0"}]}), "(plugins[0].links[0].name)"),
        (json!({"type": "tuning", "lin\u{212a}s": ["eth0"]}), "(plugins[0].lin\u{212a}s[0])"),
    ]);
}

#[test]
fn names_paths_and_keys_of_the_runtime_that_no_rule_permits_are_found() {
    assert_refused([
        (json!({"name": "cbr0", "type": "tuning"}), "\"name\" \"cbr0\", which leads to data of others"),
        (
            json!({"type": "tuning", "ipam": {"type": "host-local", "dataDir": "/etc/cron.d"}}),
            "path \"/etc/cron.d\" (plugins[0].ipam.dataDir) (permitted: /var/lib/pools)",
        ),
        (json!({"type": "tuning", "ipam": {"type": "host-local", "datadir": "etc"}}), "path \"etc\""),
        (
            json!({"type": "tuning", "ipam": {"type": "host-local", "resolvConf": "/etc/shadow"}}),
            "\"/etc/shadow\"",
        ),
        (json!({"type": "tuning", "dataDir": "/var/lib/pools/../../../etc"}), "path \"/var/lib/pools/../"),
        (
            json!({"type": "tuning", "unknown": {"x": ["run/../etc"]}}),
            "path \"run/../etc\" (plugins[0].unknown.x[0])",
        ),
        (json!({"type": "tuning", "unknown": "etc/cron.d"}), "path \"etc/cron.d\""),
        (json!({"type": "tuning", "endpoint": "https://192.0.2.1:6443"}), "path \"https://192.0.2.1:6443\""),
        (
            json!({"type": "tuning", "prevResult": {"interfaces": []}}),
            "key \"prevResult\", which is the runtime's",
        ),
        (json!({"type": "tuning", "RuntimeConfig": {"deviceID": "eth0"}}), "key \"RuntimeConfig\""),
    ]);
}

fn listed<'a>(all: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    all.into_iter().map(str::to_ascii_lowercase).collect()
}

/// The keys of plugins outside the reference set, and those of its table that are meant.
fn with_table(others: &[&str], is_meant: impl Fn(&Key) -> bool) -> BTreeSet<String> {
    let of_table = reference::every_key().filter(|key| is_meant(key)).map(|key| key.name);
    listed(others.iter().copied().chain(of_table))
}

#[test]
fn every_key_and_plugin_of_the_lists_counts_and_each_is_in_this_table() {
    let interfaces = [
        "master",
        "bridge",
        "device",
        "hwaddr",
        "pciBusID",
        "kernelpath",
        "deviceID",
        "link",
        "links",
        "parent",
        "uplink",
        "interface",
        "hostInterface",
        "hostDevice",
    ];
    let paths = [
        "dataDir",
        "resolvConf",
        "kubeconfig",
        "log_file",
        "logFile",
        "configuration_path",
        "socket",
        "daemonSocketPath",
        "etcd_key_file",
        "etcd_cert_file",
        "etcd_ca_cert_file",
    ];
    let of_runtime = ["prevResult", "runtimeConfig"];
    let take_default_route = ["macvlan", "ipvlan", "ipoib"];
    assert_eq!(listed(interfaces), with_table(&uses::INTERFACES, |key| key.kind.is_interface_of_node()));
    assert_eq!(listed(paths), with_table(&uses::PATHS, |key| matches!(key.kind, Kind::Path)));
    assert_eq!(listed(of_runtime), listed(uses::OF_RUNTIME));
    assert_refused(
        interfaces.map(|key| (json!({"type": "tuning", key: "eth0"}), "interface \"eth0\" of the host")),
    );
    assert_refused(
        interfaces.map(|key| (json!({"type": "tuning", "x": [{key: ["eth0"]}]}), "interface \"eth0\"")),
    );
    assert_refused(paths.map(|key| (json!({"type": "tuning", key: "etc"}), "path \"etc\"")));
    assert_refused(of_runtime.map(|key| (json!({"type": "tuning", key: {}}), "which is the runtime's")));
    let unnamed = "whichever interface of the host the plugin takes";
    assert_refused(take_default_route.map(|plugin| (json!({"type": plugin}), unnamed)));
}

#[test]
fn a_text_of_any_key_that_may_lead_to_a_file_or_server_is_a_path_and_addresses_are_none() {
    for text in [
        "/cafe",
        "/",
        "a/..",
        "..",
        "../a",
        ".",
        "./1",
        ".a",
        "cafe/1",
        "a.d/b",
        "1/2",
        "10.0.0.0/8/..",
        "a:b/c",
        "fd00::/8,/etc",
        "unix:/x",
    ] {
        let config = json!({"type": "tuning", "unknown": text}).to_string();
        let found = refused(&rules(), "team-a", &config).unwrap_or_else(|| panic!("permitted: {text}"));
        assert!(found.contains(&format!("path {text:?}")), "{found}");
    }
    for text in [
        "10.1.0.0/24",
        "fd00::/8",
        "fd00::/8, 10.0.0.0/8",
        "10.0.0.1-10.0.0.9/24",
        "10.0.0.0/255.0.0.0",
        "10.0.0.1",
        "cafe",
        "a.b",
        "",
    ] {
        let config = json!({"type": "tuning", "unknown": text}).to_string();
        assert_eq!(refused(&rules(), "team-a", &config), None, "{text}");
    }
}

#[test]
fn rules_of_one_namespace_are_not_mixed_and_one_without_rules_may_nothing() {
    for (namespace, config, reason) in [
        ("two", r#"{"type":"macvlan","master":"br0"}"#, "interface \"br0\""),
        (
            "two",
            r#"{"type":"bridge"}"#,
            "interface \"cni0\" of the host (plugins[0]) (permitted: br*, 52:54:00:*)",
        ),
        (
            "two",
            r#"{"plugins":[{"type":"bridge","bridge":"br0"},{"type":"macvlan","master":"eth1"}]}"#,
            "may not use",
        ),
        ("two", r#"{"type":"macvlan","master":"eth1","ipam":{"type":"x"}}"#, "(permitted: macvlan)"),
        (
            "two",
            r#"{"type":"macvlan","master":"eth1","name":"pool-1"}"#,
            "\"name\" \"pool-1\", which leads to data of \
            others (permitted is none)",
        ),
        ("default", r#"{"type":"macvlan","master":"eth1"}"#, "no rule permits networks to namespace default"),
        (
            "my-team-a",
            r#"{"type":"macvlan","master":"storage0"}"#,
            "no rule permits networks to namespace my-team-a",
        ),
    ] {
        let found = refused(&rules(), namespace, config).unwrap_or_else(|| panic!("permitted: {config}"));
        assert!(found.contains(reason), "{found}");
    }
}

#[test]
fn a_configuration_of_the_node_is_permitted_by_its_name() {
    let outcome = |name: &str| Outcome::OnNode { name: name.parse().unwrap() };
    let permit = |network: &str| {
        let network: NetworkRef = network.parse().unwrap();
        rules().permit(&network, &outcome(network.name.as_str())).map_err(|error| error.to_string())
    };
    assert_eq!(permit("team-a/lab"), Ok(()));
    assert_eq!(permit("kube-system/any"), Ok(()));
    let error = permit("team-a/office").unwrap_err();
    assert!(error.contains("may not use configuration \"office\" of the node (permitted: lab)"), "{error}");
    assert!(permit("default/lab").unwrap_err().contains("no rule permits"));
}

#[test]
fn many_things_that_are_not_permitted_are_counted_and_not_all_named() {
    let plugins: Vec<_> = (0..9).map(|n| json!({"type": format!("evil{n}")})).collect();
    let found = refused(&rules(), "team-a", &json!({"plugins": plugins}).to_string()).unwrap();
    assert!(
        found.contains("\"evil2\"") && !found.contains("\"evil3\"") && found.contains(", nor more;"),
        "{found}"
    );
}

#[test]
fn a_file_of_rules_that_is_wrong_is_an_error_and_never_no_rules() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("permissions.json");
    let read = || Permissions::read(Some(&path));
    assert!(matches!(read(), Err(PermissionsError::Read { .. })));
    for text in [
        "",
        "{}",
        "[]",
        "null",
        r#"{"rules": null}"#,
        r#"{"rules": {}}"#,
        r#"{"rules": [{}]}"#,
        r#"{"rules": [{"namespaces": "a"}]}"#,
        r#"{"rules": [{"namespaces": ["a"], "plugin": ["bridge"]}]}"#,
        r#"{"rules": [{"namespaces": ["a"], "plugins": [""]}]}"#,
        r#"{"rules": [{"namespaces": ["a"], "plugins": null}]}"#,
        r#"{"rules": [], "more": 1}"#,
        // Keys have one case here: a rule that is passed over permits nothing, and nobody would know why.
        r#"{"Rules": []}"#,
        r#"{"rules": [{"Namespaces": ["a"], "plugins": ["bridge"]}]}"#,
        r#"{"rules": [{"namespaces": ["a"], "Plugins": ["bridge"]}]}"#,
    ] {
        std::fs::write(&path, text).unwrap();
        assert!(matches!(read(), Err(PermissionsError::Wrong { .. })), "{text}");
    }
    std::fs::write(&path, r#"{"rules": []}"#).unwrap();
    assert_eq!(read().unwrap(), Permissions::Only(Vec::new()));
    assert_eq!(Permissions::read(None).unwrap(), Permissions::Everything);
}

/// JSON of a made-up shape without any key or text that counts.
fn harmless() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from)
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map("[a-d]{1,3}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// A key as Go would still take it: each letter in either case.
fn spelled(key: &'static str) -> impl Strategy<Value = String> {
    proptest::collection::vec(any::<bool>(), key.len()).prop_map(move |upper| {
        let letters = key.chars().zip(upper);
        letters.map(|(c, upper)| if upper { c.to_ascii_uppercase() } else { c }).collect()
    })
}

/// Puts a key somewhere into a value: into the object or array that the steps lead to, or around what is there.
fn hide(value: &mut Value, steps: &[usize], key: &str, text: &str) {
    match (value, steps) {
        (Value::Object(object), [step, rest @ ..]) if !object.is_empty() => {
            let at = step % object.len();
            if let Some(inner) = object.values_mut().nth(at) {
                hide(inner, rest, key, text);
            }
        }
        (Value::Array(items), [step, rest @ ..]) if !items.is_empty() => {
            let at = step % items.len();
            hide(&mut items[at], rest, key, text);
        }
        (Value::Object(object), _) => drop(object.insert(key.to_owned(), text.into())),
        (other, _) => *other = json!({key: text}),
    }
}

proptest! {
    #[test]
    fn nothing_that_is_not_permitted_can_be_hidden_anywhere_in_a_configuration(
        mut content in harmless(),
        steps in proptest::collection::vec(0usize..8, 0..5),
        (key, text) in prop_oneof![
            spelled("type").prop_map(|key| (key, "evil")),
            spelled("master").prop_map(|key| (key, "eth0")),
            spelled("bridge").prop_map(|key| (key, "br0")),
            spelled("device").prop_map(|key| (key, "eth0")),
            spelled("datadir").prop_map(|key| (key, "x")),
            "[a-z]{1,8}".prop_map(|key| (key, "/etc/cron.d")),
        ],
        as_list in any::<bool>(),
    ) {
        let mut plugin = Map::from_iter([("type".to_owned(), json!("tuning")), ("content".to_owned(), content.clone())]);
        let config = |plugin: &Map<String, Value>| {
            if as_list {
                json!({"plugins": [{"type": "tuning"}, plugin]}).to_string()
            } else {
                Value::from(plugin.clone()).to_string()
            }
        };
        prop_assert_eq!(refused(&rules(), "team-a", &config(&plugin)), None);
        hide(&mut content, &steps, &key, text);
        plugin.insert("content".to_owned(), content);
        let found = refused(&rules(), "team-a", &config(&plugin));
        prop_assert!(found.as_ref().is_some_and(|reason| reason.contains(text)), "{} {:?}", config(&plugin), found);
    }
}
