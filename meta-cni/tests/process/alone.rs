//! Nobody but the runtime and the plugins is there: the node role has gone, long ago.

use store::node::NodeFacts;

use crate::harness::Node;

const YEAR: u64 = 365 * 24 * 3600;

#[test]
fn a_node_role_that_has_been_gone_for_a_year_holds_up_no_pod() {
    let node = Node::with(&["a", "b"]);
    let now = NodeFacts::complete_now("test");
    NodeFacts { complete_at: now.complete_at - YEAR, ..now }.write(&node.dir()).unwrap();
    node.status().succeed();
    node.add("c1").networks("a,b").result();
    assert_eq!(node.take_done(), ["ADD primary eth0", "ADD a net1", "ADD b net2"]);
    node.check("c1").succeed();
    node.gc(&[("c1", "eth0")]).succeed();
    assert!(node.record("c1").is_some());
    node.forget();
    node.del("c1").succeed();
    assert_eq!(node.done(), ["DEL b net2", "DEL a net1", "DEL primary eth0"]);
    assert!(node.leftovers().is_empty());
}
