//! What is not there yet: waited for within a bound, then refused with what to do.

use std::collections::BTreeMap;
use std::fs;
use std::time::Instant;

use serde_json::{Value, json};
use store::network::Outcome;
use store::node::NodeFacts;
use store::pod::PodFacts;

use crate::harness::{LONG, NETWORKS, Node};

/// Writes the file of the pod `default/web`.
fn write_pod(node: &Node, uid: &str, annotations: &[(&str, &str)]) {
    let annotations = annotations.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let (namespace, name) = ("default".to_owned(), "web".to_owned());
    let facts = PodFacts {
        namespace,
        name,
        uid: uid.to_owned(),
        annotations: annotations.collect::<BTreeMap<_, _>>(),
    };
    facts.write(&node.dir()).unwrap();
}

#[test]
fn a_network_that_comes_while_add_waits_is_used() {
    let mut node = Node::new();
    node.install("a");
    node.set(json!({"networkWait": "20s"}));
    let running = node.add("c1").networks("a").start();
    running.await_watch();
    assert!(node.calls().is_empty(), "nothing runs before the plan is whole");
    node.network("default/a", json!({"plugins": [{"type": "a"}]}));
    running.answer().result();
    assert_eq!(node.done(), ["ADD primary eth0", "ADD a net1"]);
}

#[test]
fn a_network_from_before_a_reboot_is_not_used_until_the_operator_has_been_at_it() {
    let mut node = Node::with(&["a"]);
    let now = NodeFacts::complete_now("test");
    NodeFacts { boot_id: "an earlier boot".to_owned(), ..now.clone() }.write(&node.dir()).unwrap();
    let error = node.add("c1").networks("a").error();
    assert_eq!(error.code.0, 11);
    let path = node.path("run/networks/default/a").display().to_string();
    let expected = format!("network default/a is not known in this boot: {path} was written before");
    assert!(error.msg.starts_with(&expected), "{error}");
    node.set(json!({"networkWait": "20s"}));
    let running = node.add("c1").networks("a").start();
    running.await_watch();
    now.write(&node.dir()).unwrap();
    running.answer().result();
    assert_eq!(node.done(), ["ADD primary eth0", "ADD a net1"]);
}

#[test]
fn a_pod_file_that_comes_while_add_waits_is_used() {
    let mut node = Node::with(&["a"]);
    node.set(json!({"networkWait": "20s"}));
    write_pod(&node, "uid-0", &[]);
    let running = node.add("c1").without_annotations().start();
    running.await_watch();
    write_pod(&node, "uid-1", &[(NETWORKS, "a")]);
    running.answer().result();
    assert_eq!(node.done(), ["ADD primary eth0", "ADD a net1"]);
}

#[test]
fn a_primary_that_comes_or_is_completed_while_add_waits_is_used() {
    for before in [None, Some("{\"name\": \"clu")] {
        for by_directory in [false, true] {
            let mut node = Node::new();
            node.set(json!({"readinessWait": "20s"}));
            if by_directory {
                node.set(json!({"clusterNetwork": null, "multusAutoconfigDir": node.path("net.d")}));
            }
            let path = node.path("net.d/10-cluster.conflist");
            match before {
                None => fs::remove_file(&path).unwrap(),
                Some(text) => fs::write(&path, text).unwrap(),
            }
            let running = node.add("c1").start();
            running.await_watch();
            node.cluster(json!({"plugins": [{"type": "primary"}]}));
            running.answer().result();
        }
    }
}

#[test]
fn add_waits_for_the_readiness_file() {
    let mut node = Node::new();
    node.set(json!({"readinessWait": "20s", "readinessindicatorfile": node.path("agent/ready")}));
    let running = node.add("c1").start();
    running.await_watch();
    fs::create_dir(node.path("agent")).unwrap();
    fs::write(node.path("agent/ready"), "").unwrap();
    running.answer().result();
}

