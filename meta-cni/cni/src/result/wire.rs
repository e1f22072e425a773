//! The wire forms of a result: 0.1.0 to 0.2.0 (`ip4`, `ip6`), 0.3.0 to 0.4.0 (`ips[].version`), 1.x.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Error, Map, Value};

use super::{AddResult, Dns, Family, IpConfig, ResultError, Route};
use crate::version::SpecVersion;

/// Go writes an empty slice or map as `null`.
pub(super) fn null_is_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    from: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// Go writes an absent address as `null` or as an empty string.
pub(super) fn address_or_none<'de, D: Deserializer<'de>>(from: D) -> Result<Option<IpAddr>, D::Error> {
    match Option::<String>::deserialize(from)? {
        None => Ok(None),
        Some(text) if text.is_empty() => Ok(None),
        Some(text) => text.parse().map(Some).map_err(serde::de::Error::custom),
    }
}

/// The form of 0.1.0 and 0.2.0.
#[derive(Serialize, Deserialize)]
struct V020 {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ip4: Option<Ip020>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ip6: Option<Ip020>,
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Dns::is_empty")]
    dns: Dns,
    #[serde(flatten)]
    extra: Map<String, Value>,
}

#[derive(Serialize, Deserialize)]
struct Ip020 {
    ip: IpNet,
    #[serde(default, deserialize_with = "address_or_none", skip_serializing_if = "Option::is_none")]
    gateway: Option<IpAddr>,
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    routes: Vec<Route>,
    #[serde(flatten)]
    extra: Map<String, Value>,
}

pub(super) fn read(object: Map<String, Value>, version: SpecVersion) -> Result<AddResult, Error> {
    if version <= SpecVersion::V0_2_0 {
        return V020::deserialize(Value::Object(object)).map(AddResult::from);
    }
    let mut result = AddResult::deserialize(Value::Object(object))?;
    if version <= SpecVersion::V0_4_0 {
        for ip in &mut result.ips {
            ip.extra.remove("version");
        }
    }
    Ok(result)
}

pub(super) fn write(result: &AddResult, version: SpecVersion) -> Result<Map<String, Value>, ResultError> {
    let malformed = |source| ResultError::Malformed { version, source };
    let json = if version <= SpecVersion::V0_2_0 {
        let old = V020::try_from(result).map_err(|NoAddress| ResultError::NeedsAddress(version))?;
        serde_json::to_value(old)
    } else if version <= SpecVersion::V0_4_0 {
        serde_json::to_value(without_newer_fields(result.clone()))
    } else {
        serde_json::to_value(result)
    };
    match json.map_err(malformed)? {
        Value::Object(object) => Ok(object),
        _ => Err(ResultError::Shape("it is not a JSON object")),
    }
}

/// 0.3.0 to 0.4.0: addresses carry their family, interfaces have neither MTU nor device fields.
fn without_newer_fields(mut result: AddResult) -> AddResult {
    for interface in &mut result.interfaces {
        interface.mtu = None;
        interface.extra.remove("socketPath");
        interface.extra.remove("pciID");
    }
    for ip in &mut result.ips {
        let family = if ip.address.addr().is_ipv4() { "4" } else { "6" };
        ip.extra.insert("version".to_owned(), family.into());
    }
    result
}

/// Unknown fields of one form without those that mean something in the other: written there, they would be a
/// second field of that name, and the result could not be read again.
fn without(extra: &Map<String, Value>, names: &[&str]) -> Map<String, Value> {
    let mut extra = extra.clone();
    for name in names {
        extra.remove(*name);
    }
    extra
}

impl From<V020> for AddResult {
    fn from(old: V020) -> Self {
        let extra = without(&old.extra, &["interfaces", "ips", "routes"]);
        let mut result = Self { dns: old.dns, extra, ..Self::default() };
        for mut ip in [old.ip4, old.ip6].into_iter().flatten() {
            result.routes.append(&mut ip.routes);
            result.ips.push(IpConfig {
                address: ip.ip,
                gateway: ip.gateway,
                interface: None,
                extra: without(&ip.extra, &["address", "interface"]),
            });
        }
        result
    }
}

struct NoAddress;

impl TryFrom<&AddResult> for V020 {
    type Error = NoAddress;

