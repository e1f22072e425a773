use serde_json::json;

use super::*;

fn parse(json: Value) -> Result<Settings, SettingsError> {
    Settings::parse(json.as_object().unwrap())
}

#[test]
fn nothing_set_is_what_people_expect() {
    let settings = parse(json!({"type": "meta-cni", "name": "braid", "cniVersion": "1.0.0"})).unwrap();
    assert_eq!(settings.primary, PrimarySource::FirstIn("/etc/cni/net.d".into()));
    assert_eq!(settings.conf_dir, PathBuf::from("/etc/cni/multus/net.d"));
    assert_eq!(settings.attachment_concurrency.get(), 1);
    assert_eq!(settings.pods_at_once, PodsAtOnce::ByProcessors);
    assert_eq!(settings.result, ResultForm::Auto);
    assert_eq!(settings.log.level, LogLevel::Warn);
    assert!(!settings.isolation.enabled);
    assert_eq!(settings.passed_over, []);
}

#[test]
fn a_configuration_of_multus_is_read() {
    let settings = parse(json!({
        "cniVersion": "0.3.1", "name": "multus-cni-network", "type": "meta-cni",
        "clusterNetwork": "/host/etc/cni/net.d/10-flannel.conflist",
        "defaultNetworks": ["sidecar", "/etc/cni/multus/net.d/x.conf"],
        "systemNamespaces": ["kube-system", "admin"], "multusNamespace": "nets",
        "namespaceIsolation": true, "globalNamespaces": "default, shared",
        "readinessindicatorfile": "/run/flannel/subnet.env", "confDir": "/c", "binDir": "/b",
        "kubeconfig": "/etc/cni/net.d/multus.d/multus.kubeconfig",
        "logFile": "/var/log/multus.log", "logLevel": "verbose", "logToStderr": false,
        "logOptions": {"maxSize": 5, "maxBackups": 3, "maxAge": 5, "compress": true},
        "capabilities": {"portMappings": true}, "runtimeConfig": {},
        "somethingNew": 1,
    }))
    .unwrap();
    let flannel = NetworkReference::Path("/host/etc/cni/net.d/10-flannel.conflist".into());
    assert_eq!(settings.primary, PrimarySource::Named(flannel));
    assert_eq!(settings.default_networks[0], NetworkReference::Name(NetworkName::parse("sidecar").unwrap()));
    assert_eq!(settings.system_namespaces.len(), 2);
    let global: Vec<_> = settings.isolation.global_namespaces.iter().map(Namespace::as_str).collect();
    assert_eq!(global, ["default", "shared"]);
    assert_eq!(settings.log.level, LogLevel::Info);
    assert_eq!(settings.log.max_bytes, 5 << 20);
    let told: Vec<_> = settings.passed_over.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "setting \"kubeconfig\" has no effect: nothing is asked of the API server here",
            "setting \"somethingNew\" is not known to this version of Braid",
        ]
    );
}

#[test]
fn what_is_empty_counts_as_absent() {
    let nothing = parse(json!({})).unwrap();
    let settings = [
        "clusterNetwork",
        "delegates",
        "multusAutoconfigDir",
        "defaultNetworks",
        "systemNamespaces",
        "multusNamespace",
        "namespaceIsolation",
        "globalNamespaces",
        "readinessindicatorfile",
        "confDir",
        "binDir",
        "attachmentConcurrency",
        "podsAtOnce",
        "maxAttachments",
        "turnWait",
        "networkWait",
        "readinessWait",
        "lockWait",
        "delegateTimeout",
        "missingPluginGrace",
        "result",
        "logLevel",
        "logToStderr",
        "logFile",
        "logOptions",
        "runDir",
        "stateDir",
    ];
    for setting in settings.into_iter().chain(["multusMasterCNI"]) {
        for value in [json!(null), json!(""), json!("  ")] {
            let mut json = json!({});
            json[setting] = value;
            assert_eq!(parse(json.clone()).unwrap(), nothing, "{json}");
        }
    }
    let options = json!({"maxSize": null, "maxBackups": "", "maxAge": null, "compress": ""});
    for json in [json!({"delegates": []}), json!({"logOptions": options}), json!({"defaultNetworks": []})] {
        assert_eq!(parse(json.clone()).unwrap(), nothing, "{json}");
    }
    // An empty array of namespaces says something: none.
    assert!(parse(json!({"systemNamespaces": []})).unwrap().system_namespaces.is_empty());
    assert!(parse(json!({"globalNamespaces": []})).unwrap().isolation.global_namespaces.is_empty());
}

