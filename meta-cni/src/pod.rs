//! Which pod it is, and what its annotations ask for.
//!
//! Annotations come from the runtime (`io.kubernetes.cri.pod-annotations`: containerd since 1.5, CRI-O since
//! 1.29) or, where it does not pass them, from the pod's file, which is waited for. Isolation is judged here,
//! for every network that a pod names, and so is how many they are, before anything is looked up.

use std::collections::BTreeMap;

use cni::npwg::selection::{SelectionError, parse_default_network, parse_selections};
use cni::npwg::{self, IsolationError, Namespace, Selection};
use cni::{CapabilityArgs, CniArgs, CniError, Code};
use serde_json::Value;
use store::StoreError;
use store::pod::PodFacts;
use store::record::PodIdentity;
use store::settings::Settings;

use crate::log::Log;

/// The capability by which runtimes pass a pod's annotations.
pub(crate) const ANNOTATIONS: &str = "io.kubernetes.cri.pod-annotations";

/// What a pod asks for. A container that is no pod asks for nothing.
#[derive(Debug, Default)]
pub(crate) struct Wishes {
    /// Who it is.
    pub(crate) pod: Option<PodIdentity>,
    /// Its namespace.
    pub(crate) namespace: Option<Namespace>,
    /// The network that it wants as its primary.
    pub(crate) default_network: Option<Selection>,
    /// The networks that it wants besides.
    pub(crate) networks: Vec<Selection>,
}

