use cni::npwg::{Namespace, selection::parse_selections};
use cni::result::Family;
use serde_json::json;
use store::settings::Settings;

use super::*;

/// A network called `default/<name>` with a configuration.
pub(crate) fn network(name: &str, list: Value) -> Wanted {
    let mut list = list;
    list.as_object_mut().unwrap().entry("name").or_insert_with(|| name.into());
    let network_ref = NetworkRef::parse("default", name).unwrap();
    Wanted {
        network: network_ref.to_string(),
        network_ref: Some(network_ref),
        list: NetworkList::from_json(list, None).unwrap(),
        selection: None,
    }
}

fn bridge() -> Value {
    json!({"cniVersion": "1.0.0", "plugins": [{"type": "bridge", "ipam": {"type": "host-local"}}]})
}

/// The same network with what one element of the annotation asks of it.
fn with(mut network: Wanted, element: Value) -> Wanted {
    let mut element = element;
    element["name"] = network.network_ref.as_ref().unwrap().name.as_str().into();
    let annotation = Value::Array(vec![element]).to_string();
    let mut selections =
        parse_selections(&annotation, &Namespace::parse("default").unwrap(), Settings::MAX_ATTACHMENTS)
            .unwrap();
    network.selection = selections.pop();
    network
}

fn made(wanted: Vec<Wanted>) -> Result<Plan, PlanError> {
    let capabilities = json!({"portMappings": [{"hostPort": 80}], "dns": {}});
    plan(
        wanted,
        &Asked {
            if_name: &IfName::parse("eth0").unwrap(),
            args: &CniArgs::parse("K8S_POD_NAME=p").unwrap(),
            capabilities: capabilities.as_object().unwrap(),
        },
    )
}

fn error(wanted: Vec<Wanted>) -> String {
    made(wanted).unwrap_err().to_string()
}

#[test]
fn interfaces_are_numbered_by_their_place_in_the_whole_list() {
    let data = with(network("b", bridge()), json!({"interface": "data"}));
    let plan = made(vec![network("primary", bridge()), network("a", bridge()), data, network("a", bridge())])
        .unwrap();
    let names: Vec<_> = plan.attachments.iter().map(|a| a.if_name.as_str()).collect();
    assert_eq!(names, ["eth0", "net1", "data", "net3"]);
}

#[test]
fn an_interface_is_given_once() {
    let taken = with(network("b", bridge()), json!({"interface": "net1"}));
    assert_eq!(
        error(vec![network("primary", bridge()), network("a", bridge()), taken]),
        "network default/b: interface net1 is taken by network default/a; ask for another name with \"interface\""
    );
    let taken = with(network("b", bridge()), json!({"interface": "eth0"}));
    assert!(made(vec![network("primary", bridge()), taken]).is_err());
}

#[test]
fn capabilities_of_the_runtime_go_to_the_primary_only() {
    let plan = made(vec![network("primary", bridge()), network("a", bridge())]).unwrap();
    assert!(plan.attachments[0].capabilities.contains_key("portMappings"));
    assert!(plan.attachments[0].capabilities.contains_key("dns"), "those that are not known too");
    assert!(plan.attachments[1].capabilities.is_empty());
    assert_eq!(plan.attachments[1].args.to_string(), "K8S_POD_NAME=p");
}

#[test]
fn addresses_go_to_plugins_as_capability_and_as_arguments() {
    let asks = json!({"ips": ["10.0.0.5/24", "fd00::5/64"], "mac": "02:00:00:00:00:05"});
    let plan = made(vec![network("primary", bridge()), with(network("a", bridge()), asks)]).unwrap();
    let attachment = &plan.attachments[1];
    assert_eq!(attachment.capabilities["ips"], json!(["10.0.0.5/24", "fd00::5/64"]));
    assert_eq!(attachment.capabilities["mac"], "02:00:00:00:00:05");
    assert_eq!(attachment.args.get("IP"), Some("10.0.0.5/24,fd00::5/64"));
    assert_eq!(attachment.args.get("MAC"), Some("02:00:00:00:00:05"));
    assert_eq!(attachment.args.get("IgnoreUnknown"), Some("true"));
}

#[test]
fn several_addresses_are_no_argument_where_the_capability_is_declared() {
    let ip = |capabilities: Value, ips: Value| {
        let list = json!({"plugins": [{"type": "bridge", "ipam": {"type": "host-local"}, "capabilities": capabilities}]});
        let asks = json!({"ips": ips, "mac": "02:00:00:00:00:05"});
        let plan = made(vec![network("primary", bridge()), with(network("a", list), asks)]).unwrap();
        assert_eq!(plan.attachments[1].args.get("MAC"), Some("02:00:00:00:00:05"));
        plan.attachments[1].args.get("IP").map(str::to_owned)
    };
    assert_eq!(ip(json!({"ips": true}), json!(["10.0.0.5", "fd00::5"])), None);
    assert_eq!(ip(json!({"ips": true}), json!(["10.0.0.5"])).as_deref(), Some("10.0.0.5"));
    assert_eq!(ip(json!({}), json!(["10.0.0.5", "fd00::5"])).as_deref(), Some("10.0.0.5,fd00::5"));
}

