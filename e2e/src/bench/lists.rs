//! Lists of plugins run on a sandbox as a runtime runs them: the delegates' own one after another by hand, or the one
//! of `meta-cni`. Both by the same code, so that what is compared differs in nothing else.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use cni::chain::{self, Attachment};
use cni::env::Target;
use cni::exec::ProcessExec;
use cni::{AddResult, CapabilityArgs, CniArgs, ContainerId, IfName, NetworkList};
use serde_json::Value;

/// Under which name runtimes hand over a pod's annotations.
pub(super) const ANNOTATIONS: &str = "io.kubernetes.cri.pod-annotations";

/// A pod's sandbox, as a runtime tells plugins of it.
#[derive(Debug, Clone)]
pub(super) struct Sandbox {
    container: ContainerId,
    netns: PathBuf,
    args: CniArgs,
    capabilities: CapabilityArgs,
}

impl Sandbox {
    /// A new sandbox of a pod of `default`; its number makes its id, with the process's.
    pub(super) fn new(number: usize, netns: PathBuf, pod: &str, uid: Option<&str>) -> Result<Self> {
        let digits = format!("{:08x}{number:08x}", std::process::id());
        let container = ContainerId::parse(digits.repeat(4)).context("making a container id")?;
        let mut args = format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={pod};K8S_POD_INFRA_CONTAINER_ID={container}"
        );
        if let Some(uid) = uid {
            args.push_str(";K8S_POD_UID=");
            args.push_str(uid);
        }
        let args = CniArgs::parse(&args)?;
        Ok(Self { container, netns, args, capabilities: CapabilityArgs::new() })
    }

    /// The same with the pod's annotations.
    pub(super) fn with_annotations(mut self, annotations: Value) -> Self {
        self.capabilities = CapabilityArgs::from_iter([(ANNOTATIONS.to_owned(), annotations)]);
        self
    }

    fn target(&self, interface: usize) -> Result<Target> {
        let if_name = if interface == 0 { "eth0".to_owned() } else { format!("net{interface}") };
        Ok(Target {
            container_id: self.container.clone(),
            netns: Some(self.netns.clone()),
            if_name: IfName::parse(if_name)?,
            args: self.args.clone(),
        })
    }
}

/// Lists, and where their plugins are.
#[derive(Debug, Clone)]
pub(super) struct Lists {
    pub(super) exec: ProcessExec,
    pub(super) all: Vec<NetworkList>,
    /// CNI_PATH.
    pub(super) path: Vec<PathBuf>,
}

impl Lists {
    pub(super) fn new(lists: Vec<NetworkList>, path: Vec<PathBuf>) -> Self {
        Self { exec: ProcessExec::default(), all: lists, path }
    }

    /// Attaches a sandbox to all of them; ends at the first failure.
    pub(super) fn add(&self, sandbox: &Sandbox) -> Result<Vec<AddResult>> {
        let all = self.all.iter().enumerate().map(|(index, list)| {
            let target = sandbox.target(index)?;
            let at = Attachment { target: &target, path: &self.path, capabilities: &sandbox.capabilities };
            Ok(chain::add(&self.exec, list, &at, None)?)
        });
        all.collect()
    }

    /// Detaches it in reverse; what has no result was not attached, or not whole.
    pub(super) fn del(&self, sandbox: &Sandbox, results: &[AddResult]) -> Result<()> {
        for (index, list) in self.all.iter().enumerate().rev() {
            let target = sandbox.target(index)?;
            let at = Attachment { target: &target, path: &self.path, capabilities: &sandbox.capabilities };
            let errors = chain::del(&self.exec, list, &at, results.get(index));
            ensure!(errors.is_empty(), "DEL failed: {errors:?}");
        }
        Ok(())
    }
}
