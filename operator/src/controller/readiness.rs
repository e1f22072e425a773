//! Whether a replica of the controller role can do its work, and if not, why. A replica that does not lead is
//! ready: it waits, and it answers admission requests.

use super::known::State;
use super::webhook::Desk;
use crate::admin::Check;

/// Every check. `desk` is where admission requests are answered, if they are.
pub fn checks(state: &State, desk: Option<&Desk>) -> Vec<Check> {
    let mut checks = vec![
        if state.stopping { Check::wrong("process", "stopping") } else { Check::fine("process") },
        if state.leader.is_empty() {
            Check::wrong("lease", "nobody is known to lead yet")
        } else {
            Check::fine("lease")
        },
    ];
    if let Some(desk) = desk {
        checks.push(if desk.networks.complete() {
            Check::fine("networks")
        } else {
            Check::wrong("networks", "not listed yet: pods are not warned of networks that do not exist")
        });
    }
    let attempts = state.problems.iter();
    checks.extend(
        attempts.map(|(attempt, reason)| Check::wrong("work", format!("cannot {attempt}: {reason}"))),
    );
    checks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::checks::{all_hold, brief};

    #[test]
    fn a_replica_that_waits_for_the_lease_of_another_is_ready() {
        let state = State { leader: "other".to_owned(), ..State::default() };
        assert!(all_hold(&checks(&state, None)));
    }

    #[test]
    fn what_does_not_work_is_told_with_its_reason() {
        let mut state = State::default();
        state.problems.insert("write the status of networks", "403".to_owned());
        let text = brief(&checks(&state, None));
        assert!(text.contains("nobody is known to lead"), "{text}");
        assert!(text.contains("cannot write the status of networks: 403"), "{text}");
        state.stopping = true;
        assert!(brief(&checks(&state, None)).contains("stopping"));
    }
}
