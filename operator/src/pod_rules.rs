//! The settings of the nodes' plugin by which the annotations of pods are judged: at the webhook, and by
//! `braid check`.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use cni::config::kind_of;
use cni::error::chain_text;
use cni::json_slip;
use cni::npwg::{Isolation, Namespace};
use serde_json::{Map, Value};
use store::settings::Settings;

/// What pods may ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodRules {
    /// Which networks a pod may use.
    pub isolation: Isolation,
    /// The namespace of a default network that is named without one.
    pub multus_namespace: Namespace,
    /// How many networks a pod may ask for.
    pub max_attachments: NonZeroUsize,
}

/// Settings by which no pod can be judged.
#[derive(Debug, thiserror::Error)]
#[error("use the settings of {path}: {reason}", path = path.display())]
pub struct PodRulesError {
    /// Which file.
    path: PathBuf,
    /// Why.
    reason: String,
}

impl From<&Settings> for PodRules {
    fn from(settings: &Settings) -> Self {
        Self {
            isolation: settings.isolation.clone(),
            multus_namespace: settings.multus_namespace.clone(),
            max_attachments: settings.max_attachments,
        }
    }
}

impl PodRules {
    /// Those of a file of settings; without a file, those of a plugin without settings.
    pub fn read(file: Option<&Path>) -> Result<Self, PodRulesError> {
        let path = file.unwrap_or(Path::new("(none)"));
        let wrong = |reason: String| PodRulesError { path: path.to_owned(), reason };
        let object = file.map_or_else(|| Ok(Map::new()), object).map_err(wrong)?;
        let settings = Settings::parse(&object).map_err(|error| wrong(chain_text(&error)))?;
        Ok(Self::from(&settings))
    }
}

fn object(file: &Path) -> Result<Map<String, Value>, String> {
    let text = std::fs::read(file).map_err(|error| error.to_string())?;
    match json_slip::from_slice(&text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(other) => Err(format!("it holds {}, not an object", kind_of(&other))),
        Err(slip) => Err(format!("it is not JSON: {slip}")),
    }
}
