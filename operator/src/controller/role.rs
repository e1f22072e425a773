//! The controller role as a whole.

use crate::Verdict;
use crate::args::ControllerArgs;
use crate::cluster::ClusterError;

/// Runs the role until it is told to stop.
pub fn run(_args: &ControllerArgs) -> Result<Verdict, ClusterError> {
    Ok(Verdict::Unable)
}
