//! Calico: a point-to-point interface with a /32, addresses from `calico-ipam`, and a kubeconfig that the
//! configuration names and every verb needs.

use std::io::Write;
use std::path::PathBuf;

use cni::env::{Target, Verb};
use cni::result::{Interface, IpConfig};
use cni::skel::{Plugin, Request};
use cni::{AddResult, CniError, SpecVersion};
use ipnet::IpNet;
use serde_json::{Map, Value};

use super::failed;
use super::host::{Host, digest, pod_of, text};
use super::kernel::{self, Veth};
use super::pool::Pool;

pub(super) struct Calico(pub(super) Host);

pub(super) struct CalicoIpam(pub(super) Host);

const DUMMY_GATEWAY: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::new(169, 254, 1, 1));

fn object<'a>(config: &'a Map<String, Value>, key: &str) -> Option<&'a Map<String, Value>> {
    config.get(key).and_then(Value::as_object)
}

/// What both executables need before they do anything: the datastore, through the kubeconfig.
fn datastore(host: &Host, config: &Map<String, Value>) -> Result<(), CniError> {
    let kubeconfig = object(config, "kubernetes").map(|kubernetes| text(kubernetes, "kubeconfig"));
    let kubeconfig = kubeconfig.filter(|path| !path.is_empty());
    let kubeconfig = kubeconfig.ok_or_else(|| {
        failed("error getting ClusterInformation: no \"kubernetes.kubeconfig\" and not inside a cluster")
    })?;
    if host.read(kubeconfig)?.contains("clusters:") {
        return Ok(());
    }
    Err(failed(format!("error getting ClusterInformation: {kubeconfig} names no cluster")))
}

impl Calico {
    fn prepare(&self, config: &Map<String, Value>) -> Result<(), CniError> {
        let file = Some(text(config, "nodename_file")).filter(|path| !path.is_empty());
        if config.get("nodename_file_optional") != Some(&Value::Bool(true)) {
            self.0.read(file.unwrap_or("/var/lib/calico/nodename")).map_err(|error| {
                failed(format!("{}: check that the calico/node container is running", error.msg))
            })?;
        }
        datastore(&self.0, config)
    }

    /// The file that stands for the WorkloadEndpoint; a pod has one, whatever its interfaces.
    fn endpoint(&self, target: &Target) -> Result<PathBuf, CniError> {
        let name = match pod_of(&target.args) {
            Some((namespace, pod)) => format!("{namespace}.{pod}"),
            None => target.container_id.to_string(),
        };
        Ok(self.0.path("/var/lib/shaped-primary/calico-endpoints")?.join(name))
    }

    fn ipam(&self, verb: Verb, target: &Target, request: &Request) -> Result<Vec<u8>, CniError> {
        let ipam = object(&request.config, "ipam").map(|ipam| text(ipam, "type")).unwrap_or_default();
        self.0.call(ipam, verb, target, request, &request.config)
    }

    fn attach(&self, target: &Target, request: &Request, ips: &[IpNet]) -> Result<Interface, CniError> {
        let host = match pod_of(&target.args) {
            Some((namespace, pod)) => format!("cali{}", digest(&format!("{namespace}.{pod}"))),
            None => {
                format!("cali{}", &target.container_id.as_str()[..target.container_id.as_str().len().min(11)])
            }
        };
        let netns = target.netns.as_deref().ok_or_else(|| failed("no network namespace"))?;
        let configured = request.config.get("mtu").and_then(Value::as_u64).unwrap_or(0);
        let mtu = u32::try_from(configured).ok().filter(|mtu| *mtu != 0).unwrap_or(1500);
        let veth = Veth { host: &host, netns, pod: target.if_name.as_str(), mtu };
        veth.make()?;
        kernel::ip(None, &format!("link set dev {host} address ee:ee:ee:ee:ee:ee"))?;
        for ip in ips {
            let gateway = if ip.addr().is_ipv4() { DUMMY_GATEWAY } else { veth.link_local()? };
            veth.address(*ip, gateway)?;
            veth.route_to_pod(*ip)?;
        }
        let mac = kernel::mac(Some(netns), target.if_name.as_str())?;
        if self.0.older {
            return Ok(Interface { name: host, ..Interface::default() });
        }
        let mtu = u32::try_from(configured).ok().filter(|mtu| *mtu != 0);
        Ok(Interface {
            name: host,
            mac,
            mtu,
            sandbox: netns.to_string_lossy().into_owned(),
            ..Interface::default()
        })
    }