#[test]
fn delegates_are_configurations() {
    let settings = parse(json!({"delegates": [
        {"name": "a", "type": "bridge"}, {"name": "b", "plugins": [{"type": "macvlan"}]},
    ]}))
    .unwrap();
    let PrimarySource::Delegates(delegates) = settings.primary else { panic!("{:?}", settings.primary) };
    assert_eq!(delegates[1].name.as_str(), "b");
    let none = parse(json!({"delegates": []})).unwrap();
    assert!(matches!(none.primary, PrimarySource::FirstIn(_)));
}

#[test]
fn the_primary_may_be_a_file_of_the_directory() {
    let file = |dir: &str| PrimarySource::FileIn { dir: dir.into(), file: "10-a.conflist".to_owned() };
    let settings = parse(json!({"multusMasterCNI": "10-a.conflist"})).unwrap();
    assert_eq!(settings.primary, file("/etc/cni/net.d"));
    let settings = parse(json!({"multusAutoconfigDir": "/c", "multusMasterCNI": "10-a.conflist"})).unwrap();
    assert_eq!(settings.primary, file("/c"));
}

#[test]
fn unknown_options_of_the_log_are_told() {
    let options = json!({"maxSize": 1, "maxAge": 2, "compress": true, "maxBackup": 3});
    let told = parse(json!({"logOptions": options})).unwrap().passed_over;
    let meant = Some("maxBackups");
    assert_eq!(told, [PassedOver { setting: "logOptions.maxBackup".to_owned(), reason: None, meant }]);
    assert!(
        told[0].to_string().ends_with("is not known to this version of Braid; did you mean \"maxBackups\"?")
    );
}

#[test]
fn a_setting_is_read_in_whatever_case_its_key_is_written() {
    for (json, canonical) in [
        (json!({"NamespaceIsolation": true}), json!({"namespaceIsolation": true})),
        (json!({"NAMESPACEISOLATION": true}), json!({"namespaceIsolation": true})),
        (json!({"name\u{17f}paceIsolation": true}), json!({"namespaceIsolation": true})),
        (json!({"GlobalNamespaces": "a,b"}), json!({"globalNamespaces": "a,b"})),
        (json!({"SystemNamespaces": []}), json!({"systemNamespaces": []})),
        (json!({"multusNameSpace": "nets"}), json!({"multusNamespace": "nets"})),
        (json!({"MaxAttachments": 3}), json!({"maxAttachments": 3})),
        (json!({"readinessIndicatorFile": "/x"}), json!({"readinessindicatorfile": "/x"})),
        (json!({"LogFile": "/x"}), json!({"logFile": "/x"})),
        (
            json!({"LogOptions": {"MaxSize": 5, "maxbackups": 2}}),
            json!({"logOptions": {"maxSize": 5, "maxBackups": 2}}),
        ),
        (json!({"CLUSTERNETWORK": "a"}), json!({"clusterNetwork": "a"})),
        (
            json!({"Delegates": [{"name": "a", "type": "b"}]}),
            json!({"delegates": [{"name": "a", "type": "b"}]}),
        ),
        (json!({"RunDir": "/r"}), json!({"runDir": "/r"})),
        (json!({"CNIVersion": "1.0.0", "Capabilities": {}, "RuntimeConfig": {}}), json!({})),
        (
            json!({"namespaceIsolation": true, "NamespaceIsolation": true}),
            json!({"namespaceIsolation": true}),
        ),
        (
            json!({"namespaceIsolation": true, "NamespaceIsolation": null}),
            json!({"namespaceIsolation": true}),
        ),
    ] {
        let read = parse(json.clone()).unwrap();
        assert_eq!(read, parse(canonical).unwrap(), "{json}");
        assert_eq!(read.passed_over, [], "{json}");
    }
    let kubeconfig = parse(json!({"KubeConfig": "/x"})).unwrap().passed_over.remove(0);
    assert_eq!(
        kubeconfig.to_string(),
        "setting \"KubeConfig\" has no effect: nothing is asked of the API server here"
    );
}

#[test]
fn two_spellings_with_two_values_are_a_contradiction() {
    for (json, setting, spellings) in [
        (
            json!({"namespaceIsolation": true, "NamespaceIsolation": false}),
            "namespaceIsolation",
            "\"NamespaceIsolation\" and \"namespaceIsolation\"",
        ),
        (json!({"runDir": "/a", "rundir": "/b"}), "runDir", "\"runDir\" and \"rundir\""),
        (
            json!({"logOptions": {"maxSize": 1, "MaxSize": 2}}),
            "logOptions.maxSize",
            "\"MaxSize\" and \"maxSize\"",
        ),
    ] {
        let error = parse(json.clone()).unwrap_err();
        let expected =
            format!("setting {setting:?} is given twice, as {spellings}, with two values; remove one");
        assert_eq!(error.to_string(), expected, "{json}");
    }
}

