//! What `docs/without-a-cluster.md` tells people to do, done: on a machine whose directories and network are the
//! test's own.

use std::os::unix::fs::symlink;
use std::process::Command;

use e2e::artefacts;
use e2e::requirement::{Need, met};

const PAGE: &str = "docs/without-a-cluster.md";
const OURS: &str = "e2e/tests/docs";

/// Puts something of the test's own over every directory that the page writes to.
const HOST: &str = "\
mount --make-rprivate /
mount -t tmpfs none /run
for dir in etc opt var/lib; do
  mkdir -p /run/over/$dir /run/work/$dir
  mount -t overlay -o lowerdir=/$dir,upperdir=/run/over/$dir,workdir=/run/work/$dir none /$dir
done
for dir in /etc/cni /var/lib/cni /var/lib/braid; do
  mkdir -p $dir
  mount -t tmpfs none $dir
done
mkdir -p /run/netns
ip link set lo up
";

#[test]
fn the_commands_attach_a_pod_that_has_no_cluster() {
    if !met(&[
        Need::Root,
        Need::Plugins,
        Need::Program("ip", "iproute2"),
        Need::Program("iptables", "iptables"),
    ]) {
        return;
    }
    let built = tempfile::tempdir().unwrap();
    symlink(artefacts::braid().unwrap(), built.path().join("braid")).unwrap();
    symlink(artefacts::meta_cni().unwrap(), built.path().join("meta-cni")).unwrap();
    let blocks = e2e::docs::blocks(&e2e::source(PAGE)).unwrap();
    let commands: Vec<_> = blocks
        .iter()
        .filter(|block| block.run_by.as_deref() == Some(OURS))
        .map(|b| b.text.as_str())
        .collect();
    assert!(commands.len() > 2, "the page says of its blocks that {OURS} runs them: {commands:?}");
    let script = format!("{HOST}{}", commands.concat());
    let output = Command::new("unshare")
        .args(["--mount", "--net", "sh", "-eu", "-c", &script])
        .current_dir(e2e::source(""))
        .env("built", built.path())
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    for found in ["eth0@", "net1@", "data0@", "10.88.1.2/24", "fd00:88:2::2/64"] {
        assert!(out.contains(found), "{found} is missing: {out}\n{err}");
    }
}
