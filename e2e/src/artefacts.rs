//! The executables that tests run: Braid's own, as cargo built them, and the reference plugins.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

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

/// The directory of the reference plugins.
pub fn reference_plugins() -> Option<PathBuf> {
    REFERENCE_PLUGINS.iter().map(PathBuf::from).find(|dir| dir.join("bridge").is_file())
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
