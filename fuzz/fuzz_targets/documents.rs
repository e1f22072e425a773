//! Whatever a file of the node directory or a node's report holds, it is understood or an error; what is understood is
//! written out the same.
#![no_main]

use crds::ReportContent;
use libfuzzer_sys::fuzz_target;
use serde::Serialize;
use serde::de::DeserializeOwned;
use store::network::RenderedNetwork;
use store::node::NodeFacts;
use store::pod::PodFacts;
use store::record::Record;

fuzz_target!(|text: &[u8]| {
    round::<RenderedNetwork>(text);
    round::<PodFacts>(text);
    round::<NodeFacts>(text);
    if let Some(record) = round::<Record>(text) {
        let _ = (record.key().file_name(), record.is_at_rest());
    }
    if let Some(report) = round::<ReportContent>(text) {
        let _ = report.is_ready();
    }
});

fn round<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(text: &[u8]) -> Option<T> {
    let read: T = serde_json::from_slice(text).ok()?;
    let kept = serde_json::to_string(&read).expect("it can be kept");
    assert_eq!(&serde_json::from_str::<T>(&kept).expect("what is kept can be read"), &read);
    Some(read)
}
