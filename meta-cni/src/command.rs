//! What a person can do with `meta-cni` by hand: `gc`, `give-up`, `--help`, `--version`.

use std::io::{self, Write};

use cni::{ContainerId, IfName};
use serde_json::{Map, Value};
use store::lock::Lock;
use store::record::{self, RecordKey};
use store::settings::Settings;

use crate::attach::search_path;
use crate::call::{Call, delegates_of};
use crate::log::Log;
use crate::unfinished::{InUse, Taken, take_up_one};
use crate::{background, give_up, retired};

/// The type under which configurations name this plugin.
const OURSELVES: &str = "meta-cni";

const HELP: &str = "\
Braid's CNI plugin. A container runtime calls it, with CNI_COMMAND in its environment.

By hand:
  meta-cni gc [options]
      Take up unfinished work of this node at once: DELs that failed, ADDs that were killed, containers
      that the operator has given up. Prints what it did. Exit status 1 if something is still left;
      a container that was given up and whose network namespace still lives is the runtime's to end.
  meta-cni give-up CONTAINER [--interface NAME] [options]
      Forget a container that can never be undone: its record goes, no plugin is called, and the next DEL
      succeeds. Prints what stays behind on the node. It refuses a container that is attached.
      --interface  the interface that the runtime asked for; default eth0
  meta-cni --version
  meta-cni --help

Options:
  --config     read directories and log settings from a CNI configuration
               (default /etc/cni/net.d/00-braid.conflist, if it is there)
  --run-dir    default /run/braid
  --state-dir  default /var/lib/braid
  --bin-dir    where plugins are looked for besides where they were; default /opt/cni/bin
";

/// Runs what the arguments ask for; returns the exit status: 0, 1 for a failure, 2 for wrong usage.
pub(crate) fn run(arguments: &[String], out: &mut dyn Write, err: &mut dyn Write) -> io::Result<u8> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["--help" | "-h" | "help"] => {
            out.write_all(HELP.as_bytes())?;
            Ok(0)
        }
        ["--version" | "-V"] => {
            writeln!(out, "meta-cni {}", env!("CARGO_PKG_VERSION"))?;
            Ok(0)
        }
        [background::ARGUMENT] => Ok(u8::from(background::run(&mut io::stdin()).is_err())),
        ["gc", options @ ..] => match call("gc by hand", options) {
            Ok(call) => collect(&call, out),
            Err(problem) => usage(err, &problem),
        },
        ["give-up", container, options @ ..] if !container.starts_with('-') => {
            match to_give_up(container, options) {
                Ok((call, key)) => give_up(&call, &key, out),
                Err(problem) => usage(err, &problem),
            }
        }
        ["give-up", ..] => usage(err, "give-up needs the id of a container"),
        [other, ..] => usage(err, &format!("{other:?} is nothing that meta-cni does")),
        [] => usage(err, "no argument"),
    }
}

fn usage(err: &mut dyn Write, problem: &str) -> io::Result<u8> {
    writeln!(err, "meta-cni: {problem}; see meta-cni --help")?;
    Ok(2)
}

/// Which container is to be given up, on which node.
fn to_give_up(container: &str, options: &[&str]) -> Result<(Call, RecordKey), String> {
    let id = ContainerId::parse(container).map_err(|error| format!("container {container:?}: {error}"))?;
    let of_interface = |pair: &&[&str]| pair.first() == Some(&"--interface");
    let (own, others): (Vec<&[&str]>, Vec<&[&str]>) = options.chunks(2).partition(of_interface);
    let if_name = match own.as_slice() {
        [] => "eth0",
        [[_, name]] => *name,
        _ => return Err("--interface needs one value".to_owned()),
    };
    let if_name = IfName::parse(if_name).map_err(|error| format!("--interface {if_name:?}: {error}"))?;
    Ok((call("give-up by hand", &others.concat())?, RecordKey { container_id: id, if_name }))
}

fn give_up(call: &Call, key: &RecordKey, out: &mut dyn Write) -> io::Result<u8> {
    match give_up::give_up(call, key) {
        Ok(left) => {
            writeln!(out, "{}: given up; what stays behind:\n{left}", name(key))?;
            Ok(0)
        }
        Err(error) => {
            writeln!(out, "failed: {error}")?;
            Ok(1)
        }
    }
}

