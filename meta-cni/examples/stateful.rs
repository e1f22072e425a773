//! A plugin for tests, of any name, that leaves what real ones leave: interfaces, addresses and rules, as files below
//! the `world` of its configuration. So it shows what was not undone, without privileges and quickly.
//!
//! | file | stands for |
//! |---|---|
//! | `interfaces/<name of the namespace>/<interface>` | an interface; gone with its namespace |
//! | `addresses/<network>/<number>` | an address that host-local has given out; holds `<container> <interface>` |
//! | `rules/<network>/<container> <interface>` | rules of portmap, with `"rules": true` in the configuration |
//! | `faults/<plugin> <VERB>` | what goes wrong at the next call; whoever takes it up removes it |
//! | `acted/<plugin> <VERB>` | it went wrong at its step, or is about to |
//! | `go` | one that is held may go on |
//!
//! As bridge and host-local do: ADD fails if the interface is there, or if the container has an address already; DEL
//! succeeds when there is nothing left, and without a namespace; GC frees what is not valid. As portmap does: ADD
//! with rules hands `prevResult` on, and may be repeated.

#![allow(clippy::unwrap_used, clippy::expect_used)] // It may fail as loudly as the test that it serves.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use cni::env::Target;
use cni::skel::{Plugin, Request, Surroundings};
use cni::{AddResult, CniError, Code};
use rustix::process::{Signal, getpid, kill_process};
use serde_json::{Value, json};

/// What hangs does not outlive a broken test for long.
const LONGEST: Duration = Duration::from_secs(60);
/// What a slow plugin takes for each step.
const SLOW: Duration = Duration::from_millis(15);
/// How often one that is held looks whether it may go on.
const GLANCE: Duration = Duration::from_millis(1);

fn main() -> ExitCode {
    let this = PathBuf::from(std::env::args_os().next().expect("the path under which it was started"));
    let verb = std::env::var("CNI_COMMAND").unwrap_or_default();
    let mut stdin = Vec::new();
    std::io::stdin().read_to_end(&mut stdin).expect("stdin can be read");
    let config: Value = serde_json::from_slice(&stdin).unwrap_or_default();
    // Without a configuration, or with a part of one, nothing can be done.
    let Some(world) = config["world"].as_str().map(PathBuf::from) else { return ExitCode::FAILURE };
    let name = this.file_name().expect("a file").to_string_lossy().into_owned();
    let call = format!("{name} {verb}");
    let fault = take_fault(&world.join("faults").join(&call));
    let plugin = Stateful { rules: config["rules"] == true, world, call, fault };
    let mut around = Surroundings {
        env: &|name| std::env::var(name).ok(),
        stdin: &mut stdin.as_slice(),
        stdout: &mut std::io::stdout(),
        stderr: &mut std::io::stderr(),
    };
    ExitCode::from(cni::skel::run(&plugin, &mut around))
}

/// The fault that this call is to have; no other call has it.
fn take_fault(file: &Path) -> String {
    let taken = file.with_extension(std::process::id().to_string());
    if fs::rename(file, &taken).is_err() {
        return String::new();
    }
    let fault = fs::read_to_string(&taken).expect("a fault");
    fs::remove_file(taken).expect("a fault is removed");
    fault
}

struct Stateful {
    rules: bool,
    world: PathBuf,
    /// `<plugin> <VERB>`.
    call: String,
    /// `<what> <step>`: at this step, from 0 on.
    fault: String,
}

impl Stateful {
    /// Between two steps; where faults happen.
    fn step(&self, number: u32, target: Option<&Target>, request: &Request) -> Result<(), CniError> {
        if self.fault == "slow" {
            std::thread::sleep(SLOW);
        }
        let begun = Instant::now();
        while self.fault == "held" && !self.world.join("go").exists() && begun.elapsed() < LONGEST {
            std::thread::sleep(GLANCE);
        }
        let Some((what, at)) = self.fault.split_once(' ') else { return Ok(()) };
        if at != number.to_string() {
            return Ok(());
        }
        let netns = target.and_then(|target| target.netns.as_deref());
        if what == "netns" && !netns.is_some_and(Path::exists) {
            return Ok(());
        }
        // Before it acts: some of it ends this process.
        fs::write(self.world.join("acted").join(&self.call), what).expect("it can be told");
        match what {
            "kill" => drop(kill_process(getpid(), Signal::KILL)),
            "orphan" => {
                self.leave_an_orphan(target, request);
                let _ = kill_process(getpid(), Signal::KILL);
            }
            "hang" => std::thread::sleep(LONGEST),
            "silent" => std::process::exit(3),
            "garbage" => {
                std::io::stdout().write_all(b"}{").expect("stdout takes text");
                std::process::exit(0);
            }
            "netns" => {
                if let Some(path) = netns {
                    let _ = fs::remove_file(path);
                }
                if let Some(dir) = netns.and_then(|path| self.interfaces(path)) {
                    let _ = fs::remove_dir_all(dir);
                }
            }
            _ => return Err(CniError::new(Code(111), "as the test wants")),
        }
        Ok(())
    }

    /// An IPAM plugin that this one has started, and that goes on to give out an address.
    fn leave_an_orphan(&self, target: Option<&Target>, request: &Request) {
        let is_add = std::env::var("CNI_COMMAND").is_ok_and(|verb| verb == "ADD");
        let (Some(target), true) = (target, is_add && !self.rules) else { return };
        let dir = self.of_network("addresses", request);
        fs::create_dir_all(&dir).expect("a directory is made");
        let script = r#"sleep 0.05; printf '%s' "$1" > "$0""#;
        let mut shell = std::process::Command::new("/bin/sh");
        shell.args(["-c", script]).arg(dir.join("250")).arg(owner(target)).stdin(std::process::Stdio::null());
        shell.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        // It outlives this process: nobody waits for an orphan.
        drop(shell.spawn().expect("a shell is started"));
    }

