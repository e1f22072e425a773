//! What a pod asks of networks, key by key of its annotation: names, addresses, arguments, traffic.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use e2e::cluster::{Cluster, Feature};
use e2e::program::output_of;
use e2e::suite::pod::{DEFAULT_NETWORK, Pod};
use e2e::suite::stage::Stage;
use e2e::suite::{Scenario, When};
use serde_json::{Value, json};

use crate::bridges::{asked, bridge, list};

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "both_forms_of_the_annotation_name_networks_namespaces_and_interfaces",
        when: When::Together,
        needs: &[Feature::Nodes],
        links: &[],
        story: both_forms_of_the_annotation_name_networks_namespaces_and_interfaces,
    },
    Scenario {
        name: "the_same_network_twice_gives_two_interfaces_that_both_answer",
        when: When::Together,
        needs: &[Feature::Nodes],
        links: &[],
        story: the_same_network_twice_gives_two_interfaces_that_both_answer,
    },
    Scenario {
        name: "a_pod_has_the_addresses_that_it_asks_for",
        when: When::Together,
        needs: &[Feature::Nodes],
        links: &[],
        story: a_pod_has_the_addresses_that_it_asks_for,
    },
    Scenario {
        name: "networks_are_of_ipv6_or_of_both_families",
        when: When::Together,
        needs: &[Feature::Nodes],
        links: &[],
        story: networks_are_of_ipv6_or_of_both_families,
    },
    Scenario {
        name: "bandwidth_holds_on_a_secondary_network",
        when: When::Together,
        needs: &[Feature::Nodes],
        links: &["ifb"],
        story: bandwidth_holds_on_a_secondary_network,
    },
    Scenario {
        name: "a_port_of_the_node_leads_to_a_secondary_network",
        when: When::Together,
        needs: &[Feature::Nodes],
        links: &[],
        story: a_port_of_the_node_leads_to_a_secondary_network,
    },
    Scenario {
        name: "what_kubernetes_asks_of_the_primary_still_reaches_it",
        when: When::Together,
        needs: &[Feature::Nodes],
        links: &[],
        story: what_kubernetes_asks_of_the_primary_still_reaches_it,
    },
    Scenario {
        name: "a_wish_that_no_plugin_can_grant_is_refused_with_a_sentence",
        when: When::Together,
        needs: &[Feature::Nodes],
        links: &[],
        story: a_wish_that_no_plugin_can_grant_is_refused_with_a_sentence,
    },
    Scenario {
        name: "namespace_isolation_holds_while_it_is_on",
        when: When::Alone,
        needs: &[Feature::Nodes],
        links: &[],
        story: namespace_isolation_holds_while_it_is_on,
    },
];

fn both_forms_of_the_annotation_name_networks_namespaces_and_interfaces(stage: &Stage<'_>) -> Result<()> {
    let (node, _) = stage.two_nodes()?;
    let other = stage.another_namespace("other")?;
    stage.define("near", &list(&[bridge(stage, "near", &["10.101.21.0/24"])]))?;
    stage.define_in(&other, "away", &list(&[bridge(stage, "away", &["10.101.22.0/24"])]))?;
    let old = json!([{ "name": "near" }, { "name": "away", "namespace": other, "interfaceRequest": "data" }]);
    let new = json!([{ "name": "near" }, { "name": "away", "namespace": other, "interface": "data" }]);
    let forms = [
        ("short", format!("near, {other}/away@data")),
        ("long", new.to_string()),
        ("long-ago", old.to_string()),
    ];
    let pods = forms.each_ref().map(|(name, networks)| Pod::new(name).networks(networks).on(&node));
    stage.run_all(&pods)?;

    for (name, _) in &forms {
        let interfaces = stage.interfaces(name)?;
        ensure!(interfaces == ["data", "eth0", "net1"], "{name} has the interfaces {interfaces:?}");
        let networks = ["net1", "data"].map(|interface| stage.status_of(name, interface));
        let [near, away] = networks.map(|status| status.map(|status| status["name"].clone()));
        let expected = (format!("{}/near", stage.namespace), format!("{other}/away"));
        let found = (near?, away?);
        ensure!(
            found.0 == expected.0 && found.1 == expected.1,
            "{name} is on {found:?}, not on {expected:?}"
        );
    }
    for (from, to) in [("short", "long"), ("long", "long-ago"), ("long-ago", "short")] {
        stage.ping_all(from, to, "net1")?;
        stage.ping_all(from, to, "data")?;
    }
    stage.delete_all(&forms.each_ref().map(|(name, _)| *name))?;
    stage.wait_until_nothing_is_left()
}

