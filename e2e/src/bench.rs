//! Benchmarks on real parts. Everything happens in network and mount namespaces of the benchmark's own, so that
//! nothing is left of them, however they end.

mod at_once;
mod attach;
mod bound;
mod growth;
mod lists;
mod machine;
mod operator;
mod peak;
mod process;
mod sample;
mod scene;
mod stage;
mod statuses;
mod storm;

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};
use rustix::mount::{MountFlags, mount};
use serde_json::{Map, Value};

use crate::control_plane;
use machine::Machine;

const HELP: &str = "\
bench [--pairs N] [--set NAME=JSON]... [--real N] [attach] [bound] [operator] [storm] [growth]
    attach           ADD and DEL of a pod by hand and through meta-cni, side by side
    bound            110 pods of one node at once with different bounds on how many are attached at once
    operator         the node role beside a real API server (make kubernetes provides one)
    storm            110 pods of one node at once, by hand and with Braid, beside a real API server
    growth           more and more networks, pods and nodes; takes about 15 minutes
    --pairs N        attach: how often each ADD and DEL is measured (default 25, at least 20)
    --set NAME=JSON  storm: a setting of the node, as in docs/configuration.md; may be given several times
    --real N         growth: nodes that are real node roles (default 200); those beyond are simulated
Without a name, everything but growth is measured. Writes target/bench/summary.json, and growth draws
target/bench/growth.svg. Needs root.
";

/// Says to a benchmark that it runs in its own namespaces.
const INSIDE: &str = "BRAID_BENCH_INSIDE";

const SUMMARY: &str = "target/bench/summary.json";
const PICTURE: &str = "target/bench/growth.svg";

/// Fewer are not measured.
const LEAST_PAIRS: usize = 20;

