//! Sandboxes of pods, as containerd on the node knows them: for times at which no API server tells of pods.

use anyhow::{Context, Result};
use e2e::suite::stage::Stage;

/// A sandbox that runs.
pub(crate) struct Sandbox {
    /// Its container id.
    pub(crate) id: String,
    /// Its first process, as the node knows it.
    pub(crate) process: String,
}

/// The sandbox in which a pod runs, if it does.
pub(crate) fn find(stage: &Stage<'_>, node: &str, pod: &str) -> Result<Option<Sandbox>> {
    let script = format!(
        r#"ids=$(ctr -n k8s.io containers ls -q 'labels."io.kubernetes.pod.namespace"=={},labels."io.kubernetes.pod.name"=={pod},labels."io.cri-containerd.kind"==sandbox')
        ctr -n k8s.io tasks ls | while read -r id process state; do
            case $ids-$state in *"$id"*-RUNNING) echo "$id $process";; esac
        done"#,
        stage.namespace
    );
    let printed = stage.cluster.on_node(node, &script)?;
    let found = printed.lines().next().and_then(|line| line.split_once(' '));
    Ok(found.map(|(id, process)| Sandbox { id: id.to_owned(), process: process.to_owned() }))
}

/// Kills the first process of a pod's sandbox, which takes the pod's containers along, and returns the sandbox's id.
pub(crate) fn kill(stage: &Stage<'_>, node: &str, pod: &str) -> Result<String> {
    let sandbox = find(stage, node, pod)?.with_context(|| format!("{pod} has no sandbox on {node}"))?;
    stage.cluster.on_node(node, &format!("ctr -n k8s.io tasks kill -s SIGKILL {}", sandbox.id))?;
    Ok(sandbox.id)
}

/// What `ip -o address` shows of `net1` in a sandbox.
pub(crate) fn listing(stage: &Stage<'_>, node: &str, sandbox: &Sandbox) -> Result<String> {
    let script = format!("nsenter -t {} -n ip -o -4 address show dev net1", sandbox.process);
    stage.cluster.on_node(node, &script)
}
