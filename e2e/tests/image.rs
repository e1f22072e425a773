//! Braid's image: what is in it, that two builds give the same bytes, and that it runs with nothing but itself.

// Helpers of tests fail as tests do.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::podman::Podman;
use e2e::program::output;
use e2e::requirement::{Need, met};
use e2e::{artefacts, source};
use serde_json::{Value, json};
use tar::Archive;

const TAG: &str = "braid:test";
const NEEDS: &[Need] = &[Need::StaticPrograms, Need::Program("buildah", "buildah")];

/// The executables that an image is made of.
#[derive(Clone)]
struct Programs {
    braid: PathBuf,
    meta_cni: PathBuf,
}

impl Programs {
    fn built() -> Self {
        Self { braid: artefacts::braid().unwrap(), meta_cni: artefacts::meta_cni().unwrap() }
    }

    /// The same bytes in other places, with other times; readable for their owner alone.
    fn copied(&self, dir: &Path) -> Self {
        let copy = |from: &Path, to: &str| {
            let to = dir.join(to);
            fs::write(&to, fs::read(from).unwrap()).unwrap();
            output(Command::new("chmod").arg("600").arg(&to)).unwrap();
            to
        };
        Self { braid: copy(&self.braid, "first"), meta_cni: copy(&self.meta_cni, "second") }
    }

    fn pack(&self, out: &Path) -> anyhow::Result<String> {
        let mut script = Command::new(source("scripts/image"));
        script.env("BRAID_OPERATOR", &self.braid).env("BRAID_META_CNI", &self.meta_cni);
        script.env("BRAID_IMAGE_BUILDER", "buildah");
        output(script.args(["--tag", TAG, "--out"]).arg(out))
    }
}

/// The files of an archive, each with its mode and content.
fn files(archive: impl Read) -> BTreeMap<String, (u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    for entry in Archive::new(archive).entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().to_str().unwrap().to_owned();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        let replaced = found.insert(name.clone(), (entry.header().mode().unwrap(), content));
        assert!(replaced.is_none(), "{name} is there twice");
    }
    found
}

/// The only image of a docker-archive: its names, its configuration, and its layers.
fn image(path: &Path) -> (Value, Value, Vec<Vec<u8>>) {
    let files = files(File::open(path).unwrap());
    let manifest: Value = serde_json::from_slice(&files["manifest.json"].1).unwrap();
    let [manifest] = manifest.as_array().unwrap().as_slice() else { panic!("{manifest}") };
    let file = |name: &Value| files[name.as_str().unwrap()].1.clone();
    let layers = manifest["Layers"].as_array().unwrap().iter().map(file).collect();
    (manifest["RepoTags"].clone(), serde_json::from_slice(&file(&manifest["Config"])).unwrap(), layers)
}

