//! Shell scripts as plugins: each shows one way in which a plugin behaves or misbehaves.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::args::CniArgs;
use crate::ids::{ContainerId, IfName};

struct Bin(tempfile::TempDir);

impl Bin {
    fn with(script: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("plugin");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        Self(dir)
    }

    /// Runs the plugin. A test beside this one that starts a process has, until it has, a copy of the script
    /// as it was being written: that is waited out.
    fn run(&self, timeout: Duration, stdin: &[u8]) -> Result<Vec<u8>, ExecError> {
        self.run_if_busy(Duration::from_secs(2), timeout, stdin)
    }

    fn run_if_busy(
        &self,
        busy_wait: Duration,
        timeout: Duration,
        stdin: &[u8],
    ) -> Result<Vec<u8>, ExecError> {
        self.run_by(&ProcessExec { timeout, busy_wait, relay_stderr: false, ..ProcessExec::default() }, stdin)
    }

    fn run_by(&self, exec: &ProcessExec, stdin: &[u8]) -> Result<Vec<u8>, ExecError> {
        let target = Target {
            container_id: ContainerId::parse("c1").unwrap(),
            netns: Some("/run/netns/c1".into()),
            if_name: IfName::parse("net1").unwrap(),
            args: CniArgs::parse("A=1;B=2").unwrap(),
        };
        let plugin = PluginType::parse("plugin").unwrap();
        let path = [PathBuf::from("/nonexistent"), self.0.path().to_owned()];
        exec.run(&Call { plugin: &plugin, verb: Verb::Add, target: Some(&target), path: &path, stdin })
    }
}

const LONG: Duration = Duration::from_secs(20);

#[test]
fn a_plugin_gets_exactly_the_variables_of_the_specification_and_its_stdin() {
    // What the shell was started with, and not what it adds.
    let bin = Bin::with("cat /proc/$$/environ; cat");
    let output = String::from_utf8(bin.run(LONG, b"{\"x\":1}").unwrap()).unwrap();
    let (environment, stdin) = output.rsplit_once('\0').unwrap();
    let path = format!("CNI_PATH=/nonexistent:{}", bin.0.path().display());
    let expected = [
        "CNI_ARGS=A=1;B=2",
        "CNI_COMMAND=ADD",
        "CNI_CONTAINERID=c1",
        "CNI_IFNAME=net1",
        "CNI_NETNS=/run/netns/c1",
        &path,
    ];
    let (of_the_call, inherited): (BTreeSet<_>, BTreeSet<_>) =
        environment.split('\0').partition(|variable| variable.starts_with("CNI_"));
    assert_eq!((of_the_call, stdin), (BTreeSet::from(expected), "{\"x\":1}"));
    let ours: Vec<_> = std::env::vars().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(inherited, ours.iter().map(String::as_str).collect());

    // A process has no variable besides those that are made for it.
    let exec = ProcessExec { timeout: LONG, relay_stderr: false, ..ProcessExec::default() };
    let plugin = bin.0.path().join("plugin");
    let made = vec![("PATH".into(), std::env::var_os("PATH").unwrap())];
    let expected = format!("PATH={}\0", made[0].1.display());
    let output = process::run(&exec, &plugin, made, b"", None).unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
}

#[test]
fn a_plugin_inherits_all_variables_but_those_of_our_own_call() {
    let plugin = PluginType::parse("plugin").unwrap();
    let target = Target {
        container_id: ContainerId::parse("c1").unwrap(),
        netns: None,
        if_name: IfName::parse("net1").unwrap(),
        args: CniArgs::parse("A=1").unwrap(),
    };
    let ours = ["COMMAND", "CONTAINERID", "NETNS", "IFNAME", "ARGS", "PATH"]
        .map(|name| (format!("CNI_{name}"), "ours".to_owned()))
        .into_iter()
        .chain(
            [("PATH", "/bin"), ("HTTP_PROXY", "p"), ("CNI_OTHER", "x")].map(|(n, v)| (n.into(), v.into())),
        );
    let inherited = ["CNI_OTHER=x", "HTTP_PROXY=p", "PATH=/bin"];
    let of_a_container = [
        "CNI_ARGS=A=1",
        "CNI_COMMAND=ADD",
        "CNI_CONTAINERID=c1",
        "CNI_IFNAME=net1",
        "CNI_NETNS=",
        "CNI_PATH=",
    ];
    for (verb, target, own) in [
        (Verb::Add, Some(&target), &of_a_container[..]),
        (Verb::Status, None, &["CNI_COMMAND=STATUS", "CNI_PATH="]),
    ] {
        let call = Call { plugin: &plugin, verb, target, path: &[], stdin: b"" };
        let ours = ours.clone().map(|(name, value)| (name.into(), value.into()));
        let given = environment(&call, ours);
        let mut given: Vec<_> =
            given.iter().map(|(name, value)| format!("{}={}", name.display(), value.display())).collect();
        given.sort();
        let mut expected = [own, &inherited].concat();
        expected.sort_unstable();
        assert_eq!(given, expected, "{verb:?}");
    }
}

