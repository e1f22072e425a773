use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::namespace;

/// A network namespace of the test's own, with `eth0` and `net1`; none where tests may make none.
pub(crate) struct Namespace(String);

impl Namespace {
    pub(crate) fn new() -> Option<Self> {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("braid-test-{}-{number}", std::process::id());
        let made = Command::new("ip").args(["netns", "add", &name]).output();
        if !made.is_ok_and(|made| made.status.success()) {
            eprintln!("skipped: \"ip netns add\" needs root and iproute2");
            return None;
        }
        let this = Self(name);
        this.ip("link add eth0 type veth peer name net1");
        for (link, number) in [("eth0", 1), ("net1", 2)] {
            this.ip(&format!("link set {link} up"));
            this.ip(&format!("address add 10.0.{number}.2/24 dev {link}"));
            this.ip(&format!("address add fd00:{number}::2/64 dev {link} nodad"));
        }
        Some(this)
    }

    pub(crate) fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.0)
    }

    pub(crate) fn ip(&self, words: &str) -> String {
        let output = Command::new("ip").args(["-n", &self.0]).args(words.split(' ')).output().unwrap();
        assert!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", &self.0]).output();
    }
}

#[test]
fn an_interface_is_found_by_each_of_its_names_whatever_their_length() {
    let Some(namespace) = Namespace::new() else { return };
    let longest = "x".repeat(LONGEST_ALTERNATIVE);
    let alternatives = ["short", "storage-uplink-port0", &longest];
    for name in alternatives {
        namespace.ip(&format!("link property add dev net1 altname {name}"));
    }
    let found = |name: &str| {
        let name = name.to_owned();
        namespace::within(&namespace.path(), move || Kernel::connect()?.index(&name)).unwrap()
    };
    let net1 = found("net1").unwrap();
    for name in alternatives {
        assert_eq!(found(name).unwrap(), net1, "{name}");
    }
    assert_ne!(found("eth0").unwrap(), net1);
    for name in ["net2", "storage-uplink-port1", &format!("{longest}x"), "net1\0", "sixteen-letters-"] {
        let error = found(name).unwrap_err();
        assert!(is_no_interface(&error), "{name:?}: {error}");
    }
}

#[test]
fn an_alternative_name_in_the_pod_is_taken() {
    let Some(namespace) = Namespace::new() else { return };
    namespace.ip("link property add dev eth0 altname storage");
    let taken = namespace::taken(&namespace.path(), &["net1", "net2", "storage"]).unwrap();
    assert_eq!(taken, ["net1", "storage"]);
}