    fn finish(&self, target: &Target, request: &Request, printed: &[u8]) -> Result<AddResult, CniError> {
        let json = serde_json::from_slice(printed).map_err(|error| failed(error.to_string()))?;
        let mut result =
            AddResult::parse(json, request.version).map_err(|error| failed(error.to_string()))?;
        let ips: Vec<_> = result.ips.iter().map(|ip| IpNet::from(ip.address.addr())).collect();
        if ips.is_empty() {
            return Err(failed("the IPAM plugin returned no address"));
        }
        // Neither gateway nor interface, and the routes stay unsaid.
        result.ips = ips.iter().map(|ip| IpConfig::new(*ip)).collect();
        result.interfaces = vec![self.attach(target, request, &ips)?];
        let endpoint = self.endpoint(target)?;
        let written = endpoint.parent().map_or(Ok(()), std::fs::create_dir_all);
        written
            .and_then(|()| std::fs::write(&endpoint, target.container_id.as_str()))
            .map_err(|error| failed(format!("write the endpoint: {error}")))?;
        Ok(result)
    }
}

impl Plugin for Calico {
    fn about(&self) -> String {
        "a stand-in for the Calico CNI plugin".to_owned()
    }

    fn supported_versions(&self) -> &[SpecVersion] {
        &SpecVersion::ALL[..6]
    }

    fn add(&self, target: &Target, request: &Request) -> Result<AddResult, CniError> {
        self.prepare(&request.config)?;
        let printed = self.ipam(Verb::Add, target, request)?;
        self.finish(target, request, &printed).inspect_err(|_| {
            // The first error is the one to tell.
            let _ = self.ipam(Verb::Del, target, request);
        })
    }

    fn del(&self, target: &Target, request: &Request) -> Result<(), CniError> {
        self.prepare(&request.config)?;
        let endpoint = self.endpoint(target)?;
        // The endpoint of another sandbox of the same pod is left alone.
        if std::fs::read_to_string(&endpoint).is_ok_and(|owner| owner == target.container_id.as_str()) {
            std::fs::remove_file(&endpoint)
                .map_err(|error| failed(format!("remove the endpoint: {error}")))?;
        }
        kernel::remove(target.netns.as_deref(), target.if_name.as_str())?;
        self.ipam(Verb::Del, target, request).map(drop)
    }

    fn check(&self, _: &Target, _: &Request) -> Result<(), CniError> {
        // The real one checks nothing and prints this word, which is not JSON.
        std::io::stdout().write_all(b"OK\n").map_err(|error| failed(error.to_string()))
    }
}

impl CalicoIpam {
    /// A handle knows the network and the container, not the interface.
    fn handle(target: &Target, request: &Request) -> String {
        format!("{}.{}", request.name, target.container_id)
    }

    fn pool(&self) -> Result<Pool, CniError> {
        self.0.pool("calico-ipam")
    }

    /// The subnets to take addresses from, and the masks that the allocator reports: those of its blocks.
    fn subnets(request: &Request) -> Result<Vec<(IpNet, u8)>, CniError> {
        let empty = Map::new();
        let ipam = object(&request.config, "ipam").unwrap_or(&empty);
        let first = |key: &str, default: &str| {
            let given = ipam.get(key).and_then(|pools| pools.get(0)).and_then(Value::as_str);
            let pool = given.unwrap_or(default);
            pool.parse::<IpNet>().map_err(|error| failed(format!("error parsing pool {pool:?}: {error}")))
        };
        let mut subnets = Vec::new();
        if text(ipam, "assign_ipv4") != "false" {
            subnets.push((first("ipv4_pools", "192.168.0.0/16")?, 26));
        }
        if text(ipam, "assign_ipv6") == "true" {
            subnets.push((first("ipv6_pools", "fdca:11c0::/48")?, 122));
        }
        Ok(subnets)
    }
}

impl Plugin for CalicoIpam {
    fn about(&self) -> String {
        "a stand-in for the Calico IPAM plugin".to_owned()
    }

    fn supported_versions(&self) -> &[SpecVersion] {
        &SpecVersion::ALL[..6]
    }

    fn add(&self, target: &Target, request: &Request) -> Result<AddResult, CniError> {
        datastore(&self.0, &request.config)?;
        let (pool, handle) = (self.pool()?, Self::handle(target, request));
        let mut result = AddResult::default();
        if let Some(asked) = target.args.get("IP") {
            let address = asked.parse().map_err(|error| failed(format!("IP={asked}: {error}")))?;
            if !pool.take(address, &handle)? {
                return Err(failed(format!("{address} is assigned already")));
            }
            result.ips.push(IpConfig::new(IpNet::from(address)));
            return Ok(result);
        }
        for (subnet, mask) in Self::subnets(request)? {
            let address = pool.allocate(subnet, &handle)?;
            let net = IpNet::new(address, mask).map_err(|error| failed(error.to_string()))?;
            result.ips.push(IpConfig::new(net));
        }
        Ok(result)
    }

    fn del(&self, target: &Target, request: &Request) -> Result<(), CniError> {
        datastore(&self.0, &request.config)?;
        let handle = Self::handle(target, request);
        self.pool()?.release(&|owner| owner == handle).map(drop)
    }

    fn check(&self, _: &Target, _: &Request) -> Result<(), CniError> {
        Ok(())
    }
}
