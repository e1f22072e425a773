//! Taking a guard away in a copy of the sources, and running its test there.
//!
//! The copy and what is built of it lie in `target/promises` and stay, so that only the first trial builds everything.
//! The sources themselves are never touched.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use super::verdict::{Verdict, verdict};
use super::{Guard, Test};

const PLACE: &str = "target/promises";

/// Tries guards, one after the other, then all their tests with every guard in place; prints what became of each.
pub(super) fn all(guards: &[&Guard]) -> Result<()> {
    let copy = Copy::make()?;
    let mut guards = guards.to_vec();
    // What was just built serves the next one best.
    guards.sort_by_key(|guard| (format!("{:?}", guard.test.target), guard.test.package));
    say("Without its guard each test has to fail:\n")?;
    let mut not_shown = 0;
    let mut tell = |text: String, error: Option<anyhow::Error>| {
        not_shown += usize::from(error.is_some());
        say(&match error {
            None => text,
            Some(error) => format!("{text}    NOT SHOWN: {error:#}\n"),
        })
    };
    for guard in &guards {
        let head = format!("{:>2}  {}\n    {}\n", guard.line, guard.holds, guard.test.name);
        match copy.without(guard) {
            Ok(failed) => tell(format!("{head}    {failed}\n"), None)?,
            Err(error) => tell(head, Some(error))?,
        }
    }
    say("With every guard in place each test has to pass:\n")?;
    let mut tried = BTreeSet::new();
    for test in guards.iter().map(|guard| &guard.test) {
        if tried.insert(test.name) {
            tell(format!("    {}\n", test.name), copy.with_all(test).err())?;
        }
    }
    ensure!(not_shown == 0, "{not_shown} things are not shown; see NOT SHOWN above");
    say(&format!("{} guards: each test fails without its guard and passes with it.\n", guards.len()))
}

/// A copy of the sources.
struct Copy {
    tree: PathBuf,
    target: PathBuf,
}

impl Copy {
    /// Brings the copy up to date. What is the same keeps its time, and with it what was built of it.
    fn make() -> Result<Self> {
        let place = crate::source(PLACE);
        let (tree, target) = (place.join("tree"), place.join("target"));
        let files = sources()?;
        for file in &files {
            let (from, to) = (crate::source(file), tree.join(file));
            // A file that was deleted and not yet committed.
            let Ok(text) = fs::read(&from) else { continue };
            if fs::read(&to).is_ok_and(|copied| copied == text) {
                continue;
            }
            let dir = to.parent().unwrap_or(&tree);
            fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
            fs::copy(&from, &to).with_context(|| format!("copying {file}"))?;
        }
        remove_others(&tree, &tree, &files)?;
        Ok(Self { tree, target })
    }

    /// Takes a guard away, runs its test, and puts the guard back; how the test failed.
    fn without(&self, guard: &Guard) -> Result<String> {
        let begun = Instant::now();
        let originals = self.take_away(guard)?;
        let verdict = self.run(&guard.test);
        for (path, text) in originals {
            fs::write(&path, text).with_context(|| format!("putting {} back", path.display()))?;
        }
        let seconds = begun.elapsed().as_secs();
        match verdict? {
            Verdict::Failed { place, said } => Ok(format!("fails at {place}: {said} ({seconds} s)")),
            Verdict::Passed => bail!("the test passes without the guard"),
            Verdict::Otherwise(why) => bail!("the test fails, but {why}"),
            Verdict::NotRun(why) => bail!("{why}"),
        }
    }

    /// Runs a test with all guards in place; it has to pass.
    fn with_all(&self, test: &Test) -> Result<()> {
        match self.run(test)? {
            Verdict::Passed => Ok(()),
            other => bail!("it does not pass: {other:?}"),
        }
    }

    /// Applies the guard's edits; the files as they were.
    fn take_away(&self, guard: &Guard) -> Result<Vec<(PathBuf, String)>> {
        let mut originals: Vec<(PathBuf, String)> = Vec::new();
        for edit in guard.edits {
            let path = self.tree.join(edit.file);
            let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
            let edited = edit.applied_to(&text)?;
            fs::write(&path, edited).with_context(|| format!("writing {}", path.display()))?;
            if originals.iter().all(|(known, _)| *known != path) {
                originals.push((path, text));
            }
        }
        Ok(originals)
    }

    /// Builds and runs one test.
    fn run(&self, test: &Test) -> Result<Verdict> {
        for program in test.runs {
            let (built, printed) = self.cargo(&["build", "--workspace", "--bin", program])?;
            ensure!(built, "{program} does not build:\n{printed}");
        }
        let (_, printed) = self.cargo(&test.arguments())?;
        // Panics name files from the top of the workspace.
        let own = Path::new(test.file).parent().unwrap_or(Path::new(""));
        Ok(verdict(&printed, test.name, &own.display().to_string()))
    }

    /// Runs cargo in the copy: whether it succeeded, and everything that it printed.
    fn cargo(&self, arguments: &[&str]) -> Result<(bool, String)> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.args(arguments).current_dir(&self.tree).stdin(Stdio::null());
        // What is built here is run, and a test that cannot run fails instead of being skipped.
        command.env("CARGO_TARGET_DIR", &self.target).env("BRAID_ALL_TESTS", "1");
        for variable in ["BRAID_META_CNI", "BRAID_OPERATOR", "RUST_BACKTRACE"] {
            command.env_remove(variable);
        }
        let output = command.output().with_context(|| format!("running cargo {}", arguments.join(" ")))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok((output.status.success(), text(&output.stdout) + &text(&output.stderr)))
    }
}

/// Every file that git knows or would take.
fn sources() -> Result<BTreeSet<String>> {
    let mut git = Command::new("git");
    git.arg("-C").arg(crate::source("")).args(["ls-files", "--cached", "--others", "--exclude-standard"]);
    let listed = crate::program::output(&mut git).context("listing the sources")?;
    Ok(listed.lines().map(str::to_owned).collect())
}

/// Removes what is in the copy and not among the sources.
fn remove_others(dir: &Path, tree: &Path, files: &BTreeSet<String>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("listing {}", dir.display()))? {
        let path = entry.with_context(|| format!("listing {}", dir.display()))?.path();
        if path.is_dir() {
            remove_others(&path, tree, files)?;
        } else if path.strip_prefix(tree).is_ok_and(|name| !files.contains(&*name.to_string_lossy())) {
            fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
        }
    }
    Ok(())
}

fn say(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).context("printing")
}
