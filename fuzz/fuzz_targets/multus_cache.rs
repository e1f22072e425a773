//! Whatever Multus left of a container, it is understood as a whole or refused; so is what libcni left.
#![no_main]

use cni::SpecVersion;
use cni::error::chain_text;
use libfuzzer_sys::fuzz_target;
use store::multus_cache::{self, Delegate};

fuzz_target!(|text: &[u8]| {
    match multus_cache::parse(text) {
        Ok(delegates) => delegates.iter().for_each(check),
        Err(error) => assert!(!chain_text(&error).is_empty()),
    }
    let _ = cni::cache::parse(text, SpecVersion::NEWEST);
});

fn check(delegate: &Delegate) {
    assert!(!delegate.list.plugins.is_empty());
    assert!(!delegate.network.is_empty());
    // It becomes part of a record.
    let kept = serde_json::to_string(&delegate.list).expect("a list can be kept");
    assert_eq!(
        serde_json::from_str::<cni::NetworkList>(&kept).expect("what is kept can be read"),
        delegate.list
    );
}
