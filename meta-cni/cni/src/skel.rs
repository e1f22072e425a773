//! Being a plugin: one trait, one runner.
//!
//! A plugin implements [`Plugin`]; [`run`] reads environment and stdin, checks what the specification asks
//! to be checked, calls the verb, and prints exactly one JSON value on stdout: the result, or the error.
//! A verb returns its result and never prints. A panic becomes an error result.

use std::io::{Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use serde_json::{Map, Value, json};

use crate::config::kind_of;
use crate::env::{Environment, Target, Verb};
use crate::error::{CniError, Code};
use crate::ids::NetworkName;
use crate::json_slip;
use crate::netns::NetnsId;
use crate::result::AddResult;
use crate::version::SpecVersion;

/// Most configurations are shorter, in bytes, and are read at once.
const USUAL_CONFIGURATION: usize = 4 << 10;

/// A CNI plugin: a method per verb.
pub trait Plugin {
    /// A line for a person who runs the plugin by hand.
    fn about(&self) -> String;

    /// The versions that the plugin speaks.
    fn supported_versions(&self) -> &[SpecVersion] {
        &SpecVersion::ALL
    }

    /// Attaches a container.
    fn add(&self, target: &Target, request: &Request) -> Result<AddResult, CniError>;

    /// Undoes [`Plugin::add`]; has to succeed when there is nothing left to undo.
    fn del(&self, target: &Target, request: &Request) -> Result<(), CniError>;

    /// Fails when the attachment is not as ADD made it.
    fn check(&self, target: &Target, request: &Request) -> Result<(), CniError>;

    /// Removes what belongs to none of the valid attachments.
    fn gc(&self, _request: &Request) -> Result<(), CniError> {
        Ok(())
    }

    /// Fails with code 50 or 51 when ADD cannot be served.
    fn status(&self, _request: &Request) -> Result<(), CniError> {
        Ok(())
    }
}

/// What every verb but VERSION is given besides its target.
#[derive(Debug, Clone)]
pub struct Request {
    /// CNI_PATH.
    pub path: Vec<PathBuf>,
    /// The name of the network.
    pub name: NetworkName,
    /// The version of the configuration, and so of the answer.
    pub version: SpecVersion,
    /// The whole configuration from stdin.
    pub config: Map<String, Value>,
}

impl Request {
    /// The result of the plugins before this one, or of ADD.
    pub fn prev_result(&self) -> Result<Option<AddResult>, CniError> {
        match self.config.get("prevResult") {
            None | Some(Value::Null) => Ok(None),
            Some(result) => AddResult::parse(result.clone(), self.version)
                .map(Some)
                .map_err(|error| CniError::from_chain(Code::DECODING_FAILURE, &error).of("prevResult")),
        }
    }
}

/// The surroundings of a plugin's process; injected, so that a test needs no process.
pub struct Surroundings<'a> {
    /// Looks an environment variable up.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// The configuration comes from here.
    pub stdin: &'a mut dyn Read,
    /// The one JSON value goes here.
    pub stdout: &'a mut dyn Write,
    /// Words for people go here.
    pub stderr: &'a mut dyn Write,
}

/// Runs a plugin once and returns the exit status of its process: 0 or 1.
///
/// Without CNI_COMMAND nobody calls it as a plugin: it says what it is on stderr and succeeds.
pub fn run(plugin: &dyn Plugin, around: &mut Surroundings<'_>) -> u8 {
    if (around.env)("CNI_COMMAND").is_none_or(|command| command.is_empty()) {
        let versions: Vec<_> = plugin.supported_versions().iter().map(|version| version.as_str()).collect();
        // Nobody is left to tell if stderr is closed.
        let _ = writeln!(around.stderr, "{}\nCNI versions: {}", plugin.about(), versions.join(", "));
        return 0;
    }
    let outcome = catch_unwind(AssertUnwindSafe(|| answer(plugin, around)));
    let (text, status) = match outcome {
        Ok(Ok(text)) => (text, 0),
        Ok(Err((version, error))) => (error_text(version, &error), 1),
        Err(panic) => (error_text(SpecVersion::NEWEST, &panic_error(panic.as_ref())), 1),
    };
    match around.stdout.write_all(text.as_bytes()).and_then(|()| around.stdout.flush()) {
        Ok(()) => status,
        Err(_) => 1,
    }
}

