//! Manifests: NetworkAttachmentDefinitions in the files of a directory.
//!
//! Read are `*.yaml`, `*.yml` and `*.json` directly in the directory, in the order of their names; hidden
//! files and subdirectories are not, as with `kubectl apply -f`. A file may hold several documents, and a
//! document may be a `List`. Objects of other kinds are passed over, but not those whose kind is nearly ours. A NetworkAttachmentDefinition without
//! namespace is of `default`.
//!
//! What is wrong is remembered with its file and place, and never hinders the rest. Of several definitions of
//! one network the first counts: a copy that somebody left behind must not take a network away.

pub mod documents;
pub(crate) mod lookalikes;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::DirEntry;
use std::io;
use std::path::{Path, PathBuf};

use cni::config::kind_of;
use cni::error::chain_text;
use cni::npwg::NetworkRef;
use crds::NetworkAttachmentDefinition;
use crds::nad::{API_VERSION, KIND};
use serde_json::{Map, Value};
use store::network::{Outcome, RenderedNetwork};

use crate::Wrong;
use crate::node::render;
use crate::node::sync::Extent;
use crate::permissions::Permissions;
use documents::{Flaw, Object};

/// The namespace of objects that name none.
pub const DEFAULT_NAMESPACE: &str = "default";

/// A directory that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("read the manifests in {dir}")]
pub struct ManifestsError {
    /// Which.
    pub dir: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// What manifests say.
#[derive(Debug, Default)]
pub struct Manifests {
    /// Every network that has a name, those that are refused too.
    pub networks: BTreeMap<NetworkRef, RenderedNetwork>,
    /// What is wrong and is no network's own fault: files, documents, names, second definitions.
    pub wrong: Vec<Wrong>,
    /// Objects of other kinds.
    pub others: usize,
    /// Whether these are all networks. They are not where something could not be read.
    pub extent: Extent,
    /// What the networks may use.
    permissions: Permissions,
}

/// What an object turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Added {
    /// A network, with the reason if it is refused.
    Network(NetworkRef, Option<String>),
    /// An object of another kind.
    Other,
    /// A network that does not count.
    Wrong(Wrong),
}

impl Manifests {
    /// None yet, of which each is to be permitted.
    pub fn new(permissions: Permissions) -> Self {
        Self { permissions, ..Self::default() }
    }

    /// Reads every manifest of a directory.
    pub fn read(dir: &Path, permissions: Permissions) -> Result<Self, ManifestsError> {
        let failed = |source| ManifestsError { dir: dir.to_owned(), source };
        let entries: Vec<_> = std::fs::read_dir(dir).and_then(Iterator::collect).map_err(failed)?;
        let mut files: Vec<_> =
            entries.iter().filter(|entry| is_manifest(entry)).map(DirEntry::path).collect();
        files.sort();
        let mut manifests = Self::new(permissions);
        for file in &files {
            manifests.add_file(file);
        }
        Ok(manifests)
    }

    /// Adds what a file holds.
    pub fn add_file(&mut self, file: &Path) {
        let origin = file.display().to_string();
        let text = match documents::read(file) {
            Ok(text) => text,
            Err(error) => {
                self.extent = Extent::Part;
                self.wrong.push(Wrong { origin, place: String::new(), reason: chain_text(&error) });
                return;
            }
        };
        for item in documents::objects(&text, documents::Form::of(file)) {
            match item {
                Ok(object) => {
                    if let Added::Wrong(wrong) = self.add(&origin, object) {
                        self.wrong.push(wrong);
                    }
                }
                Err(Flaw { place, reason, hides }) => {
                    if hides {
                        self.extent = Extent::Part;
                    }
                    self.wrong.push(Wrong { origin: origin.clone(), place, reason });
                }
            }
        }
    }

    /// Adds one object.
    pub fn add(&mut self, origin: &str, object: Object) -> Added {
        let place = object.place.clone();
        let wrong = |place: String, reason| Added::Wrong(Wrong { origin: origin.to_owned(), place, reason });
        if object.kind() != KIND {
            self.others += 1;
            return lookalikes::kind(object.kind()).map_or(Added::Other, |reason| wrong(place, reason));
        }
        let network = match network_of(&object.fields) {
            Ok(network) => network,
            Err(reason) => return wrong(place, reason),
        };
        match self.networks.entry(network.clone()) {
            Entry::Occupied(first) => {
                let first = &first.get().origin;
                let reason = format!(
                    "is defined already, in {first}; that definition counts, this one ({place}) does not; \
                     remove one of them"
                );
                wrong(network.to_string(), reason)
            }
            Entry::Vacant(vacant) => {
                let rendered = match nad_of(&network, object.fields) {
                    Ok(nad) => {
                        render::render(&nad, origin, &self.permissions).map_err(|error| error.to_string())
                    }
                    Err(reason) => Err(reason),
                };
                let rendered =
                    rendered.unwrap_or_else(|reason| render::refused(network.clone(), origin, reason));
                match &vacant.insert(rendered).outcome {
                    Outcome::Refused { reason } => Added::Network(network, Some(reason.clone())),
                    _ => Added::Network(network, None),
                }
            }
        }
    }
}

