//! The log: JSON lines for people and machines, bounded, and never a secret.

use std::fs;

use serde_json::json;

use crate::harness::Node;

const SECRET: &str = "s3cr3t";

#[test]
fn the_log_is_json_lines_that_say_what_the_call_is_about() {
    let mut node = Node::with(&["a"]);
    node.set(json!({"logLevel": "info", "somethingNew": 1}));
    let answer = node.add("c1").selections(&json!([{"name": "a", "gateway": "10.0.0.1"}])).answer();
    answer.result();
    let lines = answer.log();
    for line in &lines {
        assert_eq!((&line["verb"], &line["container"]), (&json!("ADD"), &json!("c1")), "{line}");
        assert_eq!(line["pod"], "default/web");
        assert!(line["time"].as_str().unwrap().ends_with('Z'));
    }
    let told = |message: &str| lines.iter().filter(|line| line["message"] == message).collect::<Vec<_>>();
    let passed_over = told("a setting is passed over");
    assert!(passed_over[0]["setting"].as_str().unwrap().contains("somethingNew"));
    assert_eq!(told("a key of an annotation has no effect")[0]["key"], "gateway");
    let attached: Vec<_> = told("attached").iter().map(|line| line["interface"].clone()).collect();
    assert_eq!(attached, ["eth0", "net1"]);

    node.fail("a", "DEL", 42);
    let lines = node.del("c1").answer().log();
    let failed = lines.iter().find(|line| line["level"] == "error").unwrap();
    assert_eq!(failed["code"], "42");
    assert!(failed["error"].as_str().unwrap().contains("a cannot DEL"), "{failed}");
}

#[test]
fn a_setting_that_nobody_knows_is_told_of_once_per_add_without_being_asked() {
    let mut node = Node::new();
    node.set(json!({"netwrkWait": "1s", "kubeconfig": "/k", "logOptions": {"maxBackup": 1}}));
    let answer = node.add("c1").answer();
    let told: Vec<_> = answer.log().iter().map(|line| line["setting"].to_string()).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].contains("netwrkWait") && told[1].contains("logOptions.maxBackup"), "{told:?}");
    assert_eq!(node.del("c1").answer().stderr, "");
}

#[test]
fn less_is_told_at_other_levels_and_nothing_when_it_is_off() {
    for (level, add, del) in [("off", 0, 0), ("panic", 0, 0), ("error", 0, 1), ("warn", 0, 2)] {
        let mut node = Node::new();
        node.set(json!({"logLevel": level}));
        assert_eq!(node.add("c1").answer().log().len(), add, "{level}");
        node.fail("primary", "DEL", 42);
        assert_eq!(node.del("c1").answer().log().len(), del, "{level}");
    }
    let mut node = Node::new();
    node.set(json!({"logLevel": "debug", "logToStderr": false}));
    assert_eq!(node.add("c1").answer().stderr, "");
}

#[test]
fn the_log_file_is_bounded_and_what_cannot_be_logged_fails_no_pod() {
    let mut node = Node::new();
    let file = node.path("log");
    node.set(json!({"logLevel": "info", "logFile": file, "logOptions": {"maxSize": 1, "maxBackups": 1}}));
    fs::write(&file, " ".repeat((1 << 20) - 10)).unwrap();
    fs::write(node.path("log.1"), "older").unwrap();
    node.add("c1").result();
    assert!(fs::metadata(&file).unwrap().len() < 10_000, "a new file was begun");
    assert_eq!(fs::metadata(node.path("log.1")).unwrap().len(), (1 << 20) - 10);
    assert!(!node.path("log.2").exists());
    node.set(json!({"logFile": node.path("absent/directory/log")}));
    node.del("c1").succeed();
}

