use cni::npwg::RESOURCE_NAME;
use kube::ResourceExt;
use kube::core::{ObjectList, WatchEvent};
use serde_json::{Value, json};

use super::*;

fn object(spec: Value) -> Value {
    json!({
        "apiVersion": crds::nad::API_VERSION, "kind": crds::nad::KIND,
        "metadata": {
            "name": "a", "namespace": "b", "uid": "u", "resourceVersion": "7", "generation": 3,
            "labels": {"l": "m"}, "managedFields": [{"manager": "kubectl"}],
            "annotations": {RESOURCE_NAME: "vendor/nic", "note": "x"},
        },
        "spec": spec, "status": {"pods": 5, "nodes": {"ready": 2}},
    })
}

fn read(object: Value) -> Definition {
    serde_json::from_str(&object.to_string()).unwrap()
}

#[test]
fn what_matters_is_read_and_nothing_else_is_kept() {
    let nad = read(object(json!({"config": "{}", "vendor": [1]}))).0.unwrap();
    assert_eq!((nad.config(), nad.annotation(RESOURCE_NAME)), ("{}", Some("vendor/nic")));
    let expected = json!({
        "name": "a", "namespace": "b", "uid": "u", "resourceVersion": "7", "generation": 3,
        "annotations": {RESOURCE_NAME: "vendor/nic"},
    });
    assert_eq!(serde_json::to_value(&nad.metadata).unwrap(), expected);
    assert_eq!(nad.status, None);
}

#[test]
fn the_status_is_there_for_who_asks_for_it() {
    let whole: Definition<Option<NetworkAttachmentDefinitionStatus>> =
        serde_json::from_value(object(Value::Null)).unwrap();
    let status = whole.0.unwrap().status.unwrap();
    assert_eq!((status.pods, status.nodes.ready), (5, 2));
}

#[test]
fn every_shape_that_the_definition_accepts_is_read_as_its_own_type_reads_it() {
    for spec in
        [Value::Null, json!({}), json!({"config": null}), json!({"config": ""}), json!({"config": "é\n"})]
    {
        let whole: NetworkAttachmentDefinition = serde_json::from_value(object(spec.clone())).unwrap();
        assert_eq!(read(object(spec)).0.unwrap().config(), whole.config());
    }
}

#[test]
fn a_field_of_the_wrong_kind_is_told_with_what_is_known_of_the_object() {
    for (spec, expected) in [
        (json!("x"), "spec is a string, not an object"),
        (json!([{"a": 1}]), "spec is an array, not an object"),
        (json!(true), "spec is a boolean, not an object"),
        (json!({"config": {"type": "bridge"}}), "spec.config is an object, not a string"),
        (json!({"config": ["a"]}), "spec.config is an array, not a string"),
        (json!({"config": -1}), "spec.config is a number, not a string"),
        (json!({"config": 1.5}), "spec.config is a number, not a string"),
    ] {
        let invalid = read(object(spec)).0.unwrap_err();
        assert_eq!(invalid.error, expected);
        assert_eq!((invalid.metadata.name.as_deref(), invalid.metadata.generation), (Some("a"), Some(3)));
    }
}

#[test]
fn a_configuration_that_is_too_long_is_told_with_its_length_and_not_kept() {
    let config = |length| json!({"config": "x".repeat(length)});
    assert_eq!(read(object(config(LONGEST_CONFIG))).0.unwrap().config().len(), LONGEST_CONFIG);
    let invalid = read(object(config(LONGEST_CONFIG + 1))).0.unwrap_err();
    assert!(invalid.error.starts_with("spec.config is 131073 bytes long"), "{}", invalid.error);
}

#[test]
fn lists_and_events_are_read_and_one_odd_object_hinders_no_other() {
    let list = json!({
        "apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": "9"},
        "items": [object(json!(1)), object(json!({"config": "{}"}))],
    });
    let list: ObjectList<Definition> = serde_json::from_str(&list.to_string()).unwrap();
    assert_eq!(list.items.iter().map(|item| item.0.is_ok()).collect::<Vec<_>>(), [false, true]);
    for event in [
        format!(r#"{{"type":"ADDED","object":{}}}"#, object(json!({"config": "{}"}))),
        format!(r#"{{"object":{},"type":"ADDED"}}"#, object(json!({"config": "{}"}))),
    ] {
        let read: WatchEvent<Definition> = serde_json::from_str(&event).unwrap();
        let WatchEvent::Added(read) = read else { panic!("{event}") };
        assert_eq!((read.name_any(), read.resource_version().as_deref()), ("a".to_owned(), Some("7")));
    }
}
