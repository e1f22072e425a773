//! Keys of annotations that are nearly those of networks, and mean nothing to anybody.

use cni::npwg::{DEFAULT_NETWORK, NETWORK_STATUS, NETWORKS, RESOURCE_NAME};
use cni::spelling;

/// Keys that are read on pods and on pod templates.
pub const OF_PODS: &[&str] = &[NETWORKS, DEFAULT_NETWORK];
/// Keys that are read on networks.
pub const OF_NETWORKS: &[&str] = &[RESOURCE_NAME];

/// Keys that look like those above and have a meaning of their own; the last is the status of earlier versions of Multus.
const OTHERS: [&str; 5] =
    [NETWORKS, DEFAULT_NETWORK, RESOURCE_NAME, NETWORK_STATUS, "k8s.v1.cni.cncf.io/networks-status"];

/// What the prefixes of such keys end with, where people shorten or mix them up.
const DOMAINS: [&str; 2] = ["cni.cncf.io", "multus-cni.io"];

/// The warning about a key that is nearly one of `read`, or has its name behind a prefix that is nearly right.
pub fn misspelt(key: &str, read: &'static [&'static str]) -> Option<String> {
    let meant = meant(key, read)?;
    Some(format!("annotation {key:?} is not known and has no effect; did you mean {meant:?}?"))
}

fn meant(key: &str, read: &'static [&'static str]) -> Option<&'static str> {
    if OTHERS.contains(&key) {
        return None;
    }
    spelling::nearest(key, read.iter().copied()).or_else(|| {
        let (prefix, name) = key.split_once('/')?;
        let known = DOMAINS.iter().any(|domain| prefix.ends_with(domain));
        read.iter()
            .copied()
            .find(|meant| known && meant.split_once('/').is_some_and(|(_, meant)| meant == name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_nearly_one_of_ours_is_told_and_others_are_not() {
        for (key, expected) in [
            ("k8s.v1.cni.cncf.io/network", Some(NETWORKS)),
            ("k8s.v1.cni.cncf.io/Networks", Some(NETWORKS)),
            ("k8s.v1.cni.cnfc.io/networks", Some(NETWORKS)),
            ("k8s.cni.cncf.io/networks", Some(NETWORKS)),
            ("v1.multus-cni.io/default-networks", Some(DEFAULT_NETWORK)),
            ("k8s.v1.cni.cncf.io/default-network", Some(DEFAULT_NETWORK)),
            ("multus-cni.io/default-network", Some(DEFAULT_NETWORK)),
            (NETWORKS, None),
            (DEFAULT_NETWORK, None),
            (RESOURCE_NAME, None),
            (NETWORK_STATUS, None),
            ("k8s.v1.cni.cncf.io/networks-status", None),
            ("k8s.v1.cni.cncf.io/policy-for", None),
            ("example.com/networks", None),
            ("networks", None),
            ("", None),
        ] {
            assert_eq!(meant(key, OF_PODS), expected, "{key}");
        }
        assert_eq!(meant("k8s.v1.cni.cncf.io/resourcename", OF_NETWORKS), Some(RESOURCE_NAME));
        assert_eq!(meant("k8s.v1.cni.cncf.io/network", OF_NETWORKS), None);
    }
}
