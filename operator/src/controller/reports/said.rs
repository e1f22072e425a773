//! What a report says of its node, for which boot, and when that was written. Pure.

use crds::NodeReport;
use jiff::Timestamp;

use crate::cluster::FIELD_MANAGER;

/// What a report says of its node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    /// Pods can be attached there.
    pub ready: bool,
    /// In this boot of its kernel.
    pub boot_id: String,
    /// When the node last changed its report, by the API server's clock, which also dates Nodes. Our own writes (the
    /// owner) do not count.
    pub written: Option<Timestamp>,
}

impl Said {
    /// Reads it.
    pub fn of(report: &NodeReport) -> Self {
        let content = &report.spec.report;
        let fields = report.metadata.managed_fields.iter().flatten();
        let written = fields
            .filter(|fields| fields.manager.as_deref() == Some(FIELD_MANAGER))
            .filter(|fields| fields.operation.as_deref() == Some("Apply"))
            .filter_map(|fields| fields.time.as_ref().map(|time| time.0));
        Self { ready: content.is_ready(), boot_id: content.boot_id.clone(), written: written.max() }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn said(report: Value, fields: Value) -> Said {
        let report = json!({"apiVersion": "braid.dev/v1alpha1", "kind": "NodeReport",
            "metadata": {"name": "n1", "managedFields": fields}, "report": report});
        Said::of(&serde_json::from_value(report).unwrap())
    }

    fn condition(kind: &str, status: &str) -> Value {
        json!({"conditions": [{"type": kind, "status": status, "reason": "x", "message": "",
            "lastTransitionTime": "2020-01-01T00:00:00Z"}], "bootID": "b1"})
    }

    #[test]
    fn only_the_condition_ready_says_that_a_node_is_ready() {
        assert_eq!(said(json!({}), json!([])), Said::default());
        for (kind, status, ready) in [
            ("Ready", "True", true),
            ("Ready", "False", false),
            ("Ready", "Unknown", false),
            ("Other", "True", false),
        ] {
            let said = said(condition(kind, status), json!([]));
            assert_eq!((said.ready, said.boot_id.as_str()), (ready, "b1"), "{kind} {status}");
        }
    }

    #[test]
    fn a_report_is_as_old_as_what_its_node_wrote_last() {
        let fields = json!([
            {"manager": "braid", "operation": "Apply", "time": "2026-01-01T00:00:05Z"},
            {"manager": "braid", "operation": "Update", "time": "2026-01-01T00:00:07Z"},
            {"manager": "braid-controller", "operation": "Update", "time": "2026-01-01T00:00:09Z"},
            {"manager": "braid", "operation": "Apply"},
        ]);
        let written = said(json!({}), fields).written.unwrap();
        assert_eq!(written.to_string(), "2026-01-01T00:00:05Z");
    }
}
