//! What one run of one test came to, from what cargo printed. Pure.

/// The outcome of a test.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It passed.
    Passed,
    /// It failed by its own words.
    Failed {
        /// File, line and column.
        place: String,
        /// The first words of what it said.
        said: String,
    },
    /// It failed, but not by an assertion of its own.
    Otherwise(String),
    /// It was not run: it does not build, or there is no such test.
    NotRun(String),
}

/// How much of an assertion's words is shown.
const MOST: usize = 140;
/// How many lines of a failed build are shown.
const SHOWN: usize = 12;

/// Reads what was printed. `own` is the directory of the test: its assertions, and those of helpers beside it.
pub(super) fn verdict(printed: &str, test: &str, own: &str) -> Verdict {
    let line = printed
        .lines()
        .find_map(|line| line.strip_prefix("test ")?.strip_prefix(test)?.strip_prefix(" ... "));
    match line {
        Some("ok") => Verdict::Passed,
        Some("FAILED") => failure(printed, test, own),
        Some(other) => Verdict::Otherwise(format!("it ended with {other:?}")),
        None => Verdict::NotRun(not_run(printed)),
    }
}

/// Why a test was not run: what does not build says nothing about the guard.
fn not_run(printed: &str) -> String {
    if printed.lines().any(|line| line.starts_with("running ")) {
        return "cargo knows no such test".to_owned();
    }
    let errors: Vec<_> = printed.lines().skip_while(|line| !line.starts_with("error")).take(SHOWN).collect();
    format!("it does not build:\n{}", errors.join("\n"))
}

fn failure(printed: &str, test: &str, own: &str) -> Verdict {
    let thread = format!("thread '{test}'");
    let mut lines =
        printed.lines().skip_while(|line| !(line.starts_with(&thread) && line.contains(PANICKED)));
    let Some((_, place)) = lines.next().and_then(|line| line.split_once(PANICKED)) else {
        return Verdict::Otherwise("it failed without a panic of its own".to_owned());
    };
    let place = place.trim_end_matches(':').to_owned();
    let words: Vec<_> =
        lines.take_while(|line| !line.is_empty() && !line.starts_with("note:")).map(str::trim).collect();
    let said = words.join(" ");
    let said = said.char_indices().nth(MOST).map_or(said.clone(), |(end, _)| format!("{}…", &said[..end]));
    if place.starts_with(own) {
        Verdict::Failed { place, said }
    } else {
        Verdict::Otherwise(format!("it panicked outside of {own}, at {place}: {said}"))
    }
}

const PANICKED: &str = " panicked at ";

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "del::it_undoes";
    const OWN: &str = "meta-cni/tests/process/";

    fn failed(place: &str) -> String {
        format!(
            "running 1 test\ntest {NAME} ... FAILED\n\nfailures:\n\n---- {NAME} stdout ----\n\n\
             thread '{NAME}' (4711) panicked at {place}:\nassertion `left == right` failed\n  left: 1\n right: 2\n\
             note: run with `RUST_BACKTRACE=1`\n"
        )
    }

    #[test]
    fn only_an_assertion_of_the_test_itself_counts() {
        let place = "meta-cni/tests/process/del.rs:27:5";
        let said = "assertion `left == right` failed left: 1 right: 2".to_owned();
        assert_eq!(verdict(&failed(place), NAME, OWN), Verdict::Failed { place: place.to_owned(), said });
        let elsewhere = verdict(&failed("meta-cni/store/src/record.rs:1:1"), NAME, OWN);
        assert!(matches!(elsewhere, Verdict::Otherwise(why) if why.contains("outside of")));
        let silent = format!("test {NAME} ... FAILED\n");
        assert!(matches!(verdict(&silent, NAME, OWN), Verdict::Otherwise(_)));
        let of_another = failed(place).replace(&format!("thread '{NAME}'"), "thread 'other'");
        assert!(matches!(verdict(&of_another, NAME, OWN), Verdict::Otherwise(_)));
    }

    #[test]
    fn a_test_that_passed_and_one_that_was_not_run_are_told_apart() {
        assert_eq!(verdict(&format!("test {NAME} ... ok\n"), NAME, OWN), Verdict::Passed);
        let no_such = Verdict::NotRun("cargo knows no such test".to_owned());
        assert_eq!(verdict("running 0 tests\n\ntest result: ok. 0 passed\n", NAME, OWN), no_such);
        assert_eq!(verdict(&format!("running 1 test\ntest {NAME}_too ... ok\n"), NAME, OWN), no_such);
        let broken = verdict("   Compiling cni\nerror[E0308]: mismatched types\n", NAME, OWN);
        assert!(matches!(broken, Verdict::NotRun(why) if why.contains("does not build:\nerror[E0308]")));
        assert!(matches!(verdict(&format!("test {NAME} ... ignored\n"), NAME, OWN), Verdict::Otherwise(_)));
    }

    #[test]
    fn long_words_are_cut_between_characters() {
        let printed = failed("meta-cni/tests/process/del.rs:1:1").replace("left: 1", &"ü".repeat(500));
        let Verdict::Failed { said, .. } = verdict(&printed, NAME, OWN) else { panic!("{printed}") };
        assert_eq!(said.chars().count(), MOST + 1);
    }
}
