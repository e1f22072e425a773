//! Bad input, as tables: each case gets its code and a message that a person can act on, and changes nothing.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;

use serde_json::{Value, json};
use store::network::{Outcome, RenderedNetwork};

use crate::harness::{ANNOTATIONS, DEFAULT_NETWORK, NETWORKS, Node, Run};

/// A node with networks `a` and `b`, whose plugins take any wish of a pod.
fn node() -> Node {
    Node::with(&["a", "b"])
}

/// The call fails with this code and text, calls no plugin and leaves every file as it was.
fn refused<'a>(node: &'a Node, what: &str, code: u32, text: &str, call: impl FnOnce(&'a Node) -> Run<'a>) {
    let before = node.files();
    let error = call(node).error();
    assert_eq!(error.code.0, code, "{what}: {error}");
    assert!(error.msg.contains(text), "{what}: {error}");
    assert!(node.calls().is_empty(), "{what}: {:?}", node.done());
    let after = node.files();
    let changed = |path: &&std::path::PathBuf| before.get(*path) != after.get(*path);
    let changed: Vec<_> = before.keys().chain(after.keys()).filter(changed).collect();
    assert!(changed.is_empty(), "{what}: {changed:?}");
}

#[test]
fn the_environment() {
    let long = "a".repeat(201);
    for (variable, value, code, text) in [
        (
            "CNI_COMMAND",
            Some("add"),
            4,
            "CNI_COMMAND is \"add\", not one of ADD, DEL, CHECK, GC, STATUS, VERSION",
        ),
        ("CNI_COMMAND", Some("ADD "), 4, "not one of"),
        ("CNI_CONTAINERID", None, 4, "ADD needs CNI_CONTAINERID, which the runtime did not set"),
        ("CNI_CONTAINERID", Some(""), 4, "ADD needs CNI_CONTAINERID"),
        (
            "CNI_CONTAINERID",
            Some("../../etc/passwd"),
            4,
            "CNI_CONTAINERID: container id \"../../etc/passwd\" must",
        ),
        ("CNI_CONTAINERID", Some(".hidden"), 4, "CNI_CONTAINERID"),
        ("CNI_CONTAINERID", Some("a@b"), 4, "CNI_CONTAINERID"),
        ("CNI_CONTAINERID", Some(&long), 4, "is longer than 200 bytes"),
        ("CNI_IFNAME", None, 4, "ADD needs CNI_IFNAME"),
        ("CNI_IFNAME", Some("../eth0"), 4, "CNI_IFNAME: interface name \"../eth0\" must not contain '/'"),
        ("CNI_IFNAME", Some("sixteen-bytes-xx"), 4, "is longer than the 15 bytes"),
        ("CNI_IFNAME", Some("eth 0"), 4, "blanks"),
        ("CNI_IFNAME", Some(".."), 4, "must not be"),
        ("CNI_NETNS", None, 4, "ADD needs CNI_NETNS"),
        (
            "CNI_NETNS",
            Some("/nonexistent/netns"),
            8,
            "CNI_NETNS /nonexistent/netns leads to no network namespace",
        ),
        ("CNI_NETNS", Some("/proc/self/ns/net"), 8, "is the network namespace of the plugin itself"),
        ("CNI_PATH", None, 4, "ADD needs CNI_PATH"),
        ("CNI_ARGS", Some("nonsense"), 4, "CNI_ARGS holds \"nonsense\", which is not of the form KEY=VALUE"),
        ("CNI_ARGS", Some("A=1;=2"), 4, "CNI_ARGS holds \"=2\""),
        ("CNI_ARGS", Some("K8S_POD_NAMESPACE=../x;K8S_POD_NAME=web"), 4, "K8S_POD_NAMESPACE in CNI_ARGS"),
        ("CNI_ARGS", Some("K8S_POD_NAMESPACE=Upper;K8S_POD_NAME=web"), 4, "K8S_POD_NAMESPACE in CNI_ARGS"),
    ] {
        let what = format!("{variable}={value:?}");
        refused(&node(), &what, code, text, |node| match value {
            Some(value) => node.add("c1").networks("a").env(variable, value),
            None => node.add("c1").networks("a").without(variable),
        });
    }
}

