//! Namespace isolation: which networks a pod may use.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::names::{Namespace, NetworkRef};
use crate::error::Code;

/// The rule: with isolation on, a pod may use networks of its own namespace and of the global ones.
///
/// It holds wherever a network is named by a pod: in its list of networks and as its default network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Isolation {
    /// Whether the rule holds at all.
    pub enabled: bool,
    /// Namespaces whose networks every pod may use.
    pub global_namespaces: BTreeSet<Namespace>,
}

impl Default for Isolation {
    /// Off; once on, `default` is global.
    fn default() -> Self {
        Self { enabled: false, global_namespaces: Namespace::parse("default").into_iter().collect() }
    }
}

impl Isolation {
    /// Whether a pod of `pod_namespace` may use `network`.
    pub fn permits(&self, pod_namespace: &Namespace, network: &NetworkRef) -> Result<(), IsolationError> {
        let namespace = &network.namespace;
        if !self.enabled || namespace == pod_namespace || self.global_namespaces.contains(namespace) {
            return Ok(());
        }
        let permitted: BTreeSet<_> = self.global_namespaces.iter().chain([pod_namespace]).collect();
        Err(IsolationError {
            network: network.clone(),
            pod_namespace: pod_namespace.clone(),
            permitted: permitted.into_iter().map(Namespace::as_str).collect::<Vec<_>>().join(", "),
        })
    }
}

/// A pod asks for a network that it may not use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "namespace isolation is on: a pod of namespace {pod_namespace} may not use network {network}, only networks \
     of {permitted}"
)]
pub struct IsolationError {
    network: NetworkRef,
    pod_namespace: Namespace,
    permitted: String,
}

impl IsolationError {
    /// The CNI code of the failure: what the pod asks for is not valid.
    pub fn code(&self) -> Code {
        Code::INVALID_CONFIG
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn isolation(enabled: bool, global: &[&str]) -> Isolation {
        let global_namespaces = global.iter().map(|&name| Namespace::parse(name).unwrap()).collect();
        Isolation { enabled, global_namespaces }
    }

    #[test]
    fn a_pod_may_use_its_own_and_global_namespaces() {
        let on = isolation(true, &["default", "shared"]);
        let off = isolation(false, &[]);
        for (rule, pod, network, permitted) in [
            (&on, "a", "a/net", true),
            (&on, "a", "default/net", true),
            (&on, "a", "shared/net", true),
            (&on, "a", "b/net", false),
            (&on, "default", "a/net", false),
            (&on, "a", "kube-system/net", false),
            (&isolation(true, &[]), "a", "default/net", false),
            (&off, "a", "b/net", true),
        ] {
            let result = rule.permits(&Namespace::parse(pod).unwrap(), &network.parse().unwrap());
            assert_eq!(result.is_ok(), permitted, "{pod} {network}");
        }
    }

    #[test]
    fn isolation_is_off_by_default_and_default_is_global() {
        assert_eq!(Isolation::default(), isolation(false, &["default"]));
    }

    #[test]
    fn an_error_names_both_sides_and_what_is_permitted() {
        let error = isolation(true, &["default", "shared"])
            .permits(&Namespace::parse("app").unwrap(), &"other/net".parse().unwrap())
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "namespace isolation is on: a pod of namespace app may not use network other/net, only networks of \
             app, default, shared"
        );
        assert_eq!(error.code(), Code::INVALID_CONFIG);
    }
}
