//! .

pub mod containerd;
pub mod image;
pub mod podman;
pub mod shaped_primary;
