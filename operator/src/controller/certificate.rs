//! The webhook's certificate: made, shared, renewed, and made known to the API server.
//!
//! Everything is in one Secret of our namespace (`kubernetes.io/tls`: `tls.crt`, `tls.key`; with them `ca.crt`, the
//! CAs to trust, newest first, and `ca.key`, the key of the newest). Whichever replica finds that something is due
//! makes it; the API server decides between two that do (create, and update by resourceVersion), and the other
//! takes what the first has written.
//!
//! **Lives.** A CA lives for a year, a leaf for 90 days; each is renewed when a third of its life is left. A new CA
//! first only joins `ca.crt`: the leaf in use stays, signed by the old one, until its own renewal. So the API server
//! has long known a CA when the first leaf of it is served, and the old one stays in the bundle until it expires,
//! when its leaves are gone.
//!
//! **Clocks.** Nothing is remembered but the Secret: every minute it is looked at with the clock of that minute. A
//! certificate begins an hour before it is made, for clocks that differ; one that begins in the future was made by a
//! clock that was wrong, and is made again.
//!
//! **Somebody else's.** A Secret that we have not made (cert-manager has, for example) is used as long as its certificate
//! serves, and never written into: that it does not serve is reported.
//!
//! | to | see |
//! |---|---|
//! | know whose a Secret is | `ownership` |
//! | know what is due | `decision` |
//! | make it | `making` |
//! | read and write the Secret | `material` |
//! | make the CAs known to the API server | `bundle` |

mod bundle;
mod decision;
mod making;
mod material;
mod ownership;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cni::error::chain_text;
use k8s_openapi::api::core::v1::Secret;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::watch;
use tokio_rustls::rustls::ServerConfig;

use crate::cluster::{FIELD_MANAGER, Meaning, meaning};
use crate::metrics::Metrics;
use decision::Decision;
use making::MakingError;
use material::Material;
use ownership::Owner;

/// So often everything is compared.
const INTERVAL: Duration = Duration::from_secs(60);
/// After the first failure; doubled up to the interval.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// So often one look is repeated because another replica was faster.
const ATTEMPTS: u32 = 4;

/// Where the certificate is kept, and for whom it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The namespace of the Secret and the Service.
    pub namespace: String,
    /// The Secret.
    pub secret: String,
    /// The Service that leads to the webhook.
    pub service: String,
    /// The ValidatingWebhookConfiguration.
    pub configuration: String,
}

impl Config {
    /// The names that the certificate is for, first the one that the API server asks for.
    fn names(&self) -> Vec<String> {
        let name = format!("{}.{}.svc", self.service, self.namespace);
        vec![name.clone(), format!("{name}.cluster.local")]
    }
}

/// Why there is no certificate, or why it is not known.
#[derive(Debug, thiserror::Error)]
enum CertificateError {
    #[error("{verb} the webhook's Secret {name}{hint}", hint = hint(source))]
    Secret { verb: &'static str, name: String, source: kube::Error },
    #[error(
        "use the webhook's Secret {name}, which was not made by Braid: {why}; correct it, or delete it, and Braid makes \
         one of its own"
    )]
    NotOurs { name: String, why: String },
    #[error("make the webhook's certificate")]
    Making(#[from] MakingError),
    #[error("agree with other replicas on the webhook's Secret {0}: it changed under every attempt")]
    Restless(String),
    #[error("{verb} the ValidatingWebhookConfiguration {name}{hint}", hint = hint(source))]
    Configuration { verb: &'static str, name: String, source: kube::Error },
    #[error(
        "tell the CA: there is no ValidatingWebhookConfiguration {0}, so no admission request comes; upgrade \
         the chart with webhook.enabled, apply deploy/manifests/parts/webhook.yaml, or switch the webhook off with port 0"
    )]
    NoConfiguration(String),
}

fn hint(error: &kube::Error) -> &'static str {
    match meaning(error) {
        Meaning::Forbidden => "; upgrade the chart, or apply deploy/manifests/parts/rbac-controller.yaml",
        _ => "",
    }
}

/// Keeps a certificate for ever, and hands it to the webhook by `tls`. API errors are tried again, and told once
/// each. `trouble` is told what only people can mend, and `None` once that is over.
pub async fn run(
    client: Client,
    config: Config,
    tls: watch::Sender<Option<Arc<ServerConfig>>>,
    metrics: Arc<Metrics>,
    mut trouble: impl FnMut(Option<String>),
) -> Infallible {
    let mut keeper = Keeper::new(client, config, tls, metrics);
    let mut told = None;
    let mut wait = FIRST_RETRY;
    loop {
        let looked = keeper.look(SystemTime::now()).await;
        trouble(match &looked {
            Err(error @ CertificateError::NotOurs { .. }) => Some(error.to_string()),
            _ => None,
        });
        match looked {
            Ok(()) => {
                if told.take().is_some() {
                    tracing::info!("the webhook's certificate is in order again");
                }
                wait = FIRST_RETRY;
                tokio::time::sleep(INTERVAL).await;
            }
            Err(error) => {
                let text = chain_text(&error);
                if told.as_ref() != Some(&text) {
                    tracing::warn!(
                        error = text,
                        "the webhook's certificate is not in order; it is tried again"
                    );
                    told = Some(text);
                }
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(INTERVAL);
            }
        }
    }
}

