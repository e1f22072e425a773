//! What is answered to an admission request. Pure, but for a line in the log where something is refused.

use std::collections::BTreeSet;

use cni::npwg::{DEFAULT_NETWORK, NETWORKS, Namespace};
use crds::NetworkAttachmentDefinition;
use kube::core::DynamicObject;
use kube::core::admission::{AdmissionRequest, AdmissionResponse, Operation};
use serde_json::{Map, Value};

use super::Desk;
use super::networks::Seen;
use crate::controller::judgement::Judgement;
use crate::controller::judgement::{hints, pods};
use crate::node::render;

/// On the API server's picture of a static pod, which the kubelet makes.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// Answers one request. What is not understood, or none of our business, is allowed.
pub(super) fn answer(request: &AdmissionRequest<DynamicObject>, desk: &Desk) -> AdmissionResponse {
    let judgement = judge(request, desk);
    let mut response = AdmissionResponse::from(request);
    if !judgement.errors.is_empty() {
        let name = format!("{}/{}", request.namespace.as_deref().unwrap_or_default(), request.name);
        tracing::info!(kind = request.kind.kind, name, errors = ?judgement.errors, "refused");
        response = response.deny(text(&judgement.errors));
    }
    if !judgement.warnings.is_empty() {
        response.warnings = Some(judgement.warnings);
    }
    response
}

/// One error as it is, several as a list.
fn text(errors: &[String]) -> String {
    match errors {
        [only] => only.clone(),
        _ => format!("\n- {}", errors.join("\n- ")),
    }
}

fn judge(request: &AdmissionRequest<DynamicObject>, desk: &Desk) -> Judgement {
    let changes = matches!(request.operation, Operation::Create | Operation::Update);
    let whole = request.sub_resource.as_deref().unwrap_or_default().is_empty();
    let Some(object) = request.object.as_ref().filter(|_| changes && whole) else {
        return Judgement::default();
    };
    let kind = (request.kind.group.as_str(), request.kind.kind.as_str());
    match kind {
        ("k8s.cni.cncf.io", crds::nad::KIND) => network(request, object, desk),
        ("", "Pod") => pod(request, object, desk),
        _ => Judgement::default(),
    }
}

/// A network. One whose configuration stays what it is passes, however wrong: finalizers and labels have to.
fn network(request: &AdmissionRequest<DynamicObject>, object: &DynamicObject, desk: &Desk) -> Judgement {
    if request.old_object.as_ref().is_some_and(|old| config(old) == config(object)) {
        return Judgement::default();
    }
    let mut nad = match object.clone().try_parse::<NetworkAttachmentDefinition>() {
        Ok(nad) => nad,
        Err(error) => return refusal(format!("it cannot be read as a NetworkAttachmentDefinition: {error}")),
    };
    let metadata = &mut nad.metadata;
    metadata.namespace = metadata.namespace.take().or_else(|| request.namespace.clone());
    if metadata.name.is_none() {
        // The API server puts five characters behind it.
        metadata.name = metadata.generate_name.as_ref().map(|prefix| format!("{prefix}00000"));
    }
    match render::render(&nad, "the admission request") {
        Ok(rendered) => {
            let mut judgement = desk.networks.judge(&rendered);
            judgement.warnings.extend(hints(nad.config()).into_iter().map(str::to_owned));
            judgement
        }
        Err(error) => refusal(error.to_string()),
    }
}

fn config(object: &DynamicObject) -> Option<&Value> {
    object.data.get("spec")?.get("config")
}

fn refusal(error: String) -> Judgement {
    Judgement { errors: vec![error], warnings: Vec::new() }
}

/// A pod: only its network annotations matter, and only where they are new.
fn pod(request: &AdmissionRequest<DynamicObject>, object: &DynamicObject, desk: &Desk) -> Judgement {
    let annotations = annotations(object);
    if request.old_object.as_ref().is_some_and(|old| self::annotations(old) == annotations) {
        return Judgement::default();
    }
    let namespace = request.namespace.as_ref().or(object.metadata.namespace.as_ref());
    // No namespace, no pod: the API server will say so itself.
    let Some(Ok(namespace)) = namespace.map(Namespace::parse) else { return Judgement::default() };
    let asked = pods::asked(&annotations, &namespace, &desk.rules.multus_namespace);
    let mut judgement = asked.judgement;
    for (annotation, selection) in &asked.selections {
        if let Err(error) = desk.rules.isolation.permits(&namespace, &selection.network) {
            judgement.errors.push(format!("annotation {annotation}: {error}"));
        }
    }
    let networks: BTreeSet<_> = asked.selections.iter().map(|(_, selection)| &selection.network).collect();
    for network in networks {
        match desk.networks.look(network) {
            Seen::Usable | Seen::Unknown => {}
            Seen::Missing => judgement.warnings.push(format!(
                "network {network} does not exist; the pod starts once it is created (kubectl get \
                 network-attachment-definitions -n {})",
                network.namespace
            )),
            Seen::Refused(reason) => judgement
                .warnings
                .push(format!("network {network} cannot be used, so the pod will not start: {reason}")),
        }
    }
    if let Some(reason) = never_attached(object) {
        judgement.warnings.extend(judgement.errors.drain(..).map(|error| format!("{reason}, but: {error}")));
    }
    judgement
}

/// The annotations that ask for networks.
fn annotations(object: &DynamicObject) -> Map<String, Value> {
    let all = object.metadata.annotations.iter().flatten();
    let ours = all.filter(|(key, _)| [NETWORKS, DEFAULT_NETWORK].contains(&key.as_str()));
    ours.map(|(key, value)| (key.clone(), value.as_str().into())).collect()
}

/// Why nothing is won by refusing a pod, whatever its annotations say.
fn never_attached(object: &DynamicObject) -> Option<&'static str> {
    if object.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(MIRROR)) {
        return Some("the kubelet runs this static pod whether it can be seen here or not");
    }
    let host = object.data.get("spec").and_then(|spec| spec.get("hostNetwork"));
    (host == Some(&Value::Bool(true))).then_some("a pod of the host's network gets no other networks")
}
