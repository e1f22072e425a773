//! The node role as a whole.

use crate::Verdict;
use crate::args::NodeArgs;
use crate::cluster::ClusterError;

/// Runs the role until it is told to stop.
pub fn run(_args: &NodeArgs) -> Result<Verdict, ClusterError> {
    Ok(Verdict::Unable)
}
