use super::*;

fn nad(name: &str, config: &str) -> String {
    format!("apiVersion: {API_VERSION}\nkind: {KIND}\nmetadata: {{{name}}}\nspec: {{config: {config}}}\n")
}

fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

const BRIDGE: &str = "'{\"type\":\"bridge\"}'";

/// The networks of a directory, and what is wrong without the directory's name.
fn told(dir: &Path) -> (Vec<String>, Vec<String>, Manifests) {
    let manifests = Manifests::read(dir, Permissions::default()).unwrap();
    let networks = manifests.networks.keys().map(ToString::to_string).collect();
    let prefix = format!("{}/", dir.display());
    let wrong = manifests.wrong.iter().map(|wrong| wrong.to_string().replace(&prefix, "")).collect();
    (networks, wrong, manifests)
}

#[test]
fn networks_come_from_every_manifest_and_only_from_manifests() {
    let dir = directory(&[
        ("b.yaml", &format!("{}---\n{}", nad("name: b1", BRIDGE), nad("name: b2, namespace: app", BRIDGE))),
        ("a.yml", &nad("name: a, namespace: ''", BRIDGE)),
        (
            "c.json",
            r#"{"kind":"List","items":[{"apiVersion":"k8s.cni.cncf.io/v1","kind":"NetworkAttachmentDefinition","metadata":{"name":"c"}}]}"#,
        ),
        ("d.yaml", "kind: Pod\nmetadata: {name: d}\n---\nkind: ConfigMap\n"),
        ("e.yaml", "# nothing yet\n"),
        (".hidden.yaml", "["),
        ("notes.txt", "["),
        ("f.yaml~", "["),
    ]);
    std::fs::create_dir(dir.path().join("below.yaml")).unwrap();
    std::fs::write(dir.path().join("below.yaml/g.yaml"), nad("name: g", BRIDGE)).unwrap();
    let (networks, wrong, manifests) = told(dir.path());
    assert_eq!(networks, ["app/b2", "default/a", "default/b1", "default/c"]);
    assert_eq!(wrong, [""; 0]);
    assert_eq!((manifests.others, manifests.extent), (2, Extent::All));
    let a = &manifests.networks[&"default/a".parse().unwrap()];
    assert_eq!(a.origin, dir.path().join("a.yml").display().to_string());
    let c = &manifests.networks[&"default/c".parse().unwrap()];
    assert!(matches!(c.outcome, Outcome::OnNode { .. }));
}

#[test]
fn a_document_without_a_usable_name_is_reported_with_its_place() {
    for (metadata, reason) in [
        ("labels: {}", "it has no metadata.name"),
        ("name: ''", "it has no metadata.name"),
        ("generateName: a-", "it has no metadata.name"),
        ("name: 5", "metadata.name is a number, not a string; put it in quotation marks if it is one"),
        ("name: yes", "metadata.name is a boolean, not a string"),
        ("name: A", "name \"A\" must hold only a-z"),
        ("name: ../a", "name \"../a\" must hold only"),
        ("name: a, namespace: a.b", "namespace \"a.b\" must hold only"),
        ("name: a, namespace: [b]", "metadata.namespace is an array, not a string"),
    ] {
        let dir =
            directory(&[("x.yaml", &format!("{}---\n{}", nad(metadata, BRIDGE), nad("name: good", BRIDGE)))]);
        let (networks, wrong, manifests) = told(dir.path());
        assert_eq!(networks, ["default/good"], "{metadata}");
        assert_eq!(wrong.len(), 1, "{wrong:?}");
        let expected = format!("x.yaml: document at line 1: {reason}");
        assert!(wrong[0].starts_with(&expected), "{}", wrong[0]);
        assert_eq!(manifests.extent, Extent::All, "its name is nobody's");
    }
    for (text, reason) in [
        ("kind: NetworkAttachmentDefinition\n", "it has no metadata, so no name"),
        ("kind: NetworkAttachmentDefinition\nmetadata: x\n", "metadata is a string, not an object"),
    ] {
        let dir = directory(&[("x.yaml", text)]);
        assert_eq!(told(dir.path()).1, [format!("x.yaml: document at line 1: {reason}")]);
    }
}

