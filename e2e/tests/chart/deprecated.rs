//! Nothing that Kubernetes 1.36 calls deprecated: in what the chart renders, in the plain manifests, in the examples, and
//! in what the programs ask the API server for. The table is the guard; a test shows that each of its lines can fail.

use std::fs;
use std::path::{Path, PathBuf};

use e2e::source;
use serde_json::{Value, json};

use crate::helm::{objects, parsed, possible};
use crate::rendering::MATRIX;

/// A value of an object, with the keys and indices that lead to it.
struct Place<'a> {
    path: Vec<String>,
    value: &'a Value,
}

impl Place<'_> {
    fn key(&self) -> &str {
        self.path.last().map_or("", String::as_str)
    }

    fn text(&self) -> &str {
        self.value.as_str().unwrap_or_default()
    }

    fn has_one_of(&self, list: &str, names: &[&str]) -> bool {
        let all = self.value[list].as_array().into_iter().flatten().filter_map(Value::as_str);
        all.into_iter().any(|one| names.contains(&one.split('/').next().unwrap_or_default()))
    }
}

/// What must not occur.
struct Deprecated {
    what: &'static str,
    instead: &'static str,
    is_at: fn(&Place<'_>) -> bool,
    /// The least that is found, so that the line can fail.
    example: fn() -> Value,
}

const DEPRECATED: &[Deprecated] = &[
    Deprecated {
        what: "a version of an API that is not final",
        instead: "the v1 of its group",
        is_at: |place| place.key() == "apiVersion" && is_not_final(place.text()),
        example: || json!({"apiVersion": "policy/v1beta1", "kind": "PodDisruptionBudget"}),
    },
    Deprecated {
        what: "an AdmissionReview that is not final",
        instead: "admissionReviewVersions: [v1]",
        is_at: |place| place.key() == "admissionReviewVersions" && *place.value != json!(["v1"]),
        example: || json!({"webhooks": [{"admissionReviewVersions": ["v1", "v1beta1"]}]}),
    },
    Deprecated {
        what: "an alpha or beta label, annotation or taint of Kubernetes",
        instead: "the final key, or the field that took its place (securityContext.seccompProfile)",
        is_at: |place| is_alpha_or_beta(place.key()) || is_alpha_or_beta(place.text()),
        example: || json!({"nodeSelector": {"beta.kubernetes.io/os": "linux"}}),
    },
    Deprecated {
        what: "node-role.kubernetes.io/master without node-role.kubernetes.io/control-plane",
        instead: "a toleration of node-role.kubernetes.io/control-plane beside it",
        is_at: is_master_alone,
        example: || json!({"tolerations": [{"key": "node-role.kubernetes.io/master", "operator": "Exists"}]}),
    },
    Deprecated {
        what: "the field serviceAccount of a pod",
        instead: "serviceAccountName",
        is_at: |place| place.key() == "serviceAccount",
        example: || json!({"spec": {"serviceAccount": "braid-node", "containers": []}}),
    },
    Deprecated {
        what: "a deprecated field of an event",
        instead: "the fields of events.k8s.io/v1",
        is_at: |place| place.key().starts_with("deprecated"),
        example: || json!({"kind": "Event", "deprecatedCount": 1}),
    },
    Deprecated {
        what: "a kind that is deprecated or gone",
        instead: "EndpointSlice for Endpoints, Pod Security for PodSecurityPolicy",
        is_at: |place| place.key() == "kind" && KINDS.contains(&place.text()),
        example: || json!({"apiVersion": "v1", "kind": "Endpoints"}),
    },
    Deprecated {
        what: "a right on a resource that is deprecated or gone",
        instead: "endpointslices for endpoints; remove the others",
        is_at: |place| place.has_one_of("resources", &RESOURCES),
        example: || json!({"rules": [{"apiGroups": [""], "resources": ["pods", "endpoints"], "verbs": ["get"]}]}),
    },
    Deprecated {
        what: "a right on events of the core group",
        instead: "events of events.k8s.io",
        is_at: |place| place.has_one_of("resources", &["events"]) && place.has_one_of("apiGroups", &[""]),
        example: || json!({"rules": [{"apiGroups": [""], "resources": ["events"], "verbs": ["create"]}]}),
    },
    Deprecated {
        what: "a right on an API group that is gone",
        instead: "apps, networking.k8s.io, policy",
        is_at: |place| place.has_one_of("apiGroups", &["extensions"]),
        example: || json!({"rules": [{"apiGroups": ["extensions"], "resources": ["daemonsets"]}]}),
    },
    Deprecated {
        what: "a field of a Service that is deprecated",
        instead: "nothing: Braid's Services are reached inside of the cluster",
        is_at: |place| ["externalIPs", "loadBalancerIP", "topologyKeys"].contains(&place.key()),
        example: || json!({"kind": "Service", "spec": {"externalIPs": ["192.0.2.1"]}}),
    },
    Deprecated {
        what: "a kind of volume that is deprecated or gone",
        instead: "an init container for gitRepo, CSI for the others",
        is_at: |place| place.path.iter().any(|key| key == "volumes") && VOLUMES.contains(&place.key()),
        example: || json!({"volumes": [{"name": "a", "gitRepo": {"repository": "b"}}]}),
    },
    Deprecated {
        what: "an annotation that is deprecated",
        instead: "spec.ingressClassName, service.kubernetes.io/topology-mode, a Secret of its own",
        is_at: |place| ANNOTATIONS.contains(&place.key()),
        example: || json!({"metadata": {"annotations": {"kubernetes.io/ingress.class": "a"}}}),
    },
    Deprecated {
        what: "a definition that keeps what it does not name",
        instead: "x-kubernetes-preserve-unknown-fields in the schema",
        is_at: |place| place.key() == "preserveUnknownFields" && *place.value == json!(true),
        example: || json!({"spec": {"preserveUnknownFields": true}}),
    },
];

const KINDS: [&str; 3] = ["Endpoints", "PodSecurityPolicy", "ComponentStatus"];
const RESOURCES: [&str; 3] = ["endpoints", "podsecuritypolicies", "componentstatuses"];
const VOLUMES: [&str; 6] = ["gitRepo", "flexVolume", "glusterfs", "storageos", "scaleIO", "quobyte"];
const ANNOTATIONS: [&str; 3] = [
    "kubernetes.io/ingress.class",
    "service.kubernetes.io/topology-aware-hints",
    "kubernetes.io/enforce-mountable-secrets",
];

/// Whether a version is an alpha or beta one of Kubernetes. Braid's own group is Braid's to name.
fn is_not_final(version: &str) -> bool {
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    group != "braid.dev" && (version.contains("alpha") || version.contains("beta"))
}

fn is_alpha_or_beta(text: &str) -> bool {
    ["alpha.kubernetes.io/", "beta.kubernetes.io/"].iter().any(|part| text.contains(part))
}

const MASTER: &str = "node-role.kubernetes.io/master";

/// Whether the old name of the control plane's taint and label is used alone. In a list of tolerations it may be beside
/// the present one, for clusters that have no other yet.
fn is_master_alone(place: &Place<'_>) -> bool {
    if place.key() == "tolerations" {
        let keys = place.value.as_array().into_iter().flatten().map(|one| &one["key"]);
        let keys: Vec<_> = keys.collect();
        return keys.iter().any(|key| *key == MASTER)
            && !keys.iter().any(|key| *key == "node-role.kubernetes.io/control-plane");
    }
    let is_of_a_toleration = place.path.iter().any(|key| key == "tolerations");
    !is_of_a_toleration && (place.key() == MASTER || place.text() == MASTER)
}

/// Every line of the table that an object has something of, with its place.
fn deprecated(object: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let mut places = vec![Place { path: Vec::new(), value: object }];
    while let Some(place) = places.pop() {
        for line in DEPRECATED.iter().filter(|line| (line.is_at)(&place)) {
            let at = place.path.join(".");
            found.push(format!("{} at {at:?}; use {}", line.what, line.instead));
        }
        let inside: Vec<(String, &Value)> = match place.value {
            Value::Object(fields) => fields.iter().map(|(key, value)| (key.clone(), value)).collect(),
            Value::Array(items) => {
                items.iter().enumerate().map(|(index, value)| (index.to_string(), value)).collect()
            }
            _ => Vec::new(),
        };
        places.extend(inside.into_iter().map(|(key, value)| {
            let path = place.path.iter().cloned().chain([key]).collect();
            Place { path, value }
        }));
    }
    found
}

fn assert_none_in(objects: &[Value], of: &str) {
    assert!(!objects.is_empty(), "{of}: no objects");
    for object in objects {
        let found = deprecated(object);
        assert_eq!(found, [""; 0], "{of}: {} {}", object["kind"], object["metadata"]["name"]);
    }
}

/// The files of a directory and below that have this extension.
fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let inside = paths.map(|path| if path.is_dir() { files(&path, extension) } else { vec![path] });
    inside.flatten().filter(|path| path.extension().is_some_and(|found| found == extension)).collect()
}

