//! Addresses that `host-local` has on file for a container.
//!
//! It keeps a file for each address below `<dataDir>/<network>`; the file's lines are the container's id and, since
//! plugins 0.8, the interface. So what a container holds can be named even where the plugin refuses to free it.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use cni::{ContainerId, IfName, NetworkName, PluginConfig, keys};
use serde_json::Value;

/// Where host-local keeps its files, unless `dataDir` says otherwise.
const DATA_DIR: &str = "/var/lib/cni/networks";

/// The files of addresses that are reserved for an interface of a container.
pub(super) fn held(
    network: &NetworkName,
    plugin: &PluginConfig,
    container: &ContainerId,
    if_name: &IfName,
) -> io::Result<Vec<PathBuf>> {
    let ipam = keys::get(plugin.object(), "ipam").and_then(Value::as_object);
    let own = ipam.and_then(|ipam| keys::get(ipam, "dataDir")).and_then(Value::as_str);
    let dir = Path::new(own.filter(|dir| !dir.is_empty()).unwrap_or(DATA_DIR)).join(network.as_str());
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut held = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let is_address = path.file_name().and_then(|name| name.to_str()).is_some_and(is_address);
        if is_address && is_of(&fs::read_to_string(&path)?, container, if_name) {
            held.push(path);
        }
    }
    held.sort_unstable();
    Ok(held)
}

/// Beside addresses there are `lock` and `last_reserved_ip.<n>`.
fn is_address(name: &str) -> bool {
    name.parse::<std::net::IpAddr>().is_ok()
}

fn is_of(text: &str, container: &ContainerId, if_name: &IfName) -> bool {
    let mut lines = text.lines().map(str::trim);
    lines.next() == Some(container.as_str()) && lines.next().is_none_or(|name| name == if_name.as_str())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn addresses_of_one_interface_of_one_container_are_found() {
        let temp = tempfile::tempdir().unwrap();
        let list = json!({"cniVersion": "1.0.0", "name": "n", "plugins": [
            {"type": "bridge", "ipam": {"type": "host-local", "datadir": temp.path()}}]});
        let list = cni::NetworkList::from_json(list, None).unwrap();
        let (id, if_name) = (ContainerId::parse("c1").unwrap(), IfName::parse("net1").unwrap());
        let find = || held(&list.name, &list.plugins[0], &id, &if_name).unwrap();
        assert!(find().is_empty(), "there is no directory");
        let dir = temp.path().join("n");
        fs::create_dir(&dir).unwrap();
        for (name, text) in [
            ("10.0.0.2", "c1\r\nnet1"),
            ("10.0.0.3", "c1\r\nnet2"),
            ("10.0.0.4", "c2\r\nnet1"),
            ("10.0.0.5", "c1"),
            ("fd00::2", "c1\nnet1\n"),
            ("last_reserved_ip.0", "c1"),
            ("lock", ""),
        ] {
            fs::write(dir.join(name), text).unwrap();
        }
        assert_eq!(find(), ["10.0.0.2", "10.0.0.5", "fd00::2"].map(|name| dir.join(name)));
    }
}
