//! The table itself. Keys are those of the plugins' own structures of configuration, with the type that Go's decoder
//! wants; [`later`] are those that 1.1.1 does not have, or that a later version no longer has.

use super::{Ipam, Key, Kind, Master, Plugin, Role};

const fn key(name: &'static str, kind: Kind) -> Key {
    Key { name, kind, always: true }
}

const fn later(name: &'static str, kind: Kind) -> Key {
    Key { name, kind, always: false }
}

const INT: Kind = Kind::Whole { least: i64::MIN, most: i64::MAX as u64 };
const UINT32: Kind = Kind::Whole { least: 0, most: u32::MAX as u64 };
const UINT64: Kind = Kind::Whole { least: 0, most: u64::MAX };

/// Keys that every plugin may have, beside the `cni.dev/` ones of the specification. Those of lists are among them,
/// since a configuration of one plugin is a list too; `ipMasq` is the specification's, for plugins that can do it.
pub(super) const COMMON: &[Key] = &[
    key("cniVersion", Kind::Text),
    key("name", Kind::Text),
    key("type", Kind::Text),
    key("capabilities", Kind::Any),
    key("ipam", Kind::Open(&[key("type", Kind::Text)])),
    key("dns", Kind::Object(DNS)),
    key("args", Kind::Any),
    key("runtimeConfig", Kind::Any),
    key("prevResult", Kind::Any),
    key("ipMasq", Kind::Any),
    key("cniVersions", Kind::Any),
    key("disableCheck", Kind::Any),
    key("disableGC", Kind::Any),
    key("loadOnlyInlinedPlugins", Kind::Any),
];

const DNS: &[Key] = &[
    key("nameservers", Kind::Texts),
    key("domain", Kind::Text),
    key("search", Kind::Texts),
    key("options", Kind::Texts),
];

const ROUTES: Kind = Kind::Objects(&[
    key("dst", Kind::Text),
    key("gw", Kind::Text),
    later("mtu", INT),
    later("advmss", INT),
    later("priority", INT),
    later("table", INT),
    later("scope", INT),
]);

const INTERFACE: Plugin = Plugin {
    name: "",
    role: Role::Interface,
    keys: &[],
    ipam: Ipam::Optional,
    reads_mac: false,
    reads_ip: false,
    capabilities: &[],
    master: Master::Ignored,
};

const CHAINED: Plugin = Plugin { role: Role::Chained, ipam: Ipam::Ignored, ..INTERFACE };

const IPAM: Plugin = Plugin { role: Role::Ipam, ipam: Ipam::Ignored, ..INTERFACE };

pub(super) const PLUGINS: &[&Plugin] = &[
    &BRIDGE,
    &DUMMY,
    &HOST_DEVICE,
    &IPVLAN,
    &LOOPBACK,
    &MACVLAN,
    &PTP,
    &TAP,
    &VLAN,
    &BANDWIDTH,
    &FIREWALL,
    &PORTMAP,
    &SBR,
    &TUNING,
    &VRF,
    &DHCP,
    &HOST_LOCAL,
    &STATIC,
    &WHEREABOUTS,
];

const BRIDGE: Plugin = Plugin {
    name: "bridge",
    reads_mac: true,
    capabilities: &["mac"],
    keys: &[
        key("bridge", Kind::NewInterface),
        key("isGateway", Kind::Flag),
        key("isDefaultGateway", Kind::Flag),
        key("forceAddress", Kind::Flag),
        key("ipMasq", Kind::Flag),
        later("ipMasqBackend", Kind::Text),
        key("mtu", INT),
        key("hairpinMode", Kind::Flag),
        key("promiscMode", Kind::Flag),
        key("vlan", INT),
        later("vlanTrunk", Kind::Objects(&[later("minID", INT), later("maxID", INT), later("id", INT)])),
        later("preserveDefaultVlan", Kind::Flag),
        key("macspoofchk", Kind::Flag),
        key("enabledad", Kind::Flag),
        later("disableContainerInterface", Kind::Flag),
        later("portIsolation", Kind::Flag),
        key("args", Kind::Open(&[key("cni", Kind::Open(&[key("mac", Kind::Text)]))])),
    ],
    ..INTERFACE
};

