//! Named points at which a test ends the process as `kill -9` does.
//!
//! A point is a line of the code: `point::reached("record: hint made")`. The name says what has just been done; it
//! is written down nowhere else, so that tests find all points by reading the sources. Two variables of the
//! environment say what happens at points, in builds with debug assertions only:
//!
//! | variable | effect |
//! |---|---|
//! | `BRAID_DIE_AT=<name>` or `<name>#<n>` | the process kills itself when it reaches this point for the first, or n-th, time |
//! | `BRAID_POINTS=<file>` | the name of each point that is reached is appended to this file as a line, and "killed" by the process that kills itself; occurrences are counted over all processes that have the file |
//!
//! In other builds nothing is looked at, and a point costs nothing: e2e/tests/workspace.rs sees that the executables
//! which are installed do not know the variables. Delegates inherit the environment, and pass their own points.

/// Says that the process has come to a point.
#[cfg(debug_assertions)]
pub fn reached(name: &'static str) {
    told::reached(name);
}

/// Says that the process has come to a point.
#[cfg(not(debug_assertions))]
#[inline(always)]
#[allow(clippy::inline_always)] // Nothing is to be left of it.
pub fn reached(_name: &'static str) {}

#[cfg(debug_assertions)]
mod told {
    use std::collections::BTreeMap;
    use std::fs::OpenOptions;
    use std::io::Write;
    use std::path::{Path, PathBuf};
    use std::sync::{LazyLock, Mutex, PoisonError};

    use rustix::process::{Signal, getpid, kill_process};

    /// What the environment asks for.
    struct Asked {
        die_at: Option<(String, u32)>,
        points: Option<PathBuf>,
    }

    static ASKED: LazyLock<Asked> = LazyLock::new(|| Asked {
        die_at: std::env::var("BRAID_DIE_AT").ok().map(|text| occurrence(&text)),
        points: std::env::var_os("BRAID_POINTS").map(PathBuf::from),
    });

    /// How often each point was reached.
    static REACHED: Mutex<BTreeMap<&'static str, u32>> = Mutex::new(BTreeMap::new());

    /// A point's name, and the how many-th time is meant.
    pub(super) fn occurrence(text: &str) -> (String, u32) {
        let numbered = text.rsplit_once('#').and_then(|(name, number)| Some((name, number.parse().ok()?)));
        let (name, number) = numbered.unwrap_or((text, 1));
        (name.to_owned(), number)
    }

    pub(super) fn reached(name: &'static str) {
        let told = ASKED.points.as_ref().and_then(|file| tell(file, name));
        let Some((_, number)) = ASKED.die_at.as_ref().filter(|(at, _)| at == name) else { return };
        let mut reached = REACHED.lock().unwrap_or_else(PoisonError::into_inner);
        let count = reached.entry(name).or_default();
        *count = told.unwrap_or(*count + 1);
        if *count == *number {
            if let Some(file) = &ASKED.points {
                tell(file, KILLED);
            }
            // It does not come back: the kernel ends the process before anything else of it runs.
            let _ = kill_process(getpid(), Signal::KILL);
        }
    }

    /// What a process writes that is about to kill itself.
    const KILLED: &str = "killed";

    /// Appends a line; how many of this name there are now.
    fn tell(file: &Path, name: &str) -> Option<u32> {
        // A test that is over has taken the file's directory away.
        let mut appending = OpenOptions::new().create(true).append(true).open(file).ok()?;
        appending.write_all(format!("{name}\n").as_bytes()).ok()?;
        let text = std::fs::read_to_string(file).ok()?;
        u32::try_from(text.lines().filter(|line| *line == name).count()).ok()
    }
}

#[cfg(all(test, debug_assertions))]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use super::*;

    #[test]
    fn the_number_of_an_occurrence_stands_behind_the_name() {
        for (text, expected) in
            [("a: b", ("a: b", 1)), ("a: b#3", ("a: b", 3)), ("a#b", ("a#b", 1)), ("a#2#3", ("a#2", 3))]
        {
            assert_eq!(told::occurrence(text), (expected.0.to_owned(), expected.1));
        }
    }

    #[test]
    fn a_process_kills_itself_at_the_occurrence_that_is_asked_for() {
        if std::env::var_os("BRAID_POINTS").is_some() {
            // The process that the test below starts.
            return ["one", "two", "one"].into_iter().for_each(reached);
        }
        let temp = tempfile::tempdir().unwrap();
        for (die_at, reached) in [
            ("one", "one\nkilled\n"),
            ("two", "one\ntwo\nkilled\n"),
            ("one#2", "one\ntwo\none\nkilled\n"),
            ("one#3", "one\ntwo\none\n"),
        ] {
            let log = temp.path().join(die_at);
            let mut again = Command::new(std::env::current_exe().unwrap());
            again.args([
                "--exact",
                "point::tests::a_process_kills_itself_at_the_occurrence_that_is_asked_for",
            ]);
            let output = again.env("BRAID_DIE_AT", die_at).env("BRAID_POINTS", &log).output().unwrap();
            let killed = output.status.signal() == Some(9);
            assert_eq!(killed, die_at != "one#3", "{die_at}: {:?}", output.status);
            assert_eq!(std::fs::read_to_string(log).unwrap(), reached, "{die_at}");
        }
    }
}
