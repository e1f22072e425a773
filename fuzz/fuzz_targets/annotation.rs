//! Whatever a pod's annotation says, it is understood or refused with a reason.
#![no_main]

use std::num::NonZeroUsize;

use cni::error::chain_text;
use cni::npwg::{Isolation, Namespace, Selection, parse_default_network, parse_selections};
use libfuzzer_sys::fuzz_target;

const MOST: NonZeroUsize = NonZeroUsize::MIN.saturating_add(31);

fuzz_target!(|annotation: &str| {
    let Ok(namespace) = Namespace::parse("shop") else { return };
    let isolation = Isolation { enabled: true, global_namespaces: [namespace.clone()].into() };
    let check = |selection: &Selection| {
        // A name that was let in is let in again where it is written out.
        let network = selection.network.to_string();
        let again = parse_selections(&network, &namespace, MOST).expect("a selected network can be selected");
        assert_eq!(again.first().map(|one| &one.network), Some(&selection.network));
        for key in selection.capability_args().keys() {
            assert!(["ips", "mac", "infinibandGUID", "bandwidth", "portMappings"].contains(&key.as_str()));
        }
        for (_, value) in selection.legacy_args() {
            assert!(!value.contains([';', '=']), "{value:?} would be two of CNI_ARGS");
        }
        let _ = isolation.permits(&namespace, &selection.network);
    };
    match parse_selections(annotation, &namespace, MOST) {
        Ok(selections) => selections.iter().for_each(check),
        Err(error) => assert!(!chain_text(&error).is_empty()),
    }
    match parse_default_network(annotation, &namespace) {
        Ok(selection) => check(&selection),
        Err(error) => assert!(!chain_text(&error).is_empty()),
    }
});
