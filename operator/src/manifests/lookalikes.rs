//! Objects and keys in files that are nearly those of a NetworkAttachmentDefinition. Pure.
//!
//! Kubernetes compares kinds and keys letter by letter. An API server refuses a kind that it does not know, and takes
//! unknown keys away before anybody sees them; in a file nothing does, and the network would be passed over, or be one
//! without a configuration.

use cni::spelling;
use crds::nad::{API_VERSION, KIND};
use serde_json::{Map, Value};

/// Short names that kubectl takes in place of the kind.
const SHORT_NAMES: [&str; 3] = ["nad", "netattachdef", "netattach"];
/// Keys of the object.
const KEYS: [&str; 5] = ["apiVersion", "kind", "metadata", "spec", "status"];
/// Keys of `spec`.
const OF_SPEC: [&str; 1] = ["config"];
/// Keys of `metadata` that people write.
const OF_METADATA: [&str; 6] = ["annotations", "finalizers", "generateName", "labels", "name", "namespace"];

/// Why an object whose kind is not ours is most likely meant to be one of ours.
pub(crate) fn kind(kind: &str) -> Option<String> {
    let letters: String = kind.chars().filter(|letter| !matches!(letter, '-' | '_')).collect();
    let is_short = SHORT_NAMES.iter().any(|short| letters.eq_ignore_ascii_case(short));
    (kind != KIND && (is_short || spelling::nearest(&letters, [KIND]).is_some())).then(|| {
        format!(
            "kind {kind:?} is not known, so the object is not read; if it is a network, write \"kind: {KIND}\" and \
             \"apiVersion: {API_VERSION}\""
        )
    })
}

/// Why a network has no configuration although its author wrote one: the key stands in the wrong place, or is misspelt.
pub(crate) fn misplaced_config(object: &Map<String, Value>) -> Option<String> {
    let spec = object.get("spec").and_then(Value::as_object);
    if spec.is_some_and(|spec| spec.get("config").is_some_and(|config| !config.is_null())) {
        return None;
    }
    if object.contains_key("config") {
        return Some(
            "\"config\" is beside \"spec\", not in it, so the network has no configuration; indent it below \"spec:\""
                .to_owned(),
        );
    }
    let written = spec.and_then(|spec| spec.keys().find(|key| nearly(key, &OF_SPEC)));
    let written = written.map(|key| format!("spec.{key}"));
    let beside = || object.keys().find(|key| nearly(key, &["spec"])).cloned();
    let (written, meant) = written.map(|key| (key, "spec.config")).or_else(|| Some((beside()?, "spec")))?;
    Some(format!(
        "key {written:?} is not known, so the network has no configuration; did you mean {meant:?}? Keys are compared \
         letter by letter"
    ))
}

fn nearly(key: &str, known: &[&str]) -> bool {
    !known.contains(&key) && spelling::nearest(key, known.iter().copied()).is_some()
}

/// Keys of a network that mean nothing. Those of `metadata` only where they are nearly known ones: it has many more.
pub(crate) fn unknown_keys(object: &Map<String, Value>) -> Vec<String> {
    let mut found = unknown_in("", object, &KEYS);
    if let Some(spec) = object.get("spec").and_then(Value::as_object) {
        found.extend(unknown_in("spec.", spec, &OF_SPEC));
    }
    if let Some(metadata) = object.get("metadata").and_then(Value::as_object) {
        found.extend(misspelt_in_metadata(metadata));
    }
    found
}

/// Keys of any object's `metadata` that are nearly known ones.
pub(crate) fn misspelt_in_metadata(metadata: &Map<String, Value>) -> Vec<String> {
    let keys = metadata.keys().filter(|key| nearly(key, &OF_METADATA));
    keys.map(|key| unknown("metadata.", key, &OF_METADATA)).collect()
}

fn unknown_in(place: &str, object: &Map<String, Value>, known: &[&str]) -> Vec<String> {
    let keys = object.keys().filter(|key| !known.contains(&key.as_str()));
    keys.map(|key| unknown(place, key, known)).collect()
}

fn unknown(place: &str, key: &str, known: &[&str]) -> String {
    let key_text = format!("{place}{key}");
    match spelling::nearest(key, known.iter().copied()) {
        Some(meant) => {
            format!("key {key_text:?} is not known and has no effect; did you mean \"{place}{meant}\"?")
        }
        None => format!("key {key_text:?} is not known and has no effect; remove it"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(json: &Value) -> Map<String, Value> {
        json.as_object().cloned().unwrap()
    }

    #[test]
    fn kinds_that_are_nearly_ours_are_told_from_others() {
        for near in [
            "NetworkAttachementDefinition",
            "networkattachmentdefinition",
            "NetworkAttachmentDefinitions",
            "network-attachment-definition",
            "net-attach-def",
            "NAD",
        ] {
            assert!(
                kind(near).is_some_and(|text| text.starts_with(&format!("kind {near:?} is not known"))),
                "{near}"
            );
        }
        for other in [KIND, "Network", "NetworkPolicy", "MultiNetworkPolicy", "NetworkAttachment", "Pod", ""]
        {
            assert_eq!(kind(other), None, "{other}");
        }
    }

    #[test]
    fn a_configuration_in_the_wrong_place_is_found() {
        for (json, expected) in [
            (json!({"spec": null, "config": "{}"}), "\"config\" is beside \"spec\""),
            (json!({"config": "{}"}), "\"config\" is beside \"spec\""),
            (json!({"spec": {"Config": "{}"}}), "key \"spec.Config\" is not known"),
            (json!({"spec": {"confg": "{}"}}), "key \"spec.confg\" is not known"),
            (json!({"Spec": {"config": "{}"}}), "key \"Spec\" is not known"),
        ] {
            let found = misplaced_config(&object(&json)).unwrap();
            assert!(found.starts_with(expected), "{found}");
        }
        for json in [json!({}), json!({"spec": {}}), json!({"spec": {"config": ""}, "config": "{}"})] {
            assert_eq!(misplaced_config(&object(&json)), None, "{json}");
        }
    }

    #[test]
    fn keys_that_mean_nothing_are_found_and_those_of_metadata_if_they_are_near() {
        let json = json!({
            "apiVersion": "", "kind": "", "config": "", "stauts": {},
            "metadata": {"name": "", "anotations": {}, "Labels": {}, "uid": "", "managedFields": []},
            "spec": {"config": "", "type": "bridge"},
        });
        assert_eq!(
            unknown_keys(&object(&json)),
            [
                "key \"config\" is not known and has no effect; remove it",
                "key \"stauts\" is not known and has no effect; did you mean \"status\"?",
                "key \"spec.type\" is not known and has no effect; remove it",
                "key \"metadata.Labels\" is not known and has no effect; did you mean \"metadata.labels\"?",
                "key \"metadata.anotations\" is not known and has no effect; did you mean \"metadata.annotations\"?",
            ]
        );
    }
}
