//! What `/state` shows of the node role: everything that it knows, for whoever has to find out at night why a
//! pod lacks a network.
//!
//! Keys are stable enough for people and `jq`, not a contract. Times are RFC 3339 in UTC.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use store::record::Phase;

use crate::known::{Attachment, Fate, Network, Networks, Pods, Primary, Record, Records, State};

/// The state, of a process that began at `started`; it is `now`.
pub fn shown(state: &State, started: SystemTime, now: SystemTime) -> Value {
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "started": time(started),
        "uptimeSeconds": now.duration_since(started).unwrap_or_default().as_secs(),
        "bootID": state.boot_id,
        "stopping": state.stopping,
        "networks": networks(&state.networks),
        "pods": pods(&state.pods),
        "records": records(&state.records),
        "primary": primary(&state.primary),
        "installed": {
            "executable": state.installed.executable,
            "configuration": state.installed.configuration,
            "problem": state.installed.problem,
        },
    })
}

fn networks(networks: &Networks) -> Value {
    let all: Map<_, _> = networks.all.iter().map(|(name, seen)| (name.to_string(), network(seen))).collect();
    json!({
        "lastCompleteSync": networks.complete.map(time),
        "problem": networks.problem,
        "count": networks.all.len(),
        "all": all,
    })
}

fn network(network: &Network) -> Value {
    let (state, reason) = match &network.fate {
        Fate::Usable => ("usable", None),
        Fate::Invalid(reason) => ("invalid", Some(reason)),
        Fate::Undecodable(reason) => ("undecodable", Some(reason)),
    };
    json!({"generation": network.generation, "state": state, "reason": reason})
}

/// Only how many: the API server shows the rest.
fn pods(pods: &Pods) -> Value {
    json!({"complete": pods.complete, "problem": pods.problem, "count": pods.all.len()})
}

fn records(records: &Records) -> Value {
    let all: Vec<_> = records
        .all
        .iter()
        .map(|(key, seen)| record(key.container_id.as_ref(), key.if_name.as_ref(), seen))
        .collect();
    let unreadable: Map<_, _> =
        records.unreadable.iter().map(|(key, reason)| (key.file_name(), reason.as_str().into())).collect();
    json!({"complete": records.complete, "count": records.all.len(), "all": all, "unreadable": unreadable})
}

fn record(container: &str, interface: &str, record: &Record) -> Value {
    let pod = record.pod.as_ref();
    let phase = match record.phase {
        Phase::Intended => "intended",
        Phase::Attached => "attached",
        Phase::Deleting => "deleting",
    };
    let failure = record.failure.as_ref();
    json!({
        "container": container,
        "interface": interface,
        "pod": pod.map(|pod| format!("{}/{}", pod.namespace, pod.name)),
        "uid": pod.and_then(|pod| pod.uid.as_deref()),
        "phase": phase,
        "created": time(SystemTime::UNIX_EPOCH + Duration::from_millis(record.created_ms)),
        "attachments": record.attachments.iter().map(attachment).collect::<Vec<_>>(),
        "failure": failure.map(|failure| json!({
            "message": failure.message,
            "attempts": failure.attempts,
            "since": time(SystemTime::UNIX_EPOCH + Duration::from_millis(failure.since_ms)),
        })),
        "abandoned": record.abandoned,
    })
}

fn attachment(attachment: &Attachment) -> Value {
    json!({
        "network": attachment.network,
        "interface": attachment.interface,
        "delegate": attachment.delegate,
        "addresses": attachment.addresses,
        "addMicroseconds": attachment.add_us,
        "complaint": attachment.complaint,
    })
}

fn primary(primary: &Primary) -> Value {
    match primary {
        Primary::Unknown => json!({"found": false, "reason": "not looked for yet"}),
        Primary::Missing(reason) => json!({"found": false, "reason": reason}),
        Primary::Found { name, file, plugins, of_multus } => {
            json!({"found": true, "name": name, "file": file, "plugins": plugins, "ofMultus": of_multus})
        }
    }
}

/// `null` for what no calendar holds.
fn time(time: SystemTime) -> Option<String> {
    Timestamp::try_from(time).ok().map(|time| time.to_string())
}

#[cfg(test)]
mod tests {
    use cni::npwg::NetworkRef;
    use cni::{ContainerId, IfName};
    use store::record::PodIdentity;
    use store::record::RecordKey;

    use super::*;
    use crate::known::DetachFailure;

    const STARTED: SystemTime = SystemTime::UNIX_EPOCH;

    fn later(seconds: u64) -> SystemTime {
        STARTED + Duration::from_secs(seconds)
    }

    fn key(container: &str) -> RecordKey {
        RecordKey {
            container_id: ContainerId::parse(container).unwrap(),
            if_name: IfName::parse("eth0").unwrap(),
        }
    }

    #[test]
    fn a_start_shows_what_is_missing() {
        let shown = shown(&State::default(), STARTED, later(3));
        assert_eq!(shown["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!((&shown["started"], &shown["uptimeSeconds"]), (&"1970-01-01T00:00:00Z".into(), &3.into()));
        assert_eq!(shown["networks"]["lastCompleteSync"], Value::Null);
        assert_eq!(shown["primary"], json!({"found": false, "reason": "not looked for yet"}));
    }

    #[test]
    fn networks_show_their_generation_and_what_is_wrong_with_them() {
        let mut state = State::default();
        let fate = Fate::Invalid("no type".to_owned());
        let network = NetworkRef::parse("default", "storage").unwrap();
        state.networks.all.insert(network, Network { generation: Some(4), fate });
        state.networks.complete = Some(later(60));
        let expected = json!({
            "lastCompleteSync": "1970-01-01T00:01:00Z",
            "problem": null,
            "count": 1,
            "all": {"default/storage": {"generation": 4, "state": "invalid", "reason": "no type"}},
        });
        assert_eq!(shown(&state, STARTED, later(61))["networks"], expected);
    }

    #[test]
    fn records_show_their_pod_and_what_could_not_be_undone() {
        let mut state = State::default();
        let pod = PodIdentity { namespace: "db".into(), name: "pg-0".into(), uid: Some("u1".into()) };
        let attachment = Attachment {
            network: "default/storage".into(),
            interface: "net1".into(),
            delegate: "macvlan".into(),
            addresses: vec!["10.0.0.2/24".into()],
            add_us: Some(900),
            complaint: Some("no route".into()),
        };
        let record = Record {
            phase: Phase::Deleting,
            pod: Some(pod),
            created_ms: 1500,
            attachments: vec![attachment],
            network_status: None,
            failure: Some(DetachFailure { message: "busy".into(), attempts: 2, since_ms: 0 }),
            abandoned: None,
        };
        state.records.all.insert(key("c1"), record);
        state.records.unreadable.insert(key("c2"), "schema 9".into());
        let expected = json!({
            "complete": false,
            "count": 1,
            "all": [{
                "container": "c1", "interface": "eth0", "pod": "db/pg-0", "uid": "u1", "phase": "deleting",
                "created": "1970-01-01T00:00:01.5Z",
                "attachments": [{
                    "network": "default/storage", "interface": "net1", "delegate": "macvlan",
                    "addresses": ["10.0.0.2/24"], "addMicroseconds": 900, "complaint": "no route",
                }],
                "failure": {"message": "busy", "attempts": 2, "since": "1970-01-01T00:00:00Z"}, "abandoned": null,
            }],
            "unreadable": {"c2": "schema 9"},
        });
        assert_eq!(shown(&state, STARTED, later(2))["records"], expected);
    }
}
