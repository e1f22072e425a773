//! The admin server of both roles: `/livez`, `/readyz`, `/metrics`, `/state`, `/loglevel`.
//!
//! | to | see |
//! |---|---|
//! | say whether the process can do its work | [`checks`] |
//! | answer requests | [`routes`] |
//! | keep connections few and short | [`connections`] |
//!
//! Everything may be read by whoever reaches the address; nothing secret is shown. The level of the log may be
//! changed from the loopback interface only, because the controller's address is on the pods' network: through
//! `kubectl port-forward`, or from within the pod.

pub mod checks;
pub mod connections;
pub mod routes;

#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use prometheus_client::registry::Registry;
use rustix::io::Errno;
use tokio::net::TcpListener;
use tracing::info;

pub use checks::Check;

use crate::logs;

/// Why there is no admin server.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The address cannot be had.
    #[error(
        "listen on {address} for /readyz, /metrics and so on (another address: --admin-address, \
         BRAID_ADMIN_ADDRESS)"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// What the server shows of a role.
pub struct Source {
    checks: Box<dyn Fn() -> Vec<Check> + Send + Sync>,
    state: Box<dyn Fn() -> serde_json::Value + Send + Sync>,
    registry: Registry,
    logs: logs::Handle,
}

impl Source {
    /// Of a role: `checks` tells whether it can do its work, `state` what it knows. Both are asked at each
    /// request, and answer at once.
    pub fn new(
        checks: impl Fn() -> Vec<Check> + Send + Sync + 'static,
        state: impl Fn() -> serde_json::Value + Send + Sync + 'static,
        registry: Registry,
        logs: logs::Handle,
    ) -> Self {
        Self { checks: Box::new(checks), state: Box::new(state), registry, logs }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").finish_non_exhaustive()
    }
}

/// Serves `source` on `address` for ever.
pub async fn run(address: SocketAddr, source: Source) -> Result<Infallible, AdminError> {
    let listener = listen(address).await.map_err(|source| AdminError::Listen { address, source })?;
    info!(%address, "serving /livez, /readyz, /metrics, /state and /loglevel");
    Ok(connections::serve(listener, routes::router(source)).await)
}

/// Listens on `address`. Where a kernel has no IPv6, "every address" means every IPv4 address.
pub async fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Err(error) if address.is_ipv6() && address.ip().is_unspecified() && is_without_ipv6(&error) => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await
        }
        result => result,
    }
}

/// `EAFNOSUPPORT` where the kernel knows no IPv6, `EADDRNOTAVAIL` where it is switched off.
fn is_without_ipv6(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL))
}