#[test]
fn a_misspelt_setting_that_protects_is_an_error_and_others_are_told() {
    for (key, meant) in [
        ("namespaceIsolaton", "namespaceIsolation"),
        ("nameSpaceIsolations", "namespaceIsolation"),
        ("namespace-isolation", "namespaceIsolation"),
        ("namespace\u{200b}Isolation", "namespaceIsolation"),
        (" namespaceIsolation", "namespaceIsolation"),
        ("globalNamespace", "globalNamespaces"),
        ("systemNamespace", "systemNamespaces"),
        ("maxAttachment", "maxAttachments"),
        ("podAtOnce", "podsAtOnce"),
        ("clusterNetworks", "clusterNetwork"),
        ("readinessIndicatorFil", "readinessindicatorfile"),
    ] {
        let error = parse(json!({key: null})).map_or_else(|error| error.to_string(), |_| String::new());
        assert_eq!(error, "", "{key}: nothing is set");
        let error = parse(json!({key: true})).unwrap_err();
        let expected = format!(
            "setting {key:?} is not known, but may be meant for {meant:?}, which would then not hold; correct the name, or \
             remove it"
        );
        assert_eq!(error.to_string(), expected);
    }
    for (key, meant) in [("netwrkWait", Some("networkWait")), ("vendor", None), ("isolation", None)] {
        assert_eq!(parse(json!({key: 1})).unwrap().passed_over[0].meant, meant, "{key}");
    }
}

#[test]
fn every_setting_that_protects_is_a_setting() {
    for setting in misspelt::PROTECTING {
        let mut reader = Map::new();
        reader.insert(setting.to_owned(), json!({"no": "setting takes this"}));
        assert_eq!(Settings::parse(&reader).unwrap_err().setting, setting);
    }
}

#[test]
fn paths_below_host_are_told_to_be_multus_view_of_the_node() {
    for (json, path, on_the_node) in [
        (json!({"multusAutoconfigDir": "/host/etc/cni/net.d"}), "/host/etc/cni/net.d", "/etc/cni/net.d"),
        (json!({"readinessindicatorfile": "/host/run/x"}), "/host/run/x", "/run/x"),
        (json!({"binDir": "/host/opt/cni/bin"}), "/host/opt/cni/bin", "/opt/cni/bin"),
        (json!({"clusterNetwork": "/host/etc/a.conf"}), "/host/etc/a.conf", "/etc/a.conf"),
        (json!({"defaultNetworks": ["a", "/host/etc/a.conf"]}), "/host/etc/a.conf", "/etc/a.conf"),
    ] {
        let told: Vec<_> = parse(json.clone()).unwrap().below_host.iter().map(ToString::to_string).collect();
        let setting = json.as_object().unwrap().keys().next().unwrap().clone();
        let expected = format!(
            "setting {setting:?} is {path:?}; a path below /host is how Multus sees the node from inside its pod, and meta-cni \
             runs on the node itself: write {on_the_node:?}"
        );
        assert_eq!(told, [expected]);
    }
    for path in ["/hosts/a", "/host", "/etc/host/a"] {
        assert_eq!(parse(json!({"binDir": path})).unwrap().below_host, [], "{path}");
    }
}

#[test]
fn attachments_are_bounded_always() {
    for (json, most) in
        [(json!({}), 32), (json!({"maxAttachments": 1}), 1), (json!({"maxAttachments": 1000}), 1000)]
    {
        assert_eq!(parse(json.clone()).unwrap().max_attachments.get(), most, "{json}");
    }
}

#[test]
fn pods_at_once_are_a_number_none_or_what_suits_the_processors() {
    for (json, processors, bound) in [
        (json!({}), 1, Some(8)),
        (json!({}), 2, Some(8)),
        (json!({}), 16, Some(64)),
        (json!({"podsAtOnce": 1}), 16, Some(1)),
        (json!({"podsAtOnce": 1000}), 1, Some(1000)),
        (json!({"podsAtOnce": 0}), 16, None),
    ] {
        let settings = parse(json.clone()).unwrap();
        let found = settings.pods_at_once.on(processors).map(NonZeroUsize::get);
        assert_eq!(found, bound, "{json} on {processors}");
    }
}

