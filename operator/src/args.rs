//! The command line. Every flag of the node role is an environment variable too.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::FalseyValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use store::NodeDirectory;
use tracing_subscriber::filter::LevelFilter;

/// Braid: several networks for one pod.
///
/// Braid attaches a pod to its primary network and to each network that its annotation
/// k8s.v1.cni.cncf.io/networks names. This program keeps a node's list of networks; the CNI plugin meta-cni
/// reads it.
#[derive(Debug, Parser)]
#[command(name = "braid", version, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Keep this node's networks as the API server, or a directory of manifests, says.
    ///
    /// Writes every NetworkAttachmentDefinition for meta-cni, removes what is no longer there, and follows
    /// every change until SIGTERM or SIGINT. Files stay in place at the end. What is wrong is reported with
    /// its origin, name and reason, and does not hinder the rest; while something cannot be read at all, no
    /// network is removed.
    ///
    /// With an API server, it also puts the plugin on the host, tells the API server what pods got, and
    /// reports about the node. With --manifests, no API server is needed.
    #[command(after_help = EXITS_OF_NODE)]
    Node(NodeArgs),
    /// Judge the cluster's networks and sum up the nodes' reports (one leader among replicas), and answer the
    /// API server's admission requests (every replica).
    Controller(ControllerArgs),
    /// Delete the DaemonSet of the node role and wait until its pods are gone.
    ///
    /// The chart runs it before it is uninstalled: while it waits, the node roles still have the rights with which
    /// they find out that Braid is taken away for good, and they take its configuration off their nodes.
    Uninstall(UninstallArgs),
    /// Check files without changing anything.
    ///
    /// YAML (.yaml, .yml) and JSON (.json): NetworkAttachmentDefinitions, and the network annotations of pods
    /// and of workloads' pod templates. CNI configurations (.conf, .conflist, .json), with the settings of
    /// meta-cni. The verdicts are those of `braid node` and meta-cni, from the same code.
    #[command(after_help = EXITS_OF_CHECK)]
    Check(CheckArgs),
}

const EXITS_OF_NODE: &str = "\
Exit code with --once: 0 all is well, 1 something in the manifests is wrong, 2 the manifests cannot be read \
or the node directory cannot be written.";

const EXITS_OF_CHECK: &str = "\
Prints one line for each finding, `file: name: error: text` or `file: name: warning: text`, and a summary.

Exit code: 0 no errors, 1 errors, 2 a file cannot be read or is of no known kind.";

