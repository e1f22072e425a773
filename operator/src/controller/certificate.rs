//! The webhook's certificate: made, rotated, and told to the API server.
