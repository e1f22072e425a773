//! What the API server says of the requests that it got: its audit log.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

/// Who, what and when of every request, but not what was sent. Each is written when it comes, before anything is done
/// for it, and again when it has been answered. (A watch "starts its response" only when it ends, in 1.20.)
const POLICY: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
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
    /// Empty for a list, and for a create that was refused.
    pub name: String,
    /// Path and query.
    pub path: String,
    /// The code of the answer; none while there is none, as for most watches.
    pub code: Option<u16>,
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
    code: Option<u16>,
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

/// Reads the requests of a log in the order in which they came.
pub(super) fn read(log: &Path) -> Result<Vec<Request>> {
    let text = fs::read_to_string(log).with_context(|| format!("reading {}", log.display()))?;
    parse(&text).with_context(|| format!("reading {}", log.display()))
}

/// A last line without an end is still being written; a killed server may leave one in the midst.
fn parse(text: &str) -> Result<Vec<Request>> {
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let (mut requests, mut places) = (Vec::<Request>::new(), BTreeMap::new());
    for line in whole.lines().filter(|line| line.starts_with('{') && line.ends_with('}')) {
        let event: Event = serde_json::from_str(line).with_context(|| format!("reading the event {line}"))?;
        let place = *places.entry(event.id.clone()).or_insert(requests.len());
        match requests.get_mut(place) {
            // The later one knows more.
            Some(request) => *request = event.into(),
            None => requests.push(event.into()),
        }
    }
    Ok(requests)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATCH: &str = r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"1","stage":"ResponseComplete","requestURI":"/api/v1/namespaces/a/pods/p/status","verb":"patch","user":{"username":"node","groups":["system:authenticated"]},"sourceIPs":["127.0.0.1"],"userAgent":"braid","objectRef":{"resource":"pods","namespace":"a","name":"p","apiVersion":"v1","subresource":"status"},"responseStatus":{"metadata":{},"code":200}}"#;
    const WATCH: &str = r#"{"auditID":"2","stage":"RequestReceived","requestURI":"/apis/k8s.cni.cncf.io/v1/network-attachment-definitions?watch=true","verb":"watch","user":{"username":"node"},"objectRef":{"resource":"network-attachment-definitions","apiGroup":"k8s.cni.cncf.io","apiVersion":"v1"}}"#;
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
            code: Some(200),
        };
        assert_eq!(requests[0], expected);
        assert_eq!((requests[1].path.as_str(), requests[1].resource.as_str()), ("/readyz", ""));
    }

    #[test]
    fn a_request_counts_once_where_it_came_in_and_a_half_written_line_not_at_all() {
        let asked = PATCH.replace(r#","responseStatus":{"metadata":{},"code":200}"#, "");
        let requests = parse(&format!("{asked}\n{WATCH}\n{PATCH}\n{}", &READY[..40])).unwrap();
        let found: Vec<_> = requests.iter().map(|request| (request.verb.as_str(), request.code)).collect();
        assert_eq!(found, [("patch", Some(200)), ("watch", None)]);
        assert_eq!(requests[1].group, "k8s.cni.cncf.io");
        assert_eq!(parse(&format!("{asked}\n")).unwrap()[0].code, None);
    }

    #[test]
    fn what_a_killed_server_left_in_the_midst_is_passed_over() {
        let requests = parse(&format!("{PATCH}\n{}\n{READY}\n", &WATCH[..50])).unwrap();
        assert_eq!(requests.len(), 2);
    }
}
