//! Benchmarks on real parts. Everything happens in network and mount namespaces of the benchmark's own, so that
//! nothing is left of them, however they end.

mod attach;
mod machine;
mod operator;
mod peak;
mod sample;
mod stage;

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
bench [--pairs N] [attach] [operator]
    attach       ADD and DEL of a pod by hand and through meta-cni, side by side
    operator     the node role beside a real API server (make kubernetes provides one)
    --pairs N    how often each ADD and DEL is measured (default 25, at least 20)
Without a name, everything is measured. Writes target/bench/summary.json. Needs root.
";

/// Says to a benchmark that it runs in its own namespaces.
const INSIDE: &str = "BRAID_BENCH_INSIDE";

const SUMMARY: &str = "target/bench/summary.json";

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
struct Asked {
    pairs: usize,
    attach: bool,
    operator: bool,
}

impl Asked {
    fn parse(words: &[&OsStr]) -> Result<Self> {
        let mut asked = Self { pairs: 25, attach: false, operator: false };
        let mut words = words.iter().map(|word| word.to_str().unwrap_or_default());
        while let Some(word) = words.next() {
            match word {
                "attach" => asked.attach = true,
                "operator" => asked.operator = true,
                "--pairs" => {
                    let number = words.next().context("--pairs needs a number")?;
                    asked.pairs = number.parse().with_context(|| format!("--pairs {number:?}"))?;
                    ensure!(
                        asked.pairs >= LEAST_PAIRS,
                        "--pairs {number}: medians of fewer than {LEAST_PAIRS} pairs say little; ask for \
                         {LEAST_PAIRS} or more"
                    );
                }
                other => bail!("{other:?} is nothing that can be measured; see bench --help"),
            }
        }
        if !asked.attach && !asked.operator {
            (asked.attach, asked.operator) = (true, true);
        }
        Ok(asked)
    }
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
    if asked.attach {
        let rows = attach::measure(asked.pairs)?;
        say(&attach::table(&rows))?;
        summary.insert("pairs".to_owned(), asked.pairs.into());
        summary.insert("attach".to_owned(), serde_json::to_value(&rows)?);
    }
    match control_plane::missing().filter(|_| asked.operator) {
        Some(missing) => say(&format!("\nThe node role is not measured: {missing}\n"))?,
        None if asked.operator => {
            let figures = operator::measure().context("measuring the node role")?;
            say(&operator::table(&figures))?;
            summary.insert("operator".to_owned(), serde_json::to_value(&figures)?);
        }
        None => {}
    }
    write(&Value::Object(summary))
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
    let path = Path::new(SUMMARY);
    std::fs::create_dir_all(path.parent().unwrap_or(path))
        .with_context(|| format!("making the directory of {SUMMARY}"))?;
    let text = format!("{}\n", serde_json::to_string_pretty(summary)?);
    std::fs::write(path, text).with_context(|| format!("writing {SUMMARY}"))?;
    say(&format!("Written to {SUMMARY}.\n"))
}

fn say(text: &str) -> Result<()> {
    std::io::stdout().write_all(text.as_bytes()).context("printing")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_pairs_are_refused() {
        let asked = |words: &[&str]| {
            Asked::parse(&words.iter().map(OsStr::new).collect::<Vec<_>>()).map(|asked| asked.pairs)
        };
        assert_eq!(asked(&["attach"]).unwrap(), 25);
        assert_eq!(asked(&["--pairs", "20"]).unwrap(), 20);
        for words in [&["--pairs", "19"][..], &["--pairs", "0"], &["--pairs"], &["--pairs", "x"], &["x"]] {
            assert!(asked(words).is_err(), "{words:?}");
        }
    }
}
