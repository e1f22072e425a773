//! The interface of the node on which a network is built. Plugins of the reference set look for it before anything
//! else, at DEL too: without it their ADD says only "Link not found", and what was never attached cannot be undone and
//! would be on record for ever. So it is looked for before the plugin is called.

use cni::{CniError, Code, NetworkList, reference};

use crate::netlink::{Kernel, is_no_interface};

/// Why a network cannot be attached on this node: the interface that it is built on is not there.
pub(crate) fn missing(list: &NetworkList) -> Option<CniError> {
    let (plugin, master) = named(list)?;
    // Any other failure is the plugin's to meet: it sees more than a name.
    let index = Kernel::connect().and_then(|mut kernel| kernel.index(master));
    index.is_err_and(|error| is_no_interface(&error)).then(|| {
        let msg = format!(
            "plugin {plugin}: this node has no interface {master:?}, which \"master\" names; create it or correct \
             the \"master\""
        );
        CniError::new(Code::TRY_AGAIN_LATER, msg)
    })
}

/// The first plugin and the interface of the node that it builds on. Those behind it may build on what it makes; the
/// pod's own interfaces (`linkInContainer`) are made by networks before it.
fn named(list: &NetworkList) -> Option<(&str, &str)> {
    let first = list.plugins.first()?;
    let plugin = first.plugin().as_str();
    // As Go reads keys.
    let value = |wanted: &str| {
        first.object().iter().find(|(key, _)| key.eq_ignore_ascii_case(wanted)).map(|(_, value)| value)
    };
    let in_pod = value("linkInContainer").and_then(serde_json::Value::as_bool).unwrap_or_default();
    let master = value("master").and_then(serde_json::Value::as_str).filter(|name| !name.is_empty());
    master.filter(|_| reference::builds_on_master(plugin) && !in_pod).map(|master| (plugin, master))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::namespace;
    use crate::netlink::tests::Namespace;

    fn list(plugins: Value) -> NetworkList {
        let list = json!({"cniVersion": "1.0.0", "name": "n", "plugins": plugins});
        NetworkList::from_json(list, None).unwrap()
    }

    #[test]
    fn the_interface_of_the_node_is_that_of_the_first_plugin() {
        for (plugins, expected) in [
            (json!([{"type": "macvlan", "master": "eth1"}]), Some(("macvlan", "eth1"))),
            (json!([{"type": "vlan", "Master": "eth1", "vlanId": 7}]), Some(("vlan", "eth1"))),
            (json!([{"type": "ipvlan", "master": "eth1"}, {"type": "tuning"}]), Some(("ipvlan", "eth1"))),
            (json!([{"type": "macvlan"}]), None),
            (json!([{"type": "macvlan", "master": ""}]), None),
            (json!([{"type": "macvlan", "master": 7}]), None),
            (json!([{"type": "macvlan", "master": "net1", "linkInContainer": true}]), None),
            (json!([{"type": "bridge", "master": "eth1"}]), None),
            (json!([{"type": "bridge"}, {"type": "macvlan", "master": "eth1"}]), None),
        ] {
            assert_eq!(named(&list(plugins.clone())), expected, "{plugins}");
        }
    }

    #[test]
    fn an_alternative_name_of_an_interface_of_the_node_is_a_name() {
        let Some(namespace) = Namespace::new() else { return };
        namespace.ip("link property add dev eth0 altname storage-uplink-port0");
        let missing = |master: &str| {
            let list = list(json!([{"type": "macvlan", "master": master}]));
            namespace::within(&namespace.path(), || missing(&list)).unwrap()
        };
        assert_eq!(missing("storage-uplink-port0"), None);
        assert_eq!(missing("storage-uplink-port1").map(|error| error.code), Some(Code::TRY_AGAIN_LATER));
    }

    #[test]
    fn what_is_missing_is_named_and_what_is_there_is_not() {
        assert_eq!(missing(&list(json!([{"type": "macvlan", "master": "lo"}]))), None);
        let told = missing(&list(json!([{"type": "macvlan", "master": "storage7"}]))).unwrap();
        assert_eq!(told.code, Code::TRY_AGAIN_LATER);
        assert_eq!(
            told.msg,
            "plugin macvlan: this node has no interface \"storage7\", which \"master\" names; create it or correct the \"master\""
        );
    }
}