fn the_same_network_twice_gives_two_interfaces_that_both_answer(stage: &Stage<'_>) -> Result<()> {
    let (_, node) = stage.two_nodes()?;
    stage.define("lan", &list(&[bridge(stage, "lan", &["10.101.23.0/24"])]))?;
    let long = json!([{ "name": "lan" }, { "name": "lan", "interface": "second" }]).to_string();
    let pods = [
        ("twice", "lan,lan", ["net1", "net2"]),
        ("named", &long, ["net1", "second"]),
        // Names that would have been given by themselves, the other way round.
        ("mixed", "lan@net2,lan@net1", ["net2", "net1"]),
    ];
    let made = pods.each_ref().map(|(name, networks, _)| Pod::new(name).networks(networks).on(&node));
    stage.run_all(&[&made[..], &[Pod::new("peer").networks("lan").on(&node)]].concat())?;

    let mut all = Vec::new();
    for (name, _, interfaces) in &pods {
        for interface in interfaces {
            let address = stage.address(name, interface)?;
            let real = stage.real_prefixes(name, interface)?;
            ensure!(real == [format!("{address}/24")], "{interface} of {name} has {real:?}, not {address}");
            stage.ping("peer", address, None)?;
            ensure!(!all.contains(&address), "{address} was given twice");
            all.push(address);
        }
    }
    stage.delete_all(&["twice", "named", "mixed", "peer"])?;
    stage.wait_until_nothing_is_left()
}

fn a_pod_has_the_addresses_that_it_asks_for(stage: &Stage<'_>) -> Result<()> {
    let (node, _) = stage.two_nodes()?;
    let subnets = ["10.101.24.0/24", "fd00:101:24::/64"];
    let fixed = json!({
        "type": "bridge", "bridge": stage.interface("fix"), "capabilities": { "ips": true },
        "ipam": { "type": "static" },
    });
    let point = json!({ "type": "ptp", "ipam": bridge(stage, "", &["10.101.27.0/24"])["ipam"] });
    let tuning = json!({ "type": "tuning", "capabilities": { "mac": true } });
    stage.define("asks", &list(&[asked(stage, "asks", &subnets)]))?;
    stage.define("silent", &list(&[bridge(stage, "mute", &["10.101.25.0/24"])]))?;
    stage.define("fixed", &list(&[fixed]))?;
    stage.define("tuned", &list(&[point, tuning]))?;
    // To plugins that declare the capability, to those that read CNI_ARGS, and as arguments of the pod's own.
    let one = json!([
        { "name": "asks", "ips": ["10.101.24.77/24", "fd00:101:24::77/64"], "mac": "02:65:00:00:24:77" },
        { "name": "silent", "ips": ["10.101.25.77"], "mac": "02:65:00:00:25:77" },
        { "name": "fixed", "ips": ["10.101.26.77/24"] },
        { "name": "tuned", "mac": "02:65:00:00:27:77" },
    ]);
    let two = json!([
        { "name": "asks", "cni-args": { "ips": ["10.101.24.78"] } },
        { "name": "silent", "cni-args": { "ips": ["10.101.25.78"] } },
        { "name": "fixed", "ips": ["10.101.26.78/24"], "interface": "net3" },
    ]);
    let pods = [("one", one), ("two", two)];
    stage.run_all(
        &pods.each_ref().map(|(name, networks)| Pod::new(name).networks(&networks.to_string()).on(&node)),
    )?;
    ensure_addresses(stage, "one", "net1", &["10.101.24.77/24", "fd00:101:24::77/64"])?;
    ensure_addresses(stage, "one", "net2", &["10.101.25.77/24"])?;
    ensure_addresses(stage, "one", "net3", &["10.101.26.77/24"])?;
    let macs = [("net1", "02:65:00:00:24:77"), ("net2", "02:65:00:00:25:77"), ("net4", "02:65:00:00:27:77")];
    macs.iter().try_for_each(|(interface, mac)| ensure_mac(stage, "one", interface, mac))?;
    ensure!(stage.real_prefixes("two", "net1")?.contains(&"10.101.24.78/24".to_owned()), "cni-args count");
    ensure_addresses(stage, "two", "net2", &["10.101.25.78/24"])?;
    ["net1", "net2", "net3"].iter().try_for_each(|interface| stage.ping_all("two", "one", interface))?;

    stage.delete_all(&["one", "two"])?;
    stage.wait_until_nothing_is_left()
}