#[test]
fn an_environment_that_is_not_utf_8() {
    let bytes = |text: &[u8]| OsString::from_vec(text.to_vec());
    for (variable, value, code, text) in [
        ("CNI_COMMAND", bytes(b"ADD\xff"), 4, "CNI_COMMAND is"),
        ("CNI_CONTAINERID", bytes(b"c\xff"), 4, "CNI_CONTAINERID: container id"),
        ("CNI_NETNS", bytes(b"/run/\xff"), 8, "leads to no network namespace"),
        ("CNI_ARGS", bytes(b"K8S_POD_NAMESPACE=\xff;K8S_POD_NAME=web"), 4, "K8S_POD_NAMESPACE in CNI_ARGS"),
    ] {
        refused(&node(), variable, code, text, |node| node.add("c1").env(variable, value));
    }
}

#[test]
fn everything_that_is_missing_is_said_at_once() {
    refused(&node(), "nothing", 4, "ADD needs CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME, CNI_PATH,", |node| {
        node.by_hand(&[]).env("CNI_COMMAND", "ADD")
    });
}

#[test]
fn standard_input() {
    let deep = format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000));
    for (stdin, code, text) in [
        (&b""[..], 6, "the configuration on stdin is not JSON: the text is empty"),
        (b"{", 6, "not JSON"),
        (b"hello", 6, "not JSON"),
        (b"{}{}", 6, "trailing characters"),
        (b"\xff\xfe", 6, "not JSON"),
        (deep.as_bytes(), 6, "recursion limit"),
        (b"[]", 6, "is an array, not a JSON object"),
        (b"null", 6, "is null, not a JSON object"),
        (b"{}", 7, "the configuration has no \"name\""),
        (b"{\"name\":7}", 7, "\"name\" is a number, not a string"),
        (b"{\"name\":\"\"}", 7, "network name \"\" is empty"),
        (b"{\"name\":\"../x\"}", 7, "network name \"../x\""),
        (b"{\"name\":\"n\",\"cniVersion\":7}", 7, "\"cniVersion\" is a number"),
        (b"{\"name\":\"n\",\"cniVersion\":\"9.9.9\"}", 1, "CNI version \"9.9.9\" is not one of 0.1.0"),
        (b"{\"name\":\"n\",\"cniVersion\":\"1.1\"}", 1, "\"1.1\" is not one of"),
    ] {
        let what = String::from_utf8_lossy(&stdin[..stdin.len().min(60)]).into_owned();
        for verb in ["ADD", "DEL", "CHECK", "GC", "STATUS"] {
            let call = |node| Node::add(node, "c1").env("CNI_COMMAND", verb).stdin(stdin);
            refused(&node(), &format!("{verb} {what}"), code, text, call);
        }
    }
}

#[test]
fn verbs_that_the_version_does_not_have() {
    for (verb, version) in [("CHECK", "0.3.1"), ("GC", "1.0.0"), ("STATUS", "1.0.0"), ("STATUS", "0.1.0")] {
        let text = format!("{verb} does not exist in CNI version {version}");
        refused(&node(), verb, 1, &text, |node| {
            node.check("c1").env("CNI_COMMAND", verb).set(json!({"cniVersion": version}))
        });
    }
}

#[test]
fn what_the_runtime_configures() {
    for (config, code, text) in [
        (json!({"runtimeConfig": []}), 7, "\"runtimeConfig\" is an array, not an object"),
        (json!({"runtimeConfig": "x"}), 7, "\"runtimeConfig\" is a string"),
        (json!({"runtimeConfig": {ANNOTATIONS: "x"}}), 7, "is not an object of texts"),
        (json!({"runtimeConfig": {ANNOTATIONS: {NETWORKS: ["a"]}}}), 7, "is not an object of texts"),
    ] {
        refused(&node(), &config.to_string(), code, text, |node| node.add("c1").set(config.clone()));
    }
    for (valid, code, text) in [
        (json!("c1"), 7, "\"cni.dev/valid-attachments\" cannot be read"),
        (json!([{"containerID": "../x", "ifname": "eth0"}]), 7, "container id"),
        (json!([{"containerID": "c1"}]), 7, "missing field `ifname`"),
        (json!([["c1"]]), 7, "cannot be read"),
        (json!(null), 7, "GC without \"cni.dev/valid-attachments\""),
    ] {
        refused(&node(), &valid.to_string(), code, text, |node| {
            node.gc(&[]).set(json!({"cni.dev/valid-attachments": valid}))
        });
    }
}

