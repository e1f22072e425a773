//! One patch of one pod, and what its answer means.

use std::time::Duration;

use cni::npwg::NETWORK_STATUS;
use http::HeaderValue;
use http::header::ACCEPT;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Patch as Body, PatchParams};
use kube::{Client, Resource};
use serde::de::IgnoredAny;
use serde_json::json;

use super::decide::{Ended, Patch};
use crate::cluster::{FIELD_MANAGER, Meaning, cause_text, meaning, within};

/// A request that hangs is given up after this.
const LONGEST: Duration = Duration::from_secs(10);
/// Only the metadata of the patched pod is to come back, not the whole of it.
const METADATA: HeaderValue =
    HeaderValue::from_static("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json");

/// How a patch went.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) ended: Ended,
    /// Why it did not hold, for people; empty where it did.
    pub(super) why: String,
    /// The answer's HTTP status, 0 without an answer.
    pub(super) code: u16,
    /// The failure, to be counted.
    pub(super) error: Option<kube::Error>,
}

/// Sends one patch; takes at most ten seconds.
pub(super) async fn patch(client: Client, patch: Patch) -> (Patch, Answer) {
    let answer = match within(LONGEST, send(&client, &patch)).await {
        Ok(()) => Answer { ended: Ended::Held, why: String::new(), code: 200, error: None },
        Err(error) => read(error),
    };
    (patch, answer)
}

async fn send(client: &Client, patch: &Patch) -> Result<(), kube::Error> {
    let (namespace, name) = &patch.pod;
    let body = json!({"metadata": {"uid": patch.uid, "annotations": {NETWORK_STATUS: patch.text}}});
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let pods = kube::core::Request::new(Pod::url_path(&(), Some(namespace)));
    let mut request = pods
        .patch_subresource("status", name, &params, &Body::Merge(body))
        .map_err(kube::Error::BuildRequest)?;
    request.headers_mut().insert(ACCEPT, METADATA);
    client.request::<IgnoredAny>(request).await.map(drop)
}

fn read(error: kube::Error) -> Answer {
    let status = match &error {
        kube::Error::Api(status) => Some(status),
        _ => None,
    };
    let details = status.and_then(|status| status.details.as_ref());
    let another_uid =
        details.is_some_and(|details| details.causes.iter().any(|cause| cause.field == "metadata.uid"));
    let ended = match meaning(&error) {
        Meaning::Gone | Meaning::Conflict => Ended::Moot,
        Meaning::Refused if another_uid => Ended::Moot,
        Meaning::Refused => Ended::Refused,
        Meaning::Stranger | Meaning::Forbidden | Meaning::Later => {
            let asked = details.map(|details| u64::from(details.retry_after_seconds));
            Ended::Later(asked.filter(|&seconds| seconds > 0).map(Duration::from_secs))
        }
    };
    let code = status.map_or(0, |status| status.code);
    Answer { ended, why: cause_text(&error), code, error: Some(error) }
}
