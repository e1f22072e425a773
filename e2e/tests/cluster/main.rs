//! Stories that happen on a whole cluster. `make e2e` runs them; `cargo test -p e2e --test cluster -- NAME` runs some,
//! and `--keep` leaves the cluster to look at.

use std::process::ExitCode;

mod attached;
mod bridges;
mod churn;
mod disturbances;
mod documentation;
mod first;
mod lifecycle;
mod multus;
mod multus_suite;
mod newer_kubernetes;
mod nodes_between;
mod primaries;
mod repair;
mod requests;
mod routes;
mod sandboxes;
mod workloads;
mod wrong;

fn main() -> ExitCode {
    let scenarios = [
        first::SCENARIOS,
        documentation::SCENARIOS,
        workloads::SCENARIOS,
        newer_kubernetes::SCENARIOS,
        disturbances::SCENARIOS,
        wrong::SCENARIOS,
        requests::SCENARIOS,
        nodes_between::SCENARIOS,
        routes::SCENARIOS,
        multus_suite::SCENARIOS,
        primaries::SCENARIOS,
        lifecycle::SCENARIOS,
    ]
    .concat();
    e2e::suite::run(&scenarios)
}