/// What a panic said.
pub fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let said = panic.downcast_ref::<&str>().copied().map(str::to_owned);
    said.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}

fn panic_error(panic: &(dyn std::any::Any + Send)) -> CniError {
    CniError::new(Code::INTERNAL, format!("the plugin panicked: {}", panic_text(panic))).with_details(
        "this is a defect of the plugin; please report it with the configuration and the pod's annotations",
    )
}

fn error_text(version: SpecVersion, error: &CniError) -> String {
    let mut json = json!({"cniVersion": version.as_str(), "code": error.code.0, "msg": error.msg});
    if !error.details.is_empty() {
        json["details"] = Value::String(error.details.clone());
    }
    json.to_string()
}

/// The text to print, or the error with the version to print it in.
fn answer(plugin: &dyn Plugin, around: &mut Surroundings<'_>) -> Result<String, (SpecVersion, CniError)> {
    let newest = |error| (SpecVersion::NEWEST, error);
    let mut env = Environment::read(around.env).map_err(newest)?;
    if env.verb == Verb::Version {
        return Ok(version_text(plugin, around.stdin));
    }
    let mut text = Vec::with_capacity(USUAL_CONFIGURATION);
    around.stdin.read_to_end(&mut text).map_err(|error| {
        newest(CniError::new(Code::IO_FAILURE, format!("read the configuration from stdin: {error}")))
    })?;
    let request = read_request(&text, env.path.clone()).map_err(newest)?;
    let version = request.version;
    refuse_own_netns(&mut env, around.env).map_err(|error| (version, error))?;
    dispatch(plugin, &env, &request).map_err(|error| (version, error))
}

/// A container that shares the host's network namespace would have the host's interfaces changed. As in
/// libcni's skeleton, CNI_NETNS_OVERRIDE lifts the rule.
///
/// At DEL the container's own namespace is gone, and the process id in its path is another process's now. A plugin
/// gets no namespace then: an error would hold the container for ever.
fn refuse_own_netns(env: &mut Environment, lookup: &dyn Fn(&str) -> Option<String>) -> Result<(), CniError> {
    let Some(target) = env.target.as_mut() else { return Ok(()) };
    let Some(netns) = target.netns.as_deref() else { return Ok(()) };
    let lifted = lookup("CNI_NETNS_OVERRIDE").is_some_and(|v| v == "1" || v.eq_ignore_ascii_case("true"));
    match (NetnsId::of(netns), NetnsId::own()) {
        (Ok(theirs), Ok(own)) if theirs == own && !lifted => {
            if env.verb == Verb::Del {
                target.netns = None;
                return Ok(());
            }
            let msg = format!("CNI_NETNS {} is the network namespace of the plugin itself", netns.display());
            Err(CniError::new(Code::INVALID_NETNS, msg))
        }
        // A namespace that is gone is the verb's affair: DEL has to succeed without it.
        _ => Ok(()),
    }
}

fn version_text(plugin: &dyn Plugin, stdin: &mut dyn Read) -> String {
    let mut text = Vec::new();
    // VERSION needs no stdin; a runtime that sends some says in which form it wants the answer.
    let asked = stdin.read_to_end(&mut text).ok().and_then(|_| {
        let json: Value = serde_json::from_slice(&text).ok()?;
        json.get("cniVersion")?.as_str()?.parse::<SpecVersion>().ok()
    });
    let supported: Vec<_> = plugin.supported_versions().iter().map(|version| version.as_str()).collect();
    json!({"cniVersion": asked.unwrap_or(SpecVersion::NEWEST).as_str(), "supportedVersions": supported})
        .to_string()
}

/// Reads the configuration as far as every plugin needs it.
fn read_request(text: &[u8], path: Vec<PathBuf>) -> Result<Request, CniError> {
    let json: Value = json_slip::from_slice(text).map_err(|error| {
        CniError::new(Code::DECODING_FAILURE, format!("the configuration on stdin is not JSON: {error}"))
    })?;
    let Value::Object(config) = json else {
        let msg = format!("the configuration on stdin is {}, not a JSON object", kind_of(&json));
        return Err(CniError::new(Code::DECODING_FAILURE, msg));
    };
    let invalid = |msg: String| CniError::new(Code::INVALID_CONFIG, msg);
    let name = match config.get("name") {
        Some(Value::String(name)) => NetworkName::parse(name.clone()).map_err(|e| invalid(e.to_string()))?,
        None => return Err(invalid("the configuration has no \"name\"".to_owned())),
        Some(other) => return Err(invalid(format!("\"name\" is {}, not a string", kind_of(other)))),
    };
    let version = match config.get("cniVersion") {
        None | Some(Value::Null) => SpecVersion::default(),
        Some(Value::String(version)) => SpecVersion::negotiate(Some(version), None)
            .map_err(|error| CniError::new(Code::INCOMPATIBLE_VERSION, error.to_string()))?,
        Some(other) => return Err(invalid(format!("\"cniVersion\" is {}, not a string", kind_of(other)))),
    };
    Ok(Request { path, name, version, config })
}

