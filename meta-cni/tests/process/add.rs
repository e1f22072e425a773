//! ADD that succeeds: who is called, with what, and what the runtime gets.

use serde_json::{Value, json};

use crate::harness::{ANNOTATIONS, DEFAULT_NETWORK, NETWORKS, Node};

#[test]
fn the_primary_comes_first_then_default_networks_then_the_pods_own() {
    let mut node = Node::with(&["a", "b", "sidecar"]);
    node.install("audit");
    let audit = json!({"cniVersion": "1.0.0", "name": "audit", "type": "audit"});
    node.write("named.d/audit.conf", &audit);
    node.set(json!({"defaultNetworks": ["sidecar", "audit"], "multusNamespace": "default"}));
    node.add("c1").networks("b, a@data, default/b").result();
    let expected =
        ["ADD primary eth0", "ADD sidecar net1", "ADD audit net2", "ADD b net3", "ADD a data", "ADD b net5"];
    assert_eq!(node.take_done(), expected);
    node.del("c1").succeed();
    let mut reversed = expected.map(|call| call.replace("ADD", "DEL"));
    reversed.reverse();
    assert_eq!(node.done(), reversed);
    assert!(node.leftovers().is_empty(), "{:?}", node.leftovers());
}

#[test]
fn a_delegate_gets_the_environment_of_the_specification() {
    let node = Node::with(&["a"]);
    let bin = node.path("bin").display().to_string();
    let args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web";
    node.add("c1")
        .env("CNI_ARGS", args)
        .env("CNI_PATH", format!("/opt/one:{bin}::/opt/two:/opt/one"))
        .env("CNI_EXTRA", "inherited")
        .networks("a")
        .result();
    for (call, if_name) in node.calls().iter().zip(["eth0", "net1"]) {
        let env: Vec<_> = call.env.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
        assert_eq!(
            env,
            [
                ("CNI_ARGS", args.to_owned()),
                ("CNI_COMMAND", "ADD".to_owned()),
                ("CNI_CONTAINERID", "c1".to_owned()),
                ("CNI_EXTRA", "inherited".to_owned()),
                ("CNI_IFNAME", if_name.to_owned()),
                ("CNI_NETNS", node.path("netns").display().to_string()),
                ("CNI_PATH", format!("{bin}:/opt/one:/opt/two")),
            ]
        );
    }
}

#[test]
fn a_delegate_gets_its_configuration_with_name_version_and_the_result_before_it() {
    let node = Node::new();
    node.install("first");
    node.install("second");
    let plugins = json!([
        {"type": "first", "keep": {"deep": [1, null]}, "address": "10.9.0.2/24"},
        {"type": "second", "name": "not this", "cniVersion": "0.1.0"},
    ]);
    node.network("default/a", json!({"name": "own-name", "cniVersion": "0.4.0", "plugins": plugins}));
    node.add("c1").networks("a").result();
    let calls = node.calls();
    assert_eq!(
        calls[1].stdin,
        json!({
            "type": "first", "keep": {"deep": [1, null]}, "address": "10.9.0.2/24",
            "name": "own-name", "cniVersion": "0.4.0",
        })
    );
    let sandbox = node.path("netns");
    let before = json!({
        "cniVersion": "0.4.0",
        "interfaces": [{"name": "net1", "mac": "02:00:00:00:00:01", "sandbox": sandbox}],
        "ips": [{"version": "4", "address": "10.9.0.2/24", "interface": 0}],
    });
    let second = json!({"type": "second", "name": "own-name", "cniVersion": "0.4.0", "prevResult": before});
    assert_eq!(calls[2].stdin, second);
    node.forget();
    node.del("c1").succeed();
    assert_eq!(node.calls()[0].stdin, second, "DEL gets the result of the whole list");
    assert_eq!(node.calls()[1].stdin["prevResult"], before);
}

#[test]
fn what_the_runtime_asks_reaches_the_primary_only_and_only_what_a_plugin_declares() {
    let node = Node::new();
    for plugin in ["portmap", "a"] {
        node.install(plugin);
    }
    let declared = json!({"portMappings": true, "dns": false, ANNOTATIONS: true});
    node.cluster(json!({"plugins": [{"type": "primary"}, {"type": "portmap", "capabilities": declared}]}));
    let capabilities = json!({"portMappings": true, "mac": true, "bandwidth": true});
    node.network("default/a", json!({"plugins": [{"type": "a", "capabilities": capabilities}]}));
    let ports = json!([{"hostPort": 80, "containerPort": 8080, "protocol": "tcp"}]);
    node.add("c1")
        .capability("portMappings", ports.clone())
        .capability("dns", json!({"servers": ["10.0.0.10"]}))
        .selections(&json!([{"name": "a", "mac": "02-AA-00-00-00-09"}]))
        .result();
    let calls = node.calls();
    assert_eq!(calls[0].stdin.get("runtimeConfig"), None, "it declares nothing");
    assert_eq!(calls[1].stdin["runtimeConfig"]["portMappings"], ports);
    assert!(calls[1].stdin["runtimeConfig"][ANNOTATIONS].is_object());
    assert_eq!(calls[1].stdin["runtimeConfig"].get("dns"), None);
    assert_eq!(calls[2].stdin["runtimeConfig"], json!({"mac": "02:aa:00:00:00:09"}));
    node.forget();
    node.del("c1").succeed();
    assert_eq!(node.calls()[0].stdin["runtimeConfig"], json!({"mac": "02:aa:00:00:00:09"}), "DEL too");
    assert_eq!(node.calls()[1].stdin["runtimeConfig"]["portMappings"], ports);
}