/// The interface has these addresses, and the network-status says so.
fn ensure_addresses(stage: &Stage<'_>, pod: &str, interface: &str, expected: &[&str]) -> Result<()> {
    let real = stage.real_prefixes(pod, interface)?;
    let (mut sorted, mut wanted) = (real.clone(), expected.to_vec());
    sorted.sort();
    wanted.sort_unstable();
    ensure!(sorted == wanted, "{interface} of {pod} has {real:?} instead of {expected:?}");
    let told = stage.addresses(pod, interface)?;
    let bare = expected.iter().filter_map(|net| net.split('/').next());
    let told: Vec<String> = told.iter().map(ToString::to_string).collect();
    ensure!(
        bare.clone().count() == told.len() && bare.into_iter().all(|one| told.iter().any(|ip| ip == one)),
        "the network-status of {pod} has {told:?} for {interface} instead of {expected:?}"
    );
    Ok(())
}

fn ensure_mac(stage: &Stage<'_>, pod: &str, interface: &str, mac: &str) -> Result<()> {
    let real = stage.exec(pod, &["cat", &format!("/sys/class/net/{interface}/address")])?;
    let told = &stage.status_of(pod, interface)?["mac"];
    ensure!(real == mac && *told == mac, "{interface} of {pod} has {real}, told is {told}, asked for {mac}");
    Ok(())
}

fn networks_are_of_ipv6_or_of_both_families(stage: &Stage<'_>) -> Result<()> {
    let (_, node) = stage.two_nodes()?;
    stage.define("six", &list(&[bridge(stage, "six", &["fd00:101:28::/64"])]))?;
    stage.define("dual", &list(&[bridge(stage, "dual", &["10.101.29.0/24", "fd00:101:29::/64"])]))?;
    stage.run_all(&["one", "two"].map(|name| Pod::new(name).networks("six,dual").on(&node)))?;
    for pod in ["one", "two"] {
        for (interface, beginnings) in
            [("net1", &["fd00:101:28:"][..]), ("net2", &["10.101.29.", "fd00:101:29:"])]
        {
            let real = stage.real_prefixes(pod, interface)?;
            let told = stage.addresses(pod, interface)?;
            let fits = |beginning: &&str| {
                real.iter().any(|net| net.starts_with(beginning))
                    && told.iter().any(|ip| ip.to_string().starts_with(beginning))
            };
            ensure!(
                real.len() == beginnings.len() && told.len() == real.len() && beginnings.iter().all(fits),
                "{interface} of {pod} has {real:?}, told are {told:?}, expected were {beginnings:?}"
            );
        }
        // The primary of the cluster has its own families, and they are told as they are.
        let (real, told) = (stage.real_prefixes(pod, "eth0")?, stage.addresses(pod, "eth0")?);
        ensure!(real.len() == told.len(), "eth0 of {pod} has {real:?}, told are {told:?}");
    }
    for (from, to) in [("one", "two"), ("two", "one")] {
        ["net1", "net2"].iter().try_for_each(|interface| stage.ping_all(from, to, interface))?;
    }
    stage.delete_all(&["one", "two"])?;
    stage.wait_until_nothing_is_left()
}

/// How many bits a second a slow pod may send and receive, and how many at once.
const RATE: u64 = 4_000_000;
const BURST: u64 = 200_000;

/// What is sent: 1 MiB.
const BYTES: u64 = 1 << 20;

fn bandwidth_holds_on_a_secondary_network(stage: &Stage<'_>) -> Result<()> {
    let (node, _) = stage.two_nodes()?;
    let limit = json!({ "type": "bandwidth", "capabilities": { "bandwidth": true } });
    stage.define("lan", &list(&[bridge(stage, "lan", &["10.101.30.0/24"]), limit]))?;
    let limits = json!({
        "ingressRate": RATE, "ingressBurst": BURST, "egressRate": RATE, "egressBurst": BURST,
    });
    let slow = json!([{ "name": "lan", "bandwidth": limits }]).to_string();
    let serve = format!("head -c {BYTES} /dev/zero >/tmp/file; exec httpd -f -p 80 -h /tmp")
        .replace("head", "busybox head");
    let pod = |name: &str, networks: &str| Pod::new(name).networks(networks).running(&serve).on(&node);
    stage.run_all(&[pod("slow", &slow), pod("fast", "lan")])?;

    let least = Duration::from_secs((BYTES * 8 - BURST) / RATE);
    for (from, to) in [("slow", "fast"), ("fast", "slow")] {
        let url = format!("http://{}/file", stage.address(from, "net1")?);
        let began = Instant::now();
        stage.exec(to, &["wget", "-q", "-O", "/dev/null", &url])?;
        let took = began.elapsed();
        ensure!(took >= least, "{BYTES} bytes from {from} to {to} took {took:?} at {RATE} bits a second");
    }
    let shaped = shapers(stage, &node, RATE / 1_000_000)?;
    ensure!(shaped.len() == 2, "one interface of one pod is limited both ways, but {node} has {shaped:?}");

    stage.delete_all(&["slow", "fast"])?;
    stage.wait_until_nothing_is_left()?;
    stage.wait("the limits are gone", || Ok(shapers(stage, &node, RATE / 1_000_000)?.is_empty()))
}

