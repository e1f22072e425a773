//! The operator: what people declare on one side, the node directory on the other.
//!
//! | to | see |
//! |---|---|
//! | read the command line | [`args`] |
//! | read manifests from files | [`manifests`] |
//! | make a node's files of them | [`node`] |
//! | judge files without changing anything | [`check`] |

pub mod args;
pub mod check;
pub mod logs;
pub mod manifests;
pub mod node;
pub mod verdict;

pub use verdict::{Verdict, Wrong};