#[test]
fn every_wish_of_a_selection_reaches_its_plugins() {
    let node = Node::new();
    node.install("a");
    let capabilities =
        json!({"ips": true, "mac": true, "infinibandGUID": true, "bandwidth": true, "portMappings": true});
    let args = json!({"cni": {"colour": "red", "size": 1}, "other": true});
    let plugin = json!({"type": "a", "capabilities": capabilities, "args": args});
    node.network("default/a", json!({"plugins": [plugin]}));
    node.add("c1")
        .env("CNI_ARGS", "IP=10.0.0.1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web;MAC=02:00:00:00:00:99")
        .selections(&json!([{"name": "a", "ips": ["10.1.0.6"]}, {
            "name": "a", "namespace": "default", "interface": "data",
            "ips": ["10.1.0.5/24", "fd00::5"], "mac": "02:00:00:00:00:05",
            "infiniband-guid": "00:11:22:33:44:55:66:77",
            "bandwidth": {"ingressRate": 1000, "ingressBurst": 2000},
            "portMappings": [{"hostPort": 81, "containerPort": 8081}],
            "cni-args": {"size": 2, "shape": ["round"]},
        }]))
        .result();
    let calls = node.calls();
    assert_eq!(
        calls[2].stdin["runtimeConfig"],
        json!({
            "ips": ["10.1.0.5/24", "fd00::5"], "mac": "02:00:00:00:00:05",
            "infinibandGUID": "00:11:22:33:44:55:66:77",
            "bandwidth": {"ingressRate": 1000, "ingressBurst": 2000},
            "portMappings": [{"hostPort": 81, "containerPort": 8081, "protocol": "tcp"}],
        })
    );
    let merged = json!({"cni": {"colour": "red", "size": 2, "shape": ["round"]}, "other": true});
    assert_eq!(calls[2].stdin["args"], merged);
    assert_eq!(calls[2].env["CNI_IFNAME"], "data");
    let pod = "K8S_POD_NAMESPACE=default;K8S_POD_NAME=web";
    let runtimes = format!("IP=10.0.0.1;{pod};MAC=02:00:00:00:00:99");
    assert_eq!(calls[0].env["CNI_ARGS"], runtimes, "what the runtime asks for is the primary's");
    assert_eq!(calls[1].env["CNI_ARGS"], format!("{pod};IgnoreUnknown=true;IP=10.1.0.6"));
    // host-local reads one address there and fails at two.
    assert_eq!(calls[2].env["CNI_ARGS"], format!("{pod};IgnoreUnknown=true;MAC=02:00:00:00:00:05"));
}

#[test]
fn a_container_that_is_no_pod_gets_the_networks_of_the_node() {
    for args in ["", "K8S_POD_NAME=web", "FOO=bar"] {
        let mut node = Node::with(&["sidecar"]);
        node.set(json!({"defaultNetworks": ["sidecar"], "multusNamespace": "default"}));
        node.add("c1").env("CNI_ARGS", args).result();
        assert_eq!(node.done(), ["ADD primary eth0", "ADD sidecar net1"], "{args:?}");
    }
}

#[test]
fn a_pod_without_annotations_gets_the_primary_whatever_form_nothing_has() {
    for annotations in [json!({}), Value::Null, json!({NETWORKS: ""}), json!({NETWORKS: "[]"})] {
        let node = Node::new();
        node.add("c1").capability(ANNOTATIONS, annotations.clone()).result();
        assert_eq!(node.done(), ["ADD primary eth0"], "{annotations}");
    }
}

