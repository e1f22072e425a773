//! A node whose plugins keep what they allocated in files, and a runtime that calls the real `meta-cni` there.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};
use store::NodeDirectory;
use store::lock::Lock;
use store::record::{Record, RecordKey};

use crate::{artefacts, wait};

/// The plugin: an allocation is a file in `held`. ADD makes it, DEL and GC remove it. It fails at a verb if there is a
/// file that says so. As most plugins, it syncs nothing.
const PLUGIN: &str = r#"#!/bin/sh
name=${0##*/} held=${0%/bin/*}/held
IFS= read -r stdin
fail() { printf '{"cniVersion":"1.1.0","code":100,"msg":"told to fail"}'; exit 1; }
[ -e "$0.$CNI_COMMAND.fails" ] && fail
case $CNI_COMMAND in
ADD)
    : > "$held/$name.$CNI_CONTAINERID.$CNI_IFNAME"
    printf '{"cniVersion":"1.1.0","interfaces":[{"name":"%s","sandbox":"%s"}],' "$CNI_IFNAME" "$CNI_NETNS"
    printf '"ips":[{"address":"10.0.0.2/24","interface":0}]}' ;;
DEL) rm -f "$held/$name.$CNI_CONTAINERID.$CNI_IFNAME" ;;
GC)
    for file in "$held/$name".*; do
        id=${file##*/} id=${id#*.} id=${id%.*}
        case $stdin in *"\"containerID\":\"$id\""*) ;; *) rm -f "$file" ;; esac
    done ;;
esac
"#;

/// The plugins: of the primary, and of the networks `default/a` and `default/b`.
const PLUGINS: [&str; 3] = ["primary", "a", "b"];

/// Writes the plugin; all nodes have links to it, since a script that is being written cannot be run.
pub fn plugin(dir: &Path) -> Result<PathBuf> {
    let file = dir.join("plugin");
    fs::write(&file, PLUGIN)?;
    fs::set_permissions(&file, PermissionsExt::from_mode(0o755))?;
    Ok(file)
}

/// A node.
#[derive(Debug)]
pub struct Node {
    base: PathBuf,
}

impl Node {
    /// A node in a directory that may hold what an earlier one left.
    pub fn new(base: &Path, plugin: &Path) -> Result<Self> {
        for dir in ["bin", "net.d", "manifests", "held", "var"] {
            fs::create_dir_all(base.join(dir))?;
        }
        for name in PLUGINS {
            symlink(plugin, base.join("bin").join(name)).with_context(|| format!("linking {name}"))?;
        }
        let list = |name: &str| json!({"cniVersion": "1.1.0", "name": name, "plugins": [{"type": name}]});
        fs::write(base.join("net.d/10-primary.conflist"), list("primary").to_string())?;
        let networks = ["a", "b"].map(|name| {
            json!({
                "apiVersion": "k8s.cni.cncf.io/v1", "kind": "NetworkAttachmentDefinition",
                "metadata": {"name": name}, "spec": {"config": list(name).to_string()},
            })
        });
        let networks = json!({"apiVersion": "v1", "kind": "List", "items": networks});
        fs::write(base.join("manifests/networks.json"), networks.to_string())?;
        // Of another kind: plugins here do not enter it.
        std::os::unix::fs::symlink("/proc/self/ns/uts", base.join("netns"))?;
        Ok(Self { base: base.to_owned() })
    }

    /// A path below the node's directory.
    pub fn path(&self, below: &str) -> PathBuf {
        self.base.join(below)
    }

    /// Its node directory.
    pub fn directory(&self) -> NodeDirectory {
        NodeDirectory::new(self.path("run"), self.path("var/braid"))
    }

    /// Makes a plugin fail at a verb, or no longer.
    pub fn fails(&self, plugin: &str, verb: &str, fails: bool) -> Result<()> {
        let file = self.path(&format!("bin/{plugin}.{verb}.fails"));
        if fails {
            fs::write(file, "")?;
        } else {
            fs::remove_file(file)?;
        }
        Ok(())
    }

