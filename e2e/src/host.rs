//! A namespace that plays the host: bridges, masters, forwarding and port mappings of one test are in it.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Result;

use crate::netns::Namespace;

/// A throw-away host. What the test itself puts there is remembered, the rest is somebody's leftover.
#[derive(Debug)]
pub struct Host {
    /// Its network namespace.
    pub netns: Namespace,
    known: Mutex<BTreeSet<String>>,
}

impl Host {
    /// A host with nothing but its loopback.
    pub fn new() -> Result<Self> {
        let known = Mutex::new(BTreeSet::from(["lo".to_owned()]));
        Ok(Self { netns: Namespace::new("host")?, known })
    }

    fn known(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the host a pair of interfaces with a cable between them, both up.
    pub fn cable(&self, one: &str, other: &str) -> Result<()> {
        self.netns.ip(&format!("link add {one} type veth peer name {other}"))?;
        for name in [one, other] {
            self.netns.ip(&format!("link set {name} up"))?;
            self.known().insert(name.to_owned());
        }
        Ok(())
    }

    /// Gives the host a way out, as hosts have one: `uplink` with addresses and an IPv4 default route. Plugins of
    /// some primaries rely on it.
    pub fn uplink(&self) -> Result<()> {
        self.cable("uplink", "switch")?;
        self.netns.ip("address add 203.0.113.7/24 dev uplink")?;
        self.netns.ip("address add 2001:db8::7/64 dev uplink")?;
        self.netns.ip("route add default via 203.0.113.1").map(drop)
    }

    /// What is on the host that the test did not put there: interfaces, and rules for single containers. Bridges
    /// stay, as plugins leave them, and so do the chains that portmap makes once for all.
    pub fn leftovers(&self) -> Result<Vec<String>> {
        let bridges: BTreeSet<String> = names(&self.netns.ip_json("link show type bridge")?);
        let known = self.known();
        let links = self.netns.links()?;
        let links = links.iter().filter(|link| !known.contains(*link) && !bridges.contains(*link));
        let mut found: Vec<String> = links.map(|link| format!("interface {link}")).collect();
        found.extend(self.rules()?.into_iter().filter(|rule| is_of_a_container(rule)));
        let devices = |route: &serde_json::Value| route["dev"].as_str().unwrap_or_default().to_owned();
        for family in ["-4", "-6"] {
            let routes = self.netns.ip_json(&format!("{family} route show"))?;
            let others = routes.iter().filter(|route| !known.contains(&devices(route)));
            let others = others.filter(|route| !bridges.contains(&devices(route)));
            found.extend(others.map(|route| format!("route {route}")));
        }
        let policies = self.netns.ip_json("rule show")?;
        let own = [0, 32766, 32767];
        let others = policies.iter().filter(|rule| !own.iter().any(|priority| rule["priority"] == *priority));
        found.extend(others.map(|rule| format!("policy rule {rule}")));
        Ok(found)
    }

    /// Every line that `iptables-save` and `ip6tables-save` print.
    pub fn rules(&self) -> Result<Vec<String>> {
        let mut all = Vec::new();
        for program in ["iptables-save", "ip6tables-save"] {
            all.extend(self.netns.run(program, &[])?.lines().map(str::to_owned));
        }
        Ok(all)
    }
}

fn names(links: &[serde_json::Value]) -> BTreeSet<String> {
    links.iter().filter_map(|link| Some(link["ifname"].as_str()?.to_owned())).collect()
}

/// The chains of the reference plugins are `CNI-` and a digest, or `CNI-DN-` and a digest, for single containers;
/// `CNI-HOSTPORT-…` are there for all.
fn is_of_a_container(rule: &str) -> bool {
    rule.match_indices("CNI-").any(|(at, _)| !rule[at..].starts_with("CNI-HOSTPORT-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_for_all_containers_are_no_leftovers() {
        for (rule, expected) in [
            (":CNI-HOSTPORT-DNAT - [0:0]", false),
            ("-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT", false),
            ("-A CNI-HOSTPORT-DNAT -p tcp -m multiport --dports 80 -j CNI-DN-1a2b", true),
            ("-A POSTROUTING -s 10.1.0.2/32 -m comment --comment \"x\" -j CNI-1a2b", true),
            ("*nat", false),
        ] {
            assert_eq!(is_of_a_container(rule), expected, "{rule}");
        }
    }
}
