//! Network configurations: a list of plugins under one name (specification, section 1).
//!
//! A configuration of a single plugin (the form of before 1.0.0) is read as a list of one, as libcni does,
//! so that the rest of the program knows only lists. Unknown fields survive, of the list and of each plugin.

pub mod directory;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::ids::{IdError, NetworkName, PluginType};
use crate::json_slip::{self, JsonSlip};
use crate::keys;
use crate::result::{AddResult, ResultError};
use crate::version::{SpecVersion, UnknownVersion};

/// Values for capabilities, by capability name: what a runtime or a pod asks of the plugins that declare it.
pub type CapabilityArgs = Map<String, Value>;

/// A network: its name, version and plugins.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "Value")]
pub struct NetworkList {
    /// The name by which plugins key their data.
    pub name: NetworkName,
    /// The version that all its plugins are spoken to in.
    pub version: SpecVersion,
    /// CHECK is not to be run.
    pub disable_check: bool,
    /// GC is not to be run.
    pub disable_gc: bool,
    /// Plugin files of the subdirectory are not to be appended.
    pub load_only_inlined_plugins: bool,
    /// The plugins, in the order of ADD.
    pub plugins: Vec<PluginConfig>,
    /// Fields that are not the specification's, and `cniVersions`.
    pub extra: Map<String, Value>,
}

/// One plugin of a list: its type and everything that it is to be told.
#[derive(Debug, Clone, PartialEq)]
pub struct PluginConfig {
    plugin: PluginType,
    object: Map<String, Value>,
}

/// Why a text is not a network configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not JSON.
    #[error("the configuration is not JSON")]
    NotJson(#[source] JsonSlip),
    /// JSON, but not an object.
    #[error("the configuration is {0}, not a JSON object")]
    NotAnObject(&'static str),
    /// Neither a plugin nor a list.
    #[error("the configuration has neither \"type\" (one plugin) nor \"plugins\" (a list)")]
    NoPlugin,
    /// A list that is empty.
    #[error("\"plugins\" is empty")]
    EmptyList,
    /// No name, where nothing else gives one.
    #[error("the configuration has no \"name\"")]
    NoName,
    /// A field of the wrong kind.
    #[error("{field} is {found}, not {expected}")]
    WrongKind {
        /// The field, with its place.
        field: String,
        /// What it has to be.
        expected: &'static str,
        /// What it is.
        found: &'static str,
    },
    /// A plugin of a list without type.
    #[error("{0} has no \"type\"")]
    NoType(String),
    /// A name or type that is not allowed.
    #[error("{field} is not valid")]
    Id {
        /// The field, with its place.
        field: String,
        /// The rule.
        #[source]
        source: IdError,
    },
    /// A version that is not known.
    #[error("\"cniVersion\" is not supported")]
    Version(#[source] UnknownVersion),
}

impl ConfigError {
    /// The CNI code that the specification gives this failure.
    pub fn code(&self) -> crate::Code {
        match self {
            Self::NotJson(_) => crate::Code::DECODING_FAILURE,
            Self::Version(_) => crate::Code::INCOMPATIBLE_VERSION,
            _ => crate::Code::INVALID_CONFIG,
        }
    }
}

/// What JSON calls a value's kind, for error texts.
pub fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

fn wrong_kind(field: impl Into<String>, expected: &'static str, value: &Value) -> ConfigError {
    ConfigError::WrongKind { field: field.into(), expected, found: kind_of(value) }
}

/// Takes a string; `null` and "" count as absent.
fn take_text(object: &mut Map<String, Value>, key: &str) -> Result<Option<String>, ConfigError> {
    match object.remove(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text).filter(|text| !text.is_empty())),
        Some(other) => Err(wrong_kind(format!("{key:?}"), "a string", &other)),
    }
}