    /// Keeps the first address of each family and the routes of that family.
    fn try_from(result: &AddResult) -> Result<Self, NoAddress> {
        let first = |family| {
            let ip = result.ips.iter().find(|ip| Family::of_net(ip.address) == family)?;
            let routes = result.routes.iter().filter(|route| Family::of_net(route.dst) == family);
            Some(Ip020 {
                ip: ip.address,
                gateway: ip.gateway,
                routes: routes.cloned().collect(),
                extra: without(&ip.extra, &["ip", "routes"]),
            })
        };
        let (ip4, ip6) = (first(Family::Ipv4), first(Family::Ipv6));
        if ip4.is_none() && ip6.is_none() {
            return Err(NoAddress);
        }
        Ok(Self { ip4, ip6, dns: result.dns.clone(), extra: without(&result.extra, &["ip4", "ip6"]) })
    }
}

#[cfg(test)]
mod tests {
    use ipnet::{Ipv4Net, Ipv6Net};
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::Interface;
    use super::*;

    fn parse(json: Value) -> AddResult {
        AddResult::parse(json, SpecVersion::V1_0_0).unwrap()
    }

    fn full() -> AddResult {
        parse(json!({
            "cniVersion": "1.1.0",
            "interfaces": [
                {"name": "cni0", "mac": "00:11:22:33:44:55"},
                {"name": "eth0", "mac": "00:11:22:33:44:66", "mtu": 1450, "sandbox": "/run/netns/a",
                 "pciID": "0000:01:00.0", "vendor": {"x": [1]}},
            ],
            "ips": [
                {"address": "10.1.2.3/24", "gateway": "10.1.2.1", "interface": 1, "note": "kept"},
                {"address": "fd00::3/64", "gateway": "fd00::1", "interface": 1},
                {"address": "10.1.2.4/24", "interface": 1},
            ],
            "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.2.1", "mtu": 1400}, {"dst": "::/0"}],
            "dns": {"nameservers": ["10.0.0.10"], "search": ["svc"], "more": true},
            "vendor": {"deep": {"er": null}},
        }))
    }

    #[test]
    fn unknown_fields_survive_a_round_trip_in_1x() {
        for version in [SpecVersion::V1_0_0, SpecVersion::V1_1_0] {
            let json = full().to_json(version).unwrap();
            assert_eq!(json["cniVersion"], version.as_str());
            assert_eq!(json["interfaces"][1]["mtu"], 1450);
            assert_eq!(json["vendor"]["deep"]["er"], Value::Null);
            assert_eq!(parse(json), full());
        }
    }

    #[test]
    fn going_down_to_0_3_and_0_4_marks_families_and_drops_what_is_newer() {
        for version in [SpecVersion::V0_3_0, SpecVersion::V0_3_1, SpecVersion::V0_4_0] {
            let json = full().to_json(version).unwrap();
            assert_eq!(json["ips"][0]["version"], "4");
            assert_eq!(json["ips"][1]["version"], "6");
            assert_eq!(json["interfaces"][1].get("mtu"), None);
            assert_eq!(json["interfaces"][1].get("pciID"), None);
            assert_eq!(json["interfaces"][1]["vendor"]["x"][0], 1);
            assert_eq!(json["routes"][0]["mtu"], 1400);
            let back = parse(json);
            assert_eq!(back.ips, full().ips, "the family is not kept as an unknown field");
        }
    }

    #[test]
    fn going_down_to_0_2_keeps_the_first_address_of_each_family_with_its_routes() {
        for version in [SpecVersion::V0_1_0, SpecVersion::V0_2_0] {
            let json = full().to_json(version).unwrap();
            assert_eq!(json["ip4"]["ip"], "10.1.2.3/24");
            assert_eq!(json["ip4"]["gateway"], "10.1.2.1");
            assert_eq!(json["ip4"]["routes"], json!([{"dst": "0.0.0.0/0", "gw": "10.1.2.1", "mtu": 1400}]));
            assert_eq!(json["ip6"]["ip"], "fd00::3/64");
            assert_eq!(json["ip6"]["routes"], json!([{"dst": "::/0"}]));
            assert_eq!(json.get("interfaces"), None);
        }
        let nothing = AddResult::default().to_json(SpecVersion::V0_2_0);
        assert!(matches!(nothing, Err(ResultError::NeedsAddress(SpecVersion::V0_2_0))));
    }

    #[test]
    fn results_of_0_2_become_addresses_without_interfaces() {
        let result = parse(json!({
            "cniVersion": "0.2.0",
            "ip4": {"ip": "10.0.0.2/24", "gateway": "10.0.0.1", "routes": [{"dst": "0.0.0.0/0"}]},
            "dns": {"domain": "x"},
        }));
        assert!(result.interfaces.is_empty());
        assert_eq!(result.ips.len(), 1);
        assert!(result.routes[0].is_default());
        assert_eq!(result.dns.domain, "x");
    }

    #[test]
    fn fields_that_mean_something_in_another_version_only_are_not_carried_there() {
        let ip = json!({"ip": "10.0.0.2/24", "address": "x", "interface": "x", "note": 1});
        let old = json!({"ip4": ip, "interfaces": 1, "ips": [2], "routes": "x", "note": 1});
        let new = json!({
            "ips": [{"address": "10.0.0.2/24", "ip": "x", "routes": 3, "note": 1}], "ip4": 1, "ip6": [2], "note": 1,
        });
        for (json, version) in [(old, SpecVersion::V0_2_0), (new, SpecVersion::V1_0_0)] {
            let result = AddResult::parse(json, version).unwrap();
            assert_eq!((&result.extra["note"], &result.ips[0].extra["note"]), (&json!(1), &json!(1)));
            // As a record keeps it.
            let kept = serde_json::to_string(&result).unwrap();
            assert_eq!(serde_json::from_str::<AddResult>(&kept).unwrap(), result);
            for version in SpecVersion::ALL {
                let written = result.to_json(version).unwrap();
                let read = AddResult::parse(written.clone(), version).unwrap();
                assert_eq!(read.to_json(version).unwrap(), written, "{version}");
            }
        }
    }

    fn any_net() -> impl Strategy<Value = IpNet> {
        prop_oneof![
            (any::<[u8; 4]>(), 0..=32_u8)
                .prop_map(|(address, length)| Ipv4Net::new(address.into(), length).unwrap().into()),
            (any::<[u8; 16]>(), 0..=128_u8).prop_map(|(address, length)| Ipv6Net::new(
                address.into(),
                length
            )
            .unwrap()
            .into()),
        ]
    }

    fn any_gateway() -> impl Strategy<Value = Option<IpAddr>> {
        prop::option::of(any_net().prop_map(|net| net.addr()))
    }

    /// Fields of others. Names that mean something at one level of one form are among them at every level, but
    /// for `own`, those of this level in the newest form.
    fn any_extra(own: &'static [&'static str]) -> impl Strategy<Value = Map<String, Value>> {
        let words = vec![
            "ip",
            "ip4",
            "ip6",
            "ips",
            "interfaces",
            "address",
            "interface",
            "gateway",
            "routes",
            "dst",
            "gw",
            "mtu",
            "pciID",
            "socketPath",
            "vendor",
            "table",
            "version",
        ];
        let key = prop_oneof![prop::sample::select(words).prop_map(str::to_owned), "[a-z]{1,6}"];
        let value = prop_oneof![
            Just(Value::Null),
            any::<u32>().prop_map(Value::from),
            ".{0,6}".prop_map(Value::from),
            Just(json!({"deep": [null]})),
        ];
        prop::collection::vec((key, value), 0..3)
            .prop_map(|fields| fields.into_iter().filter(|(key, _)| !own.contains(&key.as_str())).collect())
    }

    fn any_interface() -> impl Strategy<Value = Interface> {
        let extra = any_extra(&["name", "mac", "mtu", "sandbox"]);
        ("[a-z]{1,8}", "([0-9a-f]{2}:){0,5}", prop::option::of(any::<u32>()), "[/a-z]{0,8}", extra)
            .prop_map(|(name, mac, mtu, sandbox, extra)| Interface { name, mac, mtu, sandbox, extra })
    }

    fn any_result() -> impl Strategy<Value = AddResult> {
        let ip = (
            any_net(),
            any_gateway(),
            prop::option::of(0..9_usize),
            any_extra(&["address", "gateway", "interface"]),
        );
        let ip = ip.prop_map(|(address, gateway, interface, extra)| IpConfig {
            address,
            gateway,
            interface,
            extra,
        });
        let route = (any_net(), any_gateway(), any_extra(&["dst", "gw"]))
            .prop_map(|(dst, gw, extra)| Route { dst, gw, extra });
        let texts = || prop::collection::vec(".{0,6}", 0..3);
        let dns =
            (texts(), ".{0,6}", texts(), texts(), any_extra(&["nameservers", "domain", "search", "options"]));
        let dns = dns.prop_map(|(nameservers, domain, search, options, extra)| Dns {
            nameservers,
            domain,
            search,
            options,
            extra,
        });
        let lists = (
            prop::collection::vec(any_interface(), 0..4),
            prop::collection::vec(ip, 0..4),
            prop::collection::vec(route, 0..4),
        );
        (lists, dns, any_extra(&["interfaces", "ips", "routes", "dns"])).prop_map(
            |((interfaces, ips, routes), dns, extra)| AddResult { interfaces, ips, routes, dns, extra },
        )
    }

    proptest! {
        #[test]
        fn any_result_is_stable_in_every_version_and_whole_in_1x(result in any_result()) {
            for version in SpecVersion::ALL {
                let written = match result.to_json(version) {
                    Ok(written) => written,
                    Err(ResultError::NeedsAddress(_)) => {
                        prop_assert!(version <= SpecVersion::V0_2_0 && result.ips.is_empty());
                        continue;
                    }
                    Err(error) => panic!("{version}: {error}"),
                };
                // The version that stands in it counts, whatever is assumed.
                let read = AddResult::parse(written.clone(), SpecVersion::NEWEST).unwrap();
                if version >= SpecVersion::V1_0_0 {
                    prop_assert_eq!(&read, &result, "{}", version);
                }
                prop_assert_eq!(read.to_json(version).unwrap(), written, "{}", version);
            }
        }

        #[test]
        fn no_json_panics(text in ".{0,60}", result in any_result(), assumed in 0..7_usize) {
            let mut json = result.to_json(SpecVersion::NEWEST).unwrap();
            json["cniVersion"] = Value::Null;
            let _ = AddResult::parse(json, SpecVersion::ALL[assumed]);
            let _ = AddResult::parse(Value::String(text), SpecVersion::ALL[assumed]);
        }
    }

    #[test]
    fn what_go_writes_for_nothing_is_nothing() {
        let result = parse(json!({
            "interfaces": null, "ips": null, "routes": null, "dns": null,
        }));
        assert_eq!(result, AddResult::default());
        let result = parse(json!({"ips": [{"address": "10.0.0.2/24", "gateway": "", "interface": null}]}));
        assert_eq!(result.ips[0].gateway, None);
    }

    #[test]
    fn a_result_without_a_version_is_of_the_configurations() {
        let json = json!({"ip4": {"ip": "10.0.0.2/24"}});
        assert_eq!(AddResult::parse(json, SpecVersion::V0_2_0).unwrap().ips.len(), 1);
    }

    #[test]
    fn malformed_results_are_errors() {
        for bad in [
            json!(null),
            json!([]),
            json!({"cniVersion": 1}),
            json!({"cniVersion": "9.0.0"}),
            json!({"ips": {}}),
            json!({"ips": [{"address": "10.0.0.1"}]}),
            json!({"ips": [{"address": "10.0.0.1/33"}]}),
            json!({"ips": [{"address": "10.0.0.1/24", "interface": -1}]}),
            json!({"ips": [{"address": "10.0.0.1/24", "gateway": "x"}]}),
            json!({"interfaces": [{"mac": "x"}]}),
            json!({"routes": [{"gw": "10.0.0.1"}]}),
            json!({"dns": []}),
        ] {
            assert!(AddResult::parse(bad.clone(), SpecVersion::V1_0_0).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_a_whole_mask_of_the_main_table_is_a_default_route() {
        let route = |json| serde_json::from_value::<Route>(json).unwrap();
        assert!(route(json!({"dst": "0.0.0.0/0"})).is_default());
        assert!(route(json!({"dst": "::0/0", "table": 254})).is_default());
        assert!(!route(json!({"dst": "0.0.0.0/1"})).is_default());
        assert!(!route(json!({"dst": "0.0.0.0/0", "table": 100})).is_default());
    }

    #[test]
    fn default_routes_are_removed_per_family() {
        let mut result = full();
        assert!(result.remove_default_routes(Family::Ipv4));
        assert_eq!(result.routes.len(), 1);
        assert!(!result.remove_default_routes(Family::Ipv4));
        assert!(result.remove_default_routes(Family::Ipv6));
    }
}