const DUMMY: Plugin = Plugin { name: "dummy", ipam: Ipam::Needed, ..INTERFACE };

const HOST_DEVICE: Plugin = Plugin {
    name: "host-device",
    capabilities: &["deviceID"],
    keys: &[
        key("device", Kind::Interface),
        key("hwaddr", Kind::Device),
        key("DPDKMode", Kind::Flag),
        key("kernelpath", Kind::Device),
        key("pciBusID", Kind::Device),
    ],
    ..INTERFACE
};

const IPVLAN: Plugin = Plugin {
    name: "ipvlan",
    ipam: Ipam::NeededIfFirst,
    master: Master::DefaultRoute,
    keys: &[
        key("master", Kind::Interface),
        key("mode", Kind::Text),
        key("mtu", INT),
        later("linkInContainer", Kind::Flag),
    ],
    ..INTERFACE
};

const LOOPBACK: Plugin = Plugin { name: "loopback", ipam: Ipam::Ignored, ..INTERFACE };

const MACVLAN: Plugin = Plugin {
    name: "macvlan",
    reads_mac: true,
    capabilities: &["mac"],
    master: Master::DefaultRoute,
    keys: &[
        key("master", Kind::Interface),
        key("mode", Kind::Text),
        key("mtu", INT),
        key("mac", Kind::Text),
        later("linkInContainer", Kind::Flag),
        later("bcqueuelen", UINT32),
    ],
    ..INTERFACE
};

const PTP: Plugin = Plugin {
    name: "ptp",
    ipam: Ipam::Needed,
    keys: &[key("ipMasq", Kind::Flag), later("ipMasqBackend", Kind::Text), key("mtu", INT)],
    ..INTERFACE
};

const TAP: Plugin = Plugin {
    name: "tap",
    reads_mac: true,
    capabilities: &["mac"],
    keys: &[
        key("multiQueue", Kind::Flag),
        key("mtu", INT),
        key("mac", Kind::Text),
        key("owner", UINT32),
        key("group", UINT32),
        key("selinuxContext", Kind::Text),
        later("bridge", Kind::Interface),
        key("args", Kind::Open(&[])),
    ],
    ..INTERFACE
};

const VLAN: Plugin = Plugin {
    name: "vlan",
    ipam: Ipam::Needed,
    master: Master::Needed,
    keys: &[
        key("master", Kind::Interface),
        key("vlanId", INT),
        key("mtu", INT),
        later("linkInContainer", Kind::Flag),
    ],
    ..INTERFACE
};

const BANDWIDTH: Plugin = Plugin {
    name: "bandwidth",
    capabilities: &["bandwidth"],
    keys: &[
        key("ingressRate", UINT64),
        key("ingressBurst", UINT64),
        key("egressRate", UINT64),
        key("egressBurst", UINT64),
        // Of 1.5 only.
        later("unshapedSubnets", Kind::Texts),
        later("shapedSubnets", Kind::Texts),
    ],
    ..CHAINED
};

const FIREWALL: Plugin = Plugin {
    name: "firewall",
    keys: &[
        key("backend", Kind::Text),
        key("iptablesAdminChainName", Kind::Text),
        key("firewalldZone", Kind::Text),
        key("ingressPolicy", Kind::Text),
    ],
    ..CHAINED
};

const PORTMAP: Plugin = Plugin {
    name: "portmap",
    capabilities: &["portMappings"],
    keys: &[
        later("backend", Kind::Text),
        key("snat", Kind::Flag),
        key("conditionsV4", Kind::Texts),
        key("conditionsV6", Kind::Texts),
        later("masqAll", Kind::Flag),
        key("markMasqBit", INT),
        key("externalSetMarkChain", Kind::Text),
    ],
    ..CHAINED
};

const SBR: Plugin = Plugin {
    name: "sbr",
    keys: &[later("table", INT), later("gateways", Kind::Texts), later("addSourceHints", Kind::Flag)],
    ..CHAINED
};

const TUNING: Plugin = Plugin {
    name: "tuning",
    reads_mac: true,
    capabilities: &["mac"],
    keys: &[
        key("dataDir", Kind::Path),
        key("sysctl", Kind::TextMap),
        key("mac", Kind::Text),
        key("promisc", Kind::Flag),
        key("mtu", INT),
        later("txQLen", INT),
        key("allmulti", Kind::Flag),
        key("args", Kind::Open(&[key("cni", Kind::Open(TUNING_ARGS))])),
    ],
    ..CHAINED
};