/// Settings that cannot be read, and what is said of them.
fn bad_settings() -> Vec<(Value, &'static str)> {
    let two = json!({"clusterNetwork": "x", "delegates": [{"name": "n", "type": "primary"}]});
    vec![
        (json!({"clusterNetwork": 1}), "\"clusterNetwork\" is 1; it has to be a text"),
        (json!({"clusterNetwork": "relative/path"}), "\"clusterNetwork\" is \"relative/path\""),
        (json!({"clusterNetwork": "no name"}), "\"clusterNetwork\" is not valid"),
        (two, "\"delegates\" contradicts \"clusterNetwork\""),
        (json!({"clusterNetwork": null, "delegates": [{"type": "a"}]}), "\"delegates[0]\" is not a CNI"),
        (json!({"clusterNetwork": null, "delegates": {}}), "\"delegates\" is an object"),
        (json!({"defaultNetworks": "a"}), "\"defaultNetworks\" is \"a\"; it has to be an array of texts"),
        (json!({"defaultNetworks": [1]}), "\"defaultNetworks[0]\" is 1"),
        (json!({"systemNamespaces": ["A"]}), "\"systemNamespaces\" is not valid"),
        (json!({"multusNamespace": "../x"}), "\"multusNamespace\" is not valid"),
        (
            json!({"namespaceIsolation": "true"}),
            "\"namespaceIsolation\" is \"true\"; it has to be true or false",
        ),
        (json!({"globalNamespaces": "a,,B"}), "\"globalNamespaces\" is not valid"),
        (
            json!({"readinessindicatorfile": "ready"}),
            "\"readinessindicatorfile\" is \"ready\"; it has to be an absolute",
        ),
        (json!({"confDir": {}}), "\"confDir\" is an object"),
        (json!({"binDir": "bin"}), "\"binDir\" is \"bin\""),
        (
            json!({"attachmentConcurrency": 0}),
            "\"attachmentConcurrency\" is 0; it has to be a whole number from 1 to 64",
        ),
        (json!({"attachmentConcurrency": 1.5}), "\"attachmentConcurrency\" is 1.5"),
        (
            json!({"podsAtOnce": -1}),
            "\"podsAtOnce\" is -1; it has to be a whole number from 0 (no bound) to 1000",
        ),
        (json!({"NamespaceIsolation": 1}), "\"namespaceIsolation\" is 1; it has to be true or false"),
        (
            json!({"namespaceIsolation": true, "NamespaceIsolation": false}),
            "\"namespaceIsolation\" is given twice, as \"NamespaceIsolation\" and \"namespaceIsolation\", with two values",
        ),
        (json!({"namespaceIsolation.": true}), "\"namespaceIsolation.\" is not known, but may be meant for"),
        (json!({"maxAttachments": 0}), "\"maxAttachments\" is 0; it has to be a whole number from 1 to 1000"),
        (json!({"BinDir": "bin"}), "\"binDir\" is given twice, as \"BinDir\" and \"binDir\""),
        (json!({"networkWait": 5}), "\"networkWait\" is 5; it has to be a text like \"250ms\""),
        (json!({"lockWait": "5 s"}), "\"lockWait\" is \"5 s\""),
        (json!({"delegateTimeout": "0s"}), "\"delegateTimeout\" is zero"),
        (json!({"missingPluginGrace": "99999999999999999999h"}), "\"missingPluginGrace\""),
        (json!({"result": "all"}), "\"result\" is \"all\", not one of auto, merged, primary"),
        (json!({"logLevel": "loud"}), "\"logLevel\" is \"loud\", not one of"),
        (json!({"logFile": "x.log"}), "\"logFile\" is \"x.log\""),
        (json!({"logOptions": {"maxSize": -1}}), "\"logOptions.maxSize\" is -1"),
        (json!({"runDir": "run"}), "\"runDir\" is \"run\""),
        (json!({"stateDir": []}), "\"stateDir\" is an array"),
    ]
}