#[test]
fn a_plugin_keeps_its_own_error_code() {
    let error = Bin::with("echo '{\"code\":111,\"msg\":\"full\"}'; exit 1").run(LONG, b"").unwrap_err();
    assert_eq!(error.to_cni_error(), CniError::new(Code(111), "full"));
}

#[test]
fn a_failure_without_json_says_what_the_plugin_printed() {
    let error = Bin::with("echo oops; echo why >&2; exit 3").run(LONG, b"").unwrap_err();
    let text = error.to_cni_error().msg;
    assert!(
        text.contains("exit status 3") && text.contains("\"oops\"") && text.contains("\"why\""),
        "{text}"
    );
}

#[test]
fn a_plugin_killed_by_a_signal_is_a_failure_that_names_the_signal() {
    let error = Bin::with("kill -9 $$").run(LONG, b"").unwrap_err();
    assert!(error.to_string().contains("killed by signal 9"), "{error}");
}

/// Whether a process of this number, which a plugin has written down, still runs.
fn runs(bin: &Bin) -> bool {
    let number = std::fs::read_to_string(bin.0.path().join("child")).unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", number.trim())).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

#[test]
fn what_a_killed_plugin_has_started_ends_with_it() {
    let bin = Bin::with(r#"sleep 1000 & echo $! > "${0%/*}/child"; kill -9 $$"#);
    let error = bin.run(LONG, b"{}").unwrap_err();
    assert!(error.to_string().contains("was killed by signal 9"), "{error}");
    assert!(!runs(&bin), "nothing may go on beside the undoing");
}

#[test]
fn what_a_plugin_leaves_running_that_has_ended_by_itself_is_left_alone() {
    let bin = Bin::with(r#"sleep 1000 & echo $! > "${0%/*}/child"; echo {}"#);
    bin.run(LONG, b"{}").unwrap();
    assert!(runs(&bin), "it may be a daemon");
    let number = std::fs::read_to_string(bin.0.path().join("child")).unwrap();
    let pid = rustix::process::Pid::from_raw(number.trim().parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[test]
fn a_plugin_that_hangs_is_killed_with_its_children() {
    let bin = Bin::with("echo $$ > $0.pid; sleep 1000 & echo started >&2; wait");
    let error = bin.run(Duration::from_millis(300), b"").unwrap_err();
    assert!(matches!(error, ExecError::Timeout { .. }), "{error}");
    assert!(error.to_string().contains("started"), "{error}");
    let pid: i32 = std::fs::read_to_string(bin.0.path().join("plugin.pid")).unwrap().trim().parse().unwrap();
    let group = rustix::process::Pid::from_raw(pid).unwrap();
    let begun = std::time::Instant::now();
    // Orphans are reaped by init in its own time.
    while rustix::process::test_kill_process_group(group).is_ok() {
        assert!(begun.elapsed() < LONG, "the group lives on");
        std::thread::yield_now();
    }
}

#[test]
fn no_call_goes_on_beyond_the_end_of_the_whole_work_and_none_begins_after_it() {
    let bin = Bin::with("echo x >> $0.calls; sleep 1000");
    let begun = Instant::now();
    let until = Some(begun + Duration::from_millis(300));
    let exec = ProcessExec { timeout: LONG, until, relay_stderr: false, ..ProcessExec::default() };
    let error = bin.run_by(&exec, b"").unwrap_err();
    assert!(matches!(error, ExecError::Timeout { after, .. } if after < LONG), "{error}");
    assert!(begun.elapsed() < LONG);
    let error = bin.run_by(&exec, b"").unwrap_err();
    assert!(matches!(error, ExecError::NoTime { .. }), "{error}");
    assert_eq!(std::fs::read_to_string(bin.0.path().join("plugin.calls")).unwrap(), "x\n");
}

#[test]
fn a_plugin_is_noted_while_it_runs_and_is_told_nothing_before() {
    let bin = Bin::with("cat > $0.in; ls $0.notes/c1; echo $$; cat $0.in");
    let notes = Some(bin.0.path().join("plugin.notes"));
    let exec = ProcessExec { timeout: LONG, notes: notes.clone(), relay_stderr: false, ..Default::default() };
    let output = String::from_utf8(bin.run_by(&exec, b"x").unwrap()).unwrap();
    let lines: Vec<_> = output.lines().collect();
    assert_eq!(lines.len(), 3, "one note, its number, its configuration: {output}");
    assert_eq!(lines[0].split('-').nth(1), Some(lines[1]), "{output}");
    assert!(!exec.notes_of(Some(&ContainerId::parse("c1").unwrap())).unwrap().exists());

    // What cannot be noted gets no configuration.
    let bin = Bin::with("cat > $0.got; test -s $0.got && touch $0.told");
    std::fs::write(bin.0.path().join("plugin.notes"), "").unwrap();
    let notes = Some(bin.0.path().join("plugin.notes"));
    let error = bin.run_by(&ProcessExec { notes, ..exec }, b"x").unwrap_err();
    assert!(matches!(error, ExecError::Talk { .. }), "{error}");
    assert!(!bin.0.path().join("plugin.told").exists());
}

#[test]
fn a_child_left_behind_with_our_pipes_does_not_hold_us() {
    let bin = Bin::with("sleep 5 & echo '{}'");
    let begun = std::time::Instant::now();
    assert_eq!(bin.run(LONG, b"").unwrap(), b"{}\n");
    assert!(begun.elapsed() < Duration::from_secs(4), "waited for the child that was left behind");
}

#[test]
fn neither_a_long_configuration_nor_a_long_answer_blocks() {
    let long = vec![b'x'; 1 << 20];
    assert_eq!(Bin::with("cat").run(LONG, &long).unwrap(), long);
    assert_eq!(Bin::with("exec <&-; echo '{}'").run(LONG, &long).unwrap(), b"{}\n", "it need not read");
}

#[test]
fn a_plugin_that_writes_without_pause_is_stopped_at_the_limit_on_either_output() {
    for script in ["exec cat /dev/zero", "exec cat /dev/zero >&2"] {
        let error = Bin::with(script).run(LONG, b"").unwrap_err();
        assert!(matches!(error, ExecError::TooMuch { limit: 0x0100_0000, .. }), "{script}: {error}");
    }
}

#[test]
fn a_plugin_that_is_not_there_is_said_with_the_places() {
    let bin = Bin::with("");
    std::fs::remove_file(bin.0.path().join("plugin")).unwrap();
    let error = bin.run(LONG, b"").unwrap_err();
    assert!(error.plugin_is_gone());
    assert!(error.to_string().starts_with("find plugin plugin in /nonexistent, "), "{error}");
}

#[test]
fn a_busy_executable_is_an_error_and_never_a_success() {
    let bin = Bin::with("echo '{}'");
    let held = std::fs::OpenOptions::new().append(true).open(bin.0.path().join("plugin")).unwrap();
    let error = bin.run_if_busy(Duration::from_millis(100), LONG, b"").unwrap_err();
    assert!(matches!(error, ExecError::Busy { .. }), "{error}");
    assert_eq!(error.to_cni_error().code, Code::TRY_AGAIN_LATER);
    drop(held);
    bin.run(LONG, b"").unwrap();
}

#[test]
fn a_file_that_cannot_be_executed_is_an_error_with_its_path() {
    let bin = Bin::with("");
    let path = bin.0.path().join("plugin");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let error = bin.run(LONG, b"").unwrap_err();
    assert!(matches!(&error, ExecError::Start { path: p, .. } if *p == path), "{error}");
    assert!(error.plugin_is_gone(), "nothing was attempted, and nothing can be");
}

#[test]
fn an_excerpt_is_cut_between_characters() {
    assert_eq!(excerpt("ä".repeat(300).as_bytes()), format!("{}…", "ä".repeat(200)));
    assert_eq!(excerpt(b" short \n"), "short");
}
