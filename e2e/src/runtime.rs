//! What a container runtime does with a CNI plugin, spelled out here so that the library under test is not its
//! own judge: environment and stdin as the specification says, and containerd's reading of the result.

use std::io::Write;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::netns::Namespace;

/// What a plugin said when it failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The code of its error; 0 if it printed no proper error at all.
    pub code: u64,
    /// The message, and details where there are some.
    pub msg: String,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "code {}: {}", self.code, self.msg)
    }
}

impl std::error::Error for Refusal {}

impl From<anyhow::Error> for Refusal {
    fn from(error: anyhow::Error) -> Self {
        Self { code: 0, msg: format!("{error:#}") }
    }
}

/// Runs a plugin on a host. `Null` if it succeeded and printed nothing, as all verbs but ADD and VERSION do.
pub fn call(
    host: &Namespace,
    plugin: &Path,
    environment: &[(&str, String)],
    stdin: &Value,
) -> Result<Value, Refusal> {
    call_through(host, &[], plugin, environment, stdin)
}

/// As [`call`]; the plugin is started by another program, whose words stand before it.
pub fn call_through(
    host: &Namespace,
    through: &[String],
    plugin: &Path,
    environment: &[(&str, String)],
    stdin: &Value,
) -> Result<Value, Refusal> {
    let mut command = match through {
        [] => Command::new(plugin),
        [program, words @ ..] => {
            let mut command = Command::new(program);
            command.args(words).arg(plugin);
            command
        }
    };
    let output = host.within(|| run(&mut command, plugin, environment, stdin))??;
    read(&output)?
}

fn run(
    command: &mut Command,
    plugin: &Path,
    environment: &[(&str, String)],
    stdin: &Value,
) -> Result<Output> {
    let mut child = command
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("running {}", plugin.display()))?;
    let mut pipe = child.stdin.take().context("the child has no stdin")?;
    // A plugin that refuses its environment need not read.
    let _ = pipe.write_all(stdin.to_string().as_bytes());
    drop(pipe);
    child.wait_with_output().context("waiting for a plugin")
}

/// The outer error: the plugin broke the protocol.
fn read(output: &Output) -> Result<Result<Value, Refusal>> {
    let (printed, told) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.success() {
        if printed.is_empty() {
            return Ok(Ok(Value::Null));
        }
        // One value: anything behind it is an error too.
        let value = serde_json::from_str(&printed);
        return value.map(Ok).with_context(|| format!("success, but it printed {printed:?}"));
    }
    let error: Value = serde_json::from_str(&printed)
        .with_context(|| format!("{}, but it printed {printed:?}; stderr: {told}", output.status))?;
    let code = error["code"].as_u64().filter(|code| *code != 0).context("an error without code")?;
    let text = |key: &str| error[key].as_str().unwrap_or_default().to_owned();
    let (msg, details) = (text("msg"), text("details"));
    ensure!(!msg.is_empty(), "an error without message: {printed}");
    let msg = if details.is_empty() { msg } else { format!("{msg}: {details}") };
    Ok(Err(Refusal { code, msg }))
}

/// The pod's addresses as containerd takes them from a result, the one that Kubernetes calls the pod IP first.
///
/// go-cni (result.go) keys interfaces by their name alone, whatever their sandbox, and gives an address without an
/// index to `eth0`; an index that is out of range fails the sandbox. containerd's CRI takes the addresses of `eth0`
/// and puts the first IPv4 address first.
pub fn pod_ips(result: &Value) -> Result<Vec<IpAddr>> {
    const DEFAULT: &str = "eth0";
    let none = Vec::new();
    let interfaces = result["interfaces"].as_array().unwrap_or(&none);
    let mut found: Vec<IpAddr> = Vec::new();
    for ip in result["ips"].as_array().unwrap_or(&none) {
        let name = match ip["interface"].as_u64() {
            None => DEFAULT,
            Some(index) => {
                let interface = usize::try_from(index).ok().and_then(|index| interfaces.get(index));
                interface
                    .and_then(|i| i["name"].as_str())
                    .with_context(|| format!("invalid interface index in {ip}"))?
            }
        };
        if name == DEFAULT {
            let address = ip["address"].as_str().unwrap_or_default();
            let address = address.split('/').next().unwrap_or_default();
            found.push(address.parse().with_context(|| format!("reading the address of {ip}"))?);
        }
    }
    if found.is_empty() {
        bail!("failed to find network info for sandbox: no address of {DEFAULT} in {result}");
    }
    if let Some(first) = found.iter().position(IpAddr::is_ipv4) {
        found[..=first].rotate_right(1);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ips(result: &Value) -> Vec<String> {
        pod_ips(result).unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_addresses_of_eth0_are_the_pods_and_the_first_ipv4_one_comes_first() {
        let result = json!({
            "interfaces": [{"name": "br0"}, {"name": "eth0", "sandbox": "/n"}, {"name": "net1", "sandbox": "/n"}],
            "ips": [
                {"address": "fd00::2/64", "interface": 1},
                {"address": "10.0.0.2/24", "interface": 1},
                {"address": "10.9.0.2/24", "interface": 2},
            ],
        });
        assert_eq!(ips(&result), ["10.0.0.2", "fd00::2"]);
    }

    #[test]
    fn an_address_without_index_is_taken_for_the_pods() {
        let result = json!({"ips": [{"address": "10.0.0.2/24"}, {"address": "10.9.0.2/24"}]});
        assert_eq!(ips(&result), ["10.0.0.2", "10.9.0.2"]);
    }

    #[test]
    fn a_hosts_interface_of_that_name_counts_too() {
        let result = json!({
            "interfaces": [{"name": "eth0"}], "ips": [{"address": "10.0.0.2/24", "interface": 0}],
        });
        assert_eq!(ips(&result), ["10.0.0.2"]);
    }

    #[test]
    fn an_index_out_of_range_and_a_pod_without_address_fail() {
        let out_of_range = json!({"ips": [{"address": "10.0.0.2/24", "interface": 3}]});
        assert!(pod_ips(&out_of_range).is_err());
        assert!(pod_ips(&json!({})).is_err());
    }
}
