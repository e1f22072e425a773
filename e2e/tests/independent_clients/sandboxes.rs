//! Pod sandboxes of containerd, whichever it is.

use e2e::containerd::{Containerd, Pod, Programs};
use e2e::node::Node;
use e2e::parts::Part;
use e2e::requirement::Need;
use serde_json::json;

use crate::{
    SECOND, addresses, assert_interfaces, assert_nothing_left, inside, node, possible, rules, tell_parts,
};

/// A containerd on a node.
pub(crate) fn start(programs: &Programs, node: &Node) -> Containerd {
    tell_parts(Part::of_containerd(programs));
    let start = || Containerd::start(programs, &node.file("bin"), &node.file("net.d"));
    node.host.netns.within(start).unwrap().unwrap()
}

/// A pod that asks for networks.
pub(crate) fn pod(name: &str, networks: &str) -> Pod {
    Pod {
        namespace: "default".to_owned(),
        name: name.to_owned(),
        uid: format!("6a3c8a4e-{name}"),
        annotations: [("k8s.v1.cni.cncf.io/networks".to_owned(), networks.to_owned())].into(),
        ports: Vec::new(),
    }
}

#[test]
fn containerd_runs_pod_sandboxes() {
    if !possible(Need::Containerd) {
        return;
    }
    runs_pod_sandboxes(&Programs::of_machine().unwrap());
}

#[test]
fn the_newest_containerd_runs_pod_sandboxes() {
    if !possible(Need::NewestContainerd) {
        return;
    }
    runs_pod_sandboxes(&Programs::newest().unwrap());
}

fn runs_pod_sandboxes(programs: &Programs) {
    let node = node(&json!({}));
    let containerd = start(programs, &node);
    let server = Pod { ports: vec![(8080, 80)], ..pod("server", "second") };
    let ids = [pod("client", "second"), server].map(|pod| containerd.run(&pod).unwrap());
    let sandboxes = ids.each_ref().map(|id| containerd.status(id).unwrap());
    for sandbox in &sandboxes {
        assert!(sandbox.ready);
        assert_interfaces(&sandbox.netns, &sandbox.ips, &[("net1", &SECOND)]);
        assert_eq!(sandbox.ips.len(), 2, "a pod IP of each family");
        let known = sandbox.interfaces["eth0"]["IPConfigs"].as_array().unwrap();
        for ip in &sandbox.ips {
            assert!(known.iter().any(|config| config["IP"] == json!(ip)), "{ip}: {known:?}");
        }
        assert!(sandbox.interfaces.get("net1").is_some(), "{}", sandbox.interfaces);
    }
    assert!(rules(&node).contains(&ids[1]), "the host port leads to the pod");
    for interface in ["eth0", "net1"] {
        for server in addresses(&sandboxes[1].netns, interface) {
            let server = server.to_string();
            inside(&sandboxes[0].netns, &["ping", "-c1", "-w10", "-I", interface, &server]);
        }
    }

    for id in &ids {
        containerd.stop(id).unwrap();
        assert!(!containerd.status(id).unwrap().ready);
        containerd.remove(id).unwrap();
    }
    for (id, sandbox) in ids.iter().zip(&sandboxes) {
        assert_nothing_left(&node, id, &sandbox.netns);
    }
}
