//! Objects as watches read them: what Braid goes by, and nothing else.
//!
//! A tenant's object may have 1.5 MB. What is not needed is skipped where it stands: other people's labels and
//! annotations, fields that somebody manages, a configuration that is too long to be read. As values in memory they
//! would take a hundred times their length, on every node at once. A field of the wrong kind is told of, and hinders
//! no other object.
//!
//! | of | is read as |
//! |---|---|
//! | networks | [`Definition`] |
//! | pods | [`Metadata`] |

mod definition;
mod lenient;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use cni::npwg::{CONFIG_SOURCE, DEFAULT_NETWORK, NETWORK_STATUS, NETWORKS, RESOURCE_NAME};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Resource;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

pub use definition::{Definition, Shown};

/// On the API server's picture of a static pod, which the kubelet makes: the uid that the kubelet tells the runtime.
pub const MIRROR: &str = "kubernetes.io/config.mirror";

/// The annotations that matter.
const KEPT: [&str; 6] = [NETWORKS, DEFAULT_NETWORK, CONFIG_SOURCE, NETWORK_STATUS, RESOURCE_NAME, MIRROR];

/// Those of an object's annotations that matter.
#[derive(Debug, Default, Clone)]
pub(crate) struct Annotations(pub(crate) BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Annotations {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Kept;

        impl<'de> Visitor<'de> for Kept {
            type Value = Annotations;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("annotations")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Annotations, M::Error> {
                let mut kept = BTreeMap::new();
                while let Some(key) = map.next_key::<String>()? {
                    if KEPT.contains(&key.as_str()) {
                        kept.insert(key, map.next_value()?);
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(Annotations(kept))
            }
        }

        deserializer.deserialize_map(Kept)
    }
}

/// What matters of any object's metadata.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Head {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    generation: Option<i64>,
    creation_timestamp: Option<Time>,
    annotations: Option<Annotations>,
}

impl From<Head> for ObjectMeta {
    fn from(head: Head) -> Self {
        Self {
            name: head.name,
            namespace: head.namespace,
            uid: head.uid,
            resource_version: head.resource_version,
            generation: head.generation,
            creation_timestamp: head.creation_timestamp,
            annotations: head.annotations.map(|kept| kept.0),
            ..Self::default()
        }
    }
}

/// A pod's metadata; the API server is asked for nothing else of it.
#[derive(Debug, Clone)]
pub struct Metadata(pub ObjectMeta);

impl<'de> Deserialize<'de> for Metadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Object {
            #[serde(default)]
            metadata: Head,
        }
        Ok(Self(Object::deserialize(deserializer)?.metadata.into()))
    }
}

impl Resource for Metadata {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn metadata_api() -> bool {
        true
    }

    fn kind((): &()) -> Cow<'_, str> {
        Pod::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        Pod::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        Pod::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        Pod::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.0
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn of_a_pod_the_metadata_that_matter_are_read() {
        let pod = json!({"metadata": {
            "name": "p", "namespace": "b", "uid": "u", "creationTimestamp": "2026-11-01T00:00:00Z",
            "labels": {"l": "m"}, "annotations": {NETWORKS: "a", "note": "x", MIRROR: "h"},
        }});
        let Metadata(read) = serde_json::from_str(&pod.to_string()).unwrap();
        let expected = json!({
            "name": "p", "namespace": "b", "uid": "u", "creationTimestamp": "2026-11-01T00:00:00Z",
            "annotations": {NETWORKS: "a", MIRROR: "h"},
        });
        assert_eq!(serde_json::to_value(read).unwrap(), expected);
    }
}
