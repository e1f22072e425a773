//! The AWS VPC CNI: `aws-cni` with addresses from its daemon, and `egress-cni`, which is chained after it.

use std::path::Path;

use cni::env::{Target, Verb};
use cni::result::{Interface, IpConfig};
use cni::skel::{Plugin, Request};
use cni::{AddResult, CniError};
use ipnet::IpNet;
use serde_json::{Map, Value};

use super::failed;
use super::host::{Host, check_args, digest, pod_of, text};
use super::kernel::{self, Veth};
use super::pool::Pool;

pub(super) struct AwsCni(pub(super) Host);

pub(super) struct EgressCni(pub(super) Host);

const DAEMON: &str = "/var/run/aws-node/ipamd.sock";
const SUBNET: &str = "172.31.32.0/20";
const ANNOTATIONS: &str = "io.kubernetes.cri.pod-annotations";
const ARGS: [&str; 4] = ["K8S_POD_NAME", "K8S_POD_NAMESPACE", "K8S_POD_INFRA_CONTAINER_ID", "K8S_POD_UID"];
/// The main routing table, which pods of the node's first network interface use.
const MAIN_TABLE: &str = "254";

fn mtu(config: &Map<String, Value>) -> Result<u32, CniError> {
    // A string, not a number.
    let text = config.get("mtu").map_or(Some("9001"), Value::as_str);
    let text = text.ok_or_else(|| failed("\"mtu\" is not a string"))?;
    text.parse().map_err(|error| failed(format!("\"mtu\" {text:?}: {error}")))
}

fn prefix(config: &Map<String, Value>) -> Result<&str, CniError> {
    match text(config, "vethPrefix") {
        "" => Ok("eni"),
        long if long.len() > 4 => Err(failed("conf.VethPrefix can be at most 4 characters long")),
        prefix => Ok(prefix),
    }
}

/// A name made of the pod's; without a pod of an empty one, as the real plugin has it.
fn name(prefix: &str, target: &Target, index: u8) -> String {
    let (namespace, pod) = pod_of(&target.args).unwrap_or_default();
    let suffix = if index > 0 { format!(".{index}") } else { String::new() };
    format!("{prefix}{}", digest(&format!("{namespace}.{pod}{suffix}")))
}

/// Sixteen bytes: one more than a name can have in the kernel.
fn dummy(target: &Target) -> String {
    name("dummy", target, 0)
}

/// How many interfaces the pod's annotations ask for.
fn interfaces_wanted(config: &Map<String, Value>) -> u8 {
    let annotations = config.get("runtimeConfig").and_then(|runtime| runtime.get(ANNOTATIONS));
    let nic = annotations.and_then(|all| all.get("k8s.amazonaws.com/nicConfig"));
    if nic.and_then(Value::as_str) == Some("multi-nic-attachment") { 2 } else { 1 }
}

fn add_rules(veth: &Veth<'_>, address: IpNet) -> Result<(), CniError> {
    kernel::ip(None, &format!("route replace {address} dev {} scope link", veth.host))?;
    kernel::ip_unless("File exists", None, &format!("rule add to {address} priority 512 table main"))
}

fn remove_rules(address: IpNet) -> Result<(), CniError> {
    kernel::ip_unless("No such file", None, &format!("rule delete to {address} priority 512 table main"))?;
    kernel::ip_unless("No such process", None, &format!("route delete {address} scope link"))
}

impl AwsCni {
    fn pool(&self) -> Result<Pool, CniError> {
        self.0.pool("aws-ipamd")
    }

    fn owner(target: &Target, request: &Request) -> String {
        format!("{}/{}/{}", request.name, target.container_id, target.if_name)
    }

    /// The daemon gives the same addresses when it is asked again.
    fn addresses(&self, owner: &str, wanted: u8) -> Result<Vec<IpNet>, CniError> {
        let pool = self.pool()?;
        let subnet = SUBNET.parse().map_err(|error| failed(format!("{SUBNET}: {error}")))?;
        let mut held = pool.held(&|held| held == owner)?;
        while held.len() < usize::from(wanted) {
            held.push(pool.allocate(subnet, owner)?);
        }
        Ok(held.into_iter().map(IpNet::from).collect())
    }

