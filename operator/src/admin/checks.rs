//! Whether the process can do its work, as `/readyz` says it.

use std::fmt::Write;

/// One thing that has to be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What it is, in a word.
    pub name: &'static str,
    /// Or what is wrong, for people.
    pub result: Result<(), String>,
}

impl Check {
    /// One that holds.
    pub fn fine(name: &'static str) -> Self {
        Self { name, result: Ok(()) }
    }

    /// One that does not.
    pub fn wrong(name: &'static str, reason: impl Into<String>) -> Self {
        Self { name, result: Err(reason.into()) }
    }
}

/// Whether all of them hold.
pub fn all_hold(checks: &[Check]) -> bool {
    checks.iter().all(|check| check.result.is_ok())
}

/// `ok`, or each reason on a line of its own.
pub fn brief(checks: &[Check]) -> String {
    if all_hold(checks) {
        return "ok".to_owned();
    }
    let mut text = String::new();
    for Check { name, result } in checks {
        if let Err(reason) = result {
            // Writing to a text does not fail.
            let _ = writeln!(text, "{name}: {}", one_line(reason));
        }
    }
    text
}

/// Every check on a line of its own, in the form of the API server; `of` is the endpoint's name.
pub fn verbose(of: &str, checks: &[Check]) -> String {
    let mut text = String::new();
    for Check { name, result } in checks {
        let _ = match result {
            Ok(()) => writeln!(text, "[+]{name} ok"),
            Err(reason) => writeln!(text, "[-]{name} failed: {}", one_line(reason)),
        };
    }
    let verdict = if all_hold(checks) { "passed" } else { "failed" };
    let _ = writeln!(text, "{of} check {verdict}");
    text
}

/// Reasons come from plugins and the API server too.
fn one_line(reason: &str) -> String {
    reason.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_that_hold_are_ok() {
        assert_eq!(brief(&[]), "ok");
        assert_eq!(brief(&[Check::fine("networks")]), "ok");
        assert_eq!(verbose("readyz", &[Check::fine("networks")]), "[+]networks ok\nreadyz check passed\n");
    }

    #[test]
    fn every_reason_has_one_line_of_its_own() {
        let checks = [
            Check::wrong("networks", "not yet"),
            Check::fine("pods"),
            Check::wrong("primary", "none:\n\ttwo"),
        ];
        assert_eq!(brief(&checks), "networks: not yet\nprimary: none: two\n");
        let expected =
            "[-]networks failed: not yet\n[+]pods ok\n[-]primary failed: none: two\nreadyz check failed\n";
        assert_eq!(verbose("readyz", &checks), expected);
    }
}
