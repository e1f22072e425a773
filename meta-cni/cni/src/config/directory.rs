//! Configurations on disk: what a configuration directory holds, and how a list is completed from files.
//!
//! As libcni: lists are `.conflist`, single plugins `.conf` and `.json`; files are taken in the order of
//! their names; a list that does not say `loadOnlyInlinedPlugins` gets the plugins of
//! `<directory>/<network name>/*.conf` appended ("subdirectory chaining").

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{ConfigError, NetworkList, PluginConfig};
use crate::ids::NetworkName;
use crate::json_slip;

/// Why a configuration could not be loaded from disk.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file or directory cannot be read.
    #[error("read {path}")]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file is not a configuration.
    #[error("load {path}")]
    Config {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: ConfigError,
    },
}

impl LoadError {
    /// Whether the failure may pass: a file that is being written, replaced or not there yet.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Read { source, .. } => source.kind() == std::io::ErrorKind::NotFound,
            Self::Config { source: ConfigError::NotJson(cause), .. } => cause.is_eof(),
            Self::Config { .. } => false,
        }
    }

    /// The CNI code of the failure.
    pub fn code(&self) -> crate::Code {
        match self {
            _ if self.may_pass() => crate::Code::TRY_AGAIN_LATER,
            Self::Read { .. } => crate::Code::IO_FAILURE,
            Self::Config { source, .. } => source.code(),
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, LoadError> {
    std::fs::read(path).map_err(|source| LoadError::Read { path: path.to_owned(), source })
}

/// The files of `dir` with one of `extensions`, in the order of their names. A directory that does not exist
/// holds none.
pub fn files(dir: &Path, extensions: &[&str]) -> Result<Vec<PathBuf>, LoadError> {
    let failed = |source| LoadError::Read { path: dir.to_owned(), source };
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
        if extensions.contains(&extension) && !path.is_dir() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Every configuration file of a directory.
pub const CONFIGURATIONS: &[&str] = &["conf", "conflist", "json"];

/// Loads one configuration file, with the plugin files of its subdirectory.
pub fn load(path: &Path) -> Result<NetworkList, LoadError> {
    load_named(path, None)
}

/// As [`load`], for a file that may leave out its name.
pub fn load_named(path: &Path, fallback_name: Option<&NetworkName>) -> Result<NetworkList, LoadError> {
    let config = |source| LoadError::Config { path: path.to_owned(), source };
    let json: Value = json_slip::from_slice(&read(path)?).map_err(|e| config(ConfigError::NotJson(e)))?;
    let mut list = NetworkList::from_json_unfinished(json, fallback_name).map_err(config)?;
    if !list.load_only_inlined_plugins {
        let dir = path.parent().unwrap_or(Path::new(".")).join(list.name.as_str());
        for file in files(&dir, &["conf"])? {
            list.plugins.push(load_plugin(&file)?);
        }
    }
    if list.plugins.is_empty() { Err(config(ConfigError::NoPlugin)) } else { Ok(list) }
}

/// Loads a file of one plugin, without a name of its own.
pub fn load_plugin(path: &Path) -> Result<PluginConfig, LoadError> {
    let config = |source| LoadError::Config { path: path.to_owned(), source };
    let json = json_slip::from_slice(&read(path)?).map_err(|e| config(ConfigError::NotJson(e)))?;
    PluginConfig::from_json(json, "the plugin").map_err(config)
}

/// The configuration of `dir` whose `name` is `name`, with its file; the first in the order of file names.
///
/// A file that cannot be loaded does not end the search (Multus's does): if nothing is found, the error of
/// the first such file is returned, since it may be the one that was meant.
pub fn find(dir: &Path, name: &NetworkName) -> Result<Option<(PathBuf, NetworkList)>, LoadError> {
    let mut first_error = None;
    for path in files(dir, CONFIGURATIONS)? {
        match load(&path) {
            Ok(list) if list.name == *name => return Ok(Some((path, list))),
            Ok(_) => {}
            Err(error) => {
                first_error.get_or_insert(error);
            }
        }
    }
    first_error.map_or(Ok(None), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir_with(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        dir
    }

    const LIST: &str = r#"{"cniVersion":"1.0.0","name":"net","plugins":[{"type":"a"}]}"#;

    #[test]
    fn files_come_in_the_order_of_their_names_and_by_extension() {
        let dir = dir_with(&[
            ("20-b.conf", ""),
            ("10-a.conflist", ""),
            ("30-c.json", ""),
            ("x.yaml", ""),
            ("sub.conf/x", ""),
        ]);
        let names: Vec<_> = files(dir.path(), CONFIGURATIONS)
            .unwrap()
            .into_iter()
            .map(|p| p.file_name().unwrap().to_owned())
            .collect();
        assert_eq!(names, ["10-a.conflist", "20-b.conf", "30-c.json"]);
        assert!(files(&dir.path().join("absent"), CONFIGURATIONS).unwrap().is_empty());
    }

    #[test]
    fn plugins_of_the_subdirectory_are_appended_in_order() {
        let dir = dir_with(&[
            ("10.conflist", LIST),
            ("net/20-z.conf", r#"{"type":"z"}"#),
            ("net/10-y.conf", r#"{"type":"y"}"#),
            ("net/ignored.json", "{"),
        ]);
        let list = load(&dir.path().join("10.conflist")).unwrap();
        let types: Vec<_> = list.plugins.iter().map(|p| p.plugin().as_str()).collect();
        assert_eq!(types, ["a", "y", "z"]);
    }

    #[test]
    fn inlined_plugins_only_when_the_list_says_so() {
        let text = r#"{"name":"net","loadOnlyInlinedPlugins":true,"plugins":[{"type":"a"}]}"#;
        let dir = dir_with(&[("10.conflist", text), ("net/y.conf", r#"{"type":"y"}"#)]);
        assert_eq!(load(&dir.path().join("10.conflist")).unwrap().plugins.len(), 1);
    }

    #[test]
    fn a_list_may_have_all_its_plugins_in_files_but_not_none() {
        let dir = dir_with(&[("10.conflist", r#"{"name":"net"}"#)]);
        let path = dir.path().join("10.conflist");
        assert!(load(&path).is_err());
        std::fs::create_dir(dir.path().join("net")).unwrap();
        std::fs::write(dir.path().join("net/y.conf"), r#"{"type":"y"}"#).unwrap();
        assert_eq!(load(&path).unwrap().plugins.len(), 1);
    }

    #[test]
    fn a_broken_file_does_not_hide_the_one_that_is_sought() {
        let dir = dir_with(&[("05-broken.conf", "{"), ("10.conflist", LIST)]);
        let name = NetworkName::parse("net").unwrap();
        assert!(find(dir.path(), &name).unwrap().is_some());
        let other = NetworkName::parse("other").unwrap();
        let error = find(dir.path(), &other).unwrap_err();
        assert!(error.to_string().contains("05-broken.conf"));
        assert!(error.may_pass(), "it may be half written");
    }
}
