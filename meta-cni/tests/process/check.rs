//! CHECK, STATUS and VERSION.

use std::fs;

use serde_json::json;
use store::node::NodeFacts;

use crate::harness::Node;

#[test]
fn check_asks_every_plugin_in_order_with_the_recorded_result() {
    let node = Node::with(&["a", "b"]);
    node.add("c1").networks("a,b").result();
    node.forget();
    fs::remove_dir_all(node.path("run/networks")).unwrap();
    node.check("c1").succeed();
    assert_eq!(node.done(), ["CHECK primary eth0", "CHECK a net1", "CHECK b net2"]);
    for call in node.calls() {
        assert_eq!(call.stdin["prevResult"]["interfaces"][0]["name"], call.env["CNI_IFNAME"].as_str());
    }
    node.forget();
    node.fail("a", "CHECK", 42);
    // A plugin's own complaint about a further network ends no sandbox, unless it is to.
    let answer = node.check("c1").answer();
    answer.succeed();
    let complaint = "network default/a, interface net1: plugin a: a cannot CHECK";
    assert!(
        answer.log().iter().any(|line| line["level"] == "warn" && line["error"] == complaint),
        "{answer:?}"
    );
    assert_eq!(node.take_done(), ["CHECK primary eth0", "CHECK a net1", "CHECK b net2"]);
    let noted =
        || node.record("c1").unwrap().attachments.into_iter().map(|it| it.complaint).collect::<Vec<_>>();
    assert_eq!(noted(), [None, Some(complaint.to_owned()), None]);
    node.mend("a", "CHECK");
    node.check("c1").succeed();
    assert_eq!(noted(), [None, None, None]);
    node.fail("a", "CHECK", 42);
    node.forget();
    let error = node.check("c1").set(json!({"check": "all"})).error();
    assert_eq!((error.code.0, error.msg.as_str()), (42, complaint));
    assert_eq!(node.done(), ["CHECK primary eth0", "CHECK a net1"]);
    node.fail("primary", "CHECK", 43);
    assert_eq!(node.check("c1").error().code.0, 43);
}

#[test]
fn networks_that_cannot_be_checked_are_passed_over() {
    let node = Node::with(&["a", "b"]);
    node.network("default/a", json!({"disableCheck": true, "plugins": [{"type": "a"}]}));
    node.network("default/b", json!({"cniVersion": "0.3.1", "plugins": [{"type": "b"}]}));
    node.add("c1").networks("a,b").result();
    node.forget();
    node.check("c1").succeed();
    assert_eq!(node.done(), ["CHECK primary eth0"]);
}

#[test]
fn a_container_that_is_not_attached_is_unknown() {
    let node = Node::new();
    assert_eq!(node.check("never").error().code.0, 3);
    node.add("c1").result();
    node.del("c1").succeed();
    assert_eq!(node.check("c1").error().code.0, 3);
    node.add("c2").result();
    assert_eq!(node.check("c2").env("CNI_IFNAME", "eth1").error().code.0, 3);
    node.fail("primary", "DEL", 42);
    node.del("c2").error();
    assert_eq!(node.check("c2").error().code.0, 3, "half deleted");
}

#[test]
fn status_asks_the_primary_and_keeps_its_code() {
    let node = Node::with(&["a"]);
    node.install("chained");
    let plugins = json!([{"type": "primary"}, {"type": "chained"}]);
    node.cluster(json!({"cniVersion": "1.1.0", "plugins": plugins}));
    node.status().succeed();
    assert_eq!(node.take_done(), ["STATUS primary", "STATUS chained"]);
    for code in [50, 51, 100] {
        node.fail("chained", "STATUS", code);
        let error = node.status().error();
        assert_eq!(error.code.0, code);
        assert_eq!(error.msg, "network cluster: plugin chained: chained cannot STATUS");
    }
    node.forget();
    node.cluster(json!({"cniVersion": "1.0.0", "plugins": plugins}));
    node.status().succeed();
    assert!(node.calls().is_empty(), "older plugins know no STATUS");
}

#[test]
fn status_is_50_while_add_cannot_be_served_and_never_waits() {
    type Damage = fn(&mut Node);
    let damages: [(&str, Damage); 4] = [
        ("10-cluster.conflist", |node| fs::remove_file(node.path("net.d/10-cluster.conflist")).unwrap()),
        ("10-cluster.conflist", |node| fs::write(node.path("net.d/10-cluster.conflist"), "[]").unwrap()),
        ("there is no primary network", |node| {
            fs::remove_file(node.path("net.d/10-cluster.conflist")).unwrap();
            node.set(json!({"clusterNetwork": node.path("net.d")}));
        }),
        ("which \"readinessindicatorfile\" names, does not exist", |node| {
            node.set(json!({"readinessindicatorfile": node.path("ready")}));
        }),
    ];
    for (text, damage) in damages {
        let mut node = Node::new();
        node.set(json!({"readinessWait": "1h", "networkWait": "1h"}));
        damage(&mut node);
        let error = node.status().error();
        assert_eq!(error.code.0, 50, "{error}");
        assert!(error.msg.contains(text), "{error}");
    }
}

#[test]
fn status_does_not_need_the_networks_of_the_node_unless_it_is_told_to() {
    type Damage = fn(&Node);
    let damages: [(&str, Damage); 4] = [
        ("does not say that this node's networks are complete", |node| {
            fs::remove_file(node.path("run/node")).unwrap();
        }),
        ("does not say that this node's networks are complete", |node| {
            let facts = NodeFacts { boot_id: "another".to_owned(), ..NodeFacts::complete_now("test") };
            facts.write(&node.dir()).unwrap();
        }),
        ("run/node is damaged", |node| fs::write(node.path("run/node"), "{").unwrap()),
        ("run/node has schema version 9", |node| node.write("run/node", &json!({"schema": 9}))),
    ];
    for (text, damage) in damages {
        let mut node = Node::new();
        damage(&node);
        // It is no stricter than ADD of a pod that asks for no network.
        node.status().succeed();
        node.add("c1").result();
        node.set(json!({"statusNeedsNetworks": true}));
        let error = node.status().error();
        assert!(error.code.0 == 50 && error.msg.contains(text), "{error}");
    }
}

#[test]
fn a_partial_list_of_networks_does_not_hold_up_the_node() {
    let node = Node::new();
    NodeFacts::partial_now("test").write(&node.dir()).unwrap();
    node.status().succeed();
}

#[test]
fn version_needs_nothing() {
    let node = Node::new();
    let all = json!(["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]);
    for (stdin, version) in [
        ("", "1.1.0"),
        ("nonsense", "1.1.0"),
        ("{\"cniVersion\":\"0.4.0\"}", "0.4.0"),
        ("{\"cniVersion\":\"9.0.0\"}", "1.1.0"),
    ] {
        let result = node.version().without("CNI_PATH").stdin(stdin).result();
        assert_eq!(result, json!({"cniVersion": version, "supportedVersions": all}), "{stdin}");
    }
}
