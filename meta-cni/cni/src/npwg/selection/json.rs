//! The JSON form: an array of objects.
//!
//! As in Go, `null` counts as absent and keys match in any case. An empty string counts as absent too.

use std::collections::BTreeSet;
use std::fmt;
use std::num::{NonZeroU16, NonZeroU64};

use serde::Serialize;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::values::{self, Bandwidth, InfinibandGuid, Mac, PortMapping, Protocol, RateLimit, RequestedIp};
use super::{Place, Problem, Selection, SelectionError, network, parse_interface};
use crate::config::kind_of;
use crate::json_slip;
use crate::npwg::names::{Namespace, NetworkRef, excerpt};

const ELEMENT_KEYS: &[&str] = &[
    "name",
    "namespace",
    "interface",
    "interfaceRequest",
    "ips",
    "mac",
    "infiniband-guid",
    "bandwidth",
    "portMappings",
    "default-route",
    "cni-args",
    "ipam-claim-reference",
];
const BANDWIDTH_KEYS: &[&str] = &["ingressRate", "ingressBurst", "egressRate", "egressBurst"];
const MAPPING_KEYS: &[&str] = &["hostPort", "containerPort", "protocol", "hostIP"];

/// Addresses of one interface. They are handed on in the environment too, where the kernel bounds a text.
const MOST_IPS: usize = 64;
/// Ports of the node that lead to one interface: each becomes rules on the node.
const MOST_PORTS: usize = 1000;
/// In bytes. Every plugin of the network's list gets all of them.
const LONGEST_ARGS: usize = 16 << 10;

/// How many elements the array has; none if it is no array.
pub(super) fn count(text: &str) -> usize {
    // Elements that are skipped take no memory.
    serde_json::from_str::<Vec<IgnoredAny>>(text).map_or(0, |elements| elements.len())
}

pub(super) fn parse(
    list: &'static str,
    text: &str,
    namespace: &Namespace,
) -> Result<Vec<Selection>, SelectionError> {
    let not_json = |source| SelectionError::NotJson { list, source };
    let elements = match json_slip::from_slice(text.as_bytes()).map_err(not_json)? {
        Value::Array(elements) => elements,
        other => return Err(SelectionError::NotAnArray { list, found: kind_of(&other) }),
    };
    let repeated: Vec<Repeated> = json_slip::from_slice(text.as_bytes()).map_err(not_json)?;
    let element = |(index, (element, repeated)): (usize, (Value, Repeated))| {
        let mut place = Place { list, index, network: None };
        read_element(element, repeated, namespace, &mut place)
            .map_err(|problem| SelectionError::Element { place, problem })
    };
    elements.into_iter().zip(repeated).enumerate().map(element).collect()
}

fn read_element(
    element: Value,
    repeated: Repeated,
    namespace: &Namespace,
    place: &mut Place,
) -> Result<Selection, Problem> {
    let Value::Object(object) = element else {
        return Err(Problem::NotAnObject(kind_of(&element)));
    };
    let mut fields = Fields::new(String::new(), object, ELEMENT_KEYS)?;
    let name = fields.text("name")?.ok_or_else(|| Problem::Missing("name".to_owned()))?;
    if let Some((namespace, name)) = name.split_once('/')
        && let Ok(both) = NetworkRef::parse(namespace, name)
    {
        return Err(Problem::NamespaceInName(both));
    }
    let network = network(fields.text("namespace")?.as_deref(), &name, namespace)?;
    place.network = Some(network.to_string());
    if let Repeated(Some(path)) = repeated {
        return Err(Problem::Repeated(excerpt(path.strip_prefix('.').unwrap_or(&path)).to_owned()));
    }
    let (interface, old_interface) = (fields.text("interface")?, fields.text("interfaceRequest")?);
    let selection = Selection {
        interface: interface.or(old_interface).as_deref().map(parse_interface).transpose()?,
        ips: fields.texts("ips", RequestedIp::parse)?.unwrap_or_default(),
        mac: fields.parsed("mac", Mac::parse)?,
        infiniband_guid: fields.parsed("infiniband-guid", InfinibandGuid::parse)?,
        bandwidth: read_bandwidth(&mut fields)?,
        port_mappings: read_mappings(&mut fields)?,
        default_route: fields.texts("default-route", values::gateway)?,
        cni_args: fields.object("cni-args")?.unwrap_or_default(),
        ipam_claim_reference: fields.text("ipam-claim-reference")?,
        unknown_keys: fields.unknown,
        network,
    };
    is_bounded(&selection)?;
    if selection.ipam_claim_reference.is_some() && !selection.ips.is_empty() {
        return Err(Problem::AddressesTwice);
    }
    Ok(selection)
}

