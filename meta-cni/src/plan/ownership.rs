//! Who owns the pod's default routes, decided per address family before anything runs.
//!
//! | a selection's `default-route` | means |
//! |---|---|
//! | absent | no claim |
//! | `["10.1.1.1"]` | this attachment owns the IPv4 default route, through that gateway |
//! | `[]` | this attachment's own default routes are to stay: it owns each family that nobody names a gateway for, if it turns out to have a default route of that family |
//!
//! In a family with an owner, all others lose their default route; in a family without, nothing changes. Of
//! several empty lists the first that has a default route of the family owns it.

use std::net::IpAddr;

use cni::result::Family;

use super::{PlanError, Wanted};

/// Who owns the default route of a family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Nobody asked for it.
    Nobody,
    /// The attachment of this index, through this gateway.
    Through(usize, IpAddr),
    /// The first of these attachments that has one of its own.
    FirstWithOne(Vec<usize>),
}

/// The owners of both families.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DefaultRoutes {
    ipv4: Owner,
    ipv6: Owner,
}

impl DefaultRoutes {
    /// The owner of a family.
    pub(crate) fn owner(&self, family: Family) -> &Owner {
        match family {
            Family::Ipv4 => &self.ipv4,
            Family::Ipv6 => &self.ipv6,
        }
    }

    /// Whether somebody asked for any default route.
    pub(crate) fn are_asked_for(&self) -> bool {
        Family::BOTH.into_iter().any(|family| *self.owner(family) != Owner::Nobody)
    }

    pub(super) fn decide(wanted: &[Wanted]) -> Result<Self, PlanError> {
        Ok(Self { ipv4: decide(wanted, Family::Ipv4)?, ipv6: decide(wanted, Family::Ipv6)? })
    }
}

fn decide(wanted: &[Wanted], family: Family) -> Result<Owner, PlanError> {
    let mut named: Option<(usize, IpAddr)> = None;
    let mut own = Vec::new();
    for (index, network) in wanted.iter().enumerate() {
        let Some(gateways) = network.selection.as_ref().and_then(|s| s.default_route.as_ref()) else {
            continue;
        };
        if gateways.is_empty() {
            own.push(index);
        }
        for gateway in gateways.iter().filter(|gateway| Family::of(**gateway) == family) {
            let second = network.network.clone();
            match named {
                None => named = Some((index, *gateway)),
                Some((other, _)) if other == index => {
                    return Err(PlanError::TwoGateways { network: second, family });
                }
                Some((other, _)) => {
                    let first = wanted.get(other).map(|first| first.network.clone()).unwrap_or_default();
                    return Err(PlanError::TwoOwners { first, second, family });
                }
            }
        }
    }
    Ok(match named {
        Some((index, gateway)) => Owner::Through(index, gateway),
        None if own.is_empty() => Owner::Nobody,
        None => Owner::FirstWithOne(own),
    })
}
