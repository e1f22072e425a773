//! What the runtime gets as the answer to ADD: the merged result, or the primary's alone.
//!
//! Runtimes make different things of the addresses of a result. containerd takes the pod's from the interface `eth0`;
//! CRI-O gives the kubelet all of them, whatever their interface, and the kubelet takes the first of each family: an
//! address of a secondary network would become the pod's, and Services would send traffic there. So a pod's result is
//! merged only for a runtime that is known to take it well. The others get the primary's: that is right for every
//! runtime, and network-status, which is written from the record, has everything in any case.

use std::fs;

use cni::AddResult;
use store::record::Record;
use store::settings::ResultForm;

use crate::call::Call;
use crate::{merge, routes};

/// Runtimes that take a pod's addresses from the interface that they named, by the name of their process. k3s, RKE2, k0s,
/// MicroK8s and Talos run containerd under this name too.
const BY_INTERFACE: [&str; 1] = ["containerd"];

/// The answer to ADD.
pub(crate) fn answer(call: &Call, record: &Record) -> AddResult {
    let netns = record.netns.as_deref();
    let caller = caller();
    if is_merged(call.settings.result, record.pod.is_some(), caller.as_deref()) {
        let mut merged = merge::merge(&record.attachments, netns);
        merged.routes.extend(routes::owned_elsewhere(&record.attachments));
        return merged;
    }
    let known = caller.as_deref().unwrap_or("not known");
    call.log.info("the runtime gets the primary's result alone", &[("runtime", &known)]);
    merge::merge(record.attachments.get(..1).unwrap_or_default(), netns)
}

/// Whether the result is the merged one. A container that is no pod has no kubelet that could take a wrong address.
fn is_merged(form: ResultForm, is_pod: bool, caller: Option<&str>) -> bool {
    match form {
        ResultForm::Merged => true,
        ResultForm::Primary => false,
        ResultForm::Auto => !is_pod || caller.is_some_and(|name| BY_INTERFACE.contains(&name)),
    }
}

/// The name of the process that runs this one; `None` where the kernel does not tell, as across PID namespaces.
fn caller() -> Option<String> {
    let parent = rustix::process::getppid()?;
    let name = fs::read_to_string(format!("/proc/{}/comm", parent.as_raw_nonzero())).ok()?;
    Some(name.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_runtime_that_is_known_to_go_by_interfaces_gets_a_pods_merged_result() {
        for (form, is_pod, caller, expected) in [
            (ResultForm::Auto, true, Some("containerd"), true),
            (ResultForm::Auto, true, Some("crio"), false),
            (ResultForm::Auto, true, Some("cri-dockerd"), false),
            (ResultForm::Auto, true, Some("containerd-shim"), false),
            (ResultForm::Auto, true, None, false),
            (ResultForm::Auto, false, Some("podman"), true),
            (ResultForm::Auto, false, None, true),
            (ResultForm::Merged, true, Some("crio"), true),
            (ResultForm::Primary, true, Some("containerd"), false),
            (ResultForm::Primary, false, None, false),
        ] {
            assert_eq!(is_merged(form, is_pod, caller), expected, "{form:?} {is_pod} {caller:?}");
        }
    }

    #[test]
    fn the_name_of_the_process_above_is_known() {
        let name = caller().unwrap();
        assert!(!name.is_empty() && !name.contains('\n'), "{name:?}");
    }
}
