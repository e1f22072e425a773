//! Braid is taken away: its configuration stays, retired, until the last of its containers is gone.

use std::fs;

use serde_json::{Value, json};
use store::leaving;
use store::lock::Lock;

use crate::harness::{LONG, Node, Run};

/// A node that Braid leaves: `c1` is attached to networks `a` and `b`, and the file is retired. What comes next is the
/// primary, whose list is now of another plugin as well.
fn node() -> Node {
    let node = Node::with(&["a", "b"]);
    node.add("c1").networks("a,b").result();
    node.install("next");
    node.cluster(
        json!({"plugins": [{"type": "primary"}, {"type": "next", "capabilities": {"portMappings": true}}]}),
    );
    write_configuration(&node, true);
    node.forget();
    node
}

fn write_configuration(node: &Node, retired: bool) {
    let text = json!({"cniVersion": "1.1.0", "name": "braid", "plugins": [{"type": "meta-cni"}]}).to_string();
    let text = if retired { leaving::retired(text.as_bytes(), &node.path("net.d")).unwrap() } else { text };
    fs::write(configuration(node), text).unwrap();
}

fn configuration(node: &Node) -> std::path::PathBuf {
    node.path("net.d").join(leaving::FILE)
}

trait Retired {
    fn retired(self) -> Self;
}

impl Retired for Run<'_> {
    fn retired(self) -> Self {
        self.set(json!({"retired": true}))
    }
}

/// Multus as the next configuration, with the steerable plugin in its place.
fn multus(node: &Node, config: Value) {
    let mut conf = json!({"cniVersion": "0.3.1", "name": "multus-cni-network", "type": "multus-shim"});
    conf.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
    node.write("net.d/00-multus.conf", &conf);
    node.install("multus-shim");
}

#[test]
fn a_new_container_is_handed_on_and_gets_no_record() {
    let node = node();
    let ports = json!([{"hostPort": 80}]);
    let run = node.add("c2").networks("a,absent").capability("portMappings", ports.clone()).retired();
    let result = run.result();
    assert_eq!(result["cniVersion"], "1.1.0", "the runtime's version");
    assert_eq!(result["ips"][0]["address"], "10.0.0.2/24");
    assert_eq!(node.done(), ["ADD primary eth0", "ADD next eth0"]);
    let call = &node.calls()[1];
    assert_eq!((&call.stdin["name"], &call.stdin["cniVersion"]), (&"cluster".into(), &"1.0.0".into()));
    assert_eq!(call.stdin["runtimeConfig"], json!({"portMappings": ports}));
    assert!(call.env["CNI_ARGS"].contains("K8S_POD_NAME=web"));
    assert!(node.record("c2").is_none());
    node.forget();
    node.del("c2").set(json!({"prevResult": result})).retired().succeed();
    assert_eq!(node.done(), ["DEL next eth0", "DEL primary eth0"]);
    assert_eq!(node.calls()[0].stdin["prevResult"]["ips"][0]["address"], "10.0.0.2/24");
    assert!(node.record("c2").is_none());
}

#[test]
fn the_last_container_takes_the_configuration_with_it() {
    let node = node();
    node.add("c2").result();
    node.forget();
    node.del("c1").retired().succeed();
    assert_eq!(node.take_done(), ["DEL b net2", "DEL a net1", "DEL primary eth0"], "as recorded");
    assert!(configuration(&node).exists(), "c2 is still there");
    node.fail("primary", "DEL", 42);
    node.del("c2").retired().error();
    assert!(configuration(&node).exists(), "it has to be undone yet");
    node.mend("primary", "DEL");
    node.del("c2").retired().succeed();
    assert!(!configuration(&node).exists());
    node.forget();
    node.del("c2").retired().succeed();
    assert!(node.done().is_empty(), "the runtime repeats DEL; what comes next has nothing of the container");
}

#[test]
fn a_runtime_that_calls_with_the_configuration_of_add_ends_it_too() {
    let node = node();
    node.del("c1").succeed();
    assert!(!configuration(&node).exists());
}

#[test]
fn what_another_run_left_undone_may_be_the_last_too() {
    let node = node();
    node.fail("a", "DEL", 42);
    node.del("c1").error();
    node.mend("a", "DEL");
    node.add("c2").retired().result();
    assert!(node.record("c1").is_none());
    assert!(!configuration(&node).exists());
}

#[test]
fn gc_by_hand_ends_it_as_well() {
    let node = node();
    fs::remove_file(node.path("state/attachments/c1")).unwrap();
    let mut conf: Value = serde_json::from_slice(&fs::read(configuration(&node)).unwrap()).unwrap();
    for key in ["runDir", "stateDir", "binDir"] {
        conf["plugins"][0][key] = node.setting(key);
    }
    fs::write(configuration(&node), conf.to_string()).unwrap();
    let file = configuration(&node).display().to_string();
    assert_eq!(node.by_hand(&["gc", "--config", &file]).answer().code(), 0);
    assert!(!configuration(&node).exists());
}

