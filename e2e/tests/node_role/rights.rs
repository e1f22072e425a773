//! What the role may do: exactly what it does.
