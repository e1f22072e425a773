//! A host from its first day to its last: what is put there, when, and what happens to it.

use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;
use std::time::SystemTime;

use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;

const FLANNEL: &str = r#"{"name":"cbr0","cniVersion":"0.3.1","plugins":[{"type":"flannel"},
    {"type":"portmap","capabilities":{"portMappings":true}}]}"#;
const CALICO: &str = r#"{"name":"k8s-pod-network","cniVersion":"1.0.0","plugins":[{"type":"calico"},
    {"type":"bandwidth","capabilities":{"bandwidth":true}}]}"#;

struct Stage {
    temp: tempfile::TempDir,
    installer: Installer,
    now: Instant,
}

impl Stage {
    fn new(what: Install) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let at = |name: &str| temp.path().join(name);
        for dir in ["net.d", "bin", "image"] {
            std::fs::create_dir(at(dir)).unwrap();
        }
        std::fs::write(at("image/meta-cni"), "version 1").unwrap();
        let host = Host {
            conf_dir: at("net.d"),
            bin_dir: at("bin"),
            plugin: at("image/meta-cni"),
            settings: Some(at("settings.json")),
            what,
        };
        std::fs::write(at("settings.json"), "{}").unwrap();
        let installer = Installer::new(host, NodeDirectory::new(at("run"), at("state")));
        Self { temp, installer, now: Instant::now() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn round(&mut self) -> Round {
        self.installer.round(true, self.now)
    }

    fn ours(&self) -> Option<Value> {
        let text = std::fs::read(self.path("net.d/00-braid.conflist")).ok()?;
        Some(serde_json::from_slice(&text).unwrap())
    }

    fn capability(&self, name: &str) -> bool {
        self.ours().is_some_and(|ours| ours["plugins"][0]["capabilities"][name] == true)
    }
}

fn missing(round: &Round) -> &str {
    match &round.primary {
        Primary::Missing(reason) => reason,
        other => panic!("{other:?}"),
    }
}

fn name(round: &Round) -> &str {
    match &round.primary {
        Primary::Found { name, .. } => name,
        other => panic!("{other:?}"),
    }
}

fn problem(round: &Round) -> &str {
    round.installed.problem.as_deref().unwrap_or_default()
}

#[test]
fn nothing_is_configured_before_there_are_a_primary_and_all_networks() {
    let mut stage = Stage::new(Install::All);
    let round = stage.installer.round(false, stage.now);
    assert!(missing(&round).contains("there is no primary network"), "{round:?}");
    assert!(round.installed.executable && !round.installed.configuration && !round.failed, "{round:?}");
    stage.write("net.d/10-flannel.conflist", FLANNEL);
    let round = stage.installer.round(false, stage.now);
    assert_eq!(name(&round), "cbr0");
    assert_eq!(stage.ours(), None, "the networks are not complete");
    let round = stage.round();
    assert!(round.installed.configuration && round.installed.problem.is_none(), "{round:?}");
    let plugin = &stage.ours().unwrap()["plugins"][0];
    assert_eq!(plugin["runDir"], stage.path("run").to_str().unwrap());
    assert_eq!(plugin["multusAutoconfigDir"], stage.path("net.d").to_str().unwrap());
    assert_eq!(plugin["binDir"], stage.path("bin").to_str().unwrap());
}

#[test]
fn a_configuration_of_an_earlier_run_follows_the_primary_before_all_networks_are_there() {
    let mut stage = Stage::new(Install::All);
    stage.write("net.d/00-braid.conflist", "{}");
    stage.write("net.d/10-flannel.conflist", FLANNEL);
    let round = stage.installer.round(false, stage.now);
    assert!(round.installed.configuration);
    assert!(stage.capability("portMappings"));
}

#[test]
fn a_configuration_that_an_earlier_run_left_retired_is_put_right_once_ours_may_appear() {
    let mut stage = Stage::new(Install::All);
    stage.write(
        "net.d/00-braid.conflist",
        r#"{"name":"braid","plugins":[{"type":"meta-cni","retired":true}]}"#,
    );
    stage.write("net.d/10-flannel.conflist", FLANNEL);
    let round = stage.installer.round(false, stage.now);
    assert!(!round.installed.configuration, "pods are handed on until then: {round:?}");
    assert_eq!(stage.ours().unwrap()["plugins"][0]["retired"], true);
    let round = stage.round();
    assert!(round.installed.configuration, "{round:?}");
    assert_eq!(stage.ours().unwrap()["plugins"][0].get("retired"), None);
}

#[test]
fn what_is_multus_is_no_primary_and_that_is_told() {
    let mut stage = Stage::new(Install::All);
    stage.write("net.d/00-multus.conf", r#"{"name":"multus-cni-network","type":"multus-shim"}"#);
    let round = stage.round();
    assert!(missing(&round).contains("00-multus.conf is Multus's own"), "{round:?}");
    assert_eq!(stage.ours(), None);
    stage.write("net.d/10-flannel.conflist", FLANNEL);
    let round = stage.round();
    let multus = stage.path("net.d/00-multus.conf").display().to_string();
    assert!(
        matches!(&round.primary, Primary::Found { of_multus, .. } if *of_multus == [multus]),
        "{round:?}"
    );
    assert!(round.installed.configuration && round.installed.problem.is_none(), "{round:?}");
}

#[test]
fn the_primary_is_followed_and_our_configuration_stays_when_it_goes() {
    let mut stage = Stage::new(Install::All);
    stage.write("net.d/10-flannel.conflist", FLANNEL);
    stage.round();
    let of_flannel = stage.ours();
    for (what, text) in [("half written", Some(r#"{"name":"cb"#)), ("empty", Some("")), ("gone", None)] {
        match text {
            Some(text) => stage.write("net.d/10-flannel.conflist", text),
            None => std::fs::remove_file(stage.path("net.d/10-flannel.conflist")).unwrap(),
        }
        let round = stage.round();
        missing(&round);
        assert_eq!(stage.ours(), of_flannel, "{what}");
        assert!(round.installed.configuration && !round.failed, "{what}: {round:?}");
    }
    stage.write("net.d/20-calico.conflist", CALICO);
    assert_eq!(name(&stage.round()), "k8s-pod-network", "another primary takes its place");
    assert!(stage.capability("bandwidth"));
    stage.write("net.d/20-calico.conflist", &CALICO.replace("bandwidth\":", "ips\":"));
    stage.round();
    assert!(stage.capability("ips") && !stage.capability("bandwidth"), "its file changes");
}

#[test]
fn what_others_do_to_our_file_is_undone_also_while_there_is_no_primary() {
    let mut stage = Stage::new(Install::All);
    stage.write("net.d/10-flannel.conflist", FLANNEL);
    stage.round();
    let ours = stage.ours();
    std::fs::remove_file(stage.path("net.d/10-flannel.conflist")).unwrap();
    std::fs::remove_file(stage.path("net.d/00-braid.conflist")).unwrap();
    let round = stage.round();
    assert!(round.installed.configuration);
    assert_eq!(stage.ours(), ours);
    stage.write("net.d/00-braid.conflist", "{}");
    let round = stage.round();
    assert!(!round.installed.configuration, "not at once again: it could go on for ever");
    stage.now = round.put_back_at.unwrap();
    assert!(stage.round().installed.configuration);
    assert_eq!(stage.ours(), ours);
}

#[test]
fn plugin_files_of_the_primarys_chain_count_and_are_watched() {
    let mut stage = Stage::new(Install::All);
    stage.write("net.d/10-flannel.conflist", FLANNEL);
    stage.round();
    let chain = stage.path("net.d/cbr0");
    assert!(stage.installer.places.contains(&chain), "{:?}", stage.installer.places);
    std::fs::create_dir(&chain).unwrap();
    std::fs::write(chain.join("10.conf"), r#"{"type":"x","capabilities":{"mac":true}}"#).unwrap();
    stage.round();
    assert!(stage.capability("mac"));
}

#[test]
fn settings_are_followed_and_wrong_ones_change_nothing() {
    let mut stage = Stage::new(Install::All);
    stage.write("net.d/10-flannel.conflist", FLANNEL);
    stage.write("settings.json", r#"{"logLevel":"info","old":1,"confDir":"/host/c"}"#);
    let round = stage.round();
    assert_eq!(stage.ours().unwrap()["plugins"][0]["logLevel"], "info");
    assert_eq!(round.passed_over.len(), 2, "{round:?}");
    assert!(round.passed_over[1].ends_with("write \"/c\""), "{round:?}");
    stage.write("settings.json", r#"{"logLevel":"loud"}"#);
    let round = stage.round();
    assert!(problem(&round).contains("\"logLevel\" is \"loud\""), "{round:?}");
    missing(&round);
    assert_eq!(stage.ours().unwrap()["plugins"][0]["logLevel"], "info");
    stage.write("settings.json", r#"{"clusterNetwork":"/nowhere/at.conf"}"#);
    let round = stage.round();
    assert!(missing(&round).contains("/nowhere/at.conf"), "{round:?}");
    assert!(stage.installer.places.contains(Path::new("/nowhere")));
}

#[test]
fn a_primary_that_the_settings_contain_needs_no_file() {
    let mut stage = Stage::new(Install::All);
    stage.write("settings.json", &format!(r#"{{"delegates":[{CALICO}]}}"#));
    assert_eq!(name(&stage.round()), "k8s-pod-network");
    assert!(stage.capability("bandwidth"));
}

#[test]
fn directories_that_are_not_there_or_cannot_be_written_are_told_and_mended_later() {
    let mut stage = Stage::new(Install::All);
    stage.write("net.d/10-flannel.conflist", FLANNEL);
    std::fs::remove_dir(stage.path("bin")).unwrap();
    stage.write("bin", "a file");
    let round = stage.round();
    assert!(round.failed && problem(&round).contains("bin is no directory"), "{round:?}");
    assert_eq!(stage.ours(), None, "without its executable every pod would fail");
    std::fs::remove_file(stage.path("bin")).unwrap();
    std::fs::create_dir(stage.path("bin")).unwrap();
    std::fs::create_dir(stage.path("net.d/00-braid.conflist")).unwrap();
    let round = stage.round();
    assert!(round.installed.executable && !round.installed.configuration && round.failed, "{round:?}");
    std::fs::remove_dir(stage.path("net.d/00-braid.conflist")).unwrap();
    let round = stage.round();
    assert!(round.installed.configuration && problem(&round).is_empty(), "{round:?}");
    std::fs::rename(stage.path("net.d"), stage.path("moved")).unwrap();
    let round = stage.round();
    assert!(round.failed && problem(&round).contains("net.d is no directory"), "{round:?}");
}

#[test]
fn a_configuration_that_the_runtime_takes_instead_is_a_problem() {
    let mut stage = Stage::new(Install::All);
    stage.write("net.d/10-flannel.conflist", FLANNEL);
    stage.write("net.d/00-multus.conf", "{}");
    assert_eq!(problem(&stage.round()), "", "its name comes after ours");
    stage.write("net.d/00-aws.conf", "{}");
    let round = stage.round();
    assert!(problem(&round).contains("00-aws.conf"), "{round:?}");
}

#[test]
fn what_killed_runs_left_is_removed_and_others_files_are_not() {
    let mut stage = Stage::new(Install::All);
    for name in ["net.d/.new-1-0", "bin/.new-1-7", "net.d/.nfs0001", "bin/bridge"] {
        stage.write(name, "x");
    }
    stage.round();
    let left = |dir| directory_names(&stage.path(dir));
    assert_eq!(left("net.d"), [".nfs0001"]);
    assert_eq!(left("bin"), ["bridge", "meta-cni"]);
}

fn directory_names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = entries.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn only_what_is_to_be_installed_is() {
    for (what, executable, configuration) in
        [(Install::All, true, true), (Install::Configuration, false, false), (Install::None, false, false)]
    {
        let mut stage = Stage::new(what);
        stage.write("net.d/10-flannel.conflist", FLANNEL);
        let round = stage.round();
        assert_eq!(name(&round), "cbr0", "{what:?}: the primary is told anyway");
        assert_eq!(stage.path("bin/meta-cni").exists(), executable, "{what:?}");
        assert_eq!(stage.ours().is_some(), configuration, "{what:?}");
        assert_eq!(problem(&round).is_empty(), what != Install::Configuration, "{round:?}");
        stage.write("bin/meta-cni", "the host's");
        std::fs::set_permissions(stage.path("bin/meta-cni"), PermissionsExt::from_mode(0o755)).unwrap();
        let round = stage.round();
        assert!(round.installed.executable, "{what:?}");
        assert_eq!(stage.ours().is_some(), what != Install::None, "{what:?}");
    }
}

/// Every file below a directory.
fn files(dir: &Path) -> BTreeSet<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { BTreeSet::from([path]) }).collect()
}

#[test]
fn nothing_is_put_on_the_host_but_the_plugin_and_a_configuration_without_credentials() {
    let mut stage = Stage::new(Install::All);
    let primary =
        r#"{"name":"k8s-pod-network","cniVersion":"1.0.0","plugins":[{"type":"calico","token":"secret"}]}"#;
    stage.write("net.d/10-calico.conflist", primary);
    let before = files(stage.temp.path());
    stage.round();
    let mut made = files(stage.temp.path());
    made.retain(|path| !before.contains(path) && !path.starts_with(stage.path("run/locks")));
    let expected = ["bin/meta-cni", "net.d/00-braid.conflist"].map(|name| stage.path(name));
    assert_eq!(made, BTreeSet::from(expected));
    let ours = stage.ours().unwrap();
    assert!(!ours.to_string().contains("secret"), "the primary's configuration stays where it is: {ours}");
    let keys: Vec<_> = ours["plugins"][0].as_object().unwrap().keys().collect();
    let places = ["binDir", "cniConfDir", "multusAutoconfigDir", "runDir", "stateDir"];
    assert!(
        keys.iter()
            .all(|key| ["type", "capabilities"].contains(&key.as_str()) || places.contains(&key.as_str())),
        "{ours}"
    );
}

/// A task that runs, and what it tells.
struct Running {
    known: Arc<Known>,
    task: JoinHandle<Result<Infallible, InstallError>>,
}

impl Running {
    fn start(stage: &Stage) -> Self {
        let known = Arc::new(Known::default());
        let (host, dir) = (stage.installer.host.clone(), stage.installer.dir.clone());
        let task = tokio::spawn(run(host, dir, Arc::clone(&known)));
        Self { known, task }
    }

    /// Waits until the task has told this.
    async fn until(&self, what: &str, holds: impl Fn(&crate::known::State) -> bool) {
        let mut news = self.known.news();
        within(what, async {
            while !holds(&self.known.look()) {
                news.changed().await.unwrap();
            }
        })
        .await;
    }

    fn networks_are_complete(&self) {
        self.known.tell(|state| {
            state.networks.complete = Some(SystemTime::now());
            true
        });
    }
}

async fn within(what: &str, condition: impl Future<Output = ()>) {
    assert!(timeout(Duration::from_secs(20), condition).await.is_ok(), "{what}");
}

fn is(name: &str, primary: &Primary) -> bool {
    matches!(primary, Primary::Found { name: found, .. } if found == name)
}

#[tokio::test]
async fn the_host_is_followed_while_it_changes() {
    let stage = Stage::new(Install::All);
    let running = Running::start(&stage);
    running.until("no primary", |state| matches!(state.primary, Primary::Missing(_))).await;
    stage.write("net.d/10-flannel.conflist", FLANNEL);
    running.until("a primary came", |state| is("cbr0", &state.primary)).await;
    assert_eq!(stage.ours(), None);
    running.networks_are_complete();
    running.until("configured", |state| state.installed.configuration).await;
    stage.write("net.d/05-calico.conflist", CALICO);
    running.until("another primary", |state| is("k8s-pod-network", &state.primary)).await;
    assert!(stage.capability("bandwidth"), "told when it is done");
    std::fs::remove_file(stage.path("bin/meta-cni")).unwrap();
    std::fs::create_dir(stage.path("bin/meta-cni")).unwrap();
    running.until("the executable is hindered", |state| !state.installed.executable).await;
    std::fs::remove_dir(stage.path("bin/meta-cni")).unwrap();
    running.until("the executable came back", |state| state.installed.executable).await;
    running.task.abort();
    assert!(stage.ours().is_some(), "it stays");
}

#[tokio::test]
async fn a_configuration_that_is_removed_comes_back() {
    let stage = Stage::new(Install::All);
    stage.write("net.d/10-flannel.conflist", FLANNEL);
    let running = Running::start(&stage);
    running.networks_are_complete();
    running.until("configured", |state| state.installed.configuration).await;
    let mut watching = Watching::new().unwrap();
    watching.follow(&BTreeSet::from([stage.path("net.d")])).unwrap();
    std::fs::remove_file(stage.path("net.d/00-braid.conflist")).unwrap();
    within("put back", async {
        while stage.ours().is_none() {
            watching.changed().await.unwrap();
        }
    })
    .await;
    running.task.abort();
}
