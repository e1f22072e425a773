use serde_json::json;

use super::*;

fn rules(settings: Value) -> PodRules {
    PodRules::from(&Settings::parse(settings.as_object().unwrap()).unwrap())
}

/// Checks files of these names and texts; the verdict, and what was printed without the directory's name.
fn told(files: &[(&str, &str)]) -> (Verdict, Vec<String>, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &&str| dir.path().join(name);
    for (name, text) in files {
        std::fs::create_dir_all(path(name).parent().unwrap()).unwrap();
        std::fs::write(path(name), text).unwrap();
    }
    let paths: Vec<_> =
        files.iter().map(|(name, _)| path(name)).filter(|path| path.parent() == Some(dir.path())).collect();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let verdict = check(&paths, Permissions::default(), rules(json!({})), &mut out, &mut err).unwrap();
    let text =
        |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().replace(&format!("{}/", dir.path().display()), "");
    (verdict, text(out).lines().map(str::to_owned).collect(), text(err))
}

const NAD: &str = "apiVersion: k8s.cni.cncf.io/v1\nkind: NetworkAttachmentDefinition\nmetadata: {name: a}\n";

fn nad(config: &str) -> String {
    format!("{NAD}spec:\n  config: '{config}'\n")
}

fn pod(annotations: &str) -> String {
    format!("kind: Pod\nmetadata: {{name: p, namespace: app, annotations: {{{annotations}}}}}\n")
}

