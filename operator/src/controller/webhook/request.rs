//! What is read of a review: the few fields that an answer goes by.
//!
//! Everything else is skipped where it stands. As values in memory a text such as `[{"a":0},{"a":0},…]` would take a
//! hundred times its length.

use std::fmt;

use crds::{NetworkAttachmentDefinition, NetworkAttachmentDefinitionSpec};
use kube::core::TypeMeta;
use kube::core::admission::{AdmissionResponse, Operation};
use kube::core::response::Status;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::controller::judgement::annotations::{OF_NETWORKS, OF_PODS, misspelt};
use crate::lean::{Annotations, MIRROR};

/// So many keys of annotations are kept that are nearly known ones.
const MOST_NEAR_KEYS: usize = 8;
/// An API server's have 36 bytes.
const LONGEST_UID: usize = 128;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review<'a> {
    api_version: String,
    kind: String,
    #[serde(borrow)]
    request: Option<Request<'a>>,
}

/// A request, with its objects as they were sent.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Request<'a> {
    #[serde(skip)]
    types: TypeMeta,
    uid: String,
    pub(super) kind: Kind,
    #[serde(default)]
    pub(super) sub_resource: Option<String>,
    #[serde(default)]
    pub(super) name: String,
    #[serde(default)]
    pub(super) namespace: Option<String>,
    pub(super) operation: Operation,
    #[serde(borrow, default)]
    pub(super) object: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) old_object: Option<&'a RawValue>,
}

/// The kind of the objects.
#[derive(Debug, Deserialize)]
pub(super) struct Kind {
    pub(super) group: String,
    pub(super) kind: String,
}

impl<'a> Request<'a> {
    /// The request of a review.
    pub(super) fn read(body: &'a [u8]) -> Result<Self, String> {
        let review: Review =
            serde_json::from_slice(body).map_err(|error| format!("this is no AdmissionReview: {error}"))?;
        let mut request = review.request.ok_or("the AdmissionReview holds no request")?;
        if request.uid.len() > LONGEST_UID {
            return Err(format!("the request's uid is longer than {LONGEST_UID} bytes"));
        }
        request.types = TypeMeta { api_version: review.api_version, kind: review.kind };
        Ok(request)
    }

    /// The answer that lets it pass.
    pub(super) fn allowed(&self) -> AdmissionResponse {
        let mut response = AdmissionResponse::invalid("");
        response.types = self.types.clone();
        response.uid.clone_from(&self.uid);
        response.allowed = true;
        response.result = Status::default();
        response
    }
}

/// What matters of an object.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Object<'a> {
    #[serde(default)]
    metadata: Metadata,
    #[serde(borrow, default)]
    spec: Option<&'a RawValue>,
    /// All of it.
    #[serde(skip)]
    text: &'a str,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: Option<String>,
    generate_name: Option<String>,
    namespace: Option<String>,
    annotations: Option<Annotations>,
}

/// An object, of which only keys of annotations matter.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Named {
    metadata: NamedMetadata,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct NamedMetadata {
    annotations: NearKeys,
}

/// Keys of annotations that are nearly those of pods or networks; others are skipped where they stand.
#[derive(Default)]
struct NearKeys(Vec<String>);

impl<'de> Deserialize<'de> for NearKeys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;

        impl<'de> Visitor<'de> for Keys {
            type Value = NearKeys;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("annotations")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<NearKeys, M::Error> {
                let mut near = Vec::new();
                while let Some(key) = map.next_key::<String>()? {
                    let is_near = [OF_PODS, OF_NETWORKS].iter().any(|read| misspelt(&key, read).is_some());
                    if is_near && near.len() < MOST_NEAR_KEYS {
                        near.push(key);
                    }
                    map.next_value::<IgnoredAny>()?;
                }
                Ok(NearKeys(near))
            }
        }

        deserializer.deserialize_map(Keys)
    }
}

/// What a `spec` holds; which of it depends on the kind.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec<'a> {
    #[serde(borrow, default)]
    config: Option<&'a RawValue>,
    #[serde(borrow, default)]
    host_network: Option<&'a RawValue>,
}

impl<'a> Object<'a> {
    pub(super) fn read(raw: &'a RawValue) -> serde_json::Result<Self> {
        Ok(Self { text: raw.get(), ..serde_json::from_str(raw.get())? })
    }

    pub(super) fn namespace(&self) -> Option<&String> {
        self.metadata.namespace.as_ref()
    }

    /// An annotation, if it is one of those that matter.
    pub(super) fn annotation(&self, key: &str) -> Option<&str> {
        self.metadata.annotations.as_ref()?.0.get(key).map(String::as_str)
    }

    /// The warnings about annotations whose keys are nearly those that are read.
    pub(super) fn misspelt(&self, read: &'static [&'static str]) -> Vec<String> {
        let object: Named = serde_json::from_str(self.text).unwrap_or_default();
        object.metadata.annotations.0.iter().filter_map(|key| misspelt(key, read)).collect()
    }

    /// Whether the kubelet runs it already; refusing its picture would stop nothing.
    pub(super) fn is_mirror(&self) -> bool {
        self.annotation(MIRROR).is_some()
    }

    /// Whether its network is the host's, so that no plugin is ever called for it.
    pub(super) fn is_of_the_host(&self) -> bool {
        self.spec().host_network.is_some_and(|value| value.get() == "true")
    }

    /// A network's configuration as it was sent, whatever it is.
    pub(super) fn config(&self) -> Option<&'a str> {
        self.spec().config.map(RawValue::get)
    }

    fn spec(&self) -> Spec<'a> {
        self.spec.and_then(|spec| serde_json::from_str(spec.get()).ok()).unwrap_or_default()
    }

    /// The network that it is.
    pub(super) fn network(&self) -> serde_json::Result<NetworkAttachmentDefinition> {
        let mut nad = NetworkAttachmentDefinition::default();
        let metadata = &self.metadata;
        nad.metadata.name.clone_from(&metadata.name);
        nad.metadata.generate_name.clone_from(&metadata.generate_name);
        nad.metadata.namespace.clone_from(&metadata.namespace);
        nad.metadata.annotations = metadata.annotations.as_ref().map(|kept| kept.0.clone());
        let spec = self.spec.map(|spec| serde_json::from_str::<NetworkAttachmentDefinitionSpec>(spec.get()));
        nad.spec.spec = spec.transpose()?;
        Ok(nad)
    }
}
