//! The rules of the workspace: which package may depend on which, what never reaches the plugin, and how big it may
//! get. docs/architecture.md draws the arrows.

#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of a test may fail as loudly as the test.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

/// A package, and those that it depends on. It may also use what lies further along its arrows.
const ARROWS: &[(&str, &[&str])] = &[
    ("meta-cni", &["store"]),
    ("store", &["cni"]),
    ("cni", &[]),
    ("operator", &["store", "crds"]),
    ("crds", &[]),
    ("e2e", &["cni", "store", "crds"]),
];

/// Packages that run on the ADD path.
const ON_THE_ADD_PATH: &[&str] = &["meta-cni", "store", "cni"];

/// How the names of crates begin that have no place there: API clients, async runtimes, TLS.
const FORBIDDEN: &[&str] = &[
    "async-",
    "futures",
    "h2",
    "http",
    "hyper",
    "k8s-openapi",
    "kube",
    "native-tls",
    "openssl",
    "reqwest",
    "ring",
    "rustls",
    "tokio",
    "tonic",
    "tower",
];

/// How many crates `meta-cni` may be made of, macros and our own included.
const MOST_CRATES: usize = 32;

/// How big the static executable may be.
const MOST_BYTES: usize = 4 << 20;

fn cargo(args: &[&str]) -> String {
    let output =
        Command::new(env!("CARGO")).args(args).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(output.status.success(), "cargo {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The packages of the workspace, each with those of the workspace that it names in its Cargo.toml.
fn packages() -> BTreeMap<String, BTreeSet<String>> {
    let metadata: Value =
        serde_json::from_str(&cargo(&["metadata", "--no-deps", "--format-version", "1"])).unwrap();
    let name = |value: &Value| value["name"].as_str().unwrap().to_owned();
    let packages = metadata["packages"].as_array().unwrap();
    let all: BTreeSet<String> = packages.iter().map(name).collect();
    let ours = |package: &Value| -> BTreeSet<String> {
        let named = package["dependencies"].as_array().unwrap().iter().map(name);
        named.filter(|dependency| all.contains(dependency)).collect()
    };
    packages.iter().map(|package| (name(package), ours(package))).collect()
}

/// Everything along the arrows of a package.
fn reachable(package: &str) -> BTreeSet<String> {
    let arrows = ARROWS.iter().find(|(name, _)| *name == package);
    let (_, next) = arrows.unwrap_or_else(|| panic!("{package} is new: give it its place in ARROWS"));
    next.iter().flat_map(|next| reachable(next).into_iter().chain([(*next).to_owned()])).collect()
}

/// The names of all crates that a package is built from.
fn crates(package: &str) -> BTreeSet<String> {
    let tree = cargo(&["tree", "-p", package, "-e", "normal,build", "--prefix", "none", "--format", "{p}"]);
    let crates = tree.lines().map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" "));
    crates.filter(|name| !name.is_empty()).collect()
}

#[test]
fn dependencies_follow_the_arrows() {
    for (package, dependencies) in packages() {
        let allowed = reachable(&package);
        for dependency in dependencies {
            assert!(allowed.contains(&dependency), "{package} must not depend on {dependency}");
        }
    }
}

#[test]
fn no_api_client_async_runtime_or_tls_is_on_the_add_path() {
    for package in ON_THE_ADD_PATH {
        let crates = crates(package);
        let forbidden: Vec<_> =
            crates.iter().filter(|name| FORBIDDEN.iter().any(|start| name.starts_with(start))).collect();
        assert_eq!(
            forbidden, [""; 0],
            "{package} must not depend on these; cargo tree -p {package} -i tells why"
        );
    }
}

#[test]
fn the_plugin_is_made_of_few_crates() {
    let crates = crates("meta-cni");
    assert!(crates.len() <= MOST_CRATES, "{} crates, {MOST_CRATES} are allowed: {crates:#?}", crates.len());
}

#[test]
#[ignore = "needs the static executable; make lint builds it and runs this"]
fn the_plugin_is_static_and_small() {
    let path: PathBuf = std::env::var_os("BRAID_META_CNI").unwrap().into();
    let program = std::fs::read(&path).unwrap();
    let size = program.len();
    assert!(size <= MOST_BYTES, "{}: {size} bytes, {MOST_BYTES} are allowed", path.display());
    assert!(!names_a_loader(&program), "{} is not static: it names a dynamic loader", path.display());
}

/// Whether a 64-bit little-endian ELF executable has a program header PT_INTERP.
fn names_a_loader(program: &[u8]) -> bool {
    const PT_INTERP: u64 = 3;
    assert!(program.starts_with(b"\x7fELF\x02\x01"), "not an ELF executable of 64 bits");
    let number = |at: usize, bytes: usize| -> usize {
        let field = program.get(at..at + bytes).unwrap();
        field.iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte))
    };
    let (table, size, count) = (number(0x20, 8), number(0x36, 2), number(0x38, 2));
    (0..count).any(|index| number(table + index * size, 4) as u64 == PT_INTERP)
}

#[test]
fn dynamic_executables_are_told_from_static_ones() {
    // The test itself is dynamic; cut off behind its program headers, and with none, it is not.
    let mut own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    assert!(names_a_loader(&own));
    own[0x38..0x3a].fill(0);
    assert!(!names_a_loader(&own));
}

/// The sources of a directory and below, without their tests.
fn sources(dir: PathBuf) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(path));
        } else if path.extension().is_some_and(|extension| extension == "rs")
            && path.file_stem().is_some_and(|stem| stem != "tests")
        {
            let text = std::fs::read_to_string(&path).unwrap();
            found.push((path, text.split("\nmod tests {").next().unwrap().to_owned()));
        }
    }
    found
}

/// What a tenant writes reaches plugins by environment and stdin alone: there is one place where another program is
/// started, it is a plugin, and it gets no arguments. `meta-cni` starts itself for unfinished work, with one argument that
/// nobody chooses. `braid` starts none.
#[test]
fn nothing_is_started_but_plugins_and_they_get_no_arguments() {
    let mut starting = Vec::new();
    for package in ["meta-cni/src", "meta-cni/cni/src", "meta-cni/store/src", "operator/src", "crds/src"] {
        for (path, text) in sources(e2e::source(package)) {
            for word in ["Command::new", "posix_spawn", "execve", "/bin/sh"] {
                if text.contains(word) {
                    starting.push((path.clone(), word, text.clone()));
                }
            }
        }
    }
    starting.sort_by(|one, other| other.0.cmp(&one.0));
    let [(itself, "Command::new", own), (path, "Command::new", text)] = starting.as_slice() else {
        panic!("{:?}", starting.iter().map(|(path, word, _)| (path, word)).collect::<Vec<_>>())
    };
    assert!(itself.ends_with("meta-cni/src/background.rs"), "{}", itself.display());
    assert_eq!(own.matches("Command::new(\"/proc/self/exe\")").count(), 1);
    assert_eq!((own.matches("child.arg(ARGUMENT)").count(), own.matches(".arg").count()), (1, 1));
    assert!(path.ends_with("meta-cni/cni/src/exec/process.rs"), "{}", path.display());
    assert_eq!(text.matches("Command::new(executable)").count(), 1);
    assert!(!text.contains(".arg(") && !text.contains(".args("), "a plugin gets no arguments");
    assert!(text.contains("env_clear()"), "a plugin gets no environment but the specification's");
}