/// Of `braid node`.
#[derive(Debug, Args)]
pub struct NodeArgs {
    /// The directory of manifests: its *.yaml, *.yml and *.json, not hidden ones, not subdirectories.
    /// Without it, the API server is asked.
    #[arg(long, env = "BRAID_MANIFESTS", value_name = "DIR")]
    pub manifests: Option<PathBuf>,
    /// Read the manifests once, print a summary, and end.
    #[arg(long, env = "BRAID_ONCE", value_parser = FalseyValueParser::new(), requires = "manifests")]
    pub once: bool,
    /// How to reach the API server. Without it: the pod's service account, then KUBECONFIG and ~/.kube/config.
    #[arg(long, env = "BRAID_KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// This node's name for the API server. Without it: the host's name.
    #[arg(long, env = "BRAID_NODE_NAME", value_name = "NAME")]
    pub node_name: Option<String>,
    /// Where /livez, /readyz, /metrics, /state and /loglevel are served.
    #[arg(long, env = "BRAID_ADMIN_ADDRESS", value_name = "ADDRESS", default_value = "127.0.0.1:9770")]
    pub admin_address: SocketAddr,
    /// Where the container runtime looks for CNI configurations: the primary's is found there, ours is put there.
    #[arg(long, env = "BRAID_CNI_CONF_DIR", value_name = "DIR", default_value = "/etc/cni/net.d")]
    pub cni_conf_dir: PathBuf,
    /// Where the container runtime looks for CNI plugins: ours is put there.
    #[arg(long, env = "BRAID_CNI_BIN_DIR", value_name = "DIR", default_value = "/opt/cni/bin")]
    pub cni_bin_dir: PathBuf,
    /// The plugin's executable to put on the host. Without it: meta-cni beside this program.
    #[arg(long, env = "BRAID_PLUGIN", value_name = "FILE")]
    pub plugin: Option<PathBuf>,
    /// A file with a JSON object of settings for the plugin's configuration (docs/configuration.md).
    #[arg(long, env = "BRAID_SETTINGS", value_name = "FILE")]
    pub settings: Option<PathBuf>,
    /// A file with the JSON object of rules for what networks may use (docs/security.md). Without it: everything.
    #[arg(long, env = "BRAID_PERMISSIONS", value_name = "FILE")]
    pub permissions: Option<PathBuf>,
    /// What is put on the host.
    #[arg(long, env = "BRAID_INSTALL", value_name = "WHAT", default_value = "all")]
    pub install: Install,
    /// Which events pods get.
    #[arg(long, env = "BRAID_POD_EVENTS", value_name = "WHICH", default_value = "all")]
    pub pod_events: PodEvents,
    /// The node's report is written at most so often, in seconds.
    #[arg(long, env = "BRAID_REPORT_INTERVAL", value_name = "SECONDS", default_value_t = 30)]
    pub report_interval: u64,
    /// Our own DaemonSet, as namespace/name: only when it is being deleted is the plugin's configuration taken
    /// off the host at the end. Without it: never.
    #[arg(long, env = "BRAID_DAEMONSET", value_name = "NAMESPACE/NAME")]
    pub daemonset: Option<String>,
    /// The node directory's part that each boot begins without.
    #[arg(long, env = "BRAID_RUN_DIR", value_name = "DIR", default_value = NodeDirectory::RUN)]
    pub run_dir: PathBuf,
    /// The node directory's part that outlives a boot.
    #[arg(long, env = "BRAID_STATE_DIR", value_name = "DIR", default_value = NodeDirectory::STATE)]
    pub state_dir: PathBuf,
    /// What the log tells, as JSON lines on stderr: off, error, warn, info, debug or trace.
    #[arg(long, env = "BRAID_LOG_LEVEL", value_name = "LEVEL", default_value = "info")]
    pub log_level: LevelFilter,
}

impl NodeArgs {
    /// The node directory.
    pub fn directory(&self) -> NodeDirectory {
        NodeDirectory::new(&self.run_dir, &self.state_dir)
    }
}

/// What the node role puts on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Install {
    /// The plugin's executable and its configuration.
    All,
    /// Only the configuration: the executable comes with the host.
    Configuration,
    /// Nothing: somebody else does.
    None,
}

/// Which events pods get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PodEvents {
    /// What was added and removed, and what failed.
    All,
    /// Only what failed.
    Problems,
    /// None.
    None,
}

/// Of `braid controller`.
#[derive(Debug, Args)]
pub struct ControllerArgs {
    /// How to reach the API server. Without it: the pod's service account, then KUBECONFIG and ~/.kube/config.
    #[arg(long, env = "BRAID_KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The namespace of Braid's own objects: the Lease, and the Service and Secret of the webhook.
    #[arg(long, env = "BRAID_NAMESPACE", value_name = "NAME", default_value = "braid-system")]
    pub namespace: String,
    /// The name of this replica among those that may lead. Without it: the host's name.
    #[arg(long, env = "BRAID_IDENTITY", value_name = "NAME")]
    pub identity: Option<String>,
    /// The name of the Lease.
    #[arg(long, env = "BRAID_LEASE", value_name = "NAME", default_value = "braid-controller")]
    pub lease: String,
    /// Where /livez, /readyz, /metrics, /state and /loglevel are served.
    #[arg(long, env = "BRAID_ADMIN_ADDRESS", value_name = "ADDRESS", default_value = "[::]:9770")]
    pub admin_address: SocketAddr,
    /// Where admission requests are answered; port 0 answers none.
    #[arg(long, env = "BRAID_WEBHOOK_ADDRESS", value_name = "ADDRESS", default_value = "[::]:9443")]
    pub webhook_address: SocketAddr,
    /// The Service that leads the API server to the webhook; the certificate is made for it.
    #[arg(long, env = "BRAID_WEBHOOK_SERVICE", value_name = "NAME", default_value = "braid-webhook")]
    pub webhook_service: String,
    /// The ValidatingWebhookConfiguration whose CA bundle is kept right.
    #[arg(long, env = "BRAID_WEBHOOK_CONFIGURATION", value_name = "NAME", default_value = "braid")]
    pub webhook_configuration: String,
    /// The Secret that holds the webhook's certificate and key.
    #[arg(long, env = "BRAID_WEBHOOK_SECRET", value_name = "NAME", default_value = "braid-webhook-tls")]
    pub webhook_secret: String,
    /// A file with the JSON object of settings that the nodes' plugin has: pods are judged by it.
    #[arg(long, env = "BRAID_SETTINGS", value_name = "FILE")]
    pub settings: Option<PathBuf>,
    /// A file with the JSON object of rules for what networks may use, as the nodes have it. Without it: everything.
    #[arg(long, env = "BRAID_PERMISSIONS", value_name = "FILE")]
    pub permissions: Option<PathBuf>,
    /// The key of the taint that is taken off a Node once its report says that it is ready; empty: of none.
    /// Needs the right to patch nodes.
    #[arg(
        long,
        env = "BRAID_STARTUP_TAINT",
        value_name = "KEY",
        default_value = "",
        hide_default_value = true,
        value_parser = taint_key
    )]
    pub startup_taint: String,
    /// What the log tells, as JSON lines on stderr: off, error, warn, info, debug or trace.
    #[arg(long, env = "BRAID_LOG_LEVEL", value_name = "LEVEL", default_value = "info")]
    pub log_level: LevelFilter,
}

