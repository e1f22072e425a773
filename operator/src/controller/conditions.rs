//! The status of networks: what the controller judges and the nodes report.
