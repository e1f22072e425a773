//! What goes wrong, and what people are shown of it: each refusal is a sentence that says what to do, and what was begun
//! is undone.

use anyhow::{Context, Result, ensure};
use e2e::cluster::{Cluster, Feature, NAMESPACE};
use e2e::suite::pod::{NETWORKS, Pod};
use e2e::suite::stage::Stage;
use e2e::suite::{Scenario, When};
use serde_json::{Value, json};

use crate::bridges;

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "kubectl_apply_refuses_a_wrong_network_and_says_why",
        when: When::Together,
        needs: &[],
        links: &[],
        story: kubectl_apply_refuses_a_wrong_network_and_says_why,
    },
    Scenario {
        name: "a_wrong_annotation_is_refused_where_the_pod_is_made",
        when: When::Together,
        needs: &[],
        links: &[],
        story: a_wrong_annotation_is_refused_where_the_pod_is_made,
    },
    Scenario {
        name: "describe_tells_which_plugin_or_interface_the_node_lacks",
        when: When::Together,
        needs: &[],
        links: &["bridge", "macvlan"],
        story: describe_tells_which_plugin_or_interface_the_node_lacks,
    },
    Scenario {
        name: "a_network_that_fails_takes_back_those_before_it",
        when: When::Together,
        needs: &[Feature::Nodes],
        links: &["bridge"],
        story: a_network_that_fails_takes_back_those_before_it,
    },
    Scenario {
        name: "without_the_webhook_describe_says_what_is_wrong",
        when: When::Alone,
        needs: &[],
        links: &["bridge"],
        story: without_the_webhook_describe_says_what_is_wrong,
    },
    Scenario {
        name: "a_plugin_that_hangs_is_ended_and_its_pod_can_be_deleted",
        when: When::Alone,
        needs: &[Feature::Nodes],
        links: &["bridge"],
        story: a_plugin_that_hangs_is_ended_and_its_pod_can_be_deleted,
    },
    Scenario {
        name: "a_full_disk_is_told_and_pods_start_once_there_is_space",
        when: When::Alone,
        needs: &[Feature::Nodes],
        links: &["bridge"],
        story: a_full_disk_is_told_and_pods_start_once_there_is_space,
    },
];

/// A network as an object, whatever its configuration.
fn network(name: &str, config: &str) -> Value {
    json!({
        "apiVersion": "k8s.cni.cncf.io/v1",
        "kind": "NetworkAttachmentDefinition",
        "metadata": { "name": name },
        "spec": { "config": config },
    })
}

/// A pod that the kubelet has to let go before it is gone. One without grace goes at once, and a kubelet that is just
/// about to try again makes a sandbox for it that stays for a minute.
fn pod(name: &str) -> Pod {
    Pod::new(name).with("terminationGracePeriodSeconds", json!(1))
}

/// Waits until the webhook refuses an object; its reason has to hold all of some texts.
fn ensure_refused(stage: &Stage<'_>, object: &Value, texts: &[&str]) -> Result<()> {
    let mut refusal = String::new();
    // A webhook that is not asked yet lets everything pass.
    let refused = stage.wait("the webhook refuses it", || {
        refusal = stage.refusal(object).unwrap_or_default();
        Ok(refusal.contains("admission webhook"))
    });
    refused.with_context(|| format!("{object} was to be refused, and kubectl said {refusal:?}"))?;
    let lacks = texts.iter().find(|text| !refusal.contains(**text));
    ensure!(lacks.is_none(), "kubectl does not say {lacks:?} of {object}: {refusal}");
    Ok(())
}

/// Fails unless describe of a pod shows all of some texts, for which it is waited.
fn ensure_described(stage: &Stage<'_>, pod: &str, texts: &[&str]) -> Result<()> {
    texts.iter().try_for_each(|text| stage.wait_until_described(pod, text))
}

