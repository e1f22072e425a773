//! The command line. Every flag of the node role is an environment variable too.

use std::path::PathBuf;

use clap::builder::FalseyValueParser;
use clap::{Args, Parser, Subcommand};
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
    /// Keep this node's networks as manifests say.
    ///
    /// Reads every NetworkAttachmentDefinition of a directory and writes it for meta-cni, removes what is no
    /// longer there, and follows every change until SIGTERM or SIGINT. Files stay in place at the end.
    ///
    /// What is wrong is reported with its file, name and reason, and does not hinder the rest. While a file
    /// cannot be read at all, no network is removed.
    #[command(after_help = EXITS_OF_NODE)]
    Node(NodeArgs),
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
    #[arg(long, env = "BRAID_MANIFESTS", value_name = "DIR")]
    pub manifests: PathBuf,
    /// Do it once, print a summary, and end.
    #[arg(long, env = "BRAID_ONCE", value_parser = FalseyValueParser::new())]
    pub once: bool,
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

/// Of `braid check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
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
    fn every_flag_of_the_node_role_is_an_environment_variable() {
        let command = Cli::command();
        let node = command.find_subcommand("node").unwrap();
        for arg in node.get_arguments().filter(|arg| !["help", "version"].contains(&arg.get_id().as_str())) {
            let expected = format!("BRAID_{}", arg.get_id().as_str().to_uppercase());
            assert_eq!(arg.get_env().and_then(|env| env.to_str()), Some(expected.as_str()));
        }
    }

    #[test]
    fn wrong_command_lines_are_refused() {
        for line in [
            &["braid"][..],
            &["braid", "node", "--manifests", "m", "--log-level", "loud"],
            &["braid", "check"],
            &["braid", "other"],
        ] {
            assert!(Cli::try_parse_from(line).is_err(), "{line:?}");
        }
    }
}
