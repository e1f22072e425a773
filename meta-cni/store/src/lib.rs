//! The node directory: the whole interface between Braid's operator and its CNI plugin.
//!
//! There is no socket and no request between the two programs: the operator writes networks, pods and node
//! facts, the plugin writes records, and each reads what the other wrote ([`layout`] draws the tree). Files
//! are written atomically ([`atomic`]), carry a schema version, and what touches a container's record
//! holds the container's lock ([`lock`]). How many calls work at once is bounded by turns ([`turn`]).

pub mod atomic;
pub mod boot;
pub mod error;
pub mod layout;
pub mod leaving;
pub mod lock;
pub mod lookup;
pub mod multus_cache;
pub mod names;
pub mod network;
pub mod node;
pub mod pod;
pub mod record;
pub mod settings;
pub mod shape;
pub mod turn;
pub mod watch;

mod document;

pub use error::StoreError;
pub use layout::NodeDirectory;
