//! The command line of a suite, which `cargo test` passes on: it is to understand what the standard test runner does.

/// What the command line says.
#[derive(Debug, Default)]
pub(super) struct Arguments {
    /// Only list the scenarios.
    pub(super) list: bool,
    /// Leave the cluster running at the end.
    pub(super) keep: bool,
    exact: bool,
    names: Vec<String>,
    skip: Vec<String>,
}

impl Arguments {
    pub(super) fn of_process() -> Self {
        Self::of(std::env::args().skip(1))
    }

    fn of(words: impl Iterator<Item = String>) -> Self {
        let mut this = Self::default();
        let mut words = words;
        while let Some(word) = words.next() {
            match word.as_str() {
                "--list" => this.list = true,
                "--keep" => this.keep = true,
                "--exact" => this.exact = true,
                "--skip" => this.skip.extend(words.next()),
                "--test-threads" | "--format" | "--color" | "--logfile" => drop(words.next()),
                flag if flag.starts_with('-') => {}
                name => this.names.push(name.to_owned()),
            }
        }
        this
    }

    /// Whether a scenario is to run.
    pub(super) fn wants(&self, name: &str) -> bool {
        let is = |wanted: &String| if self.exact { name == wanted } else { name.contains(wanted.as_str()) };
        (self.names.is_empty() || self.names.iter().any(is)) && !self.skip.iter().any(is)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> Arguments {
        Arguments::of(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn names_choose_scenarios_as_with_the_standard_runner() {
        assert!(of("").wants("a_pod_starts"));
        assert!(of("--test-threads 3 pod").wants("a_pod_starts"));
        assert!(!of("pod --exact").wants("a_pod_starts"));
        assert!(!of("--skip pod").wants("a_pod_starts"));
        assert!(!of("node").wants("a_pod_starts"));
    }
}