#[test]
fn settings() {
    for (settings, text) in bad_settings() {
        for call in [Node::add, Node::check] {
            let text = format!("setting {text}");
            refused(&node(), &settings.to_string(), 7, &text, |node| call(node, "c1").set(settings.clone()));
        }
    }
}

#[test]
fn settings_that_cannot_be_read_do_not_stop_a_del_unless_they_say_where_things_are() {
    for (settings, text) in bad_settings() {
        let node = node();
        node.add("c1").networks("a").result();
        node.forget();
        let text = format!("setting {text}");
        if ["runDir", "stateDir", "binDir"].iter().any(|setting| text.contains(setting)) {
            refused(&node, &settings.to_string(), 7, &text, |node| node.del("c1").set(settings.clone()));
            continue;
        }
        let answer = node.del("c1").set(settings.clone()).answer();
        answer.succeed();
        assert_eq!(node.done(), ["DEL a net1", "DEL primary eth0"], "{settings}");
        assert!(answer.log()[0]["error"].as_str().unwrap().contains(&text), "{answer:?}");
    }
}

#[test]
fn what_else_cannot_be_read_does_not_stop_a_del() {
    let node = node();
    for (container, damage) in [("c1", json!({"runtimeConfig": []})), ("c2", json!({"prevResult": 7}))] {
        node.add(container).result();
        node.del(container).env("CNI_ARGS", "nonsense;=1").set(damage).succeed();
        assert!(node.record(container).is_none());
    }
    // With the default of such a setting another network might be undone, and without any nothing would be.
    node.forget();
    let error = node.del("from-before-braid").set(json!({"clusterNetwork": 1})).error();
    assert!(error.code.0 == 11 && error.msg.contains("setting \"clusterNetwork\" is 1"), "{error}");
    assert!(node.calls().is_empty());
}

#[test]
fn annotations_in_short_form() {
    for (annotation, text) in [
        (",", "networks[0]: the element is empty; is there a comma too many?"),
        ("a,", "networks[1]: the element is empty"),
        ("a/b/c", "\"a/b/c\" is not of the form [namespace/]name[@interface]"),
        ("../../etc", "networks[0]"),
        ("a@", "networks[0] (\"default/a\"): \"interface\": interface name \"\" is empty"),
        ("a@net1@net2", "is not of the form"),
        ("a@sixteen-bytes-xx", "is longer than the 15 bytes"),
        ("A", "name \"A\" must hold only a-z"),
        ("a;b", "name \"a;b\""),
        ("a\u{0}", "networks[0]"),
        ("Default/a", "namespace \"Default\""),
        ("a@x,b@x", "networks[1] (\"default/b\"): \"interface\": \"x\" is already that of networks[0]"),
        ("a@eth0", "interface eth0 is taken by network cluster; ask for another name with \"interface\""),
        ("a@net2,b", "network default/b: interface net2 is taken by network default/a"),
    ] {
        refused(&node(), annotation, 7, text, |node| node.add("c1").networks(annotation));
    }
}

