//! The verbs over a runner that writes down what it is asked, and fails where it is told to.

use std::sync::Mutex;

use serde_json::json;

use super::*;
use crate::args::CniArgs;

#[derive(Default)]
struct Recorder {
    calls: Mutex<Vec<(String, Value)>>,
    fail: Vec<&'static str>,
    print: Option<&'static str>,
}

impl Exec for Recorder {
    fn run(&self, call: &Call<'_>) -> Result<Vec<u8>, ExecError> {
        let name = format!("{} {}", call.verb, call.plugin);
        let stdin: Value = serde_json::from_slice(call.stdin).unwrap();
        self.calls.lock().unwrap().push((name.clone(), stdin));
        if self.fail.contains(&name.as_str()) {
            return Err(ExecError::Plugin(CniError::new(Code(77), "no")));
        }
        let own = format!(r#"{{"interfaces":[{{"name":"made-by-{}"}}]}}"#, call.plugin);
        Ok(self.print.map_or(own, str::to_owned).into_bytes())
    }
}

impl Recorder {
    fn names(&self) -> Vec<String> {
        self.calls.lock().unwrap().iter().map(|(name, _)| name.clone()).collect()
    }
    fn stdin(&self, index: usize) -> Value {
        self.calls.lock().unwrap()[index].1.clone()
    }
}

fn list(extra: Value) -> NetworkList {
    let mut json =
        json!({"name": "n", "cniVersion": "1.1.0", "plugins": [{"type": "a"}, {"type": "b"}, {"type": "c"}]});
    json.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    NetworkList::from_json(json, None).unwrap()
}

fn at<R>(run: impl FnOnce(&Attachment<'_>) -> R) -> R {
    let target = Target {
        container_id: ContainerId::parse("c1").unwrap(),
        netns: None,
        if_name: IfName::parse("net1").unwrap(),
        args: CniArgs::default(),
    };
    run(&Attachment { target: &target, path: &[], capabilities: &Map::new() })
}

#[test]
fn add_hands_each_result_to_the_next_plugin_and_returns_the_last() {
    let exec = Recorder::default();
    let result = at(|at| add(&exec, &list(json!({})), at, None)).unwrap();
    assert_eq!(exec.names(), ["ADD a", "ADD b", "ADD c"]);
    assert_eq!(exec.stdin(0).get("prevResult"), None);
    assert_eq!(exec.stdin(1)["prevResult"]["interfaces"][0]["name"], "made-by-a");
    assert_eq!(exec.stdin(2)["prevResult"]["interfaces"][0]["name"], "made-by-b");
    assert_eq!(result.interfaces[0].name, "made-by-c");
}

#[test]
fn add_stops_at_the_first_failure_and_keeps_its_code() {
    let exec = Recorder { fail: vec!["ADD b"], ..Recorder::default() };
    let error = at(|at| add(&exec, &list(json!({})), at, None)).unwrap_err();
    assert_eq!(exec.names(), ["ADD a", "ADD b"]);
    assert_eq!(error.to_cni_error(), CniError::new(Code(77), "plugin b: no"));
}

#[test]
fn output_that_is_not_json_is_explained_with_what_was_printed() {
    let exec = Recorder { print: Some("Segmentation fault"), ..Recorder::default() };
    let error = at(|at| add(&exec, &list(json!({})), at, None)).unwrap_err().to_cni_error();
    assert_eq!(error.code, Code::DECODING_FAILURE);
    assert!(error.to_string().contains("\"Segmentation fault\""), "{}", error.msg);
    let exec = Recorder { print: Some(""), ..Recorder::default() };
    assert!(at(|at| add(&exec, &list(json!({})), at, None)).is_err());
}

#[test]
fn a_log_before_the_result_is_recognised_and_shown_in_the_details_alone() {
    let exec = Recorder { print: Some("secret=1\n{\"ips\":[]}\n"), ..Recorder::default() };
    let error = at(|at| add(&exec, &list(json!({})), at, None)).unwrap_err().to_cni_error();
    assert_eq!(error.code, Code::DECODING_FAILURE);
    let expected = "plugin a: it printed text before its JSON; a plugin has to print its result alone on stdout, and its log on stderr";
    assert_eq!(error.msg, expected);
    assert_eq!(error.details, r#"on stdout: "secret=1", "{\"ips\":[]}""#);
}

#[test]
fn del_goes_backward_with_the_result_and_does_not_stop() {
    let exec = Recorder { fail: vec!["DEL c", "DEL a"], ..Recorder::default() };
    let result =
        AddResult::parse(json!({"ips": [{"address": "10.0.0.2/24"}]}), list(json!({})).version).unwrap();
    let errors = at(|at| del(&exec, &list(json!({})), at, Some(&result)));
    assert_eq!(exec.names(), ["DEL c", "DEL b", "DEL a"]);
    assert_eq!(exec.stdin(1)["prevResult"]["ips"][0]["address"], "10.0.0.2/24");
    let failed: Vec<_> = errors.iter().map(|error| error.plugin.as_str()).collect();
    assert_eq!(failed, ["c", "a"]);
}

#[test]
fn del_of_an_old_version_gets_no_previous_result() {
    let exec = Recorder::default();
    let errors = at(|at| del(&exec, &list(json!({"cniVersion": "0.3.1"})), at, Some(&AddResult::default())));
    assert!(errors.is_empty());
    assert_eq!(exec.stdin(0).get("prevResult"), None);
}

#[test]
fn check_goes_forward_with_the_result_unless_it_is_off_or_unknown() {
    let exec = Recorder { fail: vec!["CHECK b"], ..Recorder::default() };
    let result = AddResult::default();
    assert!(at(|at| check(&exec, &list(json!({})), at, &result)).is_err());
    assert_eq!(exec.names(), ["CHECK a", "CHECK b"]);
    for off in [json!({"disableCheck": true}), json!({"cniVersion": "0.3.1"})] {
        let exec = Recorder::default();
        assert!(!at(|at| check(&exec, &list(off), at, &result)).unwrap());
        assert!(exec.names().is_empty());
    }
}

#[test]
fn gc_tells_every_plugin_under_both_keys_and_does_not_stop() {
    let valid = [ValidAttachment {
        container_id: ContainerId::parse("c1").unwrap(),
        ifname: IfName::parse("net1").unwrap(),
    }];
    let exec = Recorder { fail: vec!["GC a"], ..Recorder::default() };
    assert_eq!(gc(&exec, &list(json!({})), &[], &valid).len(), 1);
    assert_eq!(exec.names(), ["GC a", "GC b", "GC c"]);
    let expected = json!([{"containerID": "c1", "ifname": "net1"}]);
    assert_eq!(exec.stdin(2)["cni.dev/valid-attachments"], expected);
    assert_eq!(exec.stdin(2)["cni.dev/attachments"], expected);
    for off in [json!({"disableGC": true}), json!({"cniVersion": "1.0.0"})] {
        let exec = Recorder::default();
        assert!(gc(&exec, &list(off), &[], &valid).is_empty());
        assert!(exec.names().is_empty());
    }
}

#[test]
fn status_stops_at_the_first_failure_and_passes_old_lists() {
    let exec = Recorder { fail: vec!["STATUS b"], ..Recorder::default() };
    assert_eq!(status(&exec, &list(json!({})), &[]).unwrap_err().to_cni_error().code, Code(77));
    assert_eq!(exec.names(), ["STATUS a", "STATUS b"]);
    let exec = Recorder::default();
    status(&exec, &list(json!({"cniVersion": "1.0.0"})), &[]).unwrap();
    assert!(exec.names().is_empty());
}
