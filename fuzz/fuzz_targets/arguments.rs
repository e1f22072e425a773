//! Whatever CNI_ARGS hold, which pass on the names that a pod has: what is understood is written out the same, and a
//! value that is set does not become another's.
#![no_main]

use cni::CniArgs;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let readable = CniArgs::parse_readable(text);
    assert_eq!(CniArgs::parse(&readable.to_string()).as_ref(), Ok(&readable));
    let Ok(mut args) = CniArgs::parse(text) else { return };
    assert_eq!(CniArgs::parse(&args.to_string()).as_ref(), Ok(&args));
    let before = args.get("K8S_POD_NAMESPACE").map(str::to_owned);
    args.set("IP", "192.0.2.1");
    let again = CniArgs::parse(&args.to_string()).expect("what is set can be read");
    assert_eq!(again.get("IP"), Some("192.0.2.1"));
    assert_eq!(again.get("K8S_POD_NAMESPACE"), before.as_deref());
});
