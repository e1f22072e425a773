//! The node's report: what is known, as an object of the API server.