/// Of `braid uninstall`.
#[derive(Debug, Args)]
pub struct UninstallArgs {
    /// How to reach the API server. Without it: the pod's service account, then KUBECONFIG and ~/.kube/config.
    #[arg(long, env = "BRAID_KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The DaemonSet.
    #[arg(long, env = "BRAID_DAEMONSET", value_name = "NAMESPACE/NAME")]
    pub daemonset: String,
    /// How long its pods may take, in seconds.
    #[arg(long, env = "BRAID_TIMEOUT", value_name = "SECONDS", default_value_t = 120)]
    pub timeout: u64,
}

/// A taint as kubectl writes it (`key=value:effect`) would be no taint's key, and be waited for in vain.
fn taint_key(text: &str) -> Result<String, String> {
    if text.contains(|c: char| !c.is_ascii_alphanumeric() && !"-_./".contains(c)) {
        return Err(
            "a taint's key has letters, digits, '-', '_', '.' and '/': without value and effect".to_owned()
        );
    }
    Ok(text.to_owned())
}

/// Of `braid check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// A file with the JSON object of rules for what networks may use, as the nodes have it. Without it: everything.
    #[arg(long, value_name = "FILE")]
    pub permissions: Option<PathBuf>,
    /// A file with the JSON object of settings that the nodes' plugin has: pods are judged by it.
    #[arg(long, value_name = "FILE")]
    pub settings: Option<PathBuf>,
    /// Files to check.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn defaults_are_the_places_that_the_plugin_reads() {
        let cli = Cli::try_parse_from(["braid", "node", "--manifests", "m"]).unwrap();
        let Command::Node(node) = cli.command else { panic!("{cli:?}") };
        assert_eq!(node.directory(), NodeDirectory::default());
        assert!(!node.once);
        assert_eq!(node.log_level, LevelFilter::INFO);
    }

    #[test]
    fn every_flag_of_the_roles_is_an_environment_variable() {
        let command = Cli::command();
        for role in ["node", "controller"] {
            let role = command.find_subcommand(role).unwrap();
            for arg in
                role.get_arguments().filter(|arg| !["help", "version"].contains(&arg.get_id().as_str()))
            {
                let expected = format!("BRAID_{}", arg.get_id().as_str().to_uppercase());
                assert_eq!(arg.get_env().and_then(|env| env.to_str()), Some(expected.as_str()));
            }
        }
    }

    #[test]
    fn every_role_starts_without_flags() {
        for role in ["node", "controller"] {
            Cli::try_parse_from(["braid", role]).unwrap();
        }
    }

    #[test]
    fn wrong_command_lines_are_refused() {
        for line in [
            &["braid"][..],
            &["braid", "node", "--manifests", "m", "--log-level", "loud"],
            &["braid", "node", "--once"],
            &["braid", "controller", "--startup-taint", "braid.dev/not-ready:NoSchedule"],
            &["braid", "check"],
            &["braid", "other"],
        ] {
            assert!(Cli::try_parse_from(line).is_err(), "{line:?}");
        }
    }
}
