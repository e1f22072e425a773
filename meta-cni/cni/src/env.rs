//! The environment of a plugin: which verb is asked for, on what (specification, section 2).

use std::path::PathBuf;

use crate::args::CniArgs;
use crate::error::{CniError, Code};
use crate::ids::{ContainerId, IfName};

/// What CNI_COMMAND asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// Attach.
    Add,
    /// Undo an attachment.
    Del,
    /// Is the attachment as ADD made it?
    Check,
    /// Remove what belongs to no valid attachment.
    Gc,
    /// Can ADD be served?
    Status,
    /// Which versions are spoken?
    Version,
}

impl Verb {
    /// Every verb.
    pub const ALL: [Self; 6] = [Self::Add, Self::Del, Self::Check, Self::Gc, Self::Status, Self::Version];

    /// As in CNI_COMMAND.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
            Self::Gc => "GC",
            Self::Status => "STATUS",
            Self::Version => "VERSION",
        }
    }

    fn needs(self, variable: &str) -> bool {
        match variable {
            "CNI_CONTAINERID" | "CNI_IFNAME" => matches!(self, Self::Add | Self::Del | Self::Check),
            "CNI_NETNS" => matches!(self, Self::Add | Self::Check),
            "CNI_PATH" => self != Self::Version,
            _ => false,
        }
    }
}

impl std::fmt::Display for Verb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One interface of one container: what ADD, DEL and CHECK are about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// CNI_CONTAINERID.
    pub container_id: ContainerId,
    /// CNI_NETNS; DEL may come without.
    pub netns: Option<PathBuf>,
    /// CNI_IFNAME.
    pub if_name: IfName,
    /// CNI_ARGS.
    pub args: CniArgs,
}

/// A plugin's environment, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    /// CNI_COMMAND.
    pub verb: Verb,
    /// For ADD, DEL and CHECK.
    pub target: Option<Target>,
    /// CNI_PATH: where plugins are looked for, in order.
    pub path: Vec<PathBuf>,
}

impl Environment {
    /// Reads the environment through `lookup`. Everything that is missing is reported in one error.
    pub fn read(lookup: &dyn Fn(&str) -> Option<String>) -> Result<Self, CniError> {
        let get = |name: &str| lookup(name).filter(|value| !value.is_empty());
        let invalid = |msg: String| CniError::new(Code::INVALID_ENVIRONMENT, msg);
        let command = get("CNI_COMMAND").ok_or_else(|| invalid("CNI_COMMAND is not set".to_owned()))?;
        let verb = Verb::ALL.into_iter().find(|verb| verb.as_str() == command);
        let verb = verb.ok_or_else(|| {
            let known = Verb::ALL.map(Verb::as_str).join(", ");
            invalid(format!("CNI_COMMAND is {command:?}, not one of {known}"))
        })?;
        let missing: Vec<_> = ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"]
            .into_iter()
            .filter(|variable| verb.needs(variable) && get(variable).is_none())
            .collect();
        if !missing.is_empty() {
            return Err(invalid(format!(
                "{verb} needs {}, which the runtime did not set",
                missing.join(", ")
            )));
        }
        let path = get("CNI_PATH").unwrap_or_default();
        let path = std::env::split_paths(&path).filter(|dir| !dir.as_os_str().is_empty()).collect();
        let target = match (get("CNI_CONTAINERID"), get("CNI_IFNAME")) {
            (Some(id), Some(name)) if verb.needs("CNI_IFNAME") => Some(Target {
                container_id: ContainerId::parse(id).map_err(|e| invalid(format!("CNI_CONTAINERID: {e}")))?,
                netns: get("CNI_NETNS").map(PathBuf::from),
                if_name: IfName::parse(name).map_err(|e| invalid(format!("CNI_IFNAME: {e}")))?,
                args: arguments(verb, &get("CNI_ARGS").unwrap_or_default())?,
            }),
            _ => None,
        };
        Ok(Self { verb, target, path })
    }
}

/// CNI_ARGS. What cannot be read of them must not keep DEL from undoing what was done.
fn arguments(verb: Verb, text: &str) -> Result<CniArgs, CniError> {
    if verb == Verb::Del {
        return Ok(CniArgs::parse_readable(text));
    }
    CniArgs::parse(text).map_err(|error| CniError::new(Code::INVALID_ENVIRONMENT, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Environment, CniError> {
        let lookup =
            |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Environment::read(&lookup)
    }

    #[test]
    fn everything_that_is_missing_is_said_at_once() {
        let error = read(&[("CNI_COMMAND", "ADD"), ("CNI_IFNAME", "eth0")]).unwrap_err();
        assert_eq!(error.code, Code::INVALID_ENVIRONMENT);
        assert_eq!(
            error.msg,
            "ADD needs CNI_CONTAINERID, CNI_NETNS, CNI_PATH, which the runtime did not set"
        );
    }

    #[test]
    fn each_verb_asks_for_its_own_variables() {
        let path = ("CNI_PATH", "/a:/b");
        for verb in ["GC", "STATUS"] {
            let env = read(&[("CNI_COMMAND", verb), path]).unwrap();
            assert_eq!(env.target, None);
            assert_eq!(env.path, [PathBuf::from("/a"), PathBuf::from("/b")]);
        }
        let del = [("CNI_COMMAND", "DEL"), ("CNI_CONTAINERID", "c"), ("CNI_IFNAME", "eth0"), path];
        assert_eq!(read(&del).unwrap().target.unwrap().netns, None);
        assert_eq!(read(&[("CNI_COMMAND", "VERSION")]).unwrap().verb, Verb::Version);
    }

    #[test]
    fn what_is_malformed_is_refused_with_code_4() {
        let base = |extra: (&'static str, &'static str)| {
            let all = [
                ("CNI_COMMAND", "ADD"),
                ("CNI_CONTAINERID", "c"),
                ("CNI_NETNS", "/run/netns/x"),
                ("CNI_IFNAME", "eth0"),
                ("CNI_PATH", "/a"),
            ];
            let mut variables: Vec<_> = all.into_iter().filter(|(key, _)| *key != extra.0).collect();
            variables.push(extra);
            read(&variables)
        };
        assert!(base(("CNI_ARGS", "A=1;B=2")).is_ok());
        for bad in [
            ("CNI_COMMAND", "add"),
            ("CNI_COMMAND", ""),
            ("CNI_CONTAINERID", "../x"),
            ("CNI_IFNAME", "a/b"),
            ("CNI_IFNAME", "sixteen-bytes-xx"),
            ("CNI_ARGS", "nonsense"),
        ] {
            assert_eq!(base(bad).unwrap_err().code, Code::INVALID_ENVIRONMENT, "{bad:?}");
        }
    }
}