#[test]
fn arguments_of_the_pod_win_over_those_of_the_network_in_every_plugin() {
    let list =
        json!({"plugins": [{"type": "x", "args": {"cni": {"a": 1, "b": 1}, "other": 2}}, {"type": "y"}]});
    let asks = json!({"cni-args": {"b": 2, "c": [3]}});
    let plan = made(vec![network("primary", bridge()), with(network("a", list), asks)]).unwrap();
    let plugins = &plan.attachments[1].list.plugins;
    assert_eq!(plugins[0].object()["args"], json!({"cni": {"a": 1, "b": 2, "c": [3]}, "other": 2}));
    assert_eq!(plugins[1].object()["args"], json!({"cni": {"b": 2, "c": [3]}}));
}

#[test]
fn arguments_that_cannot_be_merged_are_refused() {
    for args in [json!({"args": 1}), json!({"args": {"cni": []}})] {
        let mut list = json!({"plugins": [{"type": "x"}]});
        list["plugins"][0].as_object_mut().unwrap().extend(args.as_object().unwrap().clone());
        let wanted = with(network("a", list), json!({"cni-args": {"b": 2}}));
        assert!(error(vec![network("primary", bridge()), wanted]).contains("is not an object"), "{args}");
    }
}

#[test]
fn a_request_that_no_plugin_can_honour_is_refused() {
    let no_ipam = json!({"plugins": [{"type": "bridge"}, {"type": "sbr"}]});
    let dhcp = json!({"plugins": [{"type": "macvlan", "ipam": {"type": "dhcp"}}]});
    let ptp = json!({"plugins": [{"type": "ptp", "ipam": {"type": "host-local"}}]});
    let ports = json!({"portMappings": [{"hostPort": 80, "containerPort": 80}]});
    for (list, asks, key) in [
        (no_ipam, json!({"ips": ["10.0.0.5"]}), "\"ips\""),
        (dhcp, json!({"ips": ["10.0.0.5"]}), "\"ips\""),
        (ptp, json!({"mac": "02:00:00:00:00:05"}), "\"mac\""),
        (bridge(), ports, "\"portMappings\""),
        (bridge(), json!({"bandwidth": {"ingressRate": 1000, "ingressBurst": 1000}}), "\"bandwidth\""),
        (bridge(), json!({"infiniband-guid": "c2:11:22:33:44:55:66:77"}), "\"infiniband-guid\""),
    ] {
        let text = error(vec![network("primary", bridge()), with(network("a", list), asks)]);
        assert!(text.contains(key) && text.contains("default/a"), "{text}");
    }
}

#[test]
fn a_request_that_some_plugin_honours_or_may_honour_is_passed_on() {
    let capability =
        json!({"plugins": [{"type": "bridge"}, {"type": "tuning", "capabilities": {"ips": true}}]});
    let foreign = json!({"plugins": [{"type": "ovn-k8s-cni-overlay"}]});
    let whereabouts = json!({"plugins": [{"type": "ipvlan", "ipam": {"type": "whereabouts"}}]});
    for (list, asks) in [
        (capability, json!({"ips": ["10.0.0.5"]})),
        (foreign, json!({"ips": ["10.0.0.5"], "mac": "02:00:00:00:00:05"})),
        (whereabouts, json!({"ips": ["10.0.0.5"]})),
        (json!({"plugins": [{"type": "ptp"}, {"type": "tuning"}]}), json!({"mac": "02:00:00:00:00:05"})),
    ] {
        made(vec![network("primary", bridge()), with(network("a", list), asks)]).unwrap();
    }
}

fn owners(elements: &[Option<Value>]) -> Result<DefaultRoutes, PlanError> {
    let wanted = elements.iter().enumerate().map(|(index, element)| {
        let network = network(&format!("n{index}"), bridge());
        element.clone().map_or(network.clone(), |list| with(network, json!({"default-route": list})))
    });
    made(wanted.collect()).map(|plan| plan.default_routes)
}

#[test]
fn the_default_route_is_owned_per_family() {
    let none = owners(&[None, None]).unwrap();
    assert!(!none.are_asked_for());
    let v4 = owners(&[None, Some(json!(["10.1.1.1"]))]).unwrap();
    assert_eq!(*v4.owner(Family::Ipv4), Owner::Through(1, "10.1.1.1".parse().unwrap()));
    assert_eq!(*v4.owner(Family::Ipv6), Owner::Nobody);
    let both = owners(&[None, Some(json!(["10.1.1.1"])), Some(json!(["fd00::1"]))]).unwrap();
    assert_eq!(*both.owner(Family::Ipv6), Owner::Through(2, "fd00::1".parse().unwrap()));
    let own = owners(&[None, Some(json!([])), Some(json!(["10.1.1.1"])), Some(json!([]))]).unwrap();
    assert_eq!(*own.owner(Family::Ipv4), Owner::Through(2, "10.1.1.1".parse().unwrap()));
    assert_eq!(*own.owner(Family::Ipv6), Owner::FirstWithOne(vec![1, 3]));
}

#[test]
fn two_owners_of_one_family_are_refused() {
    let text = owners(&[None, Some(json!(["10.1.1.1"])), Some(json!(["10.2.1.1"]))]).unwrap_err().to_string();
    assert_eq!(
        text,
        "networks default/n1 and default/n2 both ask for the pod's IPv4 default route; only one can have it"
    );
    assert!(owners(&[None, Some(json!(["10.1.1.1", "10.1.1.2"]))]).is_err());
    assert!(owners(&[None, Some(json!(["10.1.1.1", "fd00::1"]))]).is_ok());
}

#[test]
fn a_plan_needs_a_primary() {
    assert!(matches!(made(Vec::new()), Err(PlanError::NoPrimary)));
}
