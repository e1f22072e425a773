use std::num::{NonZeroU64, NonZeroUsize};

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::args::CniArgs;

const MOST: NonZeroUsize = NonZeroUsize::MIN.saturating_add(31);

fn namespace(text: &str) -> Namespace {
    Namespace::parse(text).unwrap()
}

fn parse(annotation: &str) -> Result<Vec<Selection>, SelectionError> {
    parse_selections(annotation, &namespace("pod-ns"), MOST)
}

fn parse_json(annotation: &Value) -> Result<Vec<Selection>, SelectionError> {
    parse(&annotation.to_string())
}

/// One element of the network `a`, with `more` keys.
fn parse_one(more: Value) -> Selection {
    let mut element = more;
    element["name"] = "a".into();
    parse_json(&json!([element])).unwrap().remove(0)
}

fn chain(error: &SelectionError) -> String {
    crate::error::chain_text(error)
}

#[test]
fn the_short_form_names_networks_namespaces_and_interfaces() {
    let too = "abcdefghijklmno";
    for (annotation, expected) in [
        ("a", vec![("pod-ns/a", None)]),
        (" a ", vec![("pod-ns/a", None)]),
        ("ns/a", vec![("ns/a", None)]),
        ("ns/a@net7", vec![("ns/a", Some("net7"))]),
        ("a@net7", vec![("pod-ns/a", Some("net7"))]),
        (
            "a,a , ns/b@Some_If ,c.d",
            vec![("pod-ns/a", None), ("pod-ns/a", None), ("ns/b", Some("Some_If")), ("pod-ns/c.d", None)],
        ),
        (" ns / a @ x \n,\tb", vec![("ns/a", Some("x")), ("pod-ns/b", None)]),
        ("a@abcdefghijklmno", vec![("pod-ns/a", Some(too))]),
        ("", vec![]),
        (" \n\t ", vec![]),
    ] {
        let found = parse(annotation).unwrap();
        let found: Vec<_> =
            found.iter().map(|s| (s.network.to_string(), s.interface.as_ref().map(IfName::as_str))).collect();
        let expected: Vec<_> = expected.into_iter().map(|(n, i)| (n.to_owned(), i)).collect();
        assert_eq!(found, expected, "{annotation:?}");
    }
}

#[test]
fn wrong_short_forms_are_refused_with_the_element() {
    for (annotation, text) in [
        (",", "networks[0]: the element is empty; is there a comma too many?"),
        ("a,", "networks[1]: the element is empty; is there a comma too many?"),
        (",a", "networks[0]: the element is empty; is there a comma too many?"),
        ("a, ,b", "networks[1]: the element is empty; is there a comma too many?"),
        ("a/b/c", "networks[0]: \"a/b/c\" is not of the form [namespace/]name[@interface]"),
        ("a/b@c/d", "networks[0]: \"a/b@c/d\" is not of the form [namespace/]name[@interface]"),
        ("a@b@c", "networks[0]: \"a@b@c\" is not of the form [namespace/]name[@interface]"),
        ("n/a@b@c", "networks[0]: \"n/a@b@c\" is not of the form [namespace/]name[@interface]"),
        ("/a", "networks[0]: \"namespace\": namespace \"\" is empty"),
        ("a/", "networks[0]: \"name\": name \"\" is empty"),
        ("/", "networks[0]: \"namespace\": namespace \"\" is empty"),
        ("@x", "networks[0]: \"name\": name \"\" is empty"),
        ("a@", "networks[0] (\"pod-ns/a\"): \"interface\": interface name \"\" is empty"),
        ("a,n/A", "networks[1]: \"name\": name \"A\" must hold only"),
        ("N/a", "networks[0]: \"namespace\": namespace \"N\" must hold only"),
        ("n.m/a", "networks[0]: \"namespace\": namespace \"n.m\" must hold only"),
        ("a@x/y", "networks[0]: \"namespace\": namespace \"a@x\" must hold only"),
        ("../a", "networks[0]: \"namespace\": namespace \"..\" must hold only"),
        ("n/..", "networks[0]: \"name\": name \"..\" must hold only"),
        ("a_b", "networks[0]: \"name\": name \"a_b\" must hold only"),
        ("a b", "networks[0]: \"name\": name \"a b\" must hold only"),
        ("a\0", "networks[0]: \"name\": name \"a\\0\" must hold only"),
        ("a;b", "networks[0]: \"name\": name \"a;b\" must hold only"),
        ("a@..", "networks[0] (\"pod-ns/a\"): \"interface\": interface name \"..\" must not be"),
        (
            "a@x y",
            "networks[0] (\"pod-ns/a\"): \"interface\": interface name \"x y\" must not contain blanks",
        ),
        ("a@x:y", "networks[0] (\"pod-ns/a\"): \"interface\": interface name \"x:y\" must not contain"),
        (
            "a@sixteen-bytes-xx",
            "networks[0] (\"pod-ns/a\"): \"interface\": interface name \"sixteen-bytes-xx\" is",
        ),
        (
            "a@x,b,n/a@x",
            "networks[2] (\"n/a\"): \"interface\": \"x\" is already that of networks[0] (\"pod-ns/a\")",
        ),
    ] {
        let error = parse(annotation).unwrap_err();
        assert!(chain(&error).starts_with(text), "{annotation:?} gave {}", chain(&error));
        assert_eq!(error.code(), Code::INVALID_CONFIG);
    }
    for long in [format!("n/{}", "a".repeat(254)), format!("{}/a", "n".repeat(64))] {
        assert!(parse(&long).unwrap_err().to_string().contains("is longer than"));
    }
}