/// Takes a boolean; the strings "true" and "false" count too, as in libcni.
fn take_flag(object: &mut Map<String, Value>, key: &str) -> Result<bool, ConfigError> {
    match object.remove(key) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(flag)) => Ok(flag),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => Ok(true),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("false") => Ok(false),
        Some(other) => Err(wrong_kind(format!("{key:?}"), "a boolean", &other)),
    }
}

fn take_versions(object: &Map<String, Value>) -> Result<Option<Vec<String>>, ConfigError> {
    match object.get("cniVersions") {
        None | Some(Value::Null) => Ok(None),
        Some(versions) => Vec::<String>::deserialize(versions)
            .map(Some)
            .map_err(|_| wrong_kind("\"cniVersions\"", "an array of strings", versions)),
    }
}

impl NetworkList {
    /// Reads a list or a single plugin from JSON text. A configuration without a name gets `fallback_name`.
    pub fn parse(text: &[u8], fallback_name: Option<&NetworkName>) -> Result<Self, ConfigError> {
        Self::from_json(json_slip::from_slice(text).map_err(ConfigError::NotJson)?, fallback_name)
    }

    /// As [`NetworkList::parse`], from JSON.
    pub fn from_json(json: Value, fallback_name: Option<&NetworkName>) -> Result<Self, ConfigError> {
        if json.as_object().is_some_and(|o| !o.contains_key("type") && !o.contains_key("plugins")) {
            return Err(ConfigError::NoPlugin);
        }
        let list = Self::from_json_unfinished(json, fallback_name)?;
        if list.plugins.is_empty() { Err(ConfigError::NoPlugin) } else { Ok(list) }
    }

    /// A list whose plugins may still come from files ([`directory`]); may therefore be empty.
    fn from_json_unfinished(json: Value, fallback: Option<&NetworkName>) -> Result<Self, ConfigError> {
        let mut object = match json {
            Value::Object(object) => object,
            other => return Err(ConfigError::NotAnObject(kind_of(&other))),
        };
        if object.get("type").is_some_and(|kind| !kind.is_null() && kind.as_str() != Some("")) {
            return Self::of_one_plugin(object, fallback);
        }
        object.remove("type");
        let load_only_inlined_plugins = take_flag(&mut object, "loadOnlyInlinedPlugins")?;
        let plugins = match object.remove("plugins") {
            // A list without plugins is only of use with plugin files, which only a list of a file has.
            None if load_only_inlined_plugins => return Err(ConfigError::NoPlugin),
            None => Vec::new(),
            Some(Value::Array(plugins)) if plugins.is_empty() => return Err(ConfigError::EmptyList),
            Some(Value::Array(plugins)) => plugins
                .into_iter()
                .enumerate()
                .map(|(index, plugin)| PluginConfig::from_json(plugin, &format!("plugins[{index}]")))
                .collect::<Result<_, _>>()?,
            Some(other) => return Err(wrong_kind("\"plugins\"", "an array", &other)),
        };
        let offered = take_versions(&object)?;
        let single = take_text(&mut object, "cniVersion")?;
        Ok(Self {
            name: name_of(&mut object, fallback)?,
            version: SpecVersion::negotiate(single.as_deref(), offered.as_deref())
                .map_err(ConfigError::Version)?,
            disable_check: take_flag(&mut object, "disableCheck")?,
            disable_gc: take_flag(&mut object, "disableGC")?,
            load_only_inlined_plugins,
            plugins,
            extra: object,
        })
    }

    fn of_one_plugin(
        object: Map<String, Value>,
        fallback: Option<&NetworkName>,
    ) -> Result<Self, ConfigError> {
        // Only these two are the list's, and the rest may be large.
        let of_list = |key: &str| Some((key.to_owned(), object.get(key)?.clone()));
        let mut rest: Map<_, _> = ["cniVersion", "name"].into_iter().filter_map(of_list).collect();
        let single = take_text(&mut rest, "cniVersion")?;
        Ok(Self {
            name: name_of(&mut rest, fallback)?,
            version: SpecVersion::negotiate(single.as_deref(), None).map_err(ConfigError::Version)?,
            disable_check: false,
            disable_gc: false,
            load_only_inlined_plugins: true,
            plugins: vec![PluginConfig::from_json(Value::Object(object), "the plugin")?],
            extra: Map::new(),
        })
    }

