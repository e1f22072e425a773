//! Which configuration the runtime takes: the first of its directory by name. Pure.

use std::path::{Path, PathBuf};

use super::configuration::FILE;

/// The configuration that the runtime takes instead of ours, of those in its directory. A broken one counts:
/// containerd fails on it and never comes to ours.
pub(super) fn taken_instead(files: &[PathBuf]) -> Option<&Path> {
    let first = files.iter().min_by_key(|path| path.file_name())?;
    (first.file_name()?.to_str() < Some(FILE)).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_by_name_is_taken() {
        for (files, taken) in [
            (&[][..], None),
            (&["00-braid.conflist"], None),
            (&["10-flannel.conflist"], None),
            (&["00-braid.conflist", "00-multus.conf"], None),
            (&["00-multus.conflist", "99-x.conf"], None),
            (&["00-aaa.conf", "00-braid.conflist"], Some("00-aaa.conf")),
            (&["00-braid.conf", "00-braid.conflist"], Some("00-braid.conf")),
            (&["0-x.json"], Some("0-x.json")),
            (&["00-Multus.conf"], Some("00-Multus.conf")),
        ] {
            let paths: Vec<PathBuf> =
                files.iter().map(|file| Path::new("/etc/cni/net.d").join(file)).collect();
            let found = taken_instead(&paths).and_then(|path| path.file_name()?.to_str());
            assert_eq!(found, taken, "{files:?}");
        }
    }
}
