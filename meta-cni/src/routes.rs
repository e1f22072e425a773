//! Default routes as the pod asked for them: applied after all attachments are up, shown in their results.
//!
//! [`resolve`] (pure) turns the plan's owners and the delegates' results into what has to be done; `netlink`
//! does it in the pod's namespace, or leaves everything as it was; [`record`] (pure) shows it in the results,
//! so that CHECK, DEL, network-status and the runtime all see what is in the pod.

mod netlink;

pub(crate) use netlink::default_routes_through;

use std::net::IpAddr;
use std::path::Path;

use cni::result::{Family, Route};
use cni::{AddResult, CniError, Code};
use store::record::AttachmentRecord;

use crate::namespace::NamespaceError;
use crate::plan::{DefaultRoutes, Owner};

/// What has to be done for one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    family: Family,
    /// Index of the attachment that gets the default route.
    owner: usize,
    /// Its gateway; a point-to-point interface needs none.
    gateway: Option<IpAddr>,
    /// Whether it is the network's own default route, which is to stay, and no gateway that the pod names.
    is_its_own: bool,
}

/// Why default routes could not be set.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RouteError {
    #[error("the pod asks for default routes, but the runtime gave no network namespace")]
    NoNamespace,
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    #[error("find interface {name} in the pod")]
    Interface { name: String, source: std::io::Error },
    #[error("read the pod's {family} routes")]
    Read { family: Family, source: std::io::Error },
    #[error(
        "set the pod's {family} default route to {target}; a gateway has to be in a subnet of the interface"
    )]
    Set { family: Family, target: String, source: std::io::Error },
    #[error("take the {family} default route away from another network's interface")]
    Remove { family: Family, source: std::io::Error },
}

impl RouteError {
    pub(crate) fn to_cni_error(&self) -> CniError {
        let code = match self {
            // The gateway is the pod's own wish.
            Self::Set { .. } => Code::INVALID_CONFIG,
            Self::NoNamespace | Self::Namespace(NamespaceError::Enter { .. }) => Code::INVALID_NETNS,
            _ => Code::INTERNAL,
        };
        CniError::from_chain(code, self)
    }
}

/// Makes the pod's default routes what the plan says, and shows it in the results.
///
/// *Guarantees*: on failure the pod's routes are what they were.
pub(crate) fn apply(
    owners: &DefaultRoutes,
    attachments: &mut [AttachmentRecord],
    netns: Option<&Path>,
) -> Result<(), RouteError> {
    let changes = resolve(owners, attachments);
    if changes.is_empty() {
        return Ok(());
    }
    let interfaces: Vec<Vec<String>> = attachments.iter().map(|a| pod_interfaces(a, netns)).collect();
    let applied = netlink::apply(netns.ok_or(RouteError::NoNamespace)?, &changes, &interfaces)?;
    record(&applied, attachments);
    Ok(())
}

/// What has to be done, now that results are known.
fn resolve(owners: &DefaultRoutes, attachments: &[AttachmentRecord]) -> Vec<Change> {
    let change = |family| match owners.owner(family) {
        Owner::Nobody => None,
        Owner::Through(owner, gateway) => {
            Some(Change { family, owner: *owner, gateway: Some(*gateway), is_its_own: false })
        }
        Owner::FirstWithOne(candidates) => candidates.iter().find_map(|&owner| {
            let result = attachments.get(owner)?.result.as_ref()?;
            let OwnDefault { gateway } = own_default(result, family)?;
            Some(Change { family, owner, gateway, is_its_own: true })
        }),
    };
    Family::BOTH.into_iter().filter_map(change).collect()
}

/// A default route that a network set by itself.
#[derive(Debug, PartialEq, Eq)]
struct OwnDefault {
    gateway: Option<IpAddr>,
}

/// A result's own default route of a family, if it has one. Its gateway is the route's, else that of the
/// family's first address that has one.
fn own_default(result: &AddResult, family: Family) -> Option<OwnDefault> {
    let route =
        result.routes.iter().find(|route| route.is_default() && Family::of_net(route.dst) == family)?;
    let mut same_family = result.ips.iter().filter(|ip| Family::of_net(ip.address) == family);
    Some(OwnDefault { gateway: route.gw.or_else(|| same_family.find_map(|ip| ip.gateway)) })
}

/// The names of an attachment's interfaces in the pod, its own first.
fn pod_interfaces(attachment: &AttachmentRecord, netns: Option<&Path>) -> Vec<String> {
    let own = attachment.if_name.to_string();
    let settled = attachment.result.as_ref().map(|result| result.settled(&attachment.if_name, netns));
    let others = settled.into_iter().flat_map(|result| result.interfaces);
    let others = others.filter(|i| i.is_in_pod() && i.name != own).map(|i| i.name);
    std::iter::once(own.clone()).chain(others).collect()
}

/// Shows in the results what was done in the pod.
fn record(changes: &[Change], attachments: &mut [AttachmentRecord]) {
    for change in changes {
        for (index, attachment) in attachments.iter_mut().enumerate() {
            let Some(result) = attachment.result.as_mut() else { continue };
            if index != change.owner {
                result.remove_default_routes(change.family);
                continue;
            }
            attachment.default_route.push(change.family);
            let has_it = own_default(result, change.family).is_some_and(|own| own.gateway == change.gateway);
            if !has_it {
                result.remove_default_routes(change.family);
                result.routes.push(match change.gateway {
                    Some(gateway) => Route::default_through(gateway),
                    None => Route {
                        dst: change.family.default_destination(),
                        gw: None,
                        extra: serde_json::Map::new(),
                    },
                });
            }
        }
    }
}

/// The merged result tells the runtime the pod's routes: the primary's, and default routes of other owners.
pub(crate) fn owned_elsewhere(attachments: &[AttachmentRecord]) -> Vec<Route> {
    let others = attachments.iter().skip(1).filter(|attachment| !attachment.default_route.is_empty());
    let routes = others.flat_map(|attachment| {
        let result = attachment.result.iter().flat_map(|result| &result.routes);
        result
            .filter(|r| r.is_default() && attachment.default_route.contains(&Family::of_net(r.dst)))
            .cloned()
    });
    routes.collect()
}

#[cfg(test)]
mod tests;