/// Why it cannot be known what a pod asks for, or why it may not have it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PodError {
    #[error("K8S_POD_NAMESPACE in CNI_ARGS is not valid")]
    Namespace(#[source] npwg::NameError),
    #[error("runtimeConfig[{ANNOTATIONS:?}] is not an object of texts")]
    Annotations,
    #[error(
        "pod {pod}: the runtime passes no annotations, and the node directory has no facts about this pod: {missing}. let the runtime pass annotations (containerd 1.5, CRI-O 1.29 and later: \"capabilities\": {{\"{ANNOTATIONS}\": true}} in meta-cni's configuration), or see that Braid's node role runs on this node and reaches the API server: it writes these facts then, but not with --manifests"
    )]
    Unknown { pod: String, missing: String },
    #[error("read the facts about pod {pod}")]
    Facts { pod: String, source: StoreError },
    #[error("pod {pod}: annotation {annotation}")]
    Selection { pod: String, annotation: &'static str, source: SelectionError },
    #[error("pod {pod}: annotation {annotation}")]
    Isolation { pod: String, annotation: &'static str, source: IsolationError },
    #[error("wait for the facts about a pod{}", store::watch::advice(.0))]
    Wait(#[from] std::io::Error),
}

impl PodError {
    pub(crate) fn to_cni_error(&self) -> CniError {
        let code = match self {
            Self::Namespace(_) => Code::INVALID_ENVIRONMENT,
            Self::Annotations => Code::INVALID_CONFIG,
            Self::Unknown { .. } => Code::TRY_AGAIN_LATER,
            Self::Facts { source, .. } => source.code(),
            Self::Selection { source, .. } => source.code(),
            Self::Isolation { source, .. } => source.code(),
            Self::Wait(error) => store::watch::code(error),
        };
        CniError::from_chain(code, self)
    }
}

/// Finds out what the pod asks for.
pub(crate) fn wishes(
    settings: &Settings,
    args: &CniArgs,
    runtime: &CapabilityArgs,
    log: &Log,
) -> Result<Wishes, PodError> {
    let Some(pod) = identity(args) else {
        log.debug("not a pod: no networks but the node's own", &[]);
        return Ok(Wishes::default());
    };
    let namespace = Namespace::parse(pod.namespace.clone()).map_err(PodError::Namespace)?;
    let annotations = match from_runtime(runtime)? {
        Some(annotations) => annotations,
        None => from_facts(settings, &pod)?,
    };
    let wishes = Wishes {
        default_network: default_network(settings, &pod, &annotations)?,
        networks: networks(settings, &pod, &namespace, &annotations)?,
        namespace: Some(namespace.clone()),
        pod: Some(pod.clone()),
    };
    let named = wishes.default_network.iter().map(|selection| (npwg::DEFAULT_NETWORK, selection));
    for (annotation, selection) in named.chain(wishes.networks.iter().map(|s| (npwg::NETWORKS, s))) {
        settings.isolation.permits(&namespace, &selection.network).map_err(|source| PodError::Isolation {
            pod: text(&pod),
            annotation,
            source,
        })?;
        for key in &selection.unknown_keys {
            log.warn(
                "a key of an annotation has no effect",
                &[("network", &selection.network), ("key", key)],
            );
        }
    }
    Ok(wishes)
}

/// The pod that CNI_ARGS name; podman and nerdctl name none, or only a name.
pub(crate) fn identity(args: &CniArgs) -> Option<PodIdentity> {
    let get = |key| args.get(key).filter(|value| !value.is_empty()).map(str::to_owned);
    Some(PodIdentity {
        namespace: get("K8S_POD_NAMESPACE")?,
        name: get("K8S_POD_NAME")?,
        uid: get("K8S_POD_UID"),
    })
}

fn text(pod: &PodIdentity) -> String {
    format!("{}/{}", pod.namespace, pod.name)
}

type Annotations = BTreeMap<String, String>;

/// `None` if the runtime does not pass annotations; a pod without any comes as `null` or `{}`.
fn from_runtime(runtime: &CapabilityArgs) -> Result<Option<Annotations>, PodError> {
    match runtime.get(ANNOTATIONS) {
        None => Ok(None),
        Some(Value::Null) => Ok(Some(Annotations::new())),
        Some(annotations) => {
            serde_json::from_value(annotations.clone()).map(Some).map_err(|_| PodError::Annotations)
        }
    }
}

fn from_facts(settings: &Settings, pod: &PodIdentity) -> Result<Annotations, PodError> {
    let dir = &settings.directory;
    let path = dir.pod(&pod.namespace, &pod.name);
    let mut missing = format!("{} does not exist", path.display());
    let look = || {
        let facts = PodFacts::read(dir, &pod.namespace, &pod.name)
            .map_err(|source| PodError::Facts { pod: text(pod), source })?;
        Ok(facts.and_then(|facts| match refusal(&facts, pod) {
            None => Some(facts.annotations),
            Some(reason) => {
                missing = reason;
                None
            }
        }))
    };
    let found: Result<_, PodError> =
        store::watch::until(std::slice::from_ref(&path), settings.network_wait, look);
    found?.ok_or_else(|| PodError::Unknown { pod: text(pod), missing })
}

/// Why facts are not about this pod. A pod that was created anew under its old name has another uid; the uid
/// of a static pod is the file's for the runtime and another for the API server.
fn refusal(facts: &PodFacts, pod: &PodIdentity) -> Option<String> {
    let uid = pod.uid.as_ref()?;
    let is_static = facts.annotations.get(npwg::CONFIG_SOURCE).is_some_and(|source| source != "api");
    if is_static || *uid == facts.uid {
        return None;
    }
    Some(format!("those that are there are about uid {}, the runtime asks for uid {uid}", facts.uid))
}

fn default_network(
    settings: &Settings,
    pod: &PodIdentity,
    annotations: &Annotations,
) -> Result<Option<Selection>, PodError> {
    let Some(annotation) = annotations.get(npwg::DEFAULT_NETWORK) else { return Ok(None) };
    parse_default_network(annotation, &settings.multus_namespace)
        .map(Some)
        .map_err(|source| PodError::Selection { pod: text(pod), annotation: npwg::DEFAULT_NETWORK, source })
}

fn networks(
    settings: &Settings,
    pod: &PodIdentity,
    namespace: &Namespace,
    annotations: &Annotations,
) -> Result<Vec<Selection>, PodError> {
    let annotation = annotations.get(npwg::NETWORKS).map_or("", String::as_str);
    parse_selections(annotation, namespace, settings.max_attachments).map_err(|source| PodError::Selection {
        pod: text(pod),
        annotation: npwg::NETWORKS,
        source,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_that_has_run_out_of_inotify_is_told_so_and_tried_again() {
        for (errno, code) in [(rustix::io::Errno::MFILE, 11), (rustix::io::Errno::ACCESS, 5)] {
            let error = PodError::from(std::io::Error::from(errno)).to_cni_error();
            assert_eq!(error.code.0, code, "{error}");
            assert_eq!(error.msg.contains("fs.inotify.max_user_instances"), code == 11, "{error}");
        }
    }

    /// A network as a tenant may write it who wants another namespace's.
    fn any_network() -> impl Strategy<Value = String> {
        prop_oneof![
            Just("other/net".to_owned()),
            Just("app/net".to_owned()),
            Just("net".to_owned()),
            Just("default/net".to_owned()),
            "(app|default|other|\\.\\.|\\.|%2e|)/{1,2}(\\.\\./|other/|)(net|other|\\.\\.)(@eth[0-9]|@net1|)",
            "[a-z/@.,%; \\x00-]{0,16}",
        ]
    }

    /// One element in JSON: keys of the standard in several spellings, each perhaps twice.
    fn any_element() -> impl Strategy<Value = String> {
        let key = prop_oneof![
            Just("name"),
            Just("Name"),
            Just("namespace"),
            Just("Namespace"),
            Just("NAMESPACE"),
            Just("nameſpace"),
            Just("interface"),
            Just("cni-args"),
            Just("default-route"),
        ];
        let value = prop_oneof![
            any_network().prop_map(|text| json!(text)),
            Just(json!("other")),
            Just(json!("app")),
            Just(json!(null)),
            Just(json!({"type": "evil", "namespace": "other"})),
            Just(json!(["other"])),
        ];
        proptest::collection::vec((key, value), 0..5).prop_map(|pairs| {
            let pairs: Vec<_> = pairs.iter().map(|(key, value)| format!("{}:{value}", json!(key))).collect();
            format!("{{{}}}", pairs.join(","))
        })
    }

    fn any_annotation() -> impl Strategy<Value = String> {
        prop_oneof![
            proptest::collection::vec(any_network(), 1..4).prop_map(|items| items.join(",")),
            proptest::collection::vec(any_element(), 1..4).prop_map(|items| format!("[{}]", items.join(","))),
        ]
    }

    proptest! {
        #[test]
        fn no_annotation_leads_past_isolation(
            annotation in any_annotation(),
            key in prop_oneof![Just(npwg::NETWORKS), Just(npwg::DEFAULT_NETWORK)],
        ) {
            let settings = json!({"namespaceIsolation": true, "multusNamespace": "other", "logLevel": "off"});
            let settings = Settings::parse(settings.as_object().unwrap()).unwrap();
            let args = CniArgs::parse("K8S_POD_NAMESPACE=app;K8S_POD_NAME=web").unwrap();
            let runtime = json!({ANNOTATIONS: {key: annotation}}).as_object().unwrap().clone();
            let log = Log::new(settings.log.clone());
            // What is refused is no way past it either.
            if let Ok(wishes) = wishes(&settings, &args, &runtime, &log) {
                for selection in wishes.default_network.iter().chain(&wishes.networks) {
                    let namespace = selection.network.namespace.as_str();
                    prop_assert!(["app", "default"].contains(&namespace), "{annotation}: {}", selection.network);
                }
            }
        }
    }
}