#[test]
fn what_is_fine_is_only_counted() {
    let (verdict, lines, err) = told(&[
        (
            "a.yaml",
            &format!(
                "{}---\nkind: Service\n---\n{}",
                nad(r#"{"cniVersion":"1.0.0","type":"bridge"}"#),
                pod("k8s.v1.cni.cncf.io/networks: a")
            ),
        ),
        ("b.json", r#"{"kind":"List","items":[{"kind":"Pod","metadata":{"name":"q"}}]}"#),
        ("c.json", r#"{"cniVersion":"1.0.0","name":"n","type":"bridge"}"#),
        (
            "00-braid.conflist",
            r#"{"cniVersion":"1.0.0","name":"braid","plugins":[{"type":"meta-cni","clusterNetwork":"flannel","capabilities":{"portMappings":true}}]}"#,
        ),
    ]);
    assert_eq!(
        lines,
        [
            "checked 4 files: 1 network, 2 pods, 2 CNI configurations, 1 object of other kinds; 0 errors, 0 warnings"
        ]
    );
    assert_eq!((verdict, err.as_str()), (Verdict::Fine, ""));
}

#[test]
fn networks_are_judged_as_the_node_role_does() {
    for (text, finding) in [
        (nad("{}"), "a.yaml: default/a: error: spec.config: the configuration has neither"),
        (nad("{"), "a.yaml: default/a: error: spec.config: the configuration is not JSON"),
        (nad(r#"{"type":"bridge"}"#), "a.yaml: default/a: warning: no \"cniVersion\" means 0.1.0"),
        (
            nad(r#"{"cniVersion":"1.0.0","type":"a","plugins":[]}"#),
            "a.yaml: default/a: warning: \"type\" beside \"plugins\" means a single plugin",
        ),
        (format!("{NAD}---\n{NAD}"), "a.yaml: default/a: error: is defined already, in a.yaml"),
        (
            "kind: NetworkAttachmentDefinition\n".to_owned(),
            "a.yaml: document at line 1: error: it has no metadata",
        ),
        ("a: [\n".to_owned(), "a.yaml: error: is not YAML: "),
        ("a: 1\n".to_owned(), "a.yaml: document at line 1: error: is no Kubernetes object"),
    ] {
        let (verdict, lines, _) = told(&[("a.yaml", &text)]);
        assert!(lines.len() == 2 && lines[0].starts_with(finding), "{lines:?}");
        let expected = if finding.contains(": error: ") { Verdict::Wrong } else { Verdict::Fine };
        assert_eq!(verdict, expected, "{finding}");
    }
}

#[test]
fn annotations_of_pods_are_judged_as_the_plugin_does() {
    for (annotations, finding) in [
        (
            "k8s.v1.cni.cncf.io/networks: 'a,,b'",
            "error: annotation k8s.v1.cni.cncf.io/networks: networks[1]: the element is empty",
        ),
        (
            "k8s.v1.cni.cncf.io/networks: 'a@too-long-interface'",
            "error: annotation k8s.v1.cni.cncf.io/networks: networks[0] (\"app/a\"): \"interface\"",
        ),
        (
            "k8s.v1.cni.cncf.io/networks: '[{\"name\":\"a\"'",
            "error: annotation k8s.v1.cni.cncf.io/networks: networks is not JSON: ",
        ),
        (
            "k8s.v1.cni.cncf.io/networks: [{name: a}]",
            "error: annotation k8s.v1.cni.cncf.io/networks is an array, not",
        ),
        (
            "k8s.v1.cni.cncf.io/networks: '[{\"name\":\"a\",\"gatway\":1}]'",
            "warning: networks[0] (\"app/a\"): key \"gatway\" is not known and has no effect",
        ),
        (
            "v1.multus-cni.io/default-network: 'a,b'",
            "error: annotation v1.multus-cni.io/default-network: default-network names 2 networks",
        ),
    ] {
        let (verdict, lines, _) = told(&[("a.yaml", &pod(annotations))]);
        let expected = format!("a.yaml: Pod app/p: {finding}");
        assert!(lines.len() == 2 && lines[0].starts_with(&expected), "{lines:?}");
        assert_eq!(verdict == Verdict::Wrong, finding.starts_with("error"), "{finding}");
    }
    let (_, lines, _) = told(&[("a.yaml", "kind: Pod\nmetadata: {name: p, annotations: x}\n")]);
    assert_eq!(lines[0], "a.yaml: Pod default/p: error: annotations is a string, not an object");
}

#[test]
fn a_configuration_beside_spec_is_an_error() {
    let text = format!("{NAD}spec:\nconfig: '{{\"cniVersion\": \"1.0.0\", \"type\": \"bridge\"}}'\n");
    let (verdict, lines, _) = told(&[("a.yaml", &text)]);
    assert_eq!(
        lines[0],
        "a.yaml: default/a: error: \"config\" is beside \"spec\", not in it, so the network has no configuration; \
         indent it below \"spec:\""
    );
    assert_eq!((verdict, lines.len()), (Verdict::Wrong, 2), "{lines:?}");
}

#[test]
fn a_kind_that_is_nearly_ours_is_an_error() {
    let typo = nad("{}").replace("NetworkAttachment", "NetworkAttachement");
    let (verdict, lines, _) = told(&[("a.yaml", &typo)]);
    assert_eq!(
        lines[0],
        "a.yaml: document at line 1: error: kind \"NetworkAttachementDefinition\" is not known, so the object is not \
         read; if it is a network, write \"kind: NetworkAttachmentDefinition\" and \"apiVersion: k8s.cni.cncf.io/v1\""
    );
    assert_eq!(verdict, Verdict::Wrong);
}

#[test]
fn keys_that_mean_nothing_are_warnings() {
    let bridge = r#"{"cniVersion":"1.0.0","type":"bridge"}"#;
    let annotated =
        |key: &str| nad(bridge).replace("{name: a}", &format!("{{name: a, annotations: {{{key}: x}}}}"));
    for (text, warning) in [
        (
            format!("{}  confg: x\n", nad(bridge)),
            "default/a: warning: key \"spec.confg\" is not known and has no effect; did you mean \"spec.config\"?",
        ),
        (
            format!("{}more: x\n", nad(bridge)),
            "default/a: warning: key \"more\" is not known and has no effect; remove it",
        ),
        (
            annotated("k8s.v1.cni.cncf.io/ressourceName"),
            "default/a: warning: annotation \"k8s.v1.cni.cncf.io/ressourceName\" is not known and has no effect; did you mean \"k8s.v1.cni.cncf.io/resourceName\"?",
        ),
        (
            pod("k8s.v1.cni.cncf.io/network: a"),
            "Pod app/p: warning: annotation \"k8s.v1.cni.cncf.io/network\" is not known and has no effect; did you mean \"k8s.v1.cni.cncf.io/networks\"?",
        ),
        (
            pod("").replace("annotations", "anotations"),
            "Pod app/p: warning: key \"metadata.anotations\" is not known and has no effect; did you mean \"metadata.annotations\"?",
        ),
    ] {
        let (verdict, lines, _) = told(&[("a.yaml", &text)]);
        assert_eq!(lines[0], format!("a.yaml: {warning}"));
        assert_eq!((verdict, lines.len()), (Verdict::Fine, 2), "{lines:?}");
    }
}

#[test]
fn a_pod_of_the_hosts_network_that_asks_for_networks_is_warned_of() {
    let host = "spec: {hostNetwork: true}\n";
    let job = "kind: Job\nmetadata: {name: j, namespace: app}\nspec: {template: {metadata: {annotations: \
               {k8s.v1.cni.cncf.io/networks: a}}, spec: {hostNetwork: true}}}\n";
    let ignored = "a pod of the host's network gets no other networks: annotation k8s.v1.cni.cncf.io/networks is ignored";
    for (text, place) in [
        (format!("{}{host}", pod("k8s.v1.cni.cncf.io/networks: a")), "Pod app/p"),
        (job.to_owned(), "Job app/j"),
    ] {
        let (verdict, lines, _) = told(&[("a.yaml", &text)]);
        assert_eq!(lines[0], format!("a.yaml: {place}: warning: {ignored}"));
        assert_eq!(verdict, Verdict::Fine);
    }
    let (verdict, lines, _) =
        told(&[("a.yaml", &format!("{}{host}", pod("k8s.v1.cni.cncf.io/networks: ','")))]);
    assert!(
        lines[0].contains(": warning: a pod of the host's network gets no other networks, but: "),
        "{lines:?}"
    );
    assert_eq!(verdict, Verdict::Fine);
}

#[test]
fn templates_of_workloads_are_looked_into() {
    let bad = "{metadata: {annotations: {k8s.v1.cni.cncf.io/networks: ','}}}";
    for (kind, body) in [
        ("Deployment", format!("spec: {{template: {bad}}}")),
        ("Job", format!("spec: {{template: {bad}}}")),
        ("Rollout", format!("spec: {{template: {bad}}}")),
        ("PodTemplate", format!("template: {bad}")),
        ("CronJob", format!("spec: {{jobTemplate: {{spec: {{template: {bad}}}}}}}")),
    ] {
        let (verdict, lines, _) =
            told(&[("a.yaml", &format!("kind: {kind}\nmetadata: {{name: w}}\n{body}\n"))]);
        let expected = format!(
            "a.yaml: {kind} default/w: error: annotation k8s.v1.cni.cncf.io/networks: networks[0]: the element is empty"
        );
        assert!(lines[0].starts_with(&expected), "{lines:?}");
        assert_eq!(verdict, Verdict::Wrong);
    }
    let text = "kind: Deployment\nmetadata: {name: w, annotations: {k8s.v1.cni.cncf.io/networks: a}}\nspec: {template: {metadata: {}}}\n";
    let (verdict, lines, _) = told(&[("a.yaml", text)]);
    assert_eq!(
        lines[0],
        "a.yaml: Deployment default/w: warning: annotation k8s.v1.cni.cncf.io/networks is on the Deployment, not on \
         its pods, and has no effect; put it into spec.template.metadata.annotations"
    );
    assert_eq!(verdict, Verdict::Fine);
}

#[test]
fn configurations_and_settings_are_judged_as_the_plugin_does() {
    let ours = |settings: &str| {
        format!(r#"{{"cniVersion":"1.0.0","name":"braid","plugins":[{{"type":"meta-cni"{settings}}}]}}"#)
    };
    for (name, text, finding) in [
        ("a.conf", "{".to_owned(), "a.conf: error: the configuration is not JSON"),
        ("a.json", "{".to_owned(), "a.json: error: the configuration is not JSON"),
        ("a.conflist", r#"{"name":"n"}"#.to_owned(), "a.conflist: error: the configuration has neither"),
        ("a.conf", r#"{"type":"a"}"#.to_owned(), "a.conf: error: the configuration has no \"name\""),
        (
            "a.conf",
            r#"{"cniVersion":"1.0.0","name":"n","type":"a","args":1}"#.to_owned(),
            "a.conf: error: plugin \"a\": \"args\"",
        ),
        (
            "a.conflist",
            ours(r#","logLevel":"loud""#),
            "a.conflist: meta-cni: error: setting \"logLevel\" is \"loud\"",
        ),
        (
            "a.conflist",
            ours(r#","clusterNetwork":"a","delegates":[{"name":"n","type":"a"}]"#),
            "a.conflist: meta-cni: error: setting \"delegates\" contradicts",
        ),
        (
            "a.conflist",
            ours(r#","kubeconfig":"/x""#),
            "a.conflist: meta-cni: warning: setting \"kubeconfig\" has no effect",
        ),
        (
            "a.conflist",
            ours(r#","fromTheFuture":1"#),
            "a.conflist: meta-cni: warning: setting \"fromTheFuture\" is not known",
        ),
        (
            "a.conflist",
            r#"{"name":"n","plugins":[{"type":"a"}]}"#.to_owned(),
            "a.conflist: warning: no \"cniVersion\"",
        ),
    ] {
        let (verdict, lines, _) = told(&[(name, &text)]);
        assert!(lines.len() == 2 && lines[0].starts_with(finding), "{lines:?}");
        assert_eq!(verdict == Verdict::Wrong, finding.contains("error"), "{finding}");
    }
}

#[test]
fn plugins_of_the_subdirectory_belong_to_a_configuration() {
    let list = r#"{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"a"}]}"#;
    let (verdict, lines, _) = told(&[("a.conflist", list), ("n/b.conf", "{")]);
    assert!(
        lines[0].starts_with("a.conflist: error: load n/b.conf: the configuration is not JSON"),
        "{lines:?}"
    );
    assert_eq!(verdict, Verdict::Wrong);
}

#[test]
fn files_that_cannot_be_checked_are_told_apart_from_wrong_ones() {
    for (name, text) in [("a.txt", "kind: Pod\n"), ("noextension", "x"), ("a.toml", "")] {
        let (verdict, lines, err) = told(&[(name, text), ("b.yaml", &nad("{}"))]);
        assert_eq!(verdict, Verdict::Unable);
        assert!(err.starts_with(&format!("{name}: its name says nothing of what it is")), "{err}");
        assert!(lines[0].starts_with("b.yaml: default/a: error: "), "the others are checked: {lines:?}");
    }
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let verdict = check(
        &["/nowhere/a.yaml".into(), "/".into()],
        Permissions::default(),
        rules(json!({})),
        &mut out,
        &mut err,
    )
    .unwrap();
    assert_eq!(verdict, Verdict::Unable);
    let err = String::from_utf8(err).unwrap();
    assert!(
        err.contains("/nowhere/a.yaml: cannot be read: No such file")
            && err.contains("/: is not a regular file"),
        "{err}"
    );
}

#[test]
fn networks_of_all_files_are_judged_together() {
    let nad = |name: &str, config: &str| {
        format!(
            "apiVersion: k8s.cni.cncf.io/v1\nkind: NetworkAttachmentDefinition\nmetadata: {{name: {name}}}\nspec:\n  \
             config: '{config}'\n"
        )
    };
    let bridge = |name: &str, subnet: &str, more: &str| {
        let ipam = format!(r#"{{"type":"host-local","subnet":"{subnet}"{more}}}"#);
        nad(name, &format!(r#"{{"cniVersion":"1.0.0","type":"bridge","bridge":"br0","ipam":{ipam}}}"#))
    };
    let (verdict, lines, _) = told(&[
        ("a.yaml", &bridge("a", "10.1.0.0/24", "")),
        ("b.yaml", &bridge("b", "10.1.0.0/25", "")),
        ("c.yaml", &bridge("c", "10.2.0.7/24", "")),
    ]);
    assert!(lines[0].starts_with("a.yaml: default/a: warning: its host-local ranges overlap"), "{lines:?}");
    assert!(lines[1].starts_with("b.yaml: default/b: warning: its host-local ranges overlap"), "{lines:?}");
    assert!(
        lines[2].starts_with("c.yaml: default/c: error: plugin \"bridge\": ipam: \"subnet\""),
        "{lines:?}"
    );
    assert!(lines[3].ends_with("1 error, 2 warnings"), "{lines:?}");
    assert_eq!(verdict, Verdict::Wrong);

    let inner = bridge("d", "10.3.0.0/24", r#","dataDir":"/var/lib/cni/networks/default__a""#);
    let (verdict, lines, _) = told(&[("a.yaml", &bridge("a", "10.1.0.0/24", "")), ("d.yaml", &inner)]);
    assert!(lines[1].starts_with("d.yaml: default/d: error: the host-local data directory"), "{lines:?}");
    assert_eq!(verdict, Verdict::Wrong);
}

#[test]
fn configurations_of_the_runtime_are_judged_as_networks_are() {
    let text = r#"{"cniVersion":"1.0.0","name":"n","type":"bridge","ipam":{"type":"host-local","subnet":"10.1.0.0"}}"#;
    let (verdict, lines, _) = told(&[("a.conf", text)]);
    assert!(lines[0].starts_with("a.conf: error: plugin \"bridge\": ipam: \"subnet\""), "{lines:?}");
    assert_eq!(verdict, Verdict::Wrong);
}

#[test]
fn a_network_of_a_device_is_a_warning() {
    let text = nad(r#"{"cniVersion":"1.0.0","type":"sriov"}"#)
        .replace("{name: a}", "{name: a, annotations: {k8s.v1.cni.cncf.io/resourceName: vendor.com/vf}}");
    let (verdict, lines, _) = told(&[("a.yaml", &text)]);
    assert_eq!(verdict, Verdict::Fine);
    let expected =
        "a.yaml: default/a: warning: annotation k8s.v1.cni.cncf.io/resourceName names \"vendor.com/vf\"";
    assert!(lines[0].starts_with(expected), "{lines:?}");
}

#[test]
fn slips_in_json_are_told_with_the_line_of_the_file_and_by_name() {
    let literal = |lines: &str| {
        let lines: Vec<_> = lines.lines().map(|line| format!("    {line}\n")).collect();
        format!("{NAD}spec:\n  config: |\n{}", lines.concat())
    };
    let folded = format!(
        "{NAD}spec:\n  config: '{{\n      \"name\": \"net01\"\n      \"type\": \"host-device\"\n    }}'\n"
    );
    for (text, finding) in [
        (
            literal("{\n  \"type\": \"macvlan\",   # the kind\n}"),
            "line 7 of the file: JSON has no comments; remove this one",
        ),
        (folded, "line 7 of the file: a comma is missing (at the ^: { \"name\": \"…\" ^\"type\"…)"),
        (
            literal("\u{feff}{}"),
            "line 6 of the file: U+FEFF (byte order mark) cannot be seen and is not allowed here",
        ),
        (
            literal("{\u{a0}}"),
            "line 6 of the file: U+00A0 (no-break space) cannot be seen and is not allowed here",
        ),
    ] {
        let (verdict, lines, _) = told(&[("a.yaml", &text)]);
        let expected =
            format!("a.yaml: default/a: error: spec.config: the configuration is not JSON: {finding}");
        assert!(lines[0].starts_with(&expected), "{lines:?}");
        assert_eq!(verdict, Verdict::Wrong);
    }
}

#[test]
fn settings_are_read_in_any_case_and_misspelt_ones_that_protect_are_errors() {
    let ours = |keys: &str| {
        format!(r#"{{"cniVersion":"1.0.0","name":"braid","plugins":[{{"type":"meta-cni",{keys}}}]}}"#)
    };
    let in_other_case = ours(r#""NamespaceIsolation":true,"LogFile":"/var/log/braid.log""#);
    let (verdict, lines, _) = told(&[("00-braid.conflist", &in_other_case)]);
    assert_eq!((verdict, lines.len()), (Verdict::Fine, 1), "{lines:?}");
    for (keys, finding) in [
        (
            r#""namespaceIsolaton":true"#,
            "error: setting \"namespaceIsolaton\" is not known, but may be meant for",
        ),
        (
            r#""namespaceIsolation":true,"NamespaceIsolation":false"#,
            "error: setting \"namespaceIsolation\" is given twice",
        ),
        (
            r#""netwrkWait":"1s""#,
            "warning: setting \"netwrkWait\" is not known to this version of Braid; did you mean",
        ),
        (
            r#""binDir":"/host/opt/cni/bin""#,
            "warning: setting \"binDir\" is \"/host/opt/cni/bin\"; a path below /host",
        ),
    ] {
        let (_, lines, _) = told(&[("00-braid.conflist", &ours(keys))]);
        assert!(lines[0].starts_with(&format!("00-braid.conflist: meta-cni: {finding}")), "{lines:?}");
    }
}

#[test]
fn a_configuration_without_an_interface_is_told_to_be_no_primary() {
    let (verdict, lines, _) =
        told(&[("200-loopback.conf", r#"{"cniVersion":"1.0.0","name":"lo","type":"loopback"}"#)]);
    let expected = "200-loopback.conf: warning: plugin \"loopback\" sets up \"lo\" and makes no eth0; Braid does not take \
                    this configuration for the primary network";
    assert_eq!((lines[0].as_str(), verdict), (expected, Verdict::Fine));
}

#[test]
fn pods_are_judged_by_the_settings_that_are_given() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.yaml");
    std::fs::write(&file, pod("k8s.v1.cni.cncf.io/networks: 'a,b,other/c'")).unwrap();
    for (settings, finding) in [
        (json!({}), None),
        (json!({"maxAttachments": 2}), Some("networks asks for 3 networks, and one pod may have 2")),
        (json!({"namespaceIsolation": true}), Some("a pod of namespace app may not use network other/c")),
    ] {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let files = std::slice::from_ref(&file);
        let verdict = check(files, Permissions::default(), rules(settings), &mut out, &mut err).unwrap();
        let out = String::from_utf8(out).unwrap();
        assert_eq!(verdict == Verdict::Wrong, finding.is_some(), "{out}");
        assert!(finding.is_none_or(|finding| out.contains(finding)), "{out}");
    }
    let many = vec!["a"; 33].join(",");
    let (_, lines, _) = told(&[("a.yaml", &pod(&format!("k8s.v1.cni.cncf.io/networks: '{many}'")))]);
    assert!(lines[0].contains("networks asks for 33 networks, and one pod may have 32"), "{lines:?}");
}

#[test]
fn a_hardware_address_that_no_interface_can_have_is_a_warning() {
    for (config, finding) in [
        (
            r#"{"cniVersion":"1.0.0","type":"macvlan","mac":"01:00:5e:00:00:01"}"#,
            Some("its first byte is odd"),
        ),
        (r#"{"cniVersion":"1.0.0","type":"tuning","MAC":"00:00:00:00:00:00"}"#, Some("it is all zeros")),
        (r#"{"cniVersion":"1.0.0","type":"macvlan","mac":"02:00:5e:00:00:01"}"#, None),
        (r#"{"cniVersion":"1.0.0","type":"somebodys","mac":"x"}"#, None),
    ] {
        let (_, lines, _) = told(&[("a.yaml", &nad(config))]);
        let told = lines
            .iter()
            .any(|line| line.contains("warning: ") && finding.is_some_and(|text| line.contains(text)));
        assert_eq!(told, finding.is_some(), "{lines:?}");
        assert!(finding.is_some() || !lines.iter().any(|line| line.contains("\"mac\"")), "{lines:?}");
    }
}
