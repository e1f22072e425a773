//! Events that people read with kubectl describe.
