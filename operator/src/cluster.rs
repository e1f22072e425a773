//! The API server: how it is found, and what its errors mean.
//!
//! In a pod the address comes from the environment (`KUBERNETES_SERVICE_HOST`) and the credential from the
//! mounted service account, which is read again before it expires; elsewhere from a kubeconfig.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::config::{InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};

/// Who Braid is to server-side apply.
pub const FIELD_MANAGER: &str = "braid";

/// An answer of the API server is waited for so long. Watches are longer: they say their own time.
const READ_TIMEOUT: Duration = Duration::from_secs(295);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The kubeconfig does not serve.
    #[error("use the kubeconfig {path}", path = path.display())]
    Kubeconfig {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: Box<KubeconfigError>,
    },
    /// A pod's environment, but not the rest of what a pod has.
    #[error(
        "use this pod's service account (KUBERNETES_SERVICE_HOST is set); let the pod mount its token, or name a \
         kubeconfig with --kubeconfig"
    )]
    Pod(#[source] Box<InClusterError>),
    /// Neither a pod's environment nor a kubeconfig.
    #[error(
        "find the API server: this is no pod (KUBERNETES_SERVICE_HOST is not set), and there is no kubeconfig that \
         can be used (--kubeconfig, KUBECONFIG, ~/.kube/config)"
    )]
    Nowhere(#[source] Box<KubeconfigError>),
    /// The configuration makes no client.
    #[error("connect to the API server")]
    Client(#[source] Box<kube::Error>),
}

/// A client of the API server; nothing is asked of it yet.
pub async fn client(kubeconfig: Option<&Path>) -> Result<Client, ClusterError> {
    let mut config = match kubeconfig {
        Some(path) => from_file(path)
            .await
            .map_err(|source| ClusterError::Kubeconfig { path: path.to_owned(), source: Box::new(source) })?,
        // A pod's own account comes first: a kubeconfig that happens to be in an image is not meant.
        None if std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() => {
            Config::incluster_env().map_err(|error| ClusterError::Pod(Box::new(error)))?
        }
        None => Config::from_kubeconfig(&KubeConfigOptions::default())
            .await
            .map_err(|error| ClusterError::Nowhere(Box::new(error)))?,
    };
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.read_timeout = Some(READ_TIMEOUT);
    Client::try_from(config).map_err(|error| ClusterError::Client(Box::new(error)))
}

async fn from_file(path: &Path) -> Result<Config, KubeconfigError> {
    let kubeconfig = Kubeconfig::read_from(path)?;
    Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await
}

/// What an answer of the API server means for what was attempted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// The object is not there, or its kind is not: 404, 410.
    Gone,
    /// The object is another one now, or has been changed meanwhile: 409.
    Conflict,
    /// It will never be taken as it is: 400, 413, 422.
    Refused,
    /// We may not: 401, 403.
    Forbidden,
    /// It may go better later: everything else.
    Later,
}

/// Reads an error.
pub fn meaning(error: &kube::Error) -> Meaning {
    match error {
        kube::Error::Api(status) => match status.code {
            404 | 410 => Meaning::Gone,
            409 => Meaning::Conflict,
            400 | 413 | 422 => Meaning::Refused,
            401 | 403 => Meaning::Forbidden,
            _ => Meaning::Later,
        },
        _ => Meaning::Later,
    }
}
