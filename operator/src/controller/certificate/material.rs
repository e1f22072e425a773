//! Certificates and keys, as the Secret holds them.

use std::fmt;
use std::time::SystemTime;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::core::ObjectMeta;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;

use super::decision::Validity;

pub(super) const LEAF: &str = "tls.crt";
const LEAF_KEY: &str = "tls.key";
pub(super) const CAS: &str = "ca.crt";
const CA_KEY: &str = "ca.key";
/// The annotation of Secrets that we have made.
pub(super) const MADE_BY: &str = "braid.dev/made-by";
/// What the names of our CAs begin with. By it those Secrets are known that have no annotation.
pub(super) const CA_NAME: &str = "braid webhook CA ";

/// Everything in PEM. Never printed: half of it is keys.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Material {
    leaf: Vec<u8>,
    leaf_key: Vec<u8>,
    /// The CAs, newest first.
    cas: Vec<CertificateDer<'static>>,
    /// The newest CA's.
    ca_key: Option<Vec<u8>>,
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Material").field("cas", &self.cas.len()).finish_non_exhaustive()
    }
}

impl Material {
    pub(super) fn new(
        leaf: String,
        leaf_key: String,
        cas: Vec<CertificateDer<'static>>,
        ca_key: String,
    ) -> Self {
        let [leaf, leaf_key, ca_key] = [leaf, leaf_key, ca_key].map(String::into_bytes);
        Self { leaf, leaf_key, cas, ca_key: Some(ca_key) }
    }

    /// What a Secret holds; `None` where parts are missing or are not PEM.
    pub(super) fn of(secret: &Secret) -> Option<Self> {
        let data = secret.data.as_ref()?;
        let part = |key: &str| data.get(key).map(|bytes| bytes.0.clone()).filter(|bytes| !bytes.is_empty());
        let cas = CertificateDer::pem_slice_iter(&part(CAS)?).collect::<Result<Vec<_>, _>>().ok()?;
        Some(Self { leaf: part(LEAF)?, leaf_key: part(LEAF_KEY)?, cas, ca_key: part(CA_KEY) })
    }

    pub(super) fn leaf(&self) -> &[u8] {
        &self.leaf
    }

    /// When the certificate ends; `None` where it cannot be read.
    pub(super) fn end(&self) -> Option<SystemTime> {
        let leaf = CertificateDer::from_pem_slice(&self.leaf).ok()?;
        Validity::of(&leaf).map(|validity| validity.end)
    }

    pub(super) fn leaf_key(&self) -> &[u8] {
        &self.leaf_key
    }

    pub(super) fn cas(&self) -> &[CertificateDer<'static>] {
        &self.cas
    }

    pub(super) fn ca_key(&self) -> Option<&str> {
        self.ca_key.as_deref().and_then(|key| std::str::from_utf8(key).ok())
    }

    /// The CAs in PEM, as the API server wants them.
    pub(super) fn ca_bundle(&self) -> Vec<u8> {
        let pems = self.cas.iter().map(|ca| pem("CERTIFICATE", ca));
        pems.collect::<String>().into_bytes()
    }

    pub(super) fn to_secret(&self, name: &str) -> Secret {
        let mut secret = Secret {
            metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
            type_: Some("kubernetes.io/tls".to_owned()),
            ..Secret::default()
        };
        self.put_into(&mut secret);
        secret
    }

    /// What is missing in a Secret, or is not PEM, for it to be material.
    pub(super) fn lacking(secret: &Secret) -> Vec<&'static str> {
        let part = |key: &str| secret.data.as_ref().and_then(|data| data.get(key)).map(|bytes| &*bytes.0);
        let is_pem =
            |bytes: &[u8]| CertificateDer::pem_slice_iter(bytes).collect::<Result<Vec<_>, _>>().is_ok();
        let is_there =
            |key: &str| part(key).is_some_and(|bytes| !bytes.is_empty() && (key != CAS || is_pem(bytes)));
        [LEAF, LEAF_KEY, CAS].into_iter().filter(|key| !is_there(key)).collect()
    }

    /// Replaces the parts of a Secret; what else it holds stays.
    pub(super) fn put_into(&self, secret: &mut Secret) {
        let annotations = secret.metadata.annotations.get_or_insert_default();
        annotations.insert(MADE_BY.to_owned(), "braid-controller".to_owned());
        let data = secret.data.get_or_insert_default();
        let parts = [(LEAF, &self.leaf), (LEAF_KEY, &self.leaf_key), (CAS, &self.ca_bundle())];
        for (key, bytes) in parts.into_iter().chain(self.ca_key.iter().map(|key| (CA_KEY, key))) {
            data.insert(key.to_owned(), ByteString(bytes.clone()));
        }
    }
}

/// PEM with lines of 64 characters.
fn pem(label: &str, der: &[u8]) -> String {
    let encoded = serde_json::to_value(ByteString(der.to_vec()));
    let encoded = encoded.ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default();
    let lines = encoded.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line) + "\n");
    format!("-----BEGIN {label}-----\n{}-----END {label}-----\n", lines.collect::<String>())
}
