//! Can a network's plugins do what a pod asks? The NPWG standard wants a request to fail that none of them can
//! honour (4.1.2.1); Multus lets it pass in silence, and a pod comes up with another address than it asked for.
//!
//! A plugin that declares the capability can. `ips` and `mac` also reach plugins through CNI_ARGS, which
//! plugins do not declare: of the reference plugins it is known which read them ([`mod@reference`]); any other plugin is
//! trusted to, since manifests that work with Multus must go on working.

use cni::npwg::Selection;
use cni::{NetworkList, reference};

use super::PlanError;

pub(super) fn check(network: &str, list: &NetworkList, selection: &Selection) -> Result<(), PlanError> {
    for key in selection.capability_args().keys() {
        let honoured = list.declares(key)
            || match key.as_str() {
                "ips" => list.plugins.iter().any(reference::may_read_ip),
                "mac" => list.plugins.iter().any(reference::may_read_mac),
                _ => false,
            };
        if !honoured {
            let (key, advice) = words(key);
            return Err(PlanError::NotHonoured { network: network.to_owned(), key, advice });
        }
    }
    Ok(())
}

/// The annotation's key for a capability, and what the network's author can do.
fn words(capability: &str) -> (&'static str, &'static str) {
    match capability {
        "ips" => (
            "ips",
            "its configuration needs an IPAM plugin that takes requests, such as host-local or static",
        ),
        "mac" => ("mac", "add the tuning plugin with \"capabilities\": {\"mac\": true} to its configuration"),
        "bandwidth" => ("bandwidth", "add the bandwidth plugin with \"capabilities\": {\"bandwidth\": true}"),
        "portMappings" => {
            ("portMappings", "add the portmap plugin with \"capabilities\": {\"portMappings\": true}")
        }
        _ => (
            "infiniband-guid",
            "it needs a plugin that declares \"capabilities\": {\"infinibandGUID\": true}",
        ),
    }
}
