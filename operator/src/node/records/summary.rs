//! What is kept of a record: pure.

use cni::npwg::network_status;
use store::record::{self, AttachmentRecord, Phase};

use crate::known::{Attachment, DetachFailure, Record};

/// What matters of a record.
pub(super) fn summary(record: &record::Record) -> Record {
    let attached = record.phase == Phase::Attached && record.pod.is_some();
    Record {
        phase: record.phase,
        pod: record.pod.clone(),
        created_ms: record.created_ms,
        attachments: record.attachments.iter().map(attachment).collect(),
        network_status: attached.then(|| annotation(record)),
        failure: record.failure.as_ref().map(|failure| DetachFailure {
            message: failure.message.clone(),
            attempts: failure.attempts,
            since_ms: failure.since_ms,
        }),
        abandoned: record.abandoned.clone(),
    }
}

/// The annotation's text: what every attachment gave, the primary first.
fn annotation(record: &record::Record) -> String {
    let mut all = Vec::new();
    for (index, attachment) in record.attachments.iter().enumerate() {
        // Each has a result once ADD has succeeded.
        let Some(result) = &attachment.result else { continue };
        let (name, if_name) = (&attachment.network, &attachment.if_name);
        all.extend(network_status::statuses(name, result, if_name, record.netns.as_deref(), index == 0));
    }
    network_status::to_annotation(&all)
}

fn attachment(attachment: &AttachmentRecord) -> Attachment {
    let ips = attachment.result.iter().flat_map(|result| &result.ips);
    let plugin = attachment.list.plugins.first();
    Attachment {
        network: attachment.network.clone(),
        interface: attachment.if_name.to_string(),
        delegate: plugin.map(|plugin| plugin.plugin().to_string()).unwrap_or_default(),
        addresses: ips.map(|ip| ip.address.to_string()).collect(),
        add_us: attachment.add_us,
        complaint: attachment.complaint.clone(),
    }
}
