//! x
mod merge;
mod plan;
mod routes;
fn main() {}
