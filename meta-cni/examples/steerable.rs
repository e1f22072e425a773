//! A plugin for tests, of any name: it writes down every call and does as it is told.
//!
//! It is linked under the names that a test wants. What it does at a verb is in the file `<name>.<VERB>.json`
//! beside it, else in `steer.<VERB>` of its configuration:
//!
//! | key | effect, in this order |
//! |---|---|
//! | `stderr` | the text goes to stderr |
//! | `make` | a file of this path is made |
//! | `until` | it waits until there is a file of this path |
//! | `hang` | it waits until it is killed |
//! | `signal` | it sends itself this signal |
//! | `raw`, `blanks` | the text, or so many blanks, go to stdout in place of an answer |
//! | `exit` | its exit status in place of an answer |
//! | `needs` | the verb fails if `prevResult` is absent |
//! | `error` | the verb fails with this `code`, `msg` and `details` |
//! | `result` | ADD returns this, in the version of the configuration |
//!
//! Without `result` ADD returns `prevResult`, else an interface with the `address` of the configuration.
//! Calls are lines of the file `calls` beside it: one when the call begins, one when it ends by itself.

#![allow(clippy::unwrap_used, clippy::expect_used)] // It may fail as loudly as the test that it serves.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use cni::env::Target;
use cni::skel::{Plugin, Request, Surroundings};
use cni::{AddResult, CniError, Code};
use serde_json::{Map, Value, json};

/// A call waits no longer than this, so that nothing outlives a broken test for long.
const LONGEST: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let this = PathBuf::from(std::env::args_os().next().expect("the path under which it was started"));
    let verb = std::env::var("CNI_COMMAND").unwrap_or_default();
    let mut stdin = Vec::new();
    std::io::stdin().read_to_end(&mut stdin).expect("stdin can be read");
    note(&this, &begin(&this, &verb, &stdin));
    let steer = steer(&this, &verb, &stdin);
    let answered = misbehave(&this, &steer);
    let status = answered.unwrap_or_else(|| answer(&Steerable { steer }, &stdin));
    note(&this, &json!({"at": "end", "plugin": name(&this), "verb": verb, "pid": std::process::id()}));
    ExitCode::from(status)
}

fn name(this: &Path) -> String {
    this.file_name().expect("a file").to_string_lossy().into_owned()
}

fn begin(this: &Path, verb: &str, stdin: &[u8]) -> Value {
    let variables = std::env::vars().filter(|(name, _)| name.starts_with("CNI_"));
    let env: Map<String, Value> = variables.map(|(name, value)| (name, value.into())).collect();
    let stdin: Value = serde_json::from_slice(stdin).unwrap_or_default();
    let pid = std::process::id();
    json!({"at": "begin", "plugin": name(this), "verb": verb, "pid": pid, "env": env, "stdin": stdin})
}

/// Appends one line, alone.
fn note(this: &Path, line: &Value) {
    let path = this.with_file_name("calls");
    let begins = line["at"] == "begin";
    let opened = std::fs::OpenOptions::new().create(begins).append(true).open(path);
    // A test that is over has taken its directory away.
    let Ok(mut file) = opened else { return };
    file.lock().expect("the lock of the calls");
    file.write_all(format!("{line}\n").as_bytes()).expect("a call is written down");
}

fn steer(this: &Path, verb: &str, stdin: &[u8]) -> Map<String, Value> {
    let file = this.with_file_name(format!("{}.{verb}.json", name(this)));
    let told: Value = match std::fs::read(file) {
        Ok(text) => serde_json::from_slice(&text).expect("the test steers with JSON"),
        Err(_) => serde_json::from_slice::<Value>(stdin).unwrap_or_default()["steer"][verb].clone(),
    };
    told.as_object().cloned().unwrap_or_default()
}