/// The queues on a node that let so many Mbit a second pass; no two scenarios have one rate.
fn shapers(stage: &Stage<'_>, node: &str, rate: u64) -> Result<Vec<String>> {
    let printed = stage.cluster.on_node(node, "tc qdisc show")?;
    let rate = format!("rate {rate}Mbit ");
    let lines = printed.lines().filter(|line| line.contains("tbf") && line.contains(&rate));
    Ok(lines.map(str::to_owned).collect())
}

fn a_port_of_the_node_leads_to_a_secondary_network(stage: &Stage<'_>) -> Result<()> {
    let (node, far) = stage.two_nodes()?;
    let ports = json!({ "type": "portmap", "capabilities": { "portMappings": true } });
    stage.define("lan", &list(&[bridge(stage, "lan", &["10.101.31.0/24"]), ports]))?;
    // Answers go back the way that the questions came.
    let wish = json!([{
        "name": "lan", "default-route": ["10.101.31.1"],
        "portMappings": [{ "hostPort": 18131, "containerPort": 80, "protocol": "tcp" }],
    }]);
    let serve = "echo here >/tmp/index.html; exec httpd -f -p \"$LISTEN:80\" -h /tmp";
    let server = Pod::new("server").networks(&wish.to_string()).on(&node);
    // It listens on the secondary address alone.
    let listen = serve.replace("$LISTEN", "$(ip -o -4 address show dev net1 | sed 's|.*inet ||; s|/.*||')");
    stage.run_all(&[server.running(&listen), Pod::new("client").on(&far)])?;

    let host = stage.pod("server")?["status"]["hostIP"].as_str().unwrap_or_default().to_owned();
    let url = format!("http://{host}:18131/");
    let answer = fetched(stage, "client", &url)?;
    ensure!(answer == "here", "{url} answered {answer:?}");
    ensure!(mappings(stage, &node, 18131)? > 0, "no rule of {node} is about the port");

    stage.delete_all(&["server", "client"])?;
    stage.wait("the port is free again", || Ok(mappings(stage, &node, 18131)? == 0))?;
    stage.wait_until_nothing_is_left()
}

/// What a pod gets from a URL; its server may be about to start.
fn fetched(stage: &Stage<'_>, pod: &str, url: &str) -> Result<String> {
    let mut answer = Err(anyhow::anyhow!("not asked yet"));
    let come = stage.wait_for(Duration::from_secs(20), &format!("{url} answers {pod}"), || {
        // Debian's static wget crashes when it is given a time of its own.
        answer = stage.exec(pod, &["busybox", "timeout", "3", "wget", "-q", "-O", "-", url]);
        Ok(answer.is_ok())
    });
    match (come, answer) {
        (Ok(()), answer) => answer,
        (Err(late), Err(error)) => Err(error.context(format!("{late:#}"))),
        (Err(late), Ok(_)) => Err(late),
    }
}

/// How many rules of a node are about a port.
fn mappings(stage: &Stage<'_>, node: &str, port: u16) -> Result<usize> {
    let rules = stage.cluster.on_node(node, "iptables-save -t nat")?;
    Ok(rules.lines().filter(|line| line.contains(&format!("--dport {port} "))).count())
}

