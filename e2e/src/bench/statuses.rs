//! What the API server says of pods, with when it said so first.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use cni::AddResult;
use cni::npwg::{NETWORK_STATUS, NetworkStatus};
use futures::TryStreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{ListParams, WatchEvent, WatchParams};
use tokio::task::JoinHandle;

use crate::control_plane::ControlPlane;

/// Interfaces with their addresses.
pub(super) type Interfaces = BTreeMap<String, BTreeSet<IpAddr>>;

/// The newest status of each pod, and when it came.
type Seen = BTreeMap<String, (Instant, String)>;

/// A watch that notes the status of each pod until it is dropped.
pub(super) struct Statuses {
    task: JoinHandle<Result<()>>,
    seen: Arc<Mutex<Seen>>,
}

impl Statuses {
    /// Returns when the watch has begun.
    pub(super) fn follow(plane: &ControlPlane, pods: Api<Pod>) -> Result<Self> {
        let seen = Arc::<Mutex<Seen>>::default();
        let into = Arc::clone(&seen);
        let (begun, begins) = tokio::sync::oneshot::channel();
        let task = plane.spawn(async move {
            let list = pods.list_metadata(&ListParams::default().limit(1)).await?;
            let version = list.metadata.resource_version.unwrap_or_default();
            let mut watch = pin!(pods.watch_metadata(&WatchParams::default(), &version).await?);
            let _ = begun.send(());
            while let Some(event) = watch.try_next().await? {
                let (WatchEvent::Added(pod) | WatchEvent::Modified(pod)) = event else { continue };
                let (name, annotations) = (pod.metadata.name, pod.metadata.annotations);
                let status = annotations.and_then(|mut all| all.remove(NETWORK_STATUS));
                if let (Some(name), Some(status)) = (name, status) {
                    note(&mut into.lock().unwrap_or_else(PoisonError::into_inner), name, status);
                }
            }
            Ok(())
        });
        plane.block_on(begins).context("the watch of pods did not begin")?;
        Ok(Self { task, seen })
    }

    /// What ends is no longer told.
    pub(super) fn ensure_following(&self) -> Result<()> {
        ensure!(!self.task.is_finished(), "the watch of pods has ended");
        Ok(())
    }

    /// When the last of these pods got the status that it should have; `None` while one has another or none.
    pub(super) fn right_since(&self, expected: &[(&str, Interfaces)]) -> Option<Instant> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        right_since(&seen, expected)
    }
}

impl Drop for Statuses {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The same again is no news.
fn note(seen: &mut Seen, name: String, status: String) {
    if seen.get(&name).is_none_or(|(_, before)| *before != status) {
        seen.insert(name, (Instant::now(), status));
    }
}

fn right_since(seen: &Seen, expected: &[(&str, Interfaces)]) -> Option<Instant> {
    let since = expected.iter().map(|(name, interfaces)| {
        let (since, status) = seen.get(*name)?;
        (told(status).as_ref() == Some(interfaces)).then_some(*since)
    });
    since.collect::<Option<Vec<_>>>()?.into_iter().max()
}

/// What a status says; `None` if it is none.
fn told(status: &str) -> Option<Interfaces> {
    let all: Vec<NetworkStatus> = serde_json::from_str(status).ok()?;
    Some(all.into_iter().map(|one| (one.interface, one.ips.into_iter().collect())).collect())
}

/// What a pod has by the result of its ADD.
pub(super) fn attached(result: &AddResult) -> Interfaces {
    let in_pod = result.interfaces.iter().filter(|interface| interface.is_in_pod());
    let mut all: Interfaces = in_pod.map(|interface| (interface.name.clone(), BTreeSet::new())).collect();
    for ip in &result.ips {
        let interface = ip.interface.and_then(|index| result.interfaces.get(index));
        if let Some(addresses) = interface.and_then(|interface| all.get_mut(&interface.name)) {
            addresses.insert(ip.address.addr());
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use cni::SpecVersion;
    use serde_json::json;

    use super::*;

    fn status(ip: &str) -> String {
        json!([{"name": "primary", "interface": "eth0", "ips": [ip], "default": true, "dns": {}}]).to_string()
    }

    #[test]
    fn a_status_is_right_when_it_says_of_every_interface_what_add_said() {
        let result = json!({
            "cniVersion": "1.0.0",
            "interfaces": [{"name": "br0"}, {"name": "eth0", "sandbox": "/n"}],
            "ips": [{"address": "10.0.0.2/24", "interface": 1}],
        });
        let expected = attached(&AddResult::parse(result, SpecVersion::V1_0_0).unwrap());
        assert_eq!(told(&status("10.0.0.2")), Some(expected.clone()));
        assert_ne!(told(&status("10.0.0.3")), Some(expected));
        assert_eq!(told("no status"), None);
    }

    #[test]
    fn all_are_right_since_the_last_one_is_and_none_may_be_missing_or_wrong() {
        let mut seen = Seen::new();
        let of = |ip: &str| told(&status(ip)).unwrap();
        let expected = [("a", of("10.0.0.2")), ("b", of("10.0.0.3"))];
        note(&mut seen, "a".to_owned(), status("10.0.0.2"));
        assert_eq!(right_since(&seen, &expected), None, "b has none");
        note(&mut seen, "b".to_owned(), status("10.0.0.9"));
        assert_eq!(right_since(&seen, &expected), None, "b has another");
        note(&mut seen, "b".to_owned(), status("10.0.0.3"));
        let since = seen["b"].0;
        note(&mut seen, "b".to_owned(), status("10.0.0.3"));
        assert_eq!(right_since(&seen, &expected), Some(since), "the same again is no news");
    }
}
