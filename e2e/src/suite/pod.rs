//! Pods of scenarios, as manifests.

use serde_json::{Value, json};

/// The annotation that names networks.
pub const NETWORKS: &str = "k8s.v1.cni.cncf.io/networks";

/// The annotation that names another primary network.
pub const DEFAULT_NETWORK: &str = "v1.multus-cni.io/default-network";

/// The annotation that tells what a pod got.
pub const NETWORK_STATUS: &str = "k8s.v1.cni.cncf.io/network-status";

/// A pod to be: one container that sleeps for ever, unless told otherwise.
#[derive(Debug, Clone)]
#[must_use]
pub struct Pod {
    /// Its name.
    pub name: String,
    manifest: Value,
}

impl Pod {
    /// A pod without secondary networks.
    pub fn new(name: &str) -> Self {
        let manifest = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": { "name": name, "annotations": {}, "labels": { "app": name } },
            "spec": {
                "terminationGracePeriodSeconds": 0,
                "enableServiceLinks": false,
                "automountServiceAccountToken": false,
                "containers": [{ "name": "main", "imagePullPolicy": "IfNotPresent" }],
            },
        });
        Self { name: name.to_owned(), manifest }
    }

    /// Asks for networks, in either form of the annotation.
    pub fn networks(self, selections: &str) -> Self {
        self.annotation(NETWORKS, selections)
    }

    /// Gives it an annotation.
    pub fn annotation(mut self, key: &str, value: &str) -> Self {
        self.manifest["metadata"]["annotations"][key] = value.into();
        self
    }

    /// Gives it a label.
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.manifest["metadata"]["labels"][key] = value.into();
        self
    }

    /// Puts it on a node, past the scheduler.
    pub fn on(self, node: &str) -> Self {
        self.with("nodeName", json!(node))
    }

    /// What its container runs, a shell script.
    pub fn running(mut self, script: &str) -> Self {
        self.manifest["spec"]["containers"][0]["command"] = json!(["sh", "-c", script]);
        self
    }

    /// Sets a field of its spec.
    pub fn with(mut self, field: &str, value: Value) -> Self {
        self.manifest["spec"][field] = value;
        self
    }

    /// Sets a field of its container.
    pub fn with_container(mut self, field: &str, value: Value) -> Self {
        self.manifest["spec"]["containers"][0][field] = value;
        self
    }

    /// Its manifest in a namespace. Containers without an image get `image`.
    pub fn manifest(&self, namespace: &str, image: &str) -> Value {
        let mut manifest = self.manifest.clone();
        manifest["metadata"]["namespace"] = namespace.into();
        complete(&mut manifest["spec"], image);
        manifest
    }

    /// The template of a workload with pods like this one.
    pub fn template(&self, image: &str) -> Value {
        let manifest = self.manifest("", image);
        let mut spec = manifest["spec"].clone();
        spec["restartPolicy"] = manifest["spec"].get("restartPolicy").cloned().unwrap_or("Always".into());
        json!({
            "metadata": {
                "labels": manifest["metadata"]["labels"],
                "annotations": manifest["metadata"]["annotations"],
            },
            "spec": spec,
        })
    }
}

/// Gives every container without an image one.
fn complete(spec: &mut Value, image: &str) {
    for list in ["containers", "initContainers"] {
        for container in spec[list].as_array_mut().into_iter().flatten() {
            if container["image"].is_null() {
                container["image"] = image.into();
            }
            container["imagePullPolicy"] = "IfNotPresent".into();
        }
    }
    if spec["initContainers"].is_null()
        && let Some(spec) = spec.as_object_mut()
    {
        spec.remove("initContainers");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_without_an_image_get_the_test_image_and_others_keep_theirs() {
        let more = json!([{ "name": "a" }, { "name": "b", "image": "other" }]);
        let manifest = Pod::new("p").with("initContainers", more).manifest("ns", "test");
        assert_eq!(manifest["spec"]["containers"][0]["image"], "test");
        assert_eq!(manifest["spec"]["initContainers"][0]["image"], "test");
        assert_eq!(manifest["spec"]["initContainers"][1]["image"], "other");
        assert!(Pod::new("p").manifest("ns", "test")["spec"].get("initContainers").is_none());
    }
}