fn what_kubernetes_asks_of_the_primary_still_reaches_it(stage: &Stage<'_>) -> Result<()> {
    let (far, node) = stage.two_nodes()?;
    stage.define("lan", &list(&[bridge(stage, "lan", &["10.101.32.0/24"])]))?;
    let serve = "echo here >/tmp/index.html; exec httpd -f -p 80 -h /tmp";
    let ports = json!([{ "containerPort": 80, "hostPort": 18132 }]);
    let server = Pod::new("server").networks("lan").running(serve).with_container("ports", ports).on(&node);
    let server = server.annotation("kubernetes.io/ingress-bandwidth", "3M");
    stage.run_all(&[server, Pod::new("client").on(&far)])?;

    let found = stage.pod("server")?;
    let text = |field: &str| found["status"][field].as_str().unwrap_or_default().to_owned();
    for url in [format!("http://{}:18132/", text("hostIP")), format!("http://{}/", text("podIP"))] {
        let answer = fetched(stage, "client", &url)?;
        ensure!(answer == "here", "{url} answered {answer:?}");
    }
    // Not every primary limits traffic; this cluster's does.
    if stage.cluster.provider() == "local" {
        let shaped = shapers(stage, &node, 3)?;
        ensure!(shaped.len() == 1, "one interface of {node} is limited to 3 Mbit/s, but it has {shaped:?}");
    }
    stage.delete_all(&["server", "client"])?;
    stage.wait("the port is free again", || Ok(mappings(stage, &node, 18132)? == 0))?;
    stage.wait_until_nothing_is_left()
}

fn a_wish_that_no_plugin_can_grant_is_refused_with_a_sentence(stage: &Stage<'_>) -> Result<()> {
    let (_, node) = stage.two_nodes()?;
    let point = json!({ "type": "ptp", "ipam": bridge(stage, "", &["10.101.33.0/24"])["ipam"] });
    stage.define("bare", &list(&[point]))?;
    stage.define("mute", &list(&[json!({ "type": "bridge", "bridge": stage.interface("mute") })]))?;
    let devices = json!({
        "apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
        "metadata": {
            "name": "devices", "namespace": stage.namespace,
            "annotations": { "k8s.v1.cni.cncf.io/resourceName": "vendor.example/vf" },
        },
        "spec": { "config": list(&[bridge(stage, "dev", &["10.101.34.0/24"])]).to_string() },
    });
    stage.cluster.apply(&devices.to_string())?;
    let honour = |key: &str| format!("the pod asks for \"{key}\", which no plugin of the network can honour");
    let wishes = [
        (
            "guid",
            json!({ "name": "bare", "infiniband-guid": "24:8a:07:03:00:8d:ae:2e" }),
            honour("infiniband-guid"),
        ),
        ("mac", json!({ "name": "bare", "mac": "02:65:00:00:33:01" }), honour("mac")),
        ("ips", json!({ "name": "mute", "ips": ["10.101.33.9/24"] }), honour("ips")),
        (
            "bandwidth",
            json!({ "name": "bare", "bandwidth": { "egressRate": 1_000_000 } }),
            honour("bandwidth"),
        ),
        (
            "ports",
            json!({ "name": "bare", "portMappings": [{ "hostPort": 18133, "containerPort": 80 }] }),
            honour("portMappings"),
        ),
        ("device", json!({ "name": "devices" }), "names \"vendor.example/vf\"".to_owned()),
    ];
    for (name, wish, _) in &wishes {
        stage.create(&Pod::new(name).networks(&json!([wish]).to_string()).on(&node))?;
    }
    for (name, _, sentence) in &wishes {
        stage.wait_until_described(name, sentence)?;
    }
    warn_of_a_device(stage)?;
    stage.wait_until_nothing_is_left()?;
    stage.delete_all(&wishes.each_ref().map(|(name, ..)| *name))?;
    stage.wait_until_nothing_is_left()
}

/// `deviceID` is not of the standard, and no pod may choose a device of the node: whoever writes it is told so.
fn warn_of_a_device(stage: &Stage<'_>) -> Result<()> {
    let networks = json!([{ "name": "bare", "deviceID": "0000:03:00.2" }]).to_string();
    let pod = Pod::new("chooses").networks(&networks);
    let manifest = pod.manifest(&stage.namespace, &stage.cluster.test_image()).to_string();
    // kubectl prints warnings to stderr, which is part of what a person sees.
    let script = "exec kubectl apply --dry-run=server -f - 2>&1";
    let printed = output_of(stage.cluster.command("sh")?.args(["-c", script]), &manifest)?;
    ensure!(
        printed.contains("Warning") && printed.contains("deviceID"),
        "kubectl apply warns of a key that means nothing, but it printed: {printed}"
    );
    Ok(())
}

/// Braid with other settings; dropping it brings the usual ones back.
struct Changed<'a> {
    cluster: &'a Cluster,
    is_back: bool,
}

