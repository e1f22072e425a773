//! Effects on the kernel, through `ip` and sysctls. The plugin's own namespace plays the host.

use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use cni::CniError;
use ipnet::IpNet;
use serde_json::Value;

use super::failed;

/// Runs `ip` in the pod (`Some`) or on the host.
pub(super) fn ip(netns: Option<&Path>, args: &str) -> Result<String, CniError> {
    let mut command = match netns {
        None => Command::new("ip"),
        Some(netns) => {
            let mut command = Command::new("nsenter");
            command.arg(format!("--net={}", netns.display())).arg("ip");
            command
        }
    };
    let output = command.args(args.split_whitespace()).output();
    let output = output.map_err(|error| failed(format!("run ip {args}: {error}")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(failed(format!("ip {args}: {}", String::from_utf8_lossy(&output.stderr).trim())))
}

/// As [`ip`], passing over a failure whose text holds `fine`.
pub(super) fn ip_unless(fine: &str, netns: Option<&Path>, args: &str) -> Result<(), CniError> {
    match ip(netns, args) {
        Err(error) if !error.msg.contains(fine) => Err(error),
        _ => Ok(()),
    }
}

fn json(netns: Option<&Path>, args: &str) -> Result<Value, CniError> {
    let text = ip(netns, &format!("-j {args}"))?;
    serde_json::from_str(&text).map_err(|error| failed(format!("ip {args}: {error}")))
}

/// Whether an interface is there.
pub(super) fn exists(netns: Option<&Path>, name: &str) -> bool {
    ip(netns, &format!("link show dev {name}")).is_ok()
}

/// Removes an interface of the pod. That it is gone, or its namespace, is fine.
pub(super) fn remove(netns: Option<&Path>, name: &str) -> Result<(), CniError> {
    match netns {
        Some(netns) if netns.exists() => {
            ip_unless("Cannot find device", Some(netns), &format!("link delete dev {name}"))
        }
        _ => Ok(()),
    }
}

/// The hardware address of an interface.
pub(super) fn mac(netns: Option<&Path>, name: &str) -> Result<String, CniError> {
    let link = json(netns, &format!("link show dev {name}"))?;
    let mac = link.pointer("/0/address").and_then(Value::as_str);
    mac.map(str::to_owned).ok_or_else(|| failed(format!("{name} has no hardware address")))
}

/// The addresses of an interface.
pub(super) fn addresses(netns: Option<&Path>, name: &str) -> Result<Vec<IpNet>, CniError> {
    let link = json(netns, &format!("address show dev {name}"))?;
    let all = link.pointer("/0/addr_info").and_then(Value::as_array).into_iter().flatten();
    Ok(all
        .filter_map(|one| format!("{}/{}", one["local"].as_str()?, one["prefixlen"]).parse().ok())
        .collect())
}

/// Sets a sysctl of the host.
pub(super) fn sysctl(key: &str, value: &str) -> Result<(), CniError> {
    std::fs::write(format!("/proc/sys/net/{key}"), value)
        .map_err(|error| failed(format!("set net/{key}={value}: {error}")))
}

fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

/// A pair of interfaces, up: one in the pod, one on the host.
pub(super) struct Veth<'a> {
    pub(super) host: &'a str,
    pub(super) netns: &'a Path,
    pub(super) pod: &'a str,
    pub(super) mtu: u32,
}

impl Veth<'_> {
    /// Makes the pair. As the real plugins do, one of the same host name is removed first.
    pub(super) fn make(&self) -> Result<(), CniError> {
        let Self { host, netns, pod, mtu } = self;
        if exists(None, host) {
            ip(None, &format!("link delete dev {host}"))?;
        }
        let pid = std::process::id();
        ip(
            Some(netns),
            &format!("link add {pod} mtu {mtu} type veth peer name {host} mtu {mtu} netns {pid}"),
        )?;
        // Duplicate address detection would keep link-local addresses unusable for seconds.
        sysctl(&format!("ipv6/conf/{host}/accept_dad"), "0")?;
        ip(None, &format!("link set dev {host} up"))?;
        ip(Some(netns), &format!("link set dev {pod} up")).map(drop)
    }

    /// The host's link-local address, which the kernel sets once both ends are up.
    pub(super) fn link_local(&self) -> Result<IpAddr, CniError> {
        for _ in 0..40 {
            let all = addresses(None, self.host)?;
            if let Some(found) = all.into_iter().find(|net| is_link_local(net.addr())) {
                return Ok(found.addr());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Err(failed(format!("{} has no link-local address", self.host)))
    }

    /// Gives the pod an address, a route to `gateway` on the link, and a default route through it.
    pub(super) fn address(&self, address: IpNet, gateway: IpAddr) -> Result<(), CniError> {
        let pod = self.pod;
        let nodad = if address.addr().is_ipv6() { "nodad" } else { "" };
        let in_pod = |args: String| ip(Some(self.netns), &args).map(drop);
        in_pod(format!("address add {address} dev {pod} {nodad}"))?;
        let family = if gateway.is_ipv4() { "-4" } else { "-6" };
        if !is_link_local(gateway) {
            in_pod(format!("{family} route add {gateway} dev {pod} scope link"))?;
        }
        in_pod(format!("{family} route add default via {gateway} dev {pod}"))
    }

    /// The host's side of a point-to-point link: it answers ARP for the gateway and routes to the pod.
    pub(super) fn route_to_pod(&self, address: IpNet) -> Result<(), CniError> {
        let host = self.host;
        if address.addr().is_ipv4() {
            sysctl(&format!("ipv4/conf/{host}/proxy_arp"), "1")?;
            sysctl(&format!("ipv4/neigh/{host}/proxy_delay"), "0")?;
            sysctl(&format!("ipv4/conf/{host}/forwarding"), "1")?;
            ip(None, &format!("route add {address} dev {host} scope link")).map(drop)
        } else {
            sysctl(&format!("ipv6/conf/{host}/forwarding"), "1")?;
            ip(None, &format!("-6 route add {address} dev {host}")).map(drop)
        }
    }
}