#[test]
fn nothing_that_the_chart_renders_is_deprecated() {
    if possible() {
        for values in MATRIX {
            assert_none_in(&objects(values).unwrap(), &format!("{values:?}"));
        }
    }
}

#[test]
fn nothing_in_plain_manifests_definitions_and_examples_is_deprecated() {
    let dirs = ["deploy/manifests", "deploy/examples", "crds", "charts/braid/files/crds"];
    let all: Vec<_> = dirs.iter().flat_map(|dir| files(&source(dir), "yaml")).collect();
    assert!(all.len() > 20, "{all:?}");
    for file in all {
        let objects = parsed(&fs::read_to_string(&file).unwrap()).unwrap();
        assert_none_in(&objects, &file.display().to_string());
    }
}

/// Kubernetes before 1.21 has no policy/v1; no other template has to name a version that is not final.
#[test]
fn templates_name_an_older_version_only_where_the_server_has_no_newer_one() {
    let mut found = Vec::new();
    for file in files(&source("charts/braid/templates"), "yaml") {
        let text = fs::read_to_string(file).unwrap();
        let lines = text.lines().filter(|line| line.contains("v1beta") || line.contains("v1alpha"));
        found.extend(lines.map(str::to_owned));
    }
    assert_eq!(
        found,
        [
            r#"apiVersion: {{ ternary "policy/v1" "policy/v1beta1" (.Capabilities.APIVersions.Has "policy/v1") }}"#
        ]
    );
}

