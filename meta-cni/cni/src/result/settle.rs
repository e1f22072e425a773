//! What plugins say of a pod's interfaces, made reliable.

use std::path::Path;

use super::{AddResult, Interface, IpConfig};
use crate::ids::IfName;

impl AddResult {
    /// The same result, in which the pod has an interface, only interfaces in the pod have a sandbox, and every
    /// address has the index of an interface.
    ///
    /// Plugins are not to be taken at their word: old ones (0.2.0) tell of no interface, AWS's gives the
    /// sandbox `0` to one that does not exist, Calico's gives the pod's namespace to the host's end and leaves
    /// out the pod's. So a sandbox counts only if it is `netns`, where that is known. An address without an
    /// index, or with one that leads nowhere, belongs to the interface `if_name`. Where that is needed and
    /// missing it is added, and takes over the hardware address of one that claims to be in the pod and has no
    /// address. If the pod would have no interface at all, all addresses belong to it.
    #[must_use]
    pub fn settled(&self, if_name: &IfName, netns: Option<&Path>) -> Self {
        let mut result = self.clone();
        let count = result.interfaces.len();
        for interface in &mut result.interfaces {
            let own = interface.name == if_name.as_str() && interface.is_in_pod();
            if !own && netns.is_some_and(|netns| Path::new(&interface.sandbox) != netns) {
                interface.sandbox.clear();
            }
        }
        let own = result.interfaces.iter().position(|i| i.is_in_pod() && i.name == if_name.as_str());
        let pod_is_empty = !result.interfaces.iter().any(Interface::is_in_pod);
        let is_lost = |ip: &IpConfig| pod_is_empty || ip.interface.is_none_or(|index| index >= count);
        if pod_is_empty || result.ips.iter().any(is_lost) {
            let own = own.unwrap_or_else(|| result.add_own(if_name, netns));
            result.ips.iter_mut().filter(|ip| is_lost(ip)).for_each(|ip| ip.interface = Some(own));
        }
        result
    }

    /// Adds the interface that was asked for; its index.
    fn add_own(&mut self, if_name: &IfName, netns: Option<&Path>) -> usize {
        let with_address: Vec<usize> = self.ips.iter().filter_map(|ip| ip.interface).collect();
        let mut own = Interface {
            name: if_name.to_string(),
            sandbox: netns.map_or_else(|| "unknown".to_owned(), |path| path.display().to_string()),
            ..Interface::default()
        };
        for (index, claims) in self.interfaces.iter_mut().enumerate() {
            if claims.is_in_pod() && !with_address.contains(&index) {
                claims.sandbox.clear();
                own.mac.clone_from(&claims.mac);
                own.mtu = claims.mtu;
            }
        }
        self.interfaces.push(own);
        self.interfaces.len() - 1
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::SpecVersion;

    fn settled(json: Value) -> Vec<(String, bool, Vec<String>)> {
        let result = AddResult::parse(json, SpecVersion::V1_0_0).unwrap();
        let result = result.settled(&IfName::parse("eth0").unwrap(), Some(Path::new("/run/netns/p")));
        let addresses = |index| {
            let of = result.ips.iter().filter(move |ip| ip.interface == Some(index));
            of.map(|ip| ip.address.to_string()).collect()
        };
        let interfaces = result.interfaces.iter().enumerate();
        interfaces.map(|(index, i)| (i.name.clone(), i.is_in_pod(), addresses(index))).collect()
    }

    fn row(name: &str, in_pod: bool, addresses: &[&str]) -> (String, bool, Vec<String>) {
        (name.to_owned(), in_pod, addresses.iter().map(|&a| a.to_owned()).collect())
    }

    #[test]
    fn a_proper_result_stays_as_it_is() {
        let json = json!({"interfaces": [{"name": "br0"}, {"name": "eth0", "sandbox": "/run/netns/p"}],
                          "ips": [{"address": "10.0.0.2/24", "interface": 1}]});
        assert_eq!(settled(json), [row("br0", false, &[]), row("eth0", true, &["10.0.0.2/24"])]);
    }

    #[test]
    fn a_result_without_interfaces_gets_the_one_that_was_asked_for() {
        let json = json!({"cniVersion": "0.2.0", "ip4": {"ip": "10.0.0.2/24"}});
        assert_eq!(settled(json), [row("eth0", true, &["10.0.0.2/24"])]);
        assert_eq!(settled(json!({})), [row("eth0", true, &[])]);
    }

    #[test]
    fn calicos_host_end_is_not_in_the_pod() {
        let json = json!({"interfaces": [{"name": "cali1", "mac": "02:00:00:00:00:01", "sandbox": "/run/netns/p"}],
                          "ips": [{"address": "10.0.0.2/32"}]});
        assert_eq!(settled(json), [row("cali1", false, &[]), row("eth0", true, &["10.0.0.2/32"])]);
    }

    #[test]
    fn a_sandbox_that_is_not_the_pods_does_not_count() {
        let json = json!({"interfaces": [{"name": "eth0", "sandbox": "/run/netns/p"}, {"name": "dummy1", "sandbox": "0"}],
                          "ips": [{"address": "10.0.0.2/32", "interface": 0}]});
        assert_eq!(settled(json), [row("eth0", true, &["10.0.0.2/32"]), row("dummy1", false, &[])]);
    }

    #[test]
    fn an_interface_of_another_name_keeps_its_addresses() {
        let json = json!({"interfaces": [{"name": "ib0", "sandbox": "/run/netns/p"}],
                          "ips": [{"address": "10.0.0.2/24", "interface": 0}, {"address": "10.0.0.3/24", "interface": 9}]});
        assert_eq!(settled(json), [row("ib0", true, &["10.0.0.2/24"]), row("eth0", true, &["10.0.0.3/24"])]);
    }
}