/// One replica's part.
struct Keeper {
    client: Client,
    secrets: Api<Secret>,
    config: Config,
    tls: watch::Sender<Option<Arc<ServerConfig>>>,
    metrics: Arc<Metrics>,
    /// The certificate that is served.
    served: Option<Vec<u8>>,
}

impl Keeper {
    fn new(
        client: Client,
        config: Config,
        tls: watch::Sender<Option<Arc<ServerConfig>>>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let secrets = Api::namespaced(client.clone(), &config.namespace);
        Self { client, secrets, config, tls, metrics, served: None }
    }

    /// Brings everything to what it should be at `now`. A configuration that cannot be written does not keep the
    /// certificate from being served: it may know the CA already.
    async fn look(&mut self, now: SystemTime) -> Result<(), CertificateError> {
        let material = self.agree(now).await?;
        // First the API server, then the listener: a leaf is served by the time its CA is known.
        let known = bundle::make_known(&self.client, &self.config.configuration, &material.ca_bundle()).await;
        if self.served.as_deref() != Some(material.leaf()) {
            let config = making::server_config(&material)?;
            self.served = Some(material.leaf().to_vec());
            let end = material.end().and_then(|end| end.duration_since(SystemTime::UNIX_EPOCH).ok());
            self.metrics.webhook_certificate_expiry.set(end.unwrap_or_default().as_secs_f64());
            self.tls.send_replace(Some(Arc::new(config)));
        }
        known
    }

    /// The material that all replicas share, after what is due has been made.
    async fn agree(&self, now: SystemTime) -> Result<Material, CertificateError> {
        for _ in 0..ATTEMPTS {
            let secret = self.read().await?;
            let old = secret.as_ref().and_then(Material::of);
            let names = self.config.names();
            let owner = Owner::of(secret.as_ref());
            let decision = decision::decide(now, owner, old.as_ref(), &names);
            let new = match (decision, old) {
                (Decision::Keep, Some(material)) => return Ok(material),
                (Decision::LeaveAlone, _) => return Err(self.not_ours(secret.as_ref())),
                (decision, old) => making::make(decision, old.as_ref(), &names, now)?,
            };
            if self.write(secret, &new).await? {
                tracing::info!(?decision, secret = self.config.secret, "the webhook's certificate was made");
                return Ok(new);
            }
        }
        Err(CertificateError::Restless(self.config.secret.clone()))
    }

    async fn read(&self) -> Result<Option<Secret>, CertificateError> {
        self.secrets.get_opt(&self.config.secret).await.map_err(|source| self.failed("read", source))
    }

    /// Whether it was taken; not, if another replica was faster.
    async fn write(&self, old: Option<Secret>, new: &Material) -> Result<bool, CertificateError> {
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        let name = &self.config.secret;
        let (verb, written) = match old {
            None => ("create", self.secrets.create(&params, &new.to_secret(name)).await),
            Some(mut secret) => {
                // With the resourceVersion that was read.
                new.put_into(&mut secret);
                ("update", self.secrets.replace(name, &params, &secret).await)
            }
        };
        match written {
            Ok(_) => Ok(true),
            // Gone: it was deleted between reading and writing.
            Err(error) if matches!(meaning(&error), Meaning::Conflict) => Ok(false),
            Err(error) if verb == "update" && matches!(meaning(&error), Meaning::Gone) => Ok(false),
            Err(source) => Err(self.failed(verb, source)),
        }
    }

    fn not_ours(&self, secret: Option<&Secret>) -> CertificateError {
        let lacking = secret.map(Material::lacking).unwrap_or_default();
        let why = if lacking.is_empty() {
            let name = self.config.names().swap_remove(0);
            format!("its certificate is not valid now for {name}, or its key or CA is another's")
        } else {
            format!("{} is missing or cannot be read", lacking.join(", "))
        };
        CertificateError::NotOurs { name: self.name(), why }
    }

    fn failed(&self, verb: &'static str, source: kube::Error) -> CertificateError {
        CertificateError::Secret { verb, name: self.name(), source }
    }

    fn name(&self) -> String {
        format!("{}/{}", self.config.namespace, self.config.secret)
    }
}

#[cfg(test)]
mod tests;