impl<'a> Changed<'a> {
    /// Upgrades the release, which leaves settings of before as they are.
    fn to(cluster: &'a Cluster, settings: &[&str]) -> Result<Self> {
        let this = Self { cluster, is_back: false };
        let at_once = "node.updateStrategy.rollingUpdate.maxUnavailable=100%";
        let mut further = vec!["--reuse-values", "--set", at_once];
        further.extend(settings.iter().flat_map(|setting| ["--set", *setting]));
        this.cluster.install_braid(&further)?;
        Ok(this)
    }

    fn back(mut self) -> Result<()> {
        self.is_back = true;
        self.cluster.install_braid(&["--reset-values"])
    }
}

impl Drop for Changed<'_> {
    fn drop(&mut self) {
        if !self.is_back {
            // Nobody can do anything about it here; the scenarios that follow will tell.
            let _ = self.cluster.install_braid(&["--reset-values"]);
        }
    }
}

fn namespace_isolation_holds_while_it_is_on(stage: &Stage<'_>) -> Result<()> {
    let (node, _) = stage.two_nodes()?;
    let vault = stage.another_namespace("vault")?;
    stage.define("own", &list(&[bridge(stage, "own", &["10.101.35.0/24"])]))?;
    stage.define_in(&vault, "gold", &list(&[bridge(stage, "gold", &["10.101.36.0/24"])]))?;
    let gold = format!("{vault}/gold");
    let rule = format!(
        "namespace isolation is on: a pod of namespace {} may not use network {gold}",
        stage.namespace
    );
    let asks = |name: &str, networks: &str| Pod::new(name).networks(networks);
    let as_primary = Pod::new("sly").annotation(DEFAULT_NETWORK, &gold);
    // These two are accepted before there is the rule, and come to a node when there is.
    for pod in [asks("greedy", &gold), as_primary] {
        stage.create(&pod.with("schedulerName", json!("nobody")))?;
    }
    stage.run(&asks("before", &gold).on(&node))?;

    let changed = Changed::to(stage.cluster, &["settings.namespaceIsolation=true"])?;
    stage.ping("before", [10, 101, 36, 1].into(), Some("net1"))?;
    wait_until_the_node_has_the_rule(stage, &node)?;
    ["greedy", "sly"].iter().try_for_each(|pod| bind(stage, pod, &node))?;
    stage.run(&asks("modest", "own").on(&node))?;
    ["greedy", "sly"].iter().try_for_each(|pod| stage.wait_until_described(pod, &rule))?;
    wait_until_refused_at_once(stage, &asks("late", &gold), &rule)?;

    changed.back()?;
    ["greedy", "sly"].iter().try_for_each(|pod| stage.wait_until_ready(pod))?;
    stage.ping_all("greedy", "before", "net1")?;
    stage.ping_all("greedy", "sly", "eth0")?;
    stage.delete_all(&["before", "greedy", "sly", "modest"])?;
    stage.wait_until_nothing_is_left()
}

/// Puts a pod on a node, as a scheduler does.
fn bind(stage: &Stage<'_>, pod: &str, node: &str) -> Result<()> {
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding",
        "metadata": { "name": pod, "namespace": stage.namespace },
        "target": { "apiVersion": "v1", "kind": "Node", "name": node },
    });
    let path = format!("/api/v1/namespaces/{}/pods/{pod}/binding", stage.namespace);
    stage.cluster.kubectl_with(&["create", "--raw", &path, "-f", "-"], &binding.to_string()).map(drop)
}

/// The node role writes the settings into the plugin's configuration.
fn wait_until_the_node_has_the_rule(stage: &Stage<'_>, node: &str) -> Result<()> {
    stage.wait(&format!("the configuration of {node} has the setting"), || {
        let config = stage.cluster.on_node(node, "cat /etc/cni/net.d/00-braid.conflist")?;
        let config: Value = serde_json::from_str(&config)?;
        Ok(config["plugins"][0]["namespaceIsolation"] == true)
    })
}

/// A replica of before may still answer; what it lets pass, the node refuses.
fn wait_until_refused_at_once(stage: &Stage<'_>, pod: &Pod, rule: &str) -> Result<()> {
    stage.wait("the webhook refuses the pod", || match stage.create(pod) {
        Ok(()) => stage.delete(&pod.name).map(|()| false),
        Err(refusal) if format!("{refusal:#}").contains(rule) => Ok(true),
        Err(other) => bail!("the pod was refused for another reason: {other:#}"),
    })
}
