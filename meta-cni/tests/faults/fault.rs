//! Faults that meet one call of `meta-cni`, and how they are put there.

use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use serde_json::json;

use crate::harness::{Node, Run};
use crate::random::Random;
use crate::stage::Outcome;

/// What goes wrong at one call.
#[derive(Clone)]
pub(crate) enum Fault {
    None,
    /// `meta-cni` is killed at a point, `name#occurrence`.
    Point(String),
    /// A system call of `meta-cni` fails, or it is killed there: name, how many-th, what strace injects.
    Call(String, usize, &'static str),
    /// No more than so many files can be open.
    Files(usize),
    /// A plugin misbehaves at a verb: plugin, verb, what at which step.
    Plugin(&'static str, &'static str, String),
    /// `meta-cni` is killed while a plugin of its runs, slowly, and goes on.
    LeftRunning(&'static str, &'static str, usize),
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("undisturbed"),
            Self::Point(at) => write!(f, "killed at {at:?}"),
            Self::Call(name, number, effect) => write!(f, "{effect} at {name} number {number}"),
            Self::Files(most) => write!(f, "at most {most} open files"),
            Self::Plugin(plugin, verb, what) => write!(f, "{plugin} at {verb}: {what}"),
            Self::LeftRunning(plugin, verb, number) => {
                write!(f, "killed while plugin number {number} runs; {plugin} is slow at {verb}")
            }
        }
    }
}

/// System calls that need a free place among open files, or a wait for so many.
const TAKING_FILES: &str = "trace=openat,pipe2,dup,dup2,fcntl,socket,socketpair,epoll_create1,eventfd2,inotify_init1,pidfd_open,clone3,poll";

/// What a plugin may do, at a step.
const MISCHIEF: [&str; 7] = ["kill", "orphan", "hang", "silent", "garbage", "netns", "error"];

impl Fault {
    /// What it is counted as.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Point(_) => "meta-cni killed at a point",
            Self::Call(_, _, effect) if effect.starts_with("signal") => "meta-cni killed at a system call",
            Self::Call(..) => "system call fails",
            Self::Files(_) => "too few open files",
            Self::Plugin(..) => "plugin misbehaves",
            Self::LeftRunning(..) => "meta-cni killed, plugin goes on",
        }
    }

    /// Makes a call one that the fault meets.
    pub(crate) fn put_on<'a>(&self, node: &Node, run: Run<'a>) -> Run<'a> {
        match self {
            Self::None => run,
            Self::Point(at) => run.env("BRAID_DIE_AT", at).env("BRAID_POINTS", points(node)),
            Self::Call(name, number, effect) => {
                let (trace, inject) =
                    (format!("trace={name}"), format!("inject={name}:{effect}:when={number}"));
                let told = node.path("strace").display().to_string();
                run.through(&[strace().unwrap(), "-o", &told, "-e", &trace, "-e", &inject])
            }
            Self::Files(most) => {
                let told = node.path("strace").display().to_string();
                let limited = format!("ulimit -n {most}; exec \"$0\" \"$@\"");
                let strace = [strace().unwrap(), "-f", "--seccomp-bpf", "-Z", "-o", &told];
                run.through(&[&strace[..], &["-e", TAKING_FILES, "/bin/sh", "-c", &limited]].concat())
            }
            Self::Plugin(plugin, verb, what) => {
                tell(node, plugin, verb, what);
                let hangs = what.starts_with("hang");
                // Not so short that others take as long when the machine is busy.
                if hangs { run.set(json!({"delegateTimeout": "1s"})) } else { run }
            }
            Self::LeftRunning(plugin, verb, number) => {
                tell(node, plugin, verb, "slow");
                let at = format!("delegate: configuration given#{number}");
                run.env("BRAID_DIE_AT", at).env("BRAID_POINTS", points(node))
            }
        }
    }

    /// Whether the fault has met the call. What it left for other calls is taken away.
    pub(crate) fn has_happened(&self, node: &Node, outcome: &Outcome) -> bool {
        let killed = matches!(outcome, Outcome::Killed);
        let traced = || fs::read_to_string(node.path("strace")).unwrap_or_default();
        match self {
            Self::None => false,
            Self::Point(_) => was_killed_at_its_point(node),
            Self::Call(..) => killed || traced().contains("INJECTED"),
            Self::Files(_) => traced().lines().any(is_for_lack_of_files),
            Self::Plugin(plugin, verb, _) => {
                let _ = fs::remove_file(order(node, plugin, verb));
                fs::remove_file(node.path("world/acted").join(format!("{plugin} {verb}"))).is_ok()
            }
            Self::LeftRunning(plugin, verb, _) => {
                let _ = fs::remove_file(order(node, plugin, verb));
                was_killed_at_its_point(node)
            }
        }
    }
}

