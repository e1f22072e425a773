//! The harness of Braid's end-to-end tests, demo and benchmarks: real executables, real plugins and real
//! container runtimes, in places of a test's own.
//!
//! | to | see |
//! |---|---|
//! | find what was built | [`artefacts`] |
//! | skip a test for a reason that is told | [`requirement`] |
//! | have a namespace that plays a host or a pod | [`netns`], [`host`] |
//! | have a node on which Braid runs, and be its container runtime | [`node`], [`runtime`] |
//! | have a primary that is shaped like a real one | [`shaped_primary`] |
//! | have an API server to talk to | [`control_plane`] |
//! | wait for a condition | [`wait`] |
//! | let chance pick cases, and have the same again | [`chance`] |
//! | have a node of files alone, and an API server that has nothing | [`plain_node`], [`empty_api`] |
//! | show Braid to people | [`demo`] |
//! | have an API server, and the operator beside it | [`control_plane`], [`operator`] |
//! | have what the documentation tells people to do | [`docs`] |
//! | have networks as large as can be, and see what memory a process takes | [`large`], [`memory`] |
//! | compare what RBAC permits with what is done | [`rights`] |
//! | have a whole cluster, and tell stories that happen there | [`cluster`], [`suite`] |
//! | see that what must never happen cannot | [`promises`] |
//! | know the version of a program, and have newer ones | [`version`], `packages` |
//! | say on which parts tests ran | [`parts`] |
//! | let containerd or podman do it | [`containerd`], [`podman`], [`image`] |
//! | have what CRI-O asks of a plugin | [`crio`] |

pub mod artefacts;
pub mod bench;
pub mod chance;
pub mod cluster;
pub mod containerd;
pub mod control_plane;
pub mod crio;
pub mod demo;
pub mod docs;
pub mod empty_api;
mod home;
pub mod host;
pub mod image;
pub mod large;
mod leftovers;
pub mod memory;
pub mod netns;
pub mod node;
pub mod operator;
mod packages;
pub mod parts;
pub mod plain_node;
pub mod podman;
pub mod program;
pub mod promises;
pub mod requirement;
pub mod rights;
pub mod runtime;
pub mod shaped_primary;
pub mod suite;
pub mod version;
pub mod wait;

/// A file or directory of Braid's sources, named from their top.
pub fn source(path: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}
