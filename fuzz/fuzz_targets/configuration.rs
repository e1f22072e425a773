//! Whatever a configuration says, it is understood or refused; what is understood is written out the same.
#![no_main]

use cni::error::chain_text;
use cni::{AddResult, CapabilityArgs, NetworkList, NetworkName};
use libfuzzer_sys::fuzz_target;
use store::settings::Settings;

fuzz_target!(|text: &[u8]| {
    let fallback = NetworkName::parse("fallback").ok();
    match NetworkList::parse(text, fallback.as_ref()) {
        Ok(list) => check(&list),
        Err(error) => assert!(!chain_text(&error).is_empty()),
    }
    if let Ok(object) = serde_json::from_slice(text) {
        settings(&object);
    }
});

fn check(list: &NetworkList) {
    let again = NetworkList::from_json(list.to_json(), None).expect("what is written can be read");
    assert_eq!(&again, list);
    let asked = CapabilityArgs::from_iter([("mac".to_owned(), "02:00:00:00:00:01".into())]);
    for plugin in &list.plugins {
        let request =
            plugin.request(list, None, &asked).expect("a request without a result can always be made");
        assert_eq!(request.get("name").and_then(|name| name.as_str()), Some(list.name.as_str()));
        assert_eq!(request.get("type").and_then(|kind| kind.as_str()), Some(plugin.plugin().as_str()));
        let _ = plugin.request(list, Some(&AddResult::default()), &asked);
        settings(plugin.object());
    }
}

fn settings(object: &serde_json::Map<String, serde_json::Value>) {
    match Settings::parse(object) {
        Ok(settings) => settings.passed_over.iter().for_each(|one| assert!(!one.to_string().is_empty())),
        Err(error) => assert!(!chain_text(&error).is_empty()),
    }
}