    /// The list as JSON; reads back as the same list.
    pub fn to_json(&self) -> Value {
        self.fields().into_iter().map(|(key, field)| (key.to_owned(), field.to_json())).collect()
    }

    /// What is written of it, in the order of the keys.
    fn fields(&self) -> BTreeMap<&str, Field<'_>> {
        let mut fields: BTreeMap<_, _> =
            self.extra.iter().map(|(key, value)| (key.as_str(), Field::Extra(value))).collect();
        fields.insert("name", Field::Text(self.name.as_str()));
        fields.insert("cniVersion", Field::Text(self.version.as_str()));
        for (key, flag) in [
            ("disableCheck", self.disable_check),
            ("disableGC", self.disable_gc),
            ("loadOnlyInlinedPlugins", self.load_only_inlined_plugins),
        ] {
            if flag {
                fields.insert(key, Field::Set(flag));
            }
        }
        fields.insert("plugins", Field::Plugins(&self.plugins));
        fields
    }

    /// Whether some plugin declares `capability`.
    pub fn declares(&self, capability: &str) -> bool {
        self.plugins.iter().any(|plugin| plugin.declares(capability))
    }
}

/// What stands behind a key of a list.
#[derive(Serialize)]
#[serde(untagged)]
enum Field<'a> {
    Extra(&'a Value),
    Text(&'a str),
    Set(bool),
    Plugins(&'a [PluginConfig]),
}

impl Field<'_> {
    fn to_json(&self) -> Value {
        match self {
            Self::Extra(value) => (*value).clone(),
            Self::Text(text) => Value::from(*text),
            Self::Set(flag) => Value::from(*flag),
            Self::Plugins(plugins) => {
                plugins.iter().map(|plugin| Value::Object(plugin.object.clone())).collect()
            }
        }
    }
}

/// Written as it stands: records hold lists, and are written twice for each ADD.
impl Serialize for NetworkList {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.fields().serialize(serializer)
    }
}

impl Serialize for PluginConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.object.serialize(serializer)
    }
}

impl TryFrom<Value> for NetworkList {
    type Error = ConfigError;
    fn try_from(json: Value) -> Result<Self, ConfigError> {
        Self::from_json(json, None)
    }
}

fn name_of(
    object: &mut Map<String, Value>,
    fallback: Option<&NetworkName>,
) -> Result<NetworkName, ConfigError> {
    match take_text(object, "name")? {
        Some(name) => NetworkName::parse(name)
            .map_err(|source| ConfigError::Id { field: "\"name\"".to_owned(), source }),
        None => fallback.cloned().ok_or(ConfigError::NoName),
    }
}

impl PluginConfig {
    /// Reads the configuration of one plugin; `place` names it in errors, for example `plugins[1]`.
    pub fn from_json(json: Value, place: &str) -> Result<Self, ConfigError> {
        let object = match json {
            Value::Object(object) => object,
            other => return Err(wrong_kind(place, "an object", &other)),
        };
        let plugin = match object.get("type") {
            None | Some(Value::Null) => return Err(ConfigError::NoType(place.to_owned())),
            Some(Value::String(text)) if text.is_empty() => {
                return Err(ConfigError::NoType(place.to_owned()));
            }
            Some(Value::String(text)) => PluginType::parse(text.clone())
                .map_err(|source| ConfigError::Id { field: format!("{place}.type"), source })?,
            Some(other) => return Err(wrong_kind(format!("{place}.type"), "a string", other)),
        };
        match object.get("capabilities") {
            None | Some(Value::Null) => {}
            Some(Value::Object(declared)) => {
                if let Some((name, value)) = declared.iter().find(|(_, value)| !value.is_boolean()) {
                    return Err(wrong_kind(format!("{place}.capabilities.{name}"), "a boolean", value));
                }
            }
            Some(other) => return Err(wrong_kind(format!("{place}.capabilities"), "an object", other)),
        }
        Ok(Self { plugin, object })
    }

