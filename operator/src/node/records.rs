//! Follows the records that meta-cni writes.