#[test]
fn a_node_role_that_has_come_back_keeps_its_configuration() {
    let node = node();
    write_configuration(&node, false);
    node.del("c1").retired().succeed();
    assert!(node.record("c1").is_none());
    assert!(configuration(&node).exists(), "it is not retired any more");
    write_configuration(&node, true);
    let held = Lock::of_configuration(&node.dir(), LONG).unwrap();
    node.del("c2").retired().succeed();
    assert!(configuration(&node).exists(), "somebody is at it");
    drop(held);
    node.del("c3").retired().succeed();
    assert!(!configuration(&node).exists());
}

#[test]
fn going_back_to_multus_works_since_its_configuration_counts_as_the_next() {
    let node = node();
    multus(&node, json!({"clusterNetwork": "/host/etc/cni/net.d/10-cluster.conflist"}));
    node.add("c2").networks("a").retired().result();
    assert_eq!(node.take_done(), ["ADD multus-shim eth0"]);
    // Multus has written down what it attached; that is its own to undo.
    fs::create_dir_all(node.path("cni/multus")).unwrap();
    node.write("cni/multus/c2", &json!([]));
    node.del("c2").networks("a").retired().succeed();
    assert_eq!(node.take_done(), ["DEL multus-shim eth0"]);
    assert!(node.path("cni/multus/c2").exists());
    node.del("c1").retired().succeed();
    assert_eq!(node.take_done(), ["DEL b net2", "DEL a net1", "DEL primary eth0"]);
}

#[test]
fn multus_that_took_our_configuration_for_the_primarys_is_passed_over() {
    let node = node();
    multus(&node, json!({"clusterNetwork": "/host/etc/cni/net.d/00-braid.conflist"}));
    node.add("c2").retired().result();
    assert_eq!(node.done(), ["ADD primary eth0", "ADD next eth0"]);
}

#[test]
fn errors_of_what_comes_next_are_handed_up_and_its_pod_is_its_own() {
    let node = node();
    node.fail("next", "ADD", 111);
    let error = node.add("c2").retired().error();
    assert_eq!((error.code.0, error.msg.as_str()), (111, "network cluster: plugin next: next cannot ADD"));
    assert_eq!(node.take_done(), ["ADD primary eth0", "ADD next eth0"], "the runtime calls DEL");
    node.fail("next", "DEL", 42);
    assert_eq!(node.del("c2").retired().error().code.0, 42);
    assert_eq!(node.take_done(), ["DEL next eth0", "DEL primary eth0"]);
    assert!(node.record("c2").is_none());
    fs::remove_file(node.path("net.d/10-cluster.conflist")).unwrap();
    let error = node.add("c2").retired().error();
    assert_eq!(error.code.0, 11);
    assert!(error.msg.contains("Braid is being taken away from this node"), "{error}");
    node.del("c2").retired().succeed();
}

#[test]
fn a_container_that_is_attached_has_to_be_detached_first_and_one_that_is_half_is_undone() {
    let node = node();
    assert_eq!(node.add("c1").retired().error().code.0, 4);
    node.edit_record("c1", |record| record.phase = store::record::Phase::Intended);
    node.add("c1").retired().result();
    let undone = ["DEL b net2", "DEL a net1", "DEL primary eth0", "ADD primary eth0", "ADD next eth0"];
    assert_eq!(node.take_done(), undone);
    node.del("c1").retired().succeed();
    assert_eq!(node.done(), ["DEL next eth0", "DEL primary eth0"], "though Braid had settled it once");
}

#[test]
fn check_status_and_gc_are_for_both() {
    let node = node();
    let list = json!({"cniVersion": "1.1.0", "plugins": [{"type": "next"}]});
    node.cluster(list);
    node.check("c1").retired().succeed();
    assert_eq!(node.take_done(), ["CHECK primary eth0", "CHECK a net1", "CHECK b net2"], "as recorded");
    assert_eq!(node.check("c2").retired().error().code.0, 3);
    let result = json!({"cniVersion": "1.1.0"});
    node.check("c2").set(json!({"prevResult": result})).retired().succeed();
    assert_eq!(node.take_done(), ["CHECK next eth0"]);
    fs::remove_file(node.path("run/node")).unwrap();
    node.status().retired().succeed();
    assert_eq!(node.take_done(), ["STATUS next"], "what the node role says does not matter any more");
    node.fail("next", "STATUS", 51);
    assert_eq!(node.status().retired().error().code.0, 51);
    node.forget();
    node.gc(&[("c2", "eth0")]).retired().succeed();
    assert_eq!(node.done(), ["DEL b net2", "DEL a net1", "DEL primary eth0", "GC next"]);
    assert_eq!(
        node.calls()[3].stdin["cni.dev/valid-attachments"],
        json!([{"containerID": "c2", "ifname": "eth0"}])
    );
    assert!(node.record("c1").is_none());
    assert!(!configuration(&node).exists());
}
