//! Taking the configuration off the host at the end, so that the primary serves the node alone again.
//!
//! Only where it is certain that Braid is being taken away: an upgrade, a restart or a node that is shut down must
//! never leave pods without their networks. While there are records of attachments the file is not removed but
//! retired ([`store::leaving`]): `meta-cni` undoes them as their containers end, hands everything else on, and removes
//! the file at last. The executable stays in any case: CRI-O keeps the configuration that a container was attached with
//! and calls it for DEL.

use std::path::PathBuf;
use std::time::Duration;
use std::{fmt, io};

use cni::error::chain_text;
use cni::point;
use k8s_openapi::api::apps::v1::DaemonSet;
use kube::{Api, Client};
use store::leaving::{self, RetireError};
use store::lock::Lock;
use store::{NodeDirectory, StoreError, atomic, record};
use tokio::time::timeout;
use tracing::{error, info};

use super::Host;
use crate::args::Install;
use crate::cluster::{is_not_there, namespace_and_name};

/// The API server's answer is waited for so long.
const PATIENCE: Duration = Duration::from_secs(1);

/// What became of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Left {
    /// It is gone, since Braid is being taken away.
    Removed,
    /// Braid is being taken away, and it stays, retired, until the last container that Braid attached is gone.
    Retired,
    /// It stays in place.
    Stays(Why),
}

/// Why the configuration stays in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// It is not ours to remove, with `--install none`.
    NotOurs,
    /// Nobody said which DaemonSet is ours.
    NoDaemonSet,
    /// What was said is not `namespace/name`.
    NotAName(String),
    /// The DaemonSet is there, and will start us again.
    Wanted(String),
    /// What became of the DaemonSet cannot be known.
    Unknown(String),
    /// It should go, but the host does not let it.
    Failed(String),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOurs => f.write_str("it is not ours (--install none)"),
            Self::NoDaemonSet => f.write_str("no --daemonset is given, whose deletion would end its use"),
            Self::NotAName(text) => write!(f, "--daemonset {text:?} is not namespace/name"),
            Self::Wanted(name) => write!(f, "DaemonSet {name} is not being deleted"),
            Self::Unknown(reason) => {
                write!(f, "whether our DaemonSet is being deleted is not known: {reason}")
            }
            Self::Failed(reason) => {
                write!(f, "it could not be removed or retired: {reason}; remove it by hand")
            }
        }
    }
}

/// Takes our configuration off the host if our DaemonSet is being deleted, and tells the log what and why.
///
/// To be called when [`super::run`] has been dropped, which would put it back. Ends within little more than a
/// second. Needs `get` of that one DaemonSet.
pub async fn leave(host: &Host, dir: &NodeDirectory, daemonset: Option<&str>, client: Client) -> Left {
    let path = host.configuration();
    let left = match why_stay(host.what, daemonset, client).await {
        Some(why) => Left::Stays(why),
        None => take_away(host, dir).unwrap_or_else(|error| Left::Stays(Why::Failed(chain_text(&error)))),
    };
    let path = path.display();
    match &left {
        Left::Removed => {
            info!(%path, "Braid is being taken away: removed our configuration; the plugin stays");
        }
        Left::Retired => {
            info!(
                %path,
                "Braid is being taken away, and containers that it attached are still there: our configuration stays, \
                 retired; new pods get what comes next, and meta-cni removes it with the last of those containers"
            );
        }
        Left::Stays(why @ Why::Failed(_)) => error!(%path, %why, "our configuration stays in place"),
        Left::Stays(why) => info!(%path, %why, "our configuration stays in place"),
    }
    left
}

/// Why the configuration could be neither removed nor retired.
#[derive(Debug, thiserror::Error)]
enum TakeAwayError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("read {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("retire {path}")]
    Retire { path: PathBuf, source: RetireError },
}

/// Removes the configuration, or retires it while a record has an attachment to undo.
fn take_away(host: &Host, dir: &NodeDirectory) -> Result<Left, TakeAwayError> {
    let path = host.configuration();
    let _only = Lock::of_configuration(dir, leaving::PATIENCE)?;
    if !record::any_to_undo(dir)? {
        atomic::remove(&path)?;
        point::reached("leave: configuration removed");
        return Ok(Left::Removed);
    }
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        // Somebody else has taken it away: it is not for us to bring it back now.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Left::Removed),
        Err(source) => return Err(TakeAwayError::Read { path, source }),
    };
    let retired = leaving::retired(&text, &host.conf_dir)
        .map_err(|source| TakeAwayError::Retire { path: path.clone(), source })?;
    atomic::write(&path, retired.as_bytes())?;
    Ok(Left::Retired)
}