    /// The plugin's type: the name of its executable.
    pub fn plugin(&self) -> &PluginType {
        &self.plugin
    }

    /// Everything that the author wrote.
    pub fn object(&self) -> &Map<String, Value> {
        &self.object
    }

    /// Sets a field that the author did not write, or overrides it. `type` stays what it is.
    pub fn set(&mut self, key: &str, value: Value) {
        if key != "type" && key != "capabilities" {
            self.object.insert(key.to_owned(), value);
        }
    }

    /// The type of its IPAM plugin, if `ipam` is what it usually is; keys in any case, as plugins read them.
    pub fn ipam_type(&self) -> Option<&str> {
        let ipam = keys::get(&self.object, "ipam")?.as_object()?;
        keys::get(ipam, "type")?.as_str().filter(|text| !text.is_empty())
    }

    /// Whether the plugin declares `capability`.
    pub fn declares(&self, capability: &str) -> bool {
        self.object.get("capabilities").and_then(|all| all.get(capability)) == Some(&Value::Bool(true))
    }

    /// Every capability that the plugin declares.
    pub fn declared_capabilities(&self) -> impl Iterator<Item = &str> {
        let declared = self.object.get("capabilities").and_then(Value::as_object);
        declared
            .into_iter()
            .flatten()
            .filter(|(_, on)| on.as_bool() == Some(true))
            .map(|(name, _)| name.as_str())
    }

