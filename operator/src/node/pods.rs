//! Pods of this node: watched, and their facts brought to the node directory.
