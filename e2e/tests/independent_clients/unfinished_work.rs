//! Work that earlier sandboxes left and that cannot be done now, because a plugin hangs, is no business of the
//! sandboxes that come: they start and stop as fast as without it, and the node stays ready.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use e2e::containerd::{Containerd, Programs};
use e2e::node::{Node, Pod};
use e2e::requirement::Need;
use e2e::wait;
use serde_json::json;
use store::lock::Lock;
use store::record::{Record, RecordKey};

use crate::sandboxes::{pod, start};
use crate::{node, possible};

/// How many sandboxes have left work.
const LEFT: usize = 20;

/// How many sandboxes are timed.
const TIMED: usize = 5;

/// The kubelet looks at the runtime once within this time.
const PERIOD: Duration = Duration::from_secs(5);

/// How long a lock may be held.
const LONG: Duration = Duration::from_secs(30);

/// A plugin that is `bridge`, but whose DEL hangs as long as the file `stuck` is there; the file `hangs` says that it has
/// begun to. When the node is gone, so is the file, and the plugin ends.
fn install_plugin(node: &Node) {
    let plugin = node.file("bin/hang");
    let script = format!(
        "#!/bin/sh
if [ \"$CNI_COMMAND\" = DEL ]; then
    echo >{hangs}
    while [ -e {stuck} ]; do sleep 0.1; done
fi
exec {bridge}
",
        hangs = node.file("hangs").display(),
        stuck = node.file("stuck").display(),
        bridge = node.file("bin/bridge").display(),
    );
    fs::write(&plugin, script).unwrap();
    fs::set_permissions(&plugin, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Attaches pods to the network of that plugin, as a runtime did before the node was rebooted without a word.
fn attach(node: &Node) -> Vec<Pod> {
    let ipam = node.host_local(&["10.211.4.0/24"]);
    let plugin = json!({ "type": "hang", "bridge": "stuck0", "ipam": ipam });
    node.define(&[("default/stuck", &json!({ "cniVersion": "1.0.0", "plugins": [plugin] }))]).unwrap();
    let pods = (0..LEFT).map(|number| Pod::new(&format!("old{number}"), "stuck").unwrap());
    pods.inspect(|pod| drop(node.add(pod).unwrap())).collect()
}

/// The pods of an earlier boot are gone, and the node role has said so in their records.
fn give_up(node: &Node, pods: Vec<Pod>) {
    let directory = node.directory();
    for pod in &pods {
        let key = RecordKey::of_file(&pod.container_id).unwrap();
        let lock = Lock::of_container(&directory, &key.container_id, LONG).unwrap();
        let mut record = Record::read(&directory, &key).unwrap().unwrap();
        "an earlier boot".clone_into(&mut record.boot_id);
        record.abandoned = Some("its pod is gone".to_owned());
        record.write(&directory).unwrap();
        drop(lock);
    }
}

/// The longest times in which a sandbox started and stopped.
fn times(containerd: &Containerd) -> [Duration; 2] {
    let mut longest = [Duration::ZERO; 2];
    for number in 0..TIMED {
        let begun = Instant::now();
        let id = containerd.run(&pod(&format!("timed{number}"), "second")).unwrap();
        let started = begun.elapsed();
        let begun = Instant::now();
        containerd.stop(&id).unwrap();
        let stopped = begun.elapsed();
        containerd.remove(&id).unwrap();
        longest = [longest[0].max(started), longest[1].max(stopped)];
    }
    longest
}

/// The kubelet's looks at the runtime over more than two periods: each says that the network is ready, and soon.
fn assert_stays_ready(containerd: &Containerd) {
    let begun = Instant::now();
    wait::at_times(PERIOD / 5, PERIOD * 10, "the runtime was ready for some periods", || {
        let asked = Instant::now();
        assert!(containerd.network_is_ready().unwrap());
        assert!(asked.elapsed() < PERIOD / 2, "STATUS took {:?}", asked.elapsed());
        Ok(begun.elapsed() > PERIOD * 5 / 2)
    })
    .unwrap();
}

fn wait_for_file(file: &Path) {
    wait::until("the plugin hangs", || Ok(file.exists())).unwrap();
}

#[test]
fn work_that_hangs_keeps_no_sandbox_waiting_and_the_node_ready() {
    if !possible(Need::NewestContainerd) {
        return;
    }
    let node = node(&json!({ "delegateTimeout": "20s" }));
    install_plugin(&node);
    let old = attach(&node);
    fs::write(node.file("stuck"), "").unwrap();
    let containerd = start(&Programs::newest().unwrap(), &node);
    let before = times(&containerd);

    give_up(&node, old);
    // STATUS finds the work and has it begun.
    assert!(containerd.network_is_ready().unwrap());
    wait_for_file(&node.file("hangs"));
    let after = times(&containerd);
    assert_stays_ready(&containerd);
    for (before, after) in before.iter().zip(after) {
        // One plugin alone hangs for 10 s before it is killed.
        assert!(
            after < *before * 3 + Duration::from_secs(1),
            "{after:?} with unfinished work, {before:?} without"
        );
    }
    let left = node.directory().records().read_dir().unwrap().count();
    assert!(left > LEFT / 2, "only {left} of {LEFT} records are left: what hung was done");

    fs::remove_file(node.file("stuck")).unwrap();
    wait::within(PERIOD * 20, "everything is undone once nothing hangs", || {
        assert!(containerd.network_is_ready()?);
        Ok(node.leftovers()?.is_empty())
    })
    .unwrap();
}
