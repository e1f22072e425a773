//! The executables that tests run: Braid's own, as cargo built them, and the reference plugins.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::program::{not_installed, on_path, output};
use crate::{packages, parts, source};

/// Where distributions put the reference plugins.
pub const REFERENCE_PLUGINS: [&str; 2] = ["/opt/cni/bin", "/usr/lib/cni"];

/// The plugin executable: that of `BRAID_META_CNI`, else the one beside the running program.
pub fn meta_cni() -> Result<PathBuf> {
    find("meta-cni", "BRAID_META_CNI")
}

/// The operator's executable: that of `BRAID_OPERATOR`, else the one beside the running program.
pub fn braid() -> Result<PathBuf> {
    find("braid", "BRAID_OPERATOR")
}

/// The operator's executable with the points at which it can be killed (`cni::point`). Only builds with debug assertions
/// have them, so it is the one beside the running program, whatever `BRAID_OPERATOR` says.
pub fn braid_with_points() -> Result<PathBuf> {
    let own = std::env::current_exe().context("finding the running program")?;
    let braid = beside(&own).into_iter().next().unwrap_or_default().join("braid");
    ensure!(braid.is_file(), "{} is not there: run `cargo build -p operator`", braid.display());
    Ok(braid)
}

/// Chooses the reference plugins: a directory, or [`NEWEST`].
const PLUGINS_VARIABLE: &str = "BRAID_CNI_PLUGINS";

/// The newest reference plugins that `scripts/runtimes` has unpacked.
const NEWEST: &str = "newest";

/// The directory of the reference plugins: that of `BRAID_CNI_PLUGINS`, else a distribution's.
pub fn reference_plugins() -> Option<PathBuf> {
    let dirs = match chosen_plugins() {
        None => REFERENCE_PLUGINS.map(PathBuf::from).to_vec(),
        Some(choice) if choice == NEWEST => packages::newest(parts::PLUGINS, |_| true).into_iter().collect(),
        Some(choice) => vec![PathBuf::from(choice)],
    };
    dirs.into_iter().find(|dir| dir.join("bridge").is_file())
}

/// Why there are no reference plugins.
pub(crate) fn missing_plugins() -> Option<String> {
    let has_them = reference_plugins().is_some();
    (!has_them).then(|| match chosen_plugins() {
        None => not_installed(parts::PLUGINS),
        Some(choice) if choice == NEWEST => packages::unavailable().unwrap_or_else(|| {
            "newer reference plugins are not unpacked here: scripts/runtimes does that".to_owned()
        }),
        Some(choice) => format!("{PLUGINS_VARIABLE} names {}, which has no bridge", choice.display()),
    })
}

/// Whether the missing plugins are those that `scripts/runtimes` could not fetch.
pub(crate) fn plugins_are_unavailable() -> bool {
    chosen_plugins().is_some_and(|choice| choice == NEWEST) && packages::unavailable().is_some()
}

fn chosen_plugins() -> Option<OsString> {
    std::env::var_os(PLUGINS_VARIABLE).filter(|choice| !choice.is_empty())
}

/// Rust's target for arm64.
const ARM64: &str = "aarch64-unknown-linux-gnu";

/// What runs executables for arm64 here.
pub const QEMU: &str = "qemu-aarch64-static";

/// An executable of Braid for arm64, where `make image` puts it.
pub fn for_arm64(name: &str) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| source("target"), PathBuf::from);
    target.join(ARM64).join("release").join(name)
}

/// What is missing to run executables for arm64.
pub(crate) fn missing_for_arm64() -> Option<String> {
    let unbuilt = ["meta-cni", "braid"].into_iter().map(for_arm64).find(|program| !program.is_file());
    unbuilt
        .map(|program| format!("{} is not there: make image builds it", program.display()))
        .or_else(|| (!on_path(QEMU)).then(|| not_installed("qemu-user-static")))
}

/// Whether Rust's standard library for arm64 is installed.
pub(crate) fn can_be_built_for_arm64() -> bool {
    let sysroot = output(Command::new("rustc").args(["--print", "sysroot"]));
    sysroot
        .is_ok_and(|sysroot| Path::new(sysroot.trim()).join("lib/rustlib").join(ARM64).join("lib").is_dir())
}

/// Which of Braid's executables is not static, for people: `make test` names static ones.
pub fn not_static() -> Option<String> {
    let problem = |found: Result<PathBuf>| match found.and_then(|path| Ok((names_a_loader(&path)?, path))) {
        Ok((false, _)) => None,
        Ok((true, path)) => Some(format!("{} is not static: run `make build`", path.display())),
        Err(error) => Some(format!("{error:#}")),
    };
    problem(braid()).or_else(|| problem(meta_cni()))
}

/// A dynamic executable names its loader (`/lib64/ld-linux-x86-64.so.2` and the like) near its start.
fn names_a_loader(program: &Path) -> Result<bool> {
    let mut start = Vec::new();
    let file = File::open(program).with_context(|| format!("opening {}", program.display()))?;
    let read = file.take(4096).read_to_end(&mut start);
    read.with_context(|| format!("reading {}", program.display()))?;
    Ok(start.windows(4).any(|four| four == b"/ld-"))
}

fn find(name: &str, variable: &str) -> Result<PathBuf> {
    if let Some(path) = std::env::var_os(variable).filter(|path| !path.is_empty()) {
        let path = PathBuf::from(path);
        ensure!(path.is_file(), "{variable} names {}, which is no file", path.display());
        return Ok(path);
    }
    let own = std::env::current_exe().context("finding the running program")?;
    let candidates = beside(&own);
    candidates.iter().map(|dir| dir.join(name)).find(|path| path.is_file()).with_context(|| {
        let dirs: Vec<_> = candidates.iter().map(|dir| dir.display().to_string()).collect();
        format!("{name} is in none of {}: run `make build`, or name it with {variable}", dirs.join(", "))
    })
}

/// The directories in which cargo may have put an executable, for a program that cargo built too:
/// `target/<profile>`, where its profile comes first, and `target/<triple>/release`.
fn beside(program: &Path) -> Vec<PathBuf> {
    let mut profile = program.parent().unwrap_or(Path::new("/"));
    if [Some(OsStr::new("deps")), Some(OsStr::new("examples"))].contains(&profile.file_name()) {
        profile = profile.parent().unwrap_or(profile);
    }
    let mut found = vec![profile.to_owned()];
    // Two levels: a program that was built for a named target lies in target/<triple>/<profile>.
    for target in profile.ancestors().skip(1).take(2) {
        found.push(target.join("release"));
        let triples = target.read_dir().into_iter().flatten().flatten();
        found.extend(triples.map(|triple| triple.path().join("release")).filter(|dir| dir.is_dir()));
        if target.join("CACHEDIR.TAG").exists() {
            break;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executables_are_sought_in_the_profile_of_the_running_program_then_in_release() {
        let target = tempfile::tempdir().unwrap();
        std::fs::write(target.path().join("CACHEDIR.TAG"), "").unwrap();
        let triple = target.path().join("x86_64-unknown-linux-gnu/release");
        std::fs::create_dir_all(&triple).unwrap();
        let (debug, release) = (target.path().join("debug"), target.path().join("release"));
        let expected = [debug.clone(), release.clone(), triple.clone()];
        assert_eq!(beside(&debug.join("deps/real_plugins-1a2b")), expected);
        assert_eq!(beside(&debug.join("demo")), expected);
        let of_triple = beside(&triple.join("bench"));
        assert_eq!(of_triple[0], triple);
        assert!(of_triple.contains(&release));
    }
}
