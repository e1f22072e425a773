//! Networks of the API server: watched, rendered, and brought to the node directory.
