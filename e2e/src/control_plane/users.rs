//! Who may talk to the API server: users with static tokens, and service accounts.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::json;

/// Somebody whom the API server knows, and how he shows that it is him.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The name that RBAC and the audit log give him.
    pub name: String,
    pub(super) token: String,
}

impl User {
    /// May do everything.
    pub fn admin() -> Self {
        Self::with_static_token("admin")
    }

    /// May do nothing but what everybody may who is known.
    pub fn stranger() -> Self {
        Self::with_static_token("stranger")
    }

    /// What he shows.
    pub fn token(&self) -> &str {
        &self.token
    }

    fn with_static_token(name: &str) -> Self {
        Self { name: name.to_owned(), token: format!("the-token-of-{name}") }
    }

    /// The content of a kubeconfig with which he talks to `server`.
    pub(super) fn kubeconfig(&self, server: &str, authority: &Path) -> String {
        let content = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{ "name": "test", "cluster": { "server": server, "certificate-authority": authority } }],
            "users": [{ "name": self.name, "user": { "token": self.token } }],
            "contexts": [{ "name": "test", "context": { "cluster": "test", "user": self.name } }],
            "current-context": "test",
        });
        // JSON is YAML.
        content.to_string()
    }
}

/// Writes the file for `--token-auth-file` with the users that have static tokens: token, name, uid, groups.
pub(super) fn write_tokens(dir: &Path) -> Result<PathBuf> {
    let file = dir.join("tokens.csv");
    let lines = [(User::admin(), ",system:masters"), (User::stranger(), "")]
        .map(|(user, groups)| format!("{},{},{}{groups}\n", user.token, user.name, user.name));
    fs::write(&file, lines.concat()).with_context(|| format!("writing {}", file.display()))?;
    Ok(file)
}
