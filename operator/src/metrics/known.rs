//! What the node role knows, as gauges that are read when somebody asks.

use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use store::record::Phase;

use crate::admin::Check;
use crate::known::{Fate, Known, Primary, Record, State};
use crate::node::readiness;

/// The gauges of what is known.
#[derive(Debug)]
pub(super) struct OfKnown(pub(super) Arc<Known>);

impl Collector for OfKnown {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        // The lock is released before anything is written.
        let (counts, checks) = {
            let state = self.0.look();
            (Counts::of(&state), readiness::checks(&state))
        };
        counts.encode(&mut encoder)?;
        ready(&mut encoder, &checks)
    }
}

/// What is shown of the state.
#[derive(Debug, Default, PartialEq)]
struct Counts {
    /// Usable, invalid, undecodable.
    networks: [u64; 3],
    pods: u64,
    /// Intended, attached, deleting.
    records: [u64; 3],
    unfinished: u64,
    abandoned: u64,
    complaints: u64,
    unreadable: u64,
    primary: bool,
    installed: [bool; 2],
    last_complete_sync: f64,
}

impl Counts {
    fn of(state: &State) -> Self {
        let mut counts = Self {
            pods: number(state.pods.all.len()),
            unreadable: number(state.records.unreadable.len()),
            primary: matches!(state.primary, Primary::Found { .. }),
            installed: [state.installed.executable, state.installed.configuration],
            last_complete_sync: state.networks.complete.map_or(0.0, since_1970),
            ..Self::default()
        };
        for network in state.networks.all.values() {
            counts.networks[match network.fate {
                Fate::Usable => 0,
                Fate::Invalid(_) => 1,
                Fate::Undecodable(_) => 2,
            }] += 1;
        }
        for record in state.records.all.values() {
            counts.records[match record.phase {
                Phase::Intended => 0,
                Phase::Attached => 1,
                Phase::Deleting => 2,
            }] += 1;
            counts.unfinished += u64::from(is_unfinished(record));
            counts.abandoned += u64::from(record.abandoned.is_some());
            let complaints = record.attachments.iter().filter(|attachment| attachment.complaint.is_some());
            counts.complaints += number(complaints.count());
        }
        counts
    }

    fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let [usable, invalid, undecodable] = self.networks;
        let networks = [("usable", usable), ("invalid", invalid), ("undecodable", undecodable)];
        family(
            encoder,
            "networks",
            "Networks of the API server, by what became of them here.",
            "state",
            &networks,
        )?;
        gauge(encoder, "pods", "Pods of this node.", None, self.pods)?;
        let [intended, attached, deleting] = self.records;
        let records = [("intended", intended), ("attached", attached), ("deleting", deleting)];
        family(encoder, "records", "Records of meta-cni, by how far they have come.", "phase", &records)?;
        let help = "Records of which a DEL could not undo something yet.";
        gauge(encoder, "records_unfinished", help, None, self.unfinished)?;
        let help = "Records whose pod is gone for good; the next run of meta-cni undoes them.";
        gauge(encoder, "records_abandoned", help, None, self.abandoned)?;
        let help =
            "Attachments of which a plugin complained at the last CHECK though the pod has what ADD gave it.";
        gauge(encoder, "check_complaints", help, None, self.complaints)?;
        gauge(encoder, "records_unreadable", "Records that cannot be read.", None, self.unreadable)?;
        let help = "1 while there is a primary that can be used, else 0.";
        gauge(encoder, "primary_found", help, None, u64::from(self.primary))?;
        let [executable, configuration] = self.installed.map(u64::from);
        let installed = [("executable", executable), ("configuration", configuration)];
        let help = "1 while this part of the plugin is in place and up to date, else 0.";
        family(encoder, "plugin_installed", help, "part", &installed)?;
        let help = "When the node directory was last compared in full and took everything; 0 means never.";
        gauge(encoder, "last_complete_sync_timestamp", help, Some(&Unit::Seconds), self.last_complete_sync)
    }
}

/// The checks of `/readyz`; their reasons are shown there.
fn ready(encoder: &mut DescriptorEncoder<'_>, checks: &[Check]) -> fmt::Result {
    let checks: Vec<_> = checks.iter().map(|check| (check.name, u64::from(check.result.is_ok()))).collect();
    family(encoder, "ready", "1 while this check of /readyz holds, else 0.", "check", &checks)
}

/// Whether a DEL has tried in vain; one that runs is not meant.
fn is_unfinished(record: &Record) -> bool {
    record.failure.is_some()
}

fn gauge<N>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    value: N,
) -> fmt::Result
where
    ConstGauge<N>: EncodeMetric,
{
    ConstGauge::new(value).encode(encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?)
}

fn family(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    label: &str,
    values: &[(&str, u64)],
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (value, count) in values {
        ConstGauge::new(*count).encode(family.encode_family(&[(label, *value)])?)?;
    }
    Ok(())
}

fn number(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

fn since_1970(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use cni::npwg::NetworkRef;
    use cni::{ContainerId, IfName};
    use store::record::RecordKey;

    use super::*;
    use crate::known::{Attachment, DetachFailure, Network};

    fn record(phase: Phase, failure: Option<u32>, abandoned: bool) -> Record {
        Record {
            phase,
            pod: None,
            created_ms: 0,
            attachments: Vec::new(),
            network_status: None,
            failure: failure.map(|attempts| DetachFailure {
                message: "busy".to_owned(),
                attempts,
                since_ms: 0,
            }),
            abandoned: abandoned.then(|| "gone".to_owned()),
        }
    }

    fn attachment(complaint: Option<&str>) -> Attachment {
        Attachment {
            network: "default/a".to_owned(),
            interface: "net1".to_owned(),
            delegate: "bridge".to_owned(),
            addresses: Vec::new(),
            add_us: None,
            complaint: complaint.map(str::to_owned),
        }
    }

    #[test]
    fn the_state_is_counted() {
        let mut state = State::default();
        assert_eq!(Counts::of(&state), Counts::default());
        let fates = [Fate::Usable, Fate::Usable, Fate::Invalid("x".into()), Fate::Undecodable("y".into())];
        for (number, fate) in fates.into_iter().enumerate() {
            let network = NetworkRef::parse("default", &format!("n{number}")).unwrap();
            state.networks.all.insert(network, Network { generation: None, fate });
        }
        let records = [
            record(Phase::Intended, None, false),
            Record {
                attachments: vec![attachment(None), attachment(Some("x"))],
                ..record(Phase::Attached, None, false)
            },
            record(Phase::Attached, None, true),
            record(Phase::Deleting, Some(3), true),
            record(Phase::Deleting, None, false),
        ];
        for (number, record) in records.into_iter().enumerate() {
            let container_id = ContainerId::parse(format!("c{number}")).unwrap();
            let if_name = IfName::parse("eth0").unwrap();
            state.records.all.insert(RecordKey { container_id, if_name }, record);
        }
        state.networks.complete = Some(UNIX_EPOCH + Duration::from_millis(1500));
        state.installed.configuration = true;
        state.primary = Primary::Missing("none".into());
        let expected = Counts {
            networks: [2, 1, 1],
            records: [1, 2, 2],
            unfinished: 1,
            abandoned: 2,
            complaints: 1,
            installed: [false, true],
            last_complete_sync: 1.5,
            ..Counts::default()
        };
        assert_eq!(Counts::of(&state), expected);
    }
}