    fn attach(target: &Target, request: &Request, ips: &[IpNet]) -> Result<AddResult, CniError> {
        let netns = target.netns.as_deref().ok_or_else(|| failed("no network namespace"))?;
        let (prefix, mtu) = (prefix(&request.config)?, mtu(&request.config)?);
        let mut result = AddResult::default();
        for (index, ip) in (0u8..).zip(ips) {
            let host = name(prefix, target, index);
            let pod = if index == 0 { target.if_name.to_string() } else { format!("mNicIf{index}") };
            let veth = Veth { host: &host, netns, pod: &pod, mtu };
            attach_one(&veth, *ip, index)?;
            let sandbox = netns.to_string_lossy().into_owned();
            result.interfaces.push(Interface { name: host, ..Interface::default() });
            // What is called a hardware address is the routing table.
            let mac = MAIN_TABLE.to_owned();
            result.interfaces.push(Interface { name: pod, mac, sandbox, ..Interface::default() });
            let interface = Some(result.interfaces.len() - 1);
            result.ips.push(IpConfig { interface, ..IpConfig::new(*ip) });
        }
        // And an interface that does not exist: VLAN in the hardware address, device number in the sandbox.
        let (mac, sandbox) = ("0".to_owned(), "0".to_owned());
        result.interfaces.push(Interface { name: dummy(target), mac, sandbox, ..Interface::default() });
        Ok(result)
    }

    /// What DEL can do without the daemon: the pod's addresses are those of the result of ADD.
    fn tear_down_from_result(target: &Target, request: &Request) -> Result<(), CniError> {
        let Some(result) = request.prev_result()? else { return Ok(()) };
        let known = result.interfaces.iter().find(|one| one.name == dummy(target));
        if known.is_none_or(|dummy| dummy.mac != "0" || dummy.sandbox.parse::<u32>().is_err()) {
            return Ok(());
        }
        for ip in &result.ips {
            remove_rules(ip.address)?;
        }
        Ok(())
    }
}

fn attach_one(veth: &Veth<'_>, ip: IpNet, index: u8) -> Result<(), CniError> {
    veth.make()?;
    let gateway = format!("169.254.1.{}", index + 1);
    let in_pod = |args: String| kernel::ip(Some(veth.netns), &args).map(drop);
    let mac = kernel::mac(None, veth.host)?;
    let table = if index == 0 { MAIN_TABLE.to_owned() } else { index.to_string() };
    in_pod(format!("route replace {gateway} dev {} scope link table {table}", veth.pod))?;
    if index > 0 {
        in_pod(format!("rule add from {ip} priority 1 table {table}"))?;
    }
    in_pod(format!("route add default via {gateway} dev {} table {table}", veth.pod))?;
    in_pod(format!("address add {ip} dev {}", veth.pod))?;
    in_pod(format!("neighbour add {gateway} lladdr {mac} dev {} nud permanent", veth.pod))?;
    kernel::sysctl(&format!("ipv4/conf/{}/forwarding", veth.host), "1")?;
    add_rules(veth, ip)
}

impl Plugin for AwsCni {
    fn about(&self) -> String {
        "a stand-in for the AWS VPC CNI plugin".to_owned()
    }

    fn add(&self, target: &Target, request: &Request) -> Result<AddResult, CniError> {
        check_args(&target.args, &ARGS)?;
        prefix(&request.config)?;
        self.0.connect(DAEMON).map_err(|error| error.of("add cmd: failed to connect to backend server"))?;
        let owner = Self::owner(target, request);
        let ips = self.addresses(&owner, interfaces_wanted(&request.config))?;
        Self::attach(target, request, &ips).inspect_err(|_| {
            // The first error is the one to tell.
            let _ = self.pool().and_then(|pool| pool.release(&|held| held == owner));
        })
    }

    /// Removes rules and routes and gives the addresses back. The interface goes with its namespace.
    fn del(&self, target: &Target, request: &Request) -> Result<(), CniError> {
        check_args(&target.args, &ARGS)?;
        prefix(&request.config)?;
        if self.0.connect(DAEMON).is_err() {
            return Self::tear_down_from_result(target, request);
        }
        let owner = Self::owner(target, request);
        for address in self.pool()?.release(&|held| held == owner)? {
            remove_rules(IpNet::from(address))?;
        }
        Ok(())
    }

    fn check(&self, _: &Target, _: &Request) -> Result<(), CniError> {
        Ok(())
    }
}