#[test]
fn what_does_not_come_is_refused_with_its_path_and_what_to_do() {
    type Prepare = fn(&mut Node);
    let cases: [(&str, &str, Prepare); 9] = [
        ("run/networks/default/a does not exist", "create it if it is missing", |_| {}),
        ("run/networks/default/a does not exist", "see that it runs on this node", |node| {
            fs::remove_file(node.path("run/node")).unwrap();
        }),
        ("run/networks/default/a does not exist", "it may only be unseen", |node| {
            NodeFacts::partial_now("test").write(&node.dir()).unwrap();
        }),
        ("named.d holds none with \"name\": \"a\"", "default/a has no configuration of its own", |node| {
            node.outcome("default/a", Outcome::OnNode { name: cni::NetworkName::parse("a").unwrap() });
        }),
        (
            "run/pods/default/web does not exist",
            "\"capabilities\": {\"io.kubernetes.cri.pod-annotations\": true} in meta-cni's",
            |node| {
                node.set(json!({"runtimeConfig": {"portMappings": []}}));
            },
        ),
        (
            "named.d holds no configuration with that name",
            "setting defaultNetworks names network x",
            |node| {
                node.set(json!({"defaultNetworks": ["x"]}));
            },
        ),
        ("named.d holds no configuration with that name", "setting clusterNetwork names network x", |node| {
            node.set(json!({"clusterNetwork": "x"}));
        }),
        ("net.d holds no CNI configuration", "or set \"clusterNetwork\"", |node| {
            fs::remove_file(node.path("net.d/10-cluster.conflist")).unwrap();
            node.set(json!({"clusterNetwork": null, "multusAutoconfigDir": node.path("net.d")}));
        }),
        ("ready, which \"readinessindicatorfile\" names, does not exist", "when it is up", |node| {
            node.set(json!({"readinessindicatorfile": node.path("ready")}));
        }),
    ];
    for (what, advice, prepare) in cases {
        let mut node = Node::new();
        node.set(json!({"networkWait": "50ms", "readinessWait": "50ms"}));
        prepare(&mut node);
        let run = node.add("c1");
        // A pod's file is asked for only if the runtime has no annotations.
        let run = if what.contains("pods") { run.without_annotations() } else { run.networks("a") };
        let error = run.error();
        assert_eq!(error.code.0, 11, "{error}");
        let place = what.split(' ').next().unwrap();
        let path = node.path(place).display().to_string();
        assert!(error.msg.contains(&path) || !place.contains(['/', '.']), "{error}");
        assert!(error.msg.contains(what) && error.msg.contains(advice), "{error}");
        assert!(node.calls().is_empty() && node.leftovers().is_empty());
    }
}

#[test]
fn a_network_that_was_refused_is_refused_at_once() {
    let mut node = Node::new();
    node.set(json!({"networkWait": "1h"}));
    let reason = "plugins[0] has no \"type\"".to_owned();
    node.outcome("default/a", Outcome::Refused { reason });
    let begun = Instant::now();
    let error = node.add("c1").networks("a").error();
    assert!(begun.elapsed() < LONG);
    assert_eq!(error.code.0, 7);
    let expected = "network default/a cannot be used: plugins[0] has no \"type\" (from networks.yaml)";
    assert_eq!(error.msg, expected);
}

#[test]
fn the_pods_file_serves_where_the_runtime_passes_no_annotations() {
    let args = |uid: &str| format!("K8S_POD_NAMESPACE=default;K8S_POD_NAME=web{uid}");
    let file = ("kubernetes.io/config.source", "file");
    let api = ("kubernetes.io/config.source", "api");
    let a = (NETWORKS, "a");
    for (annotations, args, served) in [
        (vec![a], args(";K8S_POD_UID=uid-1"), true),
        (vec![a, api], args(";K8S_POD_UID=uid-1"), true),
        (vec![a], args(""), true),
        (vec![a], args(";K8S_POD_UID=uid-2"), false),
        (vec![a, api], args(";K8S_POD_UID=uid-2"), false),
        // The uid of a static pod is another one for the runtime than for the API server.
        (vec![a, file], args(";K8S_POD_UID=uid-2"), true),
    ] {
        let node = Node::with(&["a"]);
        write_pod(&node, "uid-1", &annotations);
        let answer = node.add("c1").without_annotations().env("CNI_ARGS", &args).answer();
        if served {
            answer.result();
            assert_eq!(node.done(), ["ADD primary eth0", "ADD a net1"], "{args}");
        } else {
            let error = answer.error();
            assert_eq!(error.code.0, 11);
            let expected = "those that are there are about uid uid-1, the runtime asks for uid uid-2";
            assert!(error.msg.contains(expected), "{error}");
            assert!(node.calls().is_empty());
        }
    }
}

#[test]
fn what_the_runtime_says_wins_over_the_pods_file() {
    let node = Node::with(&["a", "b"]);
    write_pod(&node, "uid-1", &[(NETWORKS, "a")]);
    node.add("c1").networks("b").result();
    assert_eq!(node.done(), ["ADD primary eth0", "ADD b net1"]);
    node.forget();
    node.add("c2").capability(crate::harness::ANNOTATIONS, Value::Null).result();
    assert_eq!(node.done(), ["ADD primary eth0"]);
}
