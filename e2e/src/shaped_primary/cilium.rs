//! Cilium: everything through its agent's socket; DEL goes on without it and leaves a note.

use std::net::IpAddr;

use cni::env::{Target, Verb};
use cni::result::{Interface, IpConfig, Route};
use cni::skel::{Plugin, Request};
use cni::{AddResult, CniError, Code};
use ipnet::IpNet;
use serde_json::{Map, Value};

use super::failed;
use super::host::{Host, check_args, digest, text};
use super::kernel::{self, Veth};
use super::pool::Pool;

pub(super) struct Cilium(pub(super) Host);

const SOCKET: &str = "/var/run/cilium/cilium.sock";
const QUEUE: &str = "/var/run/cilium/deleteQueue";
/// The agent of a dual-stack cluster; its stand-in is a file, for the socket speaks no protocol.
const DUAL_STACK: &str = "/var/run/cilium/dual-stack";
const ARGS: [&str; 5] =
    ["IP", "K8S_POD_NAME", "K8S_POD_NAMESPACE", "K8S_POD_INFRA_CONTAINER_ID", "K8S_POD_UID"];

fn net(text: &str) -> Result<IpNet, CniError> {
    text.parse().map_err(|error| failed(format!("{text}: {error}")))
}

impl Cilium {
    fn pool(&self) -> Result<Pool, CniError> {
        self.0.pool("cilium")
    }

    /// The node's pod subnets, IPv6 first; the first address of each is the router.
    fn subnets(&self) -> Result<Vec<IpNet>, CniError> {
        let dual = self.0.path(DUAL_STACK)?.exists();
        let texts: &[&str] = if dual { &["fd00:10:0:1::/64", "10.0.1.0/24"] } else { &["10.0.1.0/24"] };
        texts.iter().map(|text| net(text)).collect()
    }

    fn chained(config: &Map<String, Value>) -> bool {
        config.get("prevResult").is_some_and(|result| !result.is_null())
    }

    fn attach(target: &Target, addresses: &[(IpNet, IpAddr)]) -> Result<AddResult, CniError> {
        let netns = target.netns.as_deref().ok_or_else(|| failed("no network namespace"))?;
        let host = format!("lxc{}", digest(&format!("{}:{}", target.container_id, target.if_name)));
        let veth = Veth { host: &host, netns, pod: target.if_name.as_str(), mtu: 1500 };
        kernel::remove(Some(netns), veth.pod)?;
        veth.make()?;
        let mut result = AddResult::default();
        for (address, router) in addresses {
            veth.address(*address, *router)?;
            veth.route_to_pod(*address)?;
            if router.is_ipv6() {
                kernel::sysctl(&format!("ipv6/conf/{host}/proxy_ndp"), "1")?;
                kernel::ip(None, &format!("-6 neighbour add proxy {router} dev {host}"))?;
            }
            let ip = IpConfig { gateway: Some(*router), interface: Some(1), ..IpConfig::new(*address) };
            result.ips.push(ip);
            result.routes.push(Route { dst: IpNet::from(*router), gw: None, extra: Map::new() });
            result.routes.push(Route::default_through(*router));
        }
        let (host_mac, mac) = (kernel::mac(None, &host)?, kernel::mac(Some(netns), veth.pod)?);
        let sandbox = netns.to_string_lossy().into_owned();
        result.interfaces = vec![
            Interface { name: host.clone(), mac: host_mac, ..Interface::default() },
            Interface { name: veth.pod.to_owned(), mac, sandbox, ..Interface::default() },
        ];
        Ok(result)
    }

    fn attach_or_release(&self, target: &Target) -> Result<AddResult, CniError> {
        let (pool, owner) = (self.pool()?, format!("{}:{}", target.container_id, target.if_name));
        let mut addresses = Vec::new();
        for subnet in self.subnets()? {
            addresses.push((IpNet::from(pool.allocate(subnet, &owner)?), Pool::router(subnet)?));
        }
        Self::attach(target, &addresses).inspect_err(|_| {
            // The first error is the one to tell.
            let _ = pool.release(&|held| held == owner);
        })
    }

    /// The agent forgets every endpoint of a container at once. Without an agent the wish is queued.
    fn forget(&self, target: &Target) -> Result<(), CniError> {
        let container = target.container_id.as_str();
        if self.0.connect(SOCKET).is_ok() {
            let prefix = format!("{container}:");
            return self.pool()?.release(&|owner| owner.starts_with(&prefix)).map(drop);
        }
        let queue = self.0.path(QUEUE)?;
        let note = queue.join(format!("{}.delete", digest(container)));
        std::fs::create_dir_all(&queue)
            .and_then(|()| std::fs::write(&note, format!("{{\"container-id\":{container:?}}}")))
            .map_err(|error| failed(format!("queue the deletion in {}: {error}", queue.display())))
    }
}

impl Plugin for Cilium {
    fn about(&self) -> String {
        "a stand-in for the Cilium CNI plugin".to_owned()
    }

    fn add(&self, target: &Target, request: &Request) -> Result<AddResult, CniError> {
        check_args(&target.args, &ARGS)?;
        self.0.connect(SOCKET).map_err(|error| error.of("unable to connect to Cilium agent"))?;
        if Self::chained(&request.config) || !text(&request.config, "chaining-mode").is_empty() {
            return Err(failed("a result of an earlier plugin, but not in a chaining mode that is known"));
        }
        self.attach_or_release(target)
    }

    fn del(&self, target: &Target, request: &Request) -> Result<(), CniError> {
        check_args(&target.args, &ARGS)?;
        self.forget(target)?;
        let ipam = request.config.get("ipam").and_then(|ipam| ipam.get("type")).and_then(Value::as_str);
        if let Some(ipam) = ipam.filter(|ipam| !ipam.is_empty()) {
            self.0.call(ipam, Verb::Del, target, request, &request.config)?;
        }
        if self.0.older && !target.netns.as_deref().is_some_and(std::path::Path::exists) {
            return Err(failed(format!("opening netns {:?}: no such file", target.netns)));
        }
        kernel::remove(target.netns.as_deref(), target.if_name.as_str())
    }

    fn check(&self, target: &Target, request: &Request) -> Result<(), CniError> {
        self.0.connect(SOCKET).map_err(|error| CniError::new(Code::TRY_AGAIN_LATER, error.msg))?;
        let expected = request.prev_result()?.ok_or_else(|| failed("no prevResult"))?;
        let name = target.if_name.as_str();
        let mine = expected.interfaces.iter().position(|one| one.is_in_pod() && one.name == name);
        let there = kernel::addresses(target.netns.as_deref(), name)?;
        let missing = expected.ips.iter().find(|ip| ip.interface == mine && !there.contains(&ip.address));
        missing.map_or(Ok(()), |ip| Err(failed(format!("expected {} on {name}", ip.address))))
    }
}
