//! .

pub mod shaped_primary;
