//! The plan of one pod: pure. From networks that were loaded and what the pod asks of them to attachments
//! that can be run, primary first.
//!
//! Everything that can be known before anything runs is decided here: interface names, what each plugin is
//! asked, whether some plugin can honour it, and who owns the default routes. A plan that comes out is run as
//! it is.

mod honour;
mod ownership;

use cni::npwg::{NetworkRef, Selection};
use cni::{CapabilityArgs, CniArgs, CniError, Code, IfName, NetworkList};
use serde_json::{Map, Value};
use store::record::AttachmentRecord;

pub(crate) use ownership::{DefaultRoutes, Owner};

/// A network with its configuration, and what the pod asks of it.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// What people call it.
    pub(crate) network: String,
    /// The NetworkAttachmentDefinition, if it comes from one.
    pub(crate) network_ref: Option<NetworkRef>,
    /// Its configuration.
    pub(crate) list: NetworkList,
    /// The pod's wishes, if it was the pod that named it.
    pub(crate) selection: Option<Selection>,
}

/// What the runtime said about the pod as a whole.
#[derive(Debug, Clone)]
pub(crate) struct Asked<'a> {
    /// CNI_IFNAME.
    pub(crate) if_name: &'a IfName,
    /// CNI_ARGS.
    pub(crate) args: &'a CniArgs,
    /// `runtimeConfig`: for the primary only, as the NPWG standard says (7.5).
    pub(crate) capabilities: &'a CapabilityArgs,
}

/// Attachments in order, and who owns the default routes.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Primary first; nothing has run.
    pub(crate) attachments: Vec<AttachmentRecord>,
    /// Decided before anything runs.
    pub(crate) default_routes: DefaultRoutes,
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlanError {
    #[error("there is no primary network")]
    NoPrimary,
    #[error(
        "network {network}: interface {if_name} is taken by network {other}; ask for another name with \"interface\""
    )]
    InterfaceTaken { network: String, if_name: IfName, other: String },
    #[error("network {network} would be interface number {number}, for which there is no name")]
    NoInterfaceName { network: String, number: usize },
    #[error(
        "network {network}: \"cni-args\" cannot be given to plugin {plugin}, whose \"{place}\" is not an object"
    )]
    ArgsNotAnObject { network: String, plugin: String, place: &'static str },
    #[error(
        "network {network}: the pod asks for {key:?}, which no plugin of the network can honour; {advice}"
    )]
    NotHonoured { network: String, key: &'static str, advice: &'static str },
    #[error(
        "networks {first} and {second} both ask for the pod's {family} default route; only one can have it"
    )]
    TwoOwners { first: String, second: String, family: cni::result::Family },
    #[error(
        "network {network} names two gateways for the pod's {family} default route; only one can be used"
    )]
    TwoGateways { network: String, family: cni::result::Family },
}

impl PlanError {
    pub(crate) fn to_cni_error(&self) -> CniError {
        CniError::from_chain(Code::INVALID_CONFIG, self)
    }
}

/// Makes the plan. The first of `wanted` is the primary.
pub(crate) fn plan(wanted: Vec<Wanted>, asked: &Asked<'_>) -> Result<Plan, PlanError> {
    if wanted.is_empty() {
        return Err(PlanError::NoPrimary);
    }
    let default_routes = DefaultRoutes::decide(&wanted)?;
    let mut attachments: Vec<AttachmentRecord> = Vec::with_capacity(wanted.len());
    for (index, wanted) in wanted.into_iter().enumerate() {
        let if_name = interface(index, &wanted, asked)?;
        if let Some(other) = attachments.iter().find(|other| other.if_name == if_name) {
            let (network, other) = (wanted.network, other.network.clone());
            return Err(PlanError::InterfaceTaken { network, if_name, other });
        }
        attachments.push(attachment(index, wanted, if_name, asked)?);
    }
    Ok(Plan { attachments, default_routes })
}

/// The runtime's name for the primary; for others `net<n>`, where n counts all attachments, those with names
/// of their own too.
fn interface(index: usize, wanted: &Wanted, asked: &Asked<'_>) -> Result<IfName, PlanError> {
    if let Some(own) = wanted.selection.as_ref().and_then(|selection| selection.interface.clone()) {
        return Ok(own);
    }
    if index == 0 {
        return Ok(asked.if_name.clone());
    }
    IfName::parse(format!("net{index}"))
        .map_err(|_| PlanError::NoInterfaceName { network: wanted.network.clone(), number: index })
}

fn attachment(
    index: usize,
    wanted: Wanted,
    if_name: IfName,
    asked: &Asked<'_>,
) -> Result<AttachmentRecord, PlanError> {
    let Wanted { network, network_ref, mut list, selection } = wanted;
    let mut capabilities = if index == 0 { asked.capabilities.clone() } else { CapabilityArgs::new() };
    let mut args = asked.args.clone();
    if index > 0 {
        // What the runtime asks for here (podman's --ip) is the primary's too.
        args.remove("IP");
        args.remove("MAC");
    }
    if let Some(selection) = &selection {
        honour::check(&network, &list, selection)?;
        capabilities.extend(selection.capability_args());
        // Plugins from before capabilities, and IPAM plugins to this day, read these. Some read one address and
        // fail at several (host-local); whoever declares the capability has them from there.
        let several = selection.ips.len() > 1 && list.declares("ips");
        let args_of_old = selection.legacy_args().into_iter().filter(|(key, _)| *key != "IP" || !several);
        for (key, value) in args_of_old {
            args.set("IgnoreUnknown", "true");
            args.set(key, value);
        }
        merge_cni_args(&network, &mut list, &selection.cni_args)?;
    }
    Ok(AttachmentRecord {
        network,
        network_ref,
        if_name,
        list,
        args,
        capabilities,
        result: None,
        default_route: Vec::new(),
        refused_by: None,
        add_us: None,
        seen: None,
        complaint: None,
    })
}

/// `cni-args` of the pod become `args.cni` of every plugin; the pod's value of a key wins (NPWG 4.1.2.1.6).
fn merge_cni_args(
    network: &str,
    list: &mut NetworkList,
    given: &Map<String, Value>,
) -> Result<(), PlanError> {
    if given.is_empty() {
        return Ok(());
    }
    for plugin in &mut list.plugins {
        let not_an_object = |place| PlanError::ArgsNotAnObject {
            network: network.to_owned(),
            plugin: plugin.plugin().to_string(),
            place,
        };
        let mut args = match plugin.object().get("args") {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(args)) => args.clone(),
            Some(_) => return Err(not_an_object("args")),
        };
        let mut own = match args.remove("cni") {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(own)) => own,
            Some(_) => return Err(not_an_object("args.cni")),
        };
        own.extend(given.clone());
        args.insert("cni".to_owned(), Value::Object(own));
        plugin.set("args", Value::Object(args));
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests;