/// Elements are few; what one of them asks for is bounded too.
fn is_bounded(selection: &Selection) -> Result<(), Problem> {
    for (key, asked, what, most) in [
        ("ips", selection.ips.len(), "addresses", MOST_IPS),
        ("portMappings", selection.port_mappings.len(), "ports", MOST_PORTS),
        ("cni-args", length(&selection.cni_args), "bytes", LONGEST_ARGS),
    ] {
        if asked > most {
            return Err(Problem::TooMuch { key, asked, what, most });
        }
    }
    Ok(())
}

/// The length of values as text.
fn length(values: &impl Serialize) -> usize {
    serde_json::to_string(values).map_or(0, |text| text.len())
}

/// A bandwidth whose rates are all 0 limits nothing: it counts as absent.
fn read_bandwidth(element: &mut Fields) -> Result<Option<Bandwidth>, Problem> {
    let Some(object) = element.object("bandwidth")? else { return Ok(None) };
    let mut fields = Fields::new("bandwidth.".to_owned(), object, BANDWIDTH_KEYS)?;
    if !(fields.members.contains_key("ingressRate") || fields.members.contains_key("egressRate")) {
        return Err(Problem::value("bandwidth", "neither \"ingressRate\" nor \"egressRate\" is given"));
    }
    let ingress = read_limit(&mut fields, "ingressRate", "ingressBurst")?;
    let egress = read_limit(&mut fields, "egressRate", "egressBurst")?;
    element.unknown.append(&mut fields.unknown);
    Ok((ingress.is_some() || egress.is_some()).then_some(Bandwidth { ingress, egress }))
}

fn read_limit(
    fields: &mut Fields,
    rate_key: &'static str,
    burst_key: &'static str,
) -> Result<Option<RateLimit>, Problem> {
    const EXPECTED: &str = "a whole number of bits, 0 or more";
    let rate = fields.number(rate_key, EXPECTED)?.and_then(NonZeroU64::new);
    let burst = fields.number(burst_key, EXPECTED)?.and_then(NonZeroU64::new);
    match (rate, burst) {
        (None, Some(burst)) => {
            let reason = format!("{burst} needs a {rate_key:?} above 0");
            Err(Problem::value(fields.path(burst_key), reason))
        }
        (rate, burst) => Ok(rate.map(|rate| RateLimit { rate, burst })),
    }
}

fn read_mappings(element: &mut Fields) -> Result<Vec<PortMapping>, Problem> {
    let mut mappings = Vec::new();
    for (index, value) in element.array("portMappings")?.unwrap_or_default().into_iter().enumerate() {
        let path = format!("portMappings[{index}]");
        let object = as_object(&path, value)?;
        let mut fields = Fields::new(format!("{path}."), object, MAPPING_KEYS)?;
        mappings.push(PortMapping {
            host_port: read_port(&mut fields, "hostPort")?,
            container_port: read_port(&mut fields, "containerPort")?,
            protocol: fields.parsed("protocol", Protocol::parse)?.unwrap_or_default(),
            host_ip: fields.parsed("hostIP", values::address)?,
        });
        element.unknown.append(&mut fields.unknown);
    }
    Ok(mappings)
}

fn read_port(fields: &mut Fields, key: &'static str) -> Result<NonZeroU16, Problem> {
    const EXPECTED: &str = "a port, 1 to 65535";
    let path = fields.path(key);
    let Some(number) = fields.number(key, EXPECTED)? else {
        return Err(Problem::Missing(path));
    };
    let port = u16::try_from(number).ok().and_then(NonZeroU16::new);
    port.ok_or_else(|| Problem::value(path, format!("{number} is not {EXPECTED}")))
}

fn wrong_kind(key: String, expected: &'static str, value: &Value) -> Problem {
    Problem::WrongKind { key, expected, found: kind_of(value) }
}

fn as_object(path: &str, value: Value) -> Result<Map<String, Value>, Problem> {
    match value {
        Value::Object(object) => Ok(object),
        other => Err(wrong_kind(path.to_owned(), "an object", &other)),
    }
}

