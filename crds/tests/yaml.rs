//! The committed YAML is what the types say.

// Helpers of tests fail as tests do.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps,
};

const HEADER: &str = "# Made from crds/src by `BRAID_WRITE_YAML=1 cargo test -p crds`; do not edit.\n";

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn text(definition: &CustomResourceDefinition) -> String {
    format!("{HEADER}{}", serde_saphyr::to_string(definition).unwrap())
}

#[test]
fn the_yaml_is_what_the_types_say() {
    let write = std::env::var_os("BRAID_WRITE_YAML").is_some();
    let mut expected = BTreeSet::new();
    for definition in crds::definitions() {
        let path = directory().join(crds::file_name(&definition));
        if write {
            std::fs::write(&path, text(&definition)).unwrap();
        }
        let present = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(present, text(&definition), "run `BRAID_WRITE_YAML=1 cargo test -p crds`");
        let read: CustomResourceDefinition = serde_saphyr::from_str(&present).unwrap();
        assert_eq!(read, definition, "{} reads back as the same", path.display());
        expected.insert(path);
    }
    // What kubectl takes from a directory.
    let manifest = |path: &Path| {
        path.extension()
            .is_some_and(|extension| ["json", "yaml", "yml"].iter().any(|known| extension == *known))
    };
    let present = std::fs::read_dir(directory()).unwrap().map(|entry| entry.unwrap().path());
    let present: BTreeSet<_> = present.filter(|path| manifest(path)).collect();
    assert_eq!(present, expected, "nothing else is there, so that the directory can be applied as a whole");
}

fn property<'a>(schema: &'a JSONSchemaProps, name: &str) -> &'a JSONSchemaProps {
    &schema.properties.as_ref().unwrap()[name]
}

#[test]
fn the_definition_of_networks_is_compatible_with_the_published_one() {
    let all = crds::definitions();
    let definition = &all[0];
    assert_eq!(definition.metadata.name.as_deref(), Some("network-attachment-definitions.k8s.cni.cncf.io"));
    let (spec, names) = (&definition.spec, &definition.spec.names);
    assert_eq!((spec.group.as_str(), spec.scope.as_str()), ("k8s.cni.cncf.io", "Namespaced"));
    assert_eq!(names.kind, "NetworkAttachmentDefinition");
    assert_eq!(names.singular.as_deref(), Some("network-attachment-definition"));
    assert_eq!(names.short_names.as_deref(), Some(&["net-attach-def".to_owned(), "nad".to_owned()][..]));
    let [version] = &spec.versions[..] else { panic!("one version") };
    assert_eq!((version.name.as_str(), version.served, version.storage), ("v1", true, true));
    let root = version.schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
    let spec = property(root, "spec");
    let config = property(spec, "config");
    assert_eq!(config.type_.as_deref(), Some("string"));
    for schema in [root, spec, config] {
        assert_eq!(schema.required.clone().unwrap_or_default(), [""; 0], "nothing is required");
        assert_eq!(schema.nullable, None, "the published definition refuses null");
    }
}

#[test]
fn what_a_report_may_leave_out_is_taken_away_as_a_whole() {
    let all = crds::definitions();
    let definition = all.iter().find(|one| one.spec.names.kind == "NodeReport").unwrap();
    let root = definition.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
    let report = property(root, "report").properties.as_ref().unwrap();
    let objects = report.iter().filter(|(_, one)| one.type_.as_deref() == Some("object"));
    // A default is put in the place of what is left out, so nothing of `null` stays.
    for (name, object) in objects.filter(|(_, one)| one.default.is_none()) {
        let atomic = object.x_kubernetes_map_type.as_deref() == Some("atomic");
        assert!(atomic, "{name}: an API server of 1.20 leaves null of it, and refuses that");
    }
}
