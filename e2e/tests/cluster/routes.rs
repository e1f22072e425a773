//! Default routes as pods ask for them, per address family, and another primary.

use anyhow::{Result, ensure};
use e2e::cluster::Feature;
use e2e::suite::pod::{DEFAULT_NETWORK, Pod};
use e2e::suite::stage::Stage;
use e2e::suite::{Scenario, When};
use serde_json::json;

use crate::bridges::{asked, bridge, list};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "a_pod_chooses_the_network_of_its_default_route_in_each_family",
        when: When::Together,
        needs: &[Feature::Nodes],
        links: &[],
        story: a_pod_chooses_the_network_of_its_default_route_in_each_family,
    },
    Scenario {
        name: "default_routes_that_cannot_be_are_refused_with_a_sentence",
        when: When::Together,
        needs: &[Feature::Nodes],
        links: &[],
        story: default_routes_that_cannot_be_are_refused_with_a_sentence,
    },
    Scenario {
        name: "a_pod_has_another_primary_in_either_form_of_the_annotation",
        when: When::Together,
        needs: &[Feature::Nodes],
        links: &[],
        story: a_pod_has_another_primary_in_either_form_of_the_annotation,
    },
];

fn a_pod_chooses_the_network_of_its_default_route_in_each_family(stage: &Stage<'_>) -> Result<()> {
    let (node, _) = stage.two_nodes()?;
    let mut gate = bridge(stage, "gate", &["10.101.12.0/24", "fd00:101:12::/64"]);
    gate["isDefaultGateway"] = true.into();
    stage.define("fabric", &list(&[bridge(stage, "fab", &["10.101.11.0/24", "fd00:101:11::/64"])]))?;
    stage.define("gate", &list(&[gate]))?;
    stage.define("far", &list(&[bridge(stage, "far", &["10.101.19.0/24", "fd00:101:19::/64"])]))?;
    let fabric = |gateways: &[&str]| json!([{ "name": "fabric", "default-route": gateways }]).to_string();
    let each = json!([
        { "name": "gate", "default-route": ["fd00:101:12::1"] },
        { "name": "fabric", "default-route": ["10.101.11.1"] },
    ]);
    let own = json!([{ "name": "gate", "default-route": [] }]).to_string();
    // Where the IPv4 and the IPv6 default routes of each pod lead; the clusters' primary may have none of IPv6.
    let pods = [
        ("none", "fabric".to_owned(), "eth0", None),
        ("ipv4", fabric(&["10.101.11.1"]), "net1 10.101.11.1", None),
        ("ipv6", fabric(&["fd00:101:11::1"]), "eth0", Some("net1 fd00:101:11::1")),
        ("both", fabric(&["10.101.11.1", "fd00:101:11::1"]), "net1 10.101.11.1", Some("net1 fd00:101:11::1")),
        ("each", each.to_string(), "net2 10.101.11.1", Some("net1 fd00:101:12::1")),
        ("own", own, "net1 10.101.12.1", Some("net1 fd00:101:12::1")),
    ];
    let made = pods.iter().map(|(name, networks, ..)| Pod::new(name).networks(networks).on(&node));
    // The node has the first address of every network that somebody is on: with this pod, one far away.
    let made: Vec<Pod> = made.chain([Pod::new("far").networks("far").on(&node)]).collect();
    stage.run_all(&made)?;
    for (pod, _, ipv4, ipv6) in &pods {
        ensure_default(stage, pod, "-4", ipv4)?;
        stage.ping(pod, [10, 101, 19, 1].into(), None)?;
        let Some(ipv6) = ipv6 else { continue };
        ensure_default(stage, pod, "-6", ipv6)?;
        stage.ping(pod, "fd00:101:19::1".parse()?, None)?;
    }
    let names: Vec<&str> = made.iter().map(|pod| pod.name.as_str()).collect();
    stage.delete_all(&names)?;
    stage.wait_until_nothing_is_left()
}

