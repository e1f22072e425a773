//! What the chart's pods may do: on the node, and at the API server.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::helm::{find, has, objects, possible};

const EVERYTHING: &str = "startupTaint.enabled=true,metrics.enabled=true,controller.hostNetwork=true";

/// Everything that has the shape of a pod, wherever it stands, with the kind of the object that it is from.
pub(crate) fn pods(objects: &[Value]) -> Vec<(&str, &Value)> {
    fn look<'a>(value: &'a Value, found: &mut Vec<&'a Value>) {
        match value {
            Value::Object(object) => {
                if object.get("containers").is_some_and(Value::is_array) {
                    found.push(value);
                }
                object.values().for_each(|value| look(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| look(value, found)),
            _ => {}
        }
    }
    let mut all = Vec::new();
    for object in objects {
        let mut found = Vec::new();
        look(object, &mut found);
        all.extend(found.into_iter().map(|pod| (object["kind"].as_str().unwrap(), pod)));
    }
    all
}

/// The containers of all kinds of a pod.
pub(crate) fn containers(pod: &Value) -> Vec<&Value> {
    let kinds = ["initContainers", "containers", "ephemeralContainers"];
    kinds.into_iter().flat_map(|kind| pod[kind].as_array().into_iter().flatten()).collect()
}

#[test]
fn no_container_has_a_capability_or_can_get_one() {
    if !possible() {
        return;
    }
    for values in [&[][..], &["--set", EVERYTHING], &["-f", &preset("crio")]] {
        let all = objects(values).unwrap();
        let pods = pods(&all);
        assert_eq!(pods.len(), 3, "node role, controller, the Job of the end");
        for (kind, pod) in pods {
            assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault", "{kind}");
            for forbidden in ["hostPID", "hostIPC", "shareProcessNamespace"] {
                assert!(pod.get(forbidden).is_none(), "{kind}: {forbidden}");
            }
            let containers = containers(pod);
            assert_eq!(containers.len(), 1, "{kind}: one container and none before it");
            for container in containers {
                assert_has_no_rights(kind, container);
            }
            if kind == "DaemonSet" {
                continue;
            }
            assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{kind}");
            let volumes = pod["volumes"].as_array().map(Vec::as_slice).unwrap_or_default();
            assert!(volumes.iter().all(|volume| volume.get("hostPath").is_none()), "{kind}");
        }
    }
}

fn assert_has_no_rights(kind: &str, container: &Value) {
    let rights = &container["securityContext"];
    assert_eq!(rights["privileged"], false, "{kind}");
    assert_eq!(rights["allowPrivilegeEscalation"], false, "{kind}");
    assert_eq!(rights["readOnlyRootFilesystem"], true, "{kind}");
    assert_eq!(rights["capabilities"], json!({"drop": ["ALL"]}), "{kind}");
    assert!(container["resources"]["limits"]["memory"].is_string(), "{kind}");
    assert!(container["resources"]["limits"].get("cpu").is_none(), "{kind}");
}

#[test]
fn each_pod_has_the_account_the_user_and_the_network_of_the_security_model() {
    if !possible() {
        return;
    }
    let page = std::fs::read_to_string(e2e::source("docs/security.md")).unwrap();
    for (values, controllers_network) in [("", false), (EVERYTHING, true)] {
        let all = objects(&["--set", values]).unwrap();
        let mut found: Vec<_> = pods(&all)
            .iter()
            .map(|(kind, pod)| {
                let user = pod["securityContext"]["runAsUser"].as_u64().unwrap_or_else(|| {
                    containers(pod)[0]["securityContext"]["runAsUser"].as_u64().unwrap_or_default()
                });
                (*kind, pod["serviceAccountName"].as_str().unwrap(), user, pod["hostNetwork"] == true)
            })
            .collect();
        found.sort_unstable();
        let expected = [
            ("DaemonSet", "braid-node", 0, true),
            ("Deployment", "braid-controller", 65532, controllers_network),
            ("Job", "braid-uninstall", 65532, true),
        ];
        assert_eq!(found, expected, "{values}");
        for (_, account, ..) in found {
            for section in ["## Who may do what in the cluster", "## On the host"] {
                let (_, text) = page.split_once(section).unwrap();
                let text = text.split("\n## ").next().unwrap();
                assert!(text.contains(&format!("`{account}`")), "{section} says nothing of {account}");
            }
        }
    }
}

fn preset(name: &str) -> String {
    e2e::source(&format!("charts/braid/presets/{name}.yaml")).display().to_string()
}

#[test]
fn only_the_node_role_sees_the_host_and_four_directories_of_it() {
    if !possible() {
        return;
    }
    let all = objects(&[]).unwrap();
    let pod = &find(&all, "DaemonSet", "braid-node")["spec"]["template"]["spec"];
    let volumes = pod["volumes"].as_array().unwrap();
    let paths: BTreeSet<_> =
        volumes.iter().filter_map(|volume| volume["hostPath"]["path"].as_str()).collect();
    assert_eq!(paths, BTreeSet::from(["/etc/cni/net.d", "/opt/cni/bin", "/run/braid", "/var/lib/braid"]));
    assert_eq!(volumes.len(), paths.len() + 1, "and the settings");
    let controller = &find(&all, "Deployment", "braid-controller")["spec"]["template"]["spec"];
    assert!(controller.get("hostNetwork").is_none());
}

/// What a Role or ClusterRole permits: `group/resource verb`, or `/url verb` for what is no resource, with the names
/// that it is limited to.
fn permitted(role: &Value) -> BTreeSet<String> {
    let texts = |rule: &Value, key: &str| -> Vec<String> {
        let all = rule[key].as_array().into_iter().flatten();
        all.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let mut found = BTreeSet::new();
    for rule in role["rules"].as_array().unwrap() {
        let names = texts(rule, "resourceNames").join(",");
        let mut all = texts(rule, "nonResourceURLs");
        for group in texts(rule, "apiGroups") {
            all.extend(texts(rule, "resources").iter().map(|resource| format!("{group}/{resource}")));
        }
        for what in all {
            let one = |verb: &String| format!("{what} {verb} {names}").trim_end().to_owned();
            found.extend(texts(rule, "verbs").iter().map(one));
        }
    }
    found
}

/// Roles by kind and name, and what each permits.
type Roles = BTreeMap<String, BTreeSet<String>>;

/// All roles of the chart.
fn roles(objects: &[Value]) -> Roles {
    let roles = objects.iter().filter(|object| {
        let group = object["apiVersion"].as_str().unwrap().split_once('/').map(|(group, _)| group);
        group == Some("rbac.authorization.k8s.io") && object.get("roleRef").is_none()
    });
    roles.map(|role| (named(role), permitted(role))).collect()
}

fn named(object: &Value) -> String {
    format!("{} {}", object["kind"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap())
}

/// Names `of` in front of each.
fn each(of: &str, all: &[&str]) -> Vec<String> {
    all.iter().map(|one| format!("{of}{one}")).collect()
}

/// The roles that the security model tells of, with the chart's defaults.
fn modelled() -> Roles {
    let nads = "k8s.cni.cncf.io/network-attachment-definitions";
    let reports = "braid.dev/nodereports";
    let webhook = "admissionregistration.k8s.io/validatingwebhookconfigurations";
    [
        (
            "ClusterRole braid-node",
            [
                each(nads, &[" list", " watch"]),
                each("/pods", &[" list", " watch", "/status patch"]),
                each(reports, &[" create", " patch"]),
                each("events.k8s.io/events", &[" create"]),
            ]
            .concat(),
        ),
        ("Role braid-node", each("apps/daemonsets", &[" get braid-node"])),
        (
            "ClusterRole braid-controller",
            [
                each(nads, &[" get", " list", " watch", "/status patch"]),
                each(reports, &[" list", " watch", " patch", " delete"]),
                each("/nodes", &[" list", " watch"]),
                each("events.k8s.io/events", &[" create"]),
                each(webhook, &[" get braid", " patch braid"]),
            ]
            .concat(),
        ),
        (
            "Role braid-controller",
            [
                each(
                    "coordination.k8s.io/leases",
                    &[" create", " get braid-controller", " update braid-controller"],
                ),
                each("/secrets", &[" create", " get braid-webhook-tls", " update braid-webhook-tls"]),
            ]
            .concat(),
        ),
        ("Role braid-uninstall", each("apps/daemonsets", &[" get braid-node", " delete braid-node"])),
    ]
    .into_iter()
    .map(|(role, rights)| (role.to_owned(), rights.into_iter().collect()))
    .collect()
}

#[test]
fn each_role_is_permitted_what_the_security_model_says_and_nothing_else() {
    if !possible() {
        return;
    }
    let rendered = |values: &str| roles(&objects(&["--set", values]).unwrap());
    assert_eq!(rendered(""), modelled());

    let mut with_taint = modelled();
    let patch = BTreeSet::from(["/nodes patch".to_owned()]);
    with_taint.insert("ClusterRole braid-controller-startup-taint".to_owned(), patch);
    assert_eq!(rendered(EVERYTHING), with_taint);

    let mut without_webhook = modelled();
    for role in without_webhook.values_mut() {
        role.retain(|right| !right.starts_with("/secrets") && !right.starts_with("admissionregistration"));
    }
    assert_eq!(rendered("webhook.enabled=false"), without_webhook);

    let mut alone = modelled();
    alone.retain(|role, _| role.ends_with(" braid-node"));
    assert_eq!(rendered("controller.enabled=false,uninstall.enabled=false,startupTaint.enabled=true"), alone);
}

#[test]
fn no_role_of_the_chart_is_added_to_those_of_tenants() {
    if !possible() {
        return;
    }
    let all = objects(&["--set", EVERYTHING]).unwrap();
    let roles: Vec<_> = all.iter().filter(|object| object["rules"].is_array()).collect();
    assert!(roles.len() >= 6, "{}", roles.len());
    for role in roles {
        let labels = role["metadata"]["labels"].as_object().unwrap();
        let added = labels.keys().find(|label| label.starts_with("rbac.authorization.k8s.io/aggregate-to"));
        assert_eq!(added, None, "{}", role["metadata"]["name"]);
        assert!(role.get("aggregationRule").is_none(), "{}", role["metadata"]["name"]);
    }
}

/// Whom the chart gives which roles, by the kind, namespace and name of each subject.
fn bound(objects: &[Value]) -> BTreeMap<String, BTreeSet<String>> {
    let mut found = BTreeMap::<_, BTreeSet<_>>::new();
    for binding in objects.iter().filter(|object| object.get("roleRef").is_some()) {
        let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        let (kind, role) = (text(&binding["kind"]), &binding["roleRef"]);
        assert_eq!(role["apiGroup"], "rbac.authorization.k8s.io");
        find(objects, &text(&role["kind"]), &text(&role["name"]));
        // A RoleBinding gives no more than its namespace.
        let namespace =
            if kind == "RoleBinding" { text(&binding["metadata"]["namespace"]) } else { String::new() };
        for subject in binding["subjects"].as_array().unwrap() {
            let [of, within, name] = ["kind", "namespace", "name"].map(|key| text(&subject[key]));
            assert!(has(objects, &of, &name), "{subject} is not of the chart");
            let given = format!("{kind} {namespace}: {} {}", text(&role["kind"]), text(&role["name"]));
            found.entry(format!("{of} {within}/{name}")).or_default().insert(given);
        }
    }
    found
}

#[test]
fn every_binding_binds_a_role_and_an_account_of_the_chart() {
    if !possible() {
        return;
    }
    let controller = [
        "ClusterRoleBinding : ClusterRole braid-controller",
        "RoleBinding braid-system: Role braid-controller",
    ];
    let with_taint =
        [&controller[..], &["ClusterRoleBinding : ClusterRole braid-controller-startup-taint"]].concat();
    let node = ["ClusterRoleBinding : ClusterRole braid-node", "RoleBinding braid-system: Role braid-node"];
    let uninstall = ["RoleBinding braid-system: Role braid-uninstall"];
    for (values, controller, uninstall) in [
        ("", &controller[..], &uninstall[..]),
        (EVERYTHING, &with_taint, &uninstall),
        ("webhook.enabled=false", &controller, &uninstall),
        ("uninstall.enabled=false", &controller, &[]),
        ("controller.enabled=false,startupTaint.enabled=true", &[], &uninstall),
    ] {
        let all = objects(&["--set", values]).unwrap();
        let expected: BTreeMap<_, BTreeSet<_>> =
            [("braid-controller", controller), ("braid-node", &node), ("braid-uninstall", uninstall)]
                .into_iter()
                .filter(|(_, roles)| !roles.is_empty())
                .map(|(account, roles)| {
                    let roles = roles.iter().map(|&role| role.to_owned()).collect();
                    (format!("ServiceAccount braid-system/{account}"), roles)
                })
                .collect();
        let found = bound(&all);
        assert_eq!(found, expected, "{values}");
        let given = found.values().flatten().map(|given| given.split_once(": ").unwrap().1.to_owned());
        assert_eq!(given.collect::<BTreeSet<_>>(), roles(&all).into_keys().collect(), "{values}");
    }
}
