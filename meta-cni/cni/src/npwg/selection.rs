//! What a pod asks for: its annotations `k8s.v1.cni.cncf.io/networks` and
//! `v1.multus-cni.io/default-network`.
//!
//! Both are written in one of two forms: a list of names, `[namespace/]name[@interface]` with commas between
//! them, or a JSON array of objects. A text with any of `[`, `{` and `"` in it is read as JSON. Whatever does
//! not make sense is refused here, with the element and the key, so that the rest of the program only sees
//! selections that do.
//!
//! Anybody who may make a pod writes these, so what one annotation makes a node do is bounded here, before anything is
//! held in memory or looked up: how many networks it names, how long it is, and how much each element asks for.
//!
//! Not read: `deviceID`. It is not of the standard, and it would let a pod choose any device of the node.

mod json;
mod values;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroUsize;

use serde_json::{Map, Value};

pub use values::{Bandwidth, InfinibandGuid, Mac, PortMapping, Protocol, RateLimit, RequestedIp, ValueError};

use super::names::{NameError, Namespace, NetworkRef, ObjectName, excerpt};
use crate::config::CapabilityArgs;
use crate::error::Code;
use crate::ids::IfName;
use crate::json_slip::JsonSlip;

/// One element of an annotation: a network, and how the pod wants to be attached to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Selection {
    /// The network.
    pub network: NetworkRef,
    /// The name of the interface in the pod (`interface`, or its old name `interfaceRequest`).
    pub interface: Option<IfName>,
    /// Addresses to be given (`ips`).
    pub ips: Vec<RequestedIp>,
    /// The hardware address to be given (`mac`).
    pub mac: Option<Mac>,
    /// The InfiniBand GUID to be given (`infiniband-guid`).
    pub infiniband_guid: Option<InfinibandGuid>,
    /// Limits of traffic (`bandwidth`).
    pub bandwidth: Option<Bandwidth>,
    /// Ports of the node that lead to the pod (`portMappings`).
    pub port_mappings: Vec<PortMapping>,
    /// Gateways of the pod's default routes (`default-route`): absent, or a list that may be empty.
    pub default_route: Option<Vec<IpAddr>>,
    /// Arguments for the plugins, under `args.cni` (`cni-args`).
    pub cni_args: Map<String, Value>,
    /// The IPAM claim that holds the addresses (`ipam-claim-reference`).
    pub ipam_claim_reference: Option<String>,
    /// Keys that mean nothing to us, worth a warning: paths such as `gateway` or `bandwidth.rate`.
    pub unknown_keys: Vec<String>,
}

impl Selection {
    /// The selection of `network` without wishes.
    pub fn of(network: NetworkRef) -> Self {
        Self {
            network,
            interface: None,
            ips: Vec::new(),
            mac: None,
            infiniband_guid: None,
            bandwidth: None,
            port_mappings: Vec::new(),
            default_route: None,
            cni_args: Map::new(),
            ipam_claim_reference: None,
            unknown_keys: Vec::new(),
        }
    }

    /// The wishes as values for capabilities; a plugin gets those that it declares.
    pub fn capability_args(&self) -> CapabilityArgs {
        let texts = |ips: &[RequestedIp]| ips.iter().map(|ip| ip.as_str().into()).collect();
        let mappings = |list: &[PortMapping]| list.iter().map(PortMapping::to_json).collect();
        let wishes = [
            ("ips", (!self.ips.is_empty()).then(|| Value::Array(texts(&self.ips)))),
            ("mac", self.mac.as_ref().map(|mac| mac.as_str().into())),
            ("infinibandGUID", self.infiniband_guid.as_ref().map(|guid| guid.as_str().into())),
            ("bandwidth", self.bandwidth.map(Bandwidth::to_json)),
            (
                "portMappings",
                (!self.port_mappings.is_empty()).then(|| Value::Array(mappings(&self.port_mappings))),
            ),
        ];
        wishes.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }

    /// `MAC` and `IP` of CNI_ARGS: how plugins that declare no capability learn of addresses.
    pub fn legacy_args(&self) -> Vec<(&'static str, String)> {
        let mac = self.mac.as_ref().map(|mac| ("MAC", mac.to_string()));
        let ips: Vec<_> = self.ips.iter().map(RequestedIp::as_str).collect();
        let ips = (!ips.is_empty()).then(|| ("IP", ips.join(",")));
        mac.into_iter().chain(ips).collect()
    }
}

