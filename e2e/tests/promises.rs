//! docs/promises.md and the table of guards say the same, and both are about what is there: so that `make promises`,
//! which takes long, finds everything where it looks.

#![allow(clippy::unwrap_used)] // Helpers of a test may fail as loudly as the test.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use e2e::promises::{GUARDS, lines};

const PAGE: &str = "docs/promises.md";

fn text(path: &str) -> String {
    fs::read_to_string(e2e::source(path)).unwrap()
}

/// What the page says about each line, by its number.
fn sections() -> BTreeMap<u8, String> {
    let page = text(PAGE);
    let sections = page.split("\n## ").filter_map(|section| {
        let (number, _) = section.split_once(". ")?;
        Some((number.parse().ok()?, section.to_owned()))
    });
    sections.collect()
}

/// Every name of a test or scenario in a text: words in backticks that are a sentence.
fn sentences(text: &str) -> BTreeSet<String> {
    let quoted = text.split('`').skip(1).step_by(2);
    let is_sentence = |word: &&str| {
        word.matches('_').count() >= 2 && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    quoted.filter(is_sentence).map(str::to_owned).collect()
}

/// The text of every file with tests or scenarios.
fn all_sources() -> String {
    fn gather(dir: &std::path::Path, into: &mut String) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                gather(&path, into);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                into.push_str(&fs::read_to_string(path).unwrap());
            }
        }
    }
    let mut all = String::new();
    for dir in ["meta-cni", "operator", "e2e/src", "e2e/tests"] {
        gather(&e2e::source(dir), &mut all);
    }
    all
}

#[test]
fn every_line_has_a_guard_and_a_section() {
    assert_eq!(sections().into_keys().collect::<BTreeSet<_>>(), lines());
    assert!(lines().is_superset(&(1..=13).collect()), "{:?}", lines());
    let count = format!("{} guards", GUARDS.len());
    assert!(text(PAGE).contains(&count), "{PAGE} does not say {count:?}");
}

#[test]
fn every_guard_can_be_taken_away() {
    for guard in GUARDS {
        let mut files = BTreeMap::new();
        for edit in guard.edits {
            let text = files.entry(edit.file).or_insert_with(|| text(edit.file));
            *text = edit.applied_to(text).unwrap();
        }
        assert!(!guard.edits.is_empty(), "{}: nothing is taken away", guard.holds);
    }
}

#[test]
fn every_guards_test_is_there_and_told_in_its_section() {
    let sections = sections();
    for guard in GUARDS {
        let name = guard.test.sentence();
        let file = text(guard.test.file);
        let (_, behind) = file.split_once(&format!("fn {name}()")).unwrap_or_default();
        assert!(!behind.is_empty(), "{} holds no test {name}", guard.test.file);
        let before = file.split(&format!("fn {name}()")).next().unwrap();
        let attribute = before.trim_end().trim_end_matches("async").trim_end().lines().last().unwrap();
        assert!(attribute.contains("test"), "{name} in {} is no test: {attribute}", guard.test.file);
        assert!(
            sentences(&sections[&guard.line]).contains(name),
            "section {} of {PAGE} does not name {name}",
            guard.line
        );
    }
}

#[test]
fn every_test_and_scenario_that_the_page_names_is_there() {
    let all = all_sources();
    for name in sentences(&text(PAGE)) {
        let is_there = all.contains(&format!("fn {name}(")) || all.contains(&format!("name: \"{name}\""));
        assert!(is_there, "{PAGE} names {name}, which is no test and no scenario");
    }
}