    /// What the plugin gets on stdin (specification, section 4: "Deriving request configuration").
    ///
    /// The list's name and version, `prevResult` in the list's version, and in `runtimeConfig` those of
    /// `capabilities` that the plugin declares.
    pub fn request(
        &self,
        list: &NetworkList,
        prev_result: Option<&AddResult>,
        capabilities: &CapabilityArgs,
    ) -> Result<Map<String, Value>, ResultError> {
        let mut request = self.object.clone();
        request.insert("name".to_owned(), list.name.as_str().into());
        request.insert("cniVersion".to_owned(), list.version.as_str().into());
        if let Some(result) = prev_result {
            request.insert("prevResult".to_owned(), result.to_json(list.version)?);
        }
        let declared = self
            .declared_capabilities()
            .filter_map(|name| capabilities.get(name).map(|value| (name.to_owned(), value.clone())));
        let runtime_config: Map<String, Value> = declared.collect();
        if !runtime_config.is_empty() {
            request.insert("runtimeConfig".to_owned(), Value::Object(runtime_config));
        }
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn parse(json: Value) -> Result<NetworkList, ConfigError> {
        NetworkList::from_json(json, None)
    }

    #[test]
    fn a_single_plugin_is_a_list_of_one() {
        let list =
            parse(json!({"cniVersion": "0.3.1", "name": "n", "type": "bridge", "bridge": "br0"})).unwrap();
        assert_eq!(list.name.as_str(), "n");
        assert_eq!(list.version, SpecVersion::V0_3_1);
        assert_eq!(list.plugins.len(), 1);
        assert_eq!(list.plugins[0].object()["bridge"], "br0");
    }

    #[test]
    fn lists_round_trip_with_unknown_fields() {
        let json = json!({
            "cniVersion": "1.0.0", "cniVersions": ["1.0.0", "1.1.0"], "name": "n", "disableCheck": "TRUE",
            "disableGC": true, "vendor": {"a": 1},
            "plugins": [{"type": "a", "deep": [{"b": null}]}, {"type": "b"}],
        });
        let list = parse(json).unwrap();
        assert_eq!(list.version, SpecVersion::V1_1_0);
        assert!(list.disable_check && list.disable_gc && !list.load_only_inlined_plugins);
        assert_eq!(list.extra["vendor"]["a"], 1);
        assert_eq!(parse(list.to_json()).unwrap(), list);
    }

    #[test]
    fn a_missing_name_comes_from_the_caller_or_is_an_error() {
        let json = json!({"type": "bridge", "name": ""});
        let name = NetworkName::parse("given").unwrap();
        assert_eq!(NetworkList::from_json(json.clone(), Some(&name)).unwrap().name, name);
        assert!(matches!(parse(json), Err(ConfigError::NoName)));
    }

    #[test]
    fn wrong_configurations_say_what_is_wrong_and_where() {
        for (json, text) in [
            (json!(null), "the configuration is null, not a JSON object"),
            (json!([]), "the configuration is an array, not a JSON object"),
            (json!({}), "the configuration has neither \"type\" (one plugin) nor \"plugins\" (a list)"),
            (json!({"name": "n", "plugins": []}), "\"plugins\" is empty"),
            (json!({"name": "n", "plugins": {}}), "\"plugins\" is an object, not an array"),
            (json!({"name": "n", "plugins": [null]}), "plugins[0] is null, not an object"),
            (json!({"name": "n", "plugins": [{"type": "a"}, {}]}), "plugins[1] has no \"type\""),
            (json!({"name": "n", "plugins": [{"type": 1}]}), "plugins[0].type is a number, not a string"),
            (json!({"name": "n", "plugins": [{"type": "../a"}]}), "plugins[0].type is not valid"),
            (
                json!({"name": "n", "type": "a", "capabilities": []}),
                "the plugin.capabilities is an array, not an object",
            ),
            (
                json!({"name": "n", "type": "a", "capabilities": {"mac": "yes"}}),
                "the plugin.capabilities.mac is a string, not a boolean",
            ),
            (json!({"name": "a/b", "type": "a"}), "\"name\" is not valid"),
            (json!({"name": 1, "type": "a"}), "\"name\" is a number, not a string"),
            (json!({"name": "n", "type": "a", "cniVersion": "2.0.0"}), "\"cniVersion\" is not supported"),
            (json!({"name": "n", "type": "a", "cniVersion": 1}), "\"cniVersion\" is a number, not a string"),
            (
                json!({"name": "n", "plugins": [{"type": "a"}], "disableGC": 1}),
                "\"disableGC\" is a number, not a boolean",
            ),
            (
                json!({"name": "n", "loadOnlyInlinedPlugins": true}),
                "the configuration has neither \"type\" (one plugin) nor \"plugins\" (a list)",
            ),
        ] {
            assert_eq!(parse(json.clone()).unwrap_err().to_string(), text, "{json}");
        }
    }

    /// Any JSON of a few levels, with keys and texts that mean something often enough.
    fn any_json() -> impl Strategy<Value = Value> {
        let words = prop::sample::select(vec![
            "type",
            "name",
            "plugins",
            "cniVersion",
            "cniVersions",
            "disableCheck",
            "disableGC",
            "true",
            "",
            "loadOnlyInlinedPlugins",
            "capabilities",
            "ipam",
            "args",
            "bridge",
            "a/b",
            "1.0.0",
            "1.1.0",
            "9.9.9",
        ]);
        let text = prop_oneof![words.prop_map(str::to_owned), ".{0,8}"];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            text.clone().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 48, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((text.clone(), inner), 0..8)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    /// A configuration that is right in the main, of either form, with anything else beside.
    fn any_configuration() -> impl Strategy<Value = Value> {
        let plugin = || {
            let capabilities = prop::collection::vec(("[a-z]{1,8}", any::<bool>()), 0..3);
            ("[a-z.-]{1,8}[a-z]", capabilities, any_json()).prop_map(|(plugin, capabilities, other)| {
                let capabilities: Map<_, _> = capabilities.into_iter().map(|(k, v)| (k, v.into())).collect();
                json!({"type": plugin, "capabilities": capabilities, "other": other})
            })
        };
        let version = prop::sample::select(SpecVersion::ALL.map(SpecVersion::as_str).to_vec());
        let offered = prop::option::of(prop::collection::vec(version.clone(), 0..3));
        let flags = (any::<bool>(), any::<bool>(), any::<bool>());
        let list = (prop::collection::vec(plugin(), 1..4), offered, flags, any_json());
        let list = list.prop_map(|(plugins, offered, (check, gc, inlined), other)| {
            let mut json = json!({
                "plugins": plugins, "disableCheck": check, "disableGC": gc, "loadOnlyInlinedPlugins": inlined,
                "other": other,
            });
            if let Some(offered) = offered {
                json["cniVersions"] = json!(offered);
            }
            json
        });
        ("[a-zA-Z0-9][a-zA-Z0-9_.-]{0,20}", version, prop_oneof![list, plugin()]).prop_map(
            |(name, version, mut json)| {
                json["name"] = name.into();
                json["cniVersion"] = version.into();
                json
            },
        )
    }

    proptest! {
        #[test]
        fn any_configuration_is_read_and_comes_back_as_it_was_written(json in any_configuration()) {
            let list = parse(json).unwrap();
            prop_assert_eq!(parse(list.to_json()).unwrap(), list);
        }

        #[test]
        fn no_input_panics_and_what_is_understood_comes_back(json in any_json(), text in ".{0,60}") {
            let fallback = NetworkName::parse("given").unwrap();
            let read = [parse(json.clone()), NetworkList::from_json(json, Some(&fallback))];
            let read = read.into_iter().chain([NetworkList::parse(text.as_bytes(), Some(&fallback))]);
            for list in read.flatten() {
                prop_assert_eq!(serde_json::to_string(&list).unwrap(), list.to_json().to_string());
                prop_assert_eq!(parse(list.to_json()).unwrap(), list);
            }
        }
    }

    #[test]
    fn codes_are_those_of_the_specification() {
        assert_eq!(NetworkList::parse(b"{", None).unwrap_err().code(), crate::Code::DECODING_FAILURE);
        let version = parse(json!({"name": "n", "type": "a", "cniVersion": "2.0.0"})).unwrap_err();
        assert_eq!(version.code(), crate::Code::INCOMPATIBLE_VERSION);
        assert_eq!(parse(json!({})).unwrap_err().code(), crate::Code::INVALID_CONFIG);
    }

    #[test]
    fn requests_carry_name_version_previous_result_and_declared_capabilities_only() {
        let list = parse(json!({
            "name": "n", "cniVersion": "0.4.0",
            "plugins": [{"type": "a", "name": "other", "capabilities": {"mac": true, "ips": false}, "keep": 1}],
        }))
        .unwrap();
        let args = json!({"mac": "00:11:22:33:44:55", "ips": ["10.0.0.2/24"], "bandwidth": {}});
        let prev =
            AddResult::parse(json!({"ips": [{"address": "10.0.0.9/24"}]}), SpecVersion::V1_0_0).unwrap();
        let request = list.plugins[0].request(&list, Some(&prev), args.as_object().unwrap()).unwrap();
        assert_eq!(
            Value::Object(request),
            json!({
                "type": "a", "name": "n", "cniVersion": "0.4.0", "keep": 1,
                "capabilities": {"mac": true, "ips": false},
                "runtimeConfig": {"mac": "00:11:22:33:44:55"},
                "prevResult": {"cniVersion": "0.4.0", "ips": [{"address": "10.0.0.9/24", "version": "4"}]},
            })
        );
        let bare = list.plugins[0].request(&list, None, &Map::new()).unwrap();
        assert!(!bare.contains_key("runtimeConfig") && !bare.contains_key("prevResult"));
    }
}
