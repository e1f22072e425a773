//! Whatever a plugin prints, it is a result or refused; results keep what every version they go through can say.
#![no_main]

use std::path::Path;

use cni::error::chain_text;
use cni::{AddResult, IfName, SpecVersion};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|text: &[u8]| {
    let Ok(json) = serde_json::from_slice::<Value>(text) else { return };
    for assumed in SpecVersion::ALL {
        match AddResult::parse(json.clone(), assumed) {
            Ok(result) => check(&result),
            Err(error) => assert!(!chain_text(&error).is_empty()),
        }
    }
});

fn check(result: &AddResult) {
    // As a record keeps it.
    let kept = serde_json::to_string(result).expect("a result can be kept");
    assert_eq!(&serde_json::from_str::<AddResult>(&kept).expect("what is kept can be read"), result);
    for version in SpecVersion::ALL {
        // Only the oldest versions cannot say everything: they need an address.
        let Ok(written) = result.to_json(version) else {
            assert!(version <= SpecVersion::V0_2_0, "not writable in {version}");
            continue;
        };
        let read = AddResult::parse(written.clone(), version).expect("what is written can be read");
        if version >= SpecVersion::V1_0_0 {
            assert_eq!(&read, result, "{version}");
        }
        assert_eq!(read.to_json(version).expect("it was written before"), written, "{version}");
    }
    settled(result);
}

fn settled(result: &AddResult) {
    let Ok(if_name) = IfName::parse("eth0") else { return };
    let netns = Path::new("/run/netns/pod");
    for netns in [Some(netns), None] {
        let settled = result.settled(&if_name, netns);
        assert!(settled.interfaces.iter().any(|interface| interface.is_in_pod()));
        assert!(
            settled.ips.iter().all(|ip| ip.interface.is_some_and(|index| index < settled.interfaces.len()))
        );
        assert_eq!(settled.settled(&if_name, netns), settled);
    }
}
