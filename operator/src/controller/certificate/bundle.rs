//! The CA bundle in the ValidatingWebhookConfiguration: written only where it differs.

use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use kube::api::{Patch, PatchParams};
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Client};
use serde_json::{Value, json};

use super::CertificateError;
use crate::cluster::{FIELD_MANAGER, Meaning, meaning};

/// Makes the CAs known to the API server. Whoever changed the configuration meanwhile wins; the next look comes.
pub(super) async fn make_known(client: &Client, name: &str, bundle: &[u8]) -> Result<(), CertificateError> {
    let failed = |verb, source| CertificateError::Configuration { verb, name: name.to_owned(), source };
    // Untyped: fields of newer API servers have to survive.
    let resource = ApiResource::erase::<ValidatingWebhookConfiguration>(&());
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    let found = api.get_opt(name).await.map_err(|source| failed("read", source))?;
    let found = found.ok_or_else(|| CertificateError::NoConfiguration(name.to_owned()))?;
    let Some(patch) = patch(&found, bundle) else { return Ok(()) };
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    match api.patch(name, &params, &Patch::Merge(patch)).await {
        Ok(_) => {
            tracing::info!(configuration = name, "the webhook's CA bundle was brought up to date");
            Ok(())
        }
        Err(error) if meaning(&error) == Meaning::Conflict => Ok(()),
        Err(source) => Err(failed("patch", source)),
    }
}

/// A merge patch that gives every webhook the bundle; `None` where all have it. A merge patch replaces a list, so
/// all of it is in there, for the one resourceVersion that it was made from.
fn patch(configuration: &DynamicObject, bundle: &[u8]) -> Option<Value> {
    let mut webhooks = configuration.data.get("webhooks")?.as_array()?.clone();
    let bundle = serde_json::to_value(ByteString(bundle.to_vec())).ok()?;
    let mut differs = false;
    for webhook in &mut webhooks {
        let Some(client) = webhook.get_mut("clientConfig").and_then(Value::as_object_mut) else { continue };
        if client.get("caBundle") != Some(&bundle) {
            client.insert("caBundle".to_owned(), bundle.clone());
            differs = true;
        }
    }
    let version = configuration.metadata.resource_version.clone();
    differs.then(|| json!({"metadata": {"resourceVersion": version}, "webhooks": webhooks}))
}
