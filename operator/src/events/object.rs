//! An event as the API server's object: pure.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event as Object;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};

use super::{About, Event};
use crate::excerpt::cut;

/// Who reports.
const CONTROLLER: &str = "braid.dev/node";
/// Events about what has no namespace are here: of events.k8s.io, older API servers (1.20) take them in no other
/// namespace, and newer ones take them here too. `kubectl describe node` looks into all.
const OF_NODES: &str = "kube-system";
/// What the API server takes, in bytes.
const LONGEST_NOTE: usize = 1024;
const LONGEST_INSTANCE: usize = 128;
const LONGEST_NAME: usize = 253;

/// The object of an event that happened `now` on the node.
pub(super) fn object(event: &Event, node_name: &str, now: Timestamp) -> Object {
    let regarding = regarding(&event.about, node_name);
    let suffix = format!(".{:x}", now.as_nanosecond());
    let about = cut(regarding.name.as_deref().unwrap_or_default(), LONGEST_NAME - suffix.len(), "");
    // A name's part may not end with what cannot stand before a dot.
    let name = format!("{}{suffix}", about.trim_end_matches(['.', '-']));
    let namespace = regarding.namespace.clone().unwrap_or_else(|| OF_NODES.to_owned());
    Object {
        metadata: ObjectMeta { name: Some(name), namespace: Some(namespace), ..ObjectMeta::default() },
        action: Some(event.action.to_owned()),
        event_time: Some(MicroTime(now)),
        note: Some(cut(&event.note, LONGEST_NOTE, " …")),
        reason: Some(event.reason.to_owned()),
        regarding: Some(regarding),
        reporting_controller: Some(CONTROLLER.to_owned()),
        reporting_instance: Some(cut(node_name, LONGEST_INSTANCE, "")),
        type_: Some(if event.warning { "Warning" } else { "Normal" }.to_owned()),
        ..Object::default()
    }
}

fn regarding(about: &About, node_name: &str) -> ObjectReference {
    let (kind, namespace, name, uid) = match about {
        About::Pod { name: (namespace, name), uid } => {
            ("Pod", Some(namespace.clone()), name.as_str(), uid.as_str())
        }
        // As the kubelet does: a node's uid is not known here, and kubectl looks for the name.
        About::Node => ("Node", None, node_name, node_name),
    };
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some(kind.to_owned()),
        namespace,
        name: Some(name.to_owned()),
        uid: Some(uid.to_owned()),
        ..ObjectReference::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(about: About, note: String) -> Object {
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        object(&Event::warning(about, "DetachFailed", "Detach", note), "n1", now)
    }

    #[test]
    fn an_event_of_a_pod_is_beside_the_pod() {
        let about = About::Pod { name: ("team".to_owned(), "web".to_owned()), uid: "u1".to_owned() };
        let json = serde_json::to_value(event(about, "no".to_owned())).unwrap();
        let expected = serde_json::json!({
            "apiVersion": "events.k8s.io/v1", "kind": "Event",
            "metadata": {"namespace": "team", "name": "web.17979cfe362a0000"},
            "action": "Detach", "reason": "DetachFailed", "note": "no", "type": "Warning",
            "eventTime": "2023-11-14T22:13:20.000000Z",
            "regarding": {"apiVersion": "v1", "kind": "Pod", "namespace": "team", "name": "web", "uid": "u1"},
            "reportingController": "braid.dev/node", "reportingInstance": "n1",
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn an_event_of_the_node_is_where_every_api_server_takes_it() {
        let object = event(About::Node, "no".to_owned());
        assert_eq!(object.metadata.namespace.as_deref(), Some("kube-system"));
        let regarding = object.regarding.unwrap();
        assert_eq!((regarding.namespace, regarding.uid.as_deref()), (None, Some("n1")));
    }

    #[test]
    fn what_is_too_long_is_cut_between_characters() {
        let long = "a".repeat(235) + "-.-" + &"b".repeat(15);
        let about = About::Pod { name: ("team".to_owned(), long), uid: "u1".to_owned() };
        let object = event(about, "ä".repeat(600));
        let note = object.note.unwrap();
        assert!(note.len() <= 1024 && note.len() > 1018 && note.ends_with("ä …"), "{}", note.len());
        let name = object.metadata.name.unwrap();
        assert_eq!(name, format!("{}.17979cfe362a0000", "a".repeat(235)));
    }
}