/// In bytes. As values in memory a text may take a hundred times its length. The API server takes twice as much, for all
/// annotations of an object; a common element has a hundred bytes.
const LONGEST: usize = 128 << 10;

/// Where one network is to be named, more are counted and not read.
const MANY: usize = 8;

/// Where in an annotation: which one, which element, and its network once that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    list: &'static str,
    index: usize,
    network: Option<String>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.list, self.index)?;
        match &self.network {
            Some(network) => write!(f, " (\"{network}\")"),
            None => Ok(()),
        }
    }
}

/// Why an annotation cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum SelectionError {
    /// It looks like JSON, but is none.
    #[error("{list} is not JSON")]
    NotJson {
        /// The annotation.
        list: &'static str,
        /// Where it stops being JSON.
        source: JsonSlip,
    },
    /// It is JSON, but not an array.
    #[error("{list} is {found}, not an array of objects")]
    NotAnArray {
        /// The annotation.
        list: &'static str,
        /// What it is.
        found: &'static str,
    },
    /// More networks than the administrator allows.
    #[error(
        "{list} asks for {asked} networks, and one pod may have {most} (setting \"maxAttachments\"); ask for fewer, or let \
         the administrator of Braid raise that setting"
    )]
    TooMany {
        /// The annotation.
        list: &'static str,
        /// How many.
        asked: usize,
        /// How many may be.
        most: usize,
    },
    /// More than is read.
    #[error("{list} is {length} bytes long, and none of more than {LONGEST} is read; ask for less")]
    TooLong {
        /// The annotation.
        list: &'static str,
        /// In bytes.
        length: usize,
    },
    /// One element is wrong.
    #[error("{place}: {problem}")]
    Element {
        /// Which.
        place: Place,
        /// What is wrong with it.
        problem: Problem,
    },
    /// There can only be one default network.
    #[error("default-network names {0} networks, not exactly one")]
    NotOne(usize),
}

impl SelectionError {
    /// The CNI code of the failure: what the pod asks for is not valid.
    pub fn code(&self) -> Code {
        Code::INVALID_CONFIG
    }
}

/// What is wrong with one element.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Nothing between two commas, or after the last one.
    #[error("the element is empty; is there a comma too many?")]
    Empty,
    /// Not of the short form.
    #[error("{0:?} is not of the form [namespace/]name[@interface]")]
    NotShortForm(String),
    /// An element of a JSON array that is not an object.
    #[error("the element is {0}, not an object")]
    NotAnObject(&'static str),
    /// The short form of a name in the JSON form, which has a key for each part.
    #[error(
        "\"name\" is \"{0}\"; the namespace has a key of its own: write \"namespace\": \"{namespace}\", \"name\": \"{name}\"",
        namespace = .0.namespace,
        name = .0.name
    )]
    NamespaceInName(NetworkRef),
    /// A key that has to be there.
    #[error("{0:?} is missing")]
    Missing(String),
    /// A key that is there twice.
    #[error("{0:?} is given twice")]
    Repeated(String),
    /// A value of the wrong kind.
    #[error("{key:?} is {found}, not {expected}")]
    WrongKind {
        /// The key, as a path in the element.
        key: String,
        /// What its value has to be.
        expected: &'static str,
        /// What it is.
        found: &'static str,
    },
    /// A value of the right kind that makes no sense.
    #[error("{key:?}: {reason}")]
    Value {
        /// The key, as a path in the element.
        key: String,
        /// What was found and what is expected.
        reason: String,
    },
    /// More of something than one attachment can need.
    #[error("{key:?} holds {asked} {what}, and {most} are the most; ask for less")]
    TooMuch {
        /// The key.
        key: &'static str,
        /// How much there is.
        asked: usize,
        /// Of what.
        what: &'static str,
        /// How much there may be.
        most: usize,
    },
    /// `ips` and `ipam-claim-reference` together.
    #[error("\"ips\" and \"ipam-claim-reference\" exclude each other")]
    AddressesTwice,
}

impl Problem {
    fn value(key: impl Into<String>, reason: impl fmt::Display) -> Self {
        Self::Value { key: key.into(), reason: reason.to_string() }
    }
}

