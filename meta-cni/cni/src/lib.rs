//! The Container Network Interface as a library: for runtimes, for plugins, and for plugins that call
//! plugins.
//!
//! | to | see |
//! |---|---|
//! | name things safely | [`ids`] |
//! | speak versions 0.1.0 to 1.1.0 | [`version`], [`result`] |
//! | read network configurations | [`config`] |
//! | be a plugin | [`skel`] |
//! | run one plugin | [`exec`] |
//! | run a list of plugins | [`chain`] |
//! | read what libcni wrote down of an attachment | [`cache`] |
//! | read a pod's network selections, write its network-status (NPWG standard) | [`npwg`] |
//! | know what the reference plugins take, need and leave | [`mod@reference`] |
//! | read keys of JSON as Go does | [`keys`] |
//! | guess which known word is meant | [`spelling`] |
//! | say where a text stops being JSON | [`json_slip`] |
//! | let a test end the process at a named point | [`point`] |
//!
//! The library knows nothing of Kubernetes clients, threads of its own or global state: environment,
//! streams and executables are passed in.

pub mod args;
pub mod cache;
pub mod chain;
pub mod config;
pub mod env;
pub mod error;
pub mod exec;
pub mod ids;
pub mod json_slip;
pub mod keys;
pub mod netns;
pub mod npwg;
pub mod point;
pub mod reference;
pub mod result;
pub mod skel;
pub mod spelling;
pub mod version;

pub use args::CniArgs;
pub use config::{CapabilityArgs, NetworkList, PluginConfig};
pub use error::{CniError, Code};
pub use ids::{ContainerId, IfName, NetworkName, PluginType};
pub use result::AddResult;
pub use version::SpecVersion;
