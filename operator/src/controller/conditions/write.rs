//! Writing a network's status, and the event that it is not valid.

use std::collections::{HashMap, HashSet};

use crds::{NetworkAttachmentDefinition, NetworkAttachmentDefinitionStatus};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;

use crate::cluster::{Meaning, meaning};
use crate::controller::known::Network;
use crate::controller::reports::FIELD_MANAGER;
use crate::excerpt::cut;

/// What became of a status that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    /// It is there.
    Done,
    /// The network is gone or another one by now; the watch says so.
    Moot,
    /// Networks have no `status` here.
    NoStatus,
}

/// Writes the status of a network as it was seen: if somebody has changed it meanwhile, nothing is written.
pub(super) async fn status(
    client: &Client,
    network: &Network,
    desired: &NetworkAttachmentDefinitionStatus,
) -> Result<Written, kube::Error> {
    let api: Api<NetworkAttachmentDefinition> = Api::namespaced(client.clone(), &network.namespace);
    let metadata = json!({"uid": network.uid, "resourceVersion": network.version});
    let patch = Patch::Merge(json!({"metadata": metadata, "status": desired}));
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let request = api.patch_status(&network.name, &params, &patch);
    match request.await {
        Ok(now) if now.status.as_ref() == Some(desired) => Ok(Written::Done),
        // A definition that has a status, but not this one: our fields were dropped.
        Ok(_) => Ok(Written::NoStatus),
        // The answer could not be read: it was written all the same.
        Err(kube::Error::SerdeError(_)) => Ok(Written::Done),
        Err(error) => match meaning(&error) {
            Meaning::Conflict => Ok(Written::Moot),
            Meaning::Gone => match api.get_metadata_opt(&network.name).await? {
                Some(_) => Ok(Written::NoStatus),
                None => Ok(Written::Moot),
            },
            _ => Err(error),
        },
    }
}

/// The event that a network is not valid. Its name is made of the network's uid and generation: there is one,
/// whoever leads and however often it is written.
pub(super) fn event(network: &Network, message: &str, reporter: &str) -> Event {
    let generation = network.generation.unwrap_or_default();
    let name = cut_name(&network.name, 200);
    let uid: String = network.uid.chars().take(8).filter(char::is_ascii_alphanumeric).collect();
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{name}.invalid-{uid}-{generation}")),
            namespace: Some(network.namespace.clone()),
            ..ObjectMeta::default()
        },
        action: Some("Judging".to_owned()),
        reason: Some("NetworkInvalid".to_owned()),
        note: Some(cut(message, 1024, "…")),
        type_: Some("Warning".to_owned()),
        event_time: Some(MicroTime(Timestamp::now())),
        reporting_controller: Some("braid.dev/controller".to_owned()),
        reporting_instance: Some(cut(reporter, 128, "…")),
        regarding: Some(ObjectReference {
            api_version: Some(crds::nad::API_VERSION.to_owned()),
            kind: Some(crds::nad::KIND.to_owned()),
            namespace: Some(network.namespace.clone()),
            name: Some(network.name.clone()),
            uid: Some(network.uid.clone()),
            resource_version: Some(network.version.clone()),
            ..ObjectReference::default()
        }),
        ..Event::default()
    }
}

/// The beginning of a name, which is a name too.
fn cut_name(name: &str, most: usize) -> &str {
    name.get(..most).unwrap_or(name).trim_end_matches(['.', '-'])
}

/// Writes an event; whether it is a new one.
pub(super) async fn publish(client: &Client, event: &Event) -> Result<bool, kube::Error> {
    let namespace = event.metadata.namespace.as_deref().unwrap_or_default();
    let api: Api<Event> = Api::namespaced(client.clone(), namespace);
    match api.create(&PostParams::default(), event).await {
        Ok(_) | Err(kube::Error::SerdeError(_)) => Ok(true),
        // It is there already, or its namespace is going away.
        Err(error) if matches!(meaning(&error), Meaning::Conflict | Meaning::Gone) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Which events have been written.
#[derive(Debug, Default)]
pub(super) struct Told {
    by_uid: HashMap<String, Option<i64>>,
}

impl Told {
    /// Whether it has been told that this generation is not valid.
    pub(super) fn has(&self, network: &Network) -> bool {
        self.by_uid.get(&network.uid) == Some(&network.generation)
    }

    /// It has been told now.
    pub(super) fn tell(&mut self, network: &Network) {
        self.by_uid.insert(network.uid.clone(), network.generation);
    }

    /// Forgets the networks that are not among these uids.
    pub(super) fn keep(&mut self, uids: &HashSet<&str>) {
        self.by_uid.retain(|uid, _| uids.contains(uid.as_str()));
    }
}