#[test]
fn a_named_document_that_is_wrong_is_a_refused_network() {
    let head = "kind: NetworkAttachmentDefinition\nmetadata: {name: a";
    let api = format!("apiVersion: {API_VERSION}\n");
    for (text, reason) in [
        (
            nad("name: a", "{type: bridge}"),
            "spec.config is an object, not a string; write the JSON as a text",
        ),
        (nad("name: a", "5"), "spec.config is a number, not a string"),
        (nad("name: a", "'{'"), "spec.config: the configuration is not JSON"),
        (format!("{api}{head}}}\nspec: x\n"), "spec is a string, not an object"),
        (format!("{head}}}\n"), "it has no apiVersion; it has to be \"k8s.cni.cncf.io/v1\""),
        (format!("apiVersion: v1\n{head}}}\n"), "apiVersion is \"v1\"; it has to be \"k8s.cni.cncf.io/v1\""),
        (
            format!("{api}{head}, annotations: {{a: 5}}}}\n"),
            "metadata.annotations[\"a\"] is a number, not a string; put",
        ),
        (
            format!("{api}{head}, labels: {{a: y}}}}\n"),
            "metadata.labels[\"a\"] is a boolean, not a string; put it in",
        ),
        (format!("{api}{head}, labels: [a]}}\n"), "metadata.labels is an array, not an object"),
        (format!("{api}{head}, generation: x}}\n"), "cannot be read: invalid type: string \"x\""),
    ] {
        let dir = directory(&[("x.yaml", &text)]);
        let (_, wrong, manifests) = told(dir.path());
        assert_eq!(wrong, [""; 0], "it is told with the networks");
        match &manifests.networks[&"default/a".parse().unwrap()].outcome {
            Outcome::Refused { reason: found } => assert!(found.starts_with(reason), "{found}"),
            other => panic!("{text}: {other:?}"),
        }
    }
}

#[test]
fn of_two_definitions_the_first_counts_and_both_files_are_named() {
    let other = "'{\"type\":\"macvlan\"}'";
    let dir = directory(&[("b.yaml", &nad("name: net", other)), ("a.yaml", &nad("name: net", BRIDGE))]);
    let (networks, wrong, manifests) = told(dir.path());
    assert_eq!(networks, ["default/net"]);
    assert_eq!(
        wrong,
        [
            "b.yaml: default/net: is defined already, in a.yaml; that definition counts, this one (document at line \
          1) does not; remove one of them"
        ]
    );
    match &manifests.networks[&"default/net".parse().unwrap()].outcome {
        Outcome::Ready { list } => assert_eq!(list.plugins[0].plugin().as_str(), "bridge"),
        other => panic!("{other:?}"),
    }
    assert_eq!(manifests.extent, Extent::All);
}

#[test]
fn what_cannot_be_read_is_reported_and_the_others_are_read() {
    for (name, text) in [
        ("x.yaml", &b"kind: ["[..]),
        ("x.yaml", b"a: \xff"),
        ("x.json", b"{"),
        ("x.yaml", b"kind: A\nkind: B\n"),
    ] {
        let dir = directory(&[("a.yaml", &nad("name: a", BRIDGE)), ("z.yaml", &nad("name: z", BRIDGE))]);
        std::fs::write(dir.path().join(name), text).unwrap();
        let (networks, wrong, manifests) = told(dir.path());
        assert_eq!(networks, ["default/a", "default/z"]);
        assert!(wrong.len() == 1 && wrong[0].starts_with(&format!("{name}: ")), "{wrong:?}");
        assert_eq!(manifests.extent, Extent::Part, "{wrong:?}");
    }
    let dir = directory(&[]);
    std::os::unix::fs::symlink("nowhere", dir.path().join("x.yaml")).unwrap();
    let (_, wrong, manifests) = told(dir.path());
    assert_eq!(wrong, ["x.yaml: cannot be read: No such file or directory (os error 2)"]);
    assert_eq!(manifests.extent, Extent::Part);
    assert!(Manifests::read(&dir.path().join("absent"), Permissions::default()).is_err());
}

#[test]
fn a_directory_like_a_mounted_config_map_is_read_through_its_links() {
    let dir = directory(&[]);
    std::fs::create_dir(dir.path().join("..2026")).unwrap();
    std::fs::write(dir.path().join("..2026/a.yaml"), nad("name: a", BRIDGE)).unwrap();
    std::os::unix::fs::symlink("..2026", dir.path().join("..data")).unwrap();
    std::os::unix::fs::symlink("..data/a.yaml", dir.path().join("a.yaml")).unwrap();
    assert_eq!(told(dir.path()).0, ["default/a"]);
}

#[test]
fn a_configuration_of_ten_thousand_levels_is_refused() {
    let config = format!("'{}{}'", "[".repeat(10_000), "]".repeat(10_000));
    let deep = format!("'{{\"type\":\"a\",\"x\":{}1{}}}'", "[".repeat(10_000), "]".repeat(10_000));
    for config in [config, deep] {
        let dir = directory(&[("a.yaml", &nad("name: a", &config))]);
        let (_, wrong, manifests) = told(dir.path());
        assert_eq!(wrong, [""; 0]);
        match &manifests.networks[&"default/a".parse().unwrap()].outcome {
            Outcome::Refused { reason } => {
                assert!(reason.contains("is not JSON: recursion limit"), "{reason}");
            }
            other => panic!("{other:?}"),
        }
    }
}
