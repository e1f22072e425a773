//! The network annotations of pods, and of the pod templates of workloads.

use cni::config::kind_of;
use cni::npwg::{DEFAULT_NETWORK, NETWORKS, Namespace};
use serde_json::{Map, Value};

use crate::controller::judgement::Judgement;
use crate::controller::judgement::pods::asked;
use crate::manifests::documents::Object;
use crate::manifests::{lookalikes, namespace_of};
use crate::pod_rules::PodRules;

/// Where kinds of workloads, known and unknown, keep the template of their pods.
const TEMPLATES: &[&[&str]] =
    &[&["spec", "template"], &["template"], &["spec", "jobTemplate", "spec", "template"]];

const THE_POD_ITSELF: &[&[&str]] = &[&[]];

/// What is found in one object.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// Pods and templates of pods.
    pub(super) found: usize,
    /// Which object, for people.
    pub(super) place: String,
    pub(super) errors: Vec<String>,
    pub(super) warnings: Vec<String>,
}

/// Looks at an object; nothing is found in one that is neither a pod nor makes pods.
pub(super) fn examine(object: &Object, rules: &PodRules) -> Findings {
    let mut findings = Findings::default();
    let own = object.fields.get("metadata").and_then(Value::as_object);
    let is_pod = object.kind() == "Pod";
    let paths = if is_pod { THE_POD_ITSELF } else { TEMPLATES };
    let pods: Vec<_> = paths.iter().filter_map(|path| template(&object.fields, path)).collect();
    findings.found = pods.len();
    let empty = Map::new();
    let own = own.unwrap_or(&empty);
    findings.place = place(object, own);
    if let (false, Some(pod)) = (is_pod, pods.first()) {
        findings.misplaced(own, object.kind(), &pod.path);
    }
    for pod in &pods {
        match namespace_of(if pod.metadata.contains_key("namespace") { pod.metadata } else { own }) {
            Ok(namespace) => findings.annotations(pod, namespace, rules),
            Err(reason) => findings.errors.push(reason),
        }
        findings.warnings.extend(lookalikes::misspelt_in_metadata(pod.metadata));
    }
    findings
}

/// A pod, or the template of one.
struct Pod<'a> {
    metadata: &'a Map<String, Value>,
    /// Where the metadata is.
    path: String,
    /// Whether its network is the host's.
    is_of_the_host: bool,
}

fn template<'a>(fields: &'a Map<String, Value>, path: &[&str]) -> Option<Pod<'a>> {
    let mut keys = path.iter();
    let pod = keys.try_fold(fields, |object, key| object.get(*key)?.as_object())?;
    let path: Vec<_> = path.iter().copied().chain(["metadata"]).collect();
    Some(Pod {
        metadata: pod.get("metadata")?.as_object()?,
        path: path.join("."),
        is_of_the_host: pod.get("spec").and_then(|spec| spec.get("hostNetwork")) == Some(&Value::Bool(true)),
    })
}

fn place(object: &Object, metadata: &Map<String, Value>) -> String {
    match (metadata.get("name").and_then(Value::as_str), namespace_of(metadata)) {
        (Some(name), Ok(namespace)) => format!("{} {namespace}/{name}", object.kind()),
        _ => object.place.clone(),
    }
}

impl Findings {
    /// Annotations of a workload are not those of its pods.
    fn misplaced(&mut self, own: &Map<String, Value>, kind: &str, path: &str) {
        let annotations = own.get("annotations").and_then(Value::as_object);
        for key in [NETWORKS, DEFAULT_NETWORK] {
            if annotations.is_some_and(|annotations| annotations.contains_key(key)) {
                self.warnings.push(format!(
                    "annotation {key} is on the {kind}, not on its pods, and has no effect; put it into \
                     {path}.annotations"
                ));
            }
        }
    }

    fn annotations(&mut self, pod: &Pod<'_>, namespace: &str, rules: &PodRules) {
        let annotations = match pod.metadata.get("annotations") {
            None | Some(Value::Null) => return,
            Some(Value::Object(annotations)) => annotations,
            Some(other) => {
                return self.errors.push(format!("annotations is {}, not an object", kind_of(other)));
            }
        };
        let own = match Namespace::parse(namespace) {
            Ok(namespace) => namespace,
            Err(error) => return self.errors.push(error.to_string()),
        };
        let asked = asked(annotations, &own, rules);
        let Judgement { errors, warnings } = if pod.is_of_the_host {
            asked.of_host_network()
        } else {
            self.errors.extend(asked.forbidden(&own, rules));
            asked.judgement
        };
        self.errors.extend(errors);
        self.warnings.extend(warnings);
    }
}
