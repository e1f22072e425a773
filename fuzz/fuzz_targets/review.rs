//! Whatever is sent to the webhook, there is an answer, or a reason why there is none; and what is refused is refused with
//! one.
#![no_main]

use std::num::NonZeroUsize;
use std::sync::{Arc, LazyLock};

use cni::npwg::{Isolation, Namespace};
use libfuzzer_sys::fuzz_target;
use operator::controller::webhook::{Desk, Networks, answered};
use operator::pod_rules::PodRules;

static DESK: LazyLock<Desk> = LazyLock::new(|| Desk {
    networks: Arc::new(Networks::default()),
    rules: PodRules {
        isolation: Isolation { enabled: true, ..Isolation::default() },
        multus_namespace: Namespace::parse("kube-system").expect("this is a namespace"),
        max_attachments: NonZeroUsize::MIN.saturating_add(31),
    },
    metrics: Arc::default(),
});

fuzz_target!(|body: &[u8]| {
    match answered(body, &DESK) {
        Ok(review) => {
            let response = review.response.expect("an answer");
            assert!(response.allowed || !response.result.message.is_empty());
        }
        Err(reason) => assert!(!reason.is_empty()),
    }
});
