//! Whatever a network's configuration says under rules: it is judged, and what passes has no plugin, interface or name
//! that the rules do not have, by a look that knows nothing of how the rules look.
#![no_main]

use std::sync::LazyLock;

use crds::NetworkAttachmentDefinition;
use libfuzzer_sys::fuzz_target;
use operator::controller::judgement::{Neighbours, judge_one};
use operator::node::render::render;
use operator::permissions::Permissions;
use serde_json::{Value, json};
use store::network::Outcome;

static RULES: LazyLock<Permissions> = LazyLock::new(|| {
    let rules = br#"{"rules": [{"namespaces": ["shop"], "plugins": ["macvlan", "host-local", "tuning"],
        "interfaces": ["eth1"], "paths": ["/var/lib/pool"]}]}"#;
    Permissions::parse(rules).expect("these are rules")
});

fuzz_target!(|config: &str| {
    let _ = Permissions::parse(config.as_bytes());
    let nad = json!({"metadata": {"namespace": "shop", "name": "net"}, "spec": {"config": config}});
    let nad: NetworkAttachmentDefinition = serde_json::from_value(nad).expect("this is a network");
    let rendered = render(&nad, "made-up", &RULES).expect("it has a name");
    let judgement = judge_one(&rendered, &Neighbours::default());
    match rendered.outcome {
        Outcome::Ready { list } => {
            assert_eq!(list.name.as_str(), "shop__net");
            look(&list.to_json());
        }
        Outcome::OnNode { name } => panic!("no rule permits {name} of the node"),
        Outcome::Refused { reason } => assert!(judgement.errors.contains(&reason)),
    }
});

fn look(value: &Value) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                let text = value.as_str().filter(|text| !text.is_empty());
                match (key.to_lowercase().as_str(), text) {
                    ("type", Some(text)) => assert!(["macvlan", "host-local", "tuning"].contains(&text)),
                    ("master" | "bridge" | "device", Some(text)) => assert_eq!(text, "eth1"),
                    ("datadir", Some(text)) => assert_eq!(text, "/var/lib/pool"),
                    (_, Some(text)) => assert!(!text.starts_with("/etc")),
                    (_, None) => look(value),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(look),
        _ => {}
    }
}