#[test]
fn the_primary_is_named_or_given_or_the_first_of_a_directory() {
    let mut node = Node::with(&["a", "b"]);
    node.write("net.d/00-braid.conflist", &json!({"name": "braid", "plugins": [{"type": "meta-cni"}]}));
    node.write("net.d/00-multus.conf", &json!({"name": "multus", "type": "multus"}));
    node.write("net.d/05-other.conf", &json!({"name": "other", "type": "multus-shim"}));
    node.write("net.d/07-text.txt", &json!("no configuration"));
    node.write("named.d/named.conf", &json!({"name": "by-name", "type": "b"}));
    let of = |name: &str| json!({"name": name, "type": name, "cniVersion": "1.0.0"});
    for (settings, expected) in [
        (json!({"clusterNetwork": node.path("net.d/10-cluster.conflist")}), vec!["ADD primary eth0"]),
        (json!({"clusterNetwork": node.path("net.d")}), vec!["ADD primary eth0"]),
        (
            json!({"clusterNetwork": null, "multusAutoconfigDir": node.path("net.d")}),
            vec!["ADD primary eth0"],
        ),
        (json!({"clusterNetwork": "a", "multusNamespace": "default"}), vec!["ADD a eth0"]),
        (json!({"clusterNetwork": "by-name"}), vec!["ADD b eth0"]),
        (json!({"clusterNetwork": null, "delegates": [of("a")]}), vec!["ADD a eth0"]),
        (json!({"clusterNetwork": null, "delegates": [of("a"), of("b")]}), vec!["ADD a eth0", "ADD b net1"]),
    ] {
        node.set(json!({"delegates": null, "multusAutoconfigDir": null, "multusNamespace": null}));
        node.set(settings.clone());
        // 0.1.0 of `by-name`, which names no version, cannot tell of more than an address.
        node.add("c1").set(json!({"cniVersion": "0.3.1"})).result();
        assert_eq!(node.take_done(), expected, "{settings}");
        node.del("c1").succeed();
        node.forget();
    }
}

#[test]
fn plugins_of_the_primarys_subdirectory_are_part_of_it() {
    let node = Node::new();
    node.install("chained");
    std::fs::create_dir(node.path("net.d/cluster")).unwrap();
    node.write("net.d/cluster/10-chained.conf", &json!({"type": "chained"}));
    node.add("c1").result();
    assert_eq!(node.done(), ["ADD primary eth0", "ADD chained eth0"]);
    node.cluster(json!({"plugins": [{"type": "primary"}], "loadOnlyInlinedPlugins": true}));
    node.forget();
    node.add("c2").result();
    assert_eq!(node.done(), ["ADD primary eth0"]);
}

#[test]
fn a_pod_may_choose_another_primary() {
    let node = Node::with(&["a", "b"]);
    node.network("kube-system/fast", json!({"plugins": [{"type": "b"}]}));
    node.add("c1").annotation(DEFAULT_NETWORK, "fast").networks("a").result();
    assert_eq!(node.done(), ["ADD b eth0", "ADD a net1"]);
}

#[test]
fn a_network_without_a_configuration_of_its_own_is_found_on_the_node_by_its_name() {
    let node = Node::new();
    node.install("a");
    node.write("named.d/05-broken.conf", &json!([]));
    node.write("named.d/10-x.conf", &json!({"name": "on-node", "type": "a", "cniVersion": "0.4.0"}));
    let name = cni::NetworkName::parse("on-node").unwrap();
    node.outcome("default/on-node", store::network::Outcome::OnNode { name });
    node.add("c1").networks("on-node").result();
    assert_eq!(node.done(), ["ADD primary eth0", "ADD a net1"]);
    assert_eq!(node.calls()[1].stdin["name"], "on-node");
}

#[test]
fn networks_of_one_name_in_two_namespaces_keep_the_names_that_were_rendered_for_them() {
    let node = Node::new();
    node.install("a");
    for namespace in ["default", "other"] {
        node.network(&format!("{namespace}/net"), json!({"plugins": [{"type": "a"}]}));
    }
    node.add("c1").networks("net, other/net, net").result();
    let names: Vec<_> = node.calls().iter().map(|call| call.stdin["name"].clone()).collect();
    assert_eq!(names, ["cluster", "default_net", "other_net", "default_net"]);
}

#[test]
fn an_ipam_plugin_that_is_not_there_is_refused_before_anything_runs() {
    let node = Node::new();
    for plugin in ["bridge", "vendor"] {
        node.install(plugin);
        let plugins = json!([{"type": plugin, "ipam": {"type": "pool"}}]);
        node.network(&format!("default/{plugin}"), json!({"plugins": plugins}));
    }
    let error = node.add("c1").networks("bridge").error();
    let expected = "network default/bridge, interface net1: ipam of plugin bridge: find plugin pool in ";
    assert!(error.msg.starts_with(expected), "{error}");
    assert!(node.calls().is_empty() && node.record("c1").is_none());
    // What others have under that name is their own affair.
    node.add("c1").networks("vendor").result();
    node.install("pool");
    node.add("c2").networks("bridge").result();
}