/// Reads the annotation [`NETWORKS`](super::NETWORKS), which may name `most` networks. One without namespace is of
/// `pod_namespace`; a blank annotation asks for nothing.
pub fn parse_selections(
    annotation: &str,
    pod_namespace: &Namespace,
    most: NonZeroUsize,
) -> Result<Vec<Selection>, SelectionError> {
    let list = "networks";
    let asked = count(annotation);
    if asked > most.get() {
        return Err(SelectionError::TooMany { list, asked, most: most.get() });
    }
    let selections = parse(list, annotation, pod_namespace)?;
    check_interfaces(list, &selections)?;
    Ok(selections)
}

/// Reads the annotation [`DEFAULT_NETWORK`](super::DEFAULT_NETWORK), which names exactly one network. Without
/// namespace it is of `default_namespace`.
pub fn parse_default_network(
    annotation: &str,
    default_namespace: &Namespace,
) -> Result<Selection, SelectionError> {
    let asked = count(annotation);
    if asked > MANY {
        return Err(SelectionError::NotOne(asked));
    }
    let mut selections = parse("default-network", annotation, default_namespace)?;
    match (selections.pop(), selections.len()) {
        (Some(only), 0) => Ok(only),
        (Some(_), others) => Err(SelectionError::NotOne(others + 1)),
        (None, _) => Err(SelectionError::NotOne(0)),
    }
}

fn is_json(text: &str) -> bool {
    text.contains(['[', '{', '"'])
}

/// How many elements an annotation has. Holds none of them: there may be a hundred thousand.
fn count(text: &str) -> usize {
    if is_json(text) { json::count(text) } else { text.split(',').count() }
}

fn parse(list: &'static str, text: &str, namespace: &Namespace) -> Result<Vec<Selection>, SelectionError> {
    if text.len() > LONGEST {
        return Err(SelectionError::TooLong { list, length: text.len() });
    }
    if is_json(text) {
        return json::parse(list, text, namespace);
    }
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let item = |(index, item): (usize, &str)| {
        let mut place = Place { list, index, network: None };
        parse_item(item.trim(), namespace, &mut place)
            .map_err(|problem| SelectionError::Element { place, problem })
    };
    text.split(',').enumerate().map(item).collect()
}

/// One item of the short form.
fn parse_item(item: &str, namespace: &Namespace, place: &mut Place) -> Result<Selection, Problem> {
    if item.is_empty() {
        return Err(Problem::Empty);
    }
    let (before, rest) = split(item, '/');
    let (name, interface) = match rest {
        Some(rest) => split(rest, '@'),
        None => split(before, '@'),
    };
    if name.contains('/') || interface.is_some_and(|text| text.contains(['/', '@'])) {
        return Err(Problem::NotShortForm(excerpt(item).to_owned()));
    }
    let network = network(rest.map(|_| before), name, namespace)?;
    place.network = Some(network.to_string());
    let interface = interface.map(parse_interface).transpose()?;
    Ok(Selection { interface, ..Selection::of(network) })
}

/// The parts around the first `separator`, trimmed.
fn split(text: &str, separator: char) -> (&str, Option<&str>) {
    match text.split_once(separator) {
        Some((before, after)) => (before.trim(), Some(after.trim())),
        None => (text, None),
    }
}

fn network(namespace: Option<&str>, name: &str, default: &Namespace) -> Result<NetworkRef, Problem> {
    let wrong = |key: &'static str| move |error: NameError| Problem::value(key, error);
    let namespace = match namespace {
        Some(text) => Namespace::parse(text).map_err(wrong("namespace"))?,
        None => default.clone(),
    };
    Ok(NetworkRef::new(namespace, ObjectName::parse(name).map_err(wrong("name"))?))
}

/// What is too long stays too long when it is cut for the error text.
fn parse_interface(text: &str) -> Result<IfName, Problem> {
    IfName::parse(excerpt(text)).map_err(|error| Problem::value("interface", error))
}

/// No two elements may ask for one interface name.
fn check_interfaces(list: &'static str, selections: &[Selection]) -> Result<(), SelectionError> {
    let mut taken = BTreeMap::new();
    for (index, selection) in selections.iter().enumerate() {
        let Some(interface) = &selection.interface else { continue };
        let place = Place { list, index, network: Some(selection.network.to_string()) };
        if let Some(first) = taken.insert(interface, place.clone()) {
            let reason = format!("{:?} is already that of {first}", interface.as_str());
            return Err(SelectionError::Element { place, problem: Problem::value("interface", reason) });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