/// What a line of a program names that an API server of today calls deprecated.
fn deprecated_in_code(line: &str) -> bool {
    let line = line.trim_start();
    let is_of_kubernetes = !line.starts_with("//") && !line.contains("braid.dev/");
    let names = [
        "::v1beta",
        "::v1alpha",
        "k8s.io/v1beta",
        "k8s.io/v1alpha",
        "/v1beta",
        "deprecated_",
        "v1::Endpoints",
    ];
    let core_events = line.contains("core::v1") && line.contains("Event") && !line.contains("EventSource");
    is_of_kubernetes && (core_events || names.iter().any(|name| line.contains(name)))
}

#[test]
fn the_programs_ask_for_nothing_that_is_deprecated() {
    let dirs = ["operator/src", "crds/src", "meta-cni"];
    let all: Vec<_> = dirs.iter().flat_map(|dir| files(&source(dir), "rs")).collect();
    assert!(all.len() > 100, "{}", all.len());
    for file in all {
        let text = fs::read_to_string(&file).unwrap();
        let found = text.lines().find(|line| deprecated_in_code(line));
        assert_eq!(found, None, "{}", file.display());
    }
}

#[test]
fn each_line_of_the_table_finds_its_example_and_what_took_its_place_is_not_found() {
    for line in DEPRECATED {
        let found = deprecated(&(line.example)());
        assert!(found.iter().any(|text| text.starts_with(line.what)), "{}: {found:?}", line.what);
    }
    let tolerations = ["node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"]
        .map(|key| json!({"key": key, "operator": "Exists"}));
    for right in [
        json!({"apiVersion": "braid.dev/v1alpha1", "kind": "NodeReport"}),
        json!({"webhooks": [{"admissionReviewVersions": ["v1"]}]}),
        json!({"nodeSelector": {"kubernetes.io/os": "linux"}}),
        json!({"tolerations": tolerations}),
        json!({"rules": [{"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create"]}]}),
        json!({"volumes": [{"name": "a", "hostPath": {"path": "/run/braid"}}]}),
    ] {
        assert_eq!(deprecated(&right), [""; 0], "{right}");
    }
    for wrong in [
        json!({"annotations": {"seccomp.security.alpha.kubernetes.io/pod": "runtime/default"}}),
        json!({"matchExpressions": [{"key": "beta.kubernetes.io/arch", "operator": "Exists"}]}),
        json!({"affinity": {"topologyKey": "failure-domain.beta.kubernetes.io/zone"}}),
        json!({"nodeSelector": {"node-role.kubernetes.io/master": ""}}),
    ] {
        assert_eq!(deprecated(&wrong).len(), 1, "{wrong}");
    }
    for wrong in [
        "use k8s_openapi::api::core::v1::Event;",
        "use k8s_openapi::api::policy::v1beta1::Eviction;",
        "let path = \"/apis/coordination.k8s.io/v1beta1/leases\";",
        "deprecated_count: Some(1),",
    ] {
        assert!(deprecated_in_code(wrong), "{wrong}");
    }
    assert!(!deprecated_in_code("use k8s_openapi::api::events::v1::Event as Object;"));
}