fn dispatch(plugin: &dyn Plugin, env: &Environment, request: &Request) -> Result<String, CniError> {
    let version = request.version;
    if !plugin.supported_versions().contains(&version) {
        let msg =
            format!("the configuration asks for CNI version {version}, which this plugin does not speak");
        return Err(CniError::new(Code::INCOMPATIBLE_VERSION, msg));
    }
    let allowed = match env.verb {
        Verb::Check => version.has_check(),
        Verb::Gc | Verb::Status => version.has_gc_and_status(),
        _ => true,
    };
    if !allowed {
        let msg = format!("{} does not exist in CNI version {version}", env.verb);
        return Err(CniError::new(Code::INCOMPATIBLE_VERSION, msg));
    }
    match (env.verb, &env.target) {
        (Verb::Add, Some(target)) => plugin.add(target, request).and_then(|result| {
            let json = result.to_json(version);
            json.map(|json| json.to_string()).map_err(|error| CniError::from_chain(Code::INTERNAL, &error))
        }),
        (Verb::Del, Some(target)) => plugin.del(target, request).map(|()| String::new()),
        (Verb::Check, Some(target)) => plugin.check(target, request).map(|()| String::new()),
        (Verb::Gc, _) => plugin.gc(request).map(|()| String::new()),
        (Verb::Status, _) => plugin.status(request).map(|()| String::new()),
        _ => Err(CniError::new(Code::INTERNAL, format!("{} reached no method", env.verb))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Double;

    impl Plugin for Double {
        fn about(&self) -> String {
            "a plugin for tests".to_owned()
        }
        fn supported_versions(&self) -> &[SpecVersion] {
            &SpecVersion::ALL[1..]
        }
        fn add(&self, target: &Target, request: &Request) -> Result<AddResult, CniError> {
            assert_ne!(target.if_name.as_str(), "panic", "as the test wants");
            match request.config.get("fail") {
                Some(code) => Err(CniError::new(Code(u32::try_from(code.as_u64().unwrap()).unwrap()), "no")),
                None => Ok(request.prev_result()?.unwrap_or_default()),
            }
        }
        fn del(&self, target: &Target, request: &Request) -> Result<(), CniError> {
            if request.config.contains_key("needsNoNetns") && target.netns.is_some() {
                return Err(CniError::new(Code::INVALID_ENVIRONMENT, "no"));
            }
            Ok(())
        }
        fn check(&self, _: &Target, _: &Request) -> Result<(), CniError> {
            Ok(())
        }
    }

    fn call(command: &str, if_name: &str, stdin: &str) -> (u8, Value) {
        call_in("/run/netns/absent", command, if_name, stdin)
    }

    fn call_in(netns: &str, command: &str, if_name: &str, stdin: &str) -> (u8, Value) {
        let env = |name: &str| {
            let value = match name {
                "CNI_COMMAND" => command,
                "CNI_CONTAINERID" => "c1",
                "CNI_NETNS" => netns,
                "CNI_IFNAME" => if_name,
                "CNI_PATH" => "/bin",
                _ => return None,
            };
            Some(value.to_owned())
        };
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let status = run(
            &Double,
            &mut Surroundings {
                env: &env,
                stdin: &mut stdin.as_bytes(),
                stdout: &mut stdout,
                stderr: &mut stderr,
            },
        );
        if stdout.is_empty() {
            return (status, Value::Null);
        }
        (status, serde_json::from_slice(&stdout).unwrap())
    }

    fn code(answer: &(u8, Value)) -> u64 {
        assert_eq!(answer.0, 1);
        answer.1["code"].as_u64().unwrap()
    }

    #[test]
    fn a_result_is_printed_in_the_version_of_the_configuration() {
        let stdin = r#"{"name":"n","cniVersion":"0.4.0","prevResult":{"cniVersion":"1.0.0","ips":[{"address":"10.0.0.2/24"}]}}"#;
        let (status, json) = call("ADD", "eth0", stdin);
        assert_eq!(status, 0);
        assert_eq!(json, json!({"cniVersion": "0.4.0", "ips": [{"address": "10.0.0.2/24", "version": "4"}]}));
    }

    #[test]
    fn del_and_check_print_nothing() {
        for verb in ["DEL", "CHECK"] {
            assert_eq!(call(verb, "eth0", r#"{"name":"n","cniVersion":"1.0.0"}"#), (0, Value::Null));
        }
    }

    #[test]
    fn an_error_keeps_its_code_and_a_panic_is_an_error_too() {
        assert_eq!(code(&call("ADD", "eth0", r#"{"name":"n","cniVersion":"1.0.0","fail":123}"#)), 123);
        let answer = catch_unwind(|| call("ADD", "panic", r#"{"name":"n","cniVersion":"1.0.0"}"#));
        let answer = answer.expect("the panic goes no further than the plugin");
        assert_eq!(code(&answer), 999);
        assert!(answer.1["msg"].as_str().unwrap().starts_with("the plugin panicked"));
    }

    #[test]
    fn what_is_wrong_on_stdin_gets_the_code_of_the_specification() {
        for (stdin, expected) in [
            ("", 6),
            ("{", 6),
            ("[]", 6),
            ("null", 6),
            ("{}", 7),
            (r#"{"name":1}"#, 7),
            (r#"{"name":"../x"}"#, 7),
            (r#"{"name":"n","cniVersion":7}"#, 7),
            (r#"{"name":"n","cniVersion":"7.0.0"}"#, 1),
            (r#"{"name":"n"}"#, 1),
            (r#"{"name":"n","cniVersion":"0.1.0"}"#, 1),
            (r#"{"name":"n","cniVersion":"1.0.0","prevResult":[]}"#, 6),
        ] {
            assert_eq!(code(&call("ADD", "eth0", stdin)), expected, "{stdin}");
        }
    }

    #[test]
    fn verbs_that_a_version_does_not_have_are_refused_with_code_1() {
        assert_eq!(code(&call("CHECK", "eth0", r#"{"name":"n","cniVersion":"0.3.1"}"#)), 1);
        assert_eq!(code(&call("GC", "eth0", r#"{"name":"n","cniVersion":"1.0.0"}"#)), 1);
        assert_eq!(code(&call("STATUS", "eth0", r#"{"name":"n","cniVersion":"1.0.0"}"#)), 1);
        assert_eq!(call("STATUS", "eth0", r#"{"name":"n","cniVersion":"1.1.0"}"#).0, 0);
    }

    #[test]
    fn the_namespace_of_the_plugin_itself_is_refused_and_is_none_at_del() {
        for verb in ["ADD", "CHECK"] {
            let answer = call_in("/proc/self/ns/net", verb, "eth0", r#"{"name":"n","cniVersion":"1.0.0"}"#);
            assert_eq!(code(&answer), 8, "{verb}");
        }
        let needs_none = r#"{"name":"n","cniVersion":"1.0.0","needsNoNetns":true}"#;
        assert_eq!(call_in("/proc/self/ns/net", "DEL", "eth0", needs_none), (0, Value::Null));
        assert_eq!(code(&call_in("/run/netns/absent", "DEL", "eth0", needs_none)), 4);
    }

    #[test]
    fn version_needs_nothing() {
        let (status, json) = call("VERSION", "", "");
        assert_eq!(status, 0);
        assert_eq!(json["cniVersion"], "1.1.0");
        assert_eq!(json["supportedVersions"].as_array().unwrap().len(), 6);
        assert_eq!(call("VERSION", "", r#"{"cniVersion":"0.4.0"}"#).1["cniVersion"], "0.4.0");
    }

    #[test]
    fn by_hand_it_says_what_it_is() {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let mut around = Surroundings {
            env: &|_| None,
            stdin: &mut std::io::empty(),
            stdout: &mut stdout,
            stderr: &mut stderr,
        };
        assert_eq!(run(&Double, &mut around), 0);
        assert!(stdout.is_empty());
        assert!(String::from_utf8(stderr).unwrap().starts_with("a plugin for tests\nCNI versions: 0.2.0"));
    }
}