    /// Where a namespace's interfaces are, while it lives.
    fn interfaces(&self, netns: &Path) -> Option<PathBuf> {
        Some(self.world.join("interfaces").join(netns.file_name()?))
    }

    fn of_network(&self, kind: &str, request: &Request) -> PathBuf {
        self.world.join(kind).join(request.name.as_str())
    }

    fn take_address(&self, target: &Target, request: &Request) -> Result<usize, CniError> {
        let (dir, owner) = (self.of_network("addresses", request), owner(target));
        if files(&dir).iter().any(|file| fs::read_to_string(file).is_ok_and(|text| text == owner)) {
            return Err(failed("duplicate allocation is not allowed"));
        }
        fs::create_dir_all(&dir).map_err(failed)?;
        // Whole or not at all, and never somebody else's.
        let whole = self.world.join(format!("new-{}", std::process::id()));
        fs::write(&whole, owner).map_err(failed)?;
        let taken = (2..250).find(|number| fs::hard_link(&whole, dir.join(number.to_string())).is_ok());
        fs::remove_file(whole).map_err(failed)?;
        taken.ok_or_else(|| failed("no IP addresses available"))
    }

    fn free_addresses(&self, request: &Request, is_freed: impl Fn(&str) -> bool) -> Result<(), CniError> {
        for file in files(&self.of_network("addresses", request)) {
            if fs::read_to_string(&file).is_ok_and(|text| is_freed(&text)) {
                gone(fs::remove_file(file))?;
            }
        }
        Ok(())
    }
}

impl Plugin for Stateful {
    fn about(&self) -> String {
        "A plugin for tests that leaves something.".to_owned()
    }

    fn add(&self, target: &Target, request: &Request) -> Result<AddResult, CniError> {
        self.step(0, Some(target), request)?;
        if self.rules {
            let earlier = request.prev_result()?.ok_or_else(|| failed("there is no prevResult"))?;
            let dir = self.of_network("rules", request);
            fs::create_dir_all(&dir).and_then(|()| fs::write(dir.join(owner(target)), "")).map_err(failed)?;
            self.step(1, Some(target), request)?;
            return Ok(earlier);
        }
        let interfaces = target.netns.as_deref().and_then(|netns| self.interfaces(netns));
        let interfaces = interfaces.ok_or_else(|| failed("there is no namespace"))?;
        let interface = interfaces.join(target.if_name.as_str());
        fs::File::create_new(interface).map_err(failed)?;
        self.step(1, Some(target), request)?;
        let number = self.take_address(target, request)?;
        self.step(2, Some(target), request)?;
        let sandbox = target.netns.as_ref().map(|path| path.display().to_string());
        let result = json!({
            "interfaces": [{"name": target.if_name.as_str(), "sandbox": sandbox}],
            "ips": [{"address": format!("10.0.0.{number}/24"), "interface": 0}],
        });
        AddResult::parse(result, cni::SpecVersion::NEWEST).map_err(failed)
    }

    fn del(&self, target: &Target, request: &Request) -> Result<(), CniError> {
        self.step(0, Some(target), request)?;
        if self.rules {
            gone(fs::remove_file(self.of_network("rules", request).join(owner(target))))?;
            return self.step(1, Some(target), request);
        }
        self.free_addresses(request, |text| text == owner(target))?;
        self.step(1, Some(target), request)?;
        if let Some(interfaces) = target.netns.as_deref().and_then(|netns| self.interfaces(netns)) {
            gone(fs::remove_file(interfaces.join(target.if_name.as_str())))?;
        }
        self.step(2, Some(target), request)
    }

    fn check(&self, target: &Target, request: &Request) -> Result<(), CniError> {
        self.step(0, Some(target), request)?;
        let there = if self.rules {
            self.of_network("rules", request).join(owner(target)).exists()
        } else {
            let interfaces = target.netns.as_deref().and_then(|netns| self.interfaces(netns));
            interfaces.is_some_and(|dir| dir.join(target.if_name.as_str()).exists())
        };
        if there { Ok(()) } else { Err(failed("it is not there")) }
    }

    fn gc(&self, request: &Request) -> Result<(), CniError> {
        self.step(0, None, request)?;
        let valid = request.config["cni.dev/valid-attachments"].as_array().cloned().unwrap_or_default();
        let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
        let valid: Vec<String> =
            valid.iter().map(|it| format!("{} {}", text(it, "containerID"), text(it, "ifname"))).collect();
        if self.rules {
            for file in files(&self.of_network("rules", request)) {
                let owner = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
                if !valid.contains(&owner) {
                    gone(fs::remove_file(file))?;
                }
            }
        } else {
            self.free_addresses(request, |text| !valid.iter().any(|owner| owner == text))?;
        }
        self.step(1, None, request)
    }
}

fn owner(target: &Target) -> String {
    format!("{} {}", target.container_id, target.if_name)
}

fn failed(error: impl std::fmt::Display) -> CniError {
    CniError::new(Code::INTERNAL, error.to_string())
}

/// What is gone already need not be removed.
fn gone(removed: std::io::Result<()>) -> Result<(), CniError> {
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(failed(error)),
        _ => Ok(()),
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}
