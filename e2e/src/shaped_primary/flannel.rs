//! flannel: turns the subnet file into a configuration for `bridge`, runs it, and keeps it for DEL.

use std::io::ErrorKind;
use std::path::PathBuf;

use cni::env::{Target, Verb};
use cni::skel::{Plugin, Request};
use cni::{AddResult, CniError};
use serde_json::{Map, Value, json};

use super::failed;
use super::host::{Host, tell, text};

pub(super) struct Flannel(pub(super) Host);

/// What flanneld writes for its plugin.
struct Subnet {
    networks: Vec<String>,
    subnets: Vec<String>,
    mtu: u32,
    masquerades: bool,
}

impl Subnet {
    fn parse(file: &str, from: &str) -> Result<Self, CniError> {
        let get = |key: &str| {
            let lines = file.lines().filter_map(|line| line.split_once('='));
            lines.filter(|(name, _)| *name == key).map(|(_, value)| value.to_owned()).next_back()
        };
        let networks = ["FLANNEL_NETWORK", "FLANNEL_IPV6_NETWORK"].map(get);
        let networks: Vec<_> =
            networks.iter().flatten().flat_map(|list| list.split(',')).map(str::to_owned).collect();
        let subnets: Vec<_> =
            ["FLANNEL_SUBNET", "FLANNEL_IPV6_SUBNET"].map(get).into_iter().flatten().collect();
        let mtu = get("FLANNEL_MTU").and_then(|mtu| mtu.parse().ok());
        match (mtu, get("FLANNEL_IPMASQ")) {
            (Some(mtu), Some(masq)) if !networks.is_empty() && !subnets.is_empty() => {
                Ok(Self { networks, subnets, mtu, masquerades: masq == "true" })
            }
            _ => Err(failed(format!("{from} lacks a network, a subnet, FLANNEL_MTU or FLANNEL_IPMASQ"))),
        }
    }

    /// The network address of a subnet that is written with the node's own address.
    fn ranges(&self) -> Result<Vec<Value>, CniError> {
        let range = |subnet: &String| {
            let net: ipnet::IpNet = subnet.parse().map_err(|error| failed(format!("{subnet}: {error}")))?;
            Ok(json!([{"subnet": net.trunc().to_string()}]))
        };
        self.subnets.iter().map(range).collect()
    }
}

fn file_or<'a>(request: &'a Request, key: &str, default: &'a str) -> &'a str {
    Some(text(&request.config, key)).filter(|path| !path.is_empty()).unwrap_or(default)
}

impl Flannel {
    /// The file that keeps the delegate's configuration; its name is the container's id alone.
    fn scratch(&self, target: &Target, request: &Request) -> Result<PathBuf, CniError> {
        let dir = self.0.path(file_or(request, "dataDir", "/var/lib/cni/flannel"))?;
        Ok(dir.join(target.container_id.as_str()))
    }

    fn delegate(&self, request: &Request) -> Result<Map<String, Value>, CniError> {
        let from = file_or(request, "subnetFile", "/run/flannel/subnet.env");
        let subnet = Subnet::parse(&self.0.read(from)?, from)?;
        let mut delegate = match request.config.get("delegate") {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(delegate)) => delegate.clone(),
            Some(_) => return Err(failed("\"delegate\" is not an object")),
        };
        if delegate.contains_key("name") || delegate.contains_key("ipam") {
            return Err(failed("\"delegate\" must have neither \"name\" nor \"ipam\": flannel sets them"));
        }
        if let Some(runtime) = request.config.get("runtimeConfig") {
            delegate.insert("runtimeConfig".to_owned(), runtime.clone());
        }
        let mut default = |key: &str, value: Value| {
            delegate.entry(key.to_owned()).or_insert(value);
        };
        default("type", "bridge".into());
        default("ipMasq", (!subnet.masquerades).into());
        default("mtu", subnet.mtu.into());
        if text(&delegate, "type") == "bridge" {
            delegate.entry("isGateway".to_owned()).or_insert(true.into());
        }
        delegate.insert("name".to_owned(), request.name.as_str().into());
        delegate.insert("cniVersion".to_owned(), request.version.as_str().into());
        delegate.insert("ipam".to_owned(), ipam(request, &subnet)?);
        Ok(delegate)
    }
}

fn ipam(request: &Request, subnet: &Subnet) -> Result<Value, CniError> {
    let mut ipam = request.config.get("ipam").and_then(Value::as_object).cloned().unwrap_or_default();
    ipam.entry("type".to_owned()).or_insert("host-local".into());
    ipam.insert("ranges".to_owned(), subnet.ranges()?.into());
    let mut routes = ipam.get("routes").and_then(Value::as_array).cloned().unwrap_or_default();
    routes.extend(subnet.networks.iter().map(|network| json!({"dst": network})));
    ipam.insert("routes".to_owned(), routes.into());
    Ok(Value::Object(ipam))
}

impl Plugin for Flannel {
    fn about(&self) -> String {
        "a stand-in for the flannel CNI plugin".to_owned()
    }

    fn add(&self, target: &Target, request: &Request) -> Result<AddResult, CniError> {
        let delegate = self.delegate(request)?;
        let scratch = self.scratch(target, request)?;
        let kept = Value::Object(delegate.clone()).to_string();
        // The real one says this on stderr at every ADD, also when all is well.
        tell(&format!("delegateAdd: {kept}"));
        let written = scratch.parent().map_or(Ok(()), std::fs::create_dir_all);
        written
            .and_then(|()| std::fs::write(&scratch, &kept))
            .map_err(|error| failed(format!("write {}: {error}", scratch.display())))?;
        let printed = self.0.call(text(&delegate, "type"), Verb::Add, target, request, &delegate)?;
        let json = serde_json::from_slice(&printed).map_err(|error| failed(error.to_string()))?;
        AddResult::parse(json, request.version).map_err(|error| failed(error.to_string()))
    }

    fn del(&self, target: &Target, request: &Request) -> Result<(), CniError> {
        let scratch = self.scratch(target, request)?;
        let kept = match std::fs::read(&scratch) {
            Ok(kept) => kept,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed(format!("read {}: {error}", scratch.display()))),
        };
        if let Ok(delegate) = serde_json::from_slice::<Map<String, Value>>(&kept) {
            self.0.call(text(&delegate, "type"), Verb::Del, target, request, &delegate)?;
        }
        std::fs::remove_file(&scratch)
            .map_err(|error| failed(format!("remove {}: {error}", scratch.display())))
    }

    fn check(&self, _: &Target, _: &Request) -> Result<(), CniError> {
        Ok(())
    }
}