#[test]
fn annotations_in_json() {
    let element = |more: Value| {
        let mut element = json!({"name": "a"});
        element.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Value::Array(vec![element]).to_string()
    };
    let two_owners =
        json!([{"name": "a", "default-route": ["10.0.0.1"]}, {"name": "b", "default-route": ["10.0.0.2"]}]);
    for (annotation, text) in [
        ("[".to_owned(), "networks is not JSON"),
        ("{\"name\":\"a\"}".to_owned(), "networks is an object, not an array of objects"),
        ("\"a\"".to_owned(), "networks is a string"),
        ("[1]".to_owned(), "networks[0]: the element is a number, not an object"),
        ("[{}]".to_owned(), "networks[0]: \"name\" is missing"),
        ("[".repeat(5000), "networks is not JSON"),
        ("[{\"name\":\"a\",\"name\":\"b\"}]".to_owned(), "\"name\" is given twice"),
        (json!([{"name": 1}]).to_string(), "\"name\" is a number, not a string"),
        (json!([{"name": "a"}, {"name": "../x"}]).to_string(), "networks[1]: \"name\": name \"../x\""),
        (element(json!({"namespace": "a/b"})), "\"namespace\": namespace \"a/b\""),
        (element(json!({"interface": "x/y"})), "\"interface\": interface name \"x/y\""),
        (element(json!({"ips": "10.0.0.1"})), "\"ips\" is a string, not an array"),
        (element(json!({"ips": ["10.0.0.1/33"]})), "\"ips[0]\": \"10.0.0.1/33\" is not an IP address"),
        (element(json!({"mac": "02:00"})), "\"mac\": \"02:00\" is not a hardware address"),
        (element(json!({"infiniband-guid": "x"})), "\"infiniband-guid\""),
        (element(json!({"bandwidth": {}})), "neither \"ingressRate\" nor \"egressRate\" is given"),
        (element(json!({"bandwidth": {"ingressRate": -1}})), "\"bandwidth.ingressRate\": -1"),
        (
            element(json!({"portMappings": [{"hostPort": 80}]})),
            "\"portMappings[0].containerPort\" is missing",
        ),
        (element(json!({"portMappings": [{"hostPort": 70000, "containerPort": 1}]})), "70000 is not a port"),
        (element(json!({"default-route": ["10.0.0.1/24"]})), "without prefix length"),
        (element(json!({"default-route": ["10.0.0.1", "10.0.0.2"]})), "names two gateways"),
        (
            two_owners.to_string(),
            "networks default/a and default/b both ask for the pod's IPv4 default route",
        ),
        (element(json!({"cni-args": []})), "\"cni-args\" is an array, not an object"),
        (element(json!({"ips": ["10.0.0.1"], "ipam-claim-reference": "c"})), "exclude each other"),
        (
            element(json!({"infiniband-guid": "00:11:22:33:44:55:66:77"})),
            "asks for \"infiniband-guid\", which no plugin",
        ),
        (
            element(json!({"bandwidth": {"ingressRate": 1}})),
            "asks for \"bandwidth\", which no plugin of the network",
        ),
        (element(json!({"portMappings": [{"hostPort": 80, "containerPort": 80}]})), "add the portmap plugin"),
    ] {
        let what = annotation.chars().take(80).collect::<String>();
        refused(&node(), &what, 7, text, |node| node.add("c1").networks(&annotation));
    }
}

#[test]
fn what_no_plugin_could_do_is_refused_before_anything_runs() {
    for (annotation, text) in [
        (
            json!([{"name": "a", "mac": "f1:fd:59:0b:bd:2b"}]).to_string(),
            "is not a hardware address of an interface: its first byte is odd",
        ),
        (
            json!([{"name": "default/a"}]).to_string(),
            "the namespace has a key of its own: write \"namespace\": \"default\"",
        ),
        (
            json!([{"name": "a", "default-route": ["0.0.0.0"]}]).to_string(),
            "\"0.0.0.0\" is not the address of a gateway",
        ),
        (
            vec!["a"; 301].join(","),
            "networks asks for 301 networks, and one pod may have 32 (setting \"maxAttachments\")",
        ),
    ] {
        refused(&node(), text, 7, text, |node| node.add("c1").networks(&annotation));
    }
}

#[test]
fn the_default_network_annotation() {
    for (annotation, text) in [
        ("", "default-network names 0 networks, not exactly one"),
        ("a,b", "default-network names 2 networks, not exactly one"),
        ("[]", "names 0 networks"),
        ("{\"name\":\"a\"}", "default-network is an object, not an array of objects"),
        ("A/b", "default-network[0]: \"namespace\""),
    ] {
        refused(&node(), annotation, 7, text, |node| node.add("c1").annotation(DEFAULT_NETWORK, annotation));
    }
}

