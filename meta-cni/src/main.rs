//! `meta-cni`: the CNI plugin that attaches one pod to several networks.
//!
//! A run is short: settings, the pod's wishes and networks are read ([`pod`], [`networks`]), a plan is made
//! ([`plan`], pure), recorded and run ([`add`], [`attach`]), results become one ([`merge`], pure). DEL, CHECK
//! and GC are driven by the record. docs/architecture.md draws the flow.

mod add;
mod answer;
mod attach;
mod background;
mod call;
mod check;
mod command;
mod del;
mod earlier_sandboxes;
mod foreign;
mod gc;
mod give_up;
mod hold;
mod log;
mod merge;
mod multus;
mod namespace;
mod netlink;
mod networks;
mod plan;
mod plugin;
mod pod;
mod presence;
mod retired;
mod routes;
mod settled;
mod status;
mod turn;
mod undo;
mod unfinished;
mod uplink;

use std::process::ExitCode;

fn main() -> ExitCode {
    let (mut stdout, mut stderr) = (std::io::stdout(), std::io::stderr());
    let text = |given: std::ffi::OsString| given.to_string_lossy().into_owned();
    let arguments: Vec<String> = std::env::args_os().skip(1).map(text).collect();
    if !arguments.is_empty() && std::env::var_os("CNI_COMMAND").is_none() {
        return command::run(&arguments, &mut stdout, &mut stderr).map_or(ExitCode::FAILURE, ExitCode::from);
    }
    let plugin = plugin::MetaCni::default();
    let mut surroundings = cni::skel::Surroundings {
        // What is not UTF-8 is refused where it is read; it must not count as absent.
        env: &|name| std::env::var_os(name).map(text),
        stdin: &mut std::io::stdin(),
        stdout: &mut stdout,
        stderr: &mut stderr,
    };
    let status = cni::skel::run(&plugin, &mut surroundings);
    cni::point::reached("answer: out");
    plugin.leave_work_to_others();
    ExitCode::from(status)
}
