//! Taking the configuration off the host at the end, so that the primary serves the node alone again.
//!
//! Only where it is certain that Braid is being taken away: an upgrade, a restart or a node that is shut down must
//! never leave pods without their networks. The executable stays in any case: CRI-O keeps the configuration that
//! a container was attached with and calls it for DEL.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use cni::error::chain_text;
use k8s_openapi::api::apps::v1::DaemonSet;
use kube::{Api, Client};
use store::atomic;
use tokio::time::timeout;
use tracing::{error, info};

use super::Host;
use crate::args::Install;

/// The API server's answer is waited for so long.
const PATIENCE: Duration = Duration::from_secs(1);

/// What became of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Left {
    /// It is gone, since Braid is being taken away.
    Removed,
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
            Self::Failed(reason) => write!(f, "it could not be removed: {reason}; remove it by hand"),
        }
    }
}

/// Takes our configuration off the host if our DaemonSet is being deleted, and tells the log what and why.
///
/// To be called when [`super::run`] has been dropped, which would put it back. Ends within little more than a
/// second. Needs `get` of that one DaemonSet.
pub async fn leave(host: &Host, daemonset: Option<&str>, client: Client) -> Left {
    let path = host.configuration();
    let left = match why_stay(host.what, daemonset, client).await {
        Some(why) => Left::Stays(why),
        None => remove(&path),
    };
    let path = path.display();
    match &left {
        Left::Removed => {
            info!(%path, "Braid is being taken away: removed our configuration; the plugin stays");
        }
        Left::Stays(why @ Why::Failed(_)) => error!(%path, %why, "our configuration stays in place"),
        Left::Stays(why) => info!(%path, %why, "our configuration stays in place"),
    }
    left
}

fn remove(path: &Path) -> Left {
    match atomic::remove(path) {
        Ok(_) => Left::Removed,
        Err(error) => Left::Stays(Why::Failed(chain_text(&error))),
    }
}

async fn why_stay(what: Install, daemonset: Option<&str>, client: Client) -> Option<Why> {
    if what == Install::None {
        return Some(Why::NotOurs);
    }
    let Some(text) = daemonset else { return Some(Why::NoDaemonSet) };
    let Some((namespace, name)) =
        text.split_once('/').filter(|(space, name)| is_name(space) && is_name(name))
    else {
        return Some(Why::NotAName(text.to_owned()));
    };
    let daemonsets: Api<DaemonSet> = Api::namespaced(client, namespace);
    match timeout(PATIENCE, daemonsets.get_metadata(name)).await {
        Ok(answer) => verdict(text, answer.map(|found| found.metadata.deletion_timestamp.is_some())),
        Err(_) => Some(Why::Unknown(format!("no answer within {PATIENCE:?}"))),
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && !text.contains('/')
}

/// What the API server's answer means: whether the DaemonSet that it found is being deleted, or an error.
///
/// Only its own "there is no such object" counts as gone: something between us and it may answer 404 too.
fn verdict(name: &str, answer: kube::Result<bool>) -> Option<Why> {
    match answer {
        Ok(true) => None,
        Ok(false) => Some(Why::Wanted(name.to_owned())),
        Err(kube::Error::Api(status)) if status.code == 404 && status.reason == "NotFound" => None,
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
            let left = leave(&host, Some("braid-system/braid-node"), answering(code, body.clone())).await;
            assert_eq!(left == Left::Removed, goes, "{code} {body}: {left:?}");
            assert_eq!(host.configuration().exists(), !goes, "{code} {body}");
        }
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
            assert_eq!(leave(&host, daemonset, nobody()).await, Left::Stays(why));
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
            let left = leave(&host, Some("braid-system/braid-node"), client).await;
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
        assert_eq!(leave(&host, Some("braid-system/braid-node"), gone()).await, Left::Removed);
        std::fs::create_dir(host.configuration()).unwrap();
        let left = leave(&host, Some("braid-system/braid-node"), gone()).await;
        assert!(matches!(left, Left::Stays(Why::Failed(_))), "{left:?}");
    }
}
