//! The operator: what people declare on one side, the node directory on the other.
//!
//! | to | see |
//! |---|---|
//! | read the command line | [`args`] |
//! | read manifests from files | [`manifests`] |
//! | make a node's files of them | [`node`] |
//! | know what authors of networks may use | [`permissions`] |
//! | know what pods may ask for | [`pod_rules`] |
//! | judge files without changing anything | [`check`] |
//! | judge networks and aggregate reports for a cluster | [`controller`] |
//! | talk to the API server | [`cluster`], [`watching`], [`events`] |
//! | read its objects without what is not needed of them | [`lean`] |
//! | take the node role off every node | [`uninstall`] |
//! | know what the node role knows | [`known`] |
//! | look into a running process | [`admin`], [`metrics`], [`logs`] |
//! | start tasks and end them | [`tasks`] |
//! | wait before something is tried again | [`retry`] |

pub mod admin;
pub mod args;
pub mod check;
pub mod cluster;
pub mod controller;
pub mod events;
mod excerpt;
pub mod known;
pub mod lean;
pub mod logs;
pub mod manifests;
pub mod metrics;
pub mod node;
pub mod permissions;
pub mod pod_rules;
pub mod retry;
pub mod tasks;
pub mod uninstall;
pub mod verdict;
pub mod watching;

pub use verdict::{Verdict, Wrong};