#[test]
fn the_json_form_takes_every_key_of_the_standard() {
    let selection = parse_json(&json!([{
        "name": "macvlan.conf", "namespace": "ns", "interface": "net7",
        "ips": ["10.0.0.2", "10.0.0.3/24", "FD00::0002/64"],
        "mac": "00-11-22-AA-BB-CC",
        "infiniband-guid": "0011.2233.4455.66FF",
        "bandwidth": {"ingressRate": 1000, "ingressBurst": 2000, "egressRate": 3000, "egressBurst": 4000},
        "portMappings": [
            {"hostPort": 8080, "containerPort": 80, "protocol": "UDP", "hostIP": "192.0.2.1"},
            {"hostPort": 1, "containerPort": 65535},
        ],
        "default-route": ["10.0.0.1", "fd00::1"],
        "cni-args": {"a": {"b": [1, null]}},
    }]))
    .unwrap()
    .remove(0);
    assert_eq!(selection.network.to_string(), "ns/macvlan.conf");
    assert_eq!(selection.interface, Some(IfName::parse("net7").unwrap()));
    assert_eq!(selection.default_route.as_deref().map(<[_]>::len), Some(2));
    assert_eq!(selection.cni_args["a"]["b"][0], 1);
    assert_eq!(selection.ips[1].address(), "10.0.0.3".parse::<IpAddr>().unwrap());
    assert_eq!((selection.ips[0].prefix_len(), selection.ips[1].prefix_len()), (None, Some(24)));
    assert!(selection.unknown_keys.is_empty());
    assert_eq!(
        Value::Object(selection.capability_args()),
        json!({
            "ips": ["10.0.0.2", "10.0.0.3/24", "FD00::0002/64"],
            "mac": "00:11:22:aa:bb:cc",
            "infinibandGUID": "00:11:22:33:44:55:66:ff",
            "bandwidth": {"ingressRate": 1000, "ingressBurst": 2000, "egressRate": 3000, "egressBurst": 4000},
            "portMappings": [
                {"hostPort": 8080, "containerPort": 80, "protocol": "udp", "hostIP": "192.0.2.1"},
                {"hostPort": 1, "containerPort": 65535, "protocol": "tcp"},
            ],
        })
    );
    assert_eq!(
        selection.legacy_args(),
        [("MAC", "00:11:22:aa:bb:cc".to_owned()), ("IP", "10.0.0.2,10.0.0.3/24,FD00::0002/64".to_owned()),]
    );
}

#[test]
fn a_selection_without_wishes_asks_for_nothing() {
    let selection = parse_one(json!({}));
    assert_eq!(selection, Selection::of("pod-ns/a".parse().unwrap()));
    assert!(selection.capability_args().is_empty() && selection.legacy_args().is_empty());
    assert!(parse("[]").unwrap().is_empty());
    assert!(parse(" [ ] ").unwrap().is_empty());
}

#[test]
fn null_counts_as_absent_and_so_does_an_empty_text() {
    let plain = Selection::of("pod-ns/a".parse().unwrap());
    for key in [
        "namespace",
        "interface",
        "interfaceRequest",
        "ips",
        "mac",
        "infiniband-guid",
        "bandwidth",
        "portMappings",
        "default-route",
        "cni-args",
        "ipam-claim-reference",
    ] {
        assert_eq!(parse_one(json!({ key: null })), plain, "{key}");
    }
    for key in
        ["namespace", "interface", "interfaceRequest", "mac", "infiniband-guid", "ipam-claim-reference"]
    {
        assert_eq!(parse_one(json!({ key: "" })), plain, "{key}");
    }
    let mapping = json!({"hostPort": 1, "containerPort": 2, "protocol": "", "hostIP": ""});
    let mapping = &parse_one(json!({"portMappings": [mapping]})).port_mappings[0];
    assert_eq!((mapping.protocol, mapping.host_ip), (Protocol::Tcp, None));
}

#[test]
fn an_absent_default_route_differs_from_an_empty_one() {
    assert_eq!(parse_one(json!({})).default_route, None);
    assert_eq!(parse_one(json!({"default-route": []})).default_route, Some(vec![]));
}

