//! The NPWG standard.
