//! Records whose pod is gone for good.
