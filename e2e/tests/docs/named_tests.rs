//! Tests that the documentation names are there, so that what they show is shown.
//!
//! A test's name stands in backquotes, and has three words or more between `_`; metrics have a prefix of their own.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::assert_none;

/// Pages whose statements name the tests that show them. One that is not there (yet) is passed over.
const PAGES: [&str; 2] = ["docs/security.md", "docs/promises.md"];
/// Where tests are.
const SOURCES: [&str; 5] = ["meta-cni", "operator", "crds", "e2e", "fuzz/fuzz_targets"];

#[test]
fn every_test_that_is_named_exists() {
    let tests = tests();
    let mut problems = Vec::new();
    for page in PAGES {
        let Ok(text) = fs::read_to_string(e2e::source(page)) else { continue };
        let named = named(&text);
        if named.is_empty() {
            problems.push(format!("{page} names no test: is their form another now?"));
        }
        let lost = named.iter().filter(|name| !tests.contains(*name));
        problems.extend(lost.map(|name| format!("{page}: there is no test {name}")));
    }
    assert_none(&problems);
}

/// The names of tests in a page.
fn named(text: &str) -> BTreeSet<String> {
    let quoted = text.split('`').skip(1).step_by(2);
    let names = quoted.map(|word| word.rsplit("::").next().unwrap_or(word));
    names.filter(|word| is_name(word)).map(str::to_owned).collect()
}

fn is_name(word: &str) -> bool {
    let of_metrics = ["braid_", "process_"].iter().any(|prefix| word.starts_with(prefix));
    let plain =
        |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    !of_metrics && word.matches('_').count() >= 2 && word.split('_').all(plain)
}

/// Every test: a function under `#[test]` or the like, or one that is a scenario of the suite.
fn tests() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for dir in SOURCES {
        collect(&e2e::source(dir), &mut found);
    }
    found
}

fn collect(dir: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.extend(tests_of(&fs::read_to_string(&path).unwrap()));
        }
    }
}

fn tests_of(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut is_test = false;
    for line in code.lines().map(str::trim) {
        let of_scenario = line.strip_prefix("story: ").and_then(|line| line.strip_suffix(','));
        found.extend(of_scenario.map(str::to_owned));
        if line.starts_with("//") {
            continue;
        }
        if line.starts_with("#[") {
            is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
            continue;
        }
        let function =
            line.trim_start_matches("pub(crate) ").trim_start_matches("async ").strip_prefix("fn ");
        if let (true, Some(rest)) = (is_test, function) {
            found.extend(rest.split(['(', '<']).next().map(str::to_owned));
        }
        is_test = false;
    }
    found
}

#[test]
fn a_test_that_is_not_there_is_found_and_a_metric_is_none() {
    let page = "`process::tests_of_this_kind` and `braid_is_no_test`, `/a_b_c`, `two_words`, `no_such_test_anywhere`";
    assert_eq!(named(page).into_iter().collect::<Vec<_>>(), ["no_such_test_anywhere", "tests_of_this_kind"]);
    let code = "#[test]\nfn one_of_them() {}\n#[tokio::test(start_paused = true)]\n#[ignore]\n/// So.\nasync fn two_of_them() {}\n\
        fn no_test_at_all() {}\n    story: three_of_them,\n";
    assert_eq!(tests_of(code), ["one_of_them", "two_of_them", "three_of_them"]);
    let tests = tests();
    assert!(tests.contains("a_test_that_is_not_there_is_found_and_a_metric_is_none"));
    assert!(
        tests.contains("namespace_isolation_holds_while_it_is_on")
            && !tests.contains("no_such_test_anywhere")
    );
}