impl EgressCni {
    /// The interface for the family that the cluster is not of, by the family of the node's address.
    fn if_name(config: &Map<String, Value>) -> Result<&'static str, CniError> {
        match text(config, "nodeIP").parse::<std::net::IpAddr>() {
            Ok(address) if address.is_ipv4() => Ok("v4if0"),
            Ok(_) => Ok("v6if0"),
            Err(_) => Err(failed("a global unicast IPv6 address of the node is needed")),
        }
    }

    fn ipam(&self, verb: Verb, target: &Target, request: &Request) -> Result<Vec<u8>, CniError> {
        let ipam = request.config.get("ipam").and_then(|ipam| ipam.get("type")).and_then(Value::as_str);
        self.0.call(ipam.unwrap_or_default(), verb, target, request, &request.config)
    }

    /// Without the SNAT rules of the real one: nothing leaves a test's namespaces.
    fn attach(target: &Target, request: &Request, printed: &[u8]) -> Result<[Interface; 2], CniError> {
        let json = serde_json::from_slice(printed).map_err(|error| failed(error.to_string()))?;
        let given = AddResult::parse(json, request.version).map_err(|error| failed(error.to_string()))?;
        let [ip] = &given.ips[..] else {
            return Err(failed("the IPAM plugin is expected to return 1 IP address"));
        };
        let netns = target.netns.as_deref().ok_or_else(|| failed("no network namespace"))?;
        let pod = Self::if_name(&request.config)?;
        let host = format!("veth{}", &digest(&format!("{}{pod}", target.container_id))[..8]);
        let veth = Veth { host: &host, netns, pod, mtu: mtu(&request.config)? };
        veth.make()?;
        if pod == "v6if0" {
            disable_ipv6(netns, target.if_name.as_str())?;
            veth.address(ip.address, veth.link_local()?)?;
            veth.route_to_pod(IpNet::from(ip.address.addr()))?;
        } else {
            let gateway = ip.gateway.ok_or_else(|| failed("the IPAM plugin returned no gateway"))?;
            kernel::ip(None, &format!("address add {gateway}/32 dev {host} scope link"))?;
            veth.address(IpNet::from(ip.address.addr()), gateway)?;
            veth.route_to_pod(IpNet::from(ip.address.addr()))?;
        }
        let (host_mac, mac) = (kernel::mac(None, &host)?, kernel::mac(Some(netns), pod)?);
        let sandbox = netns.to_string_lossy().into_owned();
        Ok([
            Interface { name: host, mac: host_mac, ..Interface::default() },
            Interface { name: pod.to_owned(), mac, sandbox, ..Interface::default() },
        ])
    }
}

fn disable_ipv6(netns: &Path, name: &str) -> Result<(), CniError> {
    let status = std::process::Command::new("nsenter")
        .arg(format!("--net={}", netns.display()))
        .args(["sh", "-c", "echo 1 > \"/proc/sys/net/ipv6/conf/$0/disable_ipv6\"", name])
        .status();
    match status {
        Ok(status) if status.success() => Ok(()),
        _ => Err(failed(format!("failed to disable IPv6 on container interface {name}"))),
    }
}

impl Plugin for EgressCni {
    fn about(&self) -> String {
        "a stand-in for the AWS VPC CNI's egress plugin".to_owned()
    }

    fn add(&self, target: &Target, request: &Request) -> Result<AddResult, CniError> {
        let previous = request.prev_result()?;
        let mut result = previous.ok_or_else(|| failed("must be called as a chained plugin"))?;
        mtu(&request.config)?;
        if text(&request.config, "enabled") != "true" {
            return Ok(result);
        }
        let printed = self.ipam(Verb::Add, target, request)?;
        let made = Self::attach(target, request, &printed).inspect_err(|_| {
            // The first error is the one to tell.
            let _ = self.ipam(Verb::Del, target, request);
        })?;
        // Its interfaces are told, its addresses and routes are not.
        result.interfaces.extend(made);
        Ok(result)
    }

    fn del(&self, target: &Target, request: &Request) -> Result<(), CniError> {
        if text(&request.config, "enabled") != "true" {
            return Ok(());
        }
        self.ipam(Verb::Del, target, request).map(drop)
    }

    fn check(&self, _: &Target, _: &Request) -> Result<(), CniError> {
        Ok(())
    }
}
