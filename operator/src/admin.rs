//! The admin server of both roles: `/livez`, `/readyz`, `/metrics`, `/state`, `/loglevel`.