#[test]
fn the_old_name_of_interface_counts_when_the_new_one_is_not_there() {
    let name = |json| parse_one(json).interface.unwrap().to_string();
    assert_eq!(name(json!({"interfaceRequest": "old"})), "old");
    assert_eq!(name(json!({"interfaceRequest": "old", "interface": ""})), "old");
    assert_eq!(name(json!({"interfaceRequest": "old", "interface": "new"})), "new");
}

#[test]
fn keys_match_in_any_case_as_in_go() {
    let selection = parse_one(json!({
        "Interface": "x", "MAC": "00:11:22:33:44:55", "PortMappings": [{"HostPort": 1, "containerport": 2}],
    }));
    assert!(selection.interface.is_some() && selection.mac.is_some());
    assert_eq!(selection.port_mappings.len(), 1);
    assert!(selection.unknown_keys.is_empty());
}

#[test]
fn unknown_keys_are_told_and_device_ids_are_among_them() {
    let selection = parse_one(json!({
        "gateway": ["10.0.0.1"], "deviceID": "0000:01:00.0", "bandwidth": {"ingressRate": 1, "rate": 2},
        "portMappings": [{"hostPort": 1, "containerPort": 2, "name": "x"}],
    }));
    assert_eq!(selection.unknown_keys, ["deviceID", "gateway", "bandwidth.rate", "portMappings[0].name"]);
    assert!(!selection.capability_args().contains_key("deviceID"));
}

#[test]
fn a_rate_of_zero_does_not_limit() {
    let limits = |json| {
        let bandwidth = parse_one(json!({ "bandwidth": json })).bandwidth?;
        let numbers = |l: RateLimit| (l.rate.get(), l.burst.map(NonZeroU64::get));
        Some((bandwidth.ingress.map(numbers), bandwidth.egress.map(numbers)))
    };
    let zeros = json!({"ingressRate": 0, "ingressBurst": 0, "egressRate": 5, "egressBurst": 6});
    assert_eq!(limits(zeros), Some((None, Some((5, Some(6))))));
    assert_eq!(limits(json!({"ingressRate": 7})), Some((Some((7, None)), None)));
    assert_eq!(limits(json!({"ingressRate": 0, "egressRate": 0})), None);
    let args = parse_one(json!({"bandwidth": {"ingressRate": u64::MAX}})).capability_args();
    assert_eq!(args["bandwidth"], json!({"ingressRate": u64::MAX}));
}

#[test]
fn hardware_addresses_have_6_8_or_20_bytes_in_three_forms() {
    let twenty = "80:00:00:4c:fe:80:00:00:00:00:00:00:f4:52:14:03:00:7b:cb:a1";
    for (text, normal) in [
        ("00:1B:44:11:3A:B7", "00:1b:44:11:3a:b7"),
        ("00-1b-44-11-3a-b7", "00:1b:44:11:3a:b7"),
        ("001b.4411.3ab7", "00:1b:44:11:3a:b7"),
        ("02:00:5e:10:00:00:00:01", "02:00:5e:10:00:00:00:01"),
        (twenty, twenty),
    ] {
        assert_eq!(Mac::parse(text).unwrap().as_str(), normal);
    }
}

