//! What a kubelet is told, as its version takes it: arguments and configuration.
//!
//! The other servers are told the same in every version: those of 1.20.2 and of 1.36.2 took it.

use std::path::Path;

use serde_json::{Value, json};

use crate::version::Version;

/// Where the container runtime listens.
const RUNTIME: &str = "unix:///run/containerd/containerd.sock";

/// From here on the configuration names the runtime; before, flags did, of which one is gone.
const CONFIGURED_RUNTIME: Version = Version::new(1, 27);

/// From here on the configuration can allow control groups of version 1, which 1.35 and later refuse by themselves.
const CHOICE_OF_CGROUPS: Version = Version::new(1, 31);

/// The arguments.
pub(super) fn arguments(
    version: Version,
    configuration: &Path,
    kubeconfig: &Path,
    node: &str,
    address: &str,
) -> Vec<String> {
    let mut arguments = vec![
        format!("--config={}", configuration.display()),
        format!("--kubeconfig={}", kubeconfig.display()),
        format!("--hostname-override={node}"),
        format!("--node-ip={address}"),
    ];
    if version < CONFIGURED_RUNTIME {
        arguments.push("--container-runtime=remote".to_owned());
        arguments.push(format!("--container-runtime-endpoint={RUNTIME}"));
    }
    arguments
}

/// The configuration; pods come below a control group.
pub(super) fn configuration(version: Version, group: &str) -> Value {
    let mut configuration = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": { "anonymous": { "enabled": true }, "webhook": { "enabled": false } },
        "authorization": { "mode": "AlwaysAllow" },
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{group}"),
        "clusterDNS": ["10.96.0.10"],
        "clusterDomain": "cluster.local",
        "enforceNodeAllocatable": [],
        // A machine that is short of disk is to fail scenarios for what they show, not for that.
        "evictionHard": { "memory.available": "1Mi", "nodefs.available": "1Mi", "imagefs.available": "1Mi" },
        "failSwapOn": false,
        "fileCheckFrequency": "1s",
        "imageGCHighThresholdPercent": 100,
        "maxPods": 250,
        "nodeStatusUpdateFrequency": "4s",
        "staticPodPath": "/var/lib/kubelet/manifests",
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
    });
    if version >= CONFIGURED_RUNTIME {
        configuration["containerRuntimeEndpoint"] = RUNTIME.into();
    }
    if version >= CHOICE_OF_CGROUPS {
        configuration["failCgroupV1"] = false.into();
    }
    configuration
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAGS: &str = " --container-runtime=remote \
                         --container-runtime-endpoint=unix:///run/containerd/containerd.sock";

    #[test]
    fn each_version_gets_the_flags_and_the_configuration_that_it_knows() {
        let endpoint = json!({ "containerRuntimeEndpoint": RUNTIME });
        let endpoint_and_groups = json!({ "containerRuntimeEndpoint": RUNTIME, "failCgroupV1": false });
        let oldest = configuration(Version::new(1, 20), "c/n");
        for (version, flags, more) in [
            ("1.20.2", FLAGS, json!({})),
            ("1.23.17", FLAGS, json!({})),
            ("1.26.15", FLAGS, json!({})),
            ("1.27.0", "", endpoint.clone()),
            ("1.30.14", "", endpoint),
            ("1.31.0", "", endpoint_and_groups.clone()),
            ("1.36.2", "", endpoint_and_groups.clone()),
            ("1.40.0", "", endpoint_and_groups),
        ] {
            let known = Version::find(version).unwrap();
            let (file, kubeconfig) = (Path::new("/d/kubelet.json"), Path::new("/d/n.kubeconfig"));
            let said = arguments(known, file, kubeconfig, "n", "10.0.0.1").join(" ");
            let common = "--config=/d/kubelet.json --kubeconfig=/d/n.kubeconfig --hostname-override=n --node-ip=10.0.0.1";
            assert_eq!(said, format!("{common}{flags}"), "{version}");
            let mut expected = oldest.clone();
            expected.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            assert_eq!(configuration(known, "c/n"), expected, "{version}");
        }
        assert_eq!(oldest["cgroupRoot"], "/c/n");
    }
}
