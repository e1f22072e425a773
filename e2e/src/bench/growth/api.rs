//! What the API server and etcd have to do: requests as the API server counts them, memory and processor time from
//! `/proc`.

use std::time::Duration;

use anyhow::{Context, Result};

use super::super::process;
use crate::control_plane::{ControlPlane, User};
use crate::memory;

/// What was done since the servers started, and what they need now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    pub(super) requests: u64,
    pub(super) report_writes: u64,
    pub(super) watches: u64,
    pub(super) api_cpu: Duration,
    pub(super) etcd_cpu: Duration,
    pub(super) api_kib: u64,
    pub(super) etcd_kib: u64,
}

impl Load {
    pub(super) fn look(plane: &ControlPlane) -> Result<Self> {
        let client = plane.client(&User::admin())?;
        let request = http::Request::get("/metrics").body(Vec::new())?;
        let text =
            plane.block_on(client.request_text(request)).context("asking the API server for /metrics")?;
        let [etcd, api] = plane.processes()?;
        Ok(Self {
            requests: sum(&text, "apiserver_request_total", |_| true),
            report_writes: sum(&text, "apiserver_request_total", is_report_write),
            watches: sum(&text, "apiserver_registered_watchers", |_| true),
            api_cpu: process::cpu(api)?,
            etcd_cpu: process::cpu(etcd)?,
            api_kib: memory::resident(api)?.1,
            etcd_kib: memory::resident(etcd)?.1,
        })
    }
}

fn is_report_write(labels: &str) -> bool {
    let writes = ["POST", "PUT", "PATCH", "APPLY"].map(|verb| format!("verb=\"{verb}\""));
    labels.contains("resource=\"nodereports\"") && writes.iter().any(|verb| labels.contains(verb))
}

/// The sum of a metric over all labels that count.
fn sum(text: &str, name: &str, counts: impl Fn(&str) -> bool) -> u64 {
    let lines = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('{')?.rsplit_once('}'));
    let values = lines.filter(|(labels, _)| counts(labels)).filter_map(|(_, value)| whole(value));
    values.sum()
}

/// Go prints large counts as `1.5e+06`.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Counts.
fn whole(value: &str) -> Option<u64> {
    value.trim().parse::<f64>().ok().map(|value| value as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_summed_over_the_labels_that_are_asked_for() {
        let text = "\
# HELP apiserver_request_total x
apiserver_request_total{code=\"200\",resource=\"nodereports\",verb=\"PATCH\"} 3
apiserver_request_total{code=\"201\",resource=\"nodereports\",verb=\"APPLY\"} 1.5e+06
apiserver_request_total{code=\"200\",resource=\"nodereports\",verb=\"LIST\"} 7
apiserver_request_total{code=\"200\",resource=\"pods\",verb=\"PATCH\"} 11
apiserver_request_total_of_others{verb=\"PATCH\"} 100
";
        assert_eq!(sum(text, "apiserver_request_total", is_report_write), 1_500_003);
        assert_eq!(sum(text, "apiserver_request_total", |_| true), 1_500_021);
    }
}