#[test]
fn wrong_elements_are_refused_with_their_index() {
    for (annotation, text) in [
        ("[null]", "networks[0]: the element is null, not an object"),
        ("[[]]", "networks[0]: the element is an array, not an object"),
        (r#"[{"name":"a"},"b"]"#, "networks[1]: the element is a string, not an object"),
        (r#"[{"name":"a"},7]"#, "networks[1]: the element is a number, not an object"),
        (r#"{"name":"a"}"#, "networks is an object, not an array of objects"),
        (r#""a""#, "networks is a string, not an array of objects"),
        ("[", "networks is not JSON: the text ends too early"),
        ("[]]", "networks is not JSON: trailing characters (at the ^: []^])"),
        ("a,[", "networks is not JSON: this is no JSON, which begins with { or ["),
        (r#"[{"name":"a"},]"#, "networks is not JSON: there is a comma before it that nothing follows"),
        (r#"[{"name":"a",}]"#, "networks is not JSON: there is a comma before it that nothing follows"),
        (r"[{'name':'a'}]", "networks is not JSON: ' (U+0027) is no quotation mark of JSON; write \""),
        ("[{}]", "networks[0]: \"name\" is missing"),
        (r#"[{"name":""}]"#, "networks[0]: \"name\" is missing"),
        (r#"[{"name":null}]"#, "networks[0]: \"name\" is missing"),
        (r#"[{"name":1}]"#, "networks[0]: \"name\" is a number, not a string"),
        (
            r#"[{"name":"ns/a"}]"#,
            "networks[0]: \"name\" is \"ns/a\"; the namespace has a key of its own: write \"namespace\": \"ns\", \
             \"name\": \"a\"",
        ),
        (r#"[{"name":".."}]"#, "networks[0]: \"name\": name \"..\" must hold only"),
        (r#"[{"name":" a"}]"#, "networks[0]: \"name\": name \" a\" must hold only"),
        (r#"[{"name":"a\u0000"}]"#, "networks[0]: \"name\": name \"a\\0\" must hold only"),
        (
            r#"[{"name":"a","namespace":"a.b"}]"#,
            "networks[0]: \"namespace\": namespace \"a.b\" must hold only",
        ),
        (r#"[{"name":"a","namespace":"../x"}]"#, "networks[0]: \"namespace\": namespace \"../x\" must"),
        (r#"[{"name":"a","namespace":[]}]"#, "networks[0]: \"namespace\" is an array, not a string"),
        (r#"[{"name":"a","name":"b"}]"#, "networks[0] (\"pod-ns/b\"): \"name\" is given twice"),
        (r#"[{"name":"a","Name":"b"}]"#, "networks[0]: \"name\" is given twice"),
        (r#"[{"name":"a","ips":[],"ips":[]}]"#, "networks[0] (\"pod-ns/a\"): \"ips\" is given twice"),
        (r#"[{"name":"a","x":1,"x":2}]"#, "networks[0] (\"pod-ns/a\"): \"x\" is given twice"),
        (
            r#"[{"name":"a"},{"name":"a","cni-args":{"x":[{"y":1,"y":1}]}}]"#,
            "networks[1] (\"pod-ns/a\"): \"cni-args.x[0].y\" is given twice",
        ),
        (
            r#"[{"name":"a","interface":"x"},{"name":"b","interfaceRequest":"x"}]"#,
            "networks[1] (\"pod-ns/b\"): \"interface\": \"x\" is already that of networks[0] (\"pod-ns/a\")",
        ),
    ] {
        let error = parse(annotation).unwrap_err();
        assert!(chain(&error).starts_with(text), "{annotation:?} gave {}", chain(&error));
        assert_eq!(error.code(), Code::INVALID_CONFIG);
    }
}

/// Each value of a key is refused, with a text that names the element, its network and the key.
fn refuses<const N: usize>(cases: [(&str, Value, &str); N]) {
    for (key, value, text) in cases {
        let elements = json!([{"name": "b"}, {"name": "a", "namespace": "ns", key: value}]);
        let error = chain(&parse_json(&elements).unwrap_err());
        assert!(error.starts_with(&format!("networks[1] (\"ns/a\"): {text}")), "{key} gave {error}");
    }
}

#[test]
fn wrong_interfaces_and_addresses_are_refused() {
    refuses([
        ("interface", json!(1), "\"interface\" is a number, not a string"),
        ("interface", json!("a/b"), "\"interface\": interface name \"a/b\" must not contain"),
        ("interface", json!("."), "\"interface\": interface name \".\" must not be"),
        ("interfaceRequest", json!("a b"), "\"interface\": interface name \"a b\" must not contain"),
        ("ips", json!("10.0.0.1"), "\"ips\" is a string, not an array"),
        ("ips", json!([null]), "\"ips[0]\" is null, not a string"),
        ("ips", json!(["10.0.0.1", 1]), "\"ips[1]\" is a number, not a string"),
        ("ips", json!([""]), "\"ips[0]\": \"\" is not an IP address, alone or with a prefix length"),
        ("ips", json!(["10.0.0"]), "\"ips[0]\": \"10.0.0\" is not an IP address"),
        ("ips", json!(["010.0.0.1"]), "\"ips[0]\": \"010.0.0.1\" is not an IP address"),
        ("ips", json!([" 10.0.0.1"]), "\"ips[0]\": \" 10.0.0.1\" is not an IP address"),
        ("ips", json!(["10.0.0.1/33"]), "\"ips[0]\": \"10.0.0.1/33\" is not an IP address"),
        ("ips", json!(["10.0.0.1/"]), "\"ips[0]\": \"10.0.0.1/\" is not an IP address"),
        ("ips", json!(["10.0.0.1/+8"]), "\"ips[0]\": \"10.0.0.1/+8\" is not an IP address"),
        ("ips", json!(["10.0.0.1/8/8"]), "\"ips[0]\": \"10.0.0.1/8/8\" is not an IP address"),
        ("ips", json!(["10.0.0.1;IP=x"]), "\"ips[0]\": \"10.0.0.1;IP=x\" is not an IP address"),
        ("ips", json!(["fd00::1/129"]), "\"ips[0]\": \"fd00::1/129\" is not an IP address"),
        ("ips", json!(["fe80::1%eth0"]), "\"ips[0]\": \"fe80::1%eth0\" is not an IP address"),
    ]);
}

#[test]
fn wrong_hardware_addresses_are_refused() {
    refuses([
        ("mac", json!("zz"), "\"mac\": \"zz\" is not a hardware address (6, 8 or 20 bytes)"),
        ("mac", json!(7), "\"mac\" is a number, not a string"),
        ("mac", json!("00:11:22:33:44"), "\"mac\": \"00:11:22:33:44\" is not a hardware address"),
        ("mac", json!("00:11:22:33:44:5"), "\"mac\": \"00:11:22:33:44:5\" is not a hardware address"),
        ("mac", json!("00:11:22:33:44:gg"), "\"mac\": \"00:11:22:33:44:gg\" is not a hardware address"),
        ("mac", json!("00:11:22-33-44-55"), "\"mac\": \"00:11:22-33-44-55\" is not a hardware address"),
        ("mac", json!("001122334455"), "\"mac\": \"001122334455\" is not a hardware address"),
        ("mac", json!(":::::"), "\"mac\": \":::::\" is not a hardware address"),
        (
            "mac",
            json!("F1-fd-59-0b-bd-2b"),
            "\"mac\": \"F1-fd-59-0b-bd-2b\" is not a hardware address of an interface: its first byte is odd",
        ),
        ("mac", json!("ff:ff:ff:ff:ff:ff"), "\"mac\": \"ff:ff:ff:ff:ff:ff\" is not a hardware address of an"),
        (
            "mac",
            json!("0100.5e00.0001"),
            "\"mac\": \"0100.5e00.0001\" is not a hardware address of an interface",
        ),
        (
            "mac",
            json!("00:00:00:00:00:00"),
            "\"mac\": \"00:00:00:00:00:00\" is not a hardware address of an interface: it is all zeros",
        ),
        (
            "mac",
            json!("00:00:00:00:00:00:00:00"),
            "\"mac\": \"00:00:00:00:00:00:00:00\" is not a hardware address of",
        ),
        (
            "infiniband-guid",
            json!("00:11:22:33:44:55"),
            "\"infiniband-guid\": \"00:11:22:33:44:55\" is not an Inf",
        ),
        ("infiniband-guid", json!({}), "\"infiniband-guid\" is an object, not a string"),
    ]);
}

#[test]
fn wrong_bandwidths_are_refused() {
    refuses([
        ("bandwidth", json!(5), "\"bandwidth\" is a number, not an object"),
        ("bandwidth", json!([]), "\"bandwidth\" is an array, not an object"),
        ("bandwidth", json!({}), "\"bandwidth\": neither \"ingressRate\" nor \"egressRate\" is given"),
        ("bandwidth", json!({"ingressRate": null}), "\"bandwidth\": neither \"ingressRate\" nor"),
        ("bandwidth", json!({"ingressBurst": 1}), "\"bandwidth\": neither \"ingressRate\" nor"),
        (
            "bandwidth",
            json!({"ingressRate": 1, "egressBurst": 5}),
            "\"bandwidth.egressBurst\": 5 needs a \"egressRate\" above 0",
        ),
        (
            "bandwidth",
            json!({"ingressRate": 0, "ingressBurst": 5}),
            "\"bandwidth.ingressBurst\": 5 needs a \"ingressRate\" above 0",
        ),
        (
            "bandwidth",
            json!({"ingressRate": -1}),
            "\"bandwidth.ingressRate\": -1 is not a whole number of bits, 0 or more",
        ),
        ("bandwidth", json!({"egressRate": 1.5}), "\"bandwidth.egressRate\": 1.5 is not a whole number"),
        (
            "bandwidth",
            json!({"egressRate": "1M"}),
            "\"bandwidth.egressRate\" is a string, not a whole number",
        ),
    ]);
}

#[test]
fn wrong_port_mappings_are_refused() {
    let mapping = |key: &str, value: Value| {
        let mut mapping = json!({"hostPort": 80, "containerPort": 80});
        mapping[key] = value;
        json!([mapping])
    };
    refuses([
        ("portMappings", json!({}), "\"portMappings\" is an object, not an array"),
        ("portMappings", json!([null]), "\"portMappings[0]\" is null, not an object"),
        ("portMappings", json!([{"hostPort": 1}]), "\"portMappings[0].containerPort\" is missing"),
        ("portMappings", json!([{"containerPort": 1}]), "\"portMappings[0].hostPort\" is missing"),
        (
            "portMappings",
            mapping("hostPort", json!(0)),
            "\"portMappings[0].hostPort\": 0 is not a port, 1 to 65535",
        ),
        (
            "portMappings",
            mapping("hostPort", json!(65536)),
            "\"portMappings[0].hostPort\": 65536 is not a port",
        ),
        (
            "portMappings",
            mapping("containerPort", json!(-1)),
            "\"portMappings[0].containerPort\": -1 is not a",
        ),
        (
            "portMappings",
            mapping("containerPort", json!("80")),
            "\"portMappings[0].containerPort\" is a string",
        ),
        (
            "portMappings",
            mapping("protocol", json!("icmp")),
            "\"portMappings[0].protocol\": \"icmp\" is not one of tcp, udp and sctp",
        ),
        (
            "portMappings",
            mapping("protocol", json!(6)),
            "\"portMappings[0].protocol\" is a number, not a string",
        ),
        (
            "portMappings",
            mapping("hostIP", json!("10.0.0.0/8")),
            "\"portMappings[0].hostIP\": \"10.0.0.0/8\" is not an IP address without prefix length",
        ),
        ("portMappings", mapping("HOSTPORT", json!(1)), "\"portMappings[0].hostPort\" is given twice"),
    ]);
}

#[test]
fn wrong_routes_arguments_and_claims_are_refused() {
    refuses([
        ("default-route", json!("10.0.0.1"), "\"default-route\" is a string, not an array"),
        ("default-route", json!([null]), "\"default-route[0]\" is null, not a string"),
        (
            "default-route",
            json!([""]),
            "\"default-route[0]\": \"\" is not an IP address without prefix length",
        ),
        (
            "default-route",
            json!(["10.0.0.1/24"]),
            "\"default-route[0]\": \"10.0.0.1/24\" is not an IP address",
        ),
        ("default-route", json!(["10.0.0.1", "x"]), "\"default-route[1]\": \"x\" is not an IP address"),
        ("cni-args", json!([]), "\"cni-args\" is an array, not an object"),
        ("cni-args", json!("x"), "\"cni-args\" is a string, not an object"),
        ("ipam-claim-reference", json!(true), "\"ipam-claim-reference\" is a boolean, not a string"),
    ]);
}

#[test]
fn a_claim_and_addresses_exclude_each_other() {
    let element = json!([{"name": "a", "ips": ["10.0.0.1"], "ipam-claim-reference": "c"}]);
    assert_eq!(
        parse_json(&element).unwrap_err().to_string(),
        "networks[0] (\"pod-ns/a\"): \"ips\" and \"ipam-claim-reference\" exclude each other"
    );
    let selection = parse_one(json!({"ips": [], "ipam-claim-reference": "c"}));
    assert_eq!(selection.ipam_claim_reference.as_deref(), Some("c"));
}

#[test]
fn there_is_exactly_one_default_network() {
    let parse = |annotation| parse_default_network(annotation, &namespace("kube-system"));
    for (annotation, network) in [
        ("a", "kube-system/a"),
        ("ns/a", "ns/a"),
        (r#"[{"name":"a","mac":"00:11:22:33:44:55"}]"#, "kube-system/a"),
    ] {
        assert_eq!(parse(annotation).unwrap().network.to_string(), network);
    }
    for (annotation, text) in [
        ("", "default-network names 0 networks, not exactly one"),
        ("  ", "default-network names 0 networks, not exactly one"),
        ("[]", "default-network names 0 networks, not exactly one"),
        ("a,b", "default-network names 2 networks, not exactly one"),
        (r#"[{"name":"a"},{"name":"b"},{"name":"c"}]"#, "default-network names 3 networks, not exactly one"),
        ("[null]", "default-network[0]: the element is null, not an object"),
        ("a,", "default-network[1]: the element is empty; is there a comma too many?"),
        ("A", "default-network[0]: \"name\": name \"A\" must hold only"),
    ] {
        let error = parse(annotation).unwrap_err();
        assert!(error.to_string().starts_with(text), "{annotation:?} gave {error}");
        assert_eq!(error.code(), Code::INVALID_CONFIG);
    }
}

#[test]
fn more_networks_than_allowed_are_counted_and_not_read() {
    let short = |n: usize| vec!["a"; n].join(",");
    let json = |n: usize| json!(vec![json!({"name": "a"}); n]).to_string();
    for text in [short(32), json(32), format!("{}\n", short(32))] {
        assert_eq!(parse(&text).unwrap().len(), 32);
    }
    // What is wrong with one of them does not matter.
    let wrong = |n: usize| format!("[{}]", vec!["{\"a\":1,\"a\":[{}]}"; n].join(","));
    for (text, asked) in [
        (short(33), 33),
        (json(33), 33),
        (short(100_000), 100_000),
        (json(100_000), 100_000),
        (wrong(100_000), 100_000),
        (",".repeat(99), 100),
    ] {
        let error = parse(&text).unwrap_err();
        let expected = format!(
            "networks asks for {asked} networks, and one pod may have 32 (setting \"maxAttachments\"); ask for fewer, or let \
             the administrator of Braid raise that setting"
        );
        assert_eq!((chain(&error), error.code()), (expected, Code::INVALID_CONFIG));
    }
    let one = |text: &str| chain(&parse_default_network(text, &namespace("a")).unwrap_err());
    assert_eq!(one(&json(100_000)), "default-network names 100000 networks, not exactly one");
    assert_eq!(one(&short(2)), "default-network names 2 networks, not exactly one");
}

#[test]
fn what_one_annotation_and_one_element_ask_for_is_bounded() {
    let long = format!("[{{\"name\":\"a\"}}{}]", " ".repeat(LONGEST));
    let expected = format!(
        "networks is {} bytes long, and none of more than {LONGEST} is read; ask for less",
        long.len()
    );
    assert_eq!(chain(&parse(&long).unwrap_err()), expected);
    let ips = |n: usize| json!((0..n).map(|i| format!("fd00::{i:x}")).collect::<Vec<_>>());
    let ports =
        |n: usize| json!((1..=n).map(|i| json!({"hostPort": i, "containerPort": i})).collect::<Vec<_>>());
    refuses([
        ("ips", ips(65), "\"ips\" holds 65 addresses, and 64 are the most; ask for less"),
        (
            "portMappings",
            ports(1001),
            "\"portMappings\" holds 1001 ports, and 1000 are the most; ask for less",
        ),
        (
            "cni-args",
            json!({"x": "y".repeat(16 << 10)}),
            "\"cni-args\" holds 16392 bytes, and 16384 are the most; ask for less",
        ),
    ]);
    assert_eq!(parse_one(json!({"ips": ips(64)})).ips.len(), 64);
    assert_eq!(parse_one(json!({"portMappings": ports(1000)})).port_mappings.len(), 1000);
    assert_eq!(parse_one(json!({"cni-args": {"x": "y".repeat(16 << 10).split_off(8)}})).cni_args.len(), 1);
}

#[test]
fn errors_are_bounded_whatever_the_annotation_holds() {
    let long = "x_".repeat(50_000);
    for annotation in [
        long.clone(),
        format!("a/b/{long}"),
        format!("a@{long}"),
        json!([{"name": long}]).to_string(),
        json!([{"name": "a", "mac": long}]).to_string(),
        json!([{"name": "a", "interface": long}]).to_string(),
        json!([{"name": "a", "ips": [long]}]).to_string(),
    ] {
        let error = chain(&parse(&annotation).unwrap_err());
        assert!(error.len() < 400, "{} bytes", error.len());
    }
    let repeated = format!(r#"[{{"name":"a","{long}":1,"{long}":2}}]"#);
    assert!(parse(&repeated).unwrap_err().to_string().len() < 400);
    assert!(parse_one(json!({ long: 1 })).unknown_keys[0].len() < 400);
    parse(&"[".repeat(100_000)).unwrap_err();
}

#[test]
fn a_gateway_that_no_packet_can_be_sent_to_is_refused() {
    for (address, why) in [
        ("0.0.0.0", "it means no address at all"),
        ("::", "it means no address at all"),
        ("::ffff:0.0.0.0", "it means no address at all"),
        ("224.0.0.1", "it is a multicast address"),
        ("ff02::1", "it is a multicast address"),
        ("127.0.0.1", "it is a loopback address"),
        ("::1", "it is a loopback address"),
        ("255.255.255.255", "it is the broadcast address"),
    ] {
        let text = format!("\"default-route[0]\": \"{address}\" is not the address of a gateway: {why}");
        refuses([("default-route", json!([address]), &text)]);
    }
    for address in ["10.0.0.255", "169.254.1.1", "fe80::1", "1.1.1.1"] {
        assert!(parse_one(json!({"default-route": [address]})).default_route.is_some(), "{address}");
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z0-9:./@-]{0,20}|\\PC{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        let keys = prop_oneof![
            Just("name".to_owned()),
            Just("hostPort".to_owned()),
            Just("ingressRate".to_owned()),
            "\\PC{0,6}"
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(keys, inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// An element with a good name and any values for two known keys.
fn any_two_keys() -> impl Strategy<Value = Value> {
    let keys = || {
        prop::sample::select(vec![
            "namespace",
            "interface",
            "ips",
            "mac",
            "infiniband-guid",
            "bandwidth",
            "portMappings",
            "default-route",
            "cni-args",
            "ipam-claim-reference",
            "other",
        ])
    };
    (keys(), any_json(), keys(), any_json()).prop_map(|(a, x, b, y)| json!({"name": "n", a: x, b: y}))
}

/// What somebody would like to have behind an address in CNI_ARGS.
fn any_tail() -> impl Strategy<Value = String> {
    prop_oneof![
        2 => Just(String::new()),
        1 => "[;= \\t\\n,]",
        2 => "[;,= \\n/]{1,2}(IP|MAC|K8S_POD_NAMESPACE|IgnoreUnknown)=[a-z0-9.:/]{0,9}",
        1 => "/[0-9]{1,3}[;=]?[A-Z]{0,3}=?[0-9]{0,2}",
    ]
}

/// A valid address, and what comes behind it.
fn any_ip() -> impl Strategy<Value = String> {
    let prefix = prop_oneof![Just(String::new()), (0..33).prop_map(|length| format!("/{length}"))];
    (any::<std::net::IpAddr>(), prefix, any_tail())
        .prop_map(|(ip, prefix, tail)| format!("{ip}{prefix}{tail}"))
}

/// A valid hardware address or GUID, and what comes behind it.
fn any_hardware_address() -> impl Strategy<Value = String> {
    let bytes = prop::sample::select(vec![6, 8, 20]).prop_flat_map(|n| prop::collection::vec(any::<u8>(), n));
    let separator = prop::sample::select(vec![":", "-"]);
    (bytes, separator, any_tail()).prop_map(|(mut bytes, separator, tail)| {
        // Most of these are addresses of interfaces.
        bytes[0] = (bytes[0] & 0xfe) | 2;
        let pairs: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{}{tail}", pairs.join(separator))
    })
}

/// An element whose texts go into CNI_ARGS.
fn any_addressed() -> impl Strategy<Value = Value> {
    let ips = prop::collection::vec(any_ip(), 1..3);
    (ips, any_hardware_address(), any_hardware_address(), 1..8_u8).prop_map(|(ips, mac, guid, which)| {
        let all = [("ips", json!(ips)), ("mac", json!(mac)), ("infiniband-guid", json!(guid))];
        let some = all.into_iter().enumerate().filter(|(bit, _)| which & (1 << bit) != 0);
        let mut element = Map::from_iter([("name".to_owned(), json!("n"))]);
        element.extend(some.map(|(_, (key, value))| (key.to_owned(), value)));
        Value::Object(element)
    })
}

fn any_element() -> impl Strategy<Value = Value> {
    prop_oneof![any_two_keys(), any_addressed()]
}

fn all_texts_are_plain(selections: &[Selection]) {
    for selection in selections {
        assert!(selection.network.to_string().matches('/').count() == 1);
        for (_, value) in selection.legacy_args() {
            assert!(!value.contains([';', '=']) && !value.contains(char::is_whitespace), "{value:?}");
        }
    }
}

/// An item of the short form; `@if` is still to be given a number.
fn any_item() -> impl Strategy<Value = String> {
    "[a-z][a-z0-9]{0,8}/[a-z0-9]{1,9}(\\.[a-z0-9]{1,9})?(@if)?"
}

fn short_form(selection: &Selection) -> String {
    let interface = selection.interface.as_ref().map(|name| format!("@{name}"));
    format!("{}{}", selection.network, interface.unwrap_or_default())
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC*|[a-z/@, .\\[\\]{}\":0-9]{0,40}") {
        all_texts_are_plain(&parse(&text).unwrap_or_default());
        let _ = parse_default_network(&text, &namespace("a"));
    }

    #[test]
    fn no_json_makes_the_parser_panic(json in any_json()) {
        let _ = parse_json(&json);
        let _ = parse_json(&json!([json]));
    }

    #[test]
    fn no_element_makes_the_parser_panic(elements in prop::collection::vec(any_element(), 1..3)) {
        all_texts_are_plain(&parse_json(&Value::Array(elements)).unwrap_or_default());
    }

    #[test]
    fn no_text_of_a_selection_becomes_two_arguments(element in any_addressed()) {
        let Ok(selections) = parse_json(&Value::Array(vec![element])) else { return Ok(()) };
        all_texts_are_plain(&selections);
        let given = selections[0].legacy_args();
        let mut args = CniArgs::parse("IgnoreUnknown=1").unwrap();
        for (key, value) in &given {
            args.set(key, value.clone());
        }
        let read = CniArgs::parse(&args.to_string()).unwrap();
        prop_assert_eq!(read.to_string().matches('=').count(), 1 + given.len());
        for (key, value) in &given {
            prop_assert_eq!(read.get(key), Some(value.as_str()));
        }
    }

    #[test]
    fn the_short_form_round_trips(items in prop::collection::vec(any_item(), 0..6)) {
        let numbered = |(i, item): (usize, &String)| item.replace("@if", &format!("@if{i}"));
        let items: Vec<_> = items.iter().enumerate().map(numbered).collect();
        let written: Vec<_> = parse(&items.join(",")).unwrap().iter().map(short_form).collect();
        prop_assert_eq!(written, items);
    }

    #[test]
    fn hardware_addresses_round_trip(mut bytes in any::<[u8; 6]>(), hyphens in any::<bool>()) {
        bytes[0] = (bytes[0] & 0xfe) | 2;
        let pairs = bytes.map(|byte| format!("{byte:02X}"));
        let mac = Mac::parse(&pairs.join(if hyphens { "-" } else { ":" })).unwrap();
        prop_assert_eq!(mac.as_str(), pairs.join(":").to_lowercase());
        prop_assert_eq!(Mac::parse(mac.as_str()).unwrap(), mac);
    }
}
