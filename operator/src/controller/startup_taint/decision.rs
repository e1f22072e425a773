//! Whether a Node's startup taint goes. Pure.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::SeenNode;
use crate::controller::reports::said::Said;

/// A Node that has the startup taint, as far as it matters.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tainted {
    /// Its uid.
    pub uid: String,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// The present boot of its kernel; empty until the kubelet has told.
    pub boot_id: String,
    /// All of its taints as they were read: fields of newer API servers have to survive.
    pub taints: Vec<Value>,
}

impl Tainted {
    /// Reads a Node; `None` if it has no taint with this key.
    pub fn of(node: &SeenNode, key: &str) -> Option<Self> {
        let taints = &node.spec.taints;
        taints.iter().any(|taint| has_key(taint, key)).then(|| Self {
            uid: node.metadata.uid.clone().unwrap_or_default(),
            created: node.metadata.creation_timestamp.as_ref().map(|time| time.0),
            boot_id: node.status.as_ref().map(|status| status.node_info.boot_id.clone()).unwrap_or_default(),
            taints: taints.clone(),
        })
    }

    /// The JSON patch that takes the taint off this very Node, if nobody has changed its taints meanwhile.
    pub fn patch(&self, key: &str) -> Value {
        let mut steps = vec![
            json!({"op": "test", "path": "/metadata/uid", "value": self.uid}),
            json!({"op": "test", "path": "/spec/taints", "value": self.taints}),
        ];
        // From the end on: what is left keeps its place. One key may be there with several effects.
        let ours = self.taints.iter().enumerate().rev().filter(|(_, taint)| has_key(taint, key));
        steps.extend(ours.map(|(at, _)| json!({"op": "remove", "path": format!("/spec/taints/{at}")})));
        Value::Array(steps)
    }
}

fn has_key(taint: &Value, key: &str) -> bool {
    taint["key"].as_str() == Some(key)
}

/// Whether the taint is to go, and if not, why.
pub fn decide(node: &Tainted, said: Option<&Said>) -> Result<(), &'static str> {
    let Some(said) = said else { return Err("the node has not reported yet") };
    if node.boot_id.is_empty() {
        return Err("the kubelet has not told the node's boot yet (status.nodeInfo.bootID)");
    }
    if said.boot_id != node.boot_id {
        return Err("the node's report is of another boot");
    }
    // Machines that share a kernel share its boots, too: there a Node that is made anew under an old name, for
    // another machine, is told by its age alone.
    match (said.written, node.created) {
        (Some(written), Some(created)) if written >= created => {}
        _ => return Err("the node's report is older than its Node"),
    }
    if said.ready { Ok(()) } else { Err("the node's report says that it is not ready") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn tainted() -> Tainted {
        Tainted {
            uid: "u1".to_owned(),
            created: Some(second(100)),
            boot_id: "b1".to_owned(),
            taints: Vec::new(),
        }
    }

    fn said() -> Said {
        Said { ready: true, boot_id: "b1".to_owned(), written: Some(second(130)) }
    }

    #[test]
    fn a_report_counts_for_the_present_boot_of_the_present_node_alone() {
        let cases = [
            (tainted(), Some(said()), Ok(())),
            (tainted(), Some(Said { written: Some(second(100)), ..said() }), Ok(())),
            (tainted(), None, Err("not reported")),
            (tainted(), Some(Said { ready: false, ..said() }), Err("not ready")),
            (tainted(), Some(Said { boot_id: "b0".to_owned(), ..said() }), Err("another boot")),
            (tainted(), Some(Said { boot_id: String::new(), ..said() }), Err("another boot")),
            (Tainted { boot_id: String::new(), ..tainted() }, Some(said()), Err("bootID")),
            (
                Tainted { boot_id: String::new(), ..tainted() },
                Some(Said { boot_id: String::new(), ..said() }),
                Err("bootID"),
            ),
            (tainted(), Some(Said { written: Some(second(99)), ..said() }), Err("older than its Node")),
            (tainted(), Some(Said { written: None, ..said() }), Err("older than its Node")),
            (Tainted { created: None, ..tainted() }, Some(said()), Err("older than its Node")),
        ];
        for (node, said, expected) in cases {
            match (decide(&node, said.as_ref()), expected) {
                (Ok(()), Ok(())) => {}
                (Err(reason), Err(part)) if reason.contains(part) => {}
                other => panic!("{node:?} {said:?}: {other:?}"),
            }
        }
    }

    fn node(taints: Value) -> SeenNode {
        serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": "n1", "uid": "u1", "creationTimestamp": "1970-01-01T00:01:40Z"},
            "spec": {"taints": taints, "podCIDR": "10.0.0.0/24"},
            "status": {"nodeInfo": {"bootID": "b1", "machineID": "m"}, "images": []},
        }))
        .unwrap()
    }

    #[test]
    fn only_nodes_with_the_taint_matter() {
        let other = json!({"key": "a/b", "effect": "NoExecute", "added": "later"});
        let ours = json!({"key": "k/t", "effect": "NoSchedule"});
        assert_eq!(Tainted::of(&node(json!([])), "k/t"), None);
        assert_eq!(Tainted::of(&node(json!([other])), "k/t"), None);
        let expected = Tainted { taints: vec![other.clone(), ours.clone()], ..tainted() };
        assert_eq!(Tainted::of(&node(json!([other, ours])), "k/t"), Some(expected));
    }

    #[test]
    fn every_effect_of_the_key_goes_and_the_taints_of_others_stay() {
        let taint = |key: &str, effect: &str| json!({"key": key, "effect": effect});
        let taints = vec![taint("k", "NoSchedule"), taint("other", "NoSchedule"), taint("k", "NoExecute")];
        let patch = Tainted { taints: taints.clone(), ..tainted() }.patch("k");
        let expected = json!([
            {"op": "test", "path": "/metadata/uid", "value": "u1"},
            {"op": "test", "path": "/spec/taints", "value": taints},
            {"op": "remove", "path": "/spec/taints/2"},
            {"op": "remove", "path": "/spec/taints/0"},
        ]);
        assert_eq!(patch, expected);
    }
}
