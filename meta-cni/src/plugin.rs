//! The plugin: one method per verb, each of which reads its settings and hands over.

use std::cell::OnceCell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use cni::env::Target;
use cni::skel::{Plugin, Request, panic_text};
use cni::{AddResult, CniError, Code};

use crate::call::Call;
use crate::{add, background, check, del, gc, retired, status};

/// `meta-cni` as a CNI plugin. It keeps the call that it served, so that unfinished work can be taken up after
/// the answer is out.
#[derive(Default)]
pub(crate) struct MetaCni {
    served: OnceCell<Call>,
}

impl MetaCni {
    fn call(&self, verb: &str, target: Option<&Target>, request: &Request) -> Result<&Call, CniError> {
        let call = Call::read(verb, target, request)?;
        Ok(self.served.get_or_init(|| call))
    }

    /// Starts a process for unfinished work of earlier runs. Without any, and if Braid is leaving this node, takes its
    /// configuration away; after such work the process does that.
    pub(crate) fn leave_work_to_others(&self) {
        self.after_the_answer("leave unfinished work to a process of its own", |call| {
            let started = background::start(call);
            if !matches!(started, Ok(true)) {
                retired::leave(call)?;
            }
            started.map(drop).map_err(|error| CniError::from_chain(Code::IO_FAILURE, &error))
        });
    }

    /// Does what nobody waits for. The answer is out: not even a panic may change the exit status.
    fn after_the_answer(&self, what: &str, work: impl FnOnce(&Call) -> Result<(), CniError>) {
        let Some(call) = self.served.get() else { return };
        match catch_unwind(AssertUnwindSafe(|| work(call))) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                call.log.warn(&format!("could not {what}"), &[("error", &error.msg)]);
            }
            Err(panic) => {
                let said = panic_text(panic.as_ref());
                call.log
                    .error("a defect: work after the answer panicked", &[("work", &what), ("said", &said)]);
            }
        }
    }
}

/// A failure is told to the runtime; the log has it too, for whoever looks there first. Not its details: they may
/// hold what a plugin printed, and nobody knows what that is.
fn logged<T>(call: &Call, outcome: Result<T, CniError>) -> Result<T, CniError> {
    if let Err(error) = &outcome {
        call.log.error("failed", &[("code", &error.code), ("error", &error.msg)]);
    }
    outcome
}

impl Plugin for MetaCni {
    fn about(&self) -> String {
        format!(
            "Braid's meta-cni {}: attaches a pod to several networks. A container runtime calls it; \
             `meta-cni --help` tells what it does by hand.",
            env!("CARGO_PKG_VERSION")
        )
    }

    fn add(&self, target: &Target, request: &Request) -> Result<AddResult, CniError> {
        let call = self.call("ADD", Some(target), request)?;
        let added = if call.settings.retired {
            retired::add(call, target)
        } else {
            add::add(call, target, request.version)
        };
        logged(call, added)
    }

    fn del(&self, target: &Target, request: &Request) -> Result<(), CniError> {
        let call = self.call("DEL", Some(target), request)?;
        logged(call, del::del(call, target, request))
    }

    fn check(&self, target: &Target, request: &Request) -> Result<(), CniError> {
        let call = self.call("CHECK", Some(target), request)?;
        logged(call, check::check(call, target, request))
    }

    fn gc(&self, request: &Request) -> Result<(), CniError> {
        let call = self.call("GC", None, request)?;
        logged(call, gc::gc(call, request))
    }

    fn status(&self, request: &Request) -> Result<(), CniError> {
        let call = self.call("STATUS", None, request)?;
        logged(call, status::status(call))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_panic_after_the_answer_is_logged_and_goes_no_further() {
        let temp = tempfile::tempdir().unwrap();
        let log = temp.path().join("log");
        let config = json!({"logFile": log, "logToStderr": false});
        let request = Request {
            path: Vec::new(),
            name: cni::NetworkName::parse("braid").unwrap(),
            version: cni::SpecVersion::NEWEST,
            config: config.as_object().unwrap().clone(),
        };
        let plugin = MetaCni::default();
        plugin.call("STATUS", None, &request).unwrap();
        plugin.after_the_answer("do it", |_| panic!("as the test wants"));
        let text = std::fs::read_to_string(log).unwrap();
        assert!(text.contains("panicked") && text.contains("as the test wants"), "{text}");
    }
}
