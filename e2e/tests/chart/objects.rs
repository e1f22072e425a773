//! Whether something is an object of Kubernetes, to the last field.
//!
//! The types pass over fields that they do not know. So an object is read and written again: what is lost on the way is
//! a field that does not exist, or one at a wrong place.

use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// What is wrong with an object.
pub(crate) fn problems(object: &Value) -> Vec<String> {
    let text = |key: &str| object[key].as_str().unwrap_or_default();
    let again = match (text("apiVersion"), text("kind")) {
        ("v1", "Namespace") => again::<Namespace>(object),
        ("v1", "ServiceAccount") => again::<ServiceAccount>(object),
        ("v1", "ConfigMap") => again::<ConfigMap>(object),
        ("v1", "Service") => again::<Service>(object),
        ("apps/v1", "DaemonSet") => again::<DaemonSet>(object),
        ("apps/v1", "Deployment") => again::<Deployment>(object),
        ("batch/v1", "Job") => again::<Job>(object),
        ("policy/v1", "PodDisruptionBudget") => again::<PodDisruptionBudget>(object),
        ("networking.k8s.io/v1", "NetworkPolicy") => again::<NetworkPolicy>(object),
        ("rbac.authorization.k8s.io/v1", "Role") => again::<Role>(object),
        ("rbac.authorization.k8s.io/v1", "RoleBinding") => again::<RoleBinding>(object),
        ("rbac.authorization.k8s.io/v1", "ClusterRole") => again::<ClusterRole>(object),
        ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding") => again::<ClusterRoleBinding>(object),
        ("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration") => {
            again::<ValidatingWebhookConfiguration>(object)
        }
        ("apiextensions.k8s.io/v1", "CustomResourceDefinition") => again::<CustomResourceDefinition>(object),
        // Of the Prometheus operator, whose types are not here.
        ("monitoring.coreos.com/v1", "ServiceMonitor" | "PrometheusRule") => Ok(object.clone()),
        (version, kind) => Err(format!("{version} {kind} is of no known kind")),
    };
    let mut found = Vec::new();
    let name = &object["metadata"]["name"];
    match again {
        Ok(again) => lost(object, &again, &format!("{} {name}", object["kind"]), &mut found),
        Err(error) => found.push(format!("{} {name}: {error}", object["kind"])),
    }
    found
}

fn again<T: Serialize + DeserializeOwned>(object: &Value) -> Result<Value, String> {
    let read: T = serde_json::from_value(object.clone()).map_err(|error| error.to_string())?;
    serde_json::to_value(read).map_err(|error| error.to_string())
}

fn lost(before: &Value, after: &Value, at: &str, found: &mut Vec<String>) {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            for (key, value) in before {
                match after.get(key) {
                    Some(after) => lost(value, after, &format!("{at}.{key}"), found),
                    None => found.push(format!("{at}.{key} does not exist")),
                }
            }
        }
        (Value::Array(before), Value::Array(after)) if before.len() == after.len() => {
            for (index, (before, after)) in before.iter().zip(after).enumerate() {
                lost(before, after, &format!("{at}[{index}]"), found);
            }
        }
        (before, after) if before == after => {}
        (before, after) => found.push(format!("{at} is {before}, and is read as {after}")),
    }
}

#[test]
fn a_field_that_does_not_exist_a_wrong_kind_of_value_and_a_wrong_kind_are_found() {
    let service =
        |spec: Value| json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": spec});
    assert_eq!(problems(&service(json!({"clusterIP": "None"}))), [""; 0]);
    for (object, part) in [
        (service(json!({"clusterIp": "None"})), ".spec.clusterIp does not exist"),
        (service(json!({"clusterIP": null})), ".spec.clusterIP does not exist"),
        (service(json!({"ports": [{"port": "many"}]})), "invalid type"),
        (json!({"apiVersion": "v1", "kind": "Servce"}), "no known kind"),
    ] {
        let found = problems(&object);
        assert!(found.len() == 1 && found[0].contains(part), "{part}: {found:?}");
    }
}