/// Whether an entry of the directory is to be read. What a link leads to is judged when it is read.
fn is_manifest(entry: &DirEntry) -> bool {
    let name = entry.file_name();
    let hidden = name.as_encoded_bytes().starts_with(b".");
    let extension = Path::new(&name).extension().and_then(|extension| extension.to_str());
    !hidden && matches!(extension, Some("yaml" | "yml" | "json")) && !entry.path().is_dir()
}

/// `null` and an absent value are one thing.
fn get<'a>(object: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    object.get(key).filter(|value| !value.is_null())
}

fn text<'a>(object: &'a Map<String, Value>, key: &str, path: &str) -> Result<Option<&'a str>, String> {
    match get(object, key) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
        Some(other) => {
            Err(format!("{path} is {}, not a string; put it in quotation marks if it is one", kind_of(other)))
        }
    }
}

fn metadata(object: &Map<String, Value>) -> Result<&Map<String, Value>, String> {
    match get(object, "metadata") {
        None => Err("it has no metadata, so no name".to_owned()),
        Some(Value::Object(metadata)) => Ok(metadata),
        Some(other) => Err(format!("metadata is {}, not an object", kind_of(other))),
    }
}

/// The namespace that an object names, or the default one.
pub(crate) fn namespace_of(metadata: &Map<String, Value>) -> Result<&str, String> {
    Ok(text(metadata, "namespace", "metadata.namespace")?.unwrap_or(DEFAULT_NAMESPACE))
}

fn network_of(object: &Map<String, Value>) -> Result<NetworkRef, String> {
    let metadata = metadata(object)?;
    let name = text(metadata, "name", "metadata.name")?.ok_or("it has no metadata.name")?;
    NetworkRef::parse(namespace_of(metadata)?, name).map_err(|error| error.to_string())
}

/// The object as its type, after what people get wrong most often has been looked at by hand.
fn nad_of(
    network: &NetworkRef,
    mut object: Map<String, Value>,
) -> Result<NetworkAttachmentDefinition, String> {
    match get(&object, "apiVersion") {
        Some(Value::String(version)) if version == API_VERSION => {}
        Some(other) => return Err(format!("apiVersion is {other}; it has to be \"{API_VERSION}\"")),
        None => return Err(format!("it has no apiVersion; it has to be \"{API_VERSION}\"")),
    }
    check_spec(&object)?;
    if let Some(reason) = lookalikes::misplaced_config(&object) {
        return Err(reason);
    }
    for key in ["labels", "annotations"] {
        check_texts(metadata(&object)?, key)?;
    }
    if get(&object, "spec").is_none() {
        object.remove("spec");
    }
    if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
        metadata.insert("namespace".to_owned(), network.namespace.as_str().into());
    }
    serde_json::from_value(Value::Object(object)).map_err(|error| format!("cannot be read: {error}"))
}

fn check_spec(object: &Map<String, Value>) -> Result<(), String> {
    let spec = match get(object, "spec") {
        None => return Ok(()),
        Some(Value::Object(spec)) => spec,
        Some(other) => return Err(format!("spec is {}, not an object", kind_of(other))),
    };
    match get(spec, "config") {
        None | Some(Value::String(_)) => Ok(()),
        Some(other) => Err(format!(
            "spec.config is {}, not a string; write the JSON as a text, for example after \"config: |\"",
            kind_of(other)
        )),
    }
}

/// Labels and annotations; `y`, `on` and numbers are what YAML makes something else of.
fn check_texts(metadata: &Map<String, Value>, key: &str) -> Result<(), String> {
    match get(metadata, key) {
        None => Ok(()),
        Some(Value::Object(texts)) => {
            let check = |name| text(texts, name, &format!("metadata.{key}[{name:?}]")).map(drop);
            texts.keys().try_for_each(|name| check(name))
        }
        Some(other) => Err(format!("metadata.{key} is {}, not an object", kind_of(other))),
    }
}

#[cfg(test)]
mod tests;
