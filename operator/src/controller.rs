//! The controller role: judges networks, aggregates the nodes' reports, answers the API server's questions.
//!
//! | to | see |
//! |---|---|
//! | have one leader among replicas | [`lease`] |
//! | know what is wrong with a network | [`judgement`] |
//! | write the status of networks | [`conditions`] |
//! | keep the nodes' reports in order | [`reports`] |
//! | let pods onto a node once it is ready | [`startup_taint`] |
//! | answer admission requests | [`webhook`], [`certificate`] |
//! | know what the leader knows | [`known`] |
//! | tell whether it can work, and what it knows | [`readiness`], [`shown`] |
//! | run all of it | [`role`] |

pub mod certificate;
pub mod conditions;
pub mod judgement;
pub mod known;
pub mod lease;
pub mod readiness;
pub mod reports;
pub mod role;
pub mod shown;
pub mod startup_taint;
pub mod webhook;

#[cfg(test)]
mod script;
