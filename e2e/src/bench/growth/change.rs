//! A network that is changed again and again: its bridge's name says how often, so that every place can be asked
//! whether the last change has reached it.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cni::npwg::NetworkRef;
use crds::NetworkAttachmentDefinition;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use store::NodeDirectory;

use crate::control_plane::{ControlPlane, User};
use crate::wait;

/// The network's name.
const NAME: &str = "changed";

/// How long one change may take to reach everybody.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// What tells one change from the others, wherever it is found.
pub(super) fn mark(number: usize) -> String {
    format!("mark{number:06}")
}

/// Makes or changes the network; when that was asked for.
pub(super) fn make(plane: &ControlPlane, number: usize) -> Result<Instant> {
    let api: Api<NetworkAttachmentDefinition> = Api::default_namespaced(plane.client(&User::admin())?);
    let config = json!({"cniVersion": "1.0.0", "type": "bridge", "bridge": mark(number)});
    let object = json!({
        "apiVersion": crds::nad::API_VERSION, "kind": crds::nad::KIND,
        "metadata": {"name": NAME}, "spec": {"config": config.to_string()},
    });
    let begun = Instant::now();
    let params = PatchParams::apply("bench").force();
    plane.block_on(api.patch(NAME, &params, &Patch::Apply(&object))).context("changing a network")?;
    Ok(begun)
}

/// When a change reached a node's file, by the file's time; `None` while it has not.
pub(super) fn reached(directory: &NodeDirectory, number: usize) -> Result<Option<Instant>> {
    let path = directory.network(&NetworkRef::parse("default", NAME)?);
    let text = fs::read_to_string(&path).unwrap_or_default();
    if !text.contains(&mark(number)) {
        return Ok(None);
    }
    let age = fs::metadata(&path)?.modified()?.elapsed().unwrap_or_default();
    Instant::now().checked_sub(age).context("a file from before this process").map(Some)
}

/// Changes the network, and waits until the node has that; how long it took.
pub(super) fn time(plane: &ControlPlane, directory: &NodeDirectory, number: usize) -> Result<Duration> {
    let begun = make(plane, number)?;
    let mut at = None;
    wait::within(PATIENCE, "a changed network is on the node", || {
        at = reached(directory, number)?;
        Ok(at.is_some())
    })?;
    Ok(at.map_or(Duration::MAX, |at| at.saturating_duration_since(begun)))
}