fn points(node: &Node) -> std::path::PathBuf {
    node.path("world/points-of-fault")
}

/// Whether the call, or the process that it started for unfinished work, has killed itself.
fn was_killed_at_its_point(node: &Node) -> bool {
    let told = fs::read_to_string(points(node)).unwrap_or_default();
    let _ = fs::remove_file(points(node));
    told.lines().any(|line| line == "killed")
}

/// Whether a line of strace is about a call that would have needed a further file, or waited for too many.
fn is_for_lack_of_files(line: &str) -> bool {
    line.contains(" EMFILE ") || line.contains("poll(") && line.contains(" EINVAL ")
}

fn order(node: &Node, plugin: &str, verb: &str) -> std::path::PathBuf {
    node.path("world/faults").join(format!("{plugin} {verb}"))
}

/// Tells a plugin what to do at its next call of a verb.
pub(crate) fn tell(node: &Node, plugin: &str, verb: &str, what: &str) {
    fs::write(order(node, plugin, verb), what).unwrap();
}

/// The program that makes system calls fail.
pub(crate) fn strace() -> Option<&'static str> {
    static FOUND: OnceLock<Option<&'static str>> = OnceLock::new();
    *FOUND
        .get_or_init(|| ["/usr/bin/strace", "/bin/strace"].into_iter().find(|path| Path::new(path).exists()))
}

/// System calls that `meta-cni` makes, and how each of them may fail.
pub(crate) const CALLS: [(&str, &[&str]); 15] = [
    ("openat", &["error=ENOSPC", "error=EIO", "error=EROFS", "error=EMFILE", "error=ENFILE", "error=EACCES"]),
    ("write", &["error=ENOSPC", "error=EIO", "error=EDQUOT", "error=EINTR"]),
    ("read", &["error=EIO", "error=EINTR"]),
    ("fsync", &["error=EIO", "error=ENOSPC"]),
    ("fdatasync", &["error=EIO", "error=ENOSPC"]),
    ("rename", &["error=EIO", "error=ENOSPC", "error=EROFS"]),
    ("unlink", &["error=EIO", "error=EROFS"]),
    ("mkdir", &["error=ENOSPC", "error=EIO", "error=EROFS"]),
    ("flock", &["error=ENOLCK", "error=EINTR"]),
    ("statx", &["error=EIO", "error=ENOMEM"]),
    ("getdents64", &["error=EIO"]),
    ("pipe2", &["error=EMFILE", "error=ENFILE"]),
    ("clone3", &["error=EAGAIN", "error=ENOMEM"]),
    ("pidfd_open", &["error=EMFILE", "error=ENOSYS"]),
    ("poll", &["error=EINTR", "error=ENOMEM"]),
];

/// What is known of a verb: the points that it comes to, and the system calls that it makes after it has read its
/// configuration.
#[derive(Debug, Clone, Default)]
pub(crate) struct Places {
    /// `name#occurrence`.
    pub(crate) points: Vec<String>,
    /// (name, from, to): numbers of its calls.
    pub(crate) calls: Vec<(String, usize, usize)>,
}

/// A fault for a call of a verb.
pub(crate) fn choose(random: &mut Random, verb: &'static str, places: &Places) -> Fault {
    let plugin = *random.pick(&crate::stage::PLUGINS);
    let of_plugin = if verb == "gc" { "DEL" } else { verb };
    match random.below(100) {
        0..30 => Fault::Point(random.pick(&places.points).clone()),
        30..65 if !places.calls.is_empty() => {
            let (name, from, to) = random.pick(&places.calls).clone();
            let number = from + random.below(to + 1 - from);
            let effects = CALLS.iter().find(|(call, _)| *call == name).unwrap().1;
            let effect = if random.percent(30) { "signal=KILL" } else { *random.pick(effects) };
            Fault::Call(name, number, effect)
        }
        65..72 => Fault::Files(3 + random.below(12)),
        72..90 if verb != "STATUS" => {
            // Hanging takes time, so it is rarer.
            let what = if random.percent(10) { "hang" } else { *random.pick(&MISCHIEF) };
            let what = if what == "hang" && random.percent(60) { "kill" } else { what };
            // A plugin that says it has undone its part, and has not, is nothing that anybody can know.
            let what = if what == "garbage" && verb != "ADD" { "silent" } else { what };
            let steps = if plugin == "rules" || verb == "GC" { 2 } else { 3 };
            Fault::Plugin(plugin, of_plugin, format!("{what} {}", random.below(steps)))
        }
        _ if verb != "STATUS" => Fault::LeftRunning(plugin, of_plugin, 1 + random.below(6)),
        _ => Fault::Point(random.pick(&places.points).clone()),
    }
}
