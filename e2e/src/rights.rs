//! What RBAC permits somebody, and what he does: `group/resource verb`, or `/url verb` for what is no resource.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::control_plane::{ControlPlane, Request, User};

/// What the named roles permit: a ClusterRole by its name, a Role as `namespace/name`.
pub fn permitted(plane: &ControlPlane, roles: &[&str]) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for role in roles {
        let arguments = match role.split_once('/') {
            Some((namespace, name)) => vec!["get", "role", name, "-n", namespace, "-o", "json"],
            None => vec!["get", "clusterrole", role, "-o", "json"],
        };
        let json = plane.kubectl(&User::admin(), &arguments)?;
        let json: Value = serde_json::from_str(&json).with_context(|| format!("reading the role {role}"))?;
        for rule in json["rules"].as_array().into_iter().flatten() {
            let texts = |key: &str| {
                let all = rule[key].as_array().into_iter().flatten();
                all.filter_map(Value::as_str).collect::<Vec<_>>()
            };
            let groups = texts("apiGroups");
            let all = groups.iter().flat_map(|group| {
                texts("resources").into_iter().map(move |resource| format!("{group}/{resource}"))
            });
            for what in all.chain(texts("nonResourceURLs").into_iter().map(str::to_owned)) {
                found.extend(texts("verbs").iter().map(|verb| format!("{what} {verb}")));
            }
        }
    }
    Ok(found)
}

/// What somebody has asked for.
pub fn used(plane: &ControlPlane, user: &User) -> Result<BTreeSet<String>> {
    let requests = plane.requests_of(user)?;
    Ok(requests
        .iter()
        .map(|request| format!("{}/{} {}", request.group, request.resource, request.verb))
        .collect())
}

/// What he was refused.
pub fn refused(plane: &ControlPlane, user: &User) -> Result<Vec<Request>> {
    let requests = plane.requests_of(user)?;
    Ok(requests.into_iter().filter(|request| matches!(request.code, Some(401 | 403))).collect())
}