#[test]
fn secrets_of_configurations_and_annotations_are_never_told() {
    let mut node = Node::with(&["a"]);
    let secrets = json!({"kubeconfig": SECRET, "token": SECRET, "args": {"password": [SECRET]}});
    let plugin = |name: &str| {
        let mut plugin = json!({"type": name, "capabilities": {"mac": true}});
        plugin.as_object_mut().unwrap().extend(secrets.as_object().unwrap().clone());
        plugin
    };
    node.cluster(json!({"plugins": [plugin("primary")], "token": SECRET}));
    node.network("default/a", json!({"plugins": [plugin("a")], "token": SECRET}));
    node.set(
        json!({"token": SECRET, "kubeconfig": SECRET, "logLevel": "debug", "logFile": node.path("log")}),
    );
    let selections = json!([{"name": "a", "mac": "02:00:00:00:00:01", "cni-args": {"password": SECRET}}]);
    let mut said = String::new();
    let mut hear = |answer: crate::harness::Answer| {
        said.push_str(&answer.stderr);
        said.push_str(&answer.stdout);
    };
    let add = || node.add("c1").selections(&selections).annotation("other", SECRET);
    hear(add().answer());
    assert_eq!(node.calls()[1].stdin["token"], SECRET, "the plugin has it");
    hear(add().answer());
    hear(node.check("c1").answer());
    hear(node.gc(&[("c1", "eth0")]).answer());
    hear(node.status().answer());
    node.fail("a", "DEL", 42);
    hear(node.del("c1").answer());
    hear(node.gc_by_hand().answer());
    node.mend("a", "DEL");
    hear(node.del("c1").answer());
    for way in [json!({"exit": 3}), json!({"raw": "garbage"}), json!({"signal": 9})] {
        node.steer("a", "ADD", way);
        hear(add().answer());
        hear(node.del("c1").answer());
    }
    node.uninstall("a");
    hear(add().answer());
    // Settings that cannot be read, configurations that are damaged or of the wrong kind.
    hear(add().set(json!({"clusterNetwork": {"token": SECRET}})).answer());
    hear(add().set(json!({"delegates": [{"token": SECRET}], "clusterNetwork": null})).answer());
    hear(add().set(json!({"logLevel": [SECRET]})).answer());
    hear(add().stdin(format!("{{\"name\":\"n\",\"token\":\"{SECRET}")).answer());
    for list in
        [json!({"token": SECRET}), json!({"plugins": [SECRET]}), json!({"plugins": [{"token": SECRET}]})]
    {
        node.write("net.d/10-cluster.conflist", &list);
        hear(add().answer());
        hear(node.status().answer());
    }
    said.push_str(&fs::read_to_string(node.path("log")).unwrap());
    assert!(said.contains("attached") && said.contains("cannot DEL"), "something was told: {said}");
    assert!(!said.contains(SECRET), "{said}");
    let record = fs::metadata(node.path("state")).unwrap().permissions();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&record) & 0o777, 0o700, "records hold secrets");
}

#[test]
fn what_a_plugin_prints_is_told_to_the_runtime_and_neither_logged_nor_recorded() {
    let mut node = Node::with(&["a"]);
    let log = node.path("log");
    node.set(json!({"logLevel": "debug", "logToStderr": false, "logFile": log, "delegateTimeout": "300ms"}));
    for way in [
        json!({"exit": 3, "stderr": SECRET}),
        json!({"exit": 3, "raw": SECRET}),
        json!({"raw": SECRET}),
        json!({"stderr": SECRET, "hang": true}),
    ] {
        node.steer("a", "ADD", way.clone());
        node.steer("a", "DEL", json!({"exit": 3, "stderr": SECRET}));
        let error = node.add("c1").networks("a").error();
        assert!(error.to_string().contains(SECRET), "{way}: {error}");
        assert!(!node.record("c1").unwrap().failure.unwrap().message.contains(SECRET), "{way}");
        let error = node.del("c1").error();
        assert!(error.to_string().contains(SECRET), "{way}: {error}");
        node.mend("a", "DEL");
        node.del("c1").succeed();
    }
    let told = fs::read_to_string(&log).unwrap();
    assert!(told.contains("exit status 3") && told.contains("did not end within 300ms"), "{told}");
    assert!(!told.contains(SECRET), "{told}");
}
