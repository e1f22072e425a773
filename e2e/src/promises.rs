//! The promises of docs/promises.md: what must never happen, what guards against it, and the test that fails without
//! the guard.
//!
//! | to | see |
//! |---|---|
//! | know every guard, and how it is taken away | [`GUARDS`] |
//! | take them away, one after the other, and see each test fail | [`main`] |
//!
//! A guard is taken away by edits of the sources ([`Edit`]): they survive a change of what is around them, and one
//! that does not apply any more is an error. `make test` looks whether all of them apply; `make promises` tries them,
//! which takes two builds for each.

mod guards;
mod trial;
mod verdict;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};

pub use guards::GUARDS;

/// The numbers of the lines that have guards. They are those of the design, and some wait for what is not built yet.
pub fn lines() -> BTreeSet<u8> {
    GUARDS.iter().map(|guard| guard.line).collect()
}

/// Something in the sources that keeps a line of docs/promises.md true.
#[derive(Debug)]
pub struct Guard {
    /// The line.
    pub line: u8,
    /// What holds because of it.
    pub holds: &'static str,
    /// The test that fails without it.
    pub test: Test,
    /// How it is taken away.
    pub edits: &'static [Edit],
}

/// A test, as cargo finds it.
#[derive(Debug)]
pub struct Test {
    /// Its package.
    pub package: &'static str,
    /// Which of the package's test executables holds it.
    pub target: Target,
    /// Its file.
    pub file: &'static str,
    /// Its name, with all modules before it.
    pub name: &'static str,
    /// Programs that it runs, besides those that cargo builds for it.
    pub runs: &'static [&'static str],
}

/// A test executable of a package.
#[derive(Debug, Clone, Copy)]
pub enum Target {
    /// The library's unit tests.
    Lib,
    /// The unit tests of a program.
    Bin(&'static str),
    /// A file or directory of `tests`.
    Integration(&'static str),
}

/// A piece of a file, and what stands there without the guard.
#[derive(Debug)]
pub struct Edit {
    /// Which file.
    pub file: &'static str,
    /// What is there; exactly once.
    pub find: &'static str,
    /// What comes in its place.
    pub replace: &'static str,
}

impl Test {
    /// Its name without modules.
    pub fn sentence(&self) -> &'static str {
        self.name.rsplit("::").next().unwrap_or(self.name)
    }

    /// What cargo is told to build its executable. Of the whole workspace, since which features a dependency is built
    /// with depends on what is built together: so it is built once.
    fn arguments(&self) -> Vec<&'static str> {
        let mut arguments = vec!["test", "--workspace"];
        match self.target {
            Target::Lib => arguments.push("--lib"),
            Target::Bin(name) => arguments.extend(["--bin", name]),
            Target::Integration(name) => arguments.extend(["--test", name]),
        }
        // Other executables of the same kind have no such test, and one that fails stops none.
        arguments.extend(["--no-fail-fast", "--", "--exact", self.name]);
        arguments
    }
}

impl Edit {
    /// The text of its file without the guard.
    pub fn applied_to(&self, text: &str) -> Result<String> {
        let found = text.matches(self.find).count();
        ensure!(
            found == 1,
            "{} holds this {found} times, not once; look at what became of the guard, and at e2e/src/promises/guards.rs:\n\
             {}",
            self.file,
            self.find
        );
        Ok(text.replacen(self.find, self.replace, 1))
    }
}

/// Tries the guards of the lines that the arguments name, or all.
pub fn main(arguments: &[OsString]) -> ExitCode {
    match chosen(arguments).and_then(|guards| trial::all(&guards)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // There is nobody else to tell.
            let _ = writeln!(std::io::stderr(), "promises: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn chosen(arguments: &[OsString]) -> Result<Vec<&'static Guard>> {
    let mut chosen = Vec::new();
    for argument in arguments {
        let word = argument.to_string_lossy();
        let line = word.parse::<u8>().with_context(|| format!("{word:?} is no number of a line"))?;
        if !lines().contains(&line) {
            let all: Vec<_> = lines().iter().map(ToString::to_string).collect();
            bail!("there is no line {line}; lines are {}", all.join(", "));
        }
        chosen.push(line);
    }
    Ok(GUARDS.iter().filter(|guard| chosen.is_empty() || chosen.contains(&guard.line)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edit_is_of_one_place_only() {
        let edit = Edit { file: "a.rs", find: "two", replace: "three" };
        assert_eq!(edit.applied_to("one two\n").unwrap(), "one three\n");
        for text in ["one\n", "two two\n"] {
            assert!(edit.applied_to(text).unwrap_err().to_string().starts_with("a.rs holds this"), "{text}");
        }
    }

    #[test]
    fn lines_are_chosen_by_their_numbers() {
        let of = |words: &[&str]| {
            let words: Vec<OsString> = words.iter().map(OsString::from).collect();
            chosen(&words).map(|guards| guards.iter().map(|guard| guard.line).collect::<Vec<_>>())
        };
        assert_eq!(of(&[]).unwrap().len(), GUARDS.len());
        assert!(of(&["5", "9"]).unwrap().iter().all(|line| [5, 9].contains(line)));
        for wrong in ["0", "200", "x", "-1"] {
            assert!(of(&[wrong]).is_err(), "{wrong}");
        }
    }
}
