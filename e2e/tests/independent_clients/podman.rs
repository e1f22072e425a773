//! Podman.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use e2e::parts::Part;
use e2e::podman::Podman;
use e2e::requirement::Need;
use serde_json::json;

use crate::{SECOND, THIRD, assert_interfaces, assert_nothing_left, node, possible, rules, tell_parts};

/// The primary's gateway, which is an address of the host.
const GATEWAY: &str = "10.211.1.1";

#[test]
fn podman_runs_a_container() {
    if !possible(Need::Podman) {
        return;
    }
    tell_parts(["podman", "runc"].map(|name| Part::of_program(name, Path::new(name))));
    // Podman hands over no annotations: its containers get the other networks by default.
    let node = node(&json!({ "multusNamespace": "default", "defaultNetworks": ["second", "third"] }));
    let podman = Podman::new(&[&node.file("bin")], &node.file("net.d")).unwrap();
    let on_host = &node.host.netns;
    let run = || podman.run("client", "braid", &["--publish", "8080:80"]);
    let id = on_host.within(run).unwrap().unwrap();

    let container = podman.inspect("client", "braid").unwrap();
    assert_eq!(container.id, id);
    assert_interfaces(&container.netns, &container.ips, &[("net1", &SECOND), ("net2", &THIRD)]);
    let exec = |words: &[&str]| podman.exec("client", words).unwrap();
    assert_eq!(exec(&["cat", "/sys/class/net/eth0/address"]), container.mac);
    exec(&["ping", "-c", "1", "-w", "10", GATEWAY]);
    exec(&["httpd", "-p", "80", "-h", "/etc"]);
    assert!(rules(&node).contains(&id), "the published port leads to the container");
    let published = SocketAddr::new(GATEWAY.parse().unwrap(), 8080);
    let connect = || TcpStream::connect_timeout(&published, Duration::from_secs(10));
    on_host.within(connect).unwrap().unwrap();

    on_host.within(|| podman.remove("client")).unwrap().unwrap();
    assert_nothing_left(&node, &id, &container.netns);
}