/// Runs the benchmarks that the arguments name.
pub fn main(arguments: &[OsString]) -> ExitCode {
    let words: Vec<&OsStr> = arguments.iter().map(OsString::as_os_str).collect();
    let done = match words.as_slice() {
        [word, file, program] if *word == peak::WORD => return peak::main(file, program),
        [word] if *word == "--help" => say(HELP),
        words => Asked::parse(words).and_then(|asked| measure(&asked)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // There is nobody else to tell.
            let _ = writeln!(std::io::stderr(), "bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What is to be measured.
#[derive(Debug)]
struct Asked {
    pairs: usize,
    /// Of the node in storms, besides its defaults.
    settings: Map<String, Value>,
    /// Real node roles of `growth`.
    real: usize,
    what: BTreeSet<What>,
}

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Attach,
    Bound,
    Operator,
    Storm,
    Growth,
}

impl What {
    /// Whether it takes an API server.
    fn needs_api_server(self) -> bool {
        !matches!(self, Self::Attach | Self::Bound)
    }
}

impl Asked {
    fn parse(words: &[&OsStr]) -> Result<Self> {
        let mut asked = Self { pairs: 25, settings: Map::new(), real: 200, what: BTreeSet::new() };
        let mut words = words.iter().map(|word| word.to_str().unwrap_or_default());
        while let Some(word) = words.next() {
            match word {
                "attach" => asked.what.extend([What::Attach]),
                "bound" => asked.what.extend([What::Bound]),
                "operator" => asked.what.extend([What::Operator]),
                "storm" => asked.what.extend([What::Storm]),
                "growth" => asked.what.extend([What::Growth]),
                "--set" => {
                    let (name, value) = setting(words.next().context("--set needs NAME=JSON")?)?;
                    asked.settings.insert(name, value);
                }
                "--real" => asked.real = whole(word, words.next())?,
                "--pairs" => {
                    asked.pairs = whole(word, words.next())?;
                    ensure!(
                        asked.pairs >= LEAST_PAIRS,
                        "--pairs {}: medians of fewer than {LEAST_PAIRS} pairs say little; ask for \
                         {LEAST_PAIRS} or more",
                        asked.pairs
                    );
                }
                other => bail!("{other:?} is nothing that can be measured; see bench --help"),
            }
        }
        if asked.what.is_empty() {
            asked.what = BTreeSet::from([What::Attach, What::Bound, What::Operator, What::Storm]);
        }
        let unused = !asked.settings.is_empty() && !asked.has(What::Storm);
        ensure!(!unused, "--set: only storm has a node with settings; ask for it, too");
        Ok(asked)
    }

    fn has(&self, what: What) -> bool {
        self.what.contains(&what)
    }
}

fn whole(flag: &str, number: Option<&str>) -> Result<usize> {
    let number = number.with_context(|| format!("{flag} needs a number"))?;
    number.parse().with_context(|| format!("{flag} {number:?}"))
}

/// `NAME=JSON`.
fn setting(text: &str) -> Result<(String, Value)> {
    let parts = text.split_once('=').filter(|(name, _)| !name.is_empty());
    let (name, value) = parts.with_context(|| format!("--set {text:?} is not NAME=JSON"))?;
    let value = serde_json::from_str(value).with_context(|| {
        format!("--set {text:?}: {value:?} is not JSON; text is in quotation marks there")
    })?;
    Ok((name.to_owned(), value))
}

fn measure(asked: &Asked) -> Result<()> {
    ensure!(rustix::process::geteuid().is_root(), "it makes network namespaces and needs root");
    if std::env::var_os(INSIDE).is_none() {
        return Err(enter_namespaces());
    }
    // As on a node: what does not outlive a boot is in memory.
    mount("tmpfs", "/run", "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, None).context("mounting /run")?;
    let machine = Machine::look()?;
    say(&machine.to_string())?;
    let mut summary = Map::new();
    summary.insert("machine".to_owned(), serde_json::to_value(&machine)?);
    if asked.has(What::Attach) {
        let rows = attach::measure(asked.pairs)?;
        say(&attach::table(&rows))?;
        summary.insert("pairs".to_owned(), asked.pairs.into());
        summary.insert("attach".to_owned(), serde_json::to_value(&rows)?);
    }
    if asked.has(What::Bound) {
        let rows = bound::measure().context("measuring storms with different bounds")?;
        say(&bound::table(&rows))?;
        summary.insert("bound".to_owned(), serde_json::to_value(&rows)?);
    }
    match control_plane::missing().filter(|_| asked.what.iter().any(|what| what.needs_api_server())) {
        Some(missing) => say(&format!("\nWhat needs an API server is not measured: {missing}\n"))?,
        None => measure_beside_api_server(asked, &mut summary)?,
    }
    write(&Value::Object(summary))
}

fn measure_beside_api_server(asked: &Asked, summary: &mut Map<String, Value>) -> Result<()> {
    if asked.has(What::Operator) {
        let figures = operator::measure().context("measuring the node role")?;
        say(&operator::table(&figures))?;
        summary.insert("operator".to_owned(), serde_json::to_value(&figures)?);
    }
    if asked.has(What::Storm) {
        let figures = storm::measure(&asked.settings).context("measuring storms")?;
        say(&storm::table(&figures))?;
        summary.insert("storm".to_owned(), serde_json::to_value(&figures)?);
    }
    if asked.has(What::Growth) {
        say("\nGrowth:\n")?;
        let figures = growth::measure(asked.real, &say).context("measuring growth")?;
        say(&growth::table(&figures))?;
        summary.insert("growth".to_owned(), serde_json::to_value(&figures)?);
        write_text(PICTURE, &growth::picture(&figures))?;
    }
    Ok(())
}

/// Runs this program again, in network and mount namespaces of its own. Returns only if that fails.
fn enter_namespaces() -> anyhow::Error {
    let own = match std::env::current_exe() {
        Ok(own) => own,
        Err(error) => return anyhow::Error::new(error).context("finding the running program"),
    };
    let mut command = Command::new("unshare");
    command.args(["--mount", "--net", "--propagation", "private", "--"]).arg(own);
    let error = command.args(std::env::args_os().skip(1)).env(INSIDE, "1").exec();
    anyhow::Error::new(error).context("running unshare (Debian's package util-linux)")
}

fn write(summary: &Value) -> Result<()> {
    write_text(SUMMARY, &format!("{}\n", serde_json::to_string_pretty(summary)?))
}

fn write_text(path: &str, text: &str) -> Result<()> {
    let dir = Path::new(path).parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(dir).with_context(|| format!("making the directory of {path}"))?;
    std::fs::write(path, text).with_context(|| format!("writing {path}"))?;
    say(&format!("Written to {path}.\n"))
}

fn say(text: &str) -> Result<()> {
    std::io::stdout().write_all(text.as_bytes()).context("printing")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn asked(words: &[&str]) -> Result<Asked> {
        Asked::parse(&words.iter().map(OsStr::new).collect::<Vec<_>>())
    }

    #[test]
    fn few_pairs_are_refused() {
        assert_eq!(asked(&["attach"]).unwrap().pairs, 25);
        assert_eq!(asked(&["--pairs", "20"]).unwrap().pairs, 20);
        for words in [&["--pairs", "19"][..], &["--pairs", "0"], &["--pairs"], &["--pairs", "x"], &["x"]] {
            assert!(asked(words).is_err(), "{words:?}");
        }
    }

    #[test]
    fn growth_takes_long_and_has_to_be_asked_for() {
        assert_eq!(
            asked(&[]).unwrap().what,
            BTreeSet::from([What::Attach, What::Bound, What::Operator, What::Storm])
        );
        let one = asked(&["growth", "--real", "7"]).unwrap();
        assert_eq!((one.what, one.real), (BTreeSet::from([What::Growth]), 7));
    }

    #[test]
    fn settings_are_json_and_need_a_storm() {
        let asked_for = asked(&["storm", "--set", "a=4", "--set", "b=\"x=y\""]).unwrap();
        assert_eq!(Value::Object(asked_for.settings), json!({"a": 4, "b": "x=y"}));
        for words in [&["storm", "--set", "a"][..], &["storm", "--set", "=1"], &["storm", "--set", "a=x"]] {
            assert!(asked(words).is_err(), "{words:?}");
        }
        assert!(asked(&["attach", "--set", "a=1"]).is_err(), "nobody would use it");
        assert!(asked(&["--set", "a=1"]).is_ok(), "everything has a storm");
    }
}
