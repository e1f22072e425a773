//! Permissions: what the authors of networks may use, by namespace. Pure, but for reading the file.
//!
//! A network is a CNI configuration, and plugins run as root on the node. Where authors are not trusted as root is,
//! the administrator gives rules: a network is refused unless one rule for its namespace covers everything that
//! `uses` finds in it. One rule has to cover the whole network: what is permitted to `macvlan` by one rule and to
//! `bridge` by another is not mixed. Without rules everything is permitted.
//!
//! Rendering asks ([`crate::node::render`]), so the verdict is one wherever it is given: in the node's file, which is
//! what counts, by the webhook, in conditions and by `braid check`. It is about the network's whole text, so it
//! holds before any plugin has seen it, whatever form the text has.

mod pattern;
mod uses;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use cni::npwg::NetworkRef;
use serde::Deserialize;
use store::network::Outcome;

pub use pattern::Pattern;
use uses::{Use, What};

/// How many things that are not permitted one message names.
const NAMED: usize = 3;

/// What authors may use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Permissions {
    /// Everything: there are no rules.
    #[default]
    Everything,
    /// What the rules say, and nothing else.
    Only(Vec<Rule>),
}

/// What networks of some namespaces may use. What a rule leaves out it does not permit.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rule {
    /// Whose networks.
    pub namespaces: Vec<Pattern>,
    /// Types of plugins, IPAM plugins and delegates among them.
    #[serde(default)]
    pub plugins: Vec<Pattern>,
    /// Interfaces and bridges of the host, by name or by whatever else the plugin takes.
    #[serde(default)]
    pub interfaces: Vec<Pattern>,
    /// The configuration's `name`, by which plugins keep their data. Its own name every network may have.
    #[serde(default)]
    pub names: Vec<Pattern>,
    /// Files, directories, sockets and addresses of servers.
    #[serde(default)]
    pub paths: Vec<Pattern>,
    /// Configurations that are on the node, by name.
    #[serde(default)]
    pub on_node: Vec<Pattern>,
}

/// The file of rules.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    rules: Vec<Rule>,
}

/// Rules that cannot be had. Nobody goes on without them: all would be permitted.
#[derive(Debug, thiserror::Error)]
pub enum PermissionsError {
    /// No file.
    #[error("read the permissions of networks in {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No rules.
    #[error(
        "the permissions of networks in {path} cannot be used; write an object such as \
         {{\"rules\": [{{\"namespaces\": [\"*\"], \"plugins\": [\"macvlan\"], \"interfaces\": [\"eth1\"]}}]}}"
    )]
    Wrong {
        /// Which.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
}

/// Why a network is not permitted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotPermitted {
    /// No rule is about its namespace.
    #[error(
        "no rule permits networks to namespace {0}; the administrator of Braid can add one (permissions.rules of the \
         chart)"
    )]
    NoRule(String),
    /// It uses more than a rule covers.
    #[error(
        "networks of namespace {namespace} may not use {what}; change the network, or let the administrator of Braid \
         permit it (permissions.rules of the chart)"
    )]
    Use {
        /// Whose network.
        namespace: String,
        /// What, where, and what is permitted instead.
        what: String,
    },
}

impl Permissions {
    /// Reads the rules of a file; without a file everything is permitted.
    pub fn read(file: Option<&Path>) -> Result<Self, PermissionsError> {
        let Some(path) = file else { return Ok(Self::Everything) };
        let text =
            std::fs::read(path).map_err(|source| PermissionsError::Read { path: path.to_owned(), source })?;
        Self::parse(&text).map_err(|source| PermissionsError::Wrong { path: path.to_owned(), source })
    }

    /// Reads rules.
    pub fn parse(text: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(text).map(|File { rules }| Self::Only(rules))
    }

    /// Whether a network may be what it was rendered to.
    pub fn permit(&self, network: &NetworkRef, outcome: &Outcome) -> Result<(), NotPermitted> {
        let Self::Only(rules) = self else { return Ok(()) };
        let namespace = network.namespace.as_str();
        let used = match outcome {
            Outcome::Ready { list } => uses::uses(network, list),
            Outcome::OnNode { name } => vec![Use::on_node(name)],
            Outcome::Refused { .. } => return Ok(()),
        };
        let lacking = |rule| used.iter().filter(|one| !covers(rule, one)).collect::<Vec<_>>();
        let of_namespace = rules.iter().filter(|rule| covers_any(&rule.namespaces, namespace));
        // The rule that comes nearest is the one that the author will have meant.
        match of_namespace.map(|rule| (lacking(rule), rule)).min_by_key(|(lacking, _)| lacking.len()) {
            None => Err(NotPermitted::NoRule(namespace.to_owned())),
            Some((lacking, _)) if lacking.is_empty() => Ok(()),
            Some((lacking, rule)) => {
                let named = lacking.iter().take(NAMED).map(|one| Lacking(one, rule).to_string());
                let mut what = named.collect::<Vec<_>>().join(", nor ");
                if lacking.len() > NAMED {
                    what.push_str(", nor more");
                }
                Err(NotPermitted::Use { namespace: namespace.to_owned(), what })
            }
        }
    }
}

fn covers(rule: &Rule, used: &Use) -> bool {
    permitted(rule, used.what).is_some_and(|patterns| covers_any(patterns, &used.value))
}

fn covers_any(patterns: &[Pattern], text: &str) -> bool {
    patterns.iter().any(|pattern| pattern.covers(text))
}

/// What a rule permits of a kind; `None` for what nobody may write.
fn permitted(rule: &Rule, what: What) -> Option<&[Pattern]> {
    match what {
        What::Plugin => Some(&rule.plugins),
        What::Interface => Some(&rule.interfaces),
        What::Name => Some(&rule.names),
        What::Path => Some(&rule.paths),
        What::OnNode => Some(&rule.on_node),
        What::OfRuntime => None,
    }
}

/// Says what is not permitted, and what is.
struct Lacking<'a>(&'a Use, &'a Rule);

impl fmt::Display for Lacking<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(Use { what, value, place }, rule) = self;
        match what {
            What::Plugin => write!(f, "plugin {value:?}")?,
            What::Interface if value.is_empty() => {
                f.write_str("whichever interface of the host the plugin takes where none is named")?;
            }
            What::Interface => write!(f, "interface {value:?} of the host")?,
            What::Name => write!(f, "\"name\" {value:?}, which leads to data of others")?,
            What::Path => write!(f, "path {value:?}")?,
            What::OnNode => write!(f, "configuration {value:?} of the node")?,
            What::OfRuntime => write!(f, "key {value:?}, which is the runtime's")?,
        }
        if !place.is_empty() {
            write!(f, " ({place})")?;
        }
        match permitted(rule, *what) {
            None => Ok(()),
            Some([]) => f.write_str(" (permitted is none)"),
            Some(patterns) => {
                let patterns: Vec<_> = patterns.iter().map(ToString::to_string).collect();
                write!(f, " (permitted: {})", patterns.join(", "))
            }
        }
    }
}

#[cfg(test)]
mod tests;