    /// The node role looks at the manifests once; it has to succeed. What it says.
    pub fn sync(&self, braid: Command) -> Result<String> {
        let output = self.sync_somehow(braid)?;
        ensure!(output.status.success(), "braid node: {output:?}");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The same, however it ends.
    pub fn sync_somehow(&self, mut braid: Command) -> Result<Output> {
        let directory = self.directory();
        braid.args(["node", "--once", "--manifests"]).arg(self.path("manifests"));
        braid.arg("--run-dir").arg(directory.run()).arg("--state-dir").arg(directory.state());
        braid.stdin(Stdio::null()).output().context("running braid")
    }

    fn settings(&self) -> Map<String, Value> {
        let settings = json!({
            "cniVersion": "1.1.0", "name": "braid", "type": "meta-cni",
            "clusterNetwork": self.path("net.d/10-primary.conflist"), "confDir": self.path("net.d"),
            "binDir": self.path("bin"), "cniConfDir": self.path("net.d"), "runDir": self.path("run"),
            "stateDir": self.path("var/braid"), "multusCacheDir": self.path("multus"), "networkWait": "0s",
            "readinessWait": "0s", "logLevel": "warn",
        });
        settings.as_object().cloned().unwrap_or_default()
    }

    /// A runtime's call about a container; without its namespace if that is gone.
    pub fn call(&self, meta_cni: Command, verb: &str, container: &str, netns: bool) -> Result<Output> {
        let mut command = meta_cni;
        command.env("CNI_CONTAINERID", container).env("CNI_IFNAME", "eth0");
        if netns {
            command.env("CNI_NETNS", self.path("netns"));
        }
        let pod = format!("K8S_POD_NAMESPACE=default;K8S_POD_NAME={container};K8S_POD_UID=uid-{container}");
        command.env("CNI_ARGS", format!("IgnoreUnknown=1;{pod}"));
        let mut settings = self.settings();
        let annotations = json!({"k8s.v1.cni.cncf.io/networks": "a,b"});
        settings
            .insert("runtimeConfig".to_owned(), json!({"io.kubernetes.cri.pod-annotations": annotations}));
        self.run(command, verb, &settings)
    }

    /// GC with the containers that the runtime has.
    pub fn gc(&self, meta_cni: Command, containers: &[&str]) -> Result<Output> {
        let valid: Vec<_> =
            containers.iter().map(|id| json!({"containerID": id, "ifname": "eth0"})).collect();
        let mut settings = self.settings();
        settings.insert("cni.dev/valid-attachments".to_owned(), valid.into());
        self.run(meta_cni, "GC", &settings)
    }

    fn run(&self, mut command: Command, verb: &str, settings: &Map<String, Value>) -> Result<Output> {
        command.env("CNI_COMMAND", verb).env("CNI_PATH", self.path("bin"));
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("starting meta-cni")?;
        let stdin = Value::Object(settings.clone()).to_string();
        child.stdin.take().context("no stdin")?.write_all(stdin.as_bytes())?;
        let output = child.wait_with_output().context("waiting for meta-cni")?;
        // What it left to a process of its own is over too, so that what is seen now stays so. Where the disk takes no
        // lock there is no such process.
        drop(Lock::of_unfinished_work(&self.directory(), wait::PATIENCE));
        Ok(output)
    }

    /// The same, and it has to succeed.
    pub fn succeed(&self, verb: &str, container: &str, netns: bool) -> Result<()> {
        good(&self.call(Command::new(artefacts::meta_cni()?), verb, container, netns)?)
            .with_context(|| format!("{verb} of {container}"))
    }

    /// A container's record.
    pub fn record(&self, container: &str) -> Result<Option<Record>> {
        let key = RecordKey::of_file(container).context("a container's id")?;
        Record::read(&self.directory(), &key).with_context(|| format!("reading the record of {container}"))
    }

    /// What plugins hold: `<plugin>.<container>.<interface>`.
    pub fn held(&self) -> Result<BTreeSet<String>> {
        let names = fs::read_dir(self.path("held"))?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        names.collect()
    }
}

/// A call that succeeded.
pub fn good(output: &Output) -> Result<()> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    ensure!(output.status.success(), "{}: {out} {err}", output.status);
    Ok(())
}
