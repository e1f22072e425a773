//! Notices that the API server's data is older than what was seen of it: etcd was restored from a backup.
//!
//! A watch is resumed after the last version that was seen. Where etcd has gone back to a lower one, an API server
//! takes such a watch and says nothing until it has caught up, and never what happened before: what a role knows
//! would stay wrong for as long as that takes. So before each watch the present version is asked for, by a list in a
//! namespace that has none of what is listed (150 bytes, one read of etcd), and a watch from a later one is answered as
//! the API server answers one from a version that it has forgotten: with 410, after which its owner lists anew.
//!
//! Not noticed here: data that has already overtaken what was seen by the time of the first watch. For that, watches
//! are begun anew from time to time ([`crate::watching`]).

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::{Request, Response, Uri};
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::warn;

/// Both roles may list networks, and nobody has any among the kubelets' Leases.
const NETWORKS: &str =
    "/apis/k8s.cni.cncf.io/v1/namespaces/kube-node-lease/network-attachment-definitions?limit=1";
/// Who watches pods may list them: an API server serves these before what is defined.
const PODS: &str = "/api/v1/namespaces/kube-node-lease/pods?limit=1";
/// So many watches are answered in the API server's place within [`WINDOW`]: a controller has six, and a storage
/// whose versions mean something else must not keep us listing.
const MOST: u32 = 16;
const WINDOW: Duration = Duration::from_secs(600);

/// What was noticed.
#[derive(Debug)]
pub(super) struct History {
    /// Counts the watches that were refused.
    restored: watch::Sender<u64>,
    /// When the present window began, and how many watches were refused in it.
    refused: Mutex<(Instant, u32)>,
}

impl History {
    pub(super) fn new() -> Self {
        Self { restored: watch::Sender::new(0), refused: Mutex::new((Instant::now(), 0)) }
    }

    /// Changes when the API server's data has gone back.
    pub(super) fn restored(&self) -> watch::Receiver<u64> {
        self.restored.subscribe()
    }

    /// The answer to a watch that is to go on from `seen`, if the API server is at an earlier version.
    pub(super) fn refuse(&self, uri: &Uri, seen: u64, present: u64) -> Option<Response<Body>> {
        if present >= seen || !self.may_refuse(Instant::now()) {
            return None;
        }
        warn!(path = uri.path(), seen, present, "the API server's data has gone back; listing anew");
        self.restored.send_modify(|times| *times += 1);
        let message = format!(
            "the API server's data has gone back: version {seen} was seen, its present one is {present}; was etcd \
             restored from a backup?"
        );
        let status = json!({
            "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Expired", "code": 410,
            "message": message,
        });
        Response::builder().status(410).body(Body::from(status.to_string().into_bytes())).ok()
    }

    fn may_refuse(&self, now: Instant) -> bool {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.0 + WINDOW <= now {
            *refused = (now, 0);
        }
        refused.1 += 1;
        refused.1 <= MOST
    }
}

/// The version after which a watch begins; `None` for other requests, and where it begins with what is there.
pub(super) fn watched_from(uri: &Uri) -> Option<u64> {
    let mut pairs = uri.query()?.split('&').filter_map(|pair| pair.split_once('='));
    let watches = pairs.clone().any(|pair| matches!(pair, ("watch", "true" | "1")));
    let version = pairs.find(|(key, _)| *key == "resourceVersion")?.1;
    version.parse().ok().filter(|version| watches && *version > 0)
}

/// Asks for the API server's present version, on behalf of a watch.
pub(super) fn question(watch: &Uri) -> Request<Body> {
    let mut request = Request::new(Body::empty());
    *request.uri_mut() = Uri::from_static(if watch.path() == "/api/v1/pods" { PODS } else { NETWORKS });
    request
}

/// The version that an answer to it names, where that is a number.
pub(super) fn version(answer: &[u8]) -> Option<u64> {
    let list: Value = serde_json::from_slice(answer).ok()?;
    list["metadata"]["resourceVersion"].as_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_watches_that_go_on_from_a_version_are_looked_at() {
        for (uri, version) in [
            ("/api/v1/pods?&watch=true&timeoutSeconds=290&resourceVersion=17", Some(17)),
            ("/api/v1/pods?watch=1&resourceVersion=17", Some(17)),
            ("/api/v1/pods?watch=true&resourceVersion=0", None),
            ("/api/v1/pods?watch=true&resourceVersion=", None),
            ("/api/v1/pods?watch=true", None),
            ("/api/v1/pods?resourceVersion=17", None),
            ("/api/v1/pods?watch=true&resourceVersion=opaque", None),
            ("/api/v1/pods", None),
        ] {
            assert_eq!(watched_from(&uri.parse().unwrap()), version, "{uri}");
        }
    }

    #[tokio::test]
    async fn refusals_are_bounded_within_a_time() {
        let (history, now) = (History::new(), Instant::now());
        let refused = (0..100).filter(|_| history.may_refuse(now)).count();
        assert_eq!(refused, 16);
        assert!(history.may_refuse(now + WINDOW * 2));
    }
}