/// The pod's one default route of a family, and what the network-status says of it. `expected` is an interface and,
/// where it is the scenario's own network, a gateway.
fn ensure_default(stage: &Stage<'_>, pod: &str, family: &str, expected: &str) -> Result<()> {
    let routes = stage.exec(pod, &["ip", family, "route", "show"])?;
    let defaults: Vec<&str> = routes.lines().filter(|line| line.starts_with("default")).collect();
    let [only] = defaults.as_slice() else {
        anyhow::bail!("{pod} has the default routes {defaults:?} instead of one")
    };
    let after = |word: &str| {
        let mut words = only.split_whitespace().skip_while(|other| *other != word);
        words.nth(1).unwrap_or_default()
    };
    let (interface, gateway) = expected.split_once(' ').unwrap_or((expected, after("via")));
    ensure!(
        after("dev") == interface && after("via") == gateway,
        "the default route of {pod} is {only:?}, not by {expected}"
    );
    for status in stage.network_status(pod)? {
        let gateways = status["gateway"].as_array().into_iter().flatten().filter_map(|one| one.as_str());
        let told = gateways.filter(|one| one.contains(':') == (family == "-6")).any(|one| one == gateway);
        let owns = status["interface"] == interface;
        ensure!(
            told == owns,
            "the default route of {pod} is by {expected}, and the network-status has {status}"
        );
    }
    Ok(())
}

fn default_routes_that_cannot_be_are_refused_with_a_sentence(stage: &Stage<'_>) -> Result<()> {
    let (_, node) = stage.two_nodes()?;
    stage.define("one", &list(&[bridge(stage, "one", &["10.101.13.0/24"])]))?;
    stage.define("two", &list(&[bridge(stage, "two", &["10.101.14.0/24"])]))?;
    let two_owners = json!([
        { "name": "one", "default-route": ["10.101.13.1"] },
        { "name": "two", "default-route": ["10.101.14.1"] },
    ]);
    let two_gateways = json!([{ "name": "one", "default-route": ["10.101.13.1", "10.101.13.2"] }]);
    let out_of_reach = json!([{ "name": "one" }, { "name": "two", "default-route": ["198.51.100.1"] }]);
    let (one, two) = (format!("{}/one", stage.namespace), format!("{}/two", stage.namespace));
    let pods = [
        (
            "owners",
            two_owners,
            format!(
                "networks {one} and {two} both ask for the pod's IPv4 default route; only one can have it"
            ),
        ),
        (
            "gateways",
            two_gateways,
            format!(
                "network {one} names two gateways for the pod's IPv4 default route; only one can be used"
            ),
        ),
        ("unreachable", out_of_reach, "a gateway has to be in a subnet of the interface".to_owned()),
    ];
    for (name, networks, _) in &pods {
        stage.create(&Pod::new(name).networks(&networks.to_string()).on(&node))?;
    }
    for (name, _, sentence) in &pods {
        stage.wait_until_described(name, sentence)?;
    }
    // What was attached before the refusal has been undone; between two tries of the kubelet nothing is held.
    stage.wait_until_nothing_is_left()?;
    stage.delete_all(&pods.each_ref().map(|(name, ..)| *name))?;
    stage.wait_until_nothing_is_left()
}

fn a_pod_has_another_primary_in_either_form_of_the_annotation(stage: &Stage<'_>) -> Result<()> {
    let (node, _) = stage.two_nodes()?;
    let mut other = asked(stage, "prim", &["10.101.15.0/24"]);
    other["isDefaultGateway"] = true.into();
    stage.define("other", &list(&[other]))?;
    stage.define("more", &list(&[bridge(stage, "more", &["10.101.16.0/24"])]))?;
    let short = format!("{}/other", stage.namespace);
    let long = json!([{ "name": "other", "namespace": stage.namespace, "ips": ["10.101.15.77/24"] }]);
    let pod = |name: &str, primary: &str| Pod::new(name).annotation(DEFAULT_NETWORK, primary).on(&node);
    stage.run_all(&[pod("short", &short).networks("more"), pod("long", &long.to_string())])?;

    for (name, interfaces) in [("short", &["eth0", "net1"][..]), ("long", &["eth0"])] {
        let found = stage.interfaces(name)?;
        ensure!(found == interfaces, "{name} has the interfaces {found:?}");
        let status = stage.status_of(name, "eth0")?;
        ensure!(status["name"] == short && status["default"] == true, "eth0 of {name} is {status}");
        let told = &stage.pod(name)?["status"]["podIP"];
        ensure!(status["ips"] == json!([told]), "Kubernetes has {told} for {name}, which has {status}");
        ensure_default(stage, name, "-4", "eth0 10.101.15.1")?;
    }
    let asked = stage.real_prefixes("long", "eth0")?;
    ensure!(asked == ["10.101.15.77/24"], "long asked for another address than it has: {asked:?}");
    stage.ping_all("short", "long", "eth0")?;
    stage.ping_all("long", "short", "eth0")?;

    // A name alone is not of the pod's namespace, and the sentence says of which it is.
    stage.create(&pod("lost", "other"))?;
    stage.wait_until_described("lost", "kube-system/other")?;
    stage.delete_all(&["short", "long", "lost"])?;
    stage.wait_until_nothing_is_left()
}
