//! Whether the node role can do its work, and if not, why.
//!
//! It is not ready while it does not know everything that it needs, or while pods could not be given their
//! networks. A network that is wrong, or a record that nobody can read, is for people to mend, and for
//! `/metrics` and the node's report to tell; it does not make the node unready.

use crate::admin::Check;
use crate::known::{Installed, Networks, Pods, Primary, Records, State};

/// Every check, in the order in which a start passes them.
pub fn checks(state: &State) -> Vec<Check> {
    vec![
        process(state.stopping),
        networks(&state.networks),
        pods(&state.pods),
        records(&state.records),
        primary(&state.primary),
        plugin(&state.installed),
    ]
}

fn process(stopping: bool) -> Check {
    if stopping { Check::wrong("process", "stopping") } else { Check::fine("process") }
}

/// What was complete once may have a problem again: new networks would be missing.
fn networks(networks: &Networks) -> Check {
    match (&networks.problem, networks.complete) {
        (Some(problem), _) => Check::wrong("networks", problem),
        (None, None) => Check::wrong("networks", "not compared with the API server yet"),
        (None, Some(_)) => Check::fine("networks"),
    }
}

fn pods(pods: &Pods) -> Check {
    match (&pods.problem, pods.complete) {
        (Some(problem), _) => Check::wrong("pods", problem),
        (None, false) => Check::wrong("pods", "this node's pods are not listed yet"),
        (None, true) => Check::fine("pods"),
    }
}

fn records(records: &Records) -> Check {
    if records.complete { Check::fine("records") } else { Check::wrong("records", "not read yet") }
}

fn primary(primary: &Primary) -> Check {
    match primary {
        Primary::Found { .. } => Check::fine("primary"),
        Primary::Unknown => Check::wrong("primary", "not looked for yet"),
        Primary::Missing(reason) => Check::wrong("primary", format!("there is none: {reason}")),
    }
}

fn plugin(installed: &Installed) -> Check {
    let Installed { executable, configuration, problem } = installed;
    match (problem, executable, configuration) {
        (Some(problem), ..) => Check::wrong("plugin", problem),
        (None, true, true) => Check::fine("plugin"),
        (None, false, _) => Check::wrong("plugin", "its executable is not on the host yet"),
        (None, true, false) => Check::wrong("plugin", "its configuration is not on the host yet"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::admin::checks::brief;

    type Change = fn(&mut State);

    /// Everything is right.
    fn ready() -> State {
        let mut state = State::default();
        state.networks.complete = Some(SystemTime::UNIX_EPOCH);
        state.pods.complete = true;
        state.records.complete = true;
        state.primary = Primary::Found {
            name: "cbr0".into(),
            file: "/etc/cni/net.d/10-x.conflist".into(),
            plugins: vec![],
            of_multus: vec![],
        };
        state.installed = Installed { executable: true, configuration: true, problem: None };
        state
    }

    #[test]
    fn a_node_that_has_everything_is_ready() {
        assert_eq!(brief(&checks(&ready())), "ok");
    }

    #[test]
    fn a_start_begins_with_everything_missing() {
        let expected = "networks: not compared with the API server yet\n\
                        pods: this node's pods are not listed yet\n\
                        records: not read yet\n\
                        primary: not looked for yet\n\
                        plugin: its executable is not on the host yet\n";
        assert_eq!(brief(&checks(&State::default())), expected);
    }

    #[test]
    fn each_thing_that_is_missing_is_told_alone() {
        let cases: [(Change, &str); 9] = [
            (|state| state.stopping = true, "process: stopping\n"),
            (|state| state.networks.complete = None, "networks: not compared with the API server yet\n"),
            (|state| state.networks.problem = Some("403".into()), "networks: 403\n"),
            (|state| state.pods.complete = false, "pods: this node's pods are not listed yet\n"),
            (|state| state.pods.problem = Some("no".into()), "pods: no\n"),
            (|state| state.records.complete = false, "records: not read yet\n"),
            (|state| state.primary = Primary::Missing("no file".into()), "primary: there is none: no file\n"),
            (|state| state.installed.problem = Some("read-only".into()), "plugin: read-only\n"),
            (
                |state| state.installed.configuration = false,
                "plugin: its configuration is not on the host yet\n",
            ),
        ];
        for (change, expected) in cases {
            let mut state = ready();
            change(&mut state);
            assert_eq!(brief(&checks(&state)), expected);
        }
    }
}