#[test]
fn durations_have_units() {
    for (text, millis) in [("250ms", 250), ("5s", 5_000), ("2m", 120_000), ("1h", 3_600_000), ("0s", 0)] {
        let settings = parse(json!({"networkWait": text})).unwrap();
        assert_eq!(settings.network_wait, Duration::from_millis(millis), "{text}");
    }
}

#[test]
fn what_cannot_be_read_names_the_setting() {
    for (json, setting) in [
        (json!({"clusterNetwork": 1}), "clusterNetwork"),
        (json!({"clusterNetwork": "../x"}), "clusterNetwork"),
        (json!({"clusterNetwork": "no name"}), "clusterNetwork"),
        (json!({"clusterNetwork": "a", "delegates": [{"name": "b", "type": "c"}]}), "delegates"),
        (json!({"clusterNetwork": "a", "multusAutoconfigDir": "/c"}), "multusAutoconfigDir"),
        (json!({"clusterNetwork": "a", "multusMasterCNI": "b"}), "multusMasterCNI"),
        (
            json!({"delegates": [{"name": "b", "type": "c"}], "multusAutoconfigDir": "/c"}),
            "multusAutoconfigDir",
        ),
        (json!({"multusMasterCNI": "/etc/cni/net.d/10-a.conflist"}), "multusMasterCNI"),
        (json!({"multusMasterCNI": ".."}), "multusMasterCNI"),
        (json!({"delegates": {}}), "delegates"),
        (json!({"delegates": [{"type": "bridge"}]}), "delegates[0]"),
        (json!({"delegates": [{"name": "a", "type": "bridge"}, null]}), "delegates[1]"),
        (json!({"defaultNetworks": "a"}), "defaultNetworks"),
        (json!({"defaultNetworks": ["a", 2]}), "defaultNetworks[1]"),
        (json!({"defaultNetworks": ["a b"]}), "defaultNetworks"),
        (json!({"systemNamespaces": [1]}), "systemNamespaces[0]"),
        (json!({"systemNamespaces": ["Upper"]}), "systemNamespaces"),
        (json!({"multusNamespace": "a/b"}), "multusNamespace"),
        (json!({"namespaceIsolation": "yes"}), "namespaceIsolation"),
        (json!({"globalNamespaces": 1}), "globalNamespaces"),
        (json!({"globalNamespaces": "a,../b"}), "globalNamespaces"),
        (json!({"readinessindicatorfile": "relative"}), "readinessindicatorfile"),
        (json!({"confDir": []}), "confDir"),
        (json!({"binDir": "./bin"}), "binDir"),
        (json!({"attachmentConcurrency": 0}), "attachmentConcurrency"),
        (json!({"attachmentConcurrency": 65}), "attachmentConcurrency"),
        (json!({"attachmentConcurrency": "2"}), "attachmentConcurrency"),
        (json!({"podsAtOnce": -1}), "podsAtOnce"),
        (json!({"podsAtOnce": 1001}), "podsAtOnce"),
        (json!({"podsAtOnce": "8"}), "podsAtOnce"),
        (json!({"maxAttachments": 0}), "maxAttachments"),
        (json!({"maxAttachments": 1001}), "maxAttachments"),
        (json!({"maxAttachments": "8"}), "maxAttachments"),
        (json!({"turnWait": 60}), "turnWait"),
        (json!({"networkWait": 5}), "networkWait"),
        (json!({"networkWait": "5"}), "networkWait"),
        (json!({"networkWait": "-5s"}), "networkWait"),
        (json!({"networkWait": "2h"}), "networkWait"),
        (json!({"delegateTimeout": "0s"}), "delegateTimeout"),
        (json!({"result": "both"}), "result"),
        (json!({"logLevel": "loud"}), "logLevel"),
        (json!({"logToStderr": 1}), "logToStderr"),
        (json!({"logFile": "x.log"}), "logFile"),
        (json!({"logOptions": []}), "logOptions"),
        (json!({"logOptions": {"maxSize": 0}}), "logOptions.maxSize"),
        (json!({"logOptions": {"maxBackups": "many"}}), "logOptions.maxBackups"),
        (json!({"runDir": "run"}), "runDir"),
        (json!({"stateDir": 1}), "stateDir"),
        (json!({"retired": "yes"}), "retired"),
        (json!({"cniConfDir": "net.d"}), "cniConfDir"),
        (json!({"multusCacheDir": "multus"}), "multusCacheDir"),
    ] {
        let error = parse(json.clone()).expect_err(&json.to_string());
        assert_eq!(error.setting, setting, "{json}: {error}");
    }
}
