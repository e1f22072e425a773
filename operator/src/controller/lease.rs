//! One leader among several replicas.
