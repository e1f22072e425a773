//! What the chart's pods need of Pod Security: the rules of its levels `baseline` and `restricted`, as Kubernetes 1.36 has
//! them, over every pod that the chart renders. No server of the tests enforces them.

use serde_json::{Value, json};

use crate::helm::{objects, possible};
use crate::rendering::EVERYTHING;
use crate::rights::{containers, pods};

/// What `baseline` forbids of a pod.
fn beyond_baseline(pod: &Value) -> Vec<&'static str> {
    let containers = containers(pod);
    let any = |is: &dyn Fn(&Value) -> bool| containers.iter().any(|container| is(container));
    let is_on = |value: &Value| *value == true;
    let host_network = is_on(&pod["hostNetwork"]);
    let rules = [
        ("host network", host_network),
        ("host processes", is_on(&pod["hostPID"]) || is_on(&pod["hostIPC"])),
        ("host paths", list(pod, "volumes").iter().any(|volume| volume.get("hostPath").is_some())),
        (
            "host ports",
            any(&|container| list(container, "ports").iter().any(|port| is_of_host(port, host_network))),
        ),
        ("hosts of probes", any(&|container| probes(container).iter().any(|probe| has_host(probe)))),
        ("privileged", any(&|container| is_on(&container["securityContext"]["privileged"]))),
        ("capabilities", any(&|container| container["securityContext"]["capabilities"].get("add").is_some())),
        ("SELinux", any(&|container| container["securityContext"].get("seLinuxOptions").is_some())),
        ("sysctls", pod["securityContext"].get("sysctls").is_some()),
    ];
    rules.into_iter().filter_map(|(name, broken)| broken.then_some(name)).collect()
}

/// What `restricted` forbids of a pod besides.
fn beyond_restricted(pod: &Value) -> Vec<&'static str> {
    let of_pod = &pod["securityContext"];
    let allowed = [
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    ];
    let is_allowed = |volume: &Value| allowed.iter().any(|kind| volume.get(kind).is_some());
    let containers = containers(pod);
    let all =
        |is: &dyn Fn(&Value) -> bool| containers.iter().all(|container| is(&container["securityContext"]));
    let either =
        |own: &Value, key: &str| if own[key].is_null() { of_pod[key].clone() } else { own[key].clone() };
    let rules = [
        ("kinds of volumes", list(pod, "volumes").iter().all(is_allowed)),
        ("privilege escalation", all(&|own| own["allowPrivilegeEscalation"] == false)),
        ("root", all(&|own| either(own, "runAsNonRoot") == true && either(own, "runAsUser") != 0)),
        ("seccomp", all(&|own| either(own, "seccompProfile")["type"] == "RuntimeDefault")),
        ("dropped capabilities", all(&|own| own["capabilities"]["drop"] == json!(["ALL"]))),
    ];
    rules.into_iter().filter_map(|(name, kept)| (!kept).then_some(name)).collect()
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Whether a port is one of the host. On the host's network the API server makes each one so.
fn is_of_host(port: &Value, host_network: bool) -> bool {
    host_network || port["hostPort"].as_u64().is_some_and(|number| number != 0)
}

fn probes(container: &Value) -> Vec<&Value> {
    let names = ["startupProbe", "livenessProbe", "readinessProbe"];
    names.into_iter().filter_map(|name| container.get(name)).collect()
}

/// Whether a probe names whom it asks (a rule of `baseline` since Kubernetes 1.34).
fn has_host(probe: &Value) -> bool {
    ["httpGet", "tcpSocket"]
        .iter()
        .any(|kind| probe[kind]["host"].as_str().is_some_and(|host| !host.is_empty()))
}

#[test]
fn the_node_role_alone_needs_more_than_the_host_network_of_pod_security() {
    if !possible() {
        return;
    }
    let of_node = ["host network", "host paths", "host ports", "hosts of probes"];
    for (values, of_controller) in [("", &[][..]), (EVERYTHING, &["host network", "host ports"])] {
        let all = objects(&["--set", values]).unwrap();
        let pods = pods(&all);
        assert_eq!(pods.len(), 3, "{values}");
        for (kind, pod) in pods {
            let (baseline, restricted): (&[&str], &[&str]) = match kind {
                "DaemonSet" => (&of_node, &["kinds of volumes", "root"]),
                "Deployment" => (of_controller, &[]),
                _ => (&["host network"], &[]),
            };
            assert_eq!(beyond_baseline(pod), baseline, "{values}: {kind}");
            assert_eq!(beyond_restricted(pod), restricted, "{values}: {kind}");
        }
    }
}

#[test]
fn each_rule_of_pod_security_finds_the_pod_that_breaks_it() {
    let container = |more: Value| json!({"containers": [more]});
    let rights = |more: Value| container(json!({"securityContext": more}));
    for (rule, pod) in [
        ("host network", json!({"hostNetwork": true, "containers": []})),
        ("host processes", json!({"hostPID": true, "containers": []})),
        ("host paths", json!({"volumes": [{"name": "a", "hostPath": {"path": "/"}}]})),
        ("host ports", container(json!({"ports": [{"containerPort": 1, "hostPort": 1}]}))),
        ("hosts of probes", container(json!({"livenessProbe": {"httpGet": {"host": "127.0.0.1"}}}))),
        ("privileged", rights(json!({"privileged": true}))),
        ("capabilities", rights(json!({"capabilities": {"add": ["NET_ADMIN"]}}))),
        ("SELinux", rights(json!({"seLinuxOptions": {"type": "spc_t"}}))),
        ("sysctls", json!({"securityContext": {"sysctls": [{"name": "a", "value": "b"}]}})),
    ] {
        assert_eq!(beyond_baseline(&pod), [rule], "{pod}");
    }
    let broken = beyond_restricted(&json!({"volumes": [{"hostPath": {}}], "containers": [{}]}));
    assert_eq!(
        broken,
        ["kinds of volumes", "privilege escalation", "root", "seccomp", "dropped capabilities"]
    );
}
