use serde_json::json;

use super::*;

fn nad(namespace: &str, name: &str, config: Option<&str>) -> NetworkAttachmentDefinition {
    let mut object = json!({"metadata": {"namespace": namespace, "name": name}});
    if let Some(config) = config {
        object["spec"] = json!({"config": config});
    }
    serde_json::from_value(object).unwrap()
}

fn outcome_of(config: &str) -> Outcome {
    render(&nad("app", "net.1", Some(config)), "a.yaml", &Permissions::default()).unwrap().outcome
}

/// The list that a configuration becomes.
fn ready(config: &str) -> NetworkList {
    match outcome_of(config) {
        Outcome::Ready { list } => list,
        other => panic!("{config}: {other:?}"),
    }
}

#[test]
fn usable_configurations_become_lists() {
    for (config, name, version, types) in [
        // A single plugin and a list.
        (r#"{"type":"bridge"}"#, "app__net.1", "0.1.0", &["bridge"][..]),
        (
            r#"{"cniVersion":"1.0.0","plugins":[{"type":"a"},{"type":"b"}]}"#,
            "app__net.1",
            "1.0.0",
            &["a", "b"],
        ),
        // Names: the author's is kept, an empty one is none.
        (r#"{"name":"shared","type":"bridge"}"#, "shared", "0.1.0", &["bridge"]),
        (r#"{"name":"","type":"bridge"}"#, "app__net.1", "0.1.0", &["bridge"]),
        (r#"{"name":null,"type":"bridge"}"#, "app__net.1", "0.1.0", &["bridge"]),
        // Versions: the highest that is known.
        (r#"{"cniVersions":["1.1.0","9.0.0"],"plugins":[{"type":"a"}]}"#, "app__net.1", "1.1.0", &["a"]),
        // "type" beside "plugins" means a single plugin, as in Multus.
        (r#"{"type":"a","plugins":[]}"#, "app__net.1", "0.1.0", &["a"]),
        (r#"{"type":"","plugins":[{"type":"a"}]}"#, "app__net.1", "0.1.0", &["a"]),
        // IPAM: absent, empty and null are one thing.
        (r#"{"type":"bridge","ipam":{}}"#, "app__net.1", "0.1.0", &["bridge"]),
        (r#"{"type":"bridge","ipam":null}"#, "app__net.1", "0.1.0", &["bridge"]),
        (r#"{"type":"bridge","ipam":{"type":""}}"#, "app__net.1", "0.1.0", &["bridge"]),
        (r#"{"type":"ptp","ipam":{"type":"host-local","subnet":"x"}}"#, "app__net.1", "0.1.0", &["ptp"]),
        (r#"{"type":"cilium-cni","ipam":{"pre-allocate":8}}"#, "app__net.1", "0.1.0", &["cilium-cni"]),
        // Arguments of the author, and keys that only the plugin knows.
        (r#"{"type":"a","args":{"cni":{"x":1},"other":2}}"#, "app__net.1", "0.1.0", &["a"]),
        (r#"{"type":"a","args":null}"#, "app__net.1", "0.1.0", &["a"]),
        (" {\"type\":\"a\",\"anything\":[null]}\n", "app__net.1", "0.1.0", &["a"]),
    ] {
        let list = ready(config);
        assert_eq!(list.name.as_str(), name, "{config}");
        assert_eq!(list.version.as_str(), version, "{config}");
        let found: Vec<_> = list.plugins.iter().map(|plugin| plugin.plugin().as_str()).collect();
        assert_eq!(found, types, "{config}");
    }
}

#[test]
fn a_configuration_that_would_fill_the_memory_is_refused_unread() {
    // Each `{"a":0}` of eight bytes would become a map of its own.
    let long = |items: usize| format!(r#"{{"type":"a","x":[{}0]}}"#, r#"{"a":0},"#.repeat(items));
    assert!(matches!(outcome_of(&long(16_000)), Outcome::Ready { .. }));
    match outcome_of(&long(180_000)) {
        Outcome::Refused { reason } => assert!(
            reason.starts_with(
                "spec.config is 1440020 bytes long, and none of more than 131072 is read; put long data"
            ),
            "{reason}"
        ),
        other => panic!("{other:?}"),
    }
}

#[test]
fn unusable_configurations_are_refused_with_a_reason() {
    for (config, reason) in [
        ("  \n", "spec.config holds only blanks; leave it out if the configuration is on the node"),
        ("{", "spec.config: the configuration is not JSON: the text ends too early"),
        ("type: bridge", "spec.config: the configuration is not JSON: this is no JSON, which begins with {"),
        (
            "{\n# x\n}",
            "spec.config: the configuration is not JSON: line 2: JSON has no comments; remove this one",
        ),
        ("{\"type\":\"a\"} x", "the configuration is not JSON: trailing characters"),
        ("null", "spec.config: the configuration is null, not a JSON object"),
        ("[]", "the configuration is an array, not a JSON object"),
        ("\"a\"", "the configuration is a string, not a JSON object"),
        ("{}", "the configuration has neither \"type\" (one plugin) nor \"plugins\" (a list)"),
        (r#"{"name":"a"}"#, "neither \"type\""),
        (r#"{"type":""}"#, "neither \"type\""),
        (r#"{"plugins":[]}"#, "\"plugins\" is empty"),
        (r#"{"plugins":null}"#, "\"plugins\" is null, not an array"),
        (r#"{"plugins":{"type":"a"}}"#, "\"plugins\" is an object, not an array"),
        (r#"{"plugins":[null]}"#, "plugins[0] is null, not an object"),
        (r#"{"plugins":[{"type":"a"},{}]}"#, "plugins[1] has no \"type\""),
        (r#"{"type":5}"#, "the plugin.type is a number, not a string"),
        (r#"{"type":"../bridge"}"#, "must be a file name, not a path"),
        (r#"{"name":5,"type":"a"}"#, "\"name\" is a number, not a string"),
        (r#"{"name":"a/b","type":"a"}"#, "network name \"a/b\" must start with a letter or digit"),
        (r#"{"cniVersion":"2.0.0","type":"a"}"#, "CNI version \"2.0.0\" is not one of 0.1.0"),
        (r#"{"cniVersion":1,"type":"a"}"#, "\"cniVersion\" is a number, not a string"),
        (r#"{"cniVersions":["2.0.0"],"plugins":[{"type":"a"}]}"#, "\"cniVersion\" is not supported"),
        (r#"{"cniVersions":"1.0.0","plugins":[{"type":"a"}]}"#, "not an array of strings"),
        (r#"{"disableCheck":5,"plugins":[{"type":"a"}]}"#, "\"disableCheck\" is a number, not a boolean"),
        (r#"{"type":"a","capabilities":{"mac":1}}"#, "capabilities.mac is a number, not a boolean"),
        (r#"{"type":"a","args":[]}"#, "plugin \"a\": \"args\" is an array, not an object"),
        (
            r#"{"plugins":[{"type":"a"},{"type":"b","args":{"cni":"x"}}]}"#,
            "plugins[1] (\"b\"): \"args.cni\" is",
        ),
        (r#"{"type":"a","ipam":"host-local"}"#, "plugin \"a\": \"ipam\" is a string, not an object"),
        (r#"{"type":"a","ipam":{"type":5}}"#, "\"ipam.type\" is a number, not a string"),
        (r#"{"type":"a","ipam":{"type":"/bin/sh"}}"#, "\"ipam.type\" is not valid: plugin type \"/bin/sh\""),
        (r#"{"type":"bridge","ipam":{"subnet":"10.0.0.0/24"}}"#, "\"ipam\" has \"subnet\" but no \"type\""),
        (r#"{"type":"macvlan","ipam":{"type":"","subnet":"x"}}"#, "name the IPAM plugin"),
        (r#"{"type":"meta-cni"}"#, "plugin \"meta-cni\": is Braid itself"),
        (r#"{"plugins":[{"type":"a"},{"type":"meta-cni"}]}"#, "plugins[1] (\"meta-cni\"): is Braid itself"),
    ] {
        match outcome_of(config) {
            Outcome::Refused { reason: found } => assert!(found.contains(reason), "{config}: {found}"),
            other => panic!("{config}: {other:?}"),
        }
    }
}

#[test]
fn a_network_without_configuration_is_looked_for_on_the_node_under_its_own_name() {
    for config in [None, Some("")] {
        let rendered = render(&nad("app", "net.1", config), "a.yaml", &Permissions::default()).unwrap();
        assert_eq!(rendered.outcome, Outcome::OnNode { name: NetworkName::parse("net.1").unwrap() });
    }
}

#[test]
fn networks_of_two_namespaces_share_a_name_only_if_their_authors_wrote_it() {
    let name_of = |namespace: &str, name: &str, config: &str| match render(
        &nad(namespace, name, Some(config)),
        "a.yaml",
        &Permissions::default(),
    )
    .unwrap()
    .outcome
    {
        Outcome::Ready { list } => list.name.to_string(),
        other => panic!("{other:?}"),
    };
    let bare = r#"{"type":"bridge"}"#;
    assert_ne!(name_of("a", "net", bare), name_of("b", "net", bare));
    // Without a separator that neither part may hold, these two would meet.
    assert_ne!(name_of("a", "b-c", bare), name_of("a-b", "c", bare));
    let named = r#"{"name":"net","type":"bridge"}"#;
    assert_eq!(name_of("a", "net", named), name_of("b", "net", named));
}

#[test]
fn no_author_can_take_the_generated_name_of_another_network() {
    for (name, reason) in [
        (
            "bank__vault",
            Some(
                "\"name\" \"bank__vault\" is the one that network bank/vault has if its configuration gives none",
            ),
        ),
        ("app__net.2", Some("network app/net.2")),
        // The network's own, and names that are nobody's.
        ("app__net.1", None),
        ("my_net", None),
        ("bank_vault", None),
        ("a___b", None),
        ("a__b__c", None),
        ("Bank__vault", None),
        ("bank__", None),
    ] {
        let config = format!(r#"{{"name":"{name}","type":"bridge"}}"#);
        match (outcome_of(&config), reason) {
            (Outcome::Ready { list }, None) => assert_eq!(list.name.as_str(), name),
            (Outcome::Refused { reason }, Some(part)) => assert!(reason.contains(part), "{reason}"),
            (other, _) => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn a_name_that_no_file_can_have_is_refused() {
    let long = "n".repeat(250);
    for (namespace, config, refused) in [
        ("namespace", r#"{"type":"bridge"}"#.to_owned(), true),
        ("namespace", r#"{"name":"short","type":"bridge"}"#.to_owned(), false),
        ("a", format!(r#"{{"name":"{}","type":"bridge"}}"#, "x".repeat(256)), true),
        ("a", format!(r#"{{"name":"{}","type":"bridge"}}"#, "x".repeat(255)), false),
    ] {
        let outcome =
            render(&nad(namespace, &long, Some(&config)), "a.yaml", &Permissions::default()).unwrap().outcome;
        assert_eq!(matches!(outcome, Outcome::Refused { .. }), refused, "{outcome:?}");
    }
}

#[test]
fn what_is_known_of_the_object_is_kept() {
    let mut nad = nad("app", "net", Some(r#"{"type":"sriov"}"#));
    nad.metadata.generation = Some(7);
    for (value, resource) in
        [("vendor/net_a", Some("vendor/net_a")), (" vendor/b ", Some("vendor/b")), (" ", None)]
    {
        nad.metadata.annotations = Some([(RESOURCE_NAME.to_owned(), value.to_owned())].into());
        let rendered = render(&nad, "dir/a.yaml", &Permissions::default()).unwrap();
        assert_eq!(rendered.resource_name.as_deref(), resource);
        assert_eq!((rendered.generation, rendered.origin.as_str()), (Some(7), "dir/a.yaml"));
        assert_eq!(rendered.network.to_string(), "app/net");
    }
}

#[test]
fn names_that_are_none_are_an_error_and_reasons_are_bounded() {
    for (namespace, name) in [("", "a"), ("a", ""), ("a_b", "c"), ("..", "a"), ("a", "../b")] {
        assert!(
            render(&nad(namespace, name, None), "a.yaml", &Permissions::default()).is_err(),
            "{namespace}/{name}"
        );
    }
    let config = format!(r#"{{"type":"a","capabilities":{{"{}":1}}}}"#, "ä".repeat(50_000));
    match outcome_of(&config) {
        Outcome::Refused { reason } => assert!(reason.chars().count() <= 1001 && reason.ends_with('…')),
        other => panic!("{other:?}"),
    }
}
