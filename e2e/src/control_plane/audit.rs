//! What the API server says of the requests that it got: its audit log.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

/// Who, what and when of every request, but not what was sent. Each request is written once, when it has been
/// answered; one that goes on (a watch) when it has begun and again when it ends.
const POLICY: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
";

/// One request to the API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Who asked.
    pub user: String,
    /// The program that asked, as it says of itself.
    pub agent: String,
    /// What RBAC calls the action: `get`, `list`, `watch`, `create`, `update`, `patch`, `delete` …
    pub verb: String,
    /// The API group, empty for the first one.
    pub group: String,
    /// The resource as RBAC spells it, `pods/status` for a subresource. Empty if the path names none.
    pub resource: String,
    /// Empty for what is in none, and for a list of all.
    pub namespace: String,
    /// Empty for a list, and for a create.
    pub name: String,
    /// Path and query.
    pub path: String,
    /// The code of the answer.
    pub code: u16,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    #[serde(rename = "auditID")]
    id: String,
    #[serde(rename = "requestURI")]
    path: String,
    verb: String,
    user: Named,
    #[serde(default)]
    user_agent: String,
    #[serde(default)]
    object_ref: Object,
    #[serde(default)]
    response_status: Status,
}

#[derive(Deserialize)]
struct Named {
    #[serde(default)]
    username: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Object {
    api_group: String,
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
}

#[derive(Default, Deserialize)]
struct Status {
    #[serde(default)]
    code: u16,
}

impl From<Event> for Request {
    fn from(event: Event) -> Self {
        let object = event.object_ref;
        let subresource = if object.subresource.is_empty() { "" } else { "/" };
        Self {
            user: event.user.username,
            agent: event.user_agent,
            verb: event.verb,
            group: object.api_group,
            resource: format!("{}{subresource}{}", object.resource, object.subresource),
            namespace: object.namespace,
            name: object.name,
            path: event.path,
            code: event.response_status.code,
        }
    }
}

/// Writes the policy and returns its file.
pub(super) fn write_policy(dir: &Path) -> Result<PathBuf> {
    let policy = dir.join("audit-policy.yaml");
    fs::write(&policy, POLICY).with_context(|| format!("writing {}", policy.display()))?;
    Ok(policy)
}

/// Reads the requests of a log in the order in which they were answered.
pub(super) fn read(log: &Path) -> Result<Vec<Request>> {
    let text = fs::read_to_string(log).with_context(|| format!("reading {}", log.display()))?;
    parse(&text).with_context(|| format!("reading {}", log.display()))
}

/// A last line without an end is still being written; a killed server may leave one in the midst.
fn parse(text: &str) -> Result<Vec<Request>> {
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let (mut requests, mut seen) = (Vec::new(), BTreeSet::new());
    for line in whole.lines().filter(|line| line.starts_with('{') && line.ends_with('}')) {
        let event: Event = serde_json::from_str(line).with_context(|| format!("reading the event {line}"))?;
        if seen.insert(event.id.clone()) {
            requests.push(event.into());
        }
    }
    Ok(requests)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATCH: &str = r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"1","stage":"ResponseComplete","requestURI":"/api/v1/namespaces/a/pods/p/status","verb":"patch","user":{"username":"node","groups":["system:authenticated"]},"sourceIPs":["127.0.0.1"],"userAgent":"braid","objectRef":{"resource":"pods","namespace":"a","name":"p","apiVersion":"v1","subresource":"status"},"responseStatus":{"metadata":{},"code":200}}"#;
    const WATCH: &str = r#"{"auditID":"2","stage":"ResponseStarted","requestURI":"/apis/k8s.cni.cncf.io/v1/network-attachment-definitions?watch=true","verb":"watch","user":{"username":"node"},"objectRef":{"resource":"network-attachment-definitions","apiGroup":"k8s.cni.cncf.io","apiVersion":"v1"},"responseStatus":{"metadata":{},"code":200}}"#;
    const READY: &str = r#"{"auditID":"3","stage":"ResponseComplete","requestURI":"/readyz","verb":"get","user":{"username":"admin"},"responseStatus":{"metadata":{},"code":200}}"#;

    #[test]
    fn a_request_says_who_did_what_as_rbac_spells_it() {
        let requests = parse(&format!("{PATCH}\n{READY}\n")).unwrap();
        let expected = Request {
            user: "node".into(),
            agent: "braid".into(),
            verb: "patch".into(),
            group: String::new(),
            resource: "pods/status".into(),
            namespace: "a".into(),
            name: "p".into(),
            path: "/api/v1/namespaces/a/pods/p/status".into(),
            code: 200,
        };
        assert_eq!(requests[0], expected);
        assert_eq!((requests[1].path.as_str(), requests[1].resource.as_str()), ("/readyz", ""));
    }

    #[test]
    fn a_watch_counts_once_and_a_half_written_line_not_at_all() {
        let ended = WATCH.replace("ResponseStarted", "ResponseComplete");
        let requests = parse(&format!("{WATCH}\n{PATCH}\n{ended}\n{}", &READY[..40])).unwrap();
        assert_eq!(
            requests.iter().map(|request| request.verb.as_str()).collect::<Vec<_>>(),
            ["watch", "patch"]
        );
        assert_eq!(requests[0].group, "k8s.cni.cncf.io");
    }

    #[test]
    fn what_a_killed_server_left_in_the_midst_is_passed_over() {
        let requests = parse(&format!("{PATCH}\n{}\n{READY}\n", &WATCH[..50])).unwrap();
        assert_eq!(requests.len(), 2);
    }
}
