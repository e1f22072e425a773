//! Networks as large as somebody can make them who may make networks.

use anyhow::{Context, Result};
use crds::NetworkAttachmentDefinition;
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};

use crate::control_plane::{ControlPlane, User};

/// Braid reads none that is longer.
const LONGEST_CONFIG: usize = 128 << 10;
/// etcd takes no object of more than 1.5 MiB.
const LONGEST_OBJECT: usize = 1_400_000;

/// So many are there that can be used.
pub const USABLE: u32 = DENSE + LABELLED;
/// So many are there that cannot.
pub const TOO_LONG: u32 = 10;

const DENSE: u32 = 16;
/// The API server takes a second for each.
const LABELLED: u32 = 2;

/// Makes them.
pub fn make_networks(plane: &ControlPlane) -> Result<()> {
    let api: Api<NetworkAttachmentDefinition> = Api::default_namespaced(plane.client(&User::admin())?);
    let kinds =
        [("dense", DENSE, dense()), ("long", TOO_LONG, too_long()), ("labelled", LABELLED, labelled())];
    plane.block_on(async {
        for (kind, count, object) in kinds {
            for number in 0..count {
                let mut object: NetworkAttachmentDefinition = serde_json::from_value(object.clone())?;
                object.metadata.name = Some(format!("{kind}-{number}"));
                let made = api.create(&PostParams::default(), &object).await;
                made.with_context(|| format!("making the network {kind}-{number}"))?;
            }
        }
        Ok(())
    })
}

/// A valid configuration that takes a hundred times its length as values in memory.
fn dense() -> Value {
    let head = r#"{"type":"bridge","x":["#;
    let one = r#"{"":0},"#;
    let count = (LONGEST_CONFIG - head.len() - 3) / one.len();
    let config = format!("{head}{}0]}}", one.repeat(count));
    json!({"metadata": {}, "spec": {"config": config}})
}

/// A configuration that fills the object.
fn too_long() -> Value {
    let config = json!({"type": "bridge", "x": "x".repeat(LONGEST_OBJECT)}).to_string();
    json!({"metadata": {}, "spec": {"config": config}})
}

/// An ordinary configuration, and labels that fill the object.
fn labelled() -> Value {
    // The API server notes of each who manages it.
    let count = LONGEST_OBJECT / r#""x00000":"","f:x00000":{},"#.len();
    let labels: Value = (0..count).map(|number| (format!("x{number:05x}"), Value::from(""))).collect();
    json!({"metadata": {"labels": labels}, "spec": {"config": r#"{"type":"bridge"}"#}})
}
