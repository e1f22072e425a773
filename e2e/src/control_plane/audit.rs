//! The API server's own account of who asked for what.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

/// One request.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Request {
    /// `admin`, or `system:serviceaccount:<namespace>:<name>`.
    pub user: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete` …
    pub verb: String,
    /// The API group; empty for the core group.
    pub group: String,
    /// The resource, with its subresource behind a slash.
    pub resource: String,
    /// The object's namespace, where there is one.
    pub namespace: String,
    /// The object's name, where there is one.
    pub name: String,
    /// The code of the answer.
    pub code: u64,
}

/// Reads the audit log; a last line that is not written to its end is left out.
pub(super) fn read(path: &Path) -> Result<Vec<Request>> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().map(request).filter_map(Result::transpose).collect()
}

/// `None` for what is about no object (`/readyz`).
fn request(line: &str) -> Result<Option<Request>> {
    let event: Value = serde_json::from_str(line).context("reading a line of the audit log")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let Some(object) = event.get("objectRef") else { return Ok(None) };
    let resource = match object["subresource"].as_str() {
        Some(sub) => format!("{}/{sub}", text(&object["resource"])),
        None => text(&object["resource"]),
    };
    Ok(Some(Request {
        user: text(&event["user"]["username"]),
        verb: text(&event["verb"]),
        group: text(&object["apiGroup"]),
        resource,
        namespace: text(&object["namespace"]),
        name: text(&object["name"]),
        code: event["responseStatus"]["code"].as_u64().unwrap_or_default(),
    }))
}
