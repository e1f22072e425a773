//! Primaries shaped like the real ones: plugins that keep to the contract of flannel, Calico, the AWS VPC
//! CNI and Cilium where those cannot be had.
//!
//! Each reads what the real plugin reads, calls what it calls, has real effects on the kernel, and returns
//! a result of the same shape. `testdata/primaries/README.md` says where each fact comes from. The
//! executable `shaped-primary` is every one of them, by the name under which it is executed.
//!
//! | variable | meaning |
//! |---|---|
//! | `SHAPED_PRIMARY_ROOT` | put before every absolute path that is read or written; needed |
//! | `SHAPED_PRIMARY_RELEASE=older` | behave like older releases where they differ (Calico's result, Cilium's DEL) |
//!
//! [`node`] prepares such a root for a test.

mod aws;
mod calico;
mod cilium;
mod flannel;
mod host;
mod kernel;
pub mod node;
mod pool;

use std::path::Path;
use std::process::ExitCode;

use cni::skel::{Plugin, Surroundings, run};
use cni::{CniError, Code};

use host::Host;

/// The names that the executable answers to.
pub const NAMES: [&str; 6] = ["flannel", "calico", "calico-ipam", "aws-cni", "egress-cni", "cilium-cni"];

fn failed(msg: impl Into<String>) -> CniError {
    // What the real plugins return are plain Go errors, which their skeleton prints with code 999.
    CniError::new(Code::INTERNAL, msg)
}

fn plugin(name: &str, host: Host) -> Option<Box<dyn Plugin>> {
    Some(match name {
        "flannel" => Box::new(flannel::Flannel(host)),
        "calico" => Box::new(calico::Calico(host)),
        "calico-ipam" => Box::new(calico::CalicoIpam(host)),
        "aws-cni" => Box::new(aws::AwsCni(host)),
        "egress-cni" => Box::new(aws::EgressCni(host)),
        "cilium-cni" => Box::new(cilium::Cilium(host)),
        _ => return None,
    })
}

/// The agent of a primary: it listens at the socket that is its argument until it is killed, and says nothing.
fn agent() -> ExitCode {
    let socket = std::env::args().nth(1).unwrap_or_default();
    match std::os::unix::net::UnixListener::bind(&socket) {
        Ok(listener) => {
            listener.incoming().for_each(drop);
            ExitCode::SUCCESS
        }
        Err(error) => {
            host::tell(&format!("listen at {socket:?}: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Runs the plugin that the executable is called as; under the name `agent`, an agent.
pub fn main() -> ExitCode {
    let called = std::env::args().next().unwrap_or_default();
    let name = Path::new(&called).file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if name == "agent" {
        return agent();
    }
    let Some(plugin) = plugin(name, Host::of_environment()) else {
        host::tell(&format!("{name:?} is none of {}", NAMES.join(", ")));
        return ExitCode::FAILURE;
    };
    let mut around = Surroundings {
        env: &|name| std::env::var(name).ok(),
        stdin: &mut std::io::stdin().lock(),
        stdout: &mut std::io::stdout().lock(),
        stderr: &mut std::io::stderr(),
    };
    ExitCode::from(run(plugin.as_ref(), &mut around))
}
