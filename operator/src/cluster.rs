//! The API server: how it is found, how it is asked, and what its errors mean.
//!
//! In a pod the address comes from the environment (`KUBERNETES_SERVICE_HOST`), token and CA from the mounted service
//! account. kube reads both files again each minute, so a new one is used without a restart. Elsewhere they come from
//! a kubeconfig, which is read once.
//!
//! | to | see |
//! |---|---|
//! | ask within bounds, and as the API server wishes | `line` |
//! | tell people why a request failed | [`cause_text`] |

mod cause;
mod gate;
mod history;
pub mod line;

use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::Config;
use kube::config::{InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError};

pub use cause::cause_text;
pub use line::{Connection, Patience, is_too_long, within};

/// Who Braid is to server-side apply.
pub const FIELD_MANAGER: &str = "braid";

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

/// A way to the API server; nothing is asked of it yet.
pub async fn connect(kubeconfig: Option<&Path>) -> Result<Connection, ClusterError> {
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
    line::connect(config, Patience::default()).map_err(|error| ClusterError::Client(Box::new(error)))
}

async fn from_file(path: &Path) -> Result<Config, KubeconfigError> {
    let kubeconfig = Kubeconfig::read_from(path)?;
    Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await
}

/// The parts of `namespace/name`, where it is that.
pub fn namespace_and_name(text: &str) -> Option<(&str, &str)> {
    let is_name = |text: &str| !text.is_empty() && !text.contains('/');
    text.split_once('/').filter(|(namespace, name)| is_name(namespace) && is_name(name))
}

/// Whether the API server itself says that there is no such object: something between us and it may answer 404 too.
pub fn is_not_there(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404 && status.reason == "NotFound")
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
    /// It does not know us: 401.
    Stranger,
    /// We may not: 403.
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
            401 => Meaning::Stranger,
            403 => Meaning::Forbidden,
            _ => Meaning::Later,
        },
        _ => Meaning::Later,
    }
}