#[test]
fn the_image_holds_the_two_executables_and_what_they_are_made_of_and_says_what_it_is() {
    if !met(NEEDS) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (built, out) = (Programs::built(), dir.path().join("image.tar"));
    built.pack(&out).unwrap();
    let (tags, config, layers) = image(&out);
    let [tag] = tags.as_array().unwrap().as_slice() else { panic!("{tags}") };
    // What Docker's tools take a name without a host for, and containerd with them.
    assert!(tag.as_str().unwrap().ends_with(&format!("/library/{TAG}")), "{tag}");
    let [layer] = layers.as_slice() else { panic!("{} layers", layers.len()) };
    let files = files(layer.as_slice());
    assert_eq!(files.keys().collect::<Vec<_>>(), ["braid", "meta-cni", "sbom.cdx.json"]);
    let (mode, bill) = &files["sbom.cdx.json"];
    assert_eq!(mode & 0o7777, 0o644);
    assert!(
        *bill == fs::read(dir.path().join("image.cdx.json")).unwrap(),
        "the copy beside the image differs"
    );
    is_the_bill_of(&serde_json::from_slice(bill).unwrap(), &built);
    for (name, program) in [("braid", &built.braid), ("meta-cni", &built.meta_cni)] {
        let (mode, content) = &files[name];
        assert_eq!(mode & 0o7777, 0o755, "{name}");
        assert!(*content == fs::read(program).unwrap(), "{name} is not {}", program.display());
    }
    assert_eq!(config["config"]["Entrypoint"], json!(["/braid"]));
    assert_eq!(config["config"]["User"], "65532:65532");
    assert_eq!(config["config"]["Cmd"], Value::Null);
    let labels = &config["config"]["Labels"];
    for key in ["title", "description", "licenses", "version", "revision", "created", "authors", "vendor"] {
        let label = labels[format!("org.opencontainers.image.{key}")].as_str().unwrap_or_default();
        assert!(!label.is_empty(), "{key} is missing: {labels}");
    }
    assert_eq!(labels["org.opencontainers.image.version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(labels["org.opencontainers.image.created"], config["created"]);
}

/// Compares a bill of materials with Cargo.lock, with the manifests of the programs, and with the programs.
fn is_the_bill_of(bill: &Value, programs: &Programs) {
    assert_eq!((&bill["bomFormat"], &bill["specVersion"]), (&json!("CycloneDX"), &json!("1.5")));
    let components = bill["components"].as_array().unwrap();
    let crates: BTreeMap<_, _> = components
        .iter()
        .filter(|one| one["purl"].as_str().is_some_and(|purl| purl.starts_with("pkg:cargo/")))
        .map(|one| (one["bom-ref"].as_str().unwrap().to_owned(), one))
        .collect();
    let locked = locked();
    for (reference, one) in &crates {
        let checksum = locked.get(reference).unwrap_or_else(|| panic!("{reference} is not in Cargo.lock"));
        assert_eq!(one["hashes"][0]["content"].as_str(), checksum.as_deref(), "{reference}");
        assert_eq!(one["purl"], format!("pkg:cargo/{reference}"));
        assert!(one["licenses"][0]["expression"].is_string(), "{reference}");
    }
    let has = |name: &str| crates.keys().any(|reference| reference.split('@').next() == Some(name));
    for name in ["operator", "meta-cni"] {
        for dependency in linked_by(name) {
            assert!(has(&dependency), "{name} is linked with {dependency}, and it is not listed");
        }
    }
    for name in ["e2e", "proptest", "serde_derive", "windows-sys"] {
        assert!(!has(name), "{name} is in no executable");
    }
    for name in ["rust-std", "braid", "meta-cni"] {
        assert!(components.iter().any(|one| one["name"] == name), "{name} is not listed");
    }
    for (name, program) in [("/braid", &programs.braid), ("/meta-cni", &programs.meta_cni)] {
        let one = components.iter().find(|one| one["bom-ref"] == name).unwrap();
        let sum = output(Command::new("sha256sum").arg(program)).unwrap();
        assert_eq!(one["hashes"][0]["content"].as_str(), sum.split(' ').next(), "{name}");
    }
}

/// Every package of Cargo.lock with its checksum: `name@version`.
fn locked() -> BTreeMap<String, Option<String>> {
    let text = fs::read_to_string(source("Cargo.lock")).unwrap();
    let value = |package: &str, key: &str| {
        let line = package.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "));
        line.map(|text| text.trim_matches('"').to_owned())
    };
    let packages = text.split("[[package]]").skip(1);
    packages
        .map(|one| {
            let id = format!("{}@{}", value(one, "name").unwrap(), value(one, "version").unwrap());
            (id, value(one, "checksum"))
        })
        .collect()
}

/// What a package's manifest says that it is linked with, but for macros.
fn linked_by(name: &str) -> Vec<String> {
    let manifest = fs::read_to_string(source(name).join("Cargo.toml")).unwrap();
    let section = manifest.split("\n[").find_map(|section| section.strip_prefix("dependencies]"));
    let lines = section.unwrap().lines().filter(|line| !line.starts_with('#'));
    let names: Vec<_> = lines
        .filter_map(|line| Some(line.split(['.', ' ']).next()?.to_owned()))
        .filter(|name| !name.is_empty())
        .collect();
    assert!(names.len() > 4, "{names:?}");
    names
}

#[test]
fn two_builds_of_the_same_executables_are_the_same_bytes() {
    if !met(NEEDS) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (dir.path().join("one.tar"), dir.path().join("two.tar"));
    Programs::built().pack(&one).unwrap();
    Programs::built().copied(dir.path()).pack(&two).unwrap();
    assert!(fs::read(one).unwrap() == fs::read(two).unwrap(), "the archives differ");
}

#[test]
fn the_image_is_for_the_architecture_of_its_executables() {
    if !met(NEEDS) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (programs, out) = (Programs::built().copied(dir.path()), dir.path().join("image.tar"));
    for (machine, architecture) in [(0x3e, "amd64"), (0xb7, "arm64")] {
        for program in [&programs.braid, &programs.meta_cni] {
            // The field e_machine: what runs is another matter.
            let mut file = File::options().write(true).open(program).unwrap();
            file.seek(SeekFrom::Start(18)).unwrap();
            file.write_all(&[machine, 0]).unwrap();
        }
        programs.pack(&out).unwrap();
        assert_eq!(image(&out).1["architecture"], architecture);
    }
    let mixed = Programs { meta_cni: artefacts::meta_cni().unwrap(), ..programs };
    if cfg!(target_arch = "x86_64") {
        let error = format!("{:#}", mixed.pack(&out).unwrap_err());
        assert!(error.contains("different architectures"), "{error}");
    }
}

#[test]
fn what_is_no_static_executable_is_refused() {
    if !met(NEEDS) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    // The test itself is dynamic.
    for (program, part) in
        [(std::env::current_exe().unwrap(), "is not static"), ("/nowhere".into(), "there is no")]
    {
        let programs = Programs { braid: program, ..Programs::built() };
        let error = format!("{:#}", programs.pack(&dir.path().join("image.tar")).unwrap_err());
        assert!(error.contains(part) && error.contains("make build"), "{error}");
    }
}

#[test]
fn both_executables_run_in_it_without_rights_and_without_anything_to_write_to() {
    if !met(&[NEEDS, &[Need::Root, Need::Podman]].concat()) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("image.tar");
    Programs::built().pack(&out).unwrap();
    // Without a network: any directories do.
    let podman = Podman::new(&[dir.path()], dir.path()).unwrap();
    podman.load(&out).unwrap();
    let bare = ["--read-only", "--read-only-tmpfs=false", "--cap-drop", "all", "--network", "none"];
    let version = podman.run_to_the_end(TAG, &bare, &["--version"]).unwrap();
    assert_eq!(version, concat!("braid ", env!("CARGO_PKG_VERSION")));
    let plugin = [&bare[..], &["--env", "CNI_COMMAND=VERSION", "--entrypoint", "/meta-cni"]].concat();
    let versions = podman.run_to_the_end(TAG, &plugin, &[]).unwrap();
    let versions: Value = serde_json::from_str(&versions).unwrap();
    assert!(versions["supportedVersions"].as_array().unwrap().contains(&json!("1.1.0")), "{versions}");
}

#[test]
fn the_index_has_an_image_for_each_architecture_and_two_builds_are_the_same_bytes() {
    if !met(NEEDS) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let programs = Programs::built().copied(dir.path());
    let archives = [(0x3e, "amd64"), (0xb7, "arm64")].map(|(machine, architecture)| {
        for program in [&programs.braid, &programs.meta_cni] {
            let mut file = File::options().write(true).open(program).unwrap();
            file.seek(SeekFrom::Start(18)).unwrap();
            file.write_all(&[machine, 0]).unwrap();
        }
        let out = dir.path().join(format!("{architecture}.tar"));
        programs.pack(&out).unwrap();
        out
    });
    let [one, two] = ["one.tar", "two.tar"].map(|name| {
        let out = dir.path().join(name);
        let mut script = Command::new(source("scripts/image-index"));
        output(script.args(["--tag", TAG, "--out"]).arg(&out).args(&archives)).unwrap();
        out
    });
    assert!(fs::read(&one).unwrap() == fs::read(two).unwrap(), "the archives differ");
    let index = index(&one);
    let platforms: Vec<_> =
        index["manifests"].as_array().unwrap().iter().map(|image| image["platform"].clone()).collect();
    let linux = |architecture: &str| json!({ "architecture": architecture, "os": "linux" });
    assert_eq!(platforms, [linux("amd64"), linux("arm64")]);
}

/// The image index that an oci-archive names.
fn index(archive: &Path) -> Value {
    let files = files(File::open(archive).unwrap());
    let named: Value = serde_json::from_slice(&files["index.json"].1).unwrap();
    let named = &named["manifests"][0];
    assert_eq!(named["mediaType"], "application/vnd.oci.image.index.v1+json");
    assert_eq!(named["annotations"]["org.opencontainers.image.ref.name"], TAG);
    let digest = named["digest"].as_str().unwrap().replace(':', "/");
    serde_json::from_slice(&files[&format!("blobs/{digest}")].1).unwrap()
}
