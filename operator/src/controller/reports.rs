//! The nodes' reports: adopted by their nodes, removed when those are gone.
