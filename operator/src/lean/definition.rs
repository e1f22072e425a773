//! Networks, as watches read them.

use std::borrow::Cow;
use std::marker::PhantomData;

use crds::{NetworkAttachmentDefinition, NetworkAttachmentDefinitionSpec, NetworkAttachmentDefinitionStatus};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::error_boundary::InvalidObject;
use serde::de::{DeserializeOwned, IgnoredAny, MapAccess};
use serde::{Deserialize, Deserializer};

use super::Head;
use super::lenient::{Lenient, OfOneKind};
use crate::node::render::{LONGEST_CONFIG, RenderError};

/// What a network's status is for who reads it.
pub trait Shown: DeserializeOwned + Default {
    /// What is kept of it.
    fn kept(self) -> Option<NetworkAttachmentDefinitionStatus>;
}

/// For who has no use for it.
impl Shown for IgnoredAny {
    fn kept(self) -> Option<NetworkAttachmentDefinitionStatus> {
        None
    }
}

impl Shown for Option<NetworkAttachmentDefinitionStatus> {
    fn kept(self) -> Self {
        self
    }
}

/// A network; or why its object cannot be read as one, with what is known of it.
#[derive(Debug, Clone)]
pub struct Definition<S = IgnoredAny>(pub Result<NetworkAttachmentDefinition, InvalidObject>, PhantomData<S>);

impl<S> Definition<S> {
    /// What was read.
    pub fn new(read: Result<NetworkAttachmentDefinition, InvalidObject>) -> Self {
        Self(read, PhantomData)
    }
}

impl<'de, S: Shown> Deserialize<'de> for Definition<S> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(bound = "S: Shown")]
        struct Object<S> {
            #[serde(default)]
            metadata: Head,
            #[serde(default)]
            spec: Lenient<Spec>,
            #[serde(default)]
            status: S,
        }
        let Object::<S> { metadata, spec, status } = Object::deserialize(deserializer)?;
        let metadata = metadata.into();
        Ok(Self::new(match spec.read("spec", "an object").and_then(Spec::config) {
            Ok(config) => {
                let mut nad = NetworkAttachmentDefinition { metadata, ..Default::default() };
                nad.spec.spec = Some(NetworkAttachmentDefinitionSpec { config });
                nad.status = status.kept();
                Ok(nad)
            }
            Err(error) => Err(InvalidObject { error, metadata }),
        }))
    }
}

impl<S> Resource for Definition<S> {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        NetworkAttachmentDefinition::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        NetworkAttachmentDefinition::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        NetworkAttachmentDefinition::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        NetworkAttachmentDefinition::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        match &self.0 {
            Ok(nad) => &nad.metadata,
            Err(invalid) => &invalid.metadata,
        }
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        match &mut self.0 {
            Ok(nad) => &mut nad.metadata,
            Err(invalid) => &mut invalid.metadata,
        }
    }
}

/// A network's `spec`.
#[derive(Default)]
struct Spec {
    config: Lenient<Config>,
}

impl Spec {
    fn config(self) -> Result<Option<String>, String> {
        match self.config {
            Lenient::Absent => Ok(None),
            Lenient::Read(Config::Text(text)) => Ok(Some(text)),
            Lenient::Read(Config::TooLong(length)) => Err(RenderError::TooLong { length }.to_string()),
            Lenient::Odd(kind) => Err(format!("spec.config is {kind}, not a string")),
        }
    }
}

impl OfOneKind for Spec {
    fn from_map<'de, M: MapAccess<'de>>(mut map: M) -> Result<Lenient<Self>, M::Error> {
        let mut spec = Self::default();
        while let Some(key) = map.next_key::<String>()? {
            if key == "config" {
                spec.config = map.next_value()?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(Lenient::Read(spec))
    }
}

/// A network's `spec.config`.
enum Config {
    Text(String),
    /// In bytes.
    TooLong(usize),
}

impl OfOneKind for Config {
    fn from_text(text: &str) -> Lenient<Self> {
        Lenient::Read(match text.len() {
            length if length > LONGEST_CONFIG => Self::TooLong(length),
            _ => Self::Text(text.to_owned()),
        })
    }
}

#[cfg(test)]
mod tests;
