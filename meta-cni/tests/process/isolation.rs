//! Namespaces: which networks a pod may name, and which pods get default networks.

use serde_json::json;

use crate::harness::{DEFAULT_NETWORK, NETWORKS, Node};

fn pod(namespace: &str) -> String {
    format!("K8S_POD_NAMESPACE={namespace};K8S_POD_NAME=web")
}

#[test]
fn isolation_holds_wherever_a_pod_names_a_network() {
    for annotation in [NETWORKS, DEFAULT_NETWORK] {
        for (settings, network, permitted) in [
            (json!({}), "other/net", true),
            (json!({"namespaceIsolation": false}), "other/net", true),
            (json!({"namespaceIsolation": true}), "other/net", false),
            (json!({"namespaceIsolation": true}), "app/net", true),
            (json!({"namespaceIsolation": true}), "default/net", true),
            (json!({"namespaceIsolation": true}), "kube-system/net", false),
            (json!({"namespaceIsolation": true, "globalNamespaces": "shared, other"}), "other/net", true),
            (json!({"namespaceIsolation": true, "globalNamespaces": ["other"]}), "other/net", true),
            (json!({"namespaceIsolation": true, "globalNamespaces": "shared"}), "default/net", false),
            (json!({"NamespaceIsolation": true}), "other/net", false),
            (json!({"NAMESPACEISOLATION": true, "GlobalNamespaces": ["shared"]}), "default/net", false),
        ] {
            for form in [network.to_owned(), json_form(network)] {
                let mut node = Node::new();
                node.install("a");
                node.network(network, json!({"plugins": [{"type": "a"}]}));
                node.set(settings.clone());
                let answer =
                    node.add("c1").env("CNI_ARGS", pod("app")).annotation(annotation, &form).answer();
                if permitted {
                    answer.result();
                    assert!(node.done().iter().any(|call| call.starts_with("ADD a ")), "{settings} {form}");
                    continue;
                }
                let error = answer.error();
                assert_eq!(error.code.0, 7, "{settings} {form}");
                let expected =
                    format!("a pod of namespace app may not use network {network}, only networks of");
                assert!(error.msg.contains(&expected) && error.msg.contains(annotation), "{error}");
                assert!(node.calls().is_empty() && node.leftovers().is_empty());
            }
        }
    }
}

fn json_form(network: &str) -> String {
    let (namespace, name) = network.split_once('/').unwrap();
    json!([{"namespace": namespace, "name": name}]).to_string()
}

#[test]
fn one_network_that_is_not_permitted_is_enough_and_is_not_even_looked_for() {
    let mut node = Node::with(&["a"]);
    node.set(json!({"namespaceIsolation": true, "networkWait": "1h"}));
    let error = node.add("c1").networks("a,other/absent").error();
    assert_eq!(error.code.0, 7, "{error}");
    assert!(node.calls().is_empty());
}

#[test]
fn what_the_administrator_names_is_not_isolated() {
    let mut node = Node::new();
    node.install("a");
    node.network("nets/a", json!({"plugins": [{"type": "a"}]}));
    let named = json!({"defaultNetworks": ["a"], "multusNamespace": "nets", "namespaceIsolation": true});
    node.set(named);
    node.add("c1").env("CNI_ARGS", pod("app")).result();
    assert_eq!(node.done(), ["ADD primary eth0", "ADD a net1"]);
}

#[test]
fn pods_of_system_namespaces_get_no_default_networks() {
    for (system, namespace, expected) in [
        (json!(null), "kube-system", 1),
        (json!(null), "app", 2),
        (json!(["app", "admin"]), "app", 1),
        (json!(["app", "admin"]), "kube-system", 2),
        (json!([]), "kube-system", 2),
    ] {
        let mut node = Node::with(&["a"]);
        node.set(json!({"defaultNetworks": ["a"], "multusNamespace": "default", "systemNamespaces": system}));
        node.add("c1").env("CNI_ARGS", pod(namespace)).result();
        assert_eq!(node.done().len(), expected, "{system} {namespace}");
    }
}