/// The known members of one object, taken one by one, and the names of the others.
struct Fields {
    /// The path to this object in its element, with the final dot.
    prefix: String,
    members: Map<String, Value>,
    unknown: Vec<String>,
}

impl Fields {
    fn new(prefix: String, object: Map<String, Value>, known: &[&str]) -> Result<Self, Problem> {
        let mut fields = Self { prefix, members: Map::new(), unknown: Vec::new() };
        for (key, value) in object {
            match known.iter().find(|known| known.eq_ignore_ascii_case(&key)) {
                None => fields.unknown.push(fields.path(excerpt(&key))),
                Some(_) if value.is_null() => {}
                Some(&known) => {
                    if fields.members.insert(known.to_owned(), value).is_some() {
                        return Err(Problem::Repeated(fields.path(known)));
                    }
                }
            }
        }
        Ok(fields)
    }

    fn path(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    fn text(&mut self, key: &str) -> Result<Option<String>, Problem> {
        match self.members.remove(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text).filter(|text| !text.is_empty())),
            Some(other) => Err(wrong_kind(self.path(key), "a string", &other)),
        }
    }

    fn parsed<T, E: fmt::Display>(
        &mut self,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Option<T>, Problem> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        parse(&text).map(Some).map_err(|error| Problem::value(self.path(key), error))
    }

    fn array(&mut self, key: &str) -> Result<Option<Vec<Value>>, Problem> {
        match self.members.remove(key) {
            None => Ok(None),
            Some(Value::Array(values)) => Ok(Some(values)),
            Some(other) => Err(wrong_kind(self.path(key), "an array", &other)),
        }
    }

    fn texts<T, E: fmt::Display>(
        &mut self,
        key: &str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Result<Option<Vec<T>>, Problem> {
        let Some(values) = self.array(key)? else { return Ok(None) };
        let read = |(index, value): (usize, Value)| {
            let path = format!("{}[{index}]", self.path(key));
            match value {
                Value::String(text) => parse(&text).map_err(|error| Problem::value(path, error)),
                other => Err(wrong_kind(path, "a string", &other)),
            }
        };
        values.into_iter().enumerate().map(read).collect::<Result<_, _>>().map(Some)
    }

    fn object(&mut self, key: &str) -> Result<Option<Map<String, Value>>, Problem> {
        let path = self.path(key);
        self.members.remove(key).map(|value| as_object(&path, value)).transpose()
    }

    fn number(&mut self, key: &str, expected: &'static str) -> Result<Option<u64>, Problem> {
        match self.members.remove(key) {
            None => Ok(None),
            Some(Value::Number(number)) => match number.as_u64() {
                Some(whole) => Ok(Some(whole)),
                None => Err(Problem::value(self.path(key), format!("{number} is not {expected}"))),
            },
            Some(other) => Err(wrong_kind(self.path(key), expected, &other)),
        }
    }
}

/// The path of the first key that a JSON value has twice: JSON readers take one of the two and say nothing.
struct Repeated(Option<String>);

impl<'de> Deserialize<'de> for Repeated {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(FindRepeated)
    }
}

struct FindRepeated;

impl<'de> Visitor<'de> for FindRepeated {
    type Value = Repeated;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Repeated, E> {
        Ok(Repeated(None))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Repeated, E> {
        Ok(Repeated(None))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Repeated, E> {
        Ok(Repeated(None))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Repeated, E> {
        Ok(Repeated(None))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Repeated, E> {
        Ok(Repeated(None))
    }

    fn visit_str<E>(self, _: &str) -> Result<Repeated, E> {
        Ok(Repeated(None))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Repeated, A::Error> {
        let (mut found, mut index) = (None, 0_usize);
        while let Some(Repeated(inner)) = seq.next_element()? {
            found = found.or_else(|| inner.map(|rest| format!("[{index}]{rest}")));
            index += 1;
        }
        Ok(Repeated(found))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Repeated, A::Error> {
        let (mut found, mut seen) = (None, BTreeSet::new());
        while let Some((key, Repeated(inner))) = map.next_entry::<String, Repeated>()? {
            let path = format!(".{key}");
            found = found.or_else(|| inner.map(|rest| format!("{path}{rest}")));
            if !seen.insert(key) {
                found.get_or_insert(path);
            }
        }
        Ok(Repeated(found))
    }
}