#[test]
fn a_network_of_a_device_is_refused_while_pods_get_no_devices() {
    let mut node = node();
    for name in ["a", "net"] {
        let network = format!("kube-system/{name}").parse().unwrap();
        let mut rendered =
            RenderedNetwork::read(&node.dir(), &"default/a".parse().unwrap()).unwrap().unwrap();
        rendered.network = network;
        rendered.resource_name = Some("vendor.com/vf".to_owned());
        rendered.write(&node.dir()).unwrap();
    }
    let text = "kube-system/a cannot be used: its annotation k8s.v1.cni.cncf.io/resourceName names \"vendor.com/vf\"";
    refused(&node, "selected", 7, text, |node| node.add("c1").networks("b,kube-system/a"));
    refused(&node, "default network", 7, text, |node| {
        node.add("c1").annotation(DEFAULT_NETWORK, "kube-system/a")
    });
    node.set(json!({"clusterNetwork": "net"}));
    refused(&node, "primary", 7, "kube-system/net cannot be used", |node| node.add("c1"));
}

type Damage = fn(&Node);

fn text(node: &Node, below: &str, text: &str) {
    let path = node.path(below);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

#[test]
fn networks_in_the_node_directory() {
    let cases: [(u32, &str, Damage); 15] = [
        (6, "run/networks/default/a is damaged", |node| text(node, "run/networks/default/a", "")),
        (6, "run/networks/default/a is damaged", |node| {
            text(node, "run/networks/default/a", "{\"schema\":1}");
        }),
        (6, "move it away", |node| text(node, "run/networks/default/a", "\u{0}\u{1}")),
        (11, "run/networks/default/a has schema version 7", |node| {
            text(node, "run/networks/default/a", "{\"schema\":7,\"x\":[]}");
        }),
        (6, "run/networks/default/a is damaged", |node| {
            let network = json!({"namespace": "default", "name": "a"});
            let list = json!({"name": "n", "plugins": [{"type": "../a"}]});
            let file = json!({"schema": 1, "network": network, "origin": "", "state": "ready", "list": list});
            node.write("run/networks/default/a", &file);
        }),
        (5, "read network default/a: read ", |node| {
            fs::remove_file(node.path("run/networks/default/a")).unwrap();
            fs::create_dir(node.path("run/networks/default/a")).unwrap();
        }),
        (11, "network default/a is not on this node", |node| {
            fs::remove_file(node.path("run/networks/default/a")).unwrap();
        }),
        (7, "network default/a cannot be used: no good", |node| {
            node.outcome("default/a", Outcome::Refused { reason: "no good".to_owned() });
        }),
        (6, "run/node is damaged", |node| {
            fs::remove_file(node.path("run/networks/default/a")).unwrap();
            text(node, "run/node", "?");
        }),
        (11, "named.d holds none with \"name\": \"a\"", |node| {
            node.outcome("default/a", Outcome::OnNode { name: cni::NetworkName::parse("a").unwrap() });
        }),
        (7, "named.d/a.conf", |node| {
            node.outcome("default/a", Outcome::OnNode { name: cni::NetworkName::parse("a").unwrap() });
            text(node, "named.d/a.conf", "{\"name\":\"a\",\"plugins\":[]}");
        }),
        (999, "find plugin absent in ", |node| {
            node.network("default/a", json!({"plugins": [{"type": "absent"}]}));
        }),
        (999, "find plugin directory in ", |node| {
            fs::create_dir(node.path("bin/directory")).unwrap();
            node.network("default/a", json!({"plugins": [{"type": "directory"}]}));
        }),
        (7, "whose \"args\" is not an object", |node| {
            node.network("default/a", json!({"plugins": [{"type": "a", "args": "x"}]}));
        }),
        (7, "whose \"args.cni\" is not an object", |node| {
            node.network("default/a", json!({"plugins": [{"type": "a", "args": {"cni": []}}]}));
        }),
    ];
    for (code, text, damage) in cases {
        let node = node();
        damage(&node);
        let selections = json!([{"name": "b"}, {"name": "a", "cni-args": {"x": 1}}]);
        refused(&node, text, code, text, |node| node.add("c1").selections(&selections));
    }
}

#[test]
fn the_primarys_configuration() {
    for (code, message, list) in [
        (11, "10-cluster.conflist: the configuration is not JSON: the text is empty", ""),
        (11, "not JSON: the text ends too early", "{\"name\":\"n\",\"plug"),
        (6, "not JSON: this is no JSON, which begins with {", "name: yaml"),
        (6, "line 2: JSON has no comments; remove this one (at the ^: ^#…)", "{\n# x\n}"),
        (7, "the configuration is an array, not a JSON object", "[]"),
        (7, "has neither \"type\" (one plugin) nor \"plugins\" (a list)", "{\"name\":\"n\"}"),
        (7, "\"plugins\" is empty", "{\"name\":\"n\",\"plugins\":[]}"),
        (7, "plugins[0] has no \"type\"", "{\"name\":\"n\",\"plugins\":[{}]}"),
        (7, "plugins[0].type is not valid", "{\"name\":\"n\",\"plugins\":[{\"type\":\"/bin/sh\"}]}"),
        (7, "has no \"name\"", "{\"plugins\":[{\"type\":\"primary\"}]}"),
        (7, "\"name\" is not valid", "{\"name\":\"a b\",\"plugins\":[{\"type\":\"primary\"}]}"),
        (
            1,
            "\"cniVersion\" is not supported",
            "{\"cniVersion\":\"3.0.0\",\"name\":\"n\",\"type\":\"primary\"}",
        ),
        (
            7,
            "capabilities.mac is a string, not a boolean",
            "{\"name\":\"n\",\"type\":\"primary\",\"capabilities\":{\"mac\":\"x\"}}",
        ),
        (
            7,
            "the primary network n calls plugin meta-cni, which would call it again",
            "{\"name\":\"n\",\"type\":\"meta-cni\"}",
        ),
        (
            7,
            "calls plugin multus",
            "{\"name\":\"n\",\"plugins\":[{\"type\":\"primary\"},{\"type\":\"multus\"}]}",
        ),
    ] {
        for by_directory in [false, true] {
            let mut node = node();
            text(&node, "net.d/10-cluster.conflist", list);
            if by_directory {
                // Those that are never a primary are passed over there.
                if message.contains("calls plugin") {
                    continue;
                }
                node.set(json!({"clusterNetwork": null, "multusAutoconfigDir": node.path("net.d")}));
                // The next one would give pods another network.
                node.write("net.d/20-next.conf", &json!({"name": "next", "type": "a"}));
            }
            refused(&node, list, code, message, |node| node.add("c1").networks("a"));
        }
    }
}

#[test]
fn pods_and_the_node_directory_itself() {
    let cases: [(u32, &str, Damage); 6] = [
        (6, "run/pods/default/web is damaged", |node| text(node, "run/pods/default/web", "{\"schema\":1}")),
        (11, "run/pods/default/web has schema version 2", |node| {
            text(node, "run/pods/default/web", "{\"schema\":2}");
        }),
        (11, "run/pods/default/web does not exist", |_| {}),
        (7, "pod default/web: annotation k8s.v1.cni.cncf.io/networks: networks[0]", |node| {
            let annotations = json!({NETWORKS: "A"});
            let facts = json!({"schema": 1, "namespace": "default", "name": "web", "uid": "uid-1", "annotations": annotations});
            fs::create_dir_all(node.path("run/pods/default")).unwrap();
            node.write("run/pods/default/web", &facts);
        }),
        (5, "state/attachments/c1: Not a directory", |node| {
            pod(node);
            text(node, "state", "a file, not a directory");
        }),
        (5, "write ", |node| {
            pod(node);
            text(node, "run/locks", "a file, not a directory");
        }),
    ];
    for (code, message, damage) in cases {
        let node = node();
        damage(&node);
        refused(&node, message, code, message, |node| node.add("c1").without_annotations());
    }
}

fn pod(node: &Node) {
    let annotations = json!({});
    let facts = json!({"schema": 1, "namespace": "default", "name": "web", "uid": "uid-1", "annotations": annotations});
    fs::create_dir_all(node.path("run/pods/default")).unwrap();
    node.write("run/pods/default/web", &facts);
}