/// Settings from the installed configuration, directories from the options.
fn call(verb: &str, options: &[&str]) -> Result<Call, String> {
    let mut file = None;
    let mut given = Map::new();
    for pair in options.chunks(2) {
        let [option, value] = pair else { return Err(format!("{} needs a value", pair.join(" "))) };
        let setting = match *option {
            "--config" => {
                file = Some((*value).to_owned());
                continue;
            }
            "--run-dir" => "runDir",
            "--state-dir" => "stateDir",
            "--bin-dir" => "binDir",
            other => return Err(format!("unknown option {other:?}")),
        };
        given.insert(setting.to_owned(), Value::String((*value).to_owned()));
    }
    let mut config = installed(file.as_deref())?;
    config.extend(given);
    let settings = Settings::parse(&config).map_err(|error| error.to_string())?;
    Ok(Call {
        unreadable: Vec::new(),
        runtime: Map::new(),
        log: Log::new(settings.log.clone()).about("verb", &verb),
        exec: delegates_of(&settings),
        path: search_path([settings.bin_dir.as_path()]),
        settings,
        config,
        begun_ms: record::now_ms(),
    })
}

fn installed(file: Option<&str>) -> Result<Map<String, Value>, String> {
    let path = file.unwrap_or("/etc/cni/net.d/00-braid.conflist");
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if file.is_none() && error.kind() == io::ErrorKind::NotFound => return Ok(Map::new()),
        Err(error) => return Err(format!("read {path}: {error}")),
    };
    let list = cni::NetworkList::parse(&text, None).map_err(|error| format!("read {path}: {error}"))?;
    let ours = list.plugins.iter().find(|plugin| plugin.plugin().as_str() == OURSELVES);
    ours.map(|plugin| plugin.object().clone())
        .ok_or_else(|| format!("{path} has no plugin of type {OURSELVES:?}: name the configuration that has"))
}

fn collect(call: &Call, out: &mut dyn Write) -> io::Result<u8> {
    let dir = &call.settings.directory;
    // A run that takes up work after its own is done soon.
    let only = Lock::of_unfinished_work(dir, call.settings.lock_wait);
    let (_only, keys) = match only.and_then(|only| Ok((only, record::unfinished(dir)?))) {
        Ok(begun) => begun,
        Err(error) => {
            writeln!(out, "failed: {}", cni::error::chain_text(&error))?;
            return Ok(1);
        }
    };
    let (mut undone, mut left, mut in_use) = (0, 0, 0);
    for key in &keys {
        let (line, count) = match take_up_one(call, key, &call.exec, true) {
            Ok(Taken::AtRest) => continue,
            Ok(Taken::Done) => ("undone".to_owned(), &mut undone),
            Ok(Taken::Busy) => ("busy: another process is at it".to_owned(), &mut left),
            Ok(Taken::InUse(InUse { netns, reason })) => {
                let netns = netns.display();
                let line =
                    format!("in use: {reason}, but its namespace {netns} lives; left to the runtime's DEL");
                (line, &mut in_use)
            }
            Ok(Taken::Owed(why)) => (format!("left, and its pod is let go: {why}"), &mut left),
            Ok(Taken::Failed(error)) => (format!("left: {error}"), &mut left),
            Err(error) => (format!("left: {}", cni::error::chain_text(&error)), &mut left),
        };
        writeln!(out, "{}: {line}", name(key))?;
        *count += 1;
    }
    let left_node = retired::leave(call);
    write!(out, "unfinished containers: {undone} undone, {left} left")?;
    if in_use > 0 {
        write!(out, ", {in_use} in use")?;
    }
    writeln!(out)?;
    if let Err(error) = &left_node {
        writeln!(out, "failed: {error}")?;
    }
    Ok(u8::from(left > 0 || left_node.is_err()))
}

fn name(key: &RecordKey) -> String {
    format!("container {}, interface {}", key.container_id, key.if_name)
}
