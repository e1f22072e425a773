//! Whatever a manifest says, each network of it is understood or refused; what is understood can be kept in its file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use operator::manifests::documents::{self, Form};
use operator::manifests::{Added, Manifests};
use store::network::{Outcome, RenderedNetwork};

fuzz_target!(|text: &str| {
    for form in [Form::Yaml, Form::Json] {
        let mut manifests = Manifests::default();
        for item in documents::objects(text, form) {
            match item {
                Ok(object) => {
                    assert!(!object.kind().is_empty() && !object.place.is_empty());
                    if let Added::Wrong(wrong) = manifests.add("made-up", object) {
                        assert!(!wrong.reason.is_empty());
                    }
                }
                Err(flaw) => assert!(!flaw.reason.is_empty()),
            }
        }
        for (name, rendered) in &manifests.networks {
            assert_eq!(name, &rendered.network);
            check(rendered);
        }
    }
});

fn check(rendered: &RenderedNetwork) {
    match &rendered.outcome {
        Outcome::Ready { list } => assert!(!list.plugins.is_empty() && list.name.as_str().len() <= 255),
        Outcome::OnNode { name } => assert_eq!(name.as_str(), rendered.network.name.as_str()),
        Outcome::Refused { reason } => assert!(!reason.is_empty() && reason.chars().count() <= 1001),
    }
    let kept = serde_json::to_string(rendered).expect("a network can be kept");
    let read: RenderedNetwork = serde_json::from_str(&kept).expect("what is kept can be read");
    assert_eq!(&read, rendered);
}