const TUNING_ARGS: &[Key] = &[
    key("sysctl", Kind::TextMap),
    key("mac", Kind::Text),
    key("promisc", Kind::Flag),
    key("mtu", INT),
    later("txQLen", INT),
    key("allmulti", Kind::Flag),
];

const VRF: Plugin =
    Plugin { name: "vrf", keys: &[key("vrfname", Kind::PodInterface), key("table", UINT32)], ..CHAINED };

const DHCP: Plugin = Plugin {
    name: "dhcp",
    keys: &[
        key("daemonSocketPath", Kind::Path),
        key(
            "provide",
            Kind::Objects(&[key("option", Kind::Text), key("value", Kind::Text), key("fromArg", Kind::Text)]),
        ),
        key("request", Kind::Objects(&[key("skipDefault", Kind::Flag), key("option", Kind::Text)])),
        later("priority", INT),
    ],
    ..IPAM
};

const RANGE: &[Key] = &[
    key("subnet", Kind::Text),
    key("rangeStart", Kind::Text),
    key("rangeEnd", Kind::Text),
    key("gateway", Kind::Text),
];

const HOST_LOCAL: Plugin = Plugin {
    name: "host-local",
    reads_ip: true,
    capabilities: &["ips", "ipRanges"],
    keys: &[
        key("name", Kind::Text),
        key("subnet", Kind::Text),
        key("rangeStart", Kind::Text),
        key("rangeEnd", Kind::Text),
        key("gateway", Kind::Text),
        key("ranges", Kind::Sets(RANGE)),
        key("routes", ROUTES),
        key("dataDir", Kind::Path),
        key("resolvConf", Kind::Path),
    ],
    ..IPAM
};

const ADDRESSES: Kind =
    Kind::Objects(&[key("address", Kind::Text), key("gateway", Kind::Text), key("version", Kind::Text)]);

const STATIC: Plugin = Plugin {
    name: "static",
    reads_ip: true,
    capabilities: &["ips"],
    keys: &[
        key("name", Kind::Text),
        key("addresses", ADDRESSES),
        key("routes", ROUTES),
        key("dns", Kind::Object(DNS)),
    ],
    ..IPAM
};

/// Its own versions differ more than those of the reference plugins, so no key of it counts as always there.
const WHEREABOUTS: Plugin = Plugin {
    name: "whereabouts",
    reads_ip: true,
    keys: &[
        later("name", Kind::Text),
        later("routes", ROUTES),
        later("datastore", Kind::Text),
        later("addresses", ADDRESSES),
        later(
            "ipRanges",
            Kind::Objects(&[
                later("exclude", Kind::Texts),
                later("range", Kind::Text),
                later("range_start", Kind::Text),
                later("range_end", Kind::Text),
            ]),
        ),
        later("node_slice_size", Kind::Text),
        later("exclude", Kind::Texts),
        later("dns", Kind::Object(DNS)),
        later("range", Kind::Text),
        later("range_start", Kind::Text),
        later("range_end", Kind::Text),
        later("gateway", Kind::Text),
        later("etcd_host", Kind::Text),
        later("etcd_username", Kind::Text),
        later("etcd_password", Kind::Text),
        later("etcd_key_file", Kind::Path),
        later("etcd_cert_file", Kind::Path),
        later("etcd_ca_cert_file", Kind::Path),
        later("leader_lease_duration", INT),
        later("leader_renew_deadline", INT),
        later("leader_retry_period", INT),
        later("log_file", Kind::Path),
        later("log_level", Kind::Text),
        later("reconciler_cron_expression", Kind::Text),
        later("enable_overlapping_ranges", Kind::Flag),
        later("sleep_for_race", INT),
        later(
            "kubernetes",
            Kind::Object(&[later("kubeconfig", Kind::Path), later("k8s_api_root", Kind::Text)]),
        ),
        later("configuration_path", Kind::Path),
        later("podName", Kind::Text),
        later("podNamespace", Kind::Text),
        later("network_name", Kind::Text),
    ],
    ..IPAM
};