/// Does what no library for plugins would; the exit status, if that was all.
fn misbehave(this: &Path, steer: &Map<String, Value>) -> Option<u8> {
    let path = |key: &str| steer.get(key).and_then(Value::as_str).map(PathBuf::from);
    let number = |key: &str| steer.get(key).and_then(Value::as_u64);
    if let Some(text) = steer.get("stderr").and_then(Value::as_str) {
        std::io::stderr().write_all(text.as_bytes()).expect("stderr takes text");
    }
    if let Some(path) = path("make") {
        std::fs::write(path, "").expect("a file is made");
    }
    if let Some(path) = path("until") {
        wait(&path, || path.exists());
    }
    if steer.contains_key("hang") {
        wait(this, || !this.exists());
    }
    if let Some(signal) = number("signal") {
        let signal = i32::try_from(signal).ok().and_then(rustix::process::Signal::from_named_raw);
        let _ = rustix::process::kill_process(rustix::process::getpid(), signal.expect("a signal"));
    }
    let blanks = number("blanks").map(|count| " ".repeat(usize::try_from(count).expect("a length")));
    let raw = steer.get("raw").and_then(Value::as_str).map(str::to_owned).or(blanks);
    if let Some(raw) = &raw {
        // Who is killed for what it prints finds its pipe closed.
        let _ = std::io::stdout().write_all(raw.as_bytes());
    }
    let status = number("exit").map(|status| u8::try_from(status).expect("an exit status"));
    status.or(raw.map(|_| 0))
}

fn wait(path: &Path, mut over: impl FnMut() -> bool) {
    let look = || Ok::<_, std::io::Error>(over().then_some(()));
    let _ = store::watch::until(&[path.to_owned()], LONGEST, look);
}

fn answer(plugin: &Steerable, mut stdin: &[u8]) -> u8 {
    let mut around = Surroundings {
        env: &|name| std::env::var(name).ok(),
        stdin: &mut stdin,
        stdout: &mut std::io::stdout(),
        stderr: &mut std::io::stderr(),
    };
    cni::skel::run(plugin, &mut around)
}

struct Steerable {
    steer: Map<String, Value>,
}

impl Steerable {
    fn outcome(&self, request: &Request) -> Result<(), CniError> {
        if self.steer.contains_key("needs") && request.prev_result()?.is_none() {
            return Err(CniError::new(Code::INVALID_CONFIG, "there is no prevResult"));
        }
        match self.steer.get("error") {
            Some(error) => Err(serde_json::from_value(error.clone()).expect("a CNI error")),
            None => Ok(()),
        }
    }
}

impl Plugin for Steerable {
    fn about(&self) -> String {
        "A plugin for tests.".to_owned()
    }

    fn add(&self, target: &Target, request: &Request) -> Result<AddResult, CniError> {
        self.outcome(request)?;
        let own = match self.steer.get("result") {
            Some(result) => result.clone(),
            None => match request.prev_result()? {
                Some(earlier) => return Ok(earlier),
                None => made(target, request),
            },
        };
        AddResult::parse(own, cni::SpecVersion::NEWEST)
            .map_err(|error| CniError::from_chain(Code::INTERNAL, &error))
    }

    fn del(&self, _: &Target, request: &Request) -> Result<(), CniError> {
        self.outcome(request)
    }

    fn check(&self, _: &Target, request: &Request) -> Result<(), CniError> {
        self.outcome(request)
    }

    fn gc(&self, request: &Request) -> Result<(), CniError> {
        self.outcome(request)
    }

    fn status(&self, request: &Request) -> Result<(), CniError> {
        self.outcome(request)
    }
}

fn made(target: &Target, request: &Request) -> Value {
    let address = request.config.get("address").cloned().unwrap_or_else(|| "10.0.0.2/24".into());
    let sandbox = target.netns.as_ref().map(|path| path.display().to_string());
    json!({
        "interfaces": [{"name": target.if_name.as_str(), "mac": "02:00:00:00:00:01", "sandbox": sandbox}],
        "ips": [{"address": address, "interface": 0}],
    })
}
