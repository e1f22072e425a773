//! What is answered to an admission request. Pure, but for a line in the log where something is refused.

use std::collections::BTreeSet;

use cni::npwg::{DEFAULT_NETWORK, NETWORKS, Namespace};
use kube::core::admission::{AdmissionResponse, Operation};
use serde_json::{Map, Value};

use super::Desk;
use super::networks::Seen;
use super::request::{Object, Request};
use crate::controller::judgement::Judgement;
use crate::controller::judgement::annotations::{OF_NETWORKS, OF_PODS};
use crate::controller::judgement::{hints, pods};
use crate::excerpt::cut;

/// So many errors are told, and so many warnings.
const MOST_TOLD: usize = 32;
/// So much is told of one, and of other texts that come from elsewhere.
const LONGEST_TOLD: usize = 1 << 10;

/// Answers one request. What is not understood, or none of our business, is allowed.
pub(super) fn answer(request: &Request, desk: &Desk) -> AdmissionResponse {
    let judgement = judge(request, desk);
    let mut response = request.allowed();
    if !judgement.errors.is_empty() {
        let errors = few(judgement.errors);
        let name = format!("{}/{}", request.namespace.as_deref().unwrap_or_default(), request.name);
        tracing::info!(kind = request.kind.kind, name = shorten(&name), ?errors, "refused");
        response = response.deny(text(&errors));
    }
    if !judgement.warnings.is_empty() {
        response.warnings = Some(few(judgement.warnings));
    }
    response
}

/// Those that are told: an answer is short, whoever asks.
fn few(mut texts: Vec<String>) -> Vec<String> {
    let further = texts.len().saturating_sub(MOST_TOLD);
    texts.truncate(MOST_TOLD);
    let further = (further > 0).then(|| format!("and {further} more"));
    texts.iter().map(|text| shorten(text)).chain(further).collect()
}

/// As much of a text as is told.
pub(super) fn shorten(text: &str) -> String {
    cut(text, LONGEST_TOLD, "…")
}

/// One error as it is, several as a list.
fn text(errors: &[String]) -> String {
    match errors {
        [only] => only.clone(),
        _ => format!("\n- {}", errors.join("\n- ")),
    }
}

fn judge(request: &Request, desk: &Desk) -> Judgement {
    let changes = matches!(request.operation, Operation::Create | Operation::Update);
    let whole = request.sub_resource.as_deref().unwrap_or_default().is_empty();
    let Some(object) = request.object.filter(|_| changes && whole) else {
        return Judgement::default();
    };
    let old = || request.old_object.and_then(|old| Object::read(old).ok());
    match (request.kind.group.as_str(), request.kind.kind.as_str()) {
        ("k8s.cni.cncf.io", crds::nad::KIND) => match Object::read(object) {
            Ok(object) => network(request, &object, old().as_ref(), desk),
            Err(error) => unreadable(&error),
        },
        // The API server itself refuses a pod that cannot be read.
        ("", "Pod") => Object::read(object)
            .map_or_else(|_| Judgement::default(), |object| pod(request, &object, old().as_ref(), desk)),
        _ => Judgement::default(),
    }
}

/// A network. One whose configuration stays what it is passes, however wrong: finalizers and labels have to.
/// The chart's `matchConditions` rely on it: newer API servers do not ask about a `spec` that stays what it is.
fn network(request: &Request, object: &Object, old: Option<&Object>, desk: &Desk) -> Judgement {
    if old.is_some_and(|old| old.config() == object.config()) {
        return Judgement::default();
    }
    let mut nad = match object.network() {
        Ok(nad) => nad,
        Err(error) => return unreadable(&error),
    };
    let metadata = &mut nad.metadata;
    metadata.namespace = metadata.namespace.take().or_else(|| request.namespace.clone());
    if metadata.name.is_none() {
        // The API server puts five characters behind it.
        metadata.name = metadata.generate_name.as_ref().map(|prefix| format!("{prefix}00000"));
    }
    match desk.networks.render(&nad, "the admission request") {
        Ok(rendered) => {
            let mut judgement = desk.networks.judge(&rendered);
            judgement.warnings.extend(hints(nad.config()).into_iter().map(str::to_owned));
            judgement.warnings.extend(object.misspelt(OF_NETWORKS));
            judgement
        }
        Err(error) => refusal(error.to_string()),
    }
}

fn unreadable(error: &serde_json::Error) -> Judgement {
    refusal(format!("it cannot be read as a NetworkAttachmentDefinition: {error}"))
}

fn refusal(error: String) -> Judgement {
    Judgement { errors: vec![error], warnings: Vec::new() }
}

/// A pod: only its network annotations matter, and only where they are new.
/// The chart's `matchConditions` rely on it: newer API servers ask only about annotations that are new.
fn pod(request: &Request, object: &Object, old: Option<&Object>, desk: &Desk) -> Judgement {
    let annotations = annotations(object);
    if old.is_some_and(|old| self::annotations(old) == annotations) {
        return Judgement::default();
    }
    let namespace = request.namespace.as_ref().or(object.namespace());
    // No namespace, no pod: the API server will say so itself.
    let Some(Ok(namespace)) = namespace.map(Namespace::parse) else { return Judgement::default() };
    let asked = pods::asked(&annotations, &namespace, &desk.rules);
    if object.is_of_the_host() {
        // Neither is the annotation wrong nor its networks missing: nobody will look at it.
        return asked.of_host_network();
    }
    let forbidden = asked.forbidden(&namespace, &desk.rules);
    let mut judgement = asked.judgement;
    judgement.warnings.extend(object.misspelt(OF_PODS));
    judgement.errors.extend(forbidden);
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
    if object.is_mirror() {
        let seen = |error| {
            format!("the kubelet runs this static pod whether it can be seen here or not, but: {error}")
        };
        judgement.warnings.extend(judgement.errors.drain(..).map(seen));
    }
    judgement
}

/// The annotations that ask for networks.
fn annotations(object: &Object) -> Map<String, Value> {
    let asking = [NETWORKS, DEFAULT_NETWORK].into_iter();
    asking.filter_map(|key| Some((key.to_owned(), object.annotation(key)?.into()))).collect()
}