fn kubectl_apply_refuses_a_wrong_network_and_says_why(stage: &Stage<'_>) -> Result<()> {
    let subnet = |ipam: Value| json!({ "cniVersion": "0.4.0", "type": "bridge", "ipam": ipam }).to_string();
    let outside = json!({ "type": "host-local", "subnet": "10.102.30.0/24", "rangeStart": "10.102.31.9" });
    let cases = [
        (r#"{ "type": "bridge", "#.to_owned(), "JSON"),
        ("{}".to_owned(), "neither"),
        (json!({ "cniVersion": "9.9.9", "type": "bridge" }).to_string(), "9.9.9"),
        (json!({ "cniVersion": "0.4.0", "type": "meta-cni" }).to_string(), "meta-cni"),
        (subnet(json!({ "type": "host-local", "subnet": "10.102.30.9/24" })), "10.102.30.9/24"),
        (subnet(outside), "10.102.31.9"),
    ];
    for (config, told) in cases {
        ensure_refused(stage, &network("lan", &config), &["networks.braid.dev", told])?;
    }
    // Refused is refused: the last one, stored in earnest, is not there.
    let wrong = stage.define("lan", &json!({ "cniVersion": "0.4.0", "type": "meta-cni" }));
    ensure!(wrong.is_err(), "a wrong network was stored");
    let kind = "network-attachment-definitions";
    ensure!(stage.cluster.get(kind, &stage.namespace, "lan")?.is_none(), "a refused network is there");

    stage.define("lan", &bridges::plain(stage, "rf", "10.102.30.0/24"))?;
    let broken = stage.define("lan", &json!({ "cniVersion": "0.4.0", "plugins": [] }));
    ensure!(broken.is_err(), "a network that was right was made wrong");
    Ok(())
}

fn a_wrong_annotation_is_refused_where_the_pod_is_made(stage: &Stage<'_>) -> Result<()> {
    let cases = [
        ("lan,", "is there a comma too many?"),
        (r#"[{"name": "lan""#, "networks is not JSON"),
        (r#"{"name": "lan"}"#, "not an array of objects"),
        (r#"[{"interface": "lan0"}]"#, r#""name" is missing"#),
        (r#"[{"name": "lan", "ips": "10.102.31.5/24"}]"#, r#""ips" is a string, not an array"#),
        (r#"[{"name": "lan", "interface": "a-name-of-many-letters"}]"#, "a-name-of-many-letters"),
    ];
    for (annotation, told) in cases {
        let wrong = pod("wrong").networks(annotation);
        let wrong = wrong.manifest(&stage.namespace, &stage.cluster.test_image());
        ensure_refused(stage, &wrong, &["pods.braid.dev", NETWORKS, told])?;
    }

    // Nobody sees kubectl's answer where a controller makes the pods: it is in the events of the ReplicaSet.
    stage.deploy("Deployment", &pod("web").networks("lan,"), &json!({}))?;
    let mut shown = String::new();
    let told = stage.wait("the ReplicaSet says why it has no pods", || {
        shown = stage.kubectl(&["describe", "replicaset", "-l", "app=web"])?;
        Ok(shown.contains("FailedCreate") && shown.contains("is there a comma too many?"))
    });
    told.with_context(|| format!("describe showed:\n{shown}"))?;
    ensure!(stage.pods_of("web")?.is_empty(), "a pod was made all the same");
    stage.delete_workload("deployment/web")
}

/// Networks that are right as such, and do not fit the node.
fn describe_tells_which_plugin_or_interface_the_node_lacks(stage: &Stage<'_>) -> Result<()> {
    let mut misspelt = bridges::plain(stage, "ms", "10.102.32.0/24");
    misspelt["type"] = "brigde".into();
    stage.define("misspelt", &misspelt)?;
    stage.define(
        "nowhere",
        &json!({ "cniVersion": "0.4.0", "type": "macvlan", "master": "storage7", "ipam": {
            "type": "host-local", "subnet": "10.102.33.0/24",
        } }),
    )?;
    let (node, _) = stage.two_nodes()?;
    stage.create(&pod("misspelt").on(&node).networks("misspelt"))?;
    stage.create(&pod("nowhere").on(&node).networks("nowhere"))?;
    let network = |name: &str| format!("{}/{name}", stage.namespace);
    let lacks = ["find plugin brigde", "/opt/cni/bin", "install the plugin there or correct the \"type\""];
    ensure_described(stage, "misspelt", &lacks)?;
    ensure_described(stage, "misspelt", &[&network("misspelt")])?;
    ensure_described(
        stage,
        "nowhere",
        &[&network("nowhere"), "this node has no interface \"storage7\"", "correct the \"master\""],
    )?;

    // Mended, they start by themselves.
    stage.define("misspelt", &bridges::plain(stage, "ms", "10.102.32.0/24"))?;
    stage.define("nowhere", &bridges::plain(stage, "nw", "10.102.33.0/24"))?;
    for pod in ["misspelt", "nowhere"] {
        stage.wait_until_ready(pod)?;
        stage.ensure_status_is_true(pod, "net1")?;
        stage.delete(pod)?;
    }
    stage.wait_until_nothing_is_left()
}

/// A plugin of a script, of a name that no other scenario has. Dropping it removes it.
struct Plugin<'a> {
    cluster: &'a Cluster,
    node: String,
    name: String,
}

impl<'a> Plugin<'a> {
    fn new(stage: &Stage<'a>, node: &str, script: &str) -> Result<Self> {
        let this = Self { cluster: stage.cluster, node: node.to_owned(), name: stage.interface("lane-") };
        this.replace(script)?;
        Ok(this)
    }

    /// Puts another script in its place.
    fn replace(&self, script: &str) -> Result<()> {
        let file = self.file();
        let new = format!("{file}.next");
        self.cluster.write_on_node(&self.node, &new, &format!("#!/bin/sh\n{script}\n"))?;
        self.cluster.on_node(&self.node, &format!("chmod 755 {new}; mv {new} {file}")).map(drop)
    }

    fn file(&self) -> String {
        format!("/opt/cni/bin/{}", self.name)
    }
}

impl Drop for Plugin<'_> {
    fn drop(&mut self) {
        // A scenario that fails has said why.
        let _ = self.cluster.on_node(&self.node, &format!("rm -f {}", self.file()));
    }
}

/// Does what the plugin bridge does.
const AS_BRIDGE: &str = "exec /opt/cni/bin/bridge";

/// Adds nothing and says why; undoes as the plugin bridge does.
const NO_LANE: &str = r#"if [ "$CNI_COMMAND" = ADD ]; then
    cat >/dev/null
    echo '{"cniVersion": "0.4.0", "code": 123, "msg": "all 4 lanes are taken", "details": "free one with lanectl"}'
    exit 1
fi
exec /opt/cni/bin/bridge"#;

/// Does not end.
const HANGS: &str = "exec sleep 3600";

fn a_network_that_fails_takes_back_those_before_it(stage: &Stage<'_>) -> Result<()> {
    let (node, _) = stage.two_nodes()?;
    let plugin = Plugin::new(stage, &node, NO_LANE)?;
    let mut lane = bridges::plain(stage, "ln", "10.102.35.0/24");
    lane["type"] = plugin.name.as_str().into();
    stage.define("first", &bridges::plain(stage, "ft", "10.102.34.0/24"))?;
    stage.define("lane", &lane)?;
    stage.create(&pod("car").on(&node).networks("first, lane"))?;
    let lane = format!("{}/lane", stage.namespace);
    ensure_described(stage, "car", &[&lane, "all 4 lanes are taken", "free one with lanectl"])?;

    // Between two tries of the kubelet nothing of the first network is held.
    stage.wait_until_nothing_is_left()?;
    let ports = format!("ls /sys/class/net/{}/brif | wc -l", stage.interface("ft"));
    stage.wait("the first network's bridge has no port", || {
        Ok(stage.cluster.on_node(&node, &ports)?.trim() == "0")
    })?;

    plugin.replace(AS_BRIDGE)?;
    stage.wait_until_ready("car")?;
    let has = stage.interfaces("car")?;
    ensure!(has == ["eth0", "net1", "net2"], "car has the interfaces {has:?}");
    stage.ensure_status_is_true("car", "net1")?;
    stage.ensure_status_is_true("car", "net2")?;
    stage.delete("car")?;
    stage.wait_until_nothing_is_left()
}

/// No controller runs: nobody refuses anything early, and pods still say what is wrong.
fn without_the_webhook_describe_says_what_is_wrong(stage: &Stage<'_>) -> Result<()> {
    let absent = AbsentController::new(stage)?;
    let (node, _) = stage.two_nodes()?;
    stage.define("lan", &json!({ "cniVersion": "0.4.0", "type": "bridge", "ipam": "host-local" }))?;
    stage.create(&pod("network").on(&node).networks("lan"))?;
    stage.create(&pod("annotation").on(&node).networks("lan,"))?;
    let lan = format!("network {}/lan cannot be used", stage.namespace);
    ensure_described(stage, "network", &[&lan, "ipam"])?;
    ensure_described(stage, "annotation", &[NETWORKS, "is there a comma too many?"])?;

    // The controller comes back and finds the network that nobody refused.
    drop(absent);
    let kind = "network-attachment-definitions";
    stage.wait("the network says that it is not accepted", || {
        let network = stage.cluster.get(kind, &stage.namespace, "lan")?.unwrap_or_default();
        let all = network["status"]["conditions"].as_array().into_iter().flatten();
        let mut accepted = all.filter(|condition| condition["type"] == "Accepted");
        Ok(accepted.any(|one| {
            one["status"] == "False" && one["message"].as_str().is_some_and(|text| text.contains("ipam"))
        }))
    })?;

    stage.define("lan", &bridges::plain(stage, "ww", "10.102.36.0/24"))?;
    stage.kubectl(&["annotate", "--overwrite", "pod", "annotation", &format!("{NETWORKS}=lan")])?;
    for pod in ["network", "annotation"] {
        stage.wait_until_ready(pod)?;
        stage.ensure_status_is_true(pod, "net1")?;
        stage.delete(pod)?;
    }
    stage.wait_until_nothing_is_left()
}

/// Braid without its controller. Dropping it brings the controller back.
struct AbsentController<'a> {
    cluster: &'a Cluster,
    replicas: String,
}

impl<'a> AbsentController<'a> {
    fn new(stage: &Stage<'a>) -> Result<Self> {
        let cluster = stage.cluster;
        let replicas = cluster.get("deployment", NAMESPACE, "braid-controller")?;
        let replicas = replicas.context("Braid has no controller here")?["spec"]["replicas"].to_string();
        let this = Self { cluster, replicas };
        this.scale("0")?;
        stage.wait("no controller runs", || {
            Ok(cluster.list("pods", NAMESPACE, "app.kubernetes.io/component=controller")?.is_empty())
        })?;
        Ok(this)
    }

    fn scale(&self, replicas: &str) -> Result<()> {
        let replicas = format!("--replicas={replicas}");
        let namespace = ["-n", NAMESPACE];
        let arguments = ["scale", "deployment/braid-controller", &replicas];
        self.cluster.kubectl(&[&namespace[..], &arguments[..]].concat()).map(drop)
    }
}

impl Drop for AbsentController<'_> {
    fn drop(&mut self) {
        // A scenario that fails has said why; whoever needs the controller next waits for it.
        let _ = self.scale(&self.replicas);
        let wait = ["-n", NAMESPACE, "rollout", "status", "deployment/braid-controller", "--timeout=60s"];
        let _ = self.cluster.kubectl(&wait);
    }
}

/// Settings of `meta-cni` that are not the chart's. Dropping them brings those back.
struct Settings<'a> {
    cluster: &'a Cluster,
}

impl<'a> Settings<'a> {
    /// Sets some, and waits until every node has them.
    fn new(stage: &Stage<'a>, settings: &[(&str, &str)]) -> Result<Self> {
        let this = Self { cluster: stage.cluster };
        let sets: Vec<String> =
            settings.iter().map(|(key, value)| format!("settings.{key}={value}")).collect();
        let arguments: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
        this.cluster.install_braid(&arguments)?;
        for (key, value) in settings {
            this.wait_until_all_nodes(stage, &format!("grep -q '\"{key}\": *\"{value}\"'"))?;
        }
        Ok(this)
    }

    fn wait_until_all_nodes(&self, stage: &Stage<'_>, test: &str) -> Result<()> {
        let script = format!("{test} /etc/cni/net.d/00-braid.conflist && echo yes || echo no");
        stage.wait("every node has the new settings", || {
            for node in self.cluster.nodes() {
                if self.cluster.on_node(&node, &script)? != "yes" {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }
}

impl Drop for Settings<'_> {
    fn drop(&mut self) {
        // A scenario that fails has said why.
        let _ = self.cluster.install_braid(&[]);
    }
}

fn a_plugin_that_hangs_is_ended_and_its_pod_can_be_deleted(stage: &Stage<'_>) -> Result<()> {
    let _settings = Settings::new(stage, &[("delegateTimeout", "1s"), ("missingPluginGrace", "1s")])?;
    let (node, _) = stage.two_nodes()?;
    let plugin = Plugin::new(stage, &node, HANGS)?;
    let mut lane = bridges::plain(stage, "hg", "10.102.38.0/24");
    lane["type"] = plugin.name.as_str().into();
    stage.define("first", &bridges::plain(stage, "hf", "10.102.37.0/24"))?;
    stage.define("lane", &lane)?;
    stage.create(&pod("car").on(&node).networks("first, lane"))?;
    let ended = format!("{} did not end within 1s and was killed", plugin.file());
    ensure_described(stage, "car", &[&ended, "delegateTimeout"])?;
    stage.delete("car")?;

    // What the plugin would not undo is on record, and the next call of the node undoes it once the plugin works.
    plugin.replace(AS_BRIDGE)?;
    stage.run(&pod("next").on(&node).networks("first, lane"))?;
    stage.ensure_status_is_true("next", "net2")?;
    stage.delete("next")?;
    stage.wait_until_nothing_is_left()
}

/// The disk of Braid's state. Dropping it gives the node back what it had.
struct SmallDisk<'a> {
    cluster: &'a Cluster,
    node: String,
    namespace: String,
}

impl<'a> SmallDisk<'a> {
    /// Puts a small disk, which has what was there before, in the place of the node's.
    fn new(stage: &Stage<'a>, node: &str) -> Result<Self> {
        let (node_name, namespace) = (node.to_owned(), stage.namespace.clone());
        let this = Self { cluster: stage.cluster, node: node_name, namespace };
        this.cluster.on_node(
            node,
            "rm -rf /run/e2e-disk; cp -a /var/lib/braid /run/e2e-disk
             mount -t tmpfs -o size=512k,mode=700 e2e-disk /var/lib/braid
             cp -a /run/e2e-disk/. /var/lib/braid/",
        )?;
        Ok(this)
    }

    fn fill(&self) -> Result<()> {
        self.cluster.on_node(&self.node, "cat /dev/zero >/var/lib/braid/core 2>/dev/null || :").map(drop)
    }

    fn make_space(&self) -> Result<()> {
        self.cluster.on_node(&self.node, "rm /var/lib/braid/core").map(drop)
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        // Records of pods that went meanwhile are still on the node's own disk.
        let script = format!(
            "umount -l /var/lib/braid || :; rm -rf /run/e2e-disk
             grep -ls '\"{}\"' /var/lib/braid/attachments/* | xargs -r rm -f",
            self.namespace
        );
        // A scenario that fails has said why.
        let _ = self.cluster.on_node(&self.node, &script);
    }
}

fn a_full_disk_is_told_and_pods_start_once_there_is_space(stage: &Stage<'_>) -> Result<()> {
    let (_, node) = stage.two_nodes()?;
    stage.define("lan", &bridges::plain(stage, "fd", "10.102.39.0/24"))?;
    stage.run(&pod("before").on(&node).networks("lan"))?;
    let disk = SmallDisk::new(stage, &node)?;
    disk.fill()?;
    stage.create(&pod("after").on(&node).networks("lan"))?;
    ensure_described(
        stage,
        "after",
        &["write /var/lib/braid/", "free some space", "No space left on device"],
    )?;
    // A pod that runs can go: its addresses are given back although nothing can be written.
    stage.delete("before")?;
    let account = format!("ls /var/lib/cni/networks/{}__lan | grep -c '^10\\.' || :", stage.namespace);
    stage.wait("the address of the pod before is free", || {
        Ok(stage.cluster.on_node(&node, &account)?.trim() == "0")
    })?;

    disk.make_space()?;
    stage.wait_until_ready("after")?;
    let has = stage.interfaces("after")?;
    ensure!(has == ["eth0", "net1"], "after has the interfaces {has:?}");
    stage.delete("after")?;
    stage.wait_until_nothing_is_left()
}
