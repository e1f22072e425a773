//! When the API server may be asked again, where it says so by `Retry-After`.
//!
//! With 429 it has too much to do: that is about everything that a process asks, but for the Lease, since leading must
//! not hang on whether lists are welcome. With 503 a part of it does not serve (definitions, for 10 s after a start):
//! that is about one API group. After it requests come back spread: thousands of nodes were told the same number.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode, Uri};
use tokio::time::Instant;
use tracing::info;

use crate::retry::fraction;

/// The API server is obeyed up to this.
const LONGEST: Duration = Duration::from_secs(300);
/// What comes back is spread over at least this …
const LEAST_SPREAD: Duration = Duration::from_secs(1);
/// … or over this part of the time that was asked for.
const SPREAD: u32 = 4;

/// What a pause is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum About {
    /// All requests but those for the Lease.
    Everything,
    /// An API group, by the beginning of its paths.
    Group(String),
}

impl About {
    fn group(uri: &Uri) -> Self {
        // "/api", or "/apis" and the group.
        let parts: Vec<_> = uri.path().split('/').take(3).collect();
        Self::Group(if parts.get(1) == Some(&"apis") { parts.join("/") } else { "/api".to_owned() })
    }

    /// What may keep a request for `uri` waiting.
    fn all_of(uri: &Uri) -> Vec<Self> {
        let group = Self::group(uri);
        if is_about_leases(uri) { vec![group] } else { vec![Self::Everything, group] }
    }
}

fn is_about_leases(uri: &Uri) -> bool {
    uri.path().starts_with("/apis/coordination.k8s.io/")
}

/// Closed, for some, until the API server may be asked again.
#[derive(Debug, Default)]
pub(super) struct Gate(Mutex<BTreeMap<About, Instant>>);

impl Gate {
    /// How long `uri` may not be asked for.
    pub(super) fn closed_for(&self, uri: &Uri, now: Instant) -> Option<Duration> {
        let closed = self.lock();
        let opens = About::all_of(uri).iter().filter_map(|about| closed.get(about)).max().copied()?;
        opens.checked_duration_since(now).filter(|rest| !rest.is_zero())
    }

    /// Closes if the API server asks for a pause, and tells which.
    pub(super) fn heed(&self, uri: &Uri, status: StatusCode, headers: &HeaderMap) -> Option<Duration> {
        let pause = pause(status, headers)?;
        info!(path = uri.path(), %status, seconds = pause.as_secs(), "the API server asks not to be asked");
        let all = status == StatusCode::TOO_MANY_REQUESTS && !is_about_leases(uri);
        self.close(if all { About::Everything } else { About::group(uri) }, pause, Instant::now());
        Some(pause)
    }

    fn close(&self, about: About, pause: Duration, now: Instant) {
        let opens = now + pause + (pause / SPREAD).max(LEAST_SPREAD).mul_f64(fraction());
        let mut closed = self.lock();
        let place = closed.entry(about).or_insert(opens);
        *place = (*place).max(opens);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<About, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long the API server asks to be left alone, if it does.
fn pause(status: StatusCode, headers: &HeaderMap) -> Option<Duration> {
    if !matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        return None;
    }
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST)).filter(|pause| !pause.is_zero())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const PODS: &str = "/api/v1/pods?watch=true";
    const NETWORKS: &str = "/apis/k8s.cni.cncf.io/v1/network-attachment-definitions";
    const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/braid-system/leases/braid-controller";

    fn headers(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(value))])
    }

    #[test]
    fn only_a_server_that_is_too_busy_asks_for_a_pause_and_not_for_ever() {
        let pause = |code, value| pause(StatusCode::from_u16(code).unwrap(), &headers(value));
        assert_eq!(pause(429, "7"), Some(Duration::from_secs(7)));
        assert_eq!(pause(503, "1"), Some(Duration::from_secs(1)));
        assert_eq!(pause(429, "99999999999"), Some(LONGEST));
        for (code, value) in [(200, "7"), (500, "7"), (429, "0"), (429, "soon"), (429, "-1")] {
            assert_eq!(pause(code, value), None, "{code} {value}");
        }
        assert_eq!(super::pause(StatusCode::TOO_MANY_REQUESTS, &HeaderMap::new()), None);
    }

    #[test]
    fn a_gate_opens_no_earlier_than_was_asked_and_not_much_later() {
        let (gate, now, uri) = (Gate::default(), Instant::now(), Uri::from_static(PODS));
        assert_eq!(gate.closed_for(&uri, now), None);
        gate.close(About::Everything, Duration::from_secs(20), now);
        gate.close(About::Everything, Duration::from_secs(1), now);
        assert!(gate.closed_for(&uri, now + Duration::from_secs(19)).is_some(), "the longer one counts");
        assert_eq!(gate.closed_for(&uri, now + Duration::from_secs(26)), None);
    }

    #[test]
    fn too_much_to_do_is_about_everything_but_leases_and_a_part_that_does_not_serve_about_its_group() {
        let closed = |status, of| {
            let gate = Gate::default();
            gate.heed(&Uri::from_static(of), StatusCode::from_u16(status).unwrap(), &headers("9"));
            [PODS, NETWORKS, LEASE]
                .map(|uri| gate.closed_for(&Uri::from_static(uri), Instant::now()).is_some())
        };
        assert_eq!(closed(429, PODS), [true, true, false]);
        assert_eq!(closed(429, LEASE), [false, false, true]);
        assert_eq!(closed(503, PODS), [true, false, false]);
        assert_eq!(closed(503, NETWORKS), [false, true, false]);
        assert_eq!(closed(503, LEASE), [false, false, true]);
    }

    #[test]
    fn those_who_were_told_the_same_come_back_spread() {
        let now = Instant::now();
        let rests = (0..50).map(|_| {
            let gate = Gate::default();
            gate.close(About::Everything, Duration::from_secs(1), now);
            gate.closed_for(&Uri::from_static(PODS), now).unwrap()
        });
        let (least, most) = rests
            .fold((Duration::MAX, Duration::ZERO), |(least, most), rest| (least.min(rest), most.max(rest)));
        assert!(most > least + Duration::from_millis(500), "{least:?} to {most:?}");
    }
}