async fn why_stay(what: Install, daemonset: Option<&str>, client: Client) -> Option<Why> {
    if what == Install::None {
        return Some(Why::NotOurs);
    }
    let Some(text) = daemonset else { return Some(Why::NoDaemonSet) };
    let Some((namespace, name)) = namespace_and_name(text) else {
        return Some(Why::NotAName(text.to_owned()));
    };
    let daemonsets: Api<DaemonSet> = Api::namespaced(client, namespace);
    match timeout(PATIENCE, daemonsets.get_metadata(name)).await {
        Ok(answer) => verdict(text, answer.map(|found| found.metadata.deletion_timestamp.is_some())),
        Err(_) => Some(Why::Unknown(format!("no answer within {PATIENCE:?}"))),
    }
}

/// What the API server's answer means: whether the DaemonSet that it found is being deleted, or an error.
fn verdict(name: &str, answer: kube::Result<bool>) -> Option<Why> {
    match answer {
        Ok(true) => None,
        Ok(false) => Some(Why::Wanted(name.to_owned())),
        Err(error) if is_not_there(&error) => None,
        Err(error) => Some(Why::Unknown(chain_text(&error))),
    }
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::{Value, json};
    use tower::service_fn;

    use super::*;

    fn dir(host: &Host) -> NodeDirectory {
        NodeDirectory::new(host.conf_dir.join("run"), host.conf_dir.join("state"))
    }

    fn host(what: Install) -> (tempfile::TempDir, Host) {
        let temp = tempfile::tempdir().unwrap();
        let at = |name: &str| temp.path().join(name);
        let host = Host {
            conf_dir: temp.path().to_owned(),
            bin_dir: at("bin"),
            plugin: at("p"),
            settings: None,
            what,
        };
        std::fs::write(host.configuration(), "{}").unwrap();
        (temp, host)
    }

    /// An API server that gives one answer to the question for `braid-system/braid-node`.
    fn answering(code: u16, body: Value) -> Client {
        let service = service_fn(move |request: Request<Body>| {
            let body = body.to_string();
            async move {
                let asked = format!("{} {}", request.method(), request.uri().path());
                assert_eq!(asked, "GET /apis/apps/v1/namespaces/braid-system/daemonsets/braid-node");
                let answer = Response::builder().status(code).header("content-type", "application/json");
                answer.body(Body::from(body.into_bytes()))
            }
        });
        Client::new(service, "default")
    }

    fn daemonset(deletion: Value) -> Value {
        json!({
            "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
            "metadata": {"name": "braid-node", "namespace": "braid-system", "deletionTimestamp": deletion},
        })
    }

    fn refusal(code: u16, reason: &str) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code, "reason": reason,
            "message": "no",
        })
    }

    #[tokio::test]
    async fn the_configuration_goes_only_with_the_daemonset() {
        for (code, body, goes) in [
            (200, daemonset(json!("2026-01-01T00:00:00Z")), true),
            (404, refusal(404, "NotFound"), true),
            (200, daemonset(Value::Null), false),
            (404, json!("404 page not found"), false),
            (403, refusal(403, "Forbidden"), false),
            (401, refusal(401, "Unauthorized"), false),
            (500, refusal(500, "InternalError"), false),
            (200, json!([]), false),
        ] {
            let (_temp, host) = host(Install::All);
            let left =
                leave(&host, &dir(&host), Some("braid-system/braid-node"), answering(code, body.clone()))
                    .await;
            assert_eq!(left == Left::Removed, goes, "{code} {body}: {left:?}");
            assert_eq!(host.configuration().exists(), !goes, "{code} {body}");
        }
    }

    fn record(host: &Host, attached: bool) {
        let plan = json!({
            "network": "a", "if_name": "eth0", "list": {"name": "a", "type": "bridge"}, "args": [],
            "capabilities": {},
        });
        let record: record::Record = serde_json::from_value(json!({
            "phase": "attached", "container_id": "c1", "if_name": "eth0", "netns": null, "netns_id": null,
            "boot_id": "", "pod": null, "path": [], "created_ms": 0,
            "attachments": if attached { vec![plan] } else { Vec::new() },
        }))
        .unwrap();
        record.write(&dir(host)).unwrap();
    }

    #[tokio::test]
    async fn while_containers_are_attached_the_configuration_stays_and_is_retired() {
        let gone = || answering(404, refusal(404, "NotFound"));
        let (_temp, host) = host(Install::All);
        std::fs::write(host.configuration(), r#"{"name":"braid","plugins":[{"type":"meta-cni"}]}"#).unwrap();
        record(&host, true);
        let left = leave(&host, &dir(&host), Some("braid-system/braid-node"), gone()).await;
        assert_eq!(left, Left::Retired);
        let text: Value = serde_json::from_slice(&std::fs::read(host.configuration()).unwrap()).unwrap();
        let plugin = json!({"type": "meta-cni", "retired": true, "cniConfDir": host.conf_dir});
        assert_eq!(text, json!({"name": "braid", "plugins": [plugin]}));
        std::fs::write(host.configuration(), "{}").unwrap();
        let left = leave(&host, &dir(&host), Some("braid-system/braid-node"), gone()).await;
        assert!(
            matches!(&left, Left::Stays(Why::Failed(why)) if why.contains("no plugin of type")),
            "{left:?}"
        );
        record(&host, false);
        let left = leave(&host, &dir(&host), Some("braid-system/braid-node"), gone()).await;
        assert_eq!(left, Left::Removed, "a record of which nothing is to be undone keeps nobody");
        record(&host, true);
        let left = leave(&host, &dir(&host), Some("braid-system/braid-node"), gone()).await;
        assert_eq!(left, Left::Removed, "somebody else removed it");
        assert!(!host.configuration().exists());
    }

    #[tokio::test]
    async fn nobody_is_asked_where_the_answer_does_not_matter() {
        let nobody = || {
            Client::new(
                service_fn(|_: Request<Body>| async {
                    Err::<Response<Body>, _>(std::io::Error::other("was asked"))
                }),
                "default",
            )
        };
        for (what, daemonset, why) in [
            (Install::None, Some("a/b"), Why::NotOurs),
            (Install::All, None, Why::NoDaemonSet),
            (Install::All, Some("b"), Why::NotAName("b".to_owned())),
            (Install::All, Some("a/b/c"), Why::NotAName("a/b/c".to_owned())),
        ] {
            let (_temp, host) = host(what);
            assert_eq!(leave(&host, &dir(&host), daemonset, nobody()).await, Left::Stays(why));
            assert!(host.configuration().exists());
        }
    }

    #[tokio::test]
    async fn an_api_server_that_is_silent_or_away_leaves_everything_in_place() {
        let silent = Client::new(
            service_fn(|_: Request<Body>| std::future::pending::<Result<Response<Body>, std::io::Error>>()),
            "default",
        );
        let away = Client::new(
            service_fn(|_: Request<Body>| async {
                Err::<Response<Body>, _>(std::io::Error::other("refused"))
            }),
            "default",
        );
        for client in [silent, away] {
            let (_temp, host) = host(Install::All);
            let began = std::time::Instant::now();
            let left = leave(&host, &dir(&host), Some("braid-system/braid-node"), client).await;
            assert!(matches!(left, Left::Stays(Why::Unknown(_))), "{left:?}");
            assert!(host.configuration().exists());
            assert!(began.elapsed() < PATIENCE * 5, "{:?}", began.elapsed());
        }
    }

    #[tokio::test]
    async fn a_configuration_that_cannot_be_removed_is_told_and_one_that_is_gone_is_fine() {
        let (_temp, host) = host(Install::Configuration);
        std::fs::remove_file(host.configuration()).unwrap();
        let gone = || answering(404, refusal(404, "NotFound"));
        assert_eq!(leave(&host, &dir(&host), Some("braid-system/braid-node"), gone()).await, Left::Removed);
        std::fs::create_dir(host.configuration()).unwrap();
        let left = leave(&host, &dir(&host), Some("braid-system/braid-node"), gone()).await;
        assert!(matches!(left, Left::Stays(Why::Failed(_))), "{left:?}");
    }
}
